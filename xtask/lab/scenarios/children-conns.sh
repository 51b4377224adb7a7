# two connections to the same peer, told apart by the identity the initiator asks for: two IKE_SAs side by side
CONN_gwb="unique = never" CONN_gwa="unique = never"
LTS_gwa=10.1.0.0/24 RTS_gwa=10.2.0.0/24 LTS_gwb=10.2.0.0/24 RTS_gwb=10.1.0.0/24
credentials() {
  local me=$1 you=gwb mine=1 yours=2; [ "$1" = gwa ] || { you=gwa; mine=2; yours=1; }
  cat >>"$2/swanctl.conf" <<C
connections {
  second {
    version = 2
    local_addrs = $(outer "$me")
    remote_addrs = $([ "$me" = gwa ] && outer gwb || echo %any)
    proposals = aes128gcm16-prfsha256-x25519
    unique = never
    local { auth = psk
            id = second.$me.lab }
    remote { auth = psk
             id = second.$you.lab }
    children { six {
      local_ts = fd00:$mine::/64
      remote_ts = fd00:$yours::/64
      esp_proposals = aes128gcm16 } }
  }
}
C
}
check() {
  up; sw gwa --initiate --child six --timeout 10 >"$DIR/initiate" || { cat "$DIR/initiate"; fail "the second connection"; }
  settle 2 2; reach hosta 10.2.0.2; reach hosta fd00:2::2; sas gwb "second.gwa.lab"
  sw gwa --terminate --ike second >/dev/null; settle 1 1; reach hosta 10.2.0.2; blocked hosta fd00:2::2
}
