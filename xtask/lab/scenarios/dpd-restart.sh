# the responder is killed and started anew: the initiator notices and builds both SAs again by itself
DAEMON="retransmit_timeout = 0.3"
CONN_gwa="dpd_delay = 1s" CHILD_gwa="dpd_action = restart"
check() {
  local pid p; up
  pid=$(ip netns pids "$LAB-gwb"); for p in $pid; do kill -9 "$p"; done
  for p in $pid; do while [ -d "/proc/$p" ]; do sleep 0.05; done; done
  gw_up gwb || fail "gwb does not start again"
  settle 1 1 gwb; settle 1 1 gwa; reach hosta 10.2.0.2; reach hostb 10.1.0.2
}
