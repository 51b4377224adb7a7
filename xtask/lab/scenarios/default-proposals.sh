# neither side names a proposal: the defaults of both have something in common that works
IKE=default CHILD_gwa="esp_proposals = default" CHILD_gwb="esp_proposals = default"
check() { up; settle 1 1; reach hosta 10.2.0.2; rekey gwa --child net; rekey gwb --ike lab; reach hostb 10.1.0.2; }
