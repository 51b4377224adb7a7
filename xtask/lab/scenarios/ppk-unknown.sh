# RFC 8784: only the initiator is configured for a PPK and does not insist: none is negotiated
CONN_gwa="ppk_id = ppk1"
credentials() { [ "$1" = gwb ] || printf 'secrets {\n  ppk { id = ppk1\n    secret = 0x00112233445566778899aabbccddeeff }\n}\n' >>"$2/swanctl.conf"; }
check() { up; sas gwa 'PRF_HMAC_SHA2_256/CURVE_25519$'; settle 1 1; reach hosta 10.2.0.2; }
