# the client dies silently, the responder's liveness check clears its SA; the client comes back
DAEMON="retransmit_timeout = 0.4"
CONN_gwb="dpd_delay = 1s" CHILD_gwb="dpd_action = clear"
check() {
  up; ip -n "$LAB-wan" link set gwa down
  logged gwb 'giving up after 4 retransmits' 10; empty gwb
  ip -n "$LAB-wan" link set gwa up
  sw gwa --terminate --ike lab >/dev/null; empty gwa
  up; settle 1 1; reach hosta 10.2.0.2
}
