# start_action = start while the peer is not there yet: tried again until it answers (keyingtries = 0)
CHILD_gwa="start_action = start" CONN_gwa="keyingtries = 0" GWS=gwa
DAEMON="retransmit_timeout = 0.3
retransmit_tries = 2"
check() { sleep 1.5; gw_up gwb || fail "gwb"; settle 1 1; reach hosta 10.2.0.2; }
