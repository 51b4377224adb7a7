# RFC 8784: an IKE_SA with PPK is rekeyed by either side and stays protected; so do its children
DAEMON="delete_rekeyed_delay = 1"
CONN_gwa="ppk_id = ppk1
ppk_required = yes" CONN_gwb="ppk_id = ppk1
ppk_required = yes"
SECRETS='ppk { id = ppk1
  secret = 0x00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff }'
check() {
  up; rekey gwa --ike lab; rekey gwb --ike lab; rekey gwb --child net; rekey gwa --child net
  settle 1 1; sas gwb '/PPK'; reach hosta 10.2.0.2
}
