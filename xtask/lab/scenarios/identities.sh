# identities of other kinds: an e-mail address on one side, an IP address on the other, both with PSK
LOCAL_gwa="id = alice@gwa.lab" RID_gwb="alice@gwa.lab" LOCAL_gwb="id = 192.0.2.2" RID_gwa=192.0.2.2
check() { up; sas gwb "remote 'alice@gwa.lab'"; sas gwa "remote '192.0.2.2'"; settle 1 1; reach hosta 10.2.0.2; }
