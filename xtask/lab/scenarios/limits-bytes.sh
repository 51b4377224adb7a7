# rekey_bytes at the responder: it rekeys what the other side's traffic has used up
CHILD_gwb="rekey_bytes = 20000
life_bytes = 2000000
rand_bytes = 0"
DAEMON="delete_rekeyed_delay = 1"
check() {
  up; steady hosta 10.2.0.2 ns hosta ping -q -i 0.02 -c 60 -s 1000 10.2.0.2 >/dev/null
  sleep 1; settle 1 1; sas gwa '^  net: #[2-9]'
  logged gwa 'parsed CREATE_CHILD_SA request .* N\(REKEY_SA\)'; reach hosta 10.2.0.2
}
