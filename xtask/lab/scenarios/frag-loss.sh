# RFC 7383: fragments of IKE_AUTH are lost, the whole message comes again
AUTH=pubkey
DAEMON="fragment_size = 576
retransmit_timeout = 0.4"
check() {
  lose 'numgen inc mod 5 == 2'; up; lost
  settle 1 1; reach hosta 10.2.0.2
}
