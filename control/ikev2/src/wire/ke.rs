//! The Key Exchange payload (RFC 7296 section 3.4).
//!
//! ```text
//! method 16 | reserved 16
//! data
//! ```

use super::reader::Reader;
use super::{PayloadType, WireError};

/// A public value. Whether its length fits the method is judged by the key exchange.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyExchange {
    /// Key exchange method: a transform ID of type 4.
    pub method: u16,
    /// The public value.
    pub data: Vec<u8>,
}

impl KeyExchange {
    pub(super) fn parse(body: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(PayloadType::KE, body);
        let method = reader.u16()?;
        let _reserved = reader.u16()?;
        Ok(Self { method, data: reader.rest().to_vec() })
    }

    pub(super) fn emit(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.method.to_be_bytes());
        out.extend_from_slice(&[0, 0]);
        out.extend_from_slice(&self.data);
    }
}
