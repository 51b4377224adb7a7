#!/bin/bash
# IPsec interop lab: gateways in network namespaces, strongSwan as the peer.
# Everything stays inside namespaces named $LAB-*; `down` ends only processes
# whose pid this script recorded.
#
#            hosta            gwa --- wan (bridge) --- gwb            hostb
#   10.1.0.2/24 --- 10.1.0.1  .1 |  192.0.2.0/24   | .2  10.2.0.1 --- 10.2.0.2
#                             ::1|  2001:db8::/64  | ::2              |
#                       198.51.100.2               | .3  10.2.0.3 ----+
#                                |                gwc (second gateway, same LAN)
#                               nat (masquerades 198.51.100.0/24 as 192.0.2.9)
#
# A scenario (scenarios/NAME.sh) sets a few variables and defines check(). README.md has
# the list of variables and of what check() may call.
set -u
HERE=$(cd "$(dirname "$0")" && pwd)
LAB=${LAB:-xswan-lab}                       # namespace prefix: one per concurrent lab
DIR=${LAB_DIR:-/run/$LAB}               # state: configs, logs, pids, vici sockets
NSES="wan nat gwa gwb gwc hosta hostb"
DUT=${DUT:-}                            # gateways that run your daemon instead of charon
[ -n "${DUT_HOOKS:-}" ] && . "$DUT_HOOKS"   # defines dut_start GW (record pids with
                                        # track) and dut GW swanctl-like-args...
# kernel-libipsec goes before kernel-netlink (the first one gets the SAs), openssl before
# aes and gcm: software GCM is 13 times slower
BASE_LOAD="random nonce openssl aesni pem pkcs1 pkcs8 x509 pubkey constraints \
revocation hmac sha1 sha2 kdf drbg curve25519 vici socket-default attr \
eap-identity eap-md5 eap-mschapv2 eap-tls"

for c in ip nft openssl ping sysctl swanctl ethtool; do
  command -v $c >/dev/null || { echo "lab: $c is missing (packages: see README.md)" >&2; exit 1; }
done
die() { echo "lab: $*" >&2; exit 1; }
ns() { local n=$1; shift; ip netns exec "$LAB-$n" "$@"; }
has() { case " $1 " in *" $2 "*) true;; *) false;; esac; }

# --- topology ---------------------------------------------------------------
link() {  # ns if ns if
  ip -n "$LAB-$1" link add "$2" type veth peer name "$4" netns "$LAB-$3"
  ip -n "$LAB-$1" link set "$2" up; ip -n "$LAB-$3" link set "$4" up
  if [ -n "$DUT" ]; then   # AF_XDP sees what veth hands over: no unfinished checksums, no 64 KB frames
    ns "$1" ethtool -K "$2" tx off tso off gso off gro off >/dev/null 2>&1
    ns "$3" ethtool -K "$4" tx off tso off gso off gro off >/dev/null 2>&1
  fi
}
addr() {  # ns if addr...
  local n=$1 i=$2 a; shift 2
  for a; do
    case $a in
      *:*) ip -n "$LAB-$n" addr add "$a" dev "$i" nodad;;
      *) ip -n "$LAB-$n" addr add "$a" dev "$i";;
    esac
  done
}
net_up() {
  local n
  for n in $NSES; do
    ip netns add "$LAB-$n" || die "cannot create namespace $LAB-$n"
    ip -n "$LAB-$n" link set lo up
    ns "$n" sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 \
      net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0 \
      net.ipv6.conf.all.accept_dad=0 net.ipv6.conf.default.accept_dad=0
  done
  ip -n "$LAB-wan" link add br0 type bridge; ip -n "$LAB-wan" link set br0 up
  ip -n "$LAB-hostb" link add br0 type bridge; ip -n "$LAB-hostb" link set br0 up
  for n in gwa gwb gwc nat; do
    link "$n" wan wan "$n"; ip -n "$LAB-wan" link set "$n" master br0
  done
  link gwa lan hosta lan; link gwa priv nat priv
  for n in gwb gwc; do link "$n" lan hostb "$n"; ip -n "$LAB-hostb" link set "$n" master br0; done
  addr gwa wan 192.0.2.1/24 2001:db8::1/64; addr gwa lan 10.1.0.1/24 fd00:1::1/64
  addr gwb wan 192.0.2.2/24 2001:db8::2/64; addr gwb lan 10.2.0.1/24 fd00:2::1/64
  addr gwc wan 192.0.2.3/24 2001:db8::3/64; addr gwc lan 10.2.0.3/24 fd00:2::3/64
  addr nat wan 192.0.2.9/24; addr nat priv 198.51.100.1/24
  addr gwa priv 198.51.100.2/24
  addr hosta lan 10.1.0.2/24 fd00:1::2/64; addr hostb br0 10.2.0.2/24 fd00:2::2/64
  ip -n "$LAB-gwa" route add default via 198.51.100.1 metric 1000
  ip -n "$LAB-hosta" route add default via 10.1.0.1
  ip -n "$LAB-hosta" -6 route add default via fd00:1::1
  ip -n "$LAB-hostb" route add default via 10.2.0.1
  ip -n "$LAB-hostb" -6 route add default via fd00:2::1
  ns nat nft 'add table ip n; add chain ip n p { type nat hook postrouting priority 100; };
    add rule ip n p oifname "wan" ip saddr 198.51.100.0/24 masquerade'
}
net_down() { local n; for n in $NSES; do ip netns del "$LAB-$n" 2>/dev/null; done; }

# --- credentials (made once, kept in $DIR/pki) --------------------------------
pki_up() {
  local d=$DIR/pki g; [ -f "$d/done" ] && return
  mkdir -p "$d"
  ( cd "$d" || exit 1
    openssl req -x509 -newkey rsa:2048 -nodes -sha256 -days 3650 -keyout ca.key -out ca.pem \
      -subj "/O=lab/CN=lab CA" -addext keyUsage=critical,keyCertSign,cRLSign
    for g in gwa gwb gwc; do
      openssl req -newkey rsa:2048 -nodes -keyout $g.key -out $g.csr -subj "/O=lab/CN=$g.lab"
      printf 'subjectAltName=DNS:%s.lab\nextendedKeyUsage=serverAuth,clientAuth\n' $g > $g.ext
      openssl x509 -req -in $g.csr -CA ca.pem -CAkey ca.key -CAcreateserial -sha256 \
        -days 3650 -extfile $g.ext -out $g.pem
    done
    touch done ) >/dev/null 2>&1 || die "making certificates failed"
}

# --- credentials of a scenario's own: for its function credentials GW SWANCTL-DIRECTORY ------
a_key() {  # name type: $DIR/pki/NAME.key; large ones take seconds to make, so they are kept
  local kept=$DIR/pki/$1-$2.key; [ -s "$kept" ] || new_key "$2" >"$kept"; cp "$kept" "$DIR/pki/$1.key"
}
new_key() {  # rsa3072 p256 p384 p521 ed25519
  case $1 in
    rsa*) openssl genpkey -algorithm RSA -pkeyopt "rsa_keygen_bits:${1#rsa}";;
    p*) openssl genpkey -algorithm EC -pkeyopt "ec_paramgen_curve:P-${1#p}" -pkeyopt ec_param_enc:named_curve;;
    *) openssl genpkey -algorithm "$1";;
  esac 2>/dev/null
}
authority() {  # name key [issuer]: $DIR/pki/NAME.pem, made once a run; without an issuer it is a root
  local d=$DIR/pki; [ -f "$d/$1.made-$BASHPID" ] && return
  a_key "$1" "$2"
  openssl req -new -key "$d/$1.key" -subj "/O=lab/CN=$1" >"$d/$1.csr"
  printf 'basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash\n' >"$d/$1.ext"
  sign "$1" "${3:-}" -days 3650 && rm -f "$d/$1".made-* && touch "$d/$1.made-$BASHPID"
}
sign() {  # name issuer openssl-x509-options: NAME.csr, NAME.ext -> NAME.pem
  local d=$DIR/pki n=$1 by=$2; shift 2
  set -- -req -in "$d/$n.csr" -extfile "$d/$n.ext" -out "$d/$n.pem" "$@"
  if [ -z "$by" ]; then openssl x509 "$@" -signkey "$d/$n.key"
  else openssl x509 "$@" -CA "$d/$by.pem" -CAkey "$d/$by.key" -CAcreateserial; fi >"$d/openssl" 2>&1 ||
    { cat "$d/openssl"; fail "openssl: $n"; }
}
certify() {  # gateway directory authority key [openssl-x509-options]: the gateway gets a new certificate
  local g=$1 to=$2 by=$3 n=own-$1 d=$DIR/pki; a_key "$n" "$4"; shift 4
  openssl req -new -key "$d/$n.key" -subj "/O=lab/CN=$g.lab" >"$d/$n.csr"
  printf 'subjectAltName=DNS:%s.lab\nextendedKeyUsage=serverAuth,clientAuth\n' "${SAN:-$g}" >"$d/$n.ext"
  [ $# -gt 0 ] || set -- -days 3650
  sign "$n" "$by" "$@"; cp "$d/$n.pem" "$to/x509/$g.pem"; cp "$d/$n.key" "$to/private/$g.key"
}
trust() { local to=$1 n; shift; rm -f "$to"/x509ca/*; for n; do cp "$DIR/pki/$n.pem" "$to/x509ca/"; done; }
revocation() {  # directory authority [certificate.pem...]: a list of what the authority has revoked
  local to=$1 by=$2 d=$DIR/pki c; shift 2
  rm -f "$d"/index.txt*; : >"$d/index.txt"
  printf '[ca]\ndefault_ca=a\n[a]\ndatabase=%s\ndefault_md=sha256\ncrl_extensions=e\n[e]\nauthorityKeyIdentifier=keyid:always\n' \
    "$d/index.txt" >"$d/ca.cnf"
  set -- "$@" ""
  for c; do
    if [ -n "$c" ]; then set -- -revoke "$c"; else set -- -gencrl -crldays 30 -out "$to/x509crl/$by.crl"; fi
    openssl ca -config "$d/ca.cnf" -cert "$d/$by.pem" -keyfile "$d/$by.key" "$@" >"$d/openssl" 2>&1 || { cat "$d/openssl"; fail "openssl ca"; }
  done
}

# --- configuration ------------------------------------------------------------
outer() { local n=1; [ "$1" = gwb ] && n=2; [ "$1" = gwc ] && n=3
          [ "${OUTER:-4}" = 6 ] && echo "2001:db8::$n" || echo "192.0.2.$n"; }
var() { local v="${1}_${2}"; echo "${!v:-${3:-}}"; }   # per-gateway scenario variable, default
swanctl_conf() {  # gateway -> swanctl.conf on stdout, from the scenario's variables
  local g=$1 local_ts="10.2.0.0/24,fd00:2::/64" remote_ts="10.1.0.0/24,fd00:1::/64" raddr rid a
  if [ "$g" = gwa ]; then
    a=$local_ts; local_ts=$remote_ts; remote_ts=$a; raddr=$(outer gwb); rid=gwb.lab
  else
    raddr=%any; rid=gwa.lab
  fi
  raddr=$(var RADDR "$g" "$raddr")
  [ "${AUTH:-psk}" = pubkey ] && a="certs = $g.pem" || a=""
  cat <<E
connections {
  lab {
    version = 2
    local_addrs = $(var LADDR "$g" "$(outer "$g")")
    remote_addrs = $raddr
    proposals = $(var IKE "$g" "${IKE:-aes128gcm16-prfsha256-x25519}")
    $(var CONN "$g")
    local-1 { auth = $(var LAUTH "$g" "${AUTH:-psk}")
      id = $g.lab
      $a
      $(var LOCAL "$g") }
    remote-1 { auth = $(var RAUTH "$g" "${AUTH:-psk}")
      id = $(var RID "$g" "$rid")
      $(var REMOTE "$g") }
    $(var MORE "$g")
    children {
      net {
        local_ts = $(var LTS "$g" "$local_ts")
        remote_ts = $(var RTS "$g" "$remote_ts")
        esp_proposals = ${ESP:-aes128gcm16-x25519}
        $(var CHILD "$g")
      }
    }
  }
}
secrets {
  ike { secret = "$(var PSK "$g" "lab psk")" }
  eap { id = alice
        secret = "lab eap" }
  ${SECRETS:-}
}
${POOLS:-}
E
}
strongswan_conf() {  # gateway
  local g=$1 d=$DIR/$1
  cat <<E
charon-systemd {
  load = $BASE_LOAD $([ "${KERNEL:-}" = fake ] || echo kernel-libipsec) kernel-netlink ${LOAD:-}
  retransmit_timeout = 1
  retransmit_base = 1
  retransmit_tries = 4
  ${DAEMON:-}
  $(var DAEMON "$g")
  plugins {
    vici { socket = unix://$d/vici }
    ${PLUGINS:-}
  }
  journal { default = -1 }
  filelog {     # net or esp at 2 log every ESP packet: never when measuring
    lab {
      path = $d/log
      time_format = %T
      time_add_ms = yes
      ike_name = yes
      flush_line = yes
      default = 1
      ike = 2
      ${LOG:-}
    }
  }
}
swanctl {
  load = random openssl pem pkcs1 pkcs8 x509 pubkey
  socket = unix://$d/vici
}
E
}

# --- daemons --------------------------------------------------------------------
sw() {  # gateway swanctl-args...
  local g=$1; shift
  if has "$DUT" "$g"; then dut "$g" "$@"; return; fi
  STRONGSWAN_CONF=$DIR/$g/strongswan.conf SWANCTL_DIR=$DIR/$g/swanctl swanctl "$@" 2>&1
}
gw_up() {  # gateway; ROOT_<gw>=DIR runs the charon of another Debian tree (tools/peers.sh);
           # KERNEL=fake: kernel-netlink on tools/fakekernel.c, IKE without a data plane
  local g=$1 d=$DIR/$1 i root charon=/usr/sbin/charon-systemd; root=$(var ROOT "$g")
  if [ "${KERNEL:-}" = fake ]; then
    NODATA=1 charon="env LD_PRELOAD=$DIR/fakekernel.so $charon"
    [ -f "$DIR/fakekernel.so" ] || cc -O1 -shared -fPIC -o "$DIR/fakekernel.so" "$HERE/tools/fakekernel.c"
  fi
  rm -rf "$d"; mkdir -p "$d/swanctl/private" "$d/swanctl/x509" "$d/swanctl/x509ca" \
    "$d"/swanctl/{pubkey,x509aa,x509ac,x509ocsp,x509crl,rsa,ecdsa,bliss,pkcs8,pkcs12}
  cp "$DIR/pki/ca.pem" "$d/swanctl/x509ca"; cp "$DIR/pki/$g.pem" "$d/swanctl/x509"
  cp "$DIR/pki/$g.key" "$d/swanctl/private"
  strongswan_conf "$g" > "$d/strongswan.conf"
  swanctl_conf "$g" > "$d/swanctl/swanctl.conf"
  ! declare -F credentials >/dev/null || credentials "$g" "$d/swanctl"
  if has "$DUT" "$g"; then ! declare -F dut_start >/dev/null || dut_start "$g"; return; fi
  if [ -n "$root" ]; then    # mounts are private to the process: ip netns exec unshares them
    mkdir -p "$root$DIR"
    STRONGSWAN_CONF=$d/strongswan.conf ip netns exec "$LAB-$g" sh -c "mount --bind $DIR $root$DIR &&
      mount --bind /dev $root/dev && mount -t proc proc $root/proc &&
      exec chroot $root $charon" >"$d/out" 2>&1 &
  else
    STRONGSWAN_CONF=$d/strongswan.conf ip netns exec "$LAB-$g" $charon >"$d/out" 2>&1 &
  fi
  track $! charon-systemd   # ip netns exec and chroot exec, so this is charon's own pid
  for i in $(seq 50); do [ -S "$d/vici" ] && break; sleep 0.05; done
  sw "$g" --load-all > "$d/load" || { cat "$d/load" "$d/out" >&2; return 1; }
}
track() { echo "$1 $2" >> "$DIR/pids"; disown; }   # pid comm: to be ended by down
gws_term() {  # signal every recorded process; reap() waits for them
  local pid comm
  while read -r pid comm; do
    [ "$(cat /proc/"$pid"/comm 2>/dev/null)" = "$comm" ] && kill "$pid" && echo "$pid" >> "$DIR/dying"
  done 2>/dev/null < "$DIR/pids"
  rm -f "$DIR/pids"
}
reap() {  # charon needs up to 2 s to release its sockets and TUN device
  local pid i
  for pid in $(cat "$DIR/dying" 2>/dev/null); do
    for i in $(seq 100); do [ -d /proc/"$pid" ] || continue 2; sleep 0.05; done
    kill -9 "$pid"
  done
  rm -f "$DIR/dying"
}

# --- assertions for check() --------------------------------------------------------
fail() { echo "    FAILED: $*"; exit 1; }
log() { cat "$DIR/$1/log" 2>/dev/null; }
logged() {  # gateway regex [seconds]; a DUT's log is its own business
  local i; has "$DUT" "$1" && return
  for i in $(seq $(( ${3:-5} * 10 ))); do log "$1" | grep -qE -- "$2" && return; sleep 0.1; done
  fail "$1 never logged: $2"
}
not_logged() { log "$1" | grep -E -- "$2" && fail "$1 logged: $2"; return 0; }
sas() { has "$DUT" "$1" && return; sw "$1" --list-sas | grep -qE -- "$2" || { sw "$1" --list-sas; fail "$1 has no SA: $2"; }; }
up() { sw "${1:-gwa}" --initiate --child net --timeout 15 > "$DIR/initiate" || { cat "$DIR/initiate"; fail "initiate"; }; }
reach() {  # from to; NODATA=1 for peers that only speak IKE
  local i; [ -z "${NODATA:-}" ] || return 0
  for i in 1 2 3; do ns "$1" ping -c1 -W1 -q "$2" >/dev/null 2>&1 && return; done
  fail "$1 cannot ping $2"
}
blocked() { ns "$1" ping -c1 -W1 -q "$2" >/dev/null 2>&1 && fail "$1 unexpectedly reaches $2"; return 0; }

all_sas() {  # gateway; nothing from a DUT that is not in DUT_LISTS: those whose list reads like swanctl's
  has "$DUT" "$1" && ! has "${DUT_LISTS:-}" "$1" && return 1
  sw "$1" --list-sas
}
settle() {  # IKE_SAs CHILD_SAs [gateway...]: within 12 s each has exactly so many, all in use;
          # LINGER=1: of charon's own, those it has replaced and waits for the peer to delete do not
          # count, nor children it has deleted and not put away: its timer looks for them in an IKE_SA
          # that may have been rekeyed since
  local ike=$1 child=$2 g i now; shift 2
  [ $# -gt 0 ] || set -- gwa gwb
  for g; do
    for i in $(seq 120); do
      now=$(all_sas "$g") || continue 2
      settled "$g" "$ike" "$child" "$now" && continue 2
      sleep 0.1
    done
    echo "$now"; fail "$g has not settled at $ike IKE_SA(s) and $child CHILD_SA(s)"
  done
}
settled() {  # gateway IKE_SAs CHILD_SAs list
  local lines; lines() { grep -cE "$1" <<<"$2"; }
  local deleted=0; [ -n "${LINGER:-}" ] && ! has "$DUT" "$1" && deleted=$(lines '^  [^ ]+: #[0-9].* DELETED' "$4")
  [ "$(lines '^[^ ].*ESTABLISHED' "$4")" = "$2" ] || return
  [ "$(lines '^  [^ ]+: #[0-9]' "$4")" = "$(($3 + deleted))" ] && [ "$(lines '^  [^ ]+: #[0-9].* INSTALLED' "$4")" = "$3" ] || return
  [ -n "${LINGER:-}" ] && ! has "$DUT" "$1" || [ "$(lines '^[^ ]' "$4")" = "$2" ]
}
empty() { settle 0 0 "$@"; }   # [gateway...]: no SA is left behind
refused() {  # [gateway]: initiation fails, says so in time, and leaves nothing on either side
  sw "${1:-gwa}" --initiate --child net --timeout 10 >"$DIR/initiate" && { cat "$DIR/initiate"; fail "established"; }
  empty
}
rekey() {  # gateway, --child net or --ike lab
  local g=$1; shift
  sw "$g" --rekey "$@" >"$DIR/rekey" && grep -q 'completed successfully' "$DIR/rekey" && return
  cat "$DIR/rekey"; fail "$g: rekey $*"
}
lose() {  # condition [condition]: the bridge drops those IKE messages (not ESP) that meet it;
          # the second is for what comes from gwb, and the two count on their own
  ns wan nft "add table bridge lose; add chain bridge lose f { type filter hook forward priority 0; }" || fail "nft in the bridge"
  lose_from 'iifname != "gwb"' forth "$1"; lose_from 'iifname "gwb"' back "${2:-$1}"
}
lose_from() {  # 4500 is entered only by what has the non-ESP marker and is no keepalive
  ns wan nft "add chain bridge lose $2; add rule bridge lose $2 $3 counter drop;
    add rule bridge lose f $1 udp dport 500 jump $2;
    add rule bridge lose f $1 udp dport 4500 udp length > 12 @th,64,32 0 jump $2" || fail "nft in the bridge"
}
lost() {  # ends what lose began; something must have been dropped
  local n; n=$(ns wan nft list table bridge lose | grep -oE 'packets [0-9]+' | awk '{ n += $2 } END { print n + 0 }')
  ns wan nft delete table bridge lose; [ "$n" -gt 0 ] || fail "nothing was lost"
}
steady() {  # from to command...: a ping every 50 ms while the command runs, none may be lost
  local from=$1 to=$2 pid r; shift 2
  if [ -n "${NODATA:-}" ]; then "$@"; return; fi
  ip netns exec "$LAB-$from" ping -n -i 0.05 "$to" >"$DIR/ping" 2>&1 &
  pid=$!; "$@"; r=$?
  sleep 0.5; kill -INT $pid; wait $pid
  awk '/icmp_seq=/ { n++; split($0, a, "icmp_seq="); last = a[2] + 0 } / packets transmitted/ { sent = $1 }
    END { exit !(n > 2 && n == last && sent - last < 5) }' "$DIR/ping" || { tail -n 4 "$DIR/ping"; fail "packets were lost"; }
  return $r
}

# --- commands -------------------------------------------------------------------------
load_scenario() { [ -f "$HERE/scenarios/$1.sh" ] || die "no scenario $1"; . "$HERE/scenarios/$1.sh"; }
cmd_down() {
  local g; gws_term; net_down; reap
  for g in $DUT; do ! declare -F dut_stop >/dev/null || dut_stop "$g"; done
}
cmd_up() {
  local g; load_scenario "$1"; gws_term; net_down; mkdir -p "$DIR"; pki_up; net_up
  ! declare -F topology >/dev/null || topology
  for g in ${GWS:-gwa gwb}; do gw_up "$g" || return 1; done
}
run_one() (  # a subshell: scenario variables and functions do not leak
  cmd_up "$1" && check
)
cmd_test() {
  local s pass=0 failn=0 t list="$*"
  [ -n "$list" ] || list=$(cd "$HERE/scenarios" && ls ./*.sh | sed 's,./,,;s,\.sh$,,' | grep -v '^x-')
  for s in $list; do
    t=$(date +%s%N)
    if run_one "$s"; then pass=$((pass+1)); r=ok; else failn=$((failn+1)); r=FAIL; fi
    printf '%-4s %-16s %4d ms\n' $r "$s" $(( ($(date +%s%N)-t)/1000000 ))
    [ $r = FAIL ] && [ -n "${KEEP:-}" ] && break
  done
  [ "$failn" -gt 0 ] && [ -n "${KEEP:-}" ] || cmd_down
  echo "$pass passed, $failn failed"; [ "$failn" = 0 ]
}
case ${1:-} in
  up) cmd_up "${2:-psk4}";;
  down) cmd_down;;
  test) shift; cmd_test "$@";;
  sw) shift; sw "$@";;
  ns) shift; ns "$@";;
  log) log "$2";;
  *) die "usage: lab.sh up [scenario] | down | test [scenario...] | sw GW swanctl-args | ns NAME cmd | log GW";;
esac
