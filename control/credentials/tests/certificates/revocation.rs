//! Revocation lists.

use super::authority::*;
use rcgen::CrlDistributionPoint;
use xswan_credentials::VerifiedPeerKey;
use xswan_credentials::{Certificate, CertificateError, CertificateFault as Fault, FileError};
use xswan_credentials::{PeerPolicy, RevocationList, RevocationPolicy, TrustStore};

fn with(
    store: &TrustStore,
    peer: &Certificate,
    revocation: RevocationPolicy,
) -> Result<VerifiedPeerKey, CertificateError> {
    let policy = PeerPolicy { revocation, ..PeerPolicy::default() };
    store.verify_chain(peer, &[], &policy, NOW)
}

const ALL: [RevocationPolicy; 3] =
    [RevocationPolicy::Strict, RevocationPolicy::IfUri, RevocationPolicy::Relaxed];

/// A peer whose certificate says where a list could be had.
fn peer_with_source(authority: &Authority, name: &str) -> Certificate {
    let mut params = peer_params(name, &[name]);
    let uris = vec!["http://192.0.2.99/list.crl".to_owned()];
    params.crl_distribution_points = vec![CrlDistributionPoint { uris }];
    authority.issue(&params)
}

#[test]
fn aut_04_revoked_is_refused_by_every_policy() {
    let root = Authority::root(authority_params("root"));
    let (bad, good) = (root.peer("bad.lab"), root.peer("good.lab"));
    let mut store = store(&[&root]);
    store.add_revocation_list(root.list(&[&bad], 2027));
    for policy in ALL {
        let error = with(&store, &bad, policy).unwrap_err();
        assert_eq!((error.fault, &error.subject[..]), (Fault::Revoked, "O=lab, CN=bad.lab"));
        assert!(with(&store, &good, policy).is_ok());
    }
    let pinned = PeerPolicy { certificates: vec![bad.clone()], ..PeerPolicy::default() };
    assert_eq!(fault(store.verify_chain(&bad, &[], &pinned, NOW)), Fault::Revoked);
}

#[test]
fn aut_04_revoked_intermediate() {
    let root = Authority::root(authority_params("root"));
    let one = root.below(authority_params("one"));
    let peer = one.peer("gwa.lab");
    let mut store = store(&[&root, &one]);
    store.add_revocation_list(root.list(&[&one.certificate], 2027));
    let error = with(&store, &peer, RevocationPolicy::Relaxed).unwrap_err();
    assert_eq!((error.fault, &error.subject[..]), (Fault::Revoked, "O=lab, CN=one"));
}

#[test]
fn aut_04_unknown_status_is_refused_where_wanted() {
    let root = Authority::root(authority_params("root"));
    let other = Authority::root(authority_params("other"));
    let (plain, source) = (root.peer("gwa.lab"), peer_with_source(&root, "gwb.lab"));
    let mut store = store(&[&root, &other]);
    for round in 0..2 {
        use RevocationPolicy::{IfUri, Relaxed, Strict};
        assert_eq!(fault(with(&store, &plain, Strict)), Fault::RevocationUnknown, "{round}");
        assert!(with(&store, &plain, IfUri).is_ok());
        assert_eq!(fault(with(&store, &source, IfUri)), Fault::RevocationUnknown);
        assert!(with(&store, &source, Relaxed).is_ok());
        // The second time with a list of somebody else.
        store.add_revocation_list(other.list(&[], 2027));
    }
    store.add_revocation_list(root.list(&[], 2027));
    assert!(ALL.iter().all(|policy| with(&store, &source, *policy).is_ok()));
}

#[test]
fn aut_04_old_lists_count_only_against() {
    let root = Authority::root(authority_params("root"));
    let (bad, source) = (root.peer("bad.lab"), peer_with_source(&root, "gwb.lab"));
    let mut store = store(&[&root]);
    store.add_revocation_list(root.list(&[&bad], 2025));
    assert_eq!(fault(with(&store, &bad, RevocationPolicy::Relaxed)), Fault::Revoked);
    assert!(with(&store, &source, RevocationPolicy::Relaxed).is_ok());
    for policy in [RevocationPolicy::Strict, RevocationPolicy::IfUri] {
        assert_eq!(fault(with(&store, &source, policy)), Fault::RevocationListExpired);
    }
}

#[test]
fn a_list_by_an_impostor_is_refused() {
    let root = Authority::root(authority_params("root"));
    let impostor = Authority::root(authority_params("root"));
    let mut store = store(&[&root]);
    store.add_revocation_list(impostor.list(&[], 2027));
    let refused = with(&store, &root.peer("gwa.lab"), RevocationPolicy::Relaxed);
    assert_eq!(fault(refused), Fault::RevocationListSignature);
}

#[test]
fn files_of_lists() {
    for file in
        [&b""[..], b"0", b"nonsense", &[0x30; 100], include_bytes!("../../fixtures/rsa.pem")]
    {
        assert!(RevocationList::from_file(file).is_err());
    }
    let wrong = RevocationList::from_file(include_bytes!("../../fixtures/rsa.pem"));
    assert_eq!(wrong.unwrap_err(), FileError::WrongObject("CERTIFICATE".into()));
    assert!(
        "strict".parse::<RevocationPolicy>().is_ok() && "no".parse::<RevocationPolicy>().is_err()
    );
}
