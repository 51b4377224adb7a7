# start_action = start: both SAs come up from the configuration alone; a reload leaves them as they are
CHILD_gwa="start_action = start" GWS="gwb gwa"
check() {
  settle 1 1; reach hosta 10.2.0.2; reach hostb 10.1.0.2
  sw gwa --load-all >/dev/null; sw gwb --load-all >/dev/null; sleep 1
  settle 1 1; sas gwb 'lab: #1, ESTABLISHED'; sas gwb 'net: #1, '; reach hosta 10.2.0.2
}
