//! Packets that are wrong somewhere: nobody panics, nobody succeeds.

use std::sync::OnceLock;

use proptest::prelude::*;
use xswan_eap::tls::{ClientCredential, OwnCertificate, ServerCredential, Versions};
use xswan_eap::{
    Client, ClientConfig, ClientStep, ClientTls, Password, Server, ServerConfig, ServerMethod,
    ServerStep,
};

use crate::certificates::{Authority, NOW_UNIX_S, Wish};
use crate::exchange::{GATEWAY, Host};

/// Keys are made once.
fn material() -> &'static (OwnCertificate, OwnCertificate, Vec<u8>) {
    static MATERIAL: OnceLock<(OwnCertificate, OwnCertificate, Vec<u8>)> = OnceLock::new();
    MATERIAL.get_or_init(|| {
        let authority = Authority::new("Root");
        let server = authority.issue(&Wish::new(GATEWAY));
        (server, authority.issue(&Wish::new("alice.example.org")), authority.der())
    })
}

fn server(tls: bool, versions: Versions) -> Server {
    let (own, _, anchor) = material();
    let method = if tls {
        let credential =
            ServerCredential::new(own, std::slice::from_ref(anchor), versions).unwrap();
        ServerMethod::Tls { credential, now_unix_s: NOW_UNIX_S, fragment_bytes: 400 }
    } else {
        ServerMethod::MschapV2 { server_name: GATEWAY.to_owned() }
    };
    Server::new(ServerConfig { method, ask_identity: true, identity: Vec::new() })
}

fn client() -> Client {
    let (_, own, anchor) = material();
    let credential =
        ClientCredential::new(own, std::slice::from_ref(anchor), Versions::Both).unwrap();
    Client::new(ClientConfig {
        identity: b"alice".to_vec(),
        password: Some(Password::from_text(b"correct horse")),
        tls: Some(ClientTls { credential, now_unix_s: NOW_UNIX_S, fragment_bytes: 400 }),
    })
    .unwrap()
}

/// One change to one packet.
#[derive(Debug, Clone)]
enum Change {
    Flip(usize, u8),
    Cut(usize),
    Append(Vec<u8>),
    /// Cut, and the EAP length made to fit.
    CutFitting(usize),
    Replace(Vec<u8>),
}

impl Change {
    fn apply(&self, packet: &mut Vec<u8>) {
        let len = packet.len();
        match self {
            Self::Flip(at, bits) => packet[at % len] ^= bits,
            Self::Cut(at) => packet.truncate(at % len),
            Self::Append(more) => packet.extend(more),
            Self::CutFitting(at) => {
                packet.truncate((at % len).max(4));
                let len = u16::try_from(packet.len()).unwrap();
                packet[2..4].copy_from_slice(&len.to_be_bytes());
            }
            Self::Replace(other) => packet.clone_from(other),
        }
    }
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        4 => (any::<usize>(), 1..=u8::MAX).prop_map(|(at, bits)| Change::Flip(at, bits)),
        1 => any::<usize>().prop_map(Change::Cut),
        1 => prop::collection::vec(any::<u8>(), 1..20).prop_map(Change::Append),
        2 => any::<usize>().prop_map(Change::CutFitting),
        1 => prop::collection::vec(any::<u8>(), 0..60).prop_map(Change::Replace),
    ]
}

/// Runs a conversation in which packet `target` is changed. Where both succeed all the same (an
/// octet nobody looks at), they have the same key.
fn disturb(tls: bool, versions: Versions, target: usize, change: &Change) {
    let mut host = Host::new(&[("alice", "correct horse")]);
    let (mut server, mut client) = (server(tls, versions), client());
    let mut packet = server.start(&mut host).unwrap();
    let mut key = None;
    for number in (0..).step_by(2) {
        if number == target {
            change.apply(&mut packet);
        }
        packet = match client.handle(&packet, &mut host) {
            ClientStep::Send(packet) => packet,
            ClientStep::Success { msk, .. } => return assert_eq!(key, Some(msk)),
            ClientStep::Failure { .. } => return,
        };
        if number + 1 == target {
            change.apply(&mut packet);
        }
        packet = match server.handle(&packet, &mut host) {
            ServerStep::Send(packet) => packet,
            ServerStep::Success { packet, msk, .. } => {
                key = Some(msk);
                packet
            }
            ServerStep::Failure { packet, .. } => packet,
        };
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn ike_21_a_changed_packet_of_mschapv2(target in 0usize..8, change in change()) {
        disturb(false, Versions::Both, target, &change);
    }

    #[test]
    fn ike_21_a_changed_packet_of_tls(
        target in 0usize..20,
        only_12 in any::<bool>(),
        change in change(),
    ) {
        let versions = if only_12 { Versions::Only12 } else { Versions::Only13 };
        disturb(true, versions, target, &change);
    }

    #[test]
    fn ike_21_any_octets_to_either_role(
        packets in prop::collection::vec(
            (1u8..5, 0u8..4, prop_oneof![Just(1u8), Just(13), Just(26), any::<u8>()],
             prop::collection::vec(any::<u8>(), 0..80)),
            1..8,
        ),
        tls in any::<bool>(),
    ) {
        let mut host = Host::new(&[("alice", "correct horse")]);
        let (mut server, mut client) = (server(tls, Versions::Both), client());
        let identifier = server.start(&mut host).unwrap()[1];
        for (code, offset, kind, data) in packets {
            let len = u16::try_from(5 + data.len()).unwrap().to_be_bytes();
            let head = [code, identifier.wrapping_add(offset), len[0], len[1], kind];
            let packet = [&head[..], &data].concat();
            let succeeded = matches!(server.handle(&packet, &mut host), ServerStep::Success { .. });
            prop_assert!(!succeeded);
            let succeeded = matches!(client.handle(&packet, &mut host), ClientStep::Success { .. });
            prop_assert!(!succeeded);
        }
    }
}

/// What TLS protects cannot be changed without notice: every packet in turn, octet by octet.
#[test]
fn changed_octets_of_a_tls_handshake() {
    for versions in [Versions::Only12, Versions::Only13] {
        for target in 0..14 {
            for at in 0..60 {
                disturb(true, versions, target, &Change::Flip(at * 7, 1 << (at % 8)));
            }
        }
    }
}
