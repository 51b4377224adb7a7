# shellcheck shell=bash
# DUT hooks: xswan in one or several gateways of the lab.
#
#   DUT="gwa gwb" DUT_HOOKS=hooks.sh ./lab.sh test psk4 mobike
#
# Takes from lab.sh only what it promises to every hook: $LAB, $DIR/GW/swanctl, the
# namespaces $LAB-GW and track(). The options of charon a scenario sets are read from
# $DIR/GW/strongswan.conf and become our [ike] section where we have the same option.
#
#   XSWAN_BIN_DIR    where the three programs are (else target/debug of this tree)
#   XSWAN_LAB_CORES  cores of the workers, as in [cores] (else at most two that we may use)
#   XSWAN_LAB_BPF    folder on bpffs that takes the instances' pins
#   RUST_LOG         as for the daemons
#
# Left in $DIR/GW: xswan.toml, log (control), dataplane.log, dut (what was asked and said).

XSWAN_HOOKS=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
XSWAN_LAB_BPF=${XSWAN_LAB_BPF:-/sys/fs/bpf/xswan-lab}
# shellcheck disable=SC2034  # for lab.sh: the `list-sas` of these gateways reads like swanctl's
DUT_LISTS=$DUT

# charon's options that our [ike] section has under the same name.
XSWAN_IKE_OPTIONS="cookie_threshold cookie_threshold_ip block_threshold init_limit_half_open \
half_open_timeout retransmit_timeout retransmit_base retransmit_tries fragment_size keep_alive \
delete_rekeyed_delay make_before_break install_virtual_ip install_routes follow_redirects"
# Those that say nothing about the protocol, or only how charon itself is built or logs.
XSWAN_SILENT_OPTIONS="load threads processor port port_nat_t user group install_virtual_ip_on \
prefer_configured_proposals signature_authentication_constraints"

# gateway -> name of the instance: 15 octets at most, of a-z 0-9 _ -
xswan_instance() {
  local name=$LAB-$1
  case $name in
    *[!a-z0-9_-]* | ????????????????*) name=x$(printf %s "$LAB" | cksum | cut -d' ' -f1)-$1;;
  esac
  printf %s "$name"
}

xswan_program() {  # name -> path
  local folder
  for folder in "${XSWAN_BIN_DIR:-}" "${CARGO_TARGET_DIR:+$CARGO_TARGET_DIR/debug}" \
      "$XSWAN_HOOKS/../../target/debug" "$XSWAN_HOOKS/../../target/release"; do
    [ -n "$folder" ] && [ -x "$folder/$1" ] && { echo "$folder/$1"; return; }
  done
  echo "hooks: $1 has not been built (XSWAN_BIN_DIR says where to look)" >&2; return 1
}

# At most two of the cores this shell may use, as a list for [cores].
xswan_cores() {
  local list
  list=$(awk '/^Cpus_allowed_list:/ {
    n = split($2, part, ",")
    for (i = 1; i <= n; i++) {
      split(part[i], end, "-"); last = end[2] == "" ? end[1] : end[2]
      for (c = end[1] + 0; c <= last + 0 && found < 2; c++) { printf "%s%d", found++ ? "," : "", c }
    }
  }' /proc/self/status)
  echo "${list:-0}"
}

# strongswan.conf -> its `key value` lines directly below charon or charon-systemd, and
# `plugin/key value` for those of plugins; the last of several wins, as in charon.
xswan_charon_options() {
  sed -e 's/#.*//' -e 's/[{}]/\n&\n/g' "$1" | awk '
    { gsub(/^[ \t]+|[ \t\r]+$/, "") }
    $0 == "" { next }
    $0 == "{" { path[++depth] = pending; pending = ""; next }
    $0 == "}" { depth--; pending = ""; next }
    {
      cut = index($0, "=")
      if (!cut) { pending = $0; next }
      key = substr($0, 1, cut - 1); value = substr($0, cut + 1)
      gsub(/[ \t]+$/, "", key); gsub(/^[ \t]+/, "", value); gsub(/^"|"$/, "", value)
      if (path[1] !~ /^charon(-systemd)?$/) next
      if (depth == 1) name = key
      else if (depth >= 3 && path[2] == "plugins") name = path[3] "/" key
      else next
      if (!(name in seen)) order[++count] = name
      seen[name] = value
    }
    END { for (i = 1; i <= count; i++) print order[i], seen[order[i]] }'
}

# `key value` lines -> the [ike] section; what has no counterpart is named on standard error.
xswan_ike_section() {  # gateway, file
  local key value
  echo "[ike]"
  while read -r key value; do
    case $key in
      vici/*) continue;;
      */*) echo "hooks: $1: no counterpart of plugins.${key/\//.} = $value" >&2; continue;;
    esac
    case " $XSWAN_SILENT_OPTIONS " in *" $key "*) continue;; esac
    case " $XSWAN_IKE_OPTIONS " in
      *" $key "*) xswan_toml_value "$key" "$value";;
      *) echo "hooks: $1: no counterpart of charon's $key = $value" >&2;;
    esac
  done < <(xswan_charon_options "$2")
}

xswan_toml_value() {
  case $2 in
    yes|true|enabled|on) echo "$1 = true";;
    no|false|disabled|off) echo "$1 = false";;
    *[!0-9.]* | '' | *.*.*) echo "$1 = \"$2\"";;
    .*) echo "$1 = 0$2";;
    *) echo "$1 = $2";;
  esac
}

# The gateway's devices with their roles; only those it has (a scenario may add some).
xswan_devices() {
  local name role
  ip -n "$LAB-$1" -o link show type veth | sed 's/^[0-9]*: \([^:@]*\).*/\1/' | while read -r name; do
    case $name in lan*) role=inner;; *) role=outer;; esac
    # Without offloads: AF_XDP would be handed unfinished checksums and 64 KB frames.
    nsenter --net="/run/netns/$LAB-$1" ethtool -K "$name" tx off rx off tso off gso off gro off >/dev/null 2>&1
    printf '\n[[device]]\nname = "%s"\nrole = "%s"\n' "$name" "$role"
  done
}

xswan_config() {  # gateway -> base configuration on stdout
  local g=$1 cores; cores=${XSWAN_LAB_CORES:-$(xswan_cores)}
  cat <<E
[instance]
name = "$(xswan_instance "$g")"
run_dir = "$DIR/$g/run"
bpf_dir = "$XSWAN_LAB_BPF"

[cores]
main = ${cores%%[!0-9]*}
workers = "$cores"

[dataplane]
wait = "sleep"
huge_pages = "off"
frames_per_worker = 4096
tun = "ipsec0"

E
  xswan_ike_section "$g" "$DIR/$g/strongswan.conf"
  xswan_devices "$g"
}

# Daemons of ours that a former start left, in this gateway's namespace or in one of the same
# name that is gone: none of them may say goodbye to its peers, so they are killed and
# waited for. What is no xswan with this gateway's configuration is left alone.
xswan_kill_leftovers() {
  local pid i
  for pid in $(cat "$DIR/xswan-$1.pids" 2>/dev/null; ip netns pids "$LAB-$1" 2>/dev/null); do
    tr '\0' '\n' 2>/dev/null <"/proc/$pid/cmdline" | grep -qxF "$DIR/$1/xswan.toml" || continue
    case $(cat "/proc/$pid/comm" 2>/dev/null) in
      xswan-control | xswan-dataplane) kill -9 "$pid" 2>/dev/null;;
      *) continue;;
    esac
    for i in $(seq 100); do [ -d "/proc/$pid" ] || break; sleep 0.05; done
  done
  rm -f "$DIR/xswan-$1.pids"
}

# What an instance leaves behind: pins of its maps and links, and the routes, addresses and
# locks that went with its run directory.
xswan_clean() {  # gateway
  local pins; pins=$XSWAN_LAB_BPF/$(xswan_instance "$1")
  xswan_kill_leftovers "$1"
  [ -d "$pins" ] && rm -rf "$pins"
  rm -rf "$DIR/$1/run"
  ip -n "$LAB-$1" link del ipsec0 2>/dev/null
  return 0
}

dut_stop() { xswan_clean "$1"; }   # our lab.sh calls it when everything is down

xswan_tell() {  # gateway: why it does not run
  echo "hooks: $1: $2; the end of its logs:" >&2
  tail -n 12 "$DIR/$1/log" "$DIR/$1/dataplane.log" >&2
}

dut_start() {  # gateway
  local g=$1 d=$DIR/$1 file=$DIR/$1/xswan.toml i control dataplane xswan net=/run/netns/$LAB-$1
  xswan=$(xswan_program xswan) || return 1
  xswan_program xswan-control >/dev/null && xswan_program xswan-dataplane >/dev/null || return 1
  if ! grep -q ' /sys/fs/bpf bpf ' /proc/self/mounts; then mount -t bpf bpf /sys/fs/bpf || return 1; fi
  xswan_clean "$g"
  mkdir -p "$d/run" "$XSWAN_LAB_BPF"
  xswan_config "$g" > "$file"; chmod 600 "$file"
  # Private keys and secrets must be nobody else's to read.
  chmod -R go-rwx "$d/swanctl"

  # nsenter and not `ip netns exec`, which would mount another /sys and hide bpffs.
  nsenter --net="$net" "$(xswan_program xswan-control)" --config "$file" \
    --swanctl "$d/swanctl" >"$d/log" 2>&1 </dev/null &
  control=$!; track $control xswan-control
  nsenter --net="$net" "$(xswan_program xswan-dataplane)" --config "$file" >"$d/dataplane.log" 2>&1 </dev/null &
  dataplane=$!; track $dataplane xswan-dataplane
  printf '%s\n' $control $dataplane >"$DIR/xswan-$g.pids"
  for i in $(seq 400); do
    "$xswan" --config "$file" status >"$d/status" 2>&1 && return 0
    [ -d /proc/$control ] || { xswan_tell "$g" "xswan-control has ended"; return 1; }
    [ -d /proc/$dataplane ] || { xswan_tell "$g" "xswan-dataplane has ended"; return 1; }
    sleep 0.05
  done
  cat "$d/status" >&2; xswan_tell "$g" "not healthy after 20 s"; return 1
}

# Our command understands swanctl's spelling; here is only what it has nothing to do for.
dut() {  # gateway, then what one would tell swanctl
  local g=$1 xswan; shift
  xswan=$(xswan_program xswan) || return 1
  case ${1:-} in
    --flush-certs | -f | --reload-settings | -r) return 0;;   # neither cached nor read by us
    --load-* | -q | -c | -s | -a | -b) chmod -R go-rwx "$DIR/$g/swanctl";;
  esac
  echo "\$ $*" >>"$DIR/$g/dut"
  timeout 120 "$xswan" --config "$DIR/$g/xswan.toml" "$@" 2>&1 </dev/null | tee -a "$DIR/$g/dut"
  return "${PIPESTATUS[0]}"
}
