//! Everything that can happen to the core from outside.

use crate::wire::TrafficSelector;
use std::net::SocketAddr;

/// Number of an IKE SA within this daemon, never used again while it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IkeId(pub u32);

/// Number of a Child SA within this daemon, never used again while it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChildId(pub u32);

/// Number by which the operator's question is answered later
/// ([`crate::action::Action::Done`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RequestId(pub u64);

/// Which SAs an operator means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// All IKE SAs of a connection.
    Connection(String),
    /// One IKE SA.
    Ike(IkeId),
    /// All Child SAs of a name, of one connection or any.
    Child {
        /// The connection, if it was named.
        connection: Option<String>,
        /// The child's name.
        child: String,
    },
    /// One Child SA.
    ChildSa(ChildId),
}

/// One input.
#[derive(Clone, Debug)]
pub enum Input {
    /// A UDP datagram without the non-ESP marker (RFC 7296 section 2.23).
    Datagram {
        /// Where it arrived. The port says whether a marker goes before answers: 500 has none.
        local: SocketAddr,
        /// Where it came from.
        remote: SocketAddr,
        /// Its octets.
        octets: Vec<u8>,
    },
    /// A deadline may have passed ([`crate::Engine::deadline`]).
    Timer,
    /// Bring a connection, or one of its children, up.
    Initiate {
        /// Name of the connection; `None` if the child's name is enough.
        connection: Option<String>,
        /// Name of the child; `None`: the IKE SA alone, or all children that start.
        child: Option<String>,
        /// The packet that wants it, for the first selectors (RFC 7296 section 2.9).
        packet: Option<[TrafficSelector; 2]>,
        /// Who waits for the end of it.
        request: Option<RequestId>,
    },
    /// Close SAs.
    Terminate {
        /// Which.
        target: Target,
        /// Without waiting for the peer.
        force: bool,
        /// Who waits for the end of it.
        request: Option<RequestId>,
    },
    /// Replace SAs.
    Rekey {
        /// Which.
        target: Target,
        /// By a new authentication instead of a rekeying, for IKE SAs.
        reauthenticate: bool,
        /// Who waits for the end of it.
        request: Option<RequestId>,
    },
    /// The dataplane says that a limit of an SA is reached.
    ChildExpiry {
        /// Our SPI of the pair.
        spi_in: u32,
        /// No packet passes any more.
        hard: bool,
    },
    /// An authenticated ESP packet came from another outer address.
    PeerMoved {
        /// Our SPI of the pair.
        spi_in: u32,
        /// The new address and port.
        remote: SocketAddr,
    },
    /// The addresses that we can send from, preferred ones first. Told at the start and whenever
    /// they change.
    LocalAddresses {
        /// All of them.
        addresses: Vec<std::net::IpAddr>,
    },
    /// When ESP last arrived and left, for liveness checks and keepalives.
    ChildUse {
        /// Our SPI of the pair.
        spi_in: u32,
        /// Milliseconds since a packet was opened; `None`: never.
        idle_in_ms: Option<u64>,
        /// Milliseconds since a packet was sealed; `None`: never.
        idle_out_ms: Option<u64>,
    },
}
