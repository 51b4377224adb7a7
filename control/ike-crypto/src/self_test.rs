//! Start-up check that everything we would offer a peer can be done (known failures of others:
//! a proposal naming an algorithm the library was built without).
//!
//! Each transform runs once, both sides where it has two, and once with something changed.

use std::fmt;

use aws_lc_rs::signature::{self as backend, EcdsaKeyPair, Ed25519KeyPair};

use crate::group::Group;
use crate::kex::{KeyExchange, respond};
use crate::keymat::{IkeKeys, Skeyseed};
use crate::prf::Prf;
use crate::random::Random;
use crate::secret::Secret;
use crate::signature::{PrivateKey, PublicKey, SignatureScheme};
use crate::sk_cipher::SkCipher;
use crate::suite::{Encryption, Integrity, Suite};

/// A public key, and signatures over [`MESSAGE`] in the order of [`RSA_SCHEMES`].
const RSA: &[u8] = include_bytes!("../fixtures/self_test_rsa.bin");
const RSA_SPKI_LEN: usize = 294;
const RSA_SIGNATURE_LEN: usize = 256;
const MESSAGE: &[u8] = b"self-test";
const RSA_SCHEMES: [SignatureScheme; 6] = [
    SignatureScheme::RsaPkcs1Sha256,
    SignatureScheme::RsaPkcs1Sha384,
    SignatureScheme::RsaPkcs1Sha512,
    SignatureScheme::RsaPssSha256,
    SignatureScheme::RsaPssSha384,
    SignatureScheme::RsaPssSha512,
];

/// The transform that does not work. The daemon must not start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SelfTestError {
    /// Name of the transform.
    pub transform: &'static str,
}

impl fmt::Display for SelfTestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "self-test of {} failed", self.transform)
    }
}

impl std::error::Error for SelfTestError {}

/// Runs every transform of this crate once. Takes some tens of milliseconds.
///
/// # Errors
///
/// The first transform that failed.
pub fn self_test(random: &mut dyn Random) -> Result<(), SelfTestError> {
    for prf in Prf::ALL {
        check(prf.name(), test_prf(prf))?;
    }
    for group in Group::ALL {
        check(group.name(), test_group(group, random))?;
    }
    for encryption in Encryption::ALL {
        if encryption.is_aead() {
            check(encryption.name(), test_cipher(encryption, None, random))?;
            continue;
        }
        for integrity in Integrity::ALL {
            check(encryption.name(), test_cipher(encryption, Some(integrity), random))?;
        }
    }
    test_rsa()?;
    test_curves()
}

fn check(transform: &'static str, outcome: Option<()>) -> Result<(), SelfTestError> {
    outcome.ok_or(SelfTestError { transform })
}

/// RFC 4231 section 4.3, first octets.
fn test_prf(prf: Prf) -> Option<()> {
    let expected: [u8; 4] = match prf {
        Prf::HmacSha256 => [0x5b, 0xdc, 0xc1, 0x46],
        Prf::HmacSha384 => [0xaf, 0x45, 0xd2, 0xe3],
        Prf::HmacSha512 => [0x16, 0x4b, 0x7a, 0x7b],
    };
    let output = prf.compute(b"Jefe", &[b"what do ya want for nothing?"]);
    let whole = output.len() == prf.key_len();
    (whole && output.as_bytes().starts_with(&expected)).then_some(())
}

fn test_group(group: Group, random: &mut dyn Random) -> Option<()> {
    let (exchange, request) = KeyExchange::generate(group, random).ok()?;
    let (response, secret) = respond(group, &request, random).ok()?;
    let lengths = (request.len(), response.len(), secret.len());
    let expected = (group.request_len(), group.response_len(), group.secret_len());
    (lengths == expected && exchange.finish(&response).ok()? == secret).then_some(())
}

fn test_cipher(
    encryption: Encryption,
    integrity: Option<Integrity>,
    random: &mut dyn Random,
) -> Option<()> {
    let suite = Suite::new(encryption, integrity, Prf::HmacSha256, Group::Curve25519).ok()?;
    let nonces: (&[u8], &[u8]) = (&[1; 32], &[2; 32]);
    let skeyseed =
        Skeyseed::initial(suite.prf(), nonces.0, nonces.1, &Secret::from_slice(&[3; 32]));
    let keys = IkeKeys::derive(skeyseed, &suite, nonces, (1, 2)).ok()?;
    let (sk_e, sk_a) = keys.sent_by(true);
    let mut outbound = SkCipher::new(&suite, sk_e, sk_a).ok()?;
    let inbound = SkCipher::new(&suite, sk_e, sk_a).ok()?;
    let mut body = outbound.seal(random, b"header", b"payloads").ok()?;
    if body.len() != outbound.body_len(8) || inbound.open(b"header", &body).ok()? != b"payloads" {
        return None;
    }
    *body.last_mut()? ^= 1;
    inbound.open(b"header", &body).is_err().then_some(())
}

fn test_rsa() -> Result<(), SelfTestError> {
    let rsa = || {
        let (spki, signatures) = RSA.split_at_checked(RSA_SPKI_LEN)?;
        Some((PublicKey::from_spki(spki).ok()?, signatures.chunks(RSA_SIGNATURE_LEN)))
    };
    let (key, signatures) = rsa().ok_or(SelfTestError { transform: "RSA" })?;
    for (scheme, signature) in RSA_SCHEMES.into_iter().zip(signatures) {
        let good = key.verify(scheme, MESSAGE, signature).is_ok();
        let bad = key.verify(scheme, b"other", signature).is_ok();
        check(scheme.name(), (good && !bad).then_some(()))?;
    }
    Ok(())
}

/// Keys made for the occasion: of RSA that would take a second, so there the signing half is
/// left to the first use.
fn test_curves() -> Result<(), SelfTestError> {
    let generator = aws_lc_rs::rand::SystemRandom::new();
    for algorithm in [
        &backend::ECDSA_P256_SHA256_ASN1_SIGNING,
        &backend::ECDSA_P384_SHA384_ASN1_SIGNING,
        &backend::ECDSA_P521_SHA512_ASN1_SIGNING,
    ] {
        let key = EcdsaKeyPair::generate_pkcs8(algorithm, &generator);
        test_key(key.ok().as_ref().map(AsRef::as_ref), "ECDSA")?;
    }
    let key = Ed25519KeyPair::generate_pkcs8(&generator);
    test_key(key.ok().as_ref().map(AsRef::as_ref), "ED25519")
}

fn test_key(pkcs8: Option<&[u8]>, transform: &'static str) -> Result<(), SelfTestError> {
    let pair = pkcs8.and_then(|octets| {
        let private = PrivateKey::from_der(octets).ok()?;
        let public = PublicKey::from_spki(&private.public_spki().ok()?).ok()?;
        Some((private, public))
    });
    let (private, public) = pair.ok_or(SelfTestError { transform })?;
    for &scheme in private.schemes() {
        let good = private
            .sign(scheme, MESSAGE)
            .and_then(|signature| public.verify(scheme, MESSAGE, &signature));
        check(scheme.name(), good.ok())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::SystemRandom;

    #[test]
    fn ike_11_every_transform_is_buildable() {
        assert_eq!(self_test(&mut SystemRandom), Ok(()));
        assert_eq!(RSA.len(), RSA_SPKI_LEN + RSA_SCHEMES.len() * RSA_SIGNATURE_LEN);
    }

    struct Stuck;

    impl Random for Stuck {
        fn fill(&mut self, out: &mut [u8]) {
            out.fill(0);
        }
    }

    #[test]
    fn a_stuck_generator_is_noticed() {
        let error = self_test(&mut Stuck).unwrap_err();
        assert!(error.to_string().starts_with("self-test of "), "{error}");
    }
}
