# a pool of one address: the first client gets it, the second is told so and has no CHILD_SA, the gateway goes on
CONN_gwb="pools = v4" CONN_gwa="vips = 0.0.0.0" CONN_gwc="vips = 0.0.0.0"
POOLS="pools { v4 { addrs = 10.3.0.10/32 } }"
LTS_gwa=dynamic RTS_gwa=10.2.0.0/24 LTS_gwc=dynamic RTS_gwc=10.2.0.0/24 RTS_gwb=dynamic LTS_gwb=10.2.0.0/24
RADDR_gwc=192.0.2.2 RID_gwc=gwb.lab RID_gwb=%any GWS="gwa gwb gwc"
check() {
  up gwa; sas gwa '10.3.0.10/32'; reach gwa 10.2.0.1
  sw gwc --initiate --child net --timeout 5 >/dev/null && fail "an address from nowhere"
  logged gwb 'sending INTERNAL_ADDRESS_FAILURE|no virtual IP found'; logged gwc 'INT_ADDR_FAIL|FAIL_CP_REQ'
  sw gwc --terminate --ike lab >/dev/null
  settle 1 1 gwa gwb; reach gwa 10.2.0.1
  sw gwa --terminate --ike lab >/dev/null; empty gwa gwb
  ip -n "$LAB-gwc" link set lan down; up gwc; sas gwb 'remote 10.3.0.10/32'; reach gwc 10.2.0.1
}
