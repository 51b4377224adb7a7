# IPv6 outside with fragmentation of IKE at its smallest, certificates, and rekeyings after it
AUTH=pubkey OUTER=6
DAEMON="fragment_size = 500
delete_rekeyed_delay = 1"
check() { up; logged gwb 'received fragment #1 of [0-9]+'; rekey gwa --ike lab; rekey gwb --child net; settle 1 1; reach hosta 10.2.0.2; }
