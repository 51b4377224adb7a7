# REK-01: both gateways rekey the CHILD_SA at once; the nonces decide which of the two new ones stays
DAEMON="send_delay = 200
send_delay_type = 36
delete_rekeyed_delay = 1"
check() {
  local p; up
  sw gwa --rekey --child net >"$DIR/rekey" & p=$!
  sw gwb --rekey --child net >/dev/null; wait $p
  settle 1 1; reach hosta 10.2.0.2; reach hostb 10.1.0.2
}
