# REK-09 for the IKE_SA: it is deleted by one side while the other rekeys it; nothing may be left
DAEMON="send_delay = 300
send_delay_type = 36"
check() {
  local g p
  for g in "gwa gwb" "gwb gwa"; do
    set -- $g; up
    sw $1 --rekey --ike lab >/dev/null & p=$!
    sleep 0.1; sw $2 --terminate --ike lab >/dev/null; wait $p
    empty
  done
  up; settle 1 1; reach hosta 10.2.0.2
}
