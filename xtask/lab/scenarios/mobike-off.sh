# neither side does MOBIKE and nothing is translated: the IKE_SA stays on port 500
DAEMON="delete_rekeyed_delay = 1"
KERNEL=fake CONN_gwa="mobike = no" CONN_gwb="mobike = no"
check() {
  up; sas gwa '192.0.2.2.\[500\]|192.0.2.2\[500\]'; sas gwb '192.0.2.1\[500\]'
  rekey gwa --child net; rekey gwb --ike lab; settle 1 1; sas gwb '192.0.2.1\[500\]'
}
