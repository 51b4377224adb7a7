//! ICMP errors (RFC 792, RFC 4443).
