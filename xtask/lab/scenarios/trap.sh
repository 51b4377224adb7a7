# start_action = trap: the first packet for the other side brings both SAs up
KERNEL=fake CHILD_gwa="start_action = trap"
check() {
  local i
  settle 0 0 gwb; ns hosta ping -c 2 -W 1 10.2.0.2 >/dev/null 2>&1
  settle 1 1
}
