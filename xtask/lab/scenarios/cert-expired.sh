# AUT-04: the client's certificate has expired: AUTHENTICATION_FAILED, nothing left behind
AUTH=pubkey
credentials() { [ "$1" = gwb ] || certify gwa "$2" ca rsa2048 -days -1; }
check() {
  refused; logged gwa 'received AUTHENTICATION_FAILED|N\(AUTH_FAILED\)'; logged gwb 'certificate invalid|expired|not valid'
  blocked hosta 10.2.0.2
}
