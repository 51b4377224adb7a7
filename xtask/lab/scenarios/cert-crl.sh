# revocation = strict with a fresh list on which the client is not: accepted; without any list: refused
AUTH=pubkey REMOTE_gwb="revocation = strict"
credentials() { [ "$1" = gwa ] || revocation "$2" ca "$DIR/pki/gwc.pem"; }
check() {
  up; settle 1 1; reach hosta 10.2.0.2
  sw gwa --terminate --ike lab >/dev/null; empty
  credentials() { :; }
  [ -n "$(has "$DUT" gwb && echo yes)" ] || { rm -f "$DIR"/gwb/swanctl/x509crl/*; sw gwb --load-creds --clear >/dev/null; sw gwb --flush-certs >/dev/null; refused; }
}
