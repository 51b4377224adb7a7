# TS_UNACCEPTABLE: the selectors have nothing in common
RTS_gwa=10.9.0.0/24
check() {
  sw gwa --initiate --child net --timeout 10 >"$DIR/initiate" && fail "a CHILD_SA without common selectors"
  logged gwa 'received TS_UNACCEPTABLE notify'; blocked hosta 10.2.0.2
  sw gwa --terminate --ike lab >/dev/null; empty
}
