//! A peer's public key: SubjectPublicKeyInfo in, yes or no to a signature out.

use std::fmt;

use aws_lc_rs::signature::{self as backend, UnparsedPublicKey, VerificationAlgorithm};

use super::algorithm_identifier;
use super::der::{self, Reader};
use super::{SignatureError, SignatureScheme};

/// Longest SubjectPublicKeyInfo read: RSA of 8192 bits needs 1062 octets.
const SPKI_MAX_LEN: usize = 2048;
/// RSA moduli accepted, in bits: below, the key can be broken; above, it costs us too much.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;
/// Longest RSA exponent in bits: the work to verify grows with it.
const RSA_EXPONENT_MAX_BITS: usize = 33;

/// Object identifiers of keys: rsaEncryption, id-RSASSA-PSS, id-ecPublicKey, id-Ed25519.
pub(super) const OID_RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
pub(super) const OID_RSA_PSS: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0a];
pub(super) const OID_EC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
pub(super) const OID_ED25519: &[u8] = &[0x2b, 0x65, 0x70];
/// secp256r1, secp384r1, secp521r1.
const OID_P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const OID_P384: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x22];
const OID_P521: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x23];

/// Kinds of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyType {
    /// RSA with a modulus of this many bits.
    Rsa {
        /// Bits of the modulus.
        bits: usize,
    },
    /// ECDSA on P-256.
    EcdsaP256,
    /// ECDSA on P-384.
    EcdsaP384,
    /// ECDSA on P-521.
    EcdsaP521,
    /// Ed25519.
    Ed25519,
}

impl KeyType {
    /// The curve of an EC key by the contents of its object identifier.
    pub(super) fn from_curve(oid: &[u8]) -> Option<Self> {
        match oid {
            OID_P256 => Some(Self::EcdsaP256),
            OID_P384 => Some(Self::EcdsaP384),
            OID_P521 => Some(Self::EcdsaP521),
            _ => None,
        }
    }

    /// Bits of the key, as certificates are listed.
    #[must_use]
    pub const fn bits(self) -> usize {
        match self {
            Self::Rsa { bits } => bits,
            Self::EcdsaP256 | Self::Ed25519 => 256,
            Self::EcdsaP384 => 384,
            Self::EcdsaP521 => 521,
        }
    }
}

impl fmt::Display for KeyType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rsa { bits } => write!(f, "RSA {bits} bits"),
            Self::EcdsaP256 | Self::EcdsaP384 | Self::EcdsaP521 => {
                write!(f, "ECDSA {} bits", self.bits())
            }
            Self::Ed25519 => f.write_str("Ed25519 256 bits"),
        }
    }
}

/// A public key that passed inspection: RSA of 2048 to 8192 bits with an odd exponent of 3 to
/// 2^33, an uncompressed point on P-256, P-384 or P-521, or Ed25519.
///
/// Whether a point is on its curve is checked when a signature is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    key_type: KeyType,
    /// Key made for PSS alone; the inner value narrows it to one scheme.
    pss_only: Option<Option<SignatureScheme>>,
    /// RSAPublicKey, point or octets of the key.
    key: Vec<u8>,
}

impl PublicKey {
    /// The key of a DER SubjectPublicKeyInfo (RFC 5280 section 4.1.2.7).
    ///
    /// # Errors
    ///
    /// [`SignatureError::KeyEncoding`], [`SignatureError::KeyUnsupported`],
    /// [`SignatureError::KeySize`], [`SignatureError::Exponent`].
    pub fn from_spki(spki: &[u8]) -> Result<Self, SignatureError> {
        if spki.len() > SPKI_MAX_LEN {
            return Err(SignatureError::KeyEncoding);
        }
        let (oid, parameters, key) = split_spki(spki).ok_or(SignatureError::KeyEncoding)?;
        let mut pss_only = None;
        let key_type = match oid {
            OID_RSA => {
                if !matches!(parameters, [] | [5, 0]) {
                    return Err(SignatureError::KeyEncoding);
                }
                rsa_type(key)?
            }
            OID_RSA_PSS => {
                pss_only = Some(
                    algorithm_identifier::pss_restriction(parameters)
                        .ok_or(SignatureError::KeyUnsupported)?,
                );
                rsa_type(key)?
            }
            OID_EC => {
                let mut reader = Reader::new(parameters);
                let curve =
                    reader.read(der::OBJECT_IDENTIFIER).ok_or(SignatureError::KeyEncoding)?;
                let key_type = KeyType::from_curve(curve).ok_or(SignatureError::KeyUnsupported)?;
                let point_len = 1 + 2 * key_type.bits().div_ceil(8);
                if !reader.is_empty() || key.len() != point_len || key.first() != Some(&4) {
                    return Err(SignatureError::KeyEncoding);
                }
                key_type
            }
            OID_ED25519 => {
                if !parameters.is_empty() || key.len() != 32 {
                    return Err(SignatureError::KeyEncoding);
                }
                KeyType::Ed25519
            }
            _ => return Err(SignatureError::KeyUnsupported),
        };
        Ok(Self { key_type, pss_only, key: key.to_vec() })
    }

    /// What kind of key it is.
    #[must_use]
    pub const fn key_type(&self) -> KeyType {
        self.key_type
    }

    /// Verifies `signature` over `data`.
    ///
    /// # Errors
    ///
    /// [`SignatureError::KeyMismatch`], [`SignatureError::Invalid`].
    pub fn verify(
        &self,
        scheme: SignatureScheme,
        data: &[u8],
        signature: &[u8],
    ) -> Result<(), SignatureError> {
        let allowed = match self.pss_only {
            None => true,
            Some(None) => scheme.is_pss(),
            Some(Some(only)) => scheme == only,
        };
        let algorithm = algorithm(scheme, self.key_type)
            .filter(|_| allowed)
            .ok_or(SignatureError::KeyMismatch(scheme))?;
        UnparsedPublicKey::new(algorithm, &self.key)
            .verify(data, signature)
            .map_err(|_| SignatureError::Invalid)
    }
}

/// Object identifier, parameters and key.
fn split_spki(spki: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let mut outer = der::only(spki, der::SEQUENCE)?;
    let mut algorithm = outer.enter(der::SEQUENCE)?;
    let oid = algorithm.read(der::OBJECT_IDENTIFIER)?;
    let key = outer.read_bit_string()?;
    outer.is_empty().then_some((oid, algorithm.rest(), key))
}

/// Judges an RSAPublicKey (RFC 8017 appendix A.1.1).
fn rsa_type(key: &[u8]) -> Result<KeyType, SignatureError> {
    let numbers = der::only(key, der::SEQUENCE).and_then(|mut reader| {
        let modulus = reader.read_positive()?;
        let exponent = reader.read_positive()?;
        reader.is_empty().then_some((modulus, exponent))
    });
    let (modulus, exponent) = numbers.ok_or(SignatureError::KeyEncoding)?;
    judge_rsa(modulus, exponent)
}

/// Judges modulus and exponent of a public or private key.
pub(super) fn judge_rsa(modulus: &[u8], exponent: &[u8]) -> Result<KeyType, SignatureError> {
    let odd = |number: &[u8]| number.last().is_some_and(|last| last & 1 == 1);
    let bits = bits(modulus);
    if !RSA_BITS.contains(&bits) {
        return Err(SignatureError::KeySize(bits));
    }
    if !odd(modulus) {
        return Err(SignatureError::KeyEncoding);
    }
    if !odd(exponent) || exponent == [1] || self::bits(exponent) > RSA_EXPONENT_MAX_BITS {
        return Err(SignatureError::Exponent);
    }
    Ok(KeyType::Rsa { bits })
}

/// Bits of a number without leading zero octets.
fn bits(number: &[u8]) -> usize {
    let unused = number.first().map_or(0, |first| first.leading_zeros() as usize);
    number.len() * 8 - unused
}

/// `None` if the key is not for the scheme.
fn algorithm(scheme: SignatureScheme, key: KeyType) -> Option<&'static dyn VerificationAlgorithm> {
    use KeyType::{EcdsaP256, EcdsaP384, EcdsaP521, Ed25519, Rsa};
    Some(match (scheme, key) {
        (SignatureScheme::RsaPkcs1Sha1, Rsa { .. }) => {
            &backend::RSA_PKCS1_2048_8192_SHA1_FOR_LEGACY_USE_ONLY
        }
        (SignatureScheme::RsaPkcs1Sha256, Rsa { .. }) => &backend::RSA_PKCS1_2048_8192_SHA256,
        (SignatureScheme::RsaPkcs1Sha384, Rsa { .. }) => &backend::RSA_PKCS1_2048_8192_SHA384,
        (SignatureScheme::RsaPkcs1Sha512, Rsa { .. }) => &backend::RSA_PKCS1_2048_8192_SHA512,
        (SignatureScheme::RsaPssSha256, Rsa { .. }) => &backend::RSA_PSS_2048_8192_SHA256,
        (SignatureScheme::RsaPssSha384, Rsa { .. }) => &backend::RSA_PSS_2048_8192_SHA384,
        (SignatureScheme::RsaPssSha512, Rsa { .. }) => &backend::RSA_PSS_2048_8192_SHA512,
        (SignatureScheme::EcdsaSha256, EcdsaP256) => &backend::ECDSA_P256_SHA256_ASN1,
        (SignatureScheme::EcdsaSha384, EcdsaP256) => &backend::ECDSA_P256_SHA384_ASN1,
        (SignatureScheme::EcdsaSha512, EcdsaP256) => &backend::ECDSA_P256_SHA512_ASN1,
        (SignatureScheme::EcdsaSha256, EcdsaP384) => &backend::ECDSA_P384_SHA256_ASN1,
        (SignatureScheme::EcdsaSha384, EcdsaP384) => &backend::ECDSA_P384_SHA384_ASN1,
        (SignatureScheme::EcdsaSha512, EcdsaP384) => &backend::ECDSA_P384_SHA512_ASN1,
        (SignatureScheme::EcdsaSha256, EcdsaP521) => &backend::ECDSA_P521_SHA256_ASN1,
        (SignatureScheme::EcdsaSha384, EcdsaP521) => &backend::ECDSA_P521_SHA384_ASN1,
        (SignatureScheme::EcdsaSha512, EcdsaP521) => &backend::ECDSA_P521_SHA512_ASN1,
        (SignatureScheme::Ecdsa256, EcdsaP256) => &backend::ECDSA_P256_SHA256_FIXED,
        (SignatureScheme::Ecdsa384, EcdsaP384) => &backend::ECDSA_P384_SHA384_FIXED,
        (SignatureScheme::Ecdsa521, EcdsaP521) => &backend::ECDSA_P521_SHA512_FIXED,
        (SignatureScheme::Ed25519, Ed25519) => &backend::ED25519,
        _ => return None,
    })
}
