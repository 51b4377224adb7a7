# reauth_time with make-before-break under a running ping: the SAs are new after it, no packet is lost
DAEMON="make_before_break = yes"
CONN_gwa="reauth_time = 3s
rand_time = 0s
over_time = 20s"
check() {
  up; steady hosta 10.2.0.2 sleep 5
  settle 1 1; sas gwb 'lab: #[2-9], ESTABLISHED'; reach hostb 10.1.0.2
}
