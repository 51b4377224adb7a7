# AUT-04: the client's certificate is on the authority's list: refused
AUTH=pubkey REMOTE_gwb="revocation = strict"
credentials() { [ "$1" = gwa ] || { revocation "$2" ca "$DIR/gwa/swanctl/x509/gwa.pem"; }; }
check() {
  refused; logged gwb 'certificate was revoked'; logged gwa 'AUTHENTICATION_FAILED|N\(AUTH_FAILED\)'; blocked hosta 10.2.0.2
}
