//! The Identification payloads (RFC 7296 section 3.5).
//!
//! ```text
//! type 8 | reserved 24
//! data
//! ```

use super::reader::Reader;
use super::{PayloadType, WireError};

/// Who somebody claims to be. The data is any octets until it is checked against its type:
/// escape it before it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identification {
    /// ID type, see the constants.
    pub kind: u8,
    /// The reserved octets as received, zero when sent. They mean nothing, but the peer's
    /// AUTH covers them (section 2.15): compare `kind` and `data`, sign
    /// [`Identification::signed_octets`].
    pub reserved: [u8; 3],
    /// The identity.
    pub data: Vec<u8>,
}

impl Identification {
    /// IPv4 address, 4 octets.
    pub const IPV4_ADDR: u8 = 1;
    /// Fully qualified domain name.
    pub const FQDN: u8 = 2;
    /// E-mail address.
    pub const RFC822_ADDR: u8 = 3;
    /// IPv6 address, 16 octets.
    pub const IPV6_ADDR: u8 = 5;
    /// Distinguished name, DER.
    pub const DER_ASN1_DN: u8 = 9;
    /// General name, DER.
    pub const DER_ASN1_GN: u8 = 10;
    /// Opaque octets.
    pub const KEY_ID: u8 = 11;
    /// No identity (RFC 7619).
    pub const NULL: u8 = 13;

    /// An identity to be sent.
    #[must_use]
    pub const fn new(kind: u8, data: Vec<u8>) -> Self {
        Self { kind, reserved: [0; 3], data }
    }

    /// The payload without its generic header: what AUTH covers (section 2.15).
    #[must_use]
    pub fn signed_octets(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(4 + self.data.len());
        self.emit(&mut out);
        out
    }

    pub(super) fn parse(payload: PayloadType, body: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(payload, body);
        let kind = reader.u8()?;
        let reserved = reader.array()?;
        Ok(Self { kind, reserved, data: reader.rest().to_vec() })
    }

    pub(super) fn emit(&self, out: &mut Vec<u8>) {
        out.push(self.kind);
        out.extend_from_slice(&self.reserved);
        out.extend_from_slice(&self.data);
    }
}
