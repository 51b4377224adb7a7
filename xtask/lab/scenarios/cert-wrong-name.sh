# AUT-03: a good certificate, but not for the identity the client claims
AUTH=pubkey
credentials() { [ "$1" = gwb ] || SAN=other certify gwa "$2" ca rsa2048; }
check() { refused; blocked hosta 10.2.0.2; }
