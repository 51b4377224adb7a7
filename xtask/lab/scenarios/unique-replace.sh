# AUT-12, unique = replace: the same identity comes again from elsewhere, the older IKE_SA is deleted
CONN_gwb="unique = replace" RADDR_gwc=192.0.2.2 RTS_gwc=10.2.0.0/24 LTS_gwc=10.1.0.0/24 RID_gwc=gwb.lab
CONN_gwc="unique = never" CONN_gwa="unique = never"
GWS="gwa gwb gwc"
topology() { addr gwc lo 10.1.0.9/24; }
credentials() { [ "$1" != gwc ] || sed -i 's/id = gwc.lab/id = gwa.lab/' "$2/swanctl.conf"; }
check() {
  up gwa; settle 1 1 gwa gwb
  up gwc; settle 1 1 gwb gwc; settle 0 0 gwa; sas gwb '192.0.2.3\[4500\]'
}
