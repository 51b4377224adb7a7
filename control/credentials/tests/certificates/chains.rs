//! Chains that are believed and chains that are not.

use super::authority::*;
use rcgen::{BasicConstraints, CidrSubnet, CustomExtension, ExtendedKeyUsagePurpose};
use rcgen::{GeneralSubtree, IsCa, KeyPair, KeyUsagePurpose, NameConstraints};
use xswan_credentials::{AuthMethod, CertificateFault as Fault, Identity, PeerCertificates};
use xswan_credentials::{PeerPolicy, RawPublicKey, SignatureRules};

fn rules(text: &str) -> SignatureRules {
    match text.parse() {
        Ok(AuthMethod::Signature(rules)) => rules,
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_algorithm_of_an_authority() {
    let rsa = rcgen::RsaKeySize::_2048;
    let keys = [
        KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap(),
        KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap(),
        KeyPair::generate_for(&rcgen::PKCS_ECDSA_P521_SHA256).unwrap(),
        KeyPair::generate_for(&rcgen::PKCS_ECDSA_P521_SHA384).unwrap(),
        KeyPair::generate_for(&rcgen::PKCS_ECDSA_P521_SHA512).unwrap(),
        KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap(),
        KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rsa).unwrap(),
        KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA384, rsa).unwrap(),
        KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA512, rsa).unwrap(),
    ];
    for key in keys {
        let root = Authority::root_with(authority_params("root"), key);
        let peer = root.peer("gwa.lab");
        let key = verify(&store(&[&root]), &peer, &[]).unwrap();
        assert_eq!(key.spki_der(), peer.spki_der());
        assert_eq!(key.authority_text(), Some("O=lab, CN=root"));
    }
}

#[test]
fn chains_are_built_from_what_is_configured_and_what_is_sent() {
    let root = Authority::root(authority_params("root"));
    let one = root.below(authority_params("one"));
    let two = one.below(authority_params("two"));
    let peer = two.peer("gwa.lab");
    assert!(verify(&store(&[&root]), &peer, &[&two, &one]).is_ok());
    assert!(verify(&store(&[&root]), &peer, &[&one, &two, &root]).is_ok());
    assert!(verify(&store(&[&root, &one, &two]), &peer, &[]).is_ok());
    assert!(verify(&store(&[&root, &one]), &peer, &[&two]).is_ok());
    assert_eq!(fault(verify(&store(&[&root]), &peer, &[&two])), Fault::UnknownIssuer);
    // An intermediate is no root.
    assert_eq!(fault(verify(&store(&[&one, &two]), &peer, &[])), Fault::UnknownIssuer);
    // What a peer sends is no root either.
    assert_eq!(fault(verify(&store(&[]), &peer, &[&two, &one, &root])), Fault::UnknownIssuer);
}

#[test]
fn aut_04_another_trust_root() {
    let root = Authority::root(authority_params("root"));
    let other = Authority::root(authority_params("other"));
    let same_name = Authority::root(authority_params("root"));
    let peer = root.peer("gwa.lab");
    assert_eq!(fault(verify(&store(&[&other]), &peer, &[])), Fault::UnknownIssuer);
    assert_eq!(fault(verify(&store(&[&same_name]), &peer, &[])), Fault::BadSignature);
    assert!(verify(&store(&[&same_name, &root]), &peer, &[]).is_ok());
}

#[test]
fn aut_04_expired_and_not_yet_valid() {
    let root = Authority::root(authority_params("root"));
    let peer = root.peer("gwa.lab");
    let store = store(&[&root]);
    let at = |now| store.verify_chain(&peer, &[], &PeerPolicy::default(), now);
    assert!(at(NOW).is_ok());
    let late = at(LATER).unwrap_err();
    let line = "certificate expired at 2030-01-01T00:00:00Z (O=lab, CN=gwa.lab)";
    assert_eq!(late.to_string(), line);
    assert!(matches!(late.fault, Fault::Expired { not_after_unix_s } if not_after_unix_s < LATER));
    assert!(matches!(fault(at(BEFORE)), Fault::NotYetValid { .. }));
    assert!(matches!(fault(at(u64::MAX)), Fault::Expired { .. }));
    assert!(matches!(fault(at(0)), Fault::NotYetValid { .. }));
}

#[test]
fn aut_04_expired_authority() {
    let mut old = authority_params("old");
    old.not_after = rcgen::date_time_ymd(2025, 1, 1);
    let root = Authority::root(old.clone());
    let peer = root.peer("gwa.lab");
    let error = verify(&store(&[&root]), &peer, &[]).unwrap_err();
    assert_eq!(error.subject, "O=lab, CN=old");
    assert!(matches!(error.fault, Fault::Expired { .. }));

    let root = Authority::root(authority_params("root"));
    let between = root.below(old);
    let peer = between.peer("gwa.lab");
    let error = verify(&store(&[&root]), &peer, &[&between]).unwrap_err();
    assert_eq!(error.subject, "O=lab, CN=old");
    assert!(matches!(error.fault, Fault::Expired { .. }));
}

#[test]
fn aut_04_extended_key_usage() {
    let root = Authority::root(authority_params("root"));
    let store = store(&[&root]);
    let with = |usages: &[ExtendedKeyUsagePurpose]| {
        let mut params = peer_params("gwa.lab", &["gwa.lab"]);
        params.extended_key_usages = usages.to_vec();
        verify(&store, &root.issue(&params), &[])
    };
    use ExtendedKeyUsagePurpose as Usage;
    let ike = Usage::Other(vec![1, 3, 6, 1, 5, 5, 7, 3, 17]);
    let intermediate = Usage::Other(vec![1, 3, 6, 1, 5, 5, 8, 2, 2]);
    for good in [ike, intermediate, Usage::Any, Usage::ServerAuth, Usage::ClientAuth] {
        assert!(with(std::slice::from_ref(&good)).is_ok(), "{good:?}");
        assert!(with(&[Usage::CodeSigning, good]).is_ok());
    }
    assert!(with(&[]).is_ok());
    for bad in [Usage::CodeSigning, Usage::OcspSigning, Usage::Other(vec![1, 3, 6, 1, 5, 5, 7, 3])]
    {
        assert_eq!(fault(with(&[bad])), Fault::ExtendedKeyUsage);
    }
}

#[test]
fn aut_04_key_usage() {
    let root = Authority::root(authority_params("root"));
    let with = |usages: &[KeyUsagePurpose]| {
        let mut params = peer_params("gwa.lab", &["gwa.lab"]);
        params.key_usages = usages.to_vec();
        verify(&store(&[&root]), &root.issue(&params), &[])
    };
    assert!(with(&[KeyUsagePurpose::DigitalSignature]).is_ok());
    assert!(with(&[KeyUsagePurpose::ContentCommitment]).is_ok());
    assert_eq!(fault(with(&[KeyUsagePurpose::KeyEncipherment])), Fault::KeyUsage);

    let mut params = authority_params("one");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    let one = root.below(params);
    let peer = one.peer("gwa.lab");
    assert_eq!(fault(verify(&store(&[&root]), &peer, &[&one])), Fault::KeyUsage);
    let mut params = authority_params("root");
    params.key_usages = vec![KeyUsagePurpose::CrlSign];
    let root = Authority::root(params);
    assert_eq!(fault(verify(&store(&[&root]), &root.peer("gwa.lab"), &[])), Fault::KeyUsage);
}

#[test]
fn aut_04_name_constraints() {
    let constrained = |permitted: Vec<GeneralSubtree>, excluded: Vec<GeneralSubtree>| {
        let mut params = authority_params("root");
        params.name_constraints =
            Some(NameConstraints { permitted_subtrees: permitted, excluded_subtrees: excluded });
        params
    };
    let lab = || vec![GeneralSubtree::DnsName("lab".into())];
    let good = |params| {
        let root = Authority::root(params);
        verify(&store(&[&root]), &root.peer("gwa.lab"), &[])
    };
    let bad = |params| {
        let root = Authority::root(params);
        fault(verify(&store(&[&root]), &root.peer("gwa.evil"), &[]))
    };
    assert!(good(constrained(lab(), vec![])).is_ok());
    assert_eq!(bad(constrained(lab(), vec![])), Fault::NameConstraint);
    assert_eq!(fault(good(constrained(vec![], lab()))), Fault::NameConstraint);

    // The constraint of an intermediate binds everything below it.
    let root = Authority::root(authority_params("root"));
    let mut params = constrained(lab(), vec![]);
    params.distinguished_name = authority_params("one").distinguished_name;
    let one = root.below(params);
    let two = one.below(authority_params("two"));
    let refused = verify(&store(&[&root]), &two.peer("gwa.evil"), &[&one, &two]);
    assert_eq!(fault(refused), Fault::NameConstraint);
    assert!(verify(&store(&[&root]), &two.peer("gwa.lab"), &[&one, &two]).is_ok());

    // Addresses, and forms of names that are not interpreted: refused, never ignored.
    let net = CidrSubnet::from_v4_prefix([10, 0, 0, 0], 8);
    let root = Authority::root(constrained(vec![GeneralSubtree::IpAddress(net)], vec![]));
    let mut params = peer_params("gwa.lab", &[]);
    params.subject_alt_names = vec![rcgen::SanType::IpAddress([192, 0, 2, 1].into())];
    let refused = verify(&store(&[&root]), &root.issue(&params), &[]);
    assert_eq!(fault(refused), Fault::NameConstraint);
    let mail = GeneralSubtree::Rfc822Name("lab".into());
    let root = Authority::root(constrained(vec![mail], vec![]));
    params.subject_alt_names = vec![rcgen::SanType::Rfc822Name("a@evil".try_into().unwrap())];
    let refused = verify(&store(&[&root]), &root.issue(&params), &[]);
    assert_eq!(fault(refused), Fault::NameConstraint);
}

#[test]
fn aut_04_path_length() {
    let limited = |name, most| {
        let mut params = authority_params(name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(most));
        params
    };
    let root = Authority::root(limited("root", 1));
    let one = root.below(authority_params("one"));
    let two = one.below(authority_params("two"));
    assert!(verify(&store(&[&root]), &one.peer("gwa.lab"), &[&one]).is_ok());
    let refused = verify(&store(&[&root]), &two.peer("gwa.lab"), &[&one, &two]);
    assert_eq!(fault(refused), Fault::PathLength);
    let root = Authority::root(authority_params("root"));
    let one = root.below(limited("one", 0));
    let two = one.below(authority_params("two"));
    assert!(verify(&store(&[&root]), &one.peer("gwa.lab"), &[&one]).is_ok());
    let refused = verify(&store(&[&root]), &two.peer("gwa.lab"), &[&one, &two]);
    assert_eq!(fault(refused), Fault::PathLength);
}

#[test]
fn aut_04_roles() {
    let root = Authority::root(authority_params("root"));
    let mut params = authority_params("one");
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![];
    let no_authority = root.below(params);
    let peer = no_authority.peer("gwa.lab");
    let refused = verify(&store(&[&root]), &peer, &[&no_authority]);
    assert_eq!(fault(refused), Fault::NotAnAuthority);
    let error = xswan_credentials::TrustStore::default()
        .add_authority(no_authority.certificate)
        .unwrap_err();
    assert_eq!(error.fault, Fault::NotAnAuthority);
    let one = root.below(authority_params("one"));
    let mut params = authority_params("one");
    params.key_usages.push(KeyUsagePurpose::DigitalSignature);
    let as_peer = verify(&store(&[&root]), &root.issue(&params), &[]);
    assert_eq!(fault(as_peer), Fault::AuthorityAsPeer);
    assert_eq!(fault(verify(&store(&[&root]), &one.certificate, &[])), Fault::KeyUsage);
}

#[test]
fn aut_04_unknown_critical_extension() {
    let root = Authority::root(authority_params("root"));
    let with = |critical| {
        let mut params = peer_params("gwa.lab", &["gwa.lab"]);
        let mut extension =
            CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99999, 1], vec![5, 0]);
        extension.set_criticality(critical);
        params.custom_extensions = vec![extension];
        verify(&store(&[&root]), &root.issue(&params), &[])
    };
    assert!(with(false).is_ok());
    assert_eq!(fault(with(true)), Fault::CriticalExtension);
}

#[test]
fn pinned_certificates_need_no_authority() {
    let root = Authority::root(authority_params("root"));
    let own_key = ec();
    let own = decode(&peer_params("gwa.lab", &["gwa.lab"]).self_signed(&own_key).unwrap());
    let twin = decode(&peer_params("gwa.lab", &["gwa.lab"]).self_signed(&ec()).unwrap());
    let issued = root.peer("gwb.lab");
    let pin = |certificate: &xswan_credentials::Certificate| PeerPolicy {
        certificates: vec![certificate.clone()],
        ..PeerPolicy::default()
    };
    let empty = store(&[]);
    let key = empty.verify_chain(&own, &[], &pin(&own), NOW).unwrap();
    assert_eq!((key.spki_der(), key.authority_text()), (own.spki_der(), None));
    assert!(empty.verify_chain(&issued, &[], &pin(&issued), NOW).is_ok());
    assert_eq!(fault(empty.verify_chain(&twin, &[], &pin(&own), NOW)), Fault::NotPinned);
    assert_eq!(fault(verify(&empty, &own, &[])), Fault::UnknownIssuer);
    let late = empty.verify_chain(&own, &[], &pin(&own), LATER);
    assert!(matches!(fault(late), Fault::Expired { .. }));
    // A good chain does not replace the pin, and a pin does not replace an asked-for authority.
    let full = store(&[&root]);
    assert_eq!(fault(full.verify_chain(&issued, &[], &pin(&own), NOW)), Fault::NotPinned);
    let both = PeerPolicy { authorities: vec![root.certificate.clone()], ..pin(&own) };
    assert_eq!(fault(full.verify_chain(&own, &[], &both, NOW)), Fault::UnknownIssuer);
    let gwa = Identity::parse("gwa.lab").unwrap();
    let gwb = Identity::parse("gwb.lab").unwrap();
    assert_eq!(empty.configured_keys(&gwa, &pin(&own), NOW).len(), 1);
    assert!(empty.configured_keys(&gwb, &pin(&own), NOW).is_empty());
    assert!(empty.configured_keys(&gwa, &pin(&own), LATER).is_empty());
}

#[test]
fn accepted_authorities_of_a_connection() {
    let (root, other) =
        (Authority::root(authority_params("root")), Authority::root(authority_params("other")));
    let one = root.below(authority_params("one"));
    let store = store(&[&root, &other, &one]);
    let only = |authority: &Authority| PeerPolicy {
        authorities: vec![authority.certificate.clone()],
        ..PeerPolicy::default()
    };
    let peer = one.peer("gwa.lab");
    assert!(store.verify_chain(&peer, &[], &only(&root), NOW).is_ok());
    assert!(store.verify_chain(&peer, &[], &only(&one), NOW).is_ok());
    let refused = store.verify_chain(&peer, &[], &only(&other), NOW);
    assert_eq!(fault(refused), Fault::AuthorityNotAccepted);
}

#[test]
fn words_of_auth_bind_chains() {
    let p384 = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    let root = Authority::root_with(authority_params("root"), p384);
    let peer = root.peer("gwa.lab");
    let store = store(&[&root]);
    let with = |text| {
        let policy = PeerPolicy { rules: rules(text), ..PeerPolicy::default() };
        store.verify_chain(&peer, &[], &policy, NOW)
    };
    for good in ["pubkey", "ecdsa", "ecdsa-256", "pubkey-sha384", "ike:pubkey-sha256"] {
        assert!(with(good).is_ok(), "{good}");
    }
    assert_eq!(fault(with("pubkey-sha256")), Fault::SignatureAlgorithm);
    assert_eq!(fault(with("rsa")), Fault::KeyNotPermitted);
    assert_eq!(fault(with("ecdsa-384")), Fault::KeyNotPermitted);
}

#[test]
fn raw_keys() {
    let root = Authority::root(authority_params("root"));
    let peer = root.peer("gwa.lab");
    let key = RawPublicKey::from_spki(peer.spki_der()).unwrap();
    let policy = PeerPolicy { public_keys: vec![key.clone()], ..PeerPolicy::default() };
    let sent = PeerCertificates::from_payloads([(15, key.spki_der())]).unwrap();
    let empty = store(&[]);
    let verified = empty.verify_peer(&sent, &policy, NOW).unwrap();
    assert_eq!(verified.spki_der(), key.spki_der());
    let refused = empty.verify_peer(&sent, &PeerPolicy::default(), NOW);
    assert_eq!(fault(refused), Fault::NotPinned);
    let nothing = PeerCertificates::default();
    assert_eq!(fault(empty.verify_peer(&nothing, &policy, NOW)), Fault::Missing);
    let gwa = Identity::parse("gwa.lab").unwrap();
    assert_eq!(empty.configured_keys(&gwa, &policy, NOW), [verified]);
}

#[test]
fn certificate_requests() {
    let root = Authority::root(authority_params("root"));
    let one = root.below(authority_params("one"));
    let other = Authority::root(authority_params("other"));
    let own = one.peer("gwa.lab");
    let store = store(&[&root, &one, &other]);
    let request = store.certificate_request();
    assert_eq!(request.len(), 60);
    assert_eq!(request[..20], *root.certificate.key_id());
    assert!(store.answers_request(&own, &request));
    assert!(store.answers_request(&own, root.certificate.key_id()));
    assert!(store.answers_request(&own, one.certificate.key_id()));
    assert!(!store.answers_request(&own, other.certificate.key_id()));
    assert!(store.answers_request(&own, &[]));
    assert!(!store.answers_request(&own, &[0; 19]));
    assert_eq!(store.chain_of(&own), std::slice::from_ref(&one.certificate));
}
