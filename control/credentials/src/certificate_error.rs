//! Why a certificate or key of a peer is not accepted.

use crate::escape::Escaped;
use std::fmt;
use std::time::Duration;

/// What is wrong with a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CertificateFault {
    /// Not what X.509 (RFC 5280) says; the word tells where.
    Malformed(&'static str),
    /// More octets than [`Certificate::OCTETS_MAX`](crate::Certificate::OCTETS_MAX).
    TooLong(usize),
    /// More certificates, or more octets of them, than one peer may send.
    TooMany,
    /// A CERT encoding that is not taken (RFC 7296 §3.6).
    Encoding(u8),
    /// A hash and an address to fetch from: nothing is ever fetched.
    HashAndUrl,
    /// The peer sent no certificate and none is configured for it.
    Missing,
    /// Past its notAfter, seconds since 1970.
    Expired {
        /// Seconds since 1970.
        not_after_unix_s: u64,
    },
    /// Before its notBefore, seconds since 1970.
    NotYetValid {
        /// Seconds since 1970.
        not_before_unix_s: u64,
    },
    /// On a revocation list of its issuer.
    Revoked,
    /// No revocation list covers it, and policy wants one.
    RevocationUnknown,
    /// The revocation list that covers it is out of date, and policy wants a fresh one.
    RevocationListExpired,
    /// A revocation list whose signature is not its issuer's.
    RevocationListSignature,
    /// No chain to a trusted authority.
    UnknownIssuer,
    /// The chain leads to a trusted authority, not to one accepted for this peer.
    AuthorityNotAccepted,
    /// Not one of the certificates configured for this peer.
    NotPinned,
    /// A name that the constraints of an authority exclude (RFC 5280 §4.2.1.10).
    NameConstraint,
    /// More authorities in the chain than one of them permits.
    PathLength,
    /// An extended key usage that is for something else.
    ExtendedKeyUsage,
    /// A key usage that forbids what the key is used for.
    KeyUsage,
    /// An end entity's certificate used as an authority's.
    NotAnAuthority,
    /// An authority's certificate used by a peer.
    AuthorityAsPeer,
    /// A signature in the chain that does not verify.
    BadSignature,
    /// A signature algorithm that is not supported, or not permitted by configuration.
    SignatureAlgorithm,
    /// A public key that cannot be used; the word tells why.
    PublicKey(&'static str),
    /// A public key whose type or size configuration does not permit.
    KeyNotPermitted,
    /// A critical extension nobody here understands.
    CriticalExtension,
    /// Not version 3.
    Version,
    /// Too many ways to build a chain, given up.
    TooComplex,
}

/// A certificate that is not accepted, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateError {
    /// What is wrong.
    pub fault: CertificateFault,
    /// The subject, escaped, empty if there is none to be had.
    pub subject: String,
}

impl CertificateError {
    /// Without a subject.
    #[must_use]
    pub(crate) fn bare(fault: CertificateFault) -> Self {
        Self { fault, subject: String::new() }
    }
}

/// RFC 3339, up to the year 9999.
fn date(unix_s: u64) -> String {
    let date = der::DateTime::from_unix_duration(Duration::from_secs(unix_s));
    date.map_or_else(|_| format!("{unix_s} s after 1970"), |date| date.to_string())
}

impl fmt::Display for CertificateFault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = match self {
            Self::Malformed(place) => return write!(out, "malformed certificate: {place}"),
            Self::TooLong(octets) => return write!(out, "certificate of {octets} octets"),
            Self::Encoding(kind) => return write!(out, "CERT encoding {kind} is not supported"),
            Self::Expired { not_after_unix_s } => {
                return write!(out, "certificate expired at {}", date(*not_after_unix_s));
            }
            Self::NotYetValid { not_before_unix_s } => {
                return write!(
                    out,
                    "certificate not valid before {not_before_unix_s} s since 1970"
                );
            }
            Self::PublicKey(why) => return write!(out, "public key not usable: {why}"),
            Self::TooMany => "too many certificates",
            Self::HashAndUrl => "hash and URL instead of a certificate: nothing is fetched",
            Self::Missing => "no certificate",
            Self::Revoked => "certificate revoked",
            Self::RevocationUnknown => "no revocation list covers the certificate",
            Self::RevocationListExpired => "the revocation list is out of date",
            Self::RevocationListSignature => "the revocation list is not signed by the issuer",
            Self::UnknownIssuer => "issuer unknown",
            Self::AuthorityNotAccepted => "issued by an authority not accepted for this peer",
            Self::NotPinned => "not one of the certificates configured for this peer",
            Self::NameConstraint => "name excluded by the name constraints of an authority",
            Self::PathLength => "more authorities in the chain than permitted",
            Self::ExtendedKeyUsage => "extended key usage is for something else",
            Self::KeyUsage => "key usage forbids signing",
            Self::NotAnAuthority => "not the certificate of an authority",
            Self::AuthorityAsPeer => "the certificate of an authority, used by a peer",
            Self::BadSignature => "bad signature on the certificate",
            Self::SignatureAlgorithm => "signature algorithm not supported or not permitted",
            Self::KeyNotPermitted => "type or size of the public key not permitted",
            Self::CriticalExtension => "unknown critical extension",
            Self::Version => "not an X.509 version 3 certificate",
            Self::TooComplex => "too many ways to build a chain",
        };
        out.write_str(words)
    }
}

impl fmt::Display for CertificateError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", self.fault)?;
        if self.subject.is_empty() { Ok(()) } else { write!(out, " ({})", self.subject) }
    }
}

impl std::error::Error for CertificateError {}

impl From<CertificateFault> for CertificateError {
    fn from(fault: CertificateFault) -> Self {
        Self::bare(fault)
    }
}

/// Why a file of the configuration is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileError {
    /// Neither DER nor PEM.
    NoObject,
    /// PEM that is cut off or not base64.
    Damaged,
    /// PEM of something else; what the file says it is.
    WrongObject(String),
    /// An encrypted private key.
    Encrypted,
    /// A private key that does not decode or is of no supported kind; the word tells why.
    PrivateKey(&'static str),
    /// More octets or objects than a file may have.
    TooLong,
    /// A certificate that does not decode or does not suit.
    Certificate(CertificateError),
    /// A revocation list that does not decode, or of an unsupported kind; the word tells why.
    RevocationList(&'static str),
}

impl fmt::Display for FileError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoObject => write!(out, "neither DER nor PEM"),
            Self::Damaged => write!(out, "damaged PEM"),
            Self::WrongObject(label) => {
                write!(out, "PEM of a {}, which is not wanted here", Escaped(label.as_bytes()))
            }
            Self::Encrypted => write!(
                out,
                "encrypted private keys are not supported: decrypt it (openssl pkey) and \
                 protect the file by its mode"
            ),
            Self::PrivateKey(why) => write!(out, "private key: {why}"),
            Self::TooLong => write!(out, "too large"),
            Self::Certificate(error) => write!(out, "{error}"),
            Self::RevocationList(why) => write!(out, "revocation list: {why}"),
        }
    }
}

impl std::error::Error for FileError {}

impl From<CertificateError> for FileError {
    fn from(error: CertificateError) -> Self {
        Self::Certificate(error)
    }
}

impl From<crate::pem::PemError> for FileError {
    fn from(error: crate::pem::PemError) -> Self {
        match error {
            crate::pem::PemError::Nothing => Self::NoObject,
            crate::pem::PemError::Damaged => Self::Damaged,
            crate::pem::PemError::Encrypted => Self::Encrypted,
            crate::pem::PemError::TooMany => Self::TooLong,
        }
    }
}
