# extended sequence numbers offered by one side and not allowed by the other: the SA comes up without them
KERNEL=fake CHILD_gwa="esp_proposals = aes128gcm16-esn-noesn" CHILD_gwb="esp_proposals = aes128gcm16-noesn"
check() { up; sas gwa 'INSTALLED, TUNNEL, ESP:AES_GCM_16-128$'; sas gwb 'ESP:AES_GCM_16-128$'; }
