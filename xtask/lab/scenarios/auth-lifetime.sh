# RFC 4478: the responder announces how long an EAP authentication holds, the client renews it in time
AUTH=pubkey DAEMON="make_before_break = yes"
LAUTH_gwa=eap-mschapv2 LOCAL_gwa="eap_id = alice"
RAUTH_gwb=eap-mschapv2 REMOTE_gwb="eap_id = %any" RID_gwb=%any
CONN_gwa="over_time = 2s
rand_time = 0s"
CONN_gwb="reauth_time = 6s
rand_time = 0s
over_time = 10s"
check() {
  up; logged gwa 'received AUTH_LIFETIME of'
  sleep 5; settle 1 1; sas gwb 'lab: #[2-9], ESTABLISHED'; reach hosta 10.2.0.2
}
