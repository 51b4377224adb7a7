# REK-08: one side rekeys the CHILD_SA while the other rekeys the IKE_SA (TEMPORARY_FAILURE), both ways round
DAEMON="send_delay = 200
send_delay_type = 36
delete_rekeyed_delay = 1"
check() {
  local g p; up
  for g in "gwa gwb" "gwb gwa"; do
    set -- $g
    sw $1 --rekey --child net >/dev/null & p=$!
    sw $2 --rekey --ike lab >/dev/null; wait $p
    settle 1 1; reach hosta 10.2.0.2; reach hostb 10.1.0.2
  done
}
