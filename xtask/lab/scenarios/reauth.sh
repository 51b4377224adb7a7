# reauthentication without make-before-break: the old IKE_SA goes, a new one with the same child comes
CONN_gwa="reauth_time = 0s"
DAEMON="make_before_break = no"
check() {
  up; sw gwa --rekey --ike lab --reauth >/dev/null
  logged gwa 'reauthenticating IKE_SA lab'; sleep 0.5
  settle 1 1; sas gwb 'lab: #2, ESTABLISHED'; reach hosta 10.2.0.2; reach hostb 10.1.0.2
}
