# RFC 6023: the initiator insists, the responder does not offer it: no SA
CONN_gwa="childless = force" CONN_gwb="childless = never"
DAEMON="half_open_timeout = 5"
check() { refused; blocked hosta 10.2.0.2; }
