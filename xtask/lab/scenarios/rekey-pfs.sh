# the CHILD_SA's group is refused in the rekeying (INVALID_KE_PAYLOAD) and the second one is taken
DAEMON="delete_rekeyed_delay = 1"
CHILD_gwa="esp_proposals = aes128gcm16-x25519-ecp256" CHILD_gwb="esp_proposals = aes128gcm16-ecp256"
check() {
  up; rekey gwa --child net; logged gwa 'parsed CREATE_CHILD_SA response .*N\(INVAL_KE\)'
  settle 1 1; reach hosta 10.2.0.2; rekey gwb --child net; settle 1 1; reach hostb 10.1.0.2
}
