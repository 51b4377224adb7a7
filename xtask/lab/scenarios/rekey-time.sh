# lifetimes of seconds under a running ping: both SAs are rekeyed several times, no packet is lost
DAEMON="delete_rekeyed_delay = 1"
CONN_gwa="rekey_time = 5s
over_time = 20s
rand_time = 0s" CHILD_gwa="rekey_time = 2s
life_time = 20s
rand_time = 0s"
check() {
  up; steady hosta 10.2.0.2 sleep 7
  settle 1 1; sas gwb 'lab: #2, ESTABLISHED'
  all_sas gwb | grep -qE '^  net: #[3-9]' || has "$DUT" gwb || fail "the CHILD_SA was not rekeyed in time"
  reach hostb 10.1.0.2
}
