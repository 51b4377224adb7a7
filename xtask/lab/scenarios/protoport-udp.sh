# selectors with ports, narrowed to what the responder allows: one UDP service through the tunnel, its neighbour not
LTS_gwa='10.1.0.0/24[udp]' RTS_gwa='10.2.0.0/24[udp/7000-7100]' LTS_gwb='10.2.0.0/24[udp/7007]' RTS_gwb='10.1.0.0/24[udp]'
ask() { ns hosta timeout 3 python3 -c 'import socket,sys
s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM); s.settimeout(0.7); s.connect(("10.2.0.2",int(sys.argv[1])))
for i in range(3):
  s.send(b"x")
  try: s.recv(9); sys.exit(0)
  except OSError: pass
sys.exit(1)' "$1"; }
check() {
  up; sas gwa 'remote 10.2.0.0/24\[udp/(7007|afs3-bos)\]'
  ns hostb timeout 10 python3 -c 'import socket,select
r=[]
for p in (7007, 7008):
  s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM); s.bind(("10.2.0.2",p)); r.append(s)
while True:
  for s in select.select(r,[],[])[0]: b,a=s.recvfrom(9); s.sendto(b,a)' 2>/dev/null &
  sleep 0.4
  ask 7007 || fail "UDP 7007 does not pass"; ask 7008 && fail "UDP 7008 passes"
  blocked hosta 10.2.0.2
}
