//! Handshakes that somebody has tampered with.

use crate::gateway;
use std::sync::Arc;
use xswan_ikev2::Input;
use xswan_ikev2::policy::Unique;
use xswan_ikev2::wire::{
    Authentication, EapMessage, ExchangeType, Message, NotifyType, Payload, Proposal, Protection,
    SecurityAssociation, protocol,
};
use xswan_simulation::peer::{Duel, Peer, endpoint};
use xswan_simulation::{Gateway, policies};

/// Nothing came up and nothing is kept, at the latest after the time of half-open ones.
fn assert_nothing(duel: &mut Duel) {
    assert!(duel.gateway.children.is_empty(), "{:?}", duel.gateway.log);
    assert_eq!(duel.gateway.engine.statistics().established, 0);
    duel.wait(200_000);
    for _ in 0..20 {
        duel.wait(60_000);
    }
    assert!(duel.gateway.spis().is_empty(), "{:?}", duel.gateway.log);
    assert_eq!(duel.gateway.engine.ike_sas(duel.now).count(), 0, "{:?}", duel.gateway.log);
}

fn eap(octets: &[u8]) -> Payload {
    Payload::Eap(EapMessage::new(octets.to_vec()).expect("a packet"))
}

#[test]
fn aut_06_eap_success_before_any_method_is_none() {
    // To a gateway that authenticates its clients by EAP, and to one that does not.
    for method in ["eap-mschapv2", "psk"] {
        let mut duel = gateway(
            1,
            |connection| {
                connection.remote_rounds[0].method = method.parse().expect("a method");
            },
            |_| {},
        )
        .half_open(3);
        let peer = duel.peer.as_mut().expect("keys");
        let id = peer.proof().remove(0);
        let success = eap(&[3, 1, 0, 4]);
        let mut payloads = vec![id, success];
        payloads.extend(peer.child(0x0707_0707));
        let request = peer.message(ExchangeType::IKE_AUTH, 1, false, &payloads);
        duel.tell(request);
        assert_nothing(&mut duel);
    }
}

#[test]
fn aut_06_a_gateway_that_says_success_without_a_proof_is_not_believed() {
    let success = || eap(&[3, 1, 0, 4]);
    let contents: [fn(&Peer) -> Vec<Payload>; 4] = [
        |_| Vec::new(),
        |peer| peer.child(0x0707_0707),
        |peer| vec![peer.proof().remove(0)],
        |peer| {
            let mut payloads = vec![peer.proof().remove(0)];
            payloads.extend(peer.child(0x0707_0707));
            payloads
        },
    ];
    for (number, content) in contents.iter().enumerate() {
        for with_success in [false, true] {
            let mut duel = gateway(0, |_| {}, |_| {});
            duel.auth_requested(3);
            let peer = duel.peer.as_mut().expect("keys");
            let mut payloads = content(peer);
            payloads.extend(with_success.then(success));
            let answer = peer.message(ExchangeType::IKE_AUTH, 1, true, &payloads);
            duel.tell(answer);
            assert!(duel.gateway.children.is_empty(), "{number}");
            assert_nothing(&mut duel);
        }
    }
}

#[test]
fn aut_01_aut_06_methods_that_are_none_and_changed_proofs() {
    for number in 0..5 {
        let mut duel = gateway(1, |_| {}, |_| {}).half_open(3);
        let peer = duel.peer.as_mut().expect("keys");
        let mut payloads = peer.proof();
        let Some(Payload::Auth(auth)) = payloads.last_mut() else { panic!("AUTH") };
        match number {
            0 => auth.method = 0,
            1 => auth.method = Authentication::DIGITAL_SIGNATURE,
            2 => auth.data.clear(),
            3 => auth.data.truncate(16),
            _ => auth.data[31] ^= 1,
        }
        payloads.extend(peer.child(0x0707_0707));
        let request = peer.message(ExchangeType::IKE_AUTH, 1, false, &payloads);
        let sent = duel.tell(request);
        let answer = duel.peer.as_ref().and_then(|peer| peer.open(&sent[0])).expect("an answer");
        let refused = |payload: &Payload| match payload {
            Payload::Notify(notify) => notify.kind == NotifyType::AUTHENTICATION_FAILED,
            _ => false,
        };
        assert!(answer.payloads.iter().any(refused), "{number}: {answer}");
        assert_nothing(&mut duel);
    }
}

#[test]
fn aut_07_an_ike_sa_that_is_not_established_is_not_rekeyed() {
    let mut duel = gateway(1, |_| {}, |_| {}).half_open(3);
    let transforms = policies::ike_proposal().transforms;
    let spi = vec![1; 8];
    let proposal = Proposal { number: 1, protocol: protocol::IKE, spi, transforms };
    let mut payloads = vec![Payload::Sa(SecurityAssociation { proposals: vec![proposal] })];
    payloads.push(Payload::Nonce(xswan_ikev2::wire::Nonce(vec![4; 32])));
    payloads.push(Payload::Ke(xswan_ikev2::wire::KeyExchange { method: 31, data: vec![9; 32] }));
    for id in [1, 0, 2] {
        let peer = duel.peer.as_mut().expect("keys");
        let request = peer.message(ExchangeType::CREATE_CHILD_SA, id, false, &payloads);
        assert!(duel.tell(request).is_empty());
    }
    assert_nothing(&mut duel);
    // Nor by an operator.
    let mut duel = gateway(0, |_| {}, |_| {});
    duel.auth_requested(3);
    let request = Some(duel.gateway.ask());
    let target = xswan_ikev2::input::Target::Connection("peer".into());
    duel.input(Input::Rekey { target, reauthenticate: false, request });
    assert!(duel.gateway.answers.values().all(Result::is_err));
}

/// A man in the middle takes notifies out of IKE_SA_INIT, on the way there or back.
#[test]
fn aut_10_notifies_that_are_stripped_make_authentication_fail() {
    let kinds = [
        NotifyType::SIGNATURE_HASH_ALGORITHMS,
        NotifyType::IKEV2_FRAGMENTATION_SUPPORTED,
        NotifyType::NAT_DETECTION_SOURCE_IP,
        NotifyType::CHILDLESS_IKEV2_SUPPORTED,
    ];
    for from in 0..2 {
        for kind in kinds {
            let node = |number: usize| {
                let whole = policies::configuration(policies::connection(number));
                Gateway::new(policies::ADDRESSES[number], Arc::new(whole), number as u64)
            };
            let mut gateways = [node(0), node(1)];
            let now = xswan_ikev2::Millis(1_000);
            let request = Some(gateways[0].ask());
            let input = Input::Initiate {
                connection: Some("peer".into()),
                child: Some("net".into()),
                packet: None,
                request,
            };
            let mut wire = gateways[0].handle(input, now);
            let (mut sender, mut stripped) = (0, false);
            while !wire.is_empty() {
                let mut next = Vec::new();
                for datagram in wire {
                    let mut octets = datagram.octets;
                    if sender == from
                        && let Ok(mut message) = Message::parse(&octets)
                    {
                        let before = message.payloads.len();
                        message.payloads.retain(|payload| {
                            !matches!(payload, Payload::Notify(notify) if notify.kind == kind)
                        });
                        stripped |= message.payloads.len() < before;
                        octets = message.emit().expect("a message");
                    }
                    let (local, remote) = (datagram.to, datagram.from);
                    let input = Input::Datagram { local, remote, octets };
                    next.extend(gateways[1 - sender].handle(input, now));
                }
                wire = next;
                sender = 1 - sender;
            }
            // Childless IKE SAs are announced by responders only.
            let announced = kind != NotifyType::CHILDLESS_IKEV2_SUPPORTED || from == 1;
            assert_eq!(stripped, announced, "{kind} is sent by {from}");
            if !stripped {
                continue;
            }
            assert!(gateways.iter().all(|gateway| gateway.children.is_empty()), "{kind} {from}");
            assert!(gateways[0].answers.values().all(Result::is_err), "{kind} {from}");
        }
    }
}

#[test]
fn aut_11_our_own_messages_come_back_and_are_dropped() {
    // IKE_SA_INIT to whoever sent it, as it was and as a response.
    let mut duel = gateway(0, |_| {}, |_| {});
    let request = duel.dialled();
    let mut response = request.clone();
    response[19] = 0x20;
    for octets in [request, response] {
        duel.tell(octets);
        let views: Vec<_> = duel.gateway.engine.ike_sas(duel.now).collect();
        assert!(views.iter().all(|view| view.state == "CONNECTING"), "{views:?}");
        assert!(duel.gateway.children.is_empty());
    }
    // What is sealed, likewise.
    let mut duel = gateway(0, |_| {}, |_| {});
    let auth = duel.auth_requested(3);
    // At most the hint that such an SPI is not known, which nobody acts on.
    let sent = duel.tell(auth);
    assert!(sent.iter().all(|hint| Message::parse(hint).is_ok()), "{sent:02x?}");
    assert!(duel.gateway.children.is_empty());
    let mut duel = gateway(1, |_| {}, |_| {}).established(3);
    let target = xswan_ikev2::input::Target::Connection("peer".into());
    let delete = duel.input(Input::Terminate { target, force: false, request: None });
    let before = duel.gateway.log.len();
    for octets in delete {
        let answer = duel.tell(octets);
        assert!(answer.iter().all(|answer| Message::parse(answer).is_ok()), "{answer:?}");
    }
    assert_eq!(duel.gateway.children.len(), 1);
    assert_eq!(duel.gateway.log.len(), before);
}

#[test]
fn aut_11_a_peer_with_our_own_spi_is_none() {
    let mut duel = gateway(0, |_| {}, |_| {});
    let request = duel.dialled();
    let (_, answer) = Peer::answering(1, &request, 3, false).expect("a request");
    let mut message = Message::parse(&answer).expect("an answer");
    message.header.spi_r = message.header.spi_i;
    duel.tell(message.emit().expect("a message"));
    // Whatever it has made of it: nothing stands, and both directions have keys of their own.
    assert!(duel.gateway.children.is_empty());
    assert_eq!(duel.gateway.engine.statistics().established, 0);
}

/// The same identity twice, from the same place, as `unique` says.
#[test]
fn aut_12_the_same_identity_connects_twice() {
    for (unique, initial_contact, children) in [
        (Unique::Never, true, 2),
        (Unique::No, false, 2),
        (Unique::No, true, 1),
        (Unique::Replace, false, 1),
        (Unique::Keep, false, 1),
    ] {
        let mut duel = gateway(1, |connection| connection.unique = unique, |_| {}).established(3);
        let first = duel.peer.take();
        let mut duel = duel.half_open(4);
        let peer = duel.peer.as_mut().expect("keys");
        let mut payloads = peer.proof();
        if initial_contact {
            payloads.push(Payload::notify(NotifyType::INITIAL_CONTACT, Vec::new()));
        }
        payloads.extend(peer.child(0x0202_0202));
        let request = peer.message(ExchangeType::IKE_AUTH, 1, false, &payloads);
        let sent = duel.tell(request);
        // Who is asked to go, goes.
        for octets in sent {
            for peer in [first.as_ref(), duel.peer.as_ref()].into_iter().flatten() {
                let Some(message) = peer.open(&octets) else { continue };
                assert!(message.header.exchange != ExchangeType::INFORMATIONAL || children == 1);
            }
        }
        let mut peers = [first, duel.peer.take()];
        for peer in peers.iter_mut().flatten() {
            let answer = peer.message(ExchangeType::INFORMATIONAL, 0, true, &[]);
            duel.tell(answer);
        }
        let left: Vec<u32> =
            duel.gateway.children.values().map(|child| child.install.spi_out).collect();
        assert_eq!(left.len(), children, "{unique:?} {initial_contact}: {left:08x?}");
        if children == 1 {
            let new = unique != Unique::Keep;
            assert_eq!(left, [if new { 0x0202_0202 } else { 0x0101_0101 }], "{unique:?}");
        }
        assert_eq!(duel.gateway.spis().len(), children);
    }
}

/// A fragment with a wrong tag, or with no end, is nothing.
#[test]
fn ike_20_fragments_without_an_end_keep_nothing_open() {
    let mut duel = gateway(1, |_| {}, |_| {}).established(3);
    let peer = duel.peer.as_mut().expect("keys");
    let piece = vec![0; 900];
    for fragment in 1..=64 {
        let protection = Protection::Skf { fragment, total: 65 };
        let content = (xswan_ikev2::wire::PayloadType::NOTIFY, piece.as_slice());
        let octets = peer.seal(ExchangeType::INFORMATIONAL, 2, false, content, protection);
        let local = endpoint(1);
        let input = Input::Datagram { local, remote: endpoint(0), octets };
        let sent = duel.gateway.handle(input, duel.now);
        assert!(sent.is_empty());
    }
    // A whole message under the same ID is taken all the same.
    let octets = peer.message(ExchangeType::INFORMATIONAL, 2, false, &[]);
    assert_eq!(duel.tell(octets).len(), 1);
}

/// Fragments of the peer's request and of its response arrive in turns.
#[test]
fn ike_20_fragments_of_a_request_and_of_a_response_arrive_mixed() {
    let mut duel = gateway(1, |_| {}, |_| {}).established(3);
    let target = xswan_ikev2::input::Target::Child { connection: None, child: "net".into() };
    duel.input(Input::Terminate { target, force: false, request: None });
    assert_eq!(duel.gateway.children.len(), 1);
    let data = vec![7; 40];
    let notify = [Payload::notify(NotifyType::COOKIE2, data.clone())];
    let (first, content) = xswan_ikev2::wire::emit_chain(&notify).expect("a chain");
    let (front, back) = content.split_at(20);
    let mut sent = Vec::new();
    for (fragment, piece) in [(1, front), (2, back)] {
        for (id, response) in [(0, true), (2, false)] {
            let peer = duel.peer.as_mut().expect("keys");
            let protection = Protection::Skf { fragment, total: 2 };
            let inner = (first, piece);
            let octets = peer.seal(ExchangeType::INFORMATIONAL, id, response, inner, protection);
            sent.extend(duel.tell(octets));
        }
    }
    assert!(duel.gateway.children.is_empty(), "the response was taken");
    let answer = duel.peer.as_ref().and_then(|peer| peer.open(&sent[0])).expect("an answer");
    assert_eq!(answer.payloads, [Payload::notify(NotifyType::COOKIE2, data)]);
}
