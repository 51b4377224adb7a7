//! Hash functions: for signatures (RFC 7427), NAT detection and CERTREQ (SHA-1), cookies.

use aws_lc_rs::{digest as backend, hmac};

use crate::secret::Secret;

/// A hash function, by the numbers of SIGNATURE_HASH_ALGORITHMS (RFC 7427 section 7).
///
/// `Identity` (5) stands for schemes that hash inside the signature, Ed25519 (RFC 8420).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HashAlgorithm {
    /// SHA-1: never offered for signatures.
    Sha1,
    /// SHA2-256.
    Sha256,
    /// SHA2-384.
    Sha384,
    /// SHA2-512.
    Sha512,
    /// No hash of its own.
    Identity,
}

impl HashAlgorithm {
    /// What we announce in SIGNATURE_HASH_ALGORITHMS, in this order.
    pub const ADVERTISED: [Self; 4] = [Self::Sha256, Self::Sha384, Self::Sha512, Self::Identity];

    /// The algorithm with this number, if it is one we know.
    #[must_use]
    pub const fn from_id(id: u16) -> Option<Self> {
        match id {
            1 => Some(Self::Sha1),
            2 => Some(Self::Sha256),
            3 => Some(Self::Sha384),
            4 => Some(Self::Sha512),
            5 => Some(Self::Identity),
            _ => None,
        }
    }

    /// Its number in SIGNATURE_HASH_ALGORITHMS.
    #[must_use]
    pub const fn id(self) -> u16 {
        match self {
            Self::Sha1 => 1,
            Self::Sha256 => 2,
            Self::Sha384 => 3,
            Self::Sha512 => 4,
            Self::Identity => 5,
        }
    }
}

/// SHA-1 over the concatenated parts. Not for anything an attacker may profit from colliding.
#[must_use]
pub fn sha1(parts: &[&[u8]]) -> [u8; 20] {
    hash(&backend::SHA1_FOR_LEGACY_USE_ONLY, parts)
}

/// SHA2-256 over the concatenated parts.
#[must_use]
pub fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    hash(&backend::SHA256, parts)
}

/// HMAC-SHA2-256 over the concatenated parts; key of any length.
#[must_use]
pub fn hmac_sha256(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let tag = hmac_tag(hmac::HMAC_SHA256, key, parts);
    fixed(tag.as_ref())
}

/// HMAC with any back-end algorithm over the concatenated parts.
pub(crate) fn hmac_tag(algorithm: hmac::Algorithm, key: &[u8], parts: &[&[u8]]) -> hmac::Tag {
    let mut context = hmac::Context::with_key(&hmac::Key::new(algorithm, key));
    for part in parts {
        context.update(part);
    }
    context.sign()
}

/// Same, as a secret.
pub(crate) fn hmac_secret(algorithm: hmac::Algorithm, key: &[u8], parts: &[&[u8]]) -> Secret {
    Secret::from_slice(hmac_tag(algorithm, key, parts).as_ref())
}

fn hash<const N: usize>(algorithm: &'static backend::Algorithm, parts: &[&[u8]]) -> [u8; N] {
    let mut context = backend::Context::new(algorithm);
    for part in parts {
        context.update(part);
    }
    fixed(context.finish().as_ref())
}

/// The callers above name the output length of their algorithm.
fn fixed<const N: usize>(octets: &[u8]) -> [u8; N] {
    let mut out = [0; N];
    for (to, from) in out.iter_mut().zip(octets) {
        *to = *from;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::hex;

    /// FIPS 180 examples, RFC 4231 case 2.
    #[test]
    fn known_answers() {
        assert_eq!(sha1(&[b"a", b"bc"]).to_vec(), hex("a9993e364706816aba3e25717850c26c9cd0d89d"));
        assert_eq!(
            sha256(&[b"abc"]).to_vec(),
            hex("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
        );
        assert_eq!(
            hmac_sha256(b"Jefe", &[b"what do ya want ", b"for nothing?"]).to_vec(),
            hex("5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843")
        );
    }

    #[test]
    fn numbers_round_trip() {
        for id in 0..=u16::MAX {
            if let Some(algorithm) = HashAlgorithm::from_id(id) {
                assert_eq!(algorithm.id(), id);
            }
        }
        assert!(!HashAlgorithm::ADVERTISED.contains(&HashAlgorithm::Sha1));
    }
}
