# EAP-MSCHAPv2 with a wrong password: EAP failure, no SA on either side
AUTH=pubkey DAEMON="half_open_timeout = 5"
LAUTH_gwa=eap-mschapv2 LOCAL_gwa="eap_id = alice"
RAUTH_gwb=eap-mschapv2 REMOTE_gwb="eap_id = %any" RID_gwb=%any
credentials() { [ "$1" = gwb ] || sed -i 's/lab eap/not it/' "$2/swanctl.conf"; }
check() {
  refused
  logged gwb 'EAP-MS-CHAPv2 verification failed'; blocked hosta 10.2.0.2
}
