# AUT-04: the responder's certificate has expired: the initiator gives up and tells it, nothing left behind
AUTH=pubkey
credentials() { [ "$1" = gwa ] || certify gwb "$2" ca rsa2048 -days -1; }
check() { refused; logged gwa 'certificate invalid|expired|not valid'; blocked hosta 10.2.0.2; }
