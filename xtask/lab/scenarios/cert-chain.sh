# an intermediate authority that only its own side has: it is sent along, the other side builds the chain to the root
AUTH=pubkey
credentials() {
  authority root rsa2048; authority branch-$1 p256 root; certify "$1" "$2" branch-$1 p256
  trust "$2" root branch-$1
}
check() {
  up; logged gwb 'received issuer cert'; logged gwa 'received issuer cert'
  settle 1 1; reach hosta 10.2.0.2
}
