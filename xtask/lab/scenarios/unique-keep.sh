# AUT-12, unique = keep: the same identity comes again from elsewhere and is refused, the older IKE_SA stays
CONN_gwb="unique = keep" RADDR_gwc=192.0.2.2 RTS_gwc=10.2.0.0/24 LTS_gwc=10.1.0.0/24 RID_gwc=gwb.lab
CONN_gwc="unique = never" CONN_gwa="unique = never"
GWS="gwa gwb gwc"
topology() { addr gwc lo 10.1.0.9/24; }
credentials() { [ "$1" != gwc ] || sed -i 's/id = gwc.lab/id = gwa.lab/' "$2/swanctl.conf"; }
check() {
  up gwa; settle 1 1 gwa gwb
  sw gwc --initiate --child net --timeout 10 >/dev/null && fail "a second IKE_SA of one identity"
  settle 1 1 gwa gwb; reach hosta 10.2.0.2
}
