# RFC 7383 over IPv6: IKE_AUTH with certificates in fragments, no IP fragment on the wire
AUTH=pubkey OUTER=6
DAEMON="fragment_size = 1280"
check() {
  ns wan nft 'add table bridge t; add chain bridge t f { type filter hook forward priority 0; };
    add rule bridge t f ip6 nexthdr 44 counter drop; add rule bridge t f udp length > 1300 counter drop' || fail nft
  up; reach hosta 10.2.0.2; reach hosta fd00:2::2
  ns wan nft list table bridge t | grep -q 'packets [1-9]' && fail "large datagrams on the wire"; return 0
}
