//! Signature schemes: what they are called, and which hash and method they go with.

use std::fmt;

use super::{
    METHOD_DIGITAL_SIGNATURE, METHOD_ECDSA_256, METHOD_ECDSA_384, METHOD_ECDSA_521, METHOD_RSA,
};
use crate::HashAlgorithm;

/// How a signature is made: algorithm, hash and form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SignatureScheme {
    /// Method 1. Verified only where policy allows it, never made.
    RsaPkcs1Sha1,
    /// RSASSA-PKCS1-v1_5 with SHA2-256.
    RsaPkcs1Sha256,
    /// RSASSA-PKCS1-v1_5 with SHA2-384.
    RsaPkcs1Sha384,
    /// RSASSA-PKCS1-v1_5 with SHA2-512.
    RsaPkcs1Sha512,
    /// RSASSA-PSS with SHA2-256 and a salt of 32 octets.
    RsaPssSha256,
    /// RSASSA-PSS with SHA2-384 and a salt of 48 octets.
    RsaPssSha384,
    /// RSASSA-PSS with SHA2-512 and a salt of 64 octets.
    RsaPssSha512,
    /// ECDSA with SHA2-256, DER, any curve.
    EcdsaSha256,
    /// ECDSA with SHA2-384, DER, any curve.
    EcdsaSha384,
    /// ECDSA with SHA2-512, DER, any curve.
    EcdsaSha512,
    /// Method 9: P-256 with SHA2-256, r and s side by side.
    Ecdsa256,
    /// Method 10: P-384 with SHA2-384, r and s side by side.
    Ecdsa384,
    /// Method 11: P-521 with SHA2-512, r and s side by side.
    Ecdsa521,
    /// Ed25519 (RFC 8420).
    Ed25519,
}

impl SignatureScheme {
    /// Every scheme.
    pub const ALL: [Self; 14] = [
        Self::RsaPkcs1Sha1,
        Self::RsaPkcs1Sha256,
        Self::RsaPkcs1Sha384,
        Self::RsaPkcs1Sha512,
        Self::RsaPssSha256,
        Self::RsaPssSha384,
        Self::RsaPssSha512,
        Self::EcdsaSha256,
        Self::EcdsaSha384,
        Self::EcdsaSha512,
        Self::Ecdsa256,
        Self::Ecdsa384,
        Self::Ecdsa521,
        Self::Ed25519,
    ];

    /// Its name in logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::RsaPkcs1Sha1 => "RSA_EMSA_PKCS1_SHA1",
            Self::RsaPkcs1Sha256 => "RSA_EMSA_PKCS1_SHA2_256",
            Self::RsaPkcs1Sha384 => "RSA_EMSA_PKCS1_SHA2_384",
            Self::RsaPkcs1Sha512 => "RSA_EMSA_PKCS1_SHA2_512",
            Self::RsaPssSha256 => "RSA_EMSA_PSS_SHA2_256_SALT_32",
            Self::RsaPssSha384 => "RSA_EMSA_PSS_SHA2_384_SALT_48",
            Self::RsaPssSha512 => "RSA_EMSA_PSS_SHA2_512_SALT_64",
            Self::EcdsaSha256 => "ECDSA_WITH_SHA256_DER",
            Self::EcdsaSha384 => "ECDSA_WITH_SHA384_DER",
            Self::EcdsaSha512 => "ECDSA_WITH_SHA512_DER",
            Self::Ecdsa256 => "ECDSA-256",
            Self::Ecdsa384 => "ECDSA-384",
            Self::Ecdsa521 => "ECDSA-521",
            Self::Ed25519 => "ED25519",
        }
    }

    /// The hash a peer must have announced in SIGNATURE_HASH_ALGORITHMS for method 14.
    #[must_use]
    pub const fn hash(self) -> HashAlgorithm {
        match self {
            Self::RsaPkcs1Sha1 => HashAlgorithm::Sha1,
            Self::RsaPkcs1Sha256 | Self::RsaPssSha256 | Self::EcdsaSha256 | Self::Ecdsa256 => {
                HashAlgorithm::Sha256
            }
            Self::RsaPkcs1Sha384 | Self::RsaPssSha384 | Self::EcdsaSha384 | Self::Ecdsa384 => {
                HashAlgorithm::Sha384
            }
            Self::RsaPkcs1Sha512 | Self::RsaPssSha512 | Self::EcdsaSha512 | Self::Ecdsa521 => {
                HashAlgorithm::Sha512
            }
            Self::Ed25519 => HashAlgorithm::Identity,
        }
    }

    /// The authentication method of the AUTH payload.
    #[must_use]
    pub const fn auth_method(self) -> u8 {
        match self {
            Self::RsaPkcs1Sha1 => METHOD_RSA,
            Self::Ecdsa256 => METHOD_ECDSA_256,
            Self::Ecdsa384 => METHOD_ECDSA_384,
            Self::Ecdsa521 => METHOD_ECDSA_521,
            Self::RsaPkcs1Sha256
            | Self::RsaPkcs1Sha384
            | Self::RsaPkcs1Sha512
            | Self::RsaPssSha256
            | Self::RsaPssSha384
            | Self::RsaPssSha512
            | Self::EcdsaSha256
            | Self::EcdsaSha384
            | Self::EcdsaSha512
            | Self::Ed25519 => METHOD_DIGITAL_SIGNATURE,
        }
    }

    /// Whether this is RSASSA-PSS.
    #[must_use]
    pub const fn is_pss(self) -> bool {
        matches!(self, Self::RsaPssSha256 | Self::RsaPssSha384 | Self::RsaPssSha512)
    }
}

impl fmt::Display for SignatureScheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What an operator lets peers do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SignaturePolicy {
    /// Accept RSA signatures over SHA-1: method 1, or announced by sha1WithRSAEncryption. Off
    /// unless an old peer leaves no choice (RFC 8247 section 3.1).
    pub allow_rsa_sha1: bool,
}
