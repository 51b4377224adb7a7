#!/bin/bash
# Other IKE peers as Debian trees for ROOT_<gateway>: peers.sh get NAME [DIR]
#   strongswan-6   Debian 13: strongSwan 6.0 (raw ESP, RFC 9370) and OpenIKED
#   strongswan-sid Debian sid: newest strongSwan (ML-KEM, RFC 9611); moves with sid
#   libreswan      Debian 13: libreswan 5 (conflicts with strongSwan, so a tree of its own)
# Each takes one or two minutes and 300 MB; needs the package debootstrap.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
ss=strongswan-swanctl,charon-systemd,libcharon-extra-plugins,libcharon-extauth-plugins
ss=$ss,libstrongswan-standard-plugins,libstrongswan-extra-plugins
[ "${1:-}" = get ] || { sed -n '2,6p' "$0"; exit 1; }
dir=${3:-/var/cache/xswan-lab/$2}
[ -x "$dir/.ready" ] && { echo "$dir"; exit; }
case $2 in
  strongswan-6) suite=trixie pkgs=$ss,openiked;;
  strongswan-sid) suite=sid pkgs=$ss;;
  libreswan) suite=trixie pkgs=libreswan,bind9-host,iproute2,procps;;
  *) echo "unknown peer $2" >&2; exit 1;;
esac
rm -rf "$dir"; mkdir -p "$dir"
debootstrap --variant=minbase --include=$pkgs $suite "$dir" >"$dir.log" 2>&1 || { tail -3 "$dir.log" >&2; exit 1; }
cc -O1 -shared -fPIC -o "$dir/usr/lib/fakekernel.so" "$here/fakekernel.c"
install -m 755 /dev/null "$dir/.ready"
echo "$dir"
