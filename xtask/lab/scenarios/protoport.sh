# selectors with a protocol: ICMP is tunnelled, TCP between the same hosts is not
LTS_gwa='10.1.0.0/24[icmp]' RTS_gwa='10.2.0.0/24[icmp]' LTS_gwb='10.2.0.0/24[icmp]' RTS_gwb='10.1.0.0/24[icmp]'
check() {
  up; sas gwb '10.2.0.0/24\[icmp\]'; reach hosta 10.2.0.2; reach hostb 10.1.0.2
  ns hostb timeout 4 python3 -c 'import socket; s=socket.create_server(("10.2.0.2", 7777)); s.accept()' 2>/dev/null &
  sleep 0.3
  ns hosta timeout 2 python3 -c 'import socket; socket.create_connection(("10.2.0.2", 7777), 1)' 2>/dev/null && fail "TCP got through"
  return 0
}
