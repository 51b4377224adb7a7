# both gateways initiate at once: whatever is kept of the two IKE_SAs works, and one DELETE from each side ends all
RADDR_gwb=192.0.2.1
DAEMON="send_delay = 200
send_delay_type = 34"
check() {
  local p; up gwa & p=$!
  sw gwb --initiate --child net --timeout 15 >"$DIR/initiate-b"; wait $p || exit 1
  reach hosta 10.2.0.2; reach hostb 10.1.0.2
  sw gwa --terminate --ike lab >/dev/null; sleep 0.3; sw gwb --terminate --ike lab >/dev/null
  empty
}
