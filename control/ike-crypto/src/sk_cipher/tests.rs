//! Known answers of OpenSSL's (fixtures/make.py), and every way to be wrong.

use proptest::prelude::*;

use super::*;
use crate::group::Group;
use crate::prf::Prf;
use crate::random::testing::SeededRandom;
use crate::testing::vector;

const TEXT: &[u8] = b"inner payloads, 24 bytes";

fn suites() -> Vec<Suite> {
    Encryption::ALL
        .into_iter()
        .flat_map(|encryption| {
            let integrity: Vec<Option<Integrity>> = if encryption.is_aead() {
                vec![None]
            } else {
                Integrity::ALL.into_iter().map(Some).collect()
            };
            integrity.into_iter().map(move |integrity| {
                Suite::new(encryption, integrity, Prf::HmacSha256, Group::Curve25519).unwrap()
            })
        })
        .collect()
}

fn keys(suite: &Suite) -> (Secret, Secret) {
    let count = |from: u8, len: usize| Secret::from_vec((from..).take(len).collect());
    (count(0, suite.encryption().keymat_len()), count(100, suite.integrity_key_len()))
}

fn cipher(suite: &Suite) -> SkCipher {
    let (sk_e, sk_a) = keys(suite);
    SkCipher::new(suite, &sk_e, &sk_a).unwrap()
}

fn random() -> SeededRandom {
    SeededRandom::new(3)
}

#[test]
fn known_answers() {
    let aad: Vec<u8> = (0..32).collect();
    for (encryption, integrity, name) in [
        (Encryption::Aes128Gcm16, None, "gcm.128"),
        (Encryption::Aes192Gcm16, None, "gcm.192"),
        (Encryption::Aes256Gcm16, None, "gcm.256"),
        (Encryption::ChaCha20Poly1305, None, "chacha"),
        (Encryption::Aes128Cbc, Some(Integrity::HmacSha256_128), "cbc.128"),
        (Encryption::Aes192Cbc, Some(Integrity::HmacSha384_192), "cbc.192"),
        (Encryption::Aes256Cbc, Some(Integrity::HmacSha512_256), "cbc.256"),
    ] {
        let suite = Suite::new(encryption, integrity, Prf::HmacSha256, Group::Curve25519).unwrap();
        let mut cipher = cipher(&suite);
        cipher.skip_ahead(5);
        let body = cipher.seal(&mut random(), &aad, TEXT).unwrap();
        assert_eq!(body, vector(&format!("sk.{name}")));
        assert_eq!(cipher.open(&aad, &body).unwrap(), TEXT);
    }
}

#[test]
fn lengths_are_known_before_sealing() {
    for suite in suites() {
        let mut cipher = cipher(&suite);
        for len in 0..70 {
            let body = cipher.seal(&mut random(), b"", &vec![1; len]).unwrap();
            assert_eq!(body.len(), cipher.body_len(len), "{suite} {len}");
            assert!(body.len() <= len + cipher.overhead(), "{suite} {len}");
            assert_eq!(cipher.open(b"", &body).unwrap(), vec![1; len]);
        }
        assert!((0..16).any(|len| cipher.body_len(len) == len + cipher.overhead()));
    }
}

#[test]
fn ike_19_any_changed_bit_is_refused() {
    for suite in suites() {
        let mut cipher = cipher(&suite);
        let body = cipher.seal(&mut random(), b"aad", TEXT).unwrap();
        for bit in 0..body.len() * 8 {
            let mut bad = body.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(cipher.open(b"aad", &bad), Err(SkError::Integrity), "{suite} {bit}");
        }
        for aad in [&b""[..], b"aae", b"aa", b"aad\0"] {
            assert_eq!(cipher.open(aad, &body), Err(SkError::Integrity), "{suite}");
        }
    }
}

#[test]
fn ike_19_any_shorter_body_is_refused() {
    for suite in suites() {
        let mut cipher = cipher(&suite);
        let body = cipher.seal(&mut random(), b"aad", TEXT).unwrap();
        for len in 0..body.len() {
            assert!(cipher.open(b"aad", &body[..len]).is_err(), "{suite} {len}");
        }
        // IV and ICV with nothing between them.
        let bare = vec![0; cipher.encryption.iv_len() + cipher.icv_len()];
        assert_eq!(cipher.open(b"aad", &bare), Err(SkError::Length), "{suite}");
        let mut long = body.clone();
        long.push(0);
        assert!(cipher.open(b"aad", &long).is_err(), "{suite}");
    }
}

/// A peer with the keys and other ideas of padding: seals raw octets, Pad Length included.
fn seal_raw(cipher: &SkCipher, aad: &[u8], mut in_out: Vec<u8>) -> Vec<u8> {
    match &cipher.cipher {
        Cipher::Aead { key, salt, .. } => {
            let nonce = nonce(*salt, [9; 8]);
            key.seal_in_place_append_tag(nonce, aead::Aad::from(aad), &mut in_out).unwrap();
            [&[9; 8], in_out.as_slice()].concat()
        }
        Cipher::Cbc { key, integrity, integrity_key } => {
            cbc_seal(cipher.encryption, key.as_bytes(), &[9; 16], &mut in_out).unwrap();
            let body = [&[9; 16], in_out.as_slice()].concat();
            let icv = mac(*integrity, integrity_key, &[aad, &body]);
            [body.as_slice(), icv.as_bytes()].concat()
        }
    }
}

#[test]
fn ike_19_padding_of_a_peer() {
    for suite in suites() {
        let cipher = cipher(&suite);
        let raw = |pad_len: u8| {
            let mut octets = vec![0xee; 47];
            octets.push(pad_len);
            cipher.open(b"aad", &seal_raw(&cipher, b"aad", octets))
        };
        // Any contents and more than needed are fine (RFC 7296 section 3.14), even for GCM.
        assert_eq!(raw(0).unwrap().len(), 47);
        assert_eq!(raw(30).unwrap(), vec![0xee; 17]);
        assert_eq!(raw(47).unwrap(), b"");
        for pad_len in 48..=255 {
            assert_eq!(raw(pad_len), Err(SkError::Padding), "{suite} {pad_len}");
        }
    }
}

#[test]
fn counter_ivs_are_never_repeated() {
    for suite in suites().into_iter().filter(|suite| suite.encryption().is_aead()) {
        let mut cipher = cipher(&suite);
        let mut iv = || cipher.seal(&mut random(), b"", b"").unwrap()[..8].to_vec();
        assert_eq!([iv(), iv()], [vec![0; 8], vec![0, 0, 0, 0, 0, 0, 0, 1]]);
        assert_eq!(cipher.iv_position(), 2);
        cipher.skip_ahead(1000);
        assert_eq!(cipher.iv_position(), 1002);
        let body = cipher.seal(&mut random(), b"", b"").unwrap();
        assert_eq!(body[..8], 1002_u64.to_be_bytes());
        cipher.skip_ahead(u64::MAX - 1004);
        assert!(cipher.seal(&mut random(), b"", b"").is_ok());
        for _ in 0..2 {
            assert_eq!(cipher.seal(&mut random(), b"", b""), Err(SkError::IvExhausted));
        }
        cipher.skip_ahead(u64::MAX);
        assert_eq!(cipher.seal(&mut random(), b"", b""), Err(SkError::IvExhausted));
    }
}

#[test]
fn members_of_a_cluster_have_ivs_of_their_own() {
    let suite = suites()[0];
    let mut member = cipher(&suite).with_iv_prefix(0x5, 4).unwrap();
    member.skip_ahead(7);
    let body = member.seal(&mut random(), b"", b"").unwrap();
    assert_eq!(body[..8], 0x5000_0000_0000_0007_u64.to_be_bytes());
    assert_eq!(cipher(&suite).open(b"", &body).unwrap(), b"");
    member.skip_ahead((1 << 60) - 10);
    assert!(member.seal(&mut random(), b"", b"").is_ok());
    assert_eq!(member.seal(&mut random(), b"", b""), Err(SkError::IvExhausted));

    assert!(cipher(&suite).with_iv_prefix(16, 4).is_err());
    assert!(cipher(&suite).with_iv_prefix(1, 0).is_err());
    assert!(cipher(&suite).with_iv_prefix(0, 33).is_err());
    let mut alone = cipher(&suite).with_iv_prefix(0, 0).unwrap();
    assert_eq!(alone.seal(&mut random(), b"", b"").unwrap()[..8], [0; 8]);
    let mut wide = cipher(&suite).with_iv_prefix(u32::MAX, 32).unwrap();
    let body = wide.seal(&mut random(), b"", b"").unwrap();
    assert_eq!(body[..8], 0xffff_ffff_0000_0000_u64.to_be_bytes());
}

#[test]
fn cbc_ivs_are_drawn_for_each_message() {
    for suite in suites().into_iter().filter(|suite| !suite.encryption().is_aead()) {
        let mut cipher = cipher(&suite);
        let mut random = random();
        let mut iv = || cipher.seal(&mut random, b"", b"").unwrap()[..16].to_vec();
        assert_ne!(iv(), iv());
        assert_eq!(cipher.iv_position(), 0);
    }
}

#[test]
fn keys_of_the_wrong_length_are_refused() {
    for suite in suites() {
        let (sk_e, sk_a) = keys(&suite);
        let mut more = sk_e.as_bytes().to_vec();
        more.push(0);
        let more = Secret::from_vec(more);
        for (sk_e, sk_a) in [(&more, &sk_a), (&Secret::default(), &sk_a), (&sk_e, &more)] {
            let outcome = SkCipher::new(&suite, sk_e, sk_a);
            assert_eq!(outcome.unwrap_err(), SkError::KeyLength, "{suite}");
        }
    }
}

#[test]
fn debug_hides_keys() {
    for suite in suites() {
        assert_eq!(
            format!("{:?}", cipher(&suite)),
            format!("SkCipher {{ encryption: {:?}, iv_position: 0, .. }}", suite.encryption())
        );
    }
}

proptest! {
    #[test]
    fn what_was_sealed_opens_and_nothing_else(
        which in 0..suites().len(),
        aad in proptest::collection::vec(any::<u8>(), 0..80),
        text in proptest::collection::vec(any::<u8>(), 0..600),
        noise in proptest::collection::vec(any::<u8>(), 0..200),
        seed: u64,
    ) {
        let mut cipher = cipher(&suites()[which]);
        let body = cipher.seal(&mut SeededRandom::new(seed), &aad, &text).unwrap();
        prop_assert_eq!(cipher.open(&aad, &body).unwrap(), text);
        prop_assert!(cipher.open(&aad, &noise).is_err());
    }
}
