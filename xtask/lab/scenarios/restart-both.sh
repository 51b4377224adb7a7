# both gateways are killed and started again: nothing of the old SAs is in the way of the new ones
check() {
  local g p pids; up; reach hosta 10.2.0.2
  for g in gwa gwb; do pids="${pids:-} $(ip netns pids "$LAB-$g")"; done
  for p in $pids; do kill -9 "$p"; done
  for p in $pids; do while [ -d "/proc/$p" ]; do sleep 0.05; done; done
  gw_up gwa && gw_up gwb || fail "start"
  up; settle 1 1; reach hosta 10.2.0.2; reach hostb 10.1.0.2
}
