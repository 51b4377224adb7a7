//! Deletions and notifications of a hostile peer, and exchanges that are over.

use super::*;
use crate::wire::{Delete, Nonce};

fn delete(protocol: u8, spis: Vec<u32>) -> Payload {
    Payload::Delete(Delete { protocol, spis })
}

fn deleted(payloads: &[Payload]) -> Vec<u32> {
    payloads
        .iter()
        .filter_map(|payload| match payload {
            Payload::Delete(delete) => Some(delete.spis.clone()),
            _ => None,
        })
        .flatten()
        .collect()
}

#[test]
fn ike_15_a_delete_counts_once_and_names_the_other_direction() {
    let mut world = World::up();
    let child = world.view().children[0].clone();
    let spi = child.spi_out;
    // Unknown ones, our own SPI, AH.
    for payload in [
        delete(3, vec![0, 1, 0xFFFF_FFFF, child.spi_in]),
        delete(2, vec![spi]),
        delete(200, vec![spi]),
        delete(3, Vec::new()),
    ] {
        let answer = world.ask(ExchangeType::INFORMATIONAL, &[payload]).expect("an answer");
        assert_eq!(answer, []);
        assert_eq!(world.view().children.len(), 1);
    }
    // Twice in one payload, and in two.
    let payloads = [delete(3, vec![spi, spi, 7]), delete(3, vec![spi])];
    let answer = world.ask(ExchangeType::INFORMATIONAL, &payloads).expect("an answer");
    assert_eq!(deleted(&answer), [child.spi_in]);
    assert!(world.view().children.is_empty());
    world.assert_no_orphans();
    let answer = world.ask(ExchangeType::INFORMATIONAL, &payloads).expect("an answer");
    assert_eq!(answer, []);
}

#[test]
fn ike_15_an_ike_delete_ends_it_whatever_comes_after() {
    let mut world = World::up();
    let spi = world.view().children[0].spi_out;
    let payloads = [
        delete(1, Vec::new()),
        delete(1, Vec::new()),
        delete(3, vec![spi]),
        Payload::notify(NotifyType::AUTH_LIFETIME, vec![0, 0, 0, 1]),
        Payload::notify(NotifyType::COOKIE2, vec![1; 16]),
    ];
    let answer = world.ask(ExchangeType::INFORMATIONAL, &payloads).expect("an answer");
    assert_eq!(answer, []);
    assert!(!world.is_up());
    assert!(world.us.1.spis.is_empty() && world.installed.is_empty());
    assert_eq!(world.ask(ExchangeType::INFORMATIONAL, &payloads), None);
}

#[test]
fn ike_15_a_count_that_lies_is_invalid_syntax() {
    let mut world = World::up();
    let body = vec![3, 4, 0, 9, 1, 2, 3, 4];
    let payload = Payload::Unknown { kind: PayloadType::DELETE, critical: false, body };
    let answer = world.ask(ExchangeType::INFORMATIONAL, &[payload]).expect("an answer");
    assert_eq!(errors(&answer)[0].kind, NotifyType::INVALID_SYNTAX);
    assert!(!world.is_up(), "an authenticated peer that is broken (RFC 7296 section 2.21.2)");
    assert!(world.us.1.spis.is_empty());
}

#[test]
fn ike_16_exchanges_that_are_over_get_no_answer() {
    let mut world = World::up();
    let before = world.view();
    for exchange in [
        ExchangeType::IKE_AUTH,
        ExchangeType::IKE_INTERMEDIATE,
        ExchangeType::IKE_SESSION_RESUME,
        ExchangeType(240),
    ] {
        let payloads = [Payload::Nonce(Nonce(vec![1; 32]))];
        assert_eq!(world.ask(exchange, &payloads), None, "{exchange}");
    }
    assert_eq!(world.view(), before);
    assert!(world.ask(ExchangeType::INFORMATIONAL, &[]).is_some(), "the window is where it was");
}

#[test]
fn ike_18_a_response_without_a_request_is_dropped() {
    let mut world = World::up();
    for id in [0, 1, 2, 3, 1_000, u32::MAX] {
        let exchange = ExchangeType::CREATE_CHILD_SA;
        let datagrams = world.peer_core(|core, ctx| core.seal(ctx, exchange, id, true, &[]));
        for octets in datagrams {
            world.at_us(octets);
        }
        assert!(world.take_ours().is_empty());
    }
    // Requests far ahead and far behind.
    for id in [1_000, u32::MAX, 0x8000_0000] {
        let exchange = ExchangeType::INFORMATIONAL;
        let payloads = [delete(1, Vec::new())];
        let datagrams = world.peer_core(|core, ctx| core.seal(ctx, exchange, id, false, &payloads));
        for octets in datagrams {
            world.at_us(octets);
        }
        assert!(world.take_ours().is_empty());
    }
    assert_eq!(world.view().children.len(), 1);
}

#[test]
fn what_is_asked_about_addresses_is_answered_and_the_rest_ignored() {
    let mut world = World::up();
    let cookie2 = Payload::notify(NotifyType::COOKIE2, vec![7; 24]);
    let payloads = [
        Payload::notify(NotifyType::NAT_DETECTION_SOURCE_IP, vec![1; 20]),
        Payload::notify(NotifyType::NAT_DETECTION_DESTINATION_IP, vec![2; 20]),
        cookie2.clone(),
        Payload::notify(NotifyType(13_000), vec![1, 2, 3]),
        Payload::notify(NotifyType(50_000), Vec::new()),
        Payload::notify(NotifyType::INVALID_SPI, vec![0; 4]),
        Payload::notify(NotifyType::NO_PROPOSAL_CHOSEN, Vec::new()),
    ];
    let answer = world.ask(ExchangeType::INFORMATIONAL, &payloads).expect("an answer");
    let view = world.view();
    let (local, remote) = (SocketAddr::new(address(0), 500), SocketAddr::new(address(1), 500));
    let mut expected = crate::nat::payloads(view.spi_i, view.spi_r, local, remote, false).to_vec();
    expected.push(cookie2);
    assert_eq!(answer, expected);
    // A cookie that is none is not sent back.
    let oversized = Payload::notify(NotifyType::COOKIE2, vec![7; 65]);
    assert_eq!(world.ask(ExchangeType::INFORMATIONAL, &[oversized]), Some(Vec::new()));
}

#[test]
fn a_lifetime_of_the_authentication_is_heeded_by_who_started() {
    let mut world = World::up();
    let lifetime = Payload::notify(NotifyType::AUTH_LIFETIME, 3_600_u32.to_be_bytes().to_vec());
    assert_eq!(world.ask(ExchangeType::INFORMATIONAL, &[lifetime]), Some(Vec::new()));
    let left = world.view().reauth_in_ms.expect("a reauthentication");
    assert!((3_000_000..=3_240_000).contains(&left), "{left}");
    let nonsense = Payload::notify(NotifyType::AUTH_LIFETIME, vec![1, 2]);
    assert_eq!(world.ask(ExchangeType::INFORMATIONAL, &[nonsense]), Some(Vec::new()));
    assert_eq!(world.view().reauth_in_ms, Some(left));
}

#[test]
fn a_peer_that_does_not_accept_us_ends_it() {
    let mut world = World::up();
    let failed = Payload::notify(NotifyType::AUTHENTICATION_FAILED, Vec::new());
    assert_eq!(world.ask(ExchangeType::INFORMATIONAL, &[failed]), Some(Vec::new()));
    assert!(!world.is_up());
    assert!(world.us.1.spis.is_empty());
}

#[test]
fn an_unknown_critical_payload_is_named_and_harmless() {
    let mut world = World::up();
    let spi = world.view().children[0].spi_out;
    let payloads = [
        delete(3, vec![spi]),
        Payload::Unknown { kind: PayloadType(200), critical: true, body: vec![1; 40] },
    ];
    let answer = world.ask(ExchangeType::INFORMATIONAL, &payloads).expect("an answer");
    let errors = errors(&answer);
    assert_eq!(errors[0].kind, NotifyType::UNSUPPORTED_CRITICAL_PAYLOAD);
    assert_eq!(errors[0].data, [200]);
    assert_eq!(world.view().children.len(), 1, "nothing of it was done");
}
