# AUT-04: the client's certificate comes from an authority the responder does not know
AUTH=pubkey
credentials() { authority foreign rsa2048; [ "$1" = gwb ] || { certify gwa "$2" foreign rsa2048; trust "$2" ca foreign; }; }
check() { refused; logged gwa 'received AUTHENTICATION_FAILED|N\(AUTH_FAILED\)'; blocked hosta 10.2.0.2; }
