# Raw public keys: no certificate on either side, each has the other's key on file (RFC 7296 section 2.15)
AUTH=pubkey
credentials() {  # both keys, whoever comes first
  local g k=rsa3072
  for g in gwa gwb; do
    [ "$g" = gwa ] || k=p256
    [ -f "$DIR/pki/raw-$g.made-$BASHPID" ] && continue
    a_key "raw-$g" $k; touch "$DIR/pki/raw-$g.made-$BASHPID"
    openssl pkey -in "$DIR/pki/raw-$g.key" -pubout >"$DIR/pki/raw-$g.pub" 2>/dev/null
  done
  rm -f "$2"/x509/* "$2"/x509ca/* "$2"/private/*
  cp "$DIR/pki/raw-$1.key" "$2/private"; cp "$DIR"/pki/raw-*.pub "$2/pubkey"
  sed -i "s/certs = $1.pem/pubkeys = raw-$1.pub/" "$2/swanctl.conf"
}
REMOTE_gwa="pubkeys = raw-gwb.pub" REMOTE_gwb="pubkeys = raw-gwa.pub"
check() {
  up
  logged gwb "authentication of 'gwa.lab' with RSA"
  logged gwa "authentication of 'gwb.lab' with ECDSA"
  settle 1 1; reach hosta 10.2.0.2
}
