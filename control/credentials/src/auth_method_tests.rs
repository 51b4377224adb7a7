//! The words of `auth`.

use super::*;

const RSA_2048: KeyType = KeyType::Rsa { bits: 2048 };
const RSA_3072: KeyType = KeyType::Rsa { bits: 3072 };

fn rules(text: &str) -> SignatureRules {
    match text.parse() {
        Ok(AuthMethod::Signature(rules)) => rules,
        other => panic!("{text}: {other:?}"),
    }
}

#[test]
fn plain_words() {
    let cases = [
        ("psk", AuthMethod::Psk),
        (" PSK ", AuthMethod::Psk),
        ("any", AuthMethod::Any),
        ("eap", AuthMethod::Eap(EapKind::Any)),
        ("eap-mschapv2", AuthMethod::Eap(EapKind::MschapV2)),
        ("eap-tls", AuthMethod::Eap(EapKind::Tls)),
        ("pubkey", AuthMethod::Signature(SignatureRules::default())),
    ];
    for (text, method) in cases {
        assert_eq!(text.parse(), Ok(method));
    }
}

#[test]
fn refusals_name_the_word() {
    for (text, word) in [
        ("xauth", "IKEv1"),
        ("xauth-eap", "IKEv1"),
        ("eap-md5", "eap-mschapv2"),
        ("eap-radius", "RADIUS"),
        ("ed448", "ed25519"),
        ("pubkey-sha1", "SHA-1"),
        ("pubkey-md5", "md5"),
        ("pubkey-2048", "2048"),
        ("rsa-2048-4096", "4096"),
        ("ike:rsa-2048", "2048"),
        ("rsa-99999999999", "99999999999"),
        ("rsa-", "unknown word"),
        ("", "unknown method"),
        ("psk-sha256", "psk"),
        ("ecdsa-ike:rsa-sha256", "go together"),
        ("rsa/pss-identity", "go together"),
        ("p\u{1b}[2J", "\\x1b"),
    ] {
        let line = text.parse::<AuthMethod>().expect_err(text).to_string();
        assert!(line.contains(word) && !line.chars().any(char::is_control), "{text}: {line}");
    }
}

#[test]
fn any_public_key() {
    let rules = rules("pubkey");
    assert!(rules.permits_key(RSA_2048) && rules.permits_key(KeyType::Ed25519));
    assert!(rules.permits_scheme(SignatureScheme::RsaPkcs1Sha256));
    assert!(rules.permits_chain(KeyKind::Ecdsa, None, HashAlgorithm::Sha512));
}

#[test]
fn key_types_and_sizes() {
    let rules = rules("rsa-3072-ecdsa-384");
    assert!(rules.permits_key(RSA_3072) && !rules.permits_key(RSA_2048));
    assert!(rules.permits_key(KeyType::EcdsaP384) && !rules.permits_key(KeyType::EcdsaP256));
    assert!(!rules.permits_key(KeyType::Ed25519));
    assert!(rules.permits_authority_key(KeyType::Ed25519));
    assert!(!rules.permits_authority_key(RSA_2048));
}

#[test]
fn hashes_bind_chain_and_exchange() {
    let rules = rules("pubkey-sha256-sha384");
    for hash in [HashAlgorithm::Sha256, HashAlgorithm::Sha384] {
        assert!(rules.permits_chain(KeyKind::Rsa, Some(Padding::Pkcs1), hash));
    }
    assert!(rules.permits_scheme(SignatureScheme::RsaPssSha256));
    assert!(rules.permits_scheme(SignatureScheme::RsaPssSha384));
    assert!(!rules.permits_chain(KeyKind::Ecdsa, None, HashAlgorithm::Sha512));
    assert!(!rules.permits_scheme(SignatureScheme::EcdsaSha512));
    assert!(!rules.permits_scheme(SignatureScheme::Ed25519));
}

#[test]
fn ike_words_bind_the_exchange_only() {
    let pss = rules("ike:rsa/pss-sha384");
    assert!(pss.permits_scheme(SignatureScheme::RsaPssSha384));
    assert!(!pss.permits_scheme(SignatureScheme::RsaPkcs1Sha384));
    assert!(!pss.permits_scheme(SignatureScheme::RsaPssSha256));
    assert!(!pss.permits_scheme(SignatureScheme::EcdsaSha384));
    assert!(pss.permits_chain(KeyKind::Rsa, Some(Padding::Pkcs1), HashAlgorithm::Sha256));

    let both = rules("pubkey-sha512-ike:pubkey-sha384-sha256");
    assert!(both.permits_chain(KeyKind::Rsa, None, HashAlgorithm::Sha512));
    assert!(!both.permits_scheme(SignatureScheme::RsaPkcs1Sha512));
    let order = both.preference();
    assert_eq!(order[0], SignatureScheme::RsaPkcs1Sha384);
    let place = |scheme| order.iter().position(|own| *own == scheme).unwrap();
    assert!(place(SignatureScheme::EcdsaSha384) < place(SignatureScheme::RsaPkcs1Sha256));
    assert!(!order.contains(&SignatureScheme::RsaPkcs1Sha512));
    assert!(rules("pubkey").preference().is_empty());
}

#[test]
fn padding_alone_is_about_the_peer() {
    let rules = rules("rsa/pss");
    assert!(rules.permits_scheme(SignatureScheme::RsaPssSha512));
    assert!(!rules.permits_scheme(SignatureScheme::RsaPkcs1Sha512));
    assert!(rules.permits_chain(KeyKind::Ecdsa, None, HashAlgorithm::Sha512));
}

#[test]
fn ed25519_by_name_needs_no_hash() {
    let rules = rules("ed25519-rsa-sha384");
    assert!(rules.permits_scheme(SignatureScheme::Ed25519));
    assert!(rules.permits_scheme(SignatureScheme::RsaPkcs1Sha384));
    assert!(!rules.permits_scheme(SignatureScheme::RsaPkcs1Sha256));
}

#[test]
fn odd_text_never_panics() {
    for text in ["-", "--", "ike:", "ike:ike:", "ike:-", ":", "rsa/", "eap-", "rsa--1", "é-é"] {
        let _ = text.parse::<AuthMethod>();
    }
}
