//! The Authentication payload (RFC 7296 section 3.8).
//!
//! ```text
//! method 8 | reserved 24
//! data
//! ```

use super::reader::Reader;
use super::{PayloadType, WireError};

/// Proof of who sent the messages so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authentication {
    /// Authentication method, see the constants.
    pub method: u8,
    /// The proof.
    pub data: Vec<u8>,
}

impl Authentication {
    /// RSA signature with SHA-1.
    pub const RSA_SIGNATURE: u8 = 1;
    /// Shared key message integrity code.
    pub const SHARED_KEY: u8 = 2;
    /// ECDSA with SHA-256 on P-256 (RFC 4754).
    pub const ECDSA_256: u8 = 9;
    /// ECDSA with SHA-384 on P-384 (RFC 4754).
    pub const ECDSA_384: u8 = 10;
    /// ECDSA with SHA-512 on P-521 (RFC 4754).
    pub const ECDSA_521: u8 = 11;
    /// No authentication (RFC 7619).
    pub const NULL: u8 = 13;
    /// Digital signature with an algorithm identifier (RFC 7427).
    pub const DIGITAL_SIGNATURE: u8 = 14;

    pub(super) fn parse(body: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(PayloadType::AUTH, body);
        let [method, _, _, _] = reader.array()?;
        Ok(Self { method, data: reader.rest().to_vec() })
    }

    pub(super) fn emit(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[self.method, 0, 0, 0]);
        out.extend_from_slice(&self.data);
    }
}
