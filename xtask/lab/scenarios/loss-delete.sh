# REK-06: the DELETE that ends a rekeying is lost: the old pair goes in the end, the new one stays
DAEMON="retransmit_timeout = 0.3
delete_rekeyed_delay = 1"
CONN_gwa="encap = yes"   # port 4500 in any case, where the offsets are
check() {
  local g; up
  for g in gwa gwb; do   # exchange type 37, INFORMATIONAL, one octet before the flags
    lose '@th,240,8 37 numgen inc mod 2 == 0' '@th,240,8 37 numgen inc mod 3 == 1'
    rekey $g --child net; settle 1 1; rekey $g --ike lab; settle 1 1; lost
    reach hosta 10.2.0.2; reach hostb 10.1.0.2
  done
}
