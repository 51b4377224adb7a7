# extended sequence numbers asked for by one side, offered by the other; they stay over a rekeying from either side
KERNEL=fake CHILD_gwa="esp_proposals = aes256gcm16-x25519-esn" CHILD_gwb="esp_proposals = aes256gcm16-x25519-esn-noesn"
DAEMON="delete_rekeyed_delay = 1"
check() {
  up; sas gwb 'ESP:AES_GCM_16-256/ESN'
  rekey gwa --child net; rekey gwb --child net; settle 1 1; sas gwb 'ESP:AES_GCM_16-256/CURVE_25519/ESN|ESP:AES_GCM_16-256.*ESN'
}
