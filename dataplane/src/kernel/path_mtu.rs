//! "Fragmentation needed" and "packet too big" from the untrusted side.
//!
//! Anyone can send them, so they are believed only as far as they cannot hurt: they must
//! quote an ESP packet of one of our SAs with a recent sequence number, they can only
//! lower the MTU, never below the floor, and what they taught is forgotten after a while
//! (RFC 4301 section 8.2.1, RFC 8201).

use std::io::{self, Read};

use socket2::{Domain, Protocol, Socket, Type};
use xswan_wire::icmp::{self, TooBig};

/// The sockets that the kernel hands ICMP errors to.
pub struct IcmpSockets {
    v4: Socket,
    v6: Socket,
}

impl IcmpSockets {
    /// Opens one raw socket for each family.
    ///
    /// # Errors
    /// Without CAP_NET_RAW.
    pub fn open() -> io::Result<Self> {
        let open = |domain, protocol| {
            let socket = Socket::new(domain, Type::RAW, Some(protocol))?;
            socket.set_nonblocking(true)?;
            io::Result::Ok(socket)
        };
        Ok(Self {
            v4: open(Domain::IPV4, Protocol::ICMPV4)?,
            v6: open(Domain::IPV6, Protocol::ICMPV6)?,
        })
    }

    /// Takes what has arrived, at most `limit` messages, and calls `found` for each that
    /// quotes an ESP packet.
    pub fn poll(&mut self, limit: usize, mut found: impl FnMut(TooBig)) {
        let mut buffer = [0; 2048];
        for _ in 0..limit {
            let Ok(len) = self.v4.read(&mut buffer) else { break };
            // A raw IPv4 socket delivers the IP header too.
            if let Some(message) = buffer.get(..len).and_then(icmp::parse_too_big4) {
                found(message);
            }
        }
        for _ in 0..limit {
            let Ok(len) = self.v6.read(&mut buffer) else { break };
            if let Some(message) = buffer.get(..len).and_then(icmp::parse_too_big6) {
                found(message);
            }
        }
    }
}
