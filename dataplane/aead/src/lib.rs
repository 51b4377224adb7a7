//! Ciphers for ESP: AES-GCM-16 (RFC 4106) and ChaCha20-Poly1305 (RFC 7634).
//!
//! The only crate of the dataplane that links crypto libraries. Two back-ends, one file each,
//! behind [`xswan_esp::aead::Aead`]; both pass the same vectors and are compared with each
//! other packet by packet. A [`Key`] cannot be printed, copied or read back, and is wiped
//! when dropped.
#![forbid(unsafe_code)]

mod aws_lc;
mod key;
mod rust_crypto;
#[cfg(test)]
mod vectors;

pub use key::{Algorithm, Backend, Key, KeyError, Keymat};
