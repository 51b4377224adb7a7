# RFC 4739: the first round succeeds, the second does not (wrong password): no SA
AUTH=pubkey DAEMON="half_open_timeout = 5"
MORE_gwa="local-2 { auth = eap-mschapv2
  id = gwa.lab
  eap_id = alice }"
MORE_gwb="remote-2 { auth = eap-mschapv2
  eap_id = %any }"
credentials() { [ "$1" = gwb ] || sed -i 's/lab eap/not it/' "$2/swanctl.conf"; }
check() { refused; blocked hosta 10.2.0.2; }
