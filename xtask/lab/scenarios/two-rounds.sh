# RFC 4739: the client authenticates by certificate, then by EAP-MSCHAPv2
AUTH=pubkey
MORE_gwa="local-2 { auth = eap-mschapv2
  id = gwa.lab
  eap_id = alice }"
MORE_gwb="remote-2 { auth = eap-mschapv2
  eap_id = %any }"
check() {
  up
  logged gwa 'generating IKE_AUTH request 1 .*N\(AUTH_FOLLOWS\)'
  logged gwb "authentication of 'gwa.lab' with RSA_EMSA_PKCS1_SHA2_"
  logged gwb "EAP method EAP_MSCHAPV2 succeeded, MSK established"
  settle 1 1; reach hosta 10.2.0.2
}
