# for mixed.sh: xswan against an implementation without a data plane; both SAs negotiated, then
# rekeyed from either side, and the IKE_SA ended
NODATA=1
check() {
  local g
  up; settle 1 1
  for g in ${REKEY_BY:-$DUT}; do
    sw "$g" --rekey --child net | grep -q 'completed successfully' || fail "$g child rekey"
    sleep 1; settle 1 1
    sw "$g" --rekey --ike lab | grep -q 'completed successfully' || fail "$g ike rekey"
    sleep 1; settle 1 1
  done
  for g in $DUT_LISTS; do
    sw "$g" --terminate --ike lab >/dev/null || fail "$g terminate"
    # An initiator that revives what its peer has closed is there again at once.
    if [ -n "${REVIVES:-}" ]; then settle 1 1 "$g"; else settle 0 0 "$g"; fi
    break
  done
}
