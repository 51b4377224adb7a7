# two CHILD_SAs in one IKE_SA, one per family; each is started, rekeyed and ended by itself
DAEMON="delete_rekeyed_delay = 1"
LTS_gwa=10.1.0.0/24 RTS_gwa=10.2.0.0/24 LTS_gwb=10.2.0.0/24 RTS_gwb=10.1.0.0/24
MORE_gwa="children { six { local_ts = fd00:1::/64
  remote_ts = fd00:2::/64
  esp_proposals = aes128gcm16-x25519 } }"
MORE_gwb="children { six { local_ts = fd00:2::/64
  remote_ts = fd00:1::/64
  esp_proposals = aes128gcm16-x25519 } }"
check() {
  up; blocked hosta fd00:2::2
  sw gwa --initiate --child six --timeout 10 >"$DIR/initiate" || fail "the second child"
  settle 1 2; reach hosta 10.2.0.2; reach hosta fd00:2::2
  rekey gwa --child six; rekey gwb --child net; rekey gwb --ike lab; settle 1 2
  reach hostb 10.1.0.2; reach hostb fd00:1::2
  sw gwb --terminate --child net >/dev/null; settle 1 1; blocked hosta 10.2.0.2; reach hosta fd00:2::2
}
