//! Which identities a certificate proves.

use super::authority::*;
use xswan_credentials::{Certificate, Identity};

fn id(text: &str) -> Identity {
    Identity::parse(text).unwrap()
}

fn fixture(pem: &[u8]) -> Certificate {
    Certificate::from_file(pem).unwrap().remove(0)
}

#[test]
fn aut_03_alternative_names_and_the_subject_prove_identities() {
    let certificate = fixture(include_bytes!("../../fixtures/rsa.pem"));
    let proved = [
        "gwa.lab",
        "GWA.lab",
        "gwa@lab",
        "192.0.2.1",
        "2001:db8::1",
        "O=lab, CN=other name",
        "C=CH, O=lab, CN=rsa.lab",
        "/C=ch/O=LAB/CN=rsa.lab",
    ];
    for text in proved {
        assert!(certificate.matches_identity(&id(text)), "{text}");
    }
    let not_proved = [
        "rsa.lab",
        "gwb.lab",
        "xgwa.lab",
        "gwa.lab.evil",
        "gwa.lab.",
        "fqdn:192.0.2.1",
        "fqdn:gwa@lab",
        "email:gwa.lab",
        "keyid:gwa.lab",
        "192.0.2.2",
        "::ffff:192.0.2.1",
        "fqdn:https://gwa.lab/",
        "fqdn:x",
        "C=CH, O=lab",
        "O=lab, CN=rsa.lab",
        "C=CH, CN=rsa.lab, O=lab",
        "C=CH, O=lab, CN=*",
        "fqdn:*.lab",
        "fqdn:*",
    ];
    for text in not_proved {
        assert!(!certificate.matches_identity(&id(text)), "{text}");
    }
    assert!(!certificate.matches_identity(&Identity::from_payload(13, b"").unwrap()));
    let zero = [&b"gwa.lab\0"[..], b"\0gwa.lab", b"gwa.lab\0.evil"];
    for octets in zero {
        assert!(!certificate.matches_identity(&Identity::from_payload(2, octets).unwrap()));
    }
}

#[test]
fn aut_03_the_common_name_proves_nothing() {
    let root = Authority::root(authority_params("root"));
    let certificate = root.issue(&peer_params("gwa.lab", &[]));
    assert!(!certificate.matches_identity(&id("gwa.lab")));
    assert!(certificate.matches_identity(&id("O=lab, CN=gwa.lab")));
}

#[test]
fn aut_03_a_wildcard_in_a_certificate_stands_for_itself() {
    let root = Authority::root(authority_params("root"));
    let certificate = root.issue(&peer_params("x", &["*.lab"]));
    assert!(!certificate.matches_identity(&id("gwa.lab")));
    assert!(certificate.matches_identity(&id("fqdn:*.lab")));
}

#[test]
fn aut_03_an_address_spelled_as_a_name_is_a_name() {
    let root = Authority::root(authority_params("root"));
    let certificate = root.issue(&peer_params("x", &["192.0.2.1"]));
    assert!(!certificate.matches_identity(&id("192.0.2.1")));
    assert!(certificate.matches_identity(&id("fqdn:192.0.2.1")));
}

#[test]
fn an_empty_subject_is_nobody() {
    let mut params = peer_params("x", &["gwa.lab"]);
    params.distinguished_name = rcgen::DistinguishedName::new();
    let certificate = Authority::root(authority_params("root")).issue(&params);
    assert_eq!(certificate.subject_identity(), None);
    assert!(certificate.matches_identity(&id("gwa.lab")));
    assert_eq!(certificate.subject_text(), "(no name)");
}

#[test]
fn what_lists_show() {
    let certificate = fixture(include_bytes!("../../fixtures/rsa.pem"));
    assert_eq!(certificate.subject_text(), "C=CH, O=lab, CN=rsa.lab");
    assert_eq!(certificate.issuer_text(), "O=lab, CN=lab CA");
    assert_eq!(certificate.names().len(), 5);
    assert!(certificate.serial_text().len() >= 8 * 3 - 1);
    let (begin, end) = certificate.validity_text();
    assert!(begin.starts_with("20") && begin.ends_with('Z') && end > begin, "{begin} {end}");
    assert!(certificate.not_before_unix_s() < certificate.not_after_unix_s());
    assert!(!certificate.is_authority() && !certificate.is_self_issued());
    let authority = fixture(include_bytes!("../../fixtures/rsa-ca.pem"));
    assert!(authority.is_authority() && authority.is_self_issued());
    // `openssl rsa -pubin -RSAPublicKey_out` hashes the inner key; CERTREQ wants the outer.
    let key = xswan_credentials::RawPublicKey::from_file(include_bytes!("../../fixtures/rsa.pub"));
    assert_eq!(key.unwrap().key_id(), *certificate.key_id());
}

#[test]
fn ike_13_subjects_are_escaped() {
    let root = Authority::root(authority_params("root"));
    let certificate = root.issue(&peer_params("a\u{1b}[2J\n$(x)", &[]));
    assert_eq!(certificate.subject_text(), "O=lab, CN=a\\x1b[2J\\x0a\\x24(x)");
    let error = verify(&store(&[]), &certificate, &[]).unwrap_err();
    assert!(!error.to_string().chars().any(char::is_control));
}
