# rekeyed by hand from either side while packets flow: none is lost
DAEMON="delete_rekeyed_delay = 1"
all() { local g; for g in gwa gwb; do rekey $g --child net; sleep 0.3; rekey $g --ike lab; sleep 0.3; done; }
check() { up; steady hosta 10.2.0.2 all; LINGER=1 settle 1 1; sas gwb 'lab: #3, ESTABLISHED'; }
