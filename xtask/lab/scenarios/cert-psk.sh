# asymmetric authentication: the client by PSK, the gateway by certificate
AUTH=psk LAUTH_gwb=pubkey RAUTH_gwa=pubkey LOCAL_gwb="certs = gwb.pem"
check() { up; logged gwa "authentication of 'gwb.lab' with RSA_EMSA_PKCS1_SHA2_"; settle 1 1; reach hosta 10.2.0.2; }
