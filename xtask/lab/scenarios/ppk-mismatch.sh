# RFC 8784: the same PPK_ID with different keys: authentication fails, nothing is left
CONN_gwa="ppk_id = ppk1
ppk_required = yes" CONN_gwb="ppk_id = ppk1
ppk_required = yes"
credentials() {
  printf 'secrets {\n  ppk { id = ppk1\n    secret = 0x%s00112233445566778899aabbccddeeff }\n}\n' "$([ "$1" = gwa ] && echo 01 || echo 02)" >>"$2/swanctl.conf"
}
check() { refused; blocked hosta 10.2.0.2; }
