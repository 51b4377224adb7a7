# several selectors of both families in one CHILD_SA, narrowed where the responder allows less
LTS_gwa="10.1.0.0/24,10.11.0.0/16,fd00:1::/64" RTS_gwa="10.2.0.0/24,10.12.0.0/16,fd00:2::/64"
LTS_gwb="10.2.0.0/24,10.12.5.0/24,fd00:2::/64" RTS_gwb="10.1.0.0/24,10.11.0.0/16,fd00:1::/64"
topology() { addr gwa lo 10.11.7.1/16; addr gwb lo 10.12.5.1/24; }
check() {
  up; sas gwa 'remote 10.2.0.0/24 10.12.5.0/24 fd00:2::/64'; sas gwb 'remote 10.1.0.0/24 10.11.0.0/16 fd00:1::/64'
  reach hosta 10.2.0.2; reach hosta 10.12.5.1; reach hosta fd00:2::2; reach hostb 10.11.7.1
}
