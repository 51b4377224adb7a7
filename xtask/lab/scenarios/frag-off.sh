# one side does not do RFC 7383: nothing is fragmented, large messages pass whole
AUTH=pubkey CONN_gwb="fragmentation = no"
check() {
  up; not_logged gwa 'splitting IKE message'; not_logged gwb 'splitting IKE message'
  settle 1 1; reach hosta 10.2.0.2
}
