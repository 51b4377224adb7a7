# REK-05: only responses are lost, so the same request comes again and is answered with the same octets
DAEMON="retransmit_timeout = 0.3
delete_rekeyed_delay = 1"
CONN_gwa="encap = yes"   # port 4500 in any case, where the offsets are
check() {
  local g; up
  for g in gwa gwb; do   # 0x20 in the flags: a response; behind the marker on port 4500
    lose '@th,248,8 & 0x20 == 0x20 numgen inc mod 2 == 0'
    rekey $g --child net; rekey $g --ike lab; settle 1 1; lost
    reach hosta 10.2.0.2; reach hostb 10.1.0.2
  done
}
