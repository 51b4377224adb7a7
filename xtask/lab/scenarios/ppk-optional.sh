# RFC 8784: the responder does PPKs but not this one, and neither side insists: NO_PPK_AUTH, an IKE_SA without
CONN_gwa="ppk_id = ppk1"
credentials() {
  printf 'secrets {\n  ppk { id = %s\n    secret = 0x00112233445566778899aabbccddeeff }\n}\n' "$([ "$1" = gwa ] && echo ppk1 || echo ppk2)" >>"$2/swanctl.conf"
}
check() {
  up; logged gwa 'N\(PPK_ID\) N\(NO_PPK\)|N\(NO_PPK\)'; sas gwb 'PRF_HMAC_SHA2_256/CURVE_25519$'
  settle 1 1; reach hosta 10.2.0.2
}
