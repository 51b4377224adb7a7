# rekey_packets: the SA is replaced when it has carried so many packets, and the traffic does not notice
CHILD_gwa="rekey_packets = 60
life_packets = 2000
rand_packets = 0"
DAEMON="delete_rekeyed_delay = 1"
check() {
  up; steady hosta 10.2.0.2 sleep 6
  settle 1 1; sas gwb '^  net: #[2-9]'
  logged gwb 'parsed CREATE_CHILD_SA request .* N\(REKEY_SA\)'; reach hosta 10.2.0.2
}
