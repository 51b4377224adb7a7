# the same without MOBIKE: the gateway follows the source of authenticated messages (RFC 7296 2.23)
LADDR_gwa=198.51.100.2
CONN_gwa="mobike = no
dpd_delay = 1s" CONN_gwb="mobike = no"
check() {
  ip -n "$LAB-gwa" link set wan down
  up; reach hosta 10.2.0.2
  ns nat nft 'flush chain ip n p; add rule ip n p oifname "wan" ip saddr 198.51.100.0/24 meta l4proto udp masquerade to :40000-40100'
  ip -n "$LAB-nat" link set wan down; ip -n "$LAB-nat" link set wan up
  sleep 2.5; sas gwb '192.0.2.9\[40[01][0-9][0-9]\]'
  reach hosta 10.2.0.2; reach hostb 10.1.0.2; settle 1 1
}
