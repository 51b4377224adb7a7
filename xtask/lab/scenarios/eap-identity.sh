# the client's EAP identity is asked for, and is not its IKE identity; two users share the gateway's configuration
AUTH=pubkey
LAUTH_gwa=eap-mschapv2 LOCAL_gwa="eap_id = bob" LAUTH_gwc=eap-mschapv2 LOCAL_gwc="eap_id = alice"
RAUTH_gwb=eap-mschapv2 REMOTE_gwb="eap_id = %any" RID_gwb=%any RID_gwc=gwb.lab
SECRETS='eap-2 { id = bob
  secret = "bobs" }'
RADDR_gwc=192.0.2.2 RTS_gwc=10.2.0.0/24 LTS_gwc=10.4.0.0/24 RTS_gwb=10.1.0.0/24,10.4.0.0/24
GWS="gwa gwb gwc"
topology() { addr gwc lo 10.4.0.1/24; }
check() {
  up gwa; up gwc; settle 2 2 gwb
  logged gwb "received EAP identity 'bob'"; logged gwb "received EAP identity 'alice'"
  reach hosta 10.2.0.2
}
