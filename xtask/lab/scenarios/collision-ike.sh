# REK-01 for the IKE_SA: both gateways rekey it at once, one new IKE_SA stays and inherits the CHILD_SA
DAEMON="send_delay = 200
send_delay_type = 36
half_open_timeout = 5"
LINGER=1   # as in collision-ike-late, on a busy machine
check() {
  local p; up
  sw gwa --rekey --ike lab >/dev/null & p=$!
  sw gwb --rekey --ike lab >/dev/null; wait $p
  settle 1 1; reach hosta 10.2.0.2; reach hostb 10.1.0.2
  rekey gwa --child net; rekey gwb --ike lab; settle 1 1; reach hosta 10.2.0.2
}
