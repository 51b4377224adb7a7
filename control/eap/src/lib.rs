//! EAP inside IKE_AUTH (RFC 7296 §2.16, RFC 3748), both roles, without any IO.
//!
//! [`Server`] authenticates phones and desktops that dial in; [`Client`] is xswan as the
//! initiator that authenticates so. Each is fed one EAP packet at a time, the contents of one
//! IKE EAP payload, and answers with what to send or how it ended. Two methods, both of which
//! make an MSK: MSCHAPv2 (type 26) with a password, TLS (type 13) with certificates.
//!
//! May assume: the IKE exchange delivers requests and responses in turn; it retransmits, and
//! a packet repeated octet for octet is answered as it was before. The rate of conversations is
//! limited outside.
//!
//! Guarantees: no octets from a peer cause a panic, or an allocation larger than what arrived;
//! a conversation ends after [`MAX_ROUNDS`] packets; success is reported to the client only
//! after its method has finished (an early EAP-Success is a failure); an unknown user and a
//! wrong password are answered alike, by the same computation; secrets are wiped and unprinted.
//!
//! Whom the peer may then be is the caller's to decide, from [`Peer`]: in particular a TLS
//! certificate has to be matched against the identity that was claimed (AUT-03).
#![forbid(unsafe_code)]

mod client;
mod mschapv2;
mod packet;
mod reason;
mod server;
pub mod tls;

pub use client::{Client, ClientConfig, ClientConfigError, ClientStep, ClientTls};
pub use mschapv2::Password;
pub use reason::Reason;
pub use server::{Peer, Server, ServerConfig, ServerHost, ServerMethod, ServerStep};

/// Packets either role takes before it gives up. A TLS flight of 64 KiB in fragments of 1 KiB
/// needs 64; a wrong setting of a few octets per fragment must end at some point.
pub const MAX_ROUNDS: u32 = 100;

/// Longest identity or user name taken, octets. RFC 7542 §2.2 expects 253 to be survived.
pub const MAX_IDENTITY_BYTES: usize = 1020;
