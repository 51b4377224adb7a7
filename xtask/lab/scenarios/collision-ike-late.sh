# REK-02, REK-03 for the IKE_SA: the requests cross and one side's messages come late; either side starts
DAEMON="half_open_timeout = 5"
DAEMON_gwb="send_delay = 300
send_delay_type = 36"
# charon may miss the collision: it keeps the lost IKE_SA, childless and REKEYED, for half a minute,
# or never deletes it, and then the other side does after half_open_timeout
LINGER=1
check() {
  local g p; up
  for g in "gwa gwb" "gwb gwa"; do
    set -- $g
    sw $1 --rekey --ike lab >/dev/null & p=$!
    sleep 0.1; sw $2 --rekey --ike lab >/dev/null; wait $p
    settle 1 1; reach hosta 10.2.0.2; reach hostb 10.1.0.2
  done
}
