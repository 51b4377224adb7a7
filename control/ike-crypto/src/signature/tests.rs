//! Keys and signatures of another implementation, identifiers, and refusals (AUT-02).

use proptest::prelude::*;

use super::*;
use crate::HashAlgorithm;
use crate::testing::hex;

macro_rules! fixture {
    ($name:literal) => {
        include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/", $name)).as_slice()
    };
}

const MESSAGE: &[u8] = b"octets signed by another implementation";
const RSA_SPKI: &[u8] = fixture!("rsa2048.spki");
const STRICT: SignaturePolicy = SignaturePolicy { allow_rsa_sha1: false };
const LENIENT: SignaturePolicy = SignaturePolicy { allow_rsa_sha1: true };

/// A private key in each of its forms, and the public half as another implementation has it.
fn keys() -> Vec<(&'static [u8], &'static [u8], KeyType)> {
    vec![
        (fixture!("rsa2048.pkcs8"), RSA_SPKI, KeyType::Rsa { bits: 2048 }),
        (fixture!("rsa2048.pkcs1"), RSA_SPKI, KeyType::Rsa { bits: 2048 }),
        (fixture!("p256.pkcs8"), fixture!("p256.spki"), KeyType::EcdsaP256),
        (fixture!("p256.sec1"), fixture!("p256.spki"), KeyType::EcdsaP256),
        (fixture!("p384.pkcs8"), fixture!("p384.spki"), KeyType::EcdsaP384),
        (fixture!("p384.sec1"), fixture!("p384.spki"), KeyType::EcdsaP384),
        (fixture!("p521.pkcs8"), fixture!("p521.spki"), KeyType::EcdsaP521),
        (fixture!("p521.sec1"), fixture!("p521.spki"), KeyType::EcdsaP521),
        (fixture!("ed25519.pkcs8"), fixture!("ed25519.spki"), KeyType::Ed25519),
    ]
}

#[test]
fn every_key_signs_with_every_scheme_it_has() {
    for (private, spki, key_type) in keys() {
        let key = PrivateKey::from_der(private).unwrap();
        assert_eq!(key.key_type(), key_type);
        assert_eq!(key.public_spki().unwrap(), spki);
        assert_eq!(PublicKey::from_spki(spki).unwrap().key_type(), key_type);
        for scheme in SignatureScheme::ALL {
            if !key.schemes().contains(&scheme) {
                assert_eq!(key.sign(scheme, b"x"), Err(SignatureError::KeyMismatch(scheme)));
                continue;
            }
            let (method, auth) = key.sign_auth(scheme, MESSAGE).unwrap();
            let (parsed, signature) = parse_auth(method, &auth, &STRICT).unwrap();
            assert_eq!((parsed, method), (scheme, scheme.auth_method()));
            verify(spki, scheme, MESSAGE, signature).unwrap();
            assert_eq!(verify(spki, scheme, b"other", signature), Err(SignatureError::Invalid));
        }
    }
}

#[test]
fn signatures_of_another_implementation() {
    for (spki, scheme, signature) in [
        (fixture!("p256.spki"), SignatureScheme::EcdsaSha256, fixture!("p256.sig")),
        (fixture!("p384.spki"), SignatureScheme::EcdsaSha384, fixture!("p384.sig")),
        (fixture!("p521.spki"), SignatureScheme::EcdsaSha512, fixture!("p521.sig")),
        (fixture!("ed25519.spki"), SignatureScheme::Ed25519, fixture!("ed25519.sig")),
    ] {
        verify(spki, scheme, MESSAGE, signature).unwrap();
    }
}

#[test]
fn aut_01_a_scheme_of_another_key_is_no_match() {
    for (_, spki, key_type) in keys() {
        let key = PublicKey::from_spki(spki).unwrap();
        for scheme in SignatureScheme::ALL {
            let rsa = scheme.name().starts_with("RSA");
            let fits = match key_type {
                KeyType::Rsa { .. } => rsa,
                KeyType::Ed25519 => scheme == SignatureScheme::Ed25519,
                KeyType::EcdsaP256 | KeyType::EcdsaP384 | KeyType::EcdsaP521 => {
                    let fixed = match key_type.bits() {
                        256 => SignatureScheme::Ecdsa256,
                        384 => SignatureScheme::Ecdsa384,
                        _ => SignatureScheme::Ecdsa521,
                    };
                    scheme.name().ends_with("DER") || scheme == fixed
                }
            };
            let expected =
                if fits { SignatureError::Invalid } else { SignatureError::KeyMismatch(scheme) };
            assert_eq!(key.verify(scheme, MESSAGE, &[1; 64]), Err(expected), "{key_type} {scheme}");
            assert!(key.verify(scheme, MESSAGE, &[]).is_err());
        }
    }
}

/// RFC 7427 appendix A.1.2, A.3.2 and A.4.3 (there with the trailer spelled out), RFC 8420
/// appendix A.1.
#[test]
fn identifiers_of_the_rfcs() {
    let emitted = |scheme: SignatureScheme| scheme.algorithm_identifier().unwrap();
    assert_eq!(
        emitted(SignatureScheme::RsaPkcs1Sha256),
        hex("300d 0609 2a86 4886 f70d 0101 0b05 00")
    );
    assert_eq!(emitted(SignatureScheme::EcdsaSha256), hex("300a 0608 2a86 48ce 3d04 0302"));
    assert_eq!(emitted(SignatureScheme::Ed25519), hex("3005 0603 2b65 70"));
    let with_trailer =
        hex("3046 0609 2a86 4886 f70d 0101 0a30 39a0 0f30 0d06 0960 8648 0165 0304 0201 0500
         a11c 301a 0609 2a86 4886 f70d 0101 0830 0d06 0960 8648 0165 0304 0201 0500 a203
         0201 20a3 0302 0101");
    assert_eq!(
        SignatureScheme::from_algorithm_identifier(&with_trailer),
        Ok(SignatureScheme::RsaPssSha256)
    );
    let mut without = with_trailer[..with_trailer.len() - 5].to_vec();
    without[1] -= 5;
    without[14] -= 5;
    assert_eq!(emitted(SignatureScheme::RsaPssSha256), without);
}

#[test]
fn identifiers_round_trip() {
    for scheme in SignatureScheme::ALL {
        if let Some(octets) = scheme.algorithm_identifier() {
            assert_eq!(SignatureScheme::from_algorithm_identifier(&octets), Ok(scheme));
            assert_eq!(scheme.auth_method(), METHOD_DIGITAL_SIGNATURE);
        } else {
            assert_ne!(scheme.auth_method(), METHOD_DIGITAL_SIGNATURE);
        }
    }
}

#[test]
fn aut_02_identifiers_with_anything_else_are_refused() {
    for scheme in SignatureScheme::ALL {
        let Some(octets) = scheme.algorithm_identifier() else { continue };
        let parse = |octets: &[u8]| SignatureScheme::from_algorithm_identifier(octets);
        for len in 0..octets.len() {
            assert_eq!(parse(&octets[..len]), Err(SignatureError::Algorithm));
        }
        for more in [&[0][..], &[5, 0], &octets] {
            let trailing = [&octets, more].concat();
            assert_eq!(parse(&trailing), Err(SignatureError::Algorithm), "after {scheme}");
            let mut inside = trailing;
            inside[1] += u8::try_from(more.len()).unwrap();
            assert!(
                parse(&inside).is_err() || more == [5, 0],
                "{scheme} with parameters of its own"
            );
        }
        for at in 0..octets.len() {
            for value in 0..=255 {
                let mut bad = octets.clone();
                bad[at] = value;
                // Another scheme's identifier may come out, this one's may not.
                assert!(value == octets[at] || parse(&bad) != Ok(scheme), "{scheme} {at} {value}");
            }
        }
    }
}

#[test]
fn aut_02_parameters_left_out_or_of_another_hash() {
    // RSA and hashes may come without NULL (RFC 4055 section 2.1), ECDSA must not have one.
    let parse = |text: &str| SignatureScheme::from_algorithm_identifier(&hex(text));
    assert_eq!(parse("300b 0609 2a864886f70d01010b"), Ok(SignatureScheme::RsaPkcs1Sha256));
    assert!(parse("300c 0608 2a8648ce3d040302 0500").is_err());
    assert!(parse("3007 0603 2b6570 0500").is_err());
    // RSASSA-PSS with no or with empty parameters means SHA-1 (RFC 8247 section 3.2).
    assert!(parse("300b 0609 2a864886f70d01010a").is_err());
    assert!(parse("300d 0609 2a864886f70d01010a 3000").is_err());
    // The parameters PSS must have, then each of them replaced.
    let hash = "300b 0609 608648016503040201";
    let mgf = "3018 0609 2a864886f70d010108 300b 0609 608648016503040201";
    let pss = |hash: &str, mgf: &str, salt: &str| {
        let element = |tag: u8, contents: Vec<u8>| der::element(tag, &[&contents]);
        let parameters = [
            element(0xa0, hex(hash)),
            element(0xa1, hex(mgf)),
            element(0xa2, element(2, hex(salt))),
        ]
        .concat();
        let oid = hex("0609 2a864886f70d01010a");
        let octets = element(0x30, [oid, element(0x30, parameters)].concat());
        SignatureScheme::from_algorithm_identifier(&octets)
    };
    assert_eq!(pss(hash, mgf, "20"), Ok(SignatureScheme::RsaPssSha256));
    assert!(pss(hash, mgf, "14").is_err());
    assert!(pss(hash, mgf, "00").is_err());
    assert!(pss(hash, mgf, "0020").is_err());
    assert!(pss(hash, "3016 0609 2a864886f70d010108 3009 0605 2b0e03021a 0500", "20").is_err());
    let mgf_384 = "3018 0609 2a864886f70d010108 300b 0609 608648016503040202";
    assert!(pss(hash, mgf_384, "20").is_err());
}

#[test]
fn aut_02_auth_data_shorter_than_it_says() {
    for (data, error) in [
        (&[][..], SignatureError::AuthData),
        (&[1], SignatureError::AuthData),
        (&[255, 0x30], SignatureError::AuthData),
        (&[0], SignatureError::Algorithm),
        (&[2, 0x30, 0], SignatureError::Algorithm),
    ] {
        assert_eq!(parse_auth(METHOD_DIGITAL_SIGNATURE, data, &STRICT), Err(error));
    }
    for method in (0..=255).filter(|method| ![1, 9, 10, 11, 14].contains(method)) {
        assert_eq!(parse_auth(method, &[1; 64], &LENIENT), Err(SignatureError::Method(method)));
    }
}

#[test]
fn aut_02_sha1_only_where_policy_allows_it() {
    let refused = Err(SignatureError::SchemeRefused(SignatureScheme::RsaPkcs1Sha1));
    assert_eq!(parse_auth(METHOD_RSA, &[7; 256], &SignaturePolicy::default()), refused);
    assert!(parse_auth(METHOD_RSA, &[7; 256], &LENIENT).is_ok());
    let announced = [&[15][..], &hex("300d 0609 2a864886f70d010105 0500"), &[7; 256]].concat();
    assert_eq!(parse_auth(METHOD_DIGITAL_SIGNATURE, &announced, &STRICT), refused);
    let (scheme, signature) = parse_auth(METHOD_DIGITAL_SIGNATURE, &announced, &LENIENT).unwrap();
    assert_eq!((scheme, signature.len()), (SignatureScheme::RsaPkcs1Sha1, 256));
}

#[test]
fn schemes_follow_what_the_peer_announced() {
    use HashAlgorithm::{Identity, Sha1, Sha256, Sha384, Sha512};
    let key = |octets| PrivateKey::from_der(octets).unwrap();
    let rsa = key(fixture!("rsa2048.pkcs8"));
    let choose = |hashes: &[HashAlgorithm], preference: &[SignatureScheme]| {
        rsa.choose_scheme(Some(hashes), preference)
    };
    assert_eq!(choose(&[Sha512, Sha256], &[]), Some(SignatureScheme::RsaPkcs1Sha256));
    assert_eq!(choose(&[Sha512], &[]), Some(SignatureScheme::RsaPkcs1Sha512));
    assert_eq!(choose(&[Sha1, Identity], &[]), None);
    let pss = [SignatureScheme::Ed25519, SignatureScheme::RsaPssSha384];
    assert_eq!(choose(&[Sha256, Sha384], &pss), Some(SignatureScheme::RsaPssSha384));
    assert_eq!(choose(&[Sha256], &pss), None);
    assert_eq!(rsa.choose_scheme(None, &[]), None);
    assert_eq!(choose(&[Sha1], &[SignatureScheme::RsaPkcs1Sha1]), None);

    let p256 = key(fixture!("p256.pkcs8"));
    assert_eq!(p256.choose_scheme(Some(&[Sha256]), &[]), Some(SignatureScheme::EcdsaSha256));
    assert_eq!(p256.choose_scheme(Some(&[Sha384]), &[]), None);
    assert_eq!(p256.choose_scheme(None, &[]), Some(SignatureScheme::Ecdsa256));
    let ed25519 = key(fixture!("ed25519.pkcs8"));
    assert_eq!(ed25519.choose_scheme(Some(&[Identity]), &[]), Some(SignatureScheme::Ed25519));
    assert_eq!(ed25519.choose_scheme(Some(&[Sha256]), &[]), None);
    assert_eq!(ed25519.choose_scheme(None, &[]), None);
}

/// An RSA SubjectPublicKeyInfo with these numbers, each with its sign octet.
fn rsa_spki(modulus: &[u8], exponent: &[u8]) -> Vec<u8> {
    let long = |tag: u8, contents: &[u8]| {
        let len = u16::try_from(contents.len()).unwrap();
        let mut out = vec![tag];
        match len {
            0..=0x7f => out.push(u8::try_from(len).unwrap()),
            0x80..=0xff => out.extend([0x81, u8::try_from(len).unwrap()]),
            _ => out.extend([&[0x82][..], &len.to_be_bytes()].concat()),
        }
        [out, contents.to_vec()].concat()
    };
    let key = long(0x30, &[long(2, modulus), long(2, exponent)].concat());
    let algorithm = hex("300d 0609 2a864886f70d010101 0500");
    long(0x30, &[algorithm, long(3, &[vec![0], key].concat())].concat())
}

/// A modulus of so many bits, with its sign octet.
fn modulus(bits: usize) -> Vec<u8> {
    let mut octets = vec![0xff; bits / 8];
    octets.insert(0, 0);
    octets
}

#[test]
fn aut_02_rsa_numbers_out_of_bounds() {
    let outcome = |modulus: &[u8], exponent: &[u8]| {
        PublicKey::from_spki(&rsa_spki(modulus, exponent)).map(|key| key.key_type())
    };
    let exponent = &[1, 0, 1];
    assert_eq!(outcome(&modulus(2048), exponent), Ok(KeyType::Rsa { bits: 2048 }));
    assert_eq!(outcome(&modulus(8192), exponent), Ok(KeyType::Rsa { bits: 8192 }));
    for bits in [8, 512, 1024, 2040, 8200, 12_000] {
        assert_eq!(outcome(&modulus(bits), exponent), Err(SignatureError::KeySize(bits)));
    }
    let mut just_below = modulus(2048);
    just_below.remove(0);
    just_below[0] = 0x7f;
    assert_eq!(outcome(&just_below, exponent), Err(SignatureError::KeySize(2047)));
    let mut even = modulus(2048);
    *even.last_mut().unwrap() = 0xfe;
    assert_eq!(outcome(&even, exponent), Err(SignatureError::KeyEncoding));
    for bad in [&[1][..], &[2], &[1, 0, 0], &[2, 0, 0, 0, 1], &[1, 0, 0, 0, 0, 1]] {
        assert_eq!(outcome(&modulus(2048), bad), Err(SignatureError::Exponent), "{bad:?}");
    }
    // Zero, negative, and with a superfluous octet.
    for bad in [&[0][..], &[0x81], &[0, 1, 0, 1], &[]] {
        assert_eq!(outcome(&modulus(2048), bad), Err(SignatureError::KeyEncoding), "{bad:?}");
    }
    assert_eq!(outcome(&modulus(40_000), exponent), Err(SignatureError::KeyEncoding));
}

#[test]
fn aut_02_public_keys_with_anything_else_are_refused() {
    for (_, spki, _) in keys() {
        for len in 0..spki.len() {
            assert!(PublicKey::from_spki(&spki[..len]).is_err());
        }
        assert!(PublicKey::from_spki(&[spki, &[0]].concat()).is_err());
    }
    let p256 = fixture!("p256.spki");
    let with = |at: usize, value: u8| {
        let mut octets = p256.to_vec();
        octets[at] = value;
        PublicKey::from_spki(&octets)
    };
    // 26 octets of headers, then unused bits and the form of the point.
    assert_eq!(p256[25..27], [0, 4]);
    assert_eq!(with(25, 1), Err(SignatureError::KeyEncoding));
    for form in [0, 2, 3, 6, 7] {
        assert_eq!(with(26, form), Err(SignatureError::KeyEncoding));
    }
    assert_eq!(with(22, 0x06), Err(SignatureError::KeyUnsupported));
    // Off the curve: readable, and no signature is its own.
    let off = with(90, p256[90] ^ 1).unwrap();
    let signature = fixture!("p256.sig");
    assert_eq!(
        off.verify(SignatureScheme::EcdsaSha256, MESSAGE, signature),
        Err(SignatureError::Invalid)
    );
}

#[test]
fn a_key_for_pss_verifies_nothing_else() {
    let key = PrivateKey::from_der(fixture!("rsa2048.pkcs8")).unwrap();
    let numbers = &RSA_SPKI[24..];
    let spki = |algorithm: &[u8]| {
        let contents = [algorithm, &hex("0382010f00"), numbers].concat();
        let len = u16::try_from(contents.len()).unwrap().to_be_bytes();
        [&[0x30, 0x82][..], &len, &contents].concat()
    };
    let any = spki(&hex("300b 0609 2a864886f70d01010a"));
    let only_384 = spki(&SignatureScheme::RsaPssSha384.algorithm_identifier().unwrap());
    for scheme in key.schemes() {
        let signature = key.sign(*scheme, MESSAGE).unwrap();
        let outcome = |spki: &[u8]| verify(spki, *scheme, MESSAGE, &signature);
        let refused = Err(SignatureError::KeyMismatch(*scheme));
        assert_eq!(outcome(&any), if scheme.is_pss() { Ok(()) } else { refused });
        let fits = *scheme == SignatureScheme::RsaPssSha384;
        assert_eq!(outcome(&only_384), if fits { Ok(()) } else { refused });
    }
    let sha1 = spki(&hex("300d 0609 2a864886f70d01010a 3000"));
    assert_eq!(PublicKey::from_spki(&sha1), Err(SignatureError::KeyUnsupported));
}

#[test]
fn keys_and_exchanges_may_cross_threads() {
    fn check<T: Send + Sync>() {}
    check::<PrivateKey>();
    check::<PublicKey>();
    check::<crate::KeyExchange>();
    check::<crate::SkCipher>();
    check::<crate::IkeKeys>();
}

#[test]
fn private_keys_we_do_not_use() {
    let outcome = |octets: &[u8]| PrivateKey::from_der(octets).map(drop);
    assert_eq!(outcome(fixture!("rsa1024.pkcs1")), Err(SignatureError::KeySize(1024)));
    assert_eq!(outcome(fixture!("k256.sec1")), Err(SignatureError::KeyUnsupported));
    assert_eq!(outcome(b""), Err(SignatureError::KeyEncoding));
    assert_eq!(outcome(b"-----BEGIN PRIVATE KEY-----"), Err(SignatureError::KeyEncoding));
    for (private, spki, _) in keys() {
        assert!(outcome(spki).is_err());
        for len in 0..private.len() {
            assert!(outcome(&private[..len]).is_err());
        }
        assert!(outcome(&[private, &[0]].concat()).is_err());
    }
}

#[test]
fn debug_hides_private_keys() {
    for (private, _, key_type) in keys() {
        let key = PrivateKey::from_der(private).unwrap();
        assert_eq!(format!("{key:?}"), format!("PrivateKey {{ key_type: {key_type:?}, .. }}"));
    }
}

proptest! {
    #[test]
    fn hostile_octets_never_panic(octets in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = PublicKey::from_spki(&octets);
        let _ = PrivateKey::from_der(&octets);
        let _ = parse_auth(METHOD_DIGITAL_SIGNATURE, &octets, &STRICT);
    }

    #[test]
    fn damaged_keys_never_panic(which in 0..9_usize, at: prop::sample::Index, value: u8) {
        let (private, spki, _) = keys()[which];
        for octets in [private, spki] {
            let mut octets = octets.to_vec();
            *at.get_mut(&mut octets) = value;
            let _ = PrivateKey::from_der(&octets);
            if let Ok(key) = PublicKey::from_spki(&octets) {
                for scheme in SignatureScheme::ALL {
                    let _ = key.verify(scheme, MESSAGE, &[0x30; 70]);
                }
            }
        }
    }
}
