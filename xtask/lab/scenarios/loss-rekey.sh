# REK-05, REK-06: requests, responses and deletes are lost while either side rekeys; one pair is left each time
DAEMON="retransmit_timeout = 0.3
delete_rekeyed_delay = 1"
check() {
  local g; up
  for g in gwa gwb; do
    lose 'numgen inc mod 2 == 0' 'numgen inc mod 3 == 0'; rekey $g --child net; settle 1 1; lost; reach hosta 10.2.0.2
    lose 'numgen inc mod 3 == 1' 'numgen inc mod 2 == 1'; rekey $g --ike lab; settle 1 1; lost; reach hosta 10.2.0.2
  done
}
