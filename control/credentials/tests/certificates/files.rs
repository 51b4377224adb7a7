//! Certificates and keys by OpenSSL, from files.

use xswan_credentials::{Certificate, CertificateFault as Fault, FileError, PeerPolicy};
use xswan_credentials::{PrivateKeyStore, RawPublicKey, TrustStore};

macro_rules! fixture {
    ($name:literal) => {
        &include_bytes!(concat!("../../fixtures/", $name))[..]
    };
}

fn certificate(file: &[u8]) -> Certificate {
    Certificate::from_file(file).unwrap().remove(0)
}

fn verify(file: &[u8]) -> Result<(), Fault> {
    let mut store = TrustStore::default();
    store.add_authority(certificate(fixture!("rsa-ca.pem"))).unwrap();
    let peer = certificate(file);
    // The fixtures are valid from the day they were made.
    let now = peer.not_before_unix_s() + 86_400;
    let verified = store.verify_chain(&peer, &[], &PeerPolicy::default(), now);
    verified.map(|_| ()).map_err(|error| error.fault)
}

#[test]
fn chains_by_openssl() {
    assert_eq!(verify(fixture!("rsa.pem")), Ok(()));
    assert_eq!(verify(fixture!("rsa-by-pss.pem")), Ok(()));
    assert_eq!(verify(fixture!("p521.pem")), Ok(()));
    assert_eq!(verify(fixture!("pss.pem")), Ok(()));
    assert_eq!(verify(fixture!("rsa-by-pss-salt20.pem")), Err(Fault::SignatureAlgorithm));
    assert_eq!(verify(fixture!("rsa-by-sha1.pem")), Err(Fault::SignatureAlgorithm));
    assert!(matches!(verify(fixture!("rsa1024.pem")), Err(Fault::PublicKey(_))));
}

#[test]
fn private_keys_find_their_certificates() {
    for file in [fixture!("rsa.key"), fixture!("rsa-pkcs1.key"), fixture!("rsa-key.der")] {
        let mut keys = PrivateKeyStore::default();
        keys.add_file(file).unwrap();
        assert!(keys.of_certificate(&certificate(fixture!("rsa.pem"))).is_some());
        assert!(keys.of_certificate(&certificate(fixture!("p521.pem"))).is_none());
        let public = RawPublicKey::from_file(fixture!("rsa.pub")).unwrap();
        assert!(keys.find(public.spki_der()).is_some());
        keys.add_file(file).unwrap();
        assert_eq!(keys.len(), 1);
    }
    let mut keys = PrivateKeyStore::default();
    keys.add_file(fixture!("p521.key")).unwrap();
    keys.add_file(fixture!("p256-sec1.key")).unwrap();
    keys.add_file(fixture!("ed25519.key")).unwrap();
    assert_eq!(keys.len(), 3);
    assert!(keys.of_certificate(&certificate(fixture!("p521.pem"))).is_some());
}

#[test]
fn private_keys_that_are_refused() {
    let add = |file: &[u8]| PrivateKeyStore::default().add_file(file).unwrap_err();
    for encrypted in [
        fixture!("rsa-encrypted.key"),
        fixture!("rsa-encrypted.der"),
        fixture!("rsa-pkcs1-encrypted.key"),
    ] {
        assert_eq!(add(encrypted), FileError::Encrypted);
        assert!(add(encrypted).to_string().contains("decrypt"));
    }
    assert!(matches!(add(fixture!("ed448.key")), FileError::PrivateKey(_)));
    assert_eq!(add(fixture!("rsa.pem")), FileError::WrongObject("CERTIFICATE".into()));
    assert_eq!(add(b""), FileError::NoObject);
    assert!(matches!(add(b"0"), FileError::PrivateKey(_)));
    assert_eq!(add(&[b'a'; 70_000]), FileError::TooLong);
    let two = [fixture!("ed25519.key"), fixture!("rsa.key")].concat();
    assert!(matches!(add(&two), FileError::WrongObject(_)));
    // Every truncation of a key is refused, and nothing of it is shown.
    let whole = fixture!("rsa-key.der");
    for length in 1..whole.len() {
        let line = add(&whole[..length]).to_string();
        assert!(line.len() < 120 && !line.chars().any(char::is_control), "{line}");
    }
}

#[test]
fn debug_hides_private_keys() {
    let mut keys = PrivateKeyStore::default();
    keys.add_file(fixture!("ed25519.key")).unwrap();
    assert_eq!(format!("{keys:?}"), "PrivateKeyStore(1 keys)");
}

#[test]
fn files_of_certificates() {
    let two = [fixture!("rsa.pem"), fixture!("rsa-ca.pem")].concat();
    assert_eq!(Certificate::from_file(&two).unwrap().len(), 2);
    let der = certificate(fixture!("rsa.pem"));
    assert_eq!(Certificate::from_file(der.der()).unwrap(), std::slice::from_ref(&der));
    assert_eq!(Certificate::from_file(b"x"), Err(FileError::NoObject));
    let wrong = Certificate::from_file(fixture!("rsa.key")).unwrap_err();
    assert_eq!(wrong, FileError::WrongObject("PRIVATE KEY".into()));
    let cut = &fixture!("rsa.pem")[..600];
    assert_eq!(Certificate::from_file(cut), Err(FileError::Damaged));
}
