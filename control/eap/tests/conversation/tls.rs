//! EAP-TLS: versions, fragments, and certificates that must not be accepted.

use rcgen::{ExtendedKeyUsagePurpose, PKCS_ECDSA_P384_SHA384, PKCS_ED25519};
use xswan_eap::tls::{
    ClientCredential, CredentialError, DEFAULT_FRAGMENT_BYTES, MIN_FRAGMENT_BYTES, OwnCertificate,
    ServerCredential, Versions,
};
use xswan_eap::{
    Client, ClientConfig, ClientStep, ClientTls, Peer, Reason, Server, ServerConfig, ServerMethod,
    ServerStep,
};
use xswan_ike_crypto::Secret;

use crate::certificates::{Authority, NOW_UNIX_S, Wish};
use crate::exchange::{GATEWAY, Host, Outcome, converse};

/// Everything about a conversation that a test may want otherwise.
struct Scene {
    server: OwnCertificate,
    client: OwnCertificate,
    /// Whom the client believes.
    client_anchors: Vec<Vec<u8>>,
    /// Whom the server believes.
    server_anchors: Vec<Vec<u8>>,
    server_versions: Versions,
    client_versions: Versions,
    fragment_bytes: usize,
    now_unix_s: u64,
    ask_identity: bool,
}

impl Scene {
    fn new(authority: &Authority) -> Self {
        Self {
            server: authority.issue(&Wish::new(GATEWAY)),
            client: authority.issue(&Wish::new("alice.example.org")),
            client_anchors: vec![authority.der()],
            server_anchors: vec![authority.der()],
            server_versions: Versions::Both,
            client_versions: Versions::Both,
            fragment_bytes: DEFAULT_FRAGMENT_BYTES,
            now_unix_s: NOW_UNIX_S,
            ask_identity: true,
        }
    }

    fn sides(&self) -> (ServerConfig, ClientConfig) {
        let server = ServerConfig {
            method: ServerMethod::Tls {
                credential: ServerCredential::new(
                    &self.server,
                    &self.server_anchors,
                    self.server_versions,
                )
                .unwrap(),
                now_unix_s: self.now_unix_s,
                fragment_bytes: self.fragment_bytes,
            },
            ask_identity: self.ask_identity,
            identity: b"idi@example.org".to_vec(),
        };
        let client = ClientConfig {
            identity: b"alice@example.org".to_vec(),
            password: None,
            tls: Some(ClientTls {
                credential: ClientCredential::new(
                    &self.client,
                    &self.client_anchors,
                    self.client_versions,
                )
                .unwrap(),
                now_unix_s: self.now_unix_s,
                fragment_bytes: self.fragment_bytes,
            }),
        };
        (server, client)
    }

    fn play(&self) -> Outcome {
        let (server, client) = self.sides();
        converse(server, client, &mut Host::new(&[]))
    }

    fn expect_success(&self) -> Outcome {
        let outcome = self.play();
        let (_, peer) = outcome.agreed();
        let claimed: &[u8] =
            if self.ask_identity { b"alice@example.org" } else { b"idi@example.org" };
        let Peer::Certificate { chain, claimed_identity } = peer else { panic!("{peer:?}") };
        assert_eq!(*chain, self.client.chain);
        assert_eq!(claimed_identity, claimed);
        assert_eq!(outcome.client.as_ref().unwrap().1, self.server.chain);
        outcome
    }
}

#[test]
fn every_version_and_the_highest_common_one() {
    let authority = Authority::new("Root");
    let mut keys = Vec::new();
    for (server, client) in [
        (Versions::Both, Versions::Both),
        (Versions::Only12, Versions::Both),
        (Versions::Both, Versions::Only12),
        (Versions::Only12, Versions::Only12),
        (Versions::Only13, Versions::Both),
        (Versions::Both, Versions::Only13),
    ] {
        let mut scene = Scene::new(&authority);
        (scene.server_versions, scene.client_versions) = (server, client);
        scene.ask_identity = !scene.ask_identity;
        keys.push(scene.expect_success().agreed().0.clone());
    }
    keys.dedup();
    assert_eq!(keys.len(), 6);
}

#[test]
fn tls_13_needs_the_octet_that_commits_the_server() {
    let scene = Scene::new(&Authority::new("Root"));
    let outcome = scene.expect_success();
    // .. the server's data, the client's empty answer, EAP-Success.
    let [.., commitment, empty, success] = &outcome.packets[..] else { panic!() };
    assert_eq!(commitment[..1], [1]);
    assert_eq!(empty[..], [2, commitment[1], 0, 6, 13, 0]);
    assert_eq!(success[..], [3, commitment[1], 0, 4]);
}

#[test]
fn aut_06_early_success_in_tls() {
    let authority = Authority::new("Root");
    for versions in [Versions::Only12, Versions::Only13] {
        let mut scene = Scene::new(&authority);
        scene.server_versions = versions;
        scene.fragment_bytes = 300;
        let exchanges = scene.expect_success().packets.len() / 2;
        // `early` requests are answered, all but the last one; then success is claimed.
        for early in 0..exchanges {
            let (server, client) = scene.sides();
            let (mut server, mut client) = (Server::new(server), Client::new(client).unwrap());
            let mut host = Host::new(&[]);
            let mut request = server.start(&mut host).unwrap();
            for _ in 0..early {
                let step = client.handle(&request, &mut host);
                let ClientStep::Send(response) = step else { panic!("{step:?}") };
                let step = server.handle(&response, &mut host);
                let ServerStep::Send(next) = step else { panic!("{step:?}") };
                request = next;
            }
            let step = client.handle(&[3, request[1], 0, 4], &mut host);
            let ClientStep::Failure { reason } = step else { panic!("{early}: {step:?}") };
            assert_eq!(reason, Reason::EarlySuccess, "{versions:?} {early}");
        }
    }
}

#[test]
fn fragments_of_every_size() {
    let authority = Authority::new("Root");
    let middle = authority.subordinate("Middle");
    for versions in [Versions::Only12, Versions::Only13] {
        for fragment_bytes in [100, 255, 1024, 5000] {
            let mut scene = Scene::new(&authority);
            scene.client = middle.issue(&Wish::new("alice.example.org"));
            scene.client.chain.push(middle.der());
            scene.server_versions = versions;
            scene.fragment_bytes = fragment_bytes;
            let outcome = scene.expect_success();
            assert!(outcome.packets.iter().all(|packet| packet.len() <= fragment_bytes));
        }
    }
}

#[test]
fn more_fragments_than_rounds_is_a_failure_and_not_a_hang() {
    let authority = Authority::new("Root");
    let mut scene = Scene::new(&authority);
    scene.fragment_bytes = MIN_FRAGMENT_BYTES;
    for _ in 0..20 {
        scene.server.chain.extend(authority.issue(&Wish::new("unrelated.example.org")).chain);
    }
    // The client counts one packet more than the server.
    assert_eq!(scene.play().client.unwrap_err(), Reason::TooManyRounds);
}

#[test]
fn keys_of_other_kinds() {
    let authority = Authority::new("Root");
    for algorithm in [&PKCS_ED25519, &PKCS_ECDSA_P384_SHA384] {
        for versions in [Versions::Only12, Versions::Only13] {
            let mut scene = Scene::new(&authority);
            let wish = Wish { algorithm, ..Wish::new("alice.example.org") };
            scene.client = authority.issue(&wish);
            scene.server = authority.issue(&Wish { name: GATEWAY, ..wish });
            scene.client_versions = versions;
            scene.expect_success();
        }
    }
}

/// Both fail, the server because of the client's certificate.
fn expect_client_refused(scene: &mut Scene) {
    for versions in [Versions::Only12, Versions::Only13] {
        scene.server_versions = versions;
        let outcome = scene.play();
        let (server, client) = outcome.refused();
        assert!(matches!(server, Reason::Tls(_)), "{server}");
        assert!(matches!(client, Reason::Tls(_)), "{client}");
        assert_eq!(outcome.packets.last().unwrap()[0], 4);
    }
}

#[test]
fn foreign_client_certificate() {
    let authority = Authority::new("Root");
    let mut scene = Scene::new(&authority);
    // The same name of an authority does not help.
    scene.client = Authority::new("Root").issue(&Wish::new("alice.example.org"));
    expect_client_refused(&mut scene);
}

#[test]
fn expired_and_future_client_certificates() {
    let authority = Authority::new("Root");
    for years in [(2020, 2025), (2027, 2040)] {
        let mut scene = Scene::new(&authority);
        scene.client = authority.issue(&Wish { years, ..Wish::new("alice.example.org") });
        expect_client_refused(&mut scene);
    }
}

#[test]
fn client_certificate_without_its_intermediate() {
    let authority = Authority::new("Root");
    let mut scene = Scene::new(&authority);
    scene.client = authority.subordinate("Middle").issue(&Wish::new("alice.example.org"));
    expect_client_refused(&mut scene);
}

#[test]
fn key_usage_of_clients_and_servers() {
    use ExtendedKeyUsagePurpose::{ClientAuth, CodeSigning, Other, ServerAuth};
    let authority = Authority::new("Root");
    let ike = Other(vec![1, 3, 6, 1, 5, 5, 7, 3, 17]);
    let intermediate = Other(vec![1, 3, 6, 1, 5, 5, 8, 2, 2]);
    for (usages, client_good, server_good) in [
        (vec![], true, true),
        (vec![ike], true, true),
        (vec![CodeSigning, intermediate], true, true),
        (vec![ClientAuth], true, false),
        (vec![ServerAuth], false, true),
        (vec![CodeSigning], false, false),
    ] {
        let wish = Wish { usages, ..Wish::new("alice.example.org") };
        let mut scene = Scene::new(&authority);
        scene.client = authority.issue(&wish);
        assert_eq!(scene.play().server.is_ok(), client_good, "client {:?}", wish.usages);
        let mut scene = Scene::new(&authority);
        scene.server = authority.issue(&wish);
        assert_eq!(scene.play().client.is_ok(), server_good, "server {:?}", wish.usages);
    }
}

#[test]
fn server_of_a_foreign_authority_learns_nothing_of_the_client() {
    for versions in [Versions::Only12, Versions::Only13] {
        let authority = Authority::new("Root");
        let mut scene = Scene::new(&authority);
        scene.server = Authority::new("Elsewhere").issue(&Wish::new(GATEWAY));
        scene.server_versions = versions;
        let outcome = scene.play();
        let (server, client) = outcome.refused();
        assert!(matches!(server, Reason::Tls(_)), "{server}");
        assert!(matches!(client, Reason::Tls(_)), "{client}");
        // AUT-05: the client's certificate was not shown.
        let shown = &scene.client.chain[0][..64];
        let sent = outcome.packets.concat();
        assert!(!sent.windows(shown.len()).any(|window| window == shown));
    }
}

#[test]
fn no_common_version() {
    let mut scene = Scene::new(&Authority::new("Root"));
    scene.server_versions = Versions::Only13;
    scene.client_versions = Versions::Only12;
    let outcome = scene.play();
    assert!(matches!(outcome.refused().0, Reason::Tls(_)));
}

#[test]
fn key_of_another_certificate_is_found_out_at_once() {
    let authority = Authority::new("Root");
    let mut own = authority.issue(&Wish::new(GATEWAY));
    let anchors = [authority.der()];
    own.key = authority.issue(&Wish::new(GATEWAY)).key;
    let error = ServerCredential::new(&own, &anchors, Versions::Both).unwrap_err();
    assert!(matches!(error, CredentialError::Certificate(_)), "{error}");
    let error = ClientCredential::new(&own, &anchors, Versions::Both).unwrap_err();
    assert!(matches!(error, CredentialError::Certificate(_)), "{error}");
    own.key = Secret::from_slice(b"not a key");
    let error = ClientCredential::new(&own, &anchors, Versions::Both).unwrap_err();
    assert_eq!(error, CredentialError::Key);
    let error = ClientCredential::new(&own, &[], Versions::Both).unwrap_err();
    assert_eq!(error, CredentialError::NoAnchor);
    let error = ClientCredential::new(&own, &[vec![0x30, 0]], Versions::Both).unwrap_err();
    assert!(matches!(error, CredentialError::Anchor(0, _)), "{error}");
}

#[test]
fn debug_hides_keys() {
    let scene = Scene::new(&Authority::new("Root"));
    let (server, client) = scene.sides();
    let key = format!("{:?}", &scene.client.key.as_bytes()[60..64]);
    let key = key.trim_matches(['[', ']']);
    let texts = [
        format!("{:?}", scene.client),
        format!("{:?}", Client::new(client).unwrap()),
        format!("{:?}", Server::new(server)),
    ];
    for text in &texts[1..] {
        assert!(text.contains("hidden"), "{text}");
    }
    for text in texts {
        assert!(!text.contains(key), "{text}");
    }
}
