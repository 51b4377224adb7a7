# RFC 8784: the responder insists on a PPK, the initiator has none: refused
CONN_gwb="ppk_id = ppk1
ppk_required = yes"
credentials() { [ "$1" = gwa ] || printf 'secrets {\n  ppk { id = ppk1\n    secret = 0x00112233445566778899aabbccddeeff }\n}\n' >>"$2/swanctl.conf"; }
check() { refused; blocked hosta 10.2.0.2; }
