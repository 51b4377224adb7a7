# nothing in common for the CHILD_SA: it is refused, the IKE_SA authenticated well and may stay
CHILD_gwa="esp_proposals = aes128gcm16" CHILD_gwb="esp_proposals = aes256gcm16"
check() {
  sw gwa --initiate --child net --timeout 10 >"$DIR/initiate" && fail "a CHILD_SA without common proposal"
  logged gwb 'no acceptable proposal found'; logged gwa 'received NO_PROPOSAL_CHOSEN notify'
  sas gwb 'lab: #1, ESTABLISHED'; blocked hosta 10.2.0.2
  sw gwb --terminate --ike lab >/dev/null; empty
}
