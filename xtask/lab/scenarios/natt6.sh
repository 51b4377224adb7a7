# IPv6 outside with UDP encapsulation asked for by both sides
OUTER=6 CONN_gwa="encap = yes" CONN_gwb="encap = yes"
check() {
  up; sas gwb '2001:db8::1\[4500\]'; sas gwa 'INSTALLED, TUNNEL-in-UDP'
  reach hosta 10.2.0.2; reach hosta fd00:2::2; reach hostb 10.1.0.2
}
