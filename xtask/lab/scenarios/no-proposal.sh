# nothing in common for the IKE_SA: NO_PROPOSAL_CHOSEN, nothing left on either side
IKE_gwa=aes128gcm16-prfsha256-x25519 IKE_gwb=aes256gcm16-prfsha384-ecp384
check() { refused; logged gwa 'received NO_PROPOSAL_CHOSEN notify error'; logged gwb 'received proposals unacceptable'; }
