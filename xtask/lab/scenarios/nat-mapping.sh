# a NAT that forgets its mapping and takes another port: DPD notices, MOBIKE tells the gateway
PLUGINS="socket-default { use_ipv6 = no }"
LADDR_gwa=198.51.100.2
CONN_gwa="dpd_delay = 1s"
check() {
  ip -n "$LAB-gwa" link set wan down
  up; reach hosta 10.2.0.2; sas gwb '192.0.2.9\[[0-9]+\]'
  sleep 1.5       # the first DPD learns the mapping
  ns nat nft 'flush chain ip n p; add rule ip n p oifname "wan" ip saddr 198.51.100.0/24 meta l4proto udp masquerade to :40000-40100'
  ip -n "$LAB-nat" link set wan down; ip -n "$LAB-nat" link set wan up   # ends the old mappings
  sleep 3; sas gwb '192.0.2.9\[40[01][0-9][0-9]\]'
  reach hostb 10.1.0.2; reach hosta 10.2.0.2; settle 1 1
}
