# shellcheck shell=bash
# DUT hooks: xswan in some gateways and another implementation, which is not strongSwan, in
# others. IKE only, as far as that implementation has no data plane here.
#
#   DUT="gwa gwb" OTHER=libreswan OTHER_gws=gwb ROOT_gwb=$(tools/peers.sh get libreswan) \
#     DUT_HOOKS=mixed.sh ./lab.sh test x-mixed
MIXED=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
OTHER_gws=${OTHER_gws:-gwb}
# shellcheck source=/dev/null
. "$MIXED/tools/$OTHER.sh"
eval "other_$(declare -f dut_start)"; eval "other_$(declare -f dut)"
# shellcheck source=hooks.sh
. "$MIXED/hooks.sh"
eval "own_$(declare -f dut_start)"; eval "own_$(declare -f dut)"
has_word() { case " $1 " in *" $2 "*) true;; *) false;; esac; }
# shellcheck disable=SC2034
DUT_LISTS=$(for g in $DUT; do has_word "$OTHER_gws" "$g" || echo -n "$g "; done)

dut_start() { if has_word "$OTHER_gws" "$1"; then other_dut_start "$1"; else own_dut_start "$1"; fi; }
dut() { if has_word "$OTHER_gws" "$1"; then other_dut "$@"; else own_dut "$@"; fi; }
dut_stop() { has_word "$OTHER_gws" "$1" || xswan_clean "$1"; }
