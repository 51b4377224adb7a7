# Ed25519 certificates and signatures (RFC 8420)
AUTH=pubkey LOAD="curve25519"
credentials() { authority ed-root ed25519; trust "$2" ed-root; certify "$1" "$2" ed-root ed25519; }
check() {
  up
  logged gwb "authentication of 'gwa.lab' with ED25519 successful"
  logged gwa "authentication of 'gwb.lab' with ED25519 successful"
  settle 1 1; reach hosta 10.2.0.2; reach hosta fd00:2::2
}
