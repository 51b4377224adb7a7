//! AlgorithmIdentifiers of RFC 7427 appendix A, RFC 8420 appendix A and RFC 4055.
//!
//! Emitted in DER. Accepted are the variants RFC 4055 section 2.1 and 5 oblige us to: NULL or
//! nothing as parameters of a hash or of an RSA signature, and the trailer field of PSS though
//! it is the default.

use super::der::{self, NULL, Reader};
use super::{SignatureError, SignatureScheme};
use crate::HashAlgorithm;

/// pkcs-1, 1.2.840.113549.1.1; the last octet of the arcs below follows.
const PKCS_1: [u8; 8] = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01];
/// ecdsa-with-SHA2, 1.2.840.10045.4.3.
const ECDSA_WITH_SHA2: [u8; 7] = [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03];
/// hashAlgs, 2.16.840.1.101.3.4.2.
const NIST_HASHES: [u8; 8] = [0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02];
/// id-Ed25519, 1.3.101.112.
const ED25519: [u8; 3] = [0x2b, 0x65, 0x70];
const RSA_PSS: u8 = 10;
const MGF1: u8 = 8;

impl SignatureScheme {
    /// The DER AlgorithmIdentifier to send with method 14, `None` for the older methods.
    #[must_use]
    pub fn algorithm_identifier(self) -> Option<Vec<u8>> {
        match self {
            Self::RsaPkcs1Sha256 => Some(rsa_pkcs1(11)),
            Self::RsaPkcs1Sha384 => Some(rsa_pkcs1(12)),
            Self::RsaPkcs1Sha512 => Some(rsa_pkcs1(13)),
            Self::RsaPssSha256 => Some(rsa_pss(1, 32)),
            Self::RsaPssSha384 => Some(rsa_pss(2, 48)),
            Self::RsaPssSha512 => Some(rsa_pss(3, 64)),
            Self::EcdsaSha256 => Some(identifier(&ECDSA_WITH_SHA2, &[2], &[])),
            Self::EcdsaSha384 => Some(identifier(&ECDSA_WITH_SHA2, &[3], &[])),
            Self::EcdsaSha512 => Some(identifier(&ECDSA_WITH_SHA2, &[4], &[])),
            Self::Ed25519 => Some(identifier(&ED25519, &[], &[])),
            Self::RsaPkcs1Sha1 | Self::Ecdsa256 | Self::Ecdsa384 | Self::Ecdsa521 => None,
        }
    }

    /// The scheme of a DER AlgorithmIdentifier received with method 14.
    ///
    /// sha1WithRSAEncryption names [`SignatureScheme::RsaPkcs1Sha1`], which policy refuses
    /// unless told otherwise.
    ///
    /// # Errors
    ///
    /// [`SignatureError::Algorithm`] for any other identifier or parameters, trailing octets
    /// included.
    pub fn from_algorithm_identifier(octets: &[u8]) -> Result<Self, SignatureError> {
        parse(octets).ok_or(SignatureError::Algorithm)
    }
}

/// Which schemes a key allows that was made for RSASSA-PSS alone: `Some(None)` is any.
pub(super) fn pss_restriction(parameters: &[u8]) -> Option<Option<SignatureScheme>> {
    if parameters.is_empty() { Some(None) } else { pss_parameters(parameters).map(Some) }
}

fn parse(octets: &[u8]) -> Option<SignatureScheme> {
    let mut reader = der::only(octets, der::SEQUENCE)?;
    let oid = reader.read(der::OBJECT_IDENTIFIER)?;
    let parameters = reader.rest();
    match oid.split_last()? {
        (&last, PKCS_1_ARC) => match (last, parameters) {
            (5, [] | [5, 0]) => Some(SignatureScheme::RsaPkcs1Sha1),
            (11, [] | [5, 0]) => Some(SignatureScheme::RsaPkcs1Sha256),
            (12, [] | [5, 0]) => Some(SignatureScheme::RsaPkcs1Sha384),
            (13, [] | [5, 0]) => Some(SignatureScheme::RsaPkcs1Sha512),
            (RSA_PSS, _) => pss_parameters(parameters),
            _ => None,
        },
        (&last, ECDSA_ARC) if parameters.is_empty() => match last {
            2 => Some(SignatureScheme::EcdsaSha256),
            3 => Some(SignatureScheme::EcdsaSha384),
            4 => Some(SignatureScheme::EcdsaSha512),
            _ => None,
        },
        _ => (oid == ED25519 && parameters.is_empty()).then_some(SignatureScheme::Ed25519),
    }
}

/// The prefixes as slices, to be matched against.
const PKCS_1_ARC: &[u8] = &PKCS_1;
const ECDSA_ARC: &[u8] = &ECDSA_WITH_SHA2;

/// RSASSA-PSS-params (RFC 4055 section 3.1): both hashes the same, salt as long as the hash.
fn pss_parameters(octets: &[u8]) -> Option<SignatureScheme> {
    let mut reader = der::only(octets, der::SEQUENCE)?;
    let hash = hash_algorithm(&mut only_element(&mut reader, 0)?)?;
    let mut mgf = only_element(&mut reader, 1)?.enter(der::SEQUENCE)?;
    if mgf.read(der::OBJECT_IDENTIFIER)?.split_last()? != (&MGF1, PKCS_1_ARC)
        || hash_algorithm(&mut mgf)? != hash
        || !mgf.is_empty()
    {
        return None;
    }
    let mut salt = only_element(&mut reader, 2)?;
    let salt_len = salt.read_positive()?;
    // Only the common trailer, number 1, which may be spelled out.
    let trailer = reader.rest();
    if !salt.is_empty() || !matches!(trailer, [] | [0xa3, 3, 2, 1, 1]) {
        return None;
    }
    match (hash, salt_len) {
        (HashAlgorithm::Sha256, [32]) => Some(SignatureScheme::RsaPssSha256),
        (HashAlgorithm::Sha384, [48]) => Some(SignatureScheme::RsaPssSha384),
        (HashAlgorithm::Sha512, [64]) => Some(SignatureScheme::RsaPssSha512),
        _ => None,
    }
}

/// Contents of context tag `number`, which hold one element.
fn only_element<'a>(reader: &mut Reader<'a>, number: u8) -> Option<Reader<'a>> {
    let contents = reader.enter(der::CONTEXT_0 + number)?;
    let mut probe = contents;
    let tag = *contents.rest().first()?;
    probe.read(tag)?;
    probe.is_empty().then_some(contents)
}

fn hash_algorithm(reader: &mut Reader<'_>) -> Option<HashAlgorithm> {
    let mut identifier = reader.enter(der::SEQUENCE)?;
    let (last, arc) = identifier.read(der::OBJECT_IDENTIFIER)?.split_last()?;
    if arc != NIST_HASHES || !matches!(identifier.rest(), [] | [5, 0]) {
        return None;
    }
    match last {
        1 => Some(HashAlgorithm::Sha256),
        2 => Some(HashAlgorithm::Sha384),
        3 => Some(HashAlgorithm::Sha512),
        _ => None,
    }
}

fn identifier(arc: &[u8], last: &[u8], parameters: &[u8]) -> Vec<u8> {
    let oid = der::element(der::OBJECT_IDENTIFIER, &[arc, last]);
    der::element(der::SEQUENCE, &[&oid, parameters])
}

fn rsa_pkcs1(last: u8) -> Vec<u8> {
    identifier(&PKCS_1, &[last], NULL)
}

fn rsa_pss(hash: u8, salt_len: u8) -> Vec<u8> {
    let hash = identifier(&NIST_HASHES, &[hash], NULL);
    let mgf = identifier(&PKCS_1, &[MGF1], &hash);
    let salt = der::element(der::INTEGER, &[&[salt_len]]);
    let parameters = der::element(
        der::SEQUENCE,
        &[
            &der::element(der::CONTEXT_0, &[&hash]),
            &der::element(der::CONTEXT_0 + 1, &[&mgf]),
            &der::element(der::CONTEXT_0 + 2, &[&salt]),
        ],
    );
    identifier(&PKCS_1, &[RSA_PSS], &parameters)
}
