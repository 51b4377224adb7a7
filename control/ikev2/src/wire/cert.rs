//! The Certificate and Certificate Request payloads (RFC 7296 sections 3.6 and 3.7).
//!
//! ```text
//! encoding 8
//! data, or SHA-1 hashes of the keys of trusted authorities
//! ```

use super::reader::Reader;
use super::{PayloadType, WireError};

/// X.509 certificate with a signature key, DER.
pub const X509_SIGNATURE: u8 = 4;
/// Hash and URL of an X.509 certificate.
pub const HASH_AND_URL: u8 = 12;
/// Hash and URL of a bundle of certificates.
pub const HASH_AND_URL_BUNDLE: u8 = 13;
/// SubjectPublicKeyInfo without a certificate (RFC 7670).
pub const RAW_PUBLIC_KEY: u8 = 15;
/// Length in bytes of an authority in a request: a SHA-1 hash.
pub const AUTHORITY_LEN: usize = 20;

/// A certificate, or where to find one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// Certificate encoding.
    pub encoding: u8,
    /// What the encoding says.
    pub data: Vec<u8>,
}

impl Certificate {
    pub(super) fn parse(body: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(PayloadType::CERT, body);
        Ok(Self { encoding: reader.u8()?, data: reader.rest().to_vec() })
    }

    pub(super) fn emit(&self, out: &mut Vec<u8>) {
        out.push(self.encoding);
        out.extend_from_slice(&self.data);
    }
}

/// Which certificates would be understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateRequest {
    /// Certificate encoding.
    pub encoding: u8,
    /// Hashes of the authorities' public keys, one after the other; may be empty.
    pub authorities: Vec<u8>,
}

impl CertificateRequest {
    /// The hashes; an incomplete one at the end is left out.
    pub fn hashes(&self) -> impl Iterator<Item = &[u8; AUTHORITY_LEN]> {
        self.authorities.as_chunks().0.iter()
    }

    pub(super) fn parse(body: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(PayloadType::CERTREQ, body);
        Ok(Self { encoding: reader.u8()?, authorities: reader.rest().to_vec() })
    }

    pub(super) fn emit(&self, out: &mut Vec<u8>) {
        out.push(self.encoding);
        out.extend_from_slice(&self.authorities);
    }
}
