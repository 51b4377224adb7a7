//! Certificates made to hurt.

use super::authority::*;
use xswan_credentials::RawPublicKey;
use xswan_credentials::{Certificate, CertificateFault as Fault, PeerCertificates, PeerPolicy};

/// A DER element.
fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag, 0x83];
    match content.len() {
        length @ 0..=0x7f => out[1] = length as u8,
        length @ 0x80..=0xff => {
            out[1] = 0x81;
            out.push(length as u8);
        }
        length @ 0x100..=0xffff => {
            out[1] = 0x82;
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => out.extend_from_slice(&(length as u32).to_be_bytes()[1..]),
    }
    out.extend_from_slice(content);
    out
}

const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
const RSA_PSS: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0a];

fn rsa_key(modulus: &[u8], exponent: &[u8]) -> Vec<u8> {
    element(0x30, &[element(2, modulus), element(2, exponent)].concat())
}

fn spki(algorithm: &[u8], parameters: &[u8], key: &[u8]) -> Vec<u8> {
    let algorithm = element(0x30, &[&element(6, algorithm)[..], parameters].concat());
    let key = element(3, &[&[0][..], key].concat());
    element(0x30, &[algorithm, key].concat())
}

/// An odd number of that many bits, with its sign octet.
fn modulus(bits: usize) -> Vec<u8> {
    let mut octets = vec![0xc5; bits / 8];
    octets.insert(0, 0);
    octets
}

#[test]
fn ike_22_rsa_exponents_and_moduli() {
    const NULL: &[u8] = &[5, 0];
    let of = |key: Vec<u8>| RawPublicKey::from_spki(&spki(RSA, NULL, &key));
    assert!(of(rsa_key(&modulus(2048), &[1, 0, 1])).is_ok());
    let exponents: &[&[u8]] = &[&[0], &[1], &[2], &[], &[0x80], &[1, 0, 0], &[1; 6], &[1; 256]];
    for exponent in exponents {
        assert!(of(rsa_key(&modulus(2048), exponent)).is_err(), "{exponent:?}");
    }
    for bits in [0, 8, 512, 1024, 2040, 8200, 16384, 65536] {
        assert!(of(rsa_key(&modulus(bits), &[1, 0, 1])).is_err(), "{bits}");
    }
    assert!(of(rsa_key(&[0xc5; 257], &[1, 0, 1])).is_err(), "negative");
    assert!(of(vec![]).is_err() && of(vec![0x30, 0]).is_err() && of(vec![0x30; 300]).is_err());
}

#[test]
fn ike_22_pss_parameters() {
    let key = rsa_key(&modulus(2048), &[1, 0, 1]);
    let of = |parameters: &[u8]| RawPublicKey::from_spki(&spki(RSA_PSS, parameters, &key));
    // Absent parameters leave the choice of hash open, which is allowed for a key.
    assert!(of(&[]).is_ok());
    let salt = |length: &[u8]| element(0x30, &element(0xa2, &element(2, length)));
    for parameters in [
        vec![5, 0],
        vec![0x30],
        element(0x30, &[]),
        salt(&[0x7f, 0xff, 0xff, 0xff]),
        salt(&[0xff]),
        salt(&[]),
        salt(&[1; 64]),
        element(0x30, &element(0xa3, &element(2, &[9]))),
    ] {
        assert!(of(&parameters).is_err(), "{parameters:02x?}");
    }
}

#[test]
fn aut_08_public_keys_are_equal_only_as_a_whole() {
    let key = rsa_key(&modulus(2048), &[1, 0, 1]);
    let rsa = RawPublicKey::from_spki(&spki(RSA, &[5, 0], &key)).unwrap();
    let pss = RawPublicKey::from_spki(&spki(RSA_PSS, &[], &key)).unwrap();
    assert_ne!(rsa, pss, "same octets, another type");
    assert_eq!(rsa, rsa.clone());
    let point = [&[4][..], &[7; 64]].concat();
    let ec = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1];
    let curve = element(6, &[0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7]);
    let ec = RawPublicKey::from_spki(&spki(ec, &curve, &point)).unwrap();
    let ed = RawPublicKey::from_spki(&spki(&[0x2b, 0x65, 0x70], &[], &[7; 32])).unwrap();
    assert_ne!(ec, ed, "one key's octets begin with the other's");
    let whole = rsa.spki_der();
    for length in 0..whole.len() {
        assert!(RawPublicKey::from_spki(&whole[..length]).is_err(), "{length}");
    }
    assert!(RawPublicKey::from_spki(&[whole, &[0]].concat()).is_err());
    // What is configured decides, not what is similar.
    let policy = PeerPolicy { public_keys: vec![rsa.clone()], ..PeerPolicy::default() };
    for (key, believed) in [(&rsa, true), (&pss, false), (&ec, false), (&ed, false)] {
        let sent = PeerCertificates::from_payloads([(15, key.spki_der())]).unwrap();
        assert_eq!(store(&[]).verify_peer(&sent, &policy, NOW).is_ok(), believed);
    }
}

#[test]
fn ike_22_unusable_key_in_a_good_certificate() {
    struct Odd(Vec<u8>);
    impl rcgen::PublicKeyData for Odd {
        fn der_bytes(&self) -> &[u8] {
            &self.0
        }
        fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
            &rcgen::PKCS_RSA_SHA256
        }
    }
    let root = Authority::root(authority_params("root"));
    let keys = [
        rsa_key(&modulus(2048), &[2]),
        rsa_key(&modulus(1024), &[1, 0, 1]),
        rsa_key(&modulus(16384), &[1, 0, 1]),
        vec![],
        vec![0x30; 64],
    ];
    for key in keys {
        let peer = root.issue_for(&peer_params("gwa.lab", &["gwa.lab"]), &Odd(key));
        assert!(matches!(fault(verify(&store(&[&root]), &peer, &[])), Fault::PublicKey(_)));
        let pinned = PeerPolicy { certificates: vec![peer.clone()], ..PeerPolicy::default() };
        let refused = store(&[]).verify_chain(&peer, &[], &pinned, NOW);
        assert!(matches!(fault(refused), Fault::PublicKey(_)));
    }
}

#[test]
fn ike_22_nesting_and_lengths_that_lie() {
    let mut nested = vec![];
    for tag in [0x30, 0xa0, 0x31, 0xa4] {
        nested = vec![0];
        while nested.len() < 15_000 {
            nested = element(tag, &nested);
        }
        assert!(Certificate::from_der(&nested).is_err());
    }
    assert!(!nested.is_empty());
    for octets in [
        &b""[..],
        &[0x30],
        &[0x30, 0x84, 0xff, 0xff, 0xff, 0xff],
        &[0x30, 0x80, 0, 0],
        &[0; 100],
        &[0xff; 16_384],
    ] {
        assert!(Certificate::from_der(octets).is_err());
    }
    let peer = Authority::root(authority_params("root")).peer("gwa.lab");
    let whole = peer.der();
    for length in 0..whole.len() {
        assert!(Certificate::from_der(&whole[..length]).is_err());
    }
    assert!(Certificate::from_der(&[whole, &[0]].concat()).is_err());
    // Deeply nested choices inside an otherwise good certificate.
    let mut name = vec![5, 0];
    while name.len() < 12_000 {
        name = element(0xa4, &name);
    }
    let mut params = peer_params("gwa.lab", &[]);
    let names = element(0x30, &name);
    params.custom_extensions =
        vec![rcgen::CustomExtension::from_oid_content(&[2, 5, 29, 17], names)];
    let root = Authority::root(authority_params("root"));
    let peer = root.issue(&params);
    assert!(peer.names().is_empty());
}

#[test]
fn ike_22_an_extension_twice() {
    let mut params = peer_params("gwa.lab", &["gwa.lab"]);
    let second = element(0x30, &element(0x82, b"evil"));
    params.custom_extensions =
        vec![rcgen::CustomExtension::from_oid_content(&[2, 5, 29, 17], second)];
    let key = ec();
    let twice = params.self_signed(&key).unwrap();
    let error = Certificate::from_der(twice.der()).unwrap_err();
    assert_eq!(error.fault, Fault::Malformed("an extension twice"));
}

#[test]
fn ike_22_bounds_on_what_a_peer_sends() {
    let root = Authority::root(authority_params("root"));
    let peer = root.peer("gwa.lab");
    let sent = |all: &[(u8, &[u8])]| {
        PeerCertificates::from_payloads(all.iter().copied()).map_err(|error| error.fault)
    };
    assert!(sent(&[(4, peer.der()); 10]).is_ok());
    assert_eq!(sent(&[(4, peer.der()); 11]), Err(Fault::TooMany));
    assert_eq!(sent(&[(4, peer.der()); 100]), Err(Fault::TooMany));
    assert_eq!(sent(&[(7, &[0; 16_384][..]); 5]), Err(Fault::TooMany));
    let million = vec![0x30; 1 << 20];
    assert_eq!(sent(&[(4, &million)]), Err(Fault::TooMany));
    assert_eq!(sent(&[(4, &million[..16_385])]), Err(Fault::TooLong(16_385)));
    assert_eq!(sent(&[(12, b"hash http://192.0.2.9/")]), Err(Fault::HashAndUrl));
    assert_eq!(sent(&[(13, b"hash http://192.0.2.9/")]), Err(Fault::HashAndUrl));
    for encoding in [0, 1, 2, 3, 5, 6, 9, 11, 14, 16, 255] {
        assert_eq!(sent(&[(encoding, b"x")]), Err(Fault::Encoding(encoding)));
    }
    assert!(sent(&[(7, b"x"), (10, b"x")]).is_ok_and(|sent| sent.is_empty()));
    assert!(sent(&[]).is_ok_and(|sent| sent.is_empty()));
    // Chains of ten beside the peer's own are too long whichever way they come.
    let chain = vec![root.certificate.clone(); 10];
    let refused = store(&[&root]).verify_chain(&peer, &chain, &PeerPolicy::default(), NOW);
    assert_eq!(fault(refused), Fault::TooMany);
}

/// Certificates that could be combined in very many ways: all of one name, each vouching for
/// all others.
#[test]
fn ike_22_a_maze_of_authorities_costs_little() {
    let root = Authority::root(authority_params("root"));
    let first = Authority::root(authority_params("maze"));
    let maze: Vec<_> = (0..9).map(|_| first.below(authority_params("maze"))).collect();
    let peer = maze[0].peer("gwa.lab");
    let maze: Vec<&Authority> = maze.iter().collect();
    // Without a ceiling on certificates of one name this would be 60,480 ways.
    let refused = fault(verify(&store(&[&root]), &peer, &maze));
    assert!(matches!(refused, Fault::UnknownIssuer | Fault::TooComplex));
    // A good chain is found beside the maze.
    let one = root.below(authority_params("one"));
    let peer = one.peer("gwa.lab");
    let mut sent = maze[..8].to_vec();
    sent.push(&one);
    assert!(verify(&store(&[&root]), &peer, &sent).is_ok());
}
