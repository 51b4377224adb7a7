# ECDSA with P-521 and SHA-512, asked for by name on both sides; the SAs are rekeyed, too
AUTH=pubkey LAUTH_gwa=ike:ecdsa-sha512 RAUTH_gwa=ike:ecdsa-sha512 LAUTH_gwb=ike:ecdsa-sha512 RAUTH_gwb=ike:ecdsa-sha512
DAEMON="delete_rekeyed_delay = 1"
credentials() { authority ec521-root p521; trust "$2" ec521-root; certify "$1" "$2" ec521-root p521; }
check() {
  up; logged gwb "authentication of 'gwa.lab' with ECDSA_WITH_SHA512_DER successful"
  rekey gwb --ike lab; rekey gwa --child net; settle 1 1; reach hosta 10.2.0.2
}
