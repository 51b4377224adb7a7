//! Who may come in and who may not.
#![expect(clippy::expect_used, reason = "a test stops at the first surprise")]

mod support;

use rcgen::{
    PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ECDSA_P521_SHA512, PKCS_ED25519,
    PKCS_RSA_SHA256,
};
use support::{
    Authority, Holder, add_secret, assert_nothing, assert_up, certified, initiate, logs, network,
    network_with,
};
use xswan_credentials::{
    AuthMethod, Identity, IdentityPattern, RawPublicKey, SharedSecretKind, SharedSecrets,
    TrustStore,
};
use xswan_ike_crypto::Secret;
use xswan_ikev2::policy::{
    Childless, Configuration, ConnectionPolicy, LocalRound, SendCertificate,
};

fn holders(authority: &Authority, algorithm: &'static rcgen::SignatureAlgorithm) -> [Holder; 2] {
    [authority.issue("gwa.test", algorithm), authority.issue("gwb.test", algorithm)]
}

fn method(text: &str) -> AuthMethod {
    text.parse().expect("a method")
}

#[test]
fn certificates_of_every_key_type() {
    let authority = Authority::new("CA");
    for algorithm in [
        &PKCS_RSA_SHA256,
        &PKCS_ECDSA_P256_SHA256,
        &PKCS_ECDSA_P384_SHA384,
        &PKCS_ECDSA_P521_SHA512,
        &PKCS_ED25519,
    ] {
        let holders = holders(&authority, algorithm);
        let mut network = certified(&authority, &holders, "pubkey", |_, _| {}, |_, _| {});
        assert_eq!(initiate(&mut network), Ok(1), "{algorithm:?}\n{}", logs(&network));
        assert_up(&network);
    }
}

#[test]
fn raw_public_keys_without_any_certificate() {
    let authority = Authority::new("CA");
    let holders = [
        authority.issue("gwa.test", &PKCS_ED25519),
        authority.issue("gwb.test", &PKCS_ECDSA_P384_SHA384),
    ];
    let stranger = authority.issue("gwa.test", &PKCS_ED25519);
    let key_of = |holder: &Holder| {
        RawPublicKey::from_spki(holder.certificate.spki_der()).expect("a public key")
    };
    for send in [SendCertificate::Always, SendCertificate::IfAsked, SendCertificate::Never] {
        for known in [&holders[0], &stranger] {
            let bare = |number: usize, connection: &mut ConnectionPolicy| {
                let local = &mut connection.local_rounds[0];
                local.certificates.clear();
                local.public_keys = vec![key_of(&holders[number])];
                let peers = if number == 0 { &holders[1] } else { known };
                connection.remote_rounds[0].peer.public_keys = vec![key_of(peers)];
                connection.send_certificate = send;
            };
            let no_authority = |_: usize, configuration: &mut Configuration| {
                configuration.trust = TrustStore::default();
            };
            let mut network = certified(&authority, &holders, "pubkey", bare, no_authority);
            let done = initiate(&mut network);
            if std::ptr::eq(known, &raw const stranger) {
                assert!(done.is_err(), "{send:?}: another key than the one that is known");
                assert_nothing(&network);
            } else {
                assert_eq!(done, Ok(1), "{send:?}\n{}", logs(&network));
                assert_up(&network);
            }
        }
    }
}

#[test]
fn a_demanded_scheme_is_used_and_another_one_refused() {
    let authority = Authority::new("CA");
    let holders = holders(&authority, &PKCS_RSA_SHA256);
    let mut pss = certified(&authority, &holders, "ike:rsa/pss-sha384", |_, _| {}, |_, _| {});
    assert_eq!(initiate(&mut pss), Ok(1), "{}", logs(&pss));
    assert!(pss.gateways[1].log.join("\n").contains("RSA_EMSA_PSS_SHA2_384_SALT_48"));
    let mut refused = certified(
        &authority,
        &holders,
        "pubkey",
        |number, connection| {
            if number == 1 {
                connection.remote_rounds[0].method = method("ike:rsa/pss-sha512");
            }
        },
        |_, _| {},
    );
    assert!(initiate(&mut refused).is_err());
    assert_nothing(&refused);
}

#[test]
fn aut_01_a_wrong_psk_leaves_nothing_behind() {
    let mut network = network_with(
        |_, _| {},
        |number, configuration| {
            if number == 0 {
                configuration.secrets = SharedSecrets::default();
                let wrong = Secret::from_slice(b"another key");
                configuration.secrets.add(SharedSecretKind::Ike, [], wrong).expect("added");
            }
        },
    );
    let why = initiate(&mut network).expect_err("refused");
    assert!(why.contains("AUTH_FAILED"), "{why}");
    assert_nothing(&network);
    assert!(network.gateways[1].log.join("\n").contains("MAC mismatched"), "{}", logs(&network));
}

#[test]
fn aut_03_the_right_certificate_of_somebody_else() {
    let authority = Authority::new("CA");
    let holders = [
        authority.issue("gwc.test", &PKCS_ECDSA_P256_SHA256),
        authority.issue("gwb.test", &PKCS_ECDSA_P256_SHA256),
    ];
    let mut network = certified(&authority, &holders, "pubkey", |_, _| {}, |_, _| {});
    assert!(initiate(&mut network).is_err());
    assert!(network.gateways[1].log.join("\n").contains("is not that of 'gwa.test'"));
    assert_nothing(&network);
}

#[test]
fn aut_04_expired_and_foreign_certificates() {
    let (authority, foreign) = (Authority::new("CA"), Authority::new("another CA"));
    let expired = authority.issue_with("gwa.test", &PKCS_ECDSA_P256_SHA256, |params| {
        params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    });
    let other = || authority.issue("gwb.test", &PKCS_ECDSA_P256_SHA256);
    let cases = [
        ([expired, other()], "expired"),
        ([foreign.issue("gwa.test", &PKCS_ECDSA_P256_SHA256), other()], "issuer"),
    ];
    for (holders, word) in cases {
        let mut network = certified(&authority, &holders, "pubkey", |_, _| {}, |_, _| {});
        let why = initiate(&mut network).expect_err("refused");
        assert!(why.contains("AUTH_FAILED"), "{why}");
        let log = network.gateways[1].log.join("\n");
        assert!(log.to_lowercase().contains(word), "{word}: {log}");
        assert_nothing(&network);
    }
}

#[test]
fn aut_05_a_gateway_that_is_not_the_right_one_is_told_no_more() {
    let mut network = network(|number, connection| {
        if number == 0 {
            let other = Identity::parse("somebody.else").expect("an identity");
            connection.remote_rounds[0].id = IdentityPattern::exact(other);
        }
    });
    assert!(initiate(&mut network).is_err());
    assert_nothing(&network);
}

#[test]
fn aut_09_no_key_configured_on_either_side() {
    for without in [0, 1] {
        let mut network = network_with(
            |_, _| {},
            |number, configuration| {
                if number == without {
                    configuration.secrets = SharedSecrets::default();
                }
            },
        );
        assert!(initiate(&mut network).is_err());
        assert_nothing(&network);
    }
}

fn eap_client(connection: &mut ConnectionPolicy, number: usize) {
    let alice = Identity::parse("alice").expect("an identity");
    if number == 0 {
        connection.local_rounds[0].method = method("eap-mschapv2");
        connection.local_rounds[0].eap_id = Some(alice);
    } else {
        connection.remote_rounds[0].method = method("eap-mschapv2");
        connection.remote_rounds[0].eap_id = Some(IdentityPattern::ANY);
        connection.remote_rounds[0].id = IdentityPattern::ANY;
    }
}

#[test]
fn eap_mschapv2_for_the_client_and_a_certificate_for_the_gateway() {
    let authority = Authority::new("CA");
    let holders = holders(&authority, &PKCS_ECDSA_P256_SHA256);
    for (password, right) in [("lab eap", true), ("guess", false)] {
        let mut network = certified(
            &authority,
            &holders,
            "pubkey",
            |number, connection| eap_client(connection, number),
            |number, configuration| {
                let secret = if number == 0 { password } else { "lab eap" };
                let kind = SharedSecretKind::Eap;
                add_secret(configuration, kind, "alice", secret.as_bytes());
            },
        );
        assert_eq!(initiate(&mut network).is_ok(), right, "{}", logs(&network));
        if right {
            assert_up(&network);
        } else {
            assert_nothing(&network);
        }
    }
}

#[test]
fn eap_tls_in_both_directions_and_nothing_else() {
    let authority = Authority::new("CA");
    let holders = holders(&authority, &PKCS_ECDSA_P256_SHA256);
    let eap = |number: usize, connection: &mut ConnectionPolicy| {
        let (local, remote) = (&mut connection.local_rounds[0], &mut connection.remote_rounds[0]);
        local.method = method("eap-tls");
        remote.method = method("eap-tls");
        if number == 0 {
            local.eap_tls = Some(holders[0].tls_client(&authority));
        } else {
            remote.eap_tls = Some(holders[1].tls_server(&authority));
        }
    };
    let mut network = certified(&authority, &holders, "pubkey", eap, |_, _| {});
    assert_eq!(initiate(&mut network), Ok(1), "{}", logs(&network));
    assert_up(&network);
}

#[test]
fn aut_03_eap_tls_with_the_certificate_of_somebody_else() {
    let authority = Authority::new("CA");
    let holders = [
        authority.issue("gwc.test", &PKCS_ECDSA_P256_SHA256),
        authority.issue("gwb.test", &PKCS_ECDSA_P256_SHA256),
    ];
    let eap = |number: usize, connection: &mut ConnectionPolicy| {
        if number == 0 {
            connection.local_rounds[0].method = method("eap-tls");
            connection.local_rounds[0].eap_tls = Some(holders[0].tls_client(&authority));
        } else {
            connection.remote_rounds[0].method = method("eap-tls");
            connection.remote_rounds[0].eap_tls = Some(holders[1].tls_server(&authority));
        }
    };
    let mut network = certified(&authority, &holders, "pubkey", eap, |_, _| {});
    assert!(initiate(&mut network).is_err());
    assert!(logs(&network).contains("is not that of 'gwa.test'"), "{}", logs(&network));
    assert_nothing(&network);
}

#[test]
fn two_rounds_on_one_side() {
    let authority = Authority::new("CA");
    let holders = holders(&authority, &PKCS_ECDSA_P256_SHA256);
    let rounds = |number: usize, connection: &mut ConnectionPolicy| {
        if number == 0 {
            let second = LocalRound {
                method: method("eap-mschapv2"),
                id: connection.local_rounds[0].id.clone(),
                eap_id: Some(Identity::parse("alice").expect("an identity")),
                certificates: Vec::new(),
                public_keys: Vec::new(),
                eap_tls: None,
            };
            connection.local_rounds.push(second);
        } else {
            let mut second = connection.remote_rounds[0].clone();
            second.method = method("eap-mschapv2");
            second.eap_id = Some(IdentityPattern::ANY);
            connection.remote_rounds.push(second);
        }
    };
    for (password, right) in [("lab eap", true), ("guess", false)] {
        let mut network = certified(&authority, &holders, "pubkey", rounds, |number, whole| {
            let secret = if number == 0 { password } else { "lab eap" };
            add_secret(whole, SharedSecretKind::Eap, "alice", secret.as_bytes());
        });
        assert_eq!(initiate(&mut network).is_ok(), right, "{}", logs(&network));
        if right {
            assert_up(&network);
        } else {
            assert_nothing(&network);
        }
    }
}

fn ppk(number: usize, whole: [bool; 2], required: [bool; 2]) -> impl Fn(&mut ConnectionPolicy) {
    move |connection| {
        if whole[number] {
            connection.ppk_id = Some(Identity::parse("ppk1").expect("an identity"));
            connection.ppk_required = required[number];
        }
    }
}

#[test]
fn ppk_used_left_out_and_demanded() {
    let cases = [
        // who has it, who demands it, whether it comes up, whether it is used
        ([true, true], [true, true], true, true),
        ([true, true], [false, false], true, true),
        ([true, false], [false, false], true, false),
        ([false, true], [false, false], true, false),
        ([true, false], [true, false], false, false),
        ([false, true], [false, true], false, false),
    ];
    for (have, demand, up, used) in cases {
        let mut network = network_with(
            |number, connection| ppk(number, have, demand)(connection),
            |number, configuration| {
                if have[number] {
                    let kind = SharedSecretKind::Ppk;
                    add_secret(configuration, kind, "ppk1", &[7; 32]);
                }
            },
        );
        let result = initiate(&mut network);
        assert_eq!(result.is_ok(), up, "{have:?} {demand:?} {result:?}\n{}", logs(&network));
        if up {
            assert_up(&network);
            let log = network.gateways[1].log.join("\n");
            assert_eq!(log.contains("using PPK for PPK_ID 'ppk1'"), used, "{log}");
        } else {
            assert_nothing(&network);
        }
    }
}

#[test]
fn ppk_of_another_value_fails() {
    let mut network = network_with(
        |number, connection| ppk(number, [true, true], [true, true])(connection),
        |number, configuration| {
            add_secret(configuration, SharedSecretKind::Ppk, "ppk1", &[number as u8 + 1; 32]);
        },
    );
    assert!(initiate(&mut network).is_err());
    assert_nothing(&network);
}

#[test]
fn childless_as_both_sides_want_it() {
    let mut network = network(|_, connection| connection.childless = Childless::Force);
    assert_eq!(initiate(&mut network), Ok(1), "{}", logs(&network));
    assert_up(&network);
}

#[test]
fn large_messages_go_in_fragments() {
    let authority = Authority::new("CA");
    let holders = holders(&authority, &PKCS_RSA_SHA256);
    let mut network = certified(
        &authority,
        &holders,
        "pubkey",
        |_, _| {},
        |_, configuration| {
            configuration.settings.fragment_size = 576;
        },
    );
    assert_eq!(initiate(&mut network), Ok(1), "{}", logs(&network));
    assert_up(&network);
    // IKE_SA_INIT is one datagram; what is more than one for IKE_AUTH are fragments.
    assert!(network.sent[0] > 2 && network.sent[1] > 2, "{:?}", network.sent);
}
