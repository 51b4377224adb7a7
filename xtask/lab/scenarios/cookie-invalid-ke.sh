# a cookie is demanded and the group is refused: the third IKE_SA_INIT has both, and AUTH covers what was sent last
IKE_gwa=aes128gcm16-prfsha256-x25519-ecp256 IKE_gwb=aes128gcm16-prfsha256-ecp256
LOG="net = 2"
DAEMON_gwb="cookie_threshold = 1"
check() {
  ns gwa nft 'add table ip t; add chain ip t i { type filter hook input priority 0; };
    add rule ip t i udp sport 500 udp length > 120 drop'
  sw gwa --initiate --child net --timeout 1 >/dev/null
  sw gwa --terminate --ike lab --force >/dev/null
  ns gwa nft delete table ip t
  up; logged gwb 'sending COOKIE notify'; logged gwa 'IKE_SA_INIT response 0 \[ N\(INVAL_KE\) \]'
  reach hosta 10.2.0.2
}
