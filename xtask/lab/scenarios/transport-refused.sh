# transport mode is asked for, the responder only does tunnels: it answers without USE_TRANSPORT_MODE
KERNEL=fake CHILD_gwa="mode = transport"
LTS_gwa=dynamic RTS_gwa=dynamic LTS_gwb=dynamic RTS_gwb=dynamic
check() {
  sw gwa --initiate --child net --timeout 10 >"$DIR/initiate"
  logged gwb 'parsed IKE_AUTH request 1 .*N\(USE_TRANSP\)'
  sas gwb 'ESTABLISHED'; [ -z "$(sw gwb --list-sas | grep TRANSPORT)" ] || fail "transport mode without consent"
}
