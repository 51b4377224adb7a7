# RFC 5685 in IKE_SA_INIT: libreswan (tools/peers.sh get libreswan) in gwb sends every client to gwc
. "$HERE/tools/libreswan.sh"
DUT=gwb ROOT_gwb=${ROOT_gwb:-/var/cache/xswan-lab/libreswan}
LSW_SETUP="global-redirect=yes
  global-redirect-to=192.0.2.3"
GWS="gwa gwb gwc" RID_gwa=%any
check() {
  up
  logged gwa 'parsed IKE_SA_INIT response 0 \[ N\(REDIR\) \]'
  logged gwc 'parsed IKE_SA_INIT request 0 .*N\(REDIR_FROM\)'
  sas gwc 'gwa.lab'; reach hosta 10.2.0.3
}
