# EAP-MSCHAPv2 with a user the gateway does not know: refused like a wrong password
AUTH=pubkey DAEMON="half_open_timeout = 5"
LAUTH_gwa=eap-mschapv2 LOCAL_gwa="eap_id = mallory"
RAUTH_gwb=eap-mschapv2 REMOTE_gwb="eap_id = %any" RID_gwb=%any
credentials() { [ "$1" = gwb ] || sed -i 's/id = alice/id = mallory/' "$2/swanctl.conf"; }
check() { refused; blocked hosta 10.2.0.2; }
