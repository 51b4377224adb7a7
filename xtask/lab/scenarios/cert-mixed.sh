# RSA-3072 on one side, Ed25519 on the other, under two roots that both trust
AUTH=pubkey
credentials() {
  authority rsa-root rsa3072; authority ed-root ed25519; trust "$2" rsa-root ed-root
  if [ "$1" = gwa ]; then certify "$1" "$2" rsa-root rsa3072; else certify "$1" "$2" ed-root ed25519; fi
}
check() {
  up; logged gwb "authentication of 'gwa.lab' with RSA_EMSA_PKCS1_SHA2_"; logged gwa "authentication of 'gwb.lab' with ED25519"
  settle 1 1; reach hosta 10.2.0.2
}
