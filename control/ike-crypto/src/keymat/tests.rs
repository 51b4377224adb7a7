//! The key schedule against Python (fixtures/make.py).

use super::*;
use crate::group::Group;
use crate::suite::{Encryption, Integrity};
use crate::testing::vector;

const SPIS: (u64, u64) = (0x0102_0304_0506_0708, 0x1112_1314_1516_1718);

fn nonces() -> (Vec<u8>, Vec<u8>) {
    ((0..32).collect(), (100..148).collect())
}

fn suites() -> [(&'static str, Suite); 3] {
    let suite = |encryption, integrity, prf| {
        Suite::new(encryption, integrity, prf, Group::Curve25519).unwrap()
    };
    [
        ("sha256", suite(Encryption::Aes128Gcm16, None, Prf::HmacSha256)),
        ("sha384", suite(Encryption::Aes256Cbc, Some(Integrity::HmacSha256_128), Prf::HmacSha384)),
        ("sha512", suite(Encryption::ChaCha20Poly1305, None, Prf::HmacSha512)),
    ]
}

fn shared() -> [Secret; 3] {
    [Secret::from_slice(&[7; 32]), Secret::from_slice(&[9; 48]), Secret::from_slice(&[11; 32])]
}

fn initial(suite: &Suite) -> IkeKeys {
    let (ni, nr) = nonces();
    let skeyseed = Skeyseed::initial(suite.prf(), &ni, &nr, &shared()[0]);
    IkeKeys::derive(skeyseed, suite, (&ni, &nr), SPIS).unwrap()
}

/// Without the version octet.
fn octets(keys: &IkeKeys) -> Vec<u8> {
    keys.export().as_bytes()[1..].to_vec()
}

#[test]
fn prf_plus_to_its_limit() {
    for (name, suite) in suites() {
        let prf = suite.prf();
        let len = 255 * prf.key_len();
        let whole = prf.prf_plus(b"key", &[b"se", b"ed"], len).unwrap();
        assert_eq!(
            crate::sha256(&[whole.as_bytes()]).to_vec(),
            vector(&format!("prf_plus.{name}"))
        );
        assert_eq!(prf.prf_plus(b"key", &[b"seed"], len + 1), Err(PrfPlusTooLong));
        assert_eq!(prf.prf_plus(b"key", &[b"seed"], usize::MAX), Err(PrfPlusTooLong));
        for len in [0, 1, prf.key_len(), prf.key_len() + 1] {
            let part = prf.prf_plus(b"key", &[b"seed"], len).unwrap();
            assert_eq!(part.as_bytes(), &whole.as_bytes()[..len]);
        }
    }
}

#[test]
fn every_stage_against_python() {
    let (ni, nr) = nonces();
    let [first, second, third] = shared();
    for (name, suite) in suites() {
        let prf = suite.prf();
        let derive =
            |skeyseed| octets(&IkeKeys::derive(skeyseed, &suite, (&ni, &nr), SPIS).unwrap());
        let mut keys = initial(&suite);
        assert_eq!(octets(&keys), vector(&format!("keys.initial.{name}")));
        let sk_d = keys.sk_d.clone();
        assert_eq!(
            derive(Skeyseed::additional(prf, &sk_d, &second, &ni, &nr)),
            vector(&format!("keys.additional.{name}"))
        );
        let more = [second.clone(), third.clone()];
        assert_eq!(
            derive(Skeyseed::rekeyed(prf, &sk_d, &first, (&ni, &nr), &more)),
            vector(&format!("keys.rekeyed.{name}"))
        );
        assert_eq!(
            derive(Skeyseed::resumed(prf, &sk_d, &ni, &nr)),
            vector(&format!("keys.resumed.{name}"))
        );
        keys.with_ppk(prf, &Secret::from_slice(b"a post-quantum preshared key")).unwrap();
        assert_eq!(octets(&keys), vector(&format!("keys.ppk.{name}")));
        assert_eq!(keys.with_ppk(prf, &Secret::default()), Err(KeymatError::PpkEmpty));
        assert_eq!(octets(&keys), vector(&format!("keys.ppk.{name}")));
    }
}

#[test]
fn child_keys_and_shared_key_auth_against_python() {
    let (ni, nr) = nonces();
    for (name, suite) in suites() {
        let prf = suite.prf();
        let sk_d = initial(&suite).sk_d;
        for (kind, secrets) in [("plain", 0), ("kex", 1), ("multi", 3)] {
            let keymat = child_keymat(prf, &sk_d, &shared()[..secrets], (&ni, &nr), 104).unwrap();
            assert_eq!(keymat.as_bytes(), vector(&format!("child.{kind}.{name}")));
        }
        let auth = shared_key_auth(prf, b"secret", &[b"signed ", b"octets"]);
        assert_eq!(auth.as_bytes(), vector(&format!("auth.psk.{name}")));
    }
    let sk_d = initial(&suites()[0].1).sk_d;
    assert_eq!(
        child_keymat(Prf::HmacSha256, &sk_d, &[], (&ni, &nr), 256 * 32),
        Err(KeymatError::TooLong)
    );
}

#[test]
fn exported_keys_come_back_and_nothing_else_does() {
    for (_, suite) in suites() {
        let keys = initial(&suite);
        let export = keys.export();
        assert_eq!(IkeKeys::import(&suite, export.as_bytes()).unwrap(), keys);
        let mut octets = export.as_bytes().to_vec();
        for len in 0..octets.len() {
            assert_eq!(IkeKeys::import(&suite, &octets[..len]), Err(KeymatError::Malformed));
        }
        octets.push(0);
        assert_eq!(IkeKeys::import(&suite, &octets), Err(KeymatError::Malformed));
        octets.pop();
        octets[0] = 2;
        assert_eq!(IkeKeys::import(&suite, &octets), Err(KeymatError::Malformed));
        for (_, other) in suites() {
            if other != suite {
                let outcome = IkeKeys::import(&other, export.as_bytes());
                assert_eq!(outcome, Err(KeymatError::Malformed));
            }
        }
    }
}

#[test]
fn each_side_sends_with_its_own_keys() {
    let keys = initial(&suites()[1].1);
    assert_eq!(keys.sent_by(true), (&keys.sk_ei, &keys.sk_ai));
    assert_eq!(keys.sent_by(false), (&keys.sk_er, &keys.sk_ar));
    assert_ne!(keys.sk_ei, keys.sk_er);
    assert_eq!(keys.sk_ai.len(), 32);
}

#[test]
fn debug_hides_keys() {
    let keys = initial(&suites()[1].1);
    let text = format!("{keys:?}");
    assert!(text.contains("sk_d: Secret(48 octets)"), "{text}");
    let digits: Vec<String> =
        keys.sk_d.as_bytes().windows(2).map(|two| format!("{}, {}", two[0], two[1])).collect();
    assert!(digits.iter().all(|digits| !text.contains(digits)));
    let skeyseed = Skeyseed::initial(Prf::HmacSha256, b"a", b"b", &Secret::from_slice(b"c"));
    assert_eq!(format!("{skeyseed:?}"), "Skeyseed(Secret(32 octets))");
}
