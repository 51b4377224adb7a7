//! What a peer sent in its CERT payloads (RFC 7296 §3.6), within bounds.

use crate::certificate::Certificate;
use crate::certificate_error::{CertificateError, CertificateFault};
use crate::raw_public_key::RawPublicKey;

/// CERT encodings: X.509 signature, and those that are understood or left alone.
const X509_SIGNATURE: u8 = 4;
const REVOCATION_LIST: u8 = 7;
const AUTHORITY_REVOCATION_LIST: u8 = 8;
const ATTRIBUTE: u8 = 10;
const HASH_AND_URL: std::ops::RangeInclusive<u8> = 12..=13;
/// RFC 7670.
const RAW_PUBLIC_KEY: u8 = 15;

/// The certificates of one peer; the first is its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerCertificates {
    pub(crate) certificates: Vec<Certificate>,
    pub(crate) raw_key: Option<RawPublicKey>,
}

impl PeerCertificates {
    /// Most CERT payloads looked at.
    pub const CERTIFICATES_MAX: usize = 10;
    /// Most octets in all of them.
    pub const OCTETS_MAX: usize = 64 * 1024;

    /// Decodes CERT payloads, each an encoding and what follows it, in the order received.
    ///
    /// Revocation lists and attribute certificates are left unread.
    ///
    /// # Errors
    /// More than the bounds above, before anything is decoded; hash and URL; other encodings;
    /// anything that does not decode.
    pub fn from_payloads<'a>(
        payloads: impl IntoIterator<Item = (u8, &'a [u8])>,
    ) -> Result<Self, CertificateError> {
        let payloads: Vec<_> = payloads.into_iter().take(Self::CERTIFICATES_MAX + 1).collect();
        let octets: usize = payloads.iter().map(|(_, data)| data.len()).sum();
        if payloads.len() > Self::CERTIFICATES_MAX || octets > Self::OCTETS_MAX {
            return Err(CertificateFault::TooMany.into());
        }
        let mut all = Self::default();
        for (encoding, data) in payloads {
            match encoding {
                X509_SIGNATURE => all.certificates.push(Certificate::from_der(data)?),
                RAW_PUBLIC_KEY if all.raw_key.is_none() => {
                    all.raw_key = Some(RawPublicKey::from_spki(data)?);
                }
                RAW_PUBLIC_KEY => return Err(CertificateFault::TooMany.into()),
                REVOCATION_LIST | AUTHORITY_REVOCATION_LIST | ATTRIBUTE => {}
                _ if HASH_AND_URL.contains(&encoding) => {
                    return Err(CertificateFault::HashAndUrl.into());
                }
                _ => return Err(CertificateFault::Encoding(encoding).into()),
            }
        }
        Ok(all)
    }

    /// The peer's own certificate.
    #[must_use]
    pub fn end_entity(&self) -> Option<&Certificate> {
        self.certificates.first()
    }

    /// The raw public key, if the peer sent one.
    #[must_use]
    pub fn raw_key(&self) -> Option<&RawPublicKey> {
        self.raw_key.as_ref()
    }

    /// Whether the peer sent nothing to look at.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.certificates.is_empty() && self.raw_key.is_none()
    }
}
