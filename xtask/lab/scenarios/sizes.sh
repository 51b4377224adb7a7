# packets from the smallest to ones that must be fragmented, in both directions and both families
check() {
  local n; up
  for n in 0 1 100 1000 1300 1400 3000; do
    ns hosta ping -q -c 2 -i 0.1 -W 1 -s $n 10.2.0.2 >/dev/null || fail "$n octets from hosta"
    ns hostb ping -q -c 2 -i 0.1 -W 1 -s $n 10.1.0.2 >/dev/null || fail "$n octets from hostb"
  done
  ns hosta ping -q -c 2 -i 0.1 -W 1 -s 1200 fd00:2::2 >/dev/null || fail "1200 octets over IPv6"
}
