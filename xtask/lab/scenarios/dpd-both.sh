# both sides check liveness of an idle IKE_SA: every check is answered, nothing changes
CONN_gwa="dpd_delay = 1s" CONN_gwb="dpd_delay = 1s"
check() {
  up; sleep 4
  logged gwa 'parsed INFORMATIONAL (request|response) [0-9]+ \[ \]'; logged gwb 'parsed INFORMATIONAL (request|response) [0-9]+ \[ \]'
  settle 1 1; sas gwa 'lab: #1,'; sas gwb 'lab: #1,'; reach hosta 10.2.0.2
}
