# RFC 3948 2.3: the side behind the NAT sends keepalives of one octet and the SA stays as it is
LADDR_gwa=198.51.100.2
DAEMON="keep_alive = 1s"
check() {
  ip -n "$LAB-gwa" link set wan down
  ns nat nft 'add table ip k; add chain ip k f { type filter hook forward priority 0; };
    add rule ip k f iifname "priv" udp dport 4500 udp length 9 counter'
  up; reach hosta 10.2.0.2
  sleep 3.5; ns nat nft list table ip k | grep -qE 'packets [1-9]' || fail "no keepalive"
  settle 1 1; reach hostb 10.1.0.2
}
