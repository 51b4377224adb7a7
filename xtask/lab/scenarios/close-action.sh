# close_action = start: the responder ends the child, the initiator sets it up again by itself
CHILD_gwa="close_action = start"
check() {
  up; sw gwb --terminate --child net >/dev/null
  settle 1 1; sas gwb 'net: #2, '; reach hosta 10.2.0.2
}
