# two clients behind one NAT, told apart by their ports
RADDR_gwc=192.0.2.2
LADDR_gwa=198.51.100.2 LADDR_gwc=203.0.113.3
RID_gwb=%any RID_gwc=gwb.lab
RTS_gwb=dynamic
LTS_gwa=dynamic RTS_gwa=10.2.0.0/24 LTS_gwc=dynamic RTS_gwc=10.2.0.0/24
CONN_gwa="vips = 0.0.0.0" CONN_gwc="vips = 0.0.0.0" CONN_gwb="pools = v4"
POOLS="pools { v4 { addrs = 10.3.0.10-10.3.0.20 } }"
GWS="gwa gwb gwc"
topology() {
  link gwc priv nat privc
  addr nat privc 203.0.113.1/24; addr gwc priv 203.0.113.3/24
  ip -n "$LAB-gwc" route add default via 203.0.113.1 metric 1000
  ns nat nft 'add rule ip n p oifname "wan" ip saddr 203.0.113.0/24 masquerade'
}
check() {
  ip -n "$LAB-gwa" link set wan down; ip -n "$LAB-gwc" link set wan down; ip -n "$LAB-gwc" link set lan down
  up gwa; up gwc
  settle 2 2 gwb; settle 1 1 gwa gwc
  sas gwb '192.0.2.9\[4500\]'; sas gwb '192.0.2.9\[(102[4-9]|10[3-9][0-9]|[1-9][0-9]{3,4})\]'
  reach gwa 10.2.0.2; reach gwc 10.2.0.2
  rekey gwb --child net; settle 2 2 gwb; reach gwa 10.2.0.2; reach gwc 10.2.0.2
}
