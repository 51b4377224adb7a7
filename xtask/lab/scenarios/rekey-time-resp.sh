# the responder's lifetimes are the shorter ones: it rekeys both SAs, no packet is lost in either direction
DAEMON="delete_rekeyed_delay = 1"
CONN_gwb="rekey_time = 5s
over_time = 20s
rand_time = 0s" CHILD_gwb="rekey_time = 2s
life_time = 20s
rand_time = 0s"
check() {
  up; steady hostb 10.1.0.2 sleep 7
  settle 1 1; sas gwa 'lab: #2, ESTABLISHED'
  logged gwa 'parsed CREATE_CHILD_SA request .* N\(REKEY_SA\)'; reach hosta 10.2.0.2
}
