//! Digital signatures in AUTH (RFC 7296 section 2.15, RFC 7427, RFC 8420, RFC 4754).
//!
//! ```text
//! method 14      ASN.1 length │ AlgorithmIdentifier │ signature
//! methods 1, 9, 10, 11                               signature
//! ```
//!
//! A peer's AlgorithmIdentifier is compared with what we know, not interpreted: an encoding
//! with something missing, added or unusual names no scheme. Keys come from certificates and
//! files and are refused outside the sizes given in [`PublicKey`].

mod algorithm_identifier;
mod der;
mod private_key;
mod public_key;
mod scheme;

use std::fmt;

pub use private_key::PrivateKey;
pub use public_key::{KeyType, PublicKey};
pub use scheme::{SignaturePolicy, SignatureScheme};

/// RSA with SHA-1, without announcement of the hash (RFC 7296 section 3.8).
pub const METHOD_RSA: u8 = 1;
/// ECDSA with SHA-256 on P-256 (RFC 4754).
pub const METHOD_ECDSA_256: u8 = 9;
/// ECDSA with SHA-384 on P-384 (RFC 4754).
pub const METHOD_ECDSA_384: u8 = 10;
/// ECDSA with SHA-512 on P-521 (RFC 4754).
pub const METHOD_ECDSA_521: u8 = 11;
/// Digital Signature (RFC 7427).
pub const METHOD_DIGITAL_SIGNATURE: u8 = 14;

/// Why a signature was not made, or not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignatureError {
    /// The key cannot be read: not DER, truncated, or with something after it.
    KeyEncoding,
    /// A kind of key, or a curve, that we do not use.
    KeyUnsupported,
    /// A key smaller or larger than we use, in bits.
    KeySize(usize),
    /// An RSA exponent that is even, 1 or of more than 33 bits.
    Exponent,
    /// Authentication Data too short for its own length octet.
    AuthData,
    /// An authentication method that is not a signature.
    Method(u8),
    /// An AlgorithmIdentifier we do not know.
    Algorithm,
    /// The scheme is known and not allowed, here or by policy.
    SchemeRefused(SignatureScheme),
    /// The key is not one the scheme works with.
    KeyMismatch(SignatureScheme),
    /// The signature is wrong.
    Invalid,
    /// The cryptographic library failed.
    Backend,
}

impl fmt::Display for SignatureError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::KeyEncoding => f.write_str("the key cannot be read"),
            Self::KeyUnsupported => {
                f.write_str("not an RSA, ECDSA (P-256, P-384, P-521) or Ed25519 key")
            }
            Self::KeySize(bits) => write!(f, "a key of {bits} bits is not accepted"),
            Self::Exponent => f.write_str("the RSA exponent is not accepted"),
            Self::AuthData => f.write_str("authentication data too short"),
            Self::Method(method) => write!(f, "authentication method {method} is no signature"),
            Self::Algorithm => f.write_str("unknown signature algorithm identifier"),
            Self::SchemeRefused(scheme) => write!(f, "{scheme} is not allowed"),
            Self::KeyMismatch(scheme) => write!(f, "the key does not fit {scheme}"),
            Self::Invalid => f.write_str("signature verification failed"),
            Self::Backend => f.write_str("signing failed"),
        }
    }
}

impl std::error::Error for SignatureError {}

/// Verifies `signature` over `data` with the key of a SubjectPublicKeyInfo.
///
/// # Errors
///
/// Any [`SignatureError`] about the key; [`SignatureError::Invalid`].
pub fn verify(
    spki: &[u8],
    scheme: SignatureScheme,
    data: &[u8],
    signature: &[u8],
) -> Result<(), SignatureError> {
    PublicKey::from_spki(spki)?.verify(scheme, data, signature)
}

/// What an AUTH payload says: by which scheme it was made, and the signature itself.
///
/// # Errors
///
/// [`SignatureError::Method`], [`SignatureError::AuthData`], [`SignatureError::Algorithm`], or
/// [`SignatureError::SchemeRefused`] by `policy`.
pub fn parse_auth<'a>(
    method: u8,
    auth_data: &'a [u8],
    policy: &SignaturePolicy,
) -> Result<(SignatureScheme, &'a [u8]), SignatureError> {
    let (scheme, signature) = match method {
        METHOD_RSA => (SignatureScheme::RsaPkcs1Sha1, auth_data),
        METHOD_ECDSA_256 => (SignatureScheme::Ecdsa256, auth_data),
        METHOD_ECDSA_384 => (SignatureScheme::Ecdsa384, auth_data),
        METHOD_ECDSA_521 => (SignatureScheme::Ecdsa521, auth_data),
        METHOD_DIGITAL_SIGNATURE => {
            let (&len, rest) = auth_data.split_first().ok_or(SignatureError::AuthData)?;
            let (algorithm, signature) =
                rest.split_at_checked(usize::from(len)).ok_or(SignatureError::AuthData)?;
            (SignatureScheme::from_algorithm_identifier(algorithm)?, signature)
        }
        other => return Err(SignatureError::Method(other)),
    };
    if scheme.hash() == crate::HashAlgorithm::Sha1 && !policy.allow_rsa_sha1 {
        return Err(SignatureError::SchemeRefused(scheme));
    }
    Ok((scheme, signature))
}

/// Authentication Data of a signature, by the method of its scheme
/// ([`SignatureScheme::auth_method`]).
#[must_use]
pub fn encode_auth(scheme: SignatureScheme, signature: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(signature.len() + 80);
    if let Some(algorithm) = scheme.algorithm_identifier() {
        // The longest identifier has 67 octets.
        out.push(u8::try_from(algorithm.len()).unwrap_or(u8::MAX));
        out.extend_from_slice(&algorithm);
    }
    out.extend_from_slice(signature);
    out
}

#[cfg(test)]
#[path = "signature/tests.rs"]
mod tests;
#[cfg(test)]
#[path = "signature/wycheproof_tests.rs"]
mod wycheproof_tests;
