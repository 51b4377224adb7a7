//! CREATE_CHILD_SA of a hostile peer.

use super::*;
use crate::sa::Inbound;
use crate::wire::{KeyExchange, Nonce, Proposal, SecurityAssociation, protocol};
use proptest::prelude::*;

fn sa(protocol: u8, spi: &[u8], change: impl Fn(&mut Vec<Transform>)) -> Payload {
    let mut transforms = proposal(protocol == protocol::ESP).transforms;
    change(&mut transforms);
    let proposals = vec![Proposal { number: 1, protocol, spi: spi.to_vec(), transforms }];
    Payload::Sa(SecurityAssociation { proposals })
}

fn esp() -> Payload {
    sa(protocol::ESP, &[0xAA, 0xBB, 0, 1], |_| {})
}

fn ike(spi: &[u8]) -> Payload {
    sa(protocol::IKE, spi, |_| {})
}

fn ni() -> Payload {
    Payload::Nonce(Nonce(vec![0x11; 32]))
}

fn ke(method: u16, data: Vec<u8>) -> Payload {
    Payload::Ke(KeyExchange { method, data })
}

/// The base point of X25519: as good a public value as any.
fn x25519() -> Payload {
    let mut point = vec![0; 32];
    point[0] = 9;
    ke(31, point)
}

fn tsi(selectors: Vec<TrafficSelector>) -> Payload {
    Payload::TsI(selectors.into())
}

fn tsr(selectors: Vec<TrafficSelector>) -> Payload {
    Payload::TsR(selectors.into())
}

fn rekey(protocol: u8, spi: Vec<u8>) -> Payload {
    let data = Vec::new();
    Payload::Notify(Notify { protocol, spi, kind: NotifyType::REKEY_SA, data })
}

fn whole(first: Vec<Payload>) -> Vec<Payload> {
    let rest = [esp(), ni(), x25519(), tsi(vec![network(2)]), tsr(vec![network(1)])];
    first.into_iter().chain(rest).collect()
}

const CREATE: ExchangeType = ExchangeType::CREATE_CHILD_SA;

fn refusal(world: &mut World, payloads: &[Payload]) -> Notify {
    let answer = world.ask(CREATE, payloads).expect("an answer");
    world.assert_no_orphans();
    let mut errors = errors(&answer);
    assert_eq!((answer.len(), errors.len()), (1, 1), "{answer:?}");
    errors.remove(0)
}

#[test]
fn ike_14_rekey_sa_with_fields_that_cannot_be_is_answered_with_valid_ones() {
    let mut world = World::up();
    let child = world.view().children[0].clone();
    let (theirs, own) = (child.spi_out.to_be_bytes(), child.spi_in.to_be_bytes());
    let spis = [theirs.to_vec(), own.to_vec(), vec![9, 9, 9, 9], vec![], vec![1; 3], vec![1; 8]];
    for protocol in [0, 1, 2, 3, 4, 255] {
        for spi in &spis {
            if protocol == 3 && *spi == theirs {
                continue;
            }
            let notify = refusal(&mut world, &whole(vec![rekey(protocol, spi.clone())]));
            assert_eq!(notify.kind, NotifyType::CHILD_SA_NOT_FOUND);
            if spi.len() == 4 {
                assert_eq!((notify.protocol, &notify.spi), (3, spi));
            } else {
                assert_eq!((notify.protocol, notify.spi.len()), (0, 0));
            }
            // In another second, so that the limit on key exchanges is not what refuses.
            world.now.monotonic = world.now.monotonic.plus(1_000);
        }
    }
    assert_eq!(world.view().children.len(), 1);
    let answer = world.ask(CREATE, &whole(vec![rekey(3, theirs.to_vec())])).expect("an answer");
    assert!(errors(&answer).is_empty());
    assert_eq!(world.view().children.len(), 2);
    world.assert_no_orphans();
    // Once more while the first is not decided.
    let notify = refusal(&mut world, &whole(vec![rekey(3, theirs.to_vec())]));
    assert_eq!(notify.kind, NotifyType::TEMPORARY_FAILURE);
}

#[test]
fn rek_14_fewer_selectors_are_refused_and_more_are_narrowed() {
    let half = TrafficSelector::addresses([10, 2, 0, 0].into(), [10, 2, 127, 255].into());
    let all = TrafficSelector::addresses([0; 4].into(), [255; 4].into());
    let elsewhere = network(77);
    let mut world = World::up();
    let spi = world.view().children[0].spi_out.to_be_bytes().to_vec();
    for narrow in [vec![half], vec![elsewhere], Vec::new()] {
        let payloads =
            [rekey(3, spi.clone()), esp(), ni(), x25519(), tsi(narrow), tsr(vec![network(1)])];
        assert_eq!(refusal(&mut world, &payloads).kind, NotifyType::TS_UNACCEPTABLE);
    }
    let payloads =
        [rekey(3, spi), esp(), ni(), x25519(), tsi(vec![all, elsewhere]), tsr(vec![all])];
    let answer = world.ask(CREATE, &payloads).expect("an answer");
    assert!(answer.contains(&tsi(vec![network(2)])) && answer.contains(&tsr(vec![network(1)])));
    let view = world.view();
    assert_eq!(view.children[0].remote_ts, view.children[1].remote_ts);
    world.assert_no_orphans();
}

#[test]
fn rek_14_an_answer_with_fewer_selectors_is_not_taken() {
    let mut world = World::up();
    let old = world.view().children[0].clone();
    let target = Target::ChildSa(old.id);
    let input = Input::Rekey { target, reauthenticate: false, request: None };
    let (engine, host) = &mut world.us;
    engine.handle(input, world.now, host);
    let request = world.take_ours().remove(0);
    let (header, payloads) = world.read(&request);
    let offered = payloads.iter().find_map(|payload| match payload {
        Payload::Sa(sa) => sa.proposals[0].transforms.first().cloned(),
        _ => None,
    });
    assert!(offered.is_some());
    let half = TrafficSelector::addresses([10, 2, 0, 0].into(), [10, 2, 127, 255].into());
    let answer = [esp(), ni(), x25519(), tsi(vec![network(1)]), tsr(vec![half])];
    answer_to(&mut world, header, request, &answer);
    // What the peer believes to have is closed; the old one stays as it was.
    let discard = world.take_ours().remove(0);
    let (header, payloads) = world.read(&discard);
    assert!(matches!(&payloads[..], [Payload::Delete(delete)] if delete.spis.len() == 1));
    assert_eq!(world.us.1.spis.len(), 2, "reserved until the peer has closed it");
    answer_to(&mut world, header, discard, &[]);
    world.assert_no_orphans();
    assert_eq!(world.view().children[0].spi_in, old.spi_in);
    assert_eq!(world.view().children[0].state, "INSTALLED");
}

/// The peer answers a request of ours.
fn answer_to(world: &mut World, header: Header, request: Vec<u8>, payloads: &[Payload]) {
    let inbound = Inbound {
        header,
        payloads: Vec::new(),
        first: PayloadType::NONE,
        plaintext: Vec::new(),
        octets: request,
        local: SocketAddr::new(address(1), 500),
        remote: SocketAddr::new(address(0), 500),
    };
    world.peer_core(|core, ctx| core.respond(ctx, &inbound, payloads));
    for octets in world.take_peers() {
        world.at_us(octets);
    }
}

#[test]
fn incomplete_and_impossible_requests_leave_nothing_behind() {
    let (i, r) = (tsi(vec![network(2)]), tsr(vec![network(1)]));
    let weak = sa(protocol::ESP, &[0xAA, 0, 0, 1], |all| all[0].key_bits = Some(256));
    let reserved = sa(protocol::ESP, &[0, 0, 0, 255], |_| {});
    let long = sa(protocol::ESP, &[1; 8], |_| {});
    let cases: Vec<(Vec<Payload>, NotifyType)> = vec![
        (vec![], NotifyType::INVALID_SYNTAX),
        (vec![esp()], NotifyType::INVALID_SYNTAX),
        (vec![esp(), ni()], NotifyType::INVALID_SYNTAX),
        (vec![esp(), ni(), x25519(), i.clone()], NotifyType::INVALID_SYNTAX),
        (vec![weak, ni(), x25519(), i.clone(), r.clone()], NotifyType::NO_PROPOSAL_CHOSEN),
        (vec![reserved, ni(), x25519(), i.clone(), r.clone()], NotifyType::NO_PROPOSAL_CHOSEN),
        (vec![long, ni(), x25519(), i.clone(), r.clone()], NotifyType::NO_PROPOSAL_CHOSEN),
        (vec![esp(), ni(), i.clone(), r.clone()], NotifyType::INVALID_KE_PAYLOAD),
        (
            vec![esp(), ni(), ke(19, vec![0; 64]), i.clone(), r.clone()],
            NotifyType::INVALID_KE_PAYLOAD,
        ),
        (vec![esp(), ni(), ke(31, vec![0; 32]), i.clone(), r.clone()], NotifyType::INVALID_SYNTAX),
        (vec![esp(), ni(), ke(31, vec![9; 31]), i, r], NotifyType::INVALID_SYNTAX),
        (vec![ike(&[1; 8]), ni()], NotifyType::INVALID_SYNTAX),
        (vec![ike(&[0; 8]), ni(), x25519()], NotifyType::NO_PROPOSAL_CHOSEN),
        (vec![ike(&[1; 4]), ni(), x25519()], NotifyType::NO_PROPOSAL_CHOSEN),
        (vec![ike(&[]), ni(), x25519()], NotifyType::NO_PROPOSAL_CHOSEN),
        (vec![ike(&[1; 8]), ni(), ke(19, vec![0; 64])], NotifyType::INVALID_KE_PAYLOAD),
        (vec![ike(&[1; 8]), ni(), ke(31, vec![0; 32])], NotifyType::INVALID_SYNTAX),
    ];
    let mut world = World::up();
    let before = world.view();
    for (payloads, kind) in cases {
        let notify = refusal(&mut world, &payloads);
        assert_eq!(notify.kind, kind, "{payloads:?}");
        if kind == NotifyType::INVALID_KE_PAYLOAD {
            assert_eq!(notify.data, [0, 31]);
        }
        world.now.monotonic = world.now.monotonic.plus(1_000);
    }
    assert_eq!(world.us.0.ike_sas(world.now.monotonic).count(), 1);
    assert_eq!(world.view().children[0].spi_in, before.children[0].spi_in);
}

#[test]
fn key_exchanges_are_counted_by_the_second() {
    let mut world = World::up();
    let mut granted = 0;
    for _ in 0..60 {
        let answer = world.ask(CREATE, &whole(Vec::new())).expect("an answer");
        match errors(&answer).first() {
            None => granted += 1,
            Some(notify) => assert_eq!(notify.kind, NotifyType::TEMPORARY_FAILURE),
        }
    }
    assert_eq!(granted, 20);
    world.now.monotonic = world.now.monotonic.plus(1_000);
    let answer = world.ask(CREATE, &whole(Vec::new())).expect("an answer");
    assert!(errors(&answer).is_empty());
    world.assert_no_orphans();
}

#[test]
fn a_follow_up_to_nothing_is_state_not_found() {
    let mut world = World::up();
    let link = Payload::notify(NotifyType::ADDITIONAL_KEY_EXCHANGE, vec![1; 16]);
    for payloads in [vec![], vec![x25519()], vec![link.clone()], vec![x25519(), link]] {
        let answer = world.ask(ExchangeType::IKE_FOLLOWUP_KE, &payloads).expect("an answer");
        assert_eq!(errors(&answer)[0].kind, NotifyType::STATE_NOT_FOUND);
    }
    world.assert_no_orphans();
}

#[test]
fn keys_are_in_no_debug_output() {
    let mut world = World::up();
    let target = Target::Connection("peer".into());
    let input = Input::Rekey { target, reauthenticate: false, request: None };
    let (engine, host) = &mut world.us;
    engine.handle(input, world.now, host);
    let shown = format!("{engine:?}");
    let keys = engine.sas.values().filter_map(State::core).map(|core| core.keys.clone());
    for key in keys.flat_map(|keys| [keys.sk_d, keys.sk_ei, keys.sk_er, keys.sk_pi, keys.sk_pr]) {
        let list = format!("{:?}", &key.as_bytes()[..4]);
        assert!(!shown.contains(list.trim_matches(['[', ']'])), "a key is shown");
    }
    assert!(shown.contains("Established"));
}

/// Payloads that mean something, in any order and number.
fn any_payload() -> impl Strategy<Value = Payload> {
    let spi = prop_oneof![Just(vec![0x10, 0, 0, 1]), prop::collection::vec(any::<u8>(), 0..9),];
    let selector = (any::<u8>(), any::<u8>(), any::<u8>()).prop_map(|(network, low, high)| {
        let (low, high) = (low.min(high), low.max(high));
        let network = network % 4;
        TrafficSelector::addresses([10, network, low, 0].into(), [10, network, high, 255].into())
    });
    let selectors = prop::collection::vec(selector, 0..4);
    prop_oneof![
        4 => Just(esp()),
        2 => Just(ike(&[7; 8])),
        4 => Just(ni()),
        4 => Just(x25519()),
        1 => (prop_oneof![Just(31_u16), Just(36), any::<u16>()], 0_usize..70)
            .prop_map(|(method, len)| ke(method, vec![5; len])),
        4 => Just(tsi(vec![network(2)])),
        4 => Just(tsr(vec![network(1)])),
        1 => selectors.clone().prop_map(tsi),
        1 => selectors.prop_map(tsr),
        2 => (any::<u8>(), spi.clone()).prop_map(|(protocol, spi)| rekey(protocol % 5, spi)),
        2 => (0_u8..5, prop::collection::vec(any::<u32>(), 0..4)).prop_map(|(protocol, spis)| {
            let spis = if protocol == 1 { Vec::new() } else { spis };
            Payload::Delete(crate::wire::Delete { protocol, spis })
        }),
        2 => (any::<u16>(), spi, prop::collection::vec(any::<u8>(), 0..40)).prop_map(
            |(kind, spi, data)| {
                Payload::Notify(Notify { protocol: 3, spi, kind: NotifyType(kind), data })
            }
        ),
    ]
}

/// What an operator may want.
fn command(number: usize, force: bool) -> Input {
    let child = Target::Child { connection: None, child: "net".into() };
    let ike = Target::Connection("peer".into());
    let rekey = |target| Input::Rekey { target, reauthenticate: false, request: None };
    match number {
        0 => rekey(child),
        1 => rekey(ike),
        2 => Input::Terminate { target: child, force, request: None },
        3 => Input::Terminate { target: ike, force, request: None },
        _ => Input::Initiate {
            connection: Some("peer".into()),
            child: Some("net".into()),
            packet: None,
            request: Some(RequestId(1)),
        },
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever it answers, there is no panic, and when everything is closed nothing is left.
    #[test]
    fn whatever_is_answered_can_be_closed(
        steps in prop::collection::vec(
            (0_usize..5, prop::collection::vec(any_payload(), 0..9), 0_u64..40_000),
            1..10,
        ),
    ) {
        let mut world = World::up();
        let own = world.peer_core(|core, _| (core.spi_i, core.spi_r));
        for (number, payloads, wait) in steps {
            let (engine, host) = &mut world.us;
            engine.handle(command(number, false), world.now, host);
            world.now.monotonic = world.now.monotonic.plus(wait);
            engine.handle(Input::Timer, world.now, host);
            for request in world.take_ours() {
                let header = Header::parse(&request).expect("a message");
                let asked = (header.spi_i, header.spi_r) == own && !header.flags.response;
                if asked && world.peer.0.sas.values().any(|state| state.core().is_some()) {
                    answer_to(&mut world, header, request, &payloads);
                }
            }
        }
        let (engine, host) = &mut world.us;
        engine.handle(command(3, true), world.now, host);
        world.take_ours();
        prop_assert!(world.us.1.spis.is_empty(), "{:?}\n{}", world.us.1.spis, world.log.join("\n"));
        prop_assert!(world.installed.is_empty());
    }

    /// Whatever it asks, there is at most one answer, no panic, and nothing left behind.
    #[test]
    fn whatever_is_asked_leaves_no_orphans(
        requests in prop::collection::vec(
            (0_usize..6, prop::collection::vec(any_payload(), 0..9), 0_u64..40_000),
            1..12,
        ),
    ) {
        let mut world = World::up();
        for (exchange, payloads, wait) in requests {
            let exchange = [
                CREATE,
                CREATE,
                CREATE,
                ExchangeType::INFORMATIONAL,
                ExchangeType::IKE_FOLLOWUP_KE,
                ExchangeType::IKE_AUTH,
            ][exchange];
            let _answer = world.ask(exchange, &payloads);
            world.now.monotonic = world.now.monotonic.plus(wait);
            if !world.is_up() {
                prop_assert!(world.us.1.spis.is_empty() && world.installed.is_empty());
                break;
            }
            world.assert_no_orphans();
        }
    }
}
