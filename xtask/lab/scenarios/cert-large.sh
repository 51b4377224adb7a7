# RSA with an intermediate of 4096 bits: several fragments in each direction (RFC 7383)
AUTH=pubkey
credentials() {
  authority root rsa2048; authority big rsa4096 root; certify "$1" "$2" big rsa3072
  trust "$2" root big
}
check() {
  up; logged gwa 'splitting IKE message .* into [2-9] fragments'; logged gwb 'splitting IKE message .* into [2-9] fragments'
  settle 1 1; reach hosta 10.2.0.2
}
