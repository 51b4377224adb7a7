//! Any bytes as whatever a peer or a file may bring: certificates, keys, lists, identities.
//!
//! Every reader gets every input; what is accepted must be harmless to show. A chain is
//! believed only for certificates that the authority of the fixtures really made.

use std::sync::OnceLock;
use xswan_credentials::secret_from_text;
use xswan_credentials::{AuthMethod, Certificate, Identity, IdentityPattern, PeerCertificates};
use xswan_credentials::{PeerPolicy, PrivateKeyStore, RawPublicKey, RevocationList, TrustStore};

const AUTHORITY: &[u8] = include_bytes!("../../control/credentials/fixtures/rsa-ca.pem");
const ISSUED: [&[u8]; 4] = [
    include_bytes!("../../control/credentials/fixtures/rsa.pem"),
    include_bytes!("../../control/credentials/fixtures/rsa-by-pss.pem"),
    include_bytes!("../../control/credentials/fixtures/p521.pem"),
    include_bytes!("../../control/credentials/fixtures/pss.pem"),
];

struct Fixed {
    store: TrustStore,
    issued: Vec<Certificate>,
    now_unix_s: u64,
}

fn fixed() -> &'static Fixed {
    static FIXED: OnceLock<Fixed> = OnceLock::new();
    FIXED.get_or_init(|| {
        let mut store = TrustStore::default();
        for authority in Certificate::from_file(AUTHORITY).into_iter().flatten() {
            assert!(store.add_authority(authority).is_ok());
        }
        let issued: Vec<_> =
            ISSUED.iter().filter_map(|file| Certificate::from_file(file).ok()).flatten().collect();
        assert_eq!(issued.len(), ISSUED.len());
        let now_unix_s = issued.iter().map(Certificate::not_before_unix_s).max().unwrap_or(0) + 60;
        Fixed { store, issued, now_unix_s }
    })
}

fn harmless(text: &str) {
    assert!(!text.chars().any(char::is_control), "{text:?}");
}

/// Nothing panics, nothing shown could harm, nobody is believed who should not be.
pub fn run(bytes: &[u8]) {
    if let Ok(certificate) = Certificate::from_der(bytes) {
        accepted(&certificate);
    }
    for certificate in Certificate::from_file(bytes).into_iter().flatten().take(4) {
        accepted(&certificate);
    }
    if let Err(error) = PeerCertificates::from_payloads([(4, bytes), (15, bytes)]) {
        harmless(&error.to_string());
    }
    if let Ok(key) = RawPublicKey::from_spki(bytes) {
        assert_eq!(RawPublicKey::from_spki(key.spki_der()), Ok(key));
    }
    if let Err(error) = PrivateKeyStore::default().add_file(bytes) {
        harmless(&error.to_string());
    }
    for list in RevocationList::from_file(bytes).into_iter().flatten().take(4) {
        harmless(&list.issuer_text());
    }
    if let Some((kind, data)) = bytes.split_first() {
        identity(Identity::from_payload(*kind, data));
    }
    let text = String::from_utf8_lossy(bytes);
    identity(Identity::parse(&text));
    if let Ok(pattern) = IdentityPattern::parse(&text) {
        harmless(&pattern.to_string());
        if let Some(own) = pattern.identity() {
            assert!(pattern.matches(own).is_some());
        }
    }
    if let Err(error) = text.parse::<AuthMethod>() {
        harmless(&error.to_string());
    }
    let _ = secret_from_text(&text);
}

fn accepted(certificate: &Certificate) {
    harmless(&certificate.subject_text());
    harmless(&certificate.issuer_text());
    certificate.names().iter().for_each(|name| harmless(&name.to_string()));
    assert_eq!(Certificate::from_der(certificate.der()).as_ref(), Ok(certificate));
    let fixed = fixed();
    let policy = PeerPolicy::default();
    let sent = std::slice::from_ref(certificate);
    match fixed.store.verify_chain(certificate, sent, &policy, fixed.now_unix_s) {
        Ok(_) => assert!(fixed.issued.contains(certificate), "{certificate:?}"),
        Err(error) => harmless(&error.to_string()),
    }
}

fn identity(read: Result<Identity, xswan_credentials::IdentityError>) {
    match read {
        Ok(identity) => {
            harmless(&identity.to_string());
            let again = Identity::from_payload(identity.kind_number(), identity.data());
            assert_eq!(again.as_ref(), Ok(&identity));
            let _ = fixed().issued.iter().any(|own| own.matches_identity(&identity));
        }
        Err(error) => harmless(&error.to_string()),
    }
}
