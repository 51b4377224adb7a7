# RFC 6023: the IKE_SA alone is initiated by name, the child follows when asked for
CONN_gwa="childless = force" CONN_gwb="childless = allow"
check() {
  sw gwa --initiate --ike lab --timeout 10 >"$DIR/initiate" || { cat "$DIR/initiate"; fail "IKE_SA alone"; }
  settle 1 0; blocked hosta 10.2.0.2
  up; settle 1 1; reach hosta 10.2.0.2
}
