# REK-09: one side rekeys the CHILD_SA that the other deletes meanwhile: the IKE_SA lives on and takes a new child
DAEMON="send_delay = 300
send_delay_type = 36
delete_rekeyed_delay = 1"
check() {
  local g p; up
  for g in "gwa gwb" "gwb gwa"; do
    set -- $g
    sw $1 --rekey --child net >/dev/null & p=$!
    sleep 0.1; sw $2 --terminate --child net >/dev/null; wait $p
    settle 1 0
    up; settle 1 1; reach hosta 10.2.0.2
  done
}
