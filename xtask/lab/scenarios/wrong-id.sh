# AUT-03: the responder authenticates as somebody the initiator did not ask for
RID_gwa=other.lab
check() { refused; blocked hosta 10.2.0.2; }
