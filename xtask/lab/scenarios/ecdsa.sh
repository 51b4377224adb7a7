# ECDSA certificates, P-256 for one side and P-384 for the other, from an authority with P-256 (RFC 7427)
AUTH=pubkey
credentials() {
  authority ec-root p256; trust "$2" ec-root
  if [ "$1" = gwa ]; then certify "$1" "$2" ec-root p256; else certify "$1" "$2" ec-root p384; fi
}
check() {
  up
  logged gwb "authentication of 'gwa.lab' with ECDSA_WITH_SHA256_DER successful"
  logged gwa "authentication of 'gwb.lab' with ECDSA_WITH_SHA384_DER successful"
  settle 1 1; reach hosta 10.2.0.2
}
