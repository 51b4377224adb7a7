# two clients with addresses of both families from pools: distinct, kept over a rekeying and a reconnection
CONN_gwb="pools = v4,v6" CONN_gwa="vips = 0.0.0.0,::" CONN_gwc="vips = 0.0.0.0,::"
POOLS="pools { v4 { addrs = 10.3.0.10-10.3.0.20
                    dns = 10.2.0.53 }
               v6 { addrs = fd00:3::10/124 } }"
LTS_gwa=dynamic RTS_gwa=10.2.0.0/24,fd00:2::/64 LTS_gwc=dynamic RTS_gwc=10.2.0.0/24,fd00:2::/64 RTS_gwb=dynamic
RADDR_gwc=192.0.2.2 RID_gwc=gwb.lab RID_gwb=%any GWS="gwa gwb gwc"
check() {
  up gwa; sas gwb '10.3.0.10/32 fd00:3::1[0-9a-f]/128'
  ip -n "$LAB-gwc" link set lan down; up gwc; sas gwb '10.3.0.11/32 fd00:3::1[0-9a-f]/128'
  reach gwa 10.2.0.1; reach gwc 10.2.0.1; reach gwa fd00:2::1
  rekey gwb --ike lab; settle 2 2 gwb; reach gwa 10.2.0.1; reach gwc 10.2.0.1
  sw gwa --terminate --ike lab >/dev/null; settle 1 1 gwb; up gwa; sas gwb '10.3.0.10/32'; reach gwa 10.2.0.1
}
