//! EAP-TLS (type 13): RFC 5216 with TLS 1.2, RFC 9190 with TLS 1.3.
//!
//! ```text
//! server                                                   client
//!   Start                                             ──▶
//!                                                     ◀──  ClientHello
//!   ServerHello .. (certificate, request for one)     ──▶
//!                                                     ◀──  certificate, proof, Finished
//!   TLS 1.2: Finished; TLS 1.3: one octet 00 of data  ──▶
//!                                                     ◀──  (empty)
//!   EAP-Success                                       ──▶
//! ```
//!
//! A message longer than a packet travels in fragments, each acknowledged by an empty packet
//! (RFC 5216 §2.1.5). The octet of TLS 1.3 says that the server will send nothing more in the
//! handshake (RFC 9190 §2.5); the client does not succeed without it.
//!
//! Both sides always show a certificate. Chains are checked against anchors given by the
//! caller, at a time given by the caller; names are not checked here, and revocation is not:
//! the chain is handed out for both. There is no resumption: a ticket would authenticate
//! without a certificate (RFC 9190 §5.7).
//!
//! TLS 1.2 is taken without the extended master secret too (RFC 7627): peers in the field do
//! not offer it. The suites are ephemeral and their points checked, so nobody in between can
//! give two sessions one master secret and know it.

mod client;
mod credential;
mod fragment;
mod server;
mod session;
mod verify;

pub(crate) use client::Client;
pub use credential::{
    ClientCredential, CredentialError, OwnCertificate, ServerCredential, Versions,
};
pub(crate) use server::Server;

/// Fragment size that fits an IKE message into the smallest IPv6 MTU, after headers, and that
/// other implementations use as well. Octets of a whole EAP packet.
pub const DEFAULT_FRAGMENT_BYTES: usize = 1024;

/// Smallest fragment size; less is raised to this. Octets of a whole EAP packet.
pub const MIN_FRAGMENT_BYTES: usize = 64;

/// Longest TLS flight taken or sent, octets. Four full records; certificate chains of post-
/// quantum signatures fit, and so does what [`MAX_ROUNDS`](crate::MAX_ROUNDS) fragments carry.
pub const MAX_MESSAGE_BYTES: usize = 64 * 1024;
