//! Ciphers for ESP: AES-GCM-16 (RFC 4106), ChaCha20-Poly1305 (RFC 7634), and AES-CBC with
//! HMAC-SHA2 (RFC 3602, RFC 4868) for peers that have neither.
//!
//! The only crate of the dataplane that links crypto libraries. Three back-ends for AEADs behind
//! [`xswan_esp::aead::Aead`]: our own AES-GCM, and two libraries; all pass the same vectors and
//! are compared with each other packet by packet. AES-CBC with HMAC is there once, whatever
//! back-end is asked for. A [`Key`] cannot be printed, copied or read back, and is wiped when
//! dropped.
#![deny(unsafe_code)]

mod aws_lc;
mod backend;
mod cbc_hmac;
#[cfg(test)]
mod form_tests;
mod key;
#[cfg(target_arch = "x86_64")]
mod native;
#[cfg(not(target_arch = "x86_64"))]
#[path = "absent.rs"]
mod native;
mod rust_crypto;
#[cfg(test)]
mod vectors;

pub use backend::{Backend, Form};
pub use key::{AesKeyLen, Algorithm, Hmac, Key, KeyError, Keymat};
