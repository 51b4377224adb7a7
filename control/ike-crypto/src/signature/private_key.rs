//! Our own keys: read from files, asked to sign.

use std::fmt;

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa;
use aws_lc_rs::signature::{self as backend, EcdsaKeyPair, Ed25519KeyPair, KeyPair};

use super::der::{self, Reader};
use super::public_key::{KeyType, OID_EC, OID_ED25519, OID_RSA, judge_rsa};
use super::{SignatureError, SignatureScheme, encode_auth};
use crate::HashAlgorithm;

/// A private key. Wiped by the cryptographic library when dropped.
pub struct PrivateKey {
    key_type: KeyType,
    inner: Inner,
}

enum Inner {
    Rsa(Box<rsa::KeyPair>),
    /// One pair per form of the signature: the back-end binds it to the key.
    Ecdsa {
        der: EcdsaKeyPair,
        fixed: EcdsaKeyPair,
    },
    Ed25519(Ed25519KeyPair),
}

impl PrivateKey {
    /// A key in unencrypted DER: PKCS#8 (RFC 5208, RFC 5958), PKCS#1 (RSA) or SEC1 (RFC 5915,
    /// with its curve).
    ///
    /// The caller wipes `octets`.
    ///
    /// # Errors
    ///
    /// [`SignatureError::KeyEncoding`] also for a key whose parts contradict each other;
    /// [`SignatureError::KeyUnsupported`], [`SignatureError::KeySize`],
    /// [`SignatureError::Exponent`].
    pub fn from_der(octets: &[u8]) -> Result<Self, SignatureError> {
        match Container::read(octets).ok_or(SignatureError::KeyEncoding)? {
            Container::Pkcs8 { oid: OID_RSA, key, .. } => Self::rsa(key),
            Container::Pkcs8 { oid: OID_EC, parameters, .. } => {
                let curve = Reader::new(parameters)
                    .read(der::OBJECT_IDENTIFIER)
                    .ok_or(SignatureError::KeyEncoding)?;
                Self::ecdsa(curve, octets)
            }
            Container::Pkcs8 { oid: OID_ED25519, .. } => {
                let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(octets)
                    .map_err(|_| SignatureError::KeyEncoding)?;
                Ok(Self { key_type: KeyType::Ed25519, inner: Inner::Ed25519(pair) })
            }
            Container::Pkcs8 { .. } => Err(SignatureError::KeyUnsupported),
            Container::Pkcs1 => Self::rsa(octets),
            Container::Sec1 { curve } => Self::ecdsa(curve, octets),
        }
    }

    /// What kind of key it is.
    #[must_use]
    pub const fn key_type(&self) -> KeyType {
        self.key_type
    }

    /// The DER SubjectPublicKeyInfo of the public half, as certificates hold it.
    ///
    /// # Errors
    ///
    /// [`SignatureError::Backend`].
    pub fn public_spki(&self) -> Result<Vec<u8>, SignatureError> {
        let spki: Result<PublicKeyX509Der<'_>, _> = match &self.inner {
            Inner::Rsa(pair) => pair.public_key().as_der(),
            Inner::Ecdsa { der, .. } => der.public_key().as_der(),
            Inner::Ed25519(pair) => pair.public_key().as_der(),
        };
        spki.map(|der| der.as_ref().to_vec()).map_err(|_| SignatureError::Backend)
    }

    /// The schemes this key signs with, best understood by peers first.
    #[must_use]
    pub const fn schemes(&self) -> &'static [SignatureScheme] {
        match self.key_type {
            KeyType::Rsa { .. } => &[
                SignatureScheme::RsaPkcs1Sha256,
                SignatureScheme::RsaPkcs1Sha384,
                SignatureScheme::RsaPkcs1Sha512,
                SignatureScheme::RsaPssSha256,
                SignatureScheme::RsaPssSha384,
                SignatureScheme::RsaPssSha512,
            ],
            KeyType::EcdsaP256 => &[SignatureScheme::EcdsaSha256, SignatureScheme::Ecdsa256],
            KeyType::EcdsaP384 => &[SignatureScheme::EcdsaSha384, SignatureScheme::Ecdsa384],
            KeyType::EcdsaP521 => &[SignatureScheme::EcdsaSha512, SignatureScheme::Ecdsa521],
            KeyType::Ed25519 => &[SignatureScheme::Ed25519],
        }
    }

    /// The scheme to sign with.
    ///
    /// `peer_hashes` is what the peer announced in SIGNATURE_HASH_ALGORITHMS; `None` if it
    /// announced nothing, which leaves methods 9 to 11 and an RSA key without a scheme.
    /// `preference` lists the schemes configuration allows, best first; empty is
    /// [`PrivateKey::schemes`].
    #[must_use]
    pub fn choose_scheme(
        &self,
        peer_hashes: Option<&[HashAlgorithm]>,
        preference: &[SignatureScheme],
    ) -> Option<SignatureScheme> {
        let usable = |scheme: &SignatureScheme| {
            let announced = scheme.algorithm_identifier().is_some();
            match peer_hashes {
                Some(hashes) => announced && hashes.contains(&scheme.hash()),
                None => !announced,
            }
        };
        let order = if preference.is_empty() { self.schemes() } else { preference };
        order.iter().find(|scheme| self.schemes().contains(scheme) && usable(scheme)).copied()
    }

    /// Signs `data`.
    ///
    /// # Errors
    ///
    /// [`SignatureError::KeyMismatch`] for a scheme not in [`PrivateKey::schemes`],
    /// [`SignatureError::Backend`].
    pub fn sign(&self, scheme: SignatureScheme, data: &[u8]) -> Result<Vec<u8>, SignatureError> {
        if !self.schemes().contains(&scheme) {
            return Err(SignatureError::KeyMismatch(scheme));
        }
        let random = SystemRandom::new();
        let signature = match &self.inner {
            Inner::Rsa(pair) => {
                let encoding = rsa_encoding(scheme).ok_or(SignatureError::KeyMismatch(scheme))?;
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(encoding, &random, data, &mut signature)
                    .map_err(|_| SignatureError::Backend)?;
                return Ok(signature);
            }
            Inner::Ecdsa { der, .. } if scheme.algorithm_identifier().is_some() => {
                der.sign(&random, data)
            }
            Inner::Ecdsa { fixed, .. } => fixed.sign(&random, data),
            Inner::Ed25519(pair) => pair.try_sign(data),
        };
        signature.map(|octets| octets.as_ref().to_vec()).map_err(|_| SignatureError::Backend)
    }

    /// Signs `data` for an AUTH payload: its method and its Authentication Data.
    ///
    /// # Errors
    ///
    /// As [`PrivateKey::sign`].
    pub fn sign_auth(
        &self,
        scheme: SignatureScheme,
        data: &[u8],
    ) -> Result<(u8, Vec<u8>), SignatureError> {
        let signature = self.sign(scheme, data)?;
        Ok((scheme.auth_method(), encode_auth(scheme, &signature)))
    }

    /// `key` is an RSAPrivateKey (RFC 8017 appendix A.1.2).
    fn rsa(key: &[u8]) -> Result<Self, SignatureError> {
        let (modulus, exponent) = rsa_numbers(key).ok_or(SignatureError::KeyEncoding)?;
        let key_type = judge_rsa(modulus, exponent)?;
        let pair = rsa::KeyPair::from_der(key).map_err(|_| SignatureError::KeyEncoding)?;
        Ok(Self { key_type, inner: Inner::Rsa(Box::new(pair)) })
    }

    fn ecdsa(curve: &[u8], octets: &[u8]) -> Result<Self, SignatureError> {
        let key_type = KeyType::from_curve(curve).ok_or(SignatureError::KeyUnsupported)?;
        let (der, fixed) = match key_type {
            KeyType::EcdsaP256 => (
                &backend::ECDSA_P256_SHA256_ASN1_SIGNING,
                &backend::ECDSA_P256_SHA256_FIXED_SIGNING,
            ),
            KeyType::EcdsaP384 => (
                &backend::ECDSA_P384_SHA384_ASN1_SIGNING,
                &backend::ECDSA_P384_SHA384_FIXED_SIGNING,
            ),
            KeyType::EcdsaP521 => (
                &backend::ECDSA_P521_SHA512_ASN1_SIGNING,
                &backend::ECDSA_P521_SHA512_FIXED_SIGNING,
            ),
            KeyType::Rsa { .. } | KeyType::Ed25519 => return Err(SignatureError::KeyUnsupported),
        };
        let pair = |algorithm| {
            EcdsaKeyPair::from_private_key_der(algorithm, octets)
                .map_err(|_| SignatureError::KeyEncoding)
        };
        Ok(Self { key_type, inner: Inner::Ecdsa { der: pair(der)?, fixed: pair(fixed)? } })
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PrivateKey").field("key_type", &self.key_type).finish_non_exhaustive()
    }
}

/// What kind of file the octets are from.
enum Container<'a> {
    Pkcs8 { oid: &'a [u8], parameters: &'a [u8], key: &'a [u8] },
    Pkcs1,
    Sec1 { curve: &'a [u8] },
}

impl<'a> Container<'a> {
    fn read(octets: &'a [u8]) -> Option<Self> {
        let mut outer = der::only(octets, der::SEQUENCE)?;
        let version = outer.read(der::INTEGER)?;
        match (version, outer.rest().first().copied()?) {
            ([0 | 1], der::SEQUENCE) => {
                let mut algorithm = outer.enter(der::SEQUENCE)?;
                let oid = algorithm.read(der::OBJECT_IDENTIFIER)?;
                let key = outer.read(der::OCTET_STRING)?;
                Some(Self::Pkcs8 { oid, parameters: algorithm.rest(), key })
            }
            ([0], der::INTEGER) => Some(Self::Pkcs1),
            ([1], der::OCTET_STRING) => {
                outer.read(der::OCTET_STRING)?;
                let curve = outer.enter(der::CONTEXT_0)?.read(der::OBJECT_IDENTIFIER)?;
                Some(Self::Sec1 { curve })
            }
            _ => None,
        }
    }
}

/// Modulus and public exponent of an RSAPrivateKey.
fn rsa_numbers(key: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut reader = der::only(key, der::SEQUENCE)?;
    if reader.read(der::INTEGER)? != [0] {
        return None;
    }
    Some((reader.read_positive()?, reader.read_positive()?))
}

fn rsa_encoding(scheme: SignatureScheme) -> Option<&'static dyn backend::RsaEncoding> {
    match scheme {
        SignatureScheme::RsaPkcs1Sha256 => Some(&backend::RSA_PKCS1_SHA256),
        SignatureScheme::RsaPkcs1Sha384 => Some(&backend::RSA_PKCS1_SHA384),
        SignatureScheme::RsaPkcs1Sha512 => Some(&backend::RSA_PKCS1_SHA512),
        SignatureScheme::RsaPssSha256 => Some(&backend::RSA_PSS_SHA256),
        SignatureScheme::RsaPssSha384 => Some(&backend::RSA_PSS_SHA384),
        SignatureScheme::RsaPssSha512 => Some(&backend::RSA_PSS_SHA512),
        SignatureScheme::RsaPkcs1Sha1
        | SignatureScheme::EcdsaSha256
        | SignatureScheme::EcdsaSha384
        | SignatureScheme::EcdsaSha512
        | SignatureScheme::Ecdsa256
        | SignatureScheme::Ecdsa384
        | SignatureScheme::Ecdsa521
        | SignatureScheme::Ed25519 => None,
    }
}
