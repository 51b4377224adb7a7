# several proposals on both sides: the responder takes the first of the initiator's that it has
IKE_gwa=aes256gcm16-prfsha384-ecp384,aes128gcm16-prfsha256-x25519 IKE_gwb=aes256-sha256-modp2048,aes128gcm16-prfsha256-x25519
CHILD_gwa="esp_proposals = aes256gcm16-x25519,aes128gcm16-x25519" CHILD_gwb="esp_proposals = chacha20poly1305,aes128gcm16-x25519"
check() {
  up; sas gwb 'AES_GCM_16-128/PRF_HMAC_SHA2_256/CURVE_25519'; sas gwa 'ESP:AES_GCM_16-128'; reach hosta 10.2.0.2
}
