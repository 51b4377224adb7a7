# the subject's distinguished name as identity, accepted by a pattern
AUTH=pubkey LOCAL_gwa='id = "O=lab, CN=gwa.lab"' RID_gwb='"O=lab, CN=*"' LOCAL_gwb='id = "O=lab, CN=gwb.lab"' RID_gwa='"O=lab, CN=gwb.lab"'
check() { up; sas gwb "remote 'O=lab, CN=gwa.lab'"; settle 1 1; reach hosta 10.2.0.2; }
