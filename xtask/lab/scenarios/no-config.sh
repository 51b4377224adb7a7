# the responder has no connection for this address: refused in IKE_SA_INIT, nothing left
CONN_gwb="remote_addrs = 203.0.113.7"
check() { refused; logged gwa 'received NO_PROPOSAL_CHOSEN notify error'; }
