# both sides delete the CHILD_SA at once, then the IKE_SA at once: each DELETE is answered, nothing is left
DAEMON="send_delay = 200
send_delay_type = 37"
check() {
  local p; up
  sw gwa --terminate --child net >/dev/null & p=$!
  sw gwb --terminate --child net >/dev/null; wait $p
  settle 1 0; up; settle 1 1; reach hosta 10.2.0.2
  sw gwa --terminate --ike lab >/dev/null & p=$!
  sw gwb --terminate --ike lab >/dev/null; wait $p
  empty; blocked hosta 10.2.0.2
}
