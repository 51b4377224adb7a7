# INITIAL_CONTACT from the gateway that was the responder: it restarts and initiates, gwa drops the stale SA
RADDR_gwb=192.0.2.1
check() {
  local pid p; up
  pid=$(ip netns pids "$LAB-gwb"); for p in $pid; do kill -9 "$p"; done
  for p in $pid; do while [ -d "/proc/$p" ]; do sleep 0.05; done; done
  gw_up gwb || fail "gwb does not start again"
  up gwb; logged gwa 'destroying duplicate IKE_SA for peer .gwb.lab., received INITIAL_CONTACT'
  settle 1 1; reach hosta 10.2.0.2; reach hostb 10.1.0.2
}
