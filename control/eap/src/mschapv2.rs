//! EAP-MSCHAPv2 (type 26): draft-kamath-pppext-eap-mschapv2, RFC 2759, keys of RFC 3079.
//!
//! ```text
//! server                                                          client
//!   Challenge  (16 octets, name)                             ──▶
//!                        ◀──  Response  (peer challenge, NT response, user name)
//!   Success    (S= authenticator response)  or  Failure (E=) ──▶
//!                        ◀──  Success or Failure (op code alone)
//!   EAP-Success or EAP-Failure                               ──▶
//! ```
//!
//! Old cryptography: MD4, DES and SHA-1 with a 56-bit core. Somebody who sees the exchange can
//! find the password's hash, which is why it is only ever run inside an IKE SA whose responder
//! has proved itself with a certificate first (RFC 7296 §2.16).

mod client;
mod derive;
mod message;
mod server;

pub(crate) use client::Client;
pub use derive::Password;
pub(crate) use server::Server;

/// Octets of either side's challenge (RFC 2759 §4).
pub(crate) const CHALLENGE_BYTES: usize = 16;
