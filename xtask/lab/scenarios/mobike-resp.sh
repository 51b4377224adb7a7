# RFC 4555: the responder's address changes; it asks for an update, the initiator makes it
PLUGINS="socket-default { use_ipv6 = no }"
CONN_gwb="local_addrs = %any"
check() {
  up; reach hosta 10.2.0.2
  ip -n "$LAB-gwb" addr add 192.0.2.12/24 dev wan
  ip -n "$LAB-gwb" addr del 192.0.2.2/24 dev wan
  ip -n "$LAB-gwb" addr add 192.0.2.12/24 dev wan 2>/dev/null
  sleep 2; sas gwa "192.0.2.12\[4500\]"; sas gwb "192.0.2.12\[4500\]"
  reach hosta 10.2.0.2; reach hostb 10.1.0.2
}
