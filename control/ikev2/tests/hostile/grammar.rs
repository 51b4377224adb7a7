//! Messages with the right keys and any content (IKE-24): chains of payloads made by a grammar
//! that knows what the machine might listen to, then damaged, in every state and both roles.

use crate::mutation::damage;
use crate::{gateway, number};
use std::collections::BTreeSet;
use xswan_ikev2::Input;
use xswan_ikev2::input::Target;
use xswan_ikev2::wire::{
    Attribute, AttributeType, Authentication, Configuration, ConfigurationType, Delete, EapMessage,
    ExchangeType, Identification, KeyExchange, Nonce, Notify, NotifyType, Payload, PayloadType,
    Proposal, Protection, SecurityAssociation, TrafficSelectors, Transform, emit_chain, protocol,
    transform,
};
use xswan_simulation::peer::Duel;
use xswan_simulation::{Seeded, policies};

/// Messages of an ordinary run; `XSWAN_GRAMMAR` makes more.
const MESSAGES: u64 = 100_000;
/// Messages to one IKE SA, at most.
const EACH: u64 = 60;
/// Datagrams that one message may bring forth.
const MAX_SENT: usize = 12;

/// What the peer has learnt of the gateway, to say something that might fit.
#[derive(Default)]
struct Known {
    spis: Vec<u32>,
    next_request: u32,
    outstanding: Option<u32>,
    link: Vec<u8>,
    /// Which gateway the peer plays.
    number: u8,
}

fn octets(random: &mut Seeded, most: u64) -> Vec<u8> {
    (0..random.below(most + 1)).map(|_| random.next() as u8).collect()
}

fn spi(random: &mut Seeded, known: &Known) -> Vec<u8> {
    match known.spis.get(random.below(known.spis.len() as u64 + 2) as usize) {
        Some(spi) => spi.to_be_bytes().to_vec(),
        None => (random.next() as u32).to_be_bytes().to_vec(),
    }
}

fn notify(random: &mut Seeded, known: &Known) -> Payload {
    let kind = match random.below(5) {
        0 => NotifyType::REKEY_SA,
        1 => NotifyType::ADDITIONAL_KEY_EXCHANGE,
        2 => NotifyType(random.below(50) as u16),
        _ => NotifyType(16_384 + random.below(70) as u16),
    };
    let data = match random.below(3) {
        0 => known.link.clone(),
        1 => octets(random, 20),
        _ => vec![0, [31, 19, 36, 2, 0][random.below(5) as usize]],
    };
    let about = kind == NotifyType::REKEY_SA || random.permille(100);
    let spi = if about { spi(random, known) } else { Vec::new() };
    let protocol = if about { [3, 3, 3, 1, 0, 2][random.below(6) as usize] } else { 0 };
    Payload::Notify(Notify { protocol, spi, kind, data })
}

fn proposal(random: &mut Seeded, known: &Known) -> Payload {
    let ike = random.permille(300);
    let (protocol, mut transforms, spi) = if ike {
        (protocol::IKE, policies::ike_proposal().transforms, octets(random, 8))
    } else {
        (protocol::ESP, policies::esp_proposal().transforms, spi(random, known))
    };
    if random.permille(500) {
        transforms.retain(|item| item.kind != transform::KE);
    }
    if random.permille(300) {
        transforms.push(Transform::new(random.below(14) as u8, random.below(40) as u16));
    }
    if random.permille(500) {
        transforms.retain(|item| item.kind != transform::SN || item.id == 0);
    }
    let number = if random.permille(900) { 1 } else { random.next() as u8 };
    Payload::Sa(SecurityAssociation {
        proposals: vec![Proposal { number, protocol, spi, transforms }],
    })
}

fn selectors(random: &mut Seeded, initiator: bool, known: &Known) -> Payload {
    let number = if random.permille(900) { 1 + random.below(2) as u8 } else { random.next() as u8 };
    let list = TrafficSelectors::from(vec![policies::network(number); 1 + known.spis.len() % 2]);
    if initiator { Payload::TsI(list) } else { Payload::TsR(list) }
}

fn payload(random: &mut Seeded, known: &Known) -> Payload {
    match random.below(16) {
        0 | 1 => proposal(random, known),
        2 => Payload::Ke(KeyExchange { method: 31, data: vec![9; 32] }),
        3 => Payload::Ke(KeyExchange {
            method: [19, 36, 31, 0][random.below(4) as usize],
            data: octets(random, 80),
        }),
        4 => Payload::Nonce(Nonce(vec![random.next() as u8; 32])),
        5 | 6 => notify(random, known),
        7 => {
            let spis = (0..random.below(4)).map(|_| {
                let spi = spi(random, known);
                u32::from_be_bytes(spi.try_into().unwrap_or_default())
            });
            Payload::Delete(Delete::esp(spis.collect()))
        }
        8 if random.permille(100) => Payload::Delete(Delete::ike_sa()),
        9 => selectors(random, true, known),
        10 => selectors(random, false, known),
        11 => Payload::Cp(Configuration {
            kind: ConfigurationType(1 + random.below(4) as u8),
            attributes: vec![Attribute::new(
                AttributeType(random.below(30) as u16),
                octets(random, 20),
            )],
        }),
        12 => {
            let data = octets(random, 12);
            let length = (data.len() + 4) as u16;
            let [high, low] = length.to_be_bytes();
            let packet = [&[1 + random.below(4) as u8, 1, high, low][..], &data].concat();
            EapMessage::new(packet).map_or_else(|_| notify(random, known), Payload::Eap)
        }
        13 => Payload::Auth(Authentication {
            method: random.below(15) as u8,
            data: octets(random, 64),
        }),
        14 => Payload::IdI(Identification::new(random.below(14) as u8, octets(random, 20))),
        _ => Payload::Unknown {
            kind: PayloadType(random.next() as u8 | 0x80),
            critical: random.permille(200),
            body: octets(random, 20),
        },
    }
}

/// SA, nonce and KE, as a request and as an answer may have them.
fn material(random: &mut Seeded, protocol: u8, spi: Vec<u8>) -> Vec<Payload> {
    let mut transforms = if protocol == protocol::IKE {
        policies::ike_proposal().transforms
    } else {
        policies::esp_proposal().transforms
    };
    transforms.retain(|item| item.kind != transform::SN || item.id == 0);
    let proposals = vec![Proposal { number: 1, protocol, spi, transforms }];
    vec![
        Payload::Sa(SecurityAssociation { proposals }),
        Payload::Nonce(Nonce((0..32).map(|_| random.next() as u8).collect())),
        Payload::Ke(KeyExchange { method: 31, data: vec![9; 32] }),
    ]
}

/// A chain that the gateway has no reason to refuse.
fn fitting(random: &mut Seeded, known: &Known, response: bool) -> Vec<Payload> {
    let own = known.number + 1;
    let (i, r) = if response { (3 - own, own) } else { (own, 3 - own) };
    let list = |number: u8| TrafficSelectors::from(vec![policies::network(number)]);
    let selectors = [Payload::TsI(list(i)), Payload::TsR(list(r))];
    let fresh = (random.next() as u32 | 0x1000).to_be_bytes().to_vec();
    match random.below(6) {
        0 => [material(random, protocol::ESP, fresh), selectors.to_vec()].concat(),
        1 => {
            let spi = spi(random, known);
            let kind = NotifyType::REKEY_SA;
            let notify = Payload::Notify(Notify { protocol: 3, spi, kind, data: Vec::new() });
            let material = material(random, protocol::ESP, fresh);
            [vec![notify], material, selectors.to_vec()].concat()
        }
        2 => material(random, protocol::IKE, [fresh.clone(), fresh].concat()),
        3 => {
            let spi = spi(random, known).try_into().unwrap_or_default();
            vec![Payload::Delete(Delete::esp(vec![u32::from_be_bytes(spi)]))]
        }
        4 => vec![
            Payload::Ke(KeyExchange { method: 31, data: vec![9; 32] }),
            Payload::notify(NotifyType::ADDITIONAL_KEY_EXCHANGE, known.link.clone()),
        ],
        _ => Vec::new(),
    }
}

/// A chain that fits, or nearly, or payloads as they come.
fn chain(random: &mut Seeded, known: &Known, response: bool) -> Vec<Payload> {
    let mut payloads = Vec::new();
    if random.permille(700) {
        payloads = fitting(random, known, response);
        if random.permille(600) {
            return payloads;
        }
    }
    for _ in 0..random.below(4) {
        payloads.push(payload(random, known));
    }
    if random.permille(100) && !payloads.is_empty() {
        payloads.remove(random.below(payloads.len() as u64) as usize);
    }
    payloads
}

/// A gateway in some state, with what the peer knows.
fn reach(random: &mut Seeded) -> (Duel, Known) {
    let seed = random.next();
    let mut known = Known::default();
    let additional = random.permille(200);
    let connection = |connection: &mut xswan_ikev2::policy::ConnectionPolicy| {
        connection.dpd_delay_ms = 5_000;
        connection.lifetime.rekey_ms = 30_000;
        if additional {
            let child = std::sync::Arc::make_mut(&mut connection.children[0]);
            child.proposals[0].transforms.push(Transform::new(transform::ADDKE1, 31));
        }
    };
    let duel = match random.below(5) {
        0 => {
            known.next_request = 1;
            gateway(1, connection, |_| {}).half_open(seed)
        }
        1 => {
            let mut duel = gateway(0, connection, |_| {});
            duel.auth_requested(seed);
            known.outstanding = Some(1);
            known.number = 1;
            duel
        }
        2 => {
            known.number = 1;
            gateway(0, connection, |_| {}).established_by_gateway(seed)
        }
        _ => {
            known.next_request = 2;
            gateway(1, connection, |_| {}).established(seed)
        }
    };
    (duel, known)
}

/// What the peer reads of what was sent.
fn learn(duel: &Duel, known: &mut Known, sent: &[Vec<u8>]) {
    known.spis = duel
        .gateway
        .children
        .values()
        .flat_map(|child| [child.install.spi_in, child.install.spi_out])
        .collect();
    for octets in sent {
        let Some(message) = duel.peer.as_ref().and_then(|peer| peer.open(octets)) else { continue };
        if message.header.flags.response {
            known.next_request = known.next_request.max(message.header.message_id + 1);
        } else {
            known.outstanding = Some(message.header.message_id);
        }
        for payload in &message.payloads {
            if let Payload::Notify(notify) = payload
                && notify.kind == NotifyType::ADDITIONAL_KEY_EXCHANGE
            {
                known.link = notify.data.clone();
            }
        }
    }
}

/// Time, operators and the dataplane: so that there is something to answer.
fn stir(random: &mut Seeded, duel: &mut Duel) -> Vec<Vec<u8>> {
    let child = Target::Child { connection: None, child: "net".into() };
    let ike = Target::Connection("peer".into());
    let rekey = |target| Input::Rekey { target, reauthenticate: false, request: None };
    match random.below(8) {
        0 => duel.wait(random.below(10_000)),
        1 => duel.input(rekey(child)),
        2 => duel.input(rekey(ike)),
        3 if random.permille(300) => {
            duel.input(Input::Terminate { target: child, force: false, request: None })
        }
        4 if random.permille(100) => {
            duel.input(Input::Terminate { target: ike, force: false, request: None })
        }
        _ => Vec::new(),
    }
}

/// States that there are, SPIs that are accounted for, and no more than there may be.
fn check(duel: &Duel) {
    let states = ["CONNECTING", "ESTABLISHED", "REKEYING", "REKEYED", "DELETING"];
    let mut children = BTreeSet::new();
    for view in duel.gateway.engine.ike_sas(duel.now) {
        assert!(states.contains(&view.state), "{}", view.state);
        for child in &view.children {
            assert!(children.insert(child.spi_in), "a Child SA of two IKE SAs");
        }
    }
    let installed: BTreeSet<u32> =
        duel.gateway.children.values().map(|child| child.install.spi_in).collect();
    assert_eq!(children, installed, "the dataplane has what is listed");
    let reserved = duel.gateway.spis();
    assert!(installed.is_subset(reserved) && reserved.len() <= installed.len() + 4);
}

/// A whole life: some messages, then time until everything of it is gone.
fn life(random: &mut Seeded) -> u64 {
    let (mut duel, mut known) = reach(random);
    learn(&duel, &mut known, &[]);
    let mut told = 0;
    while told < EACH && duel.gateway.engine.ike_sas(duel.now).next().is_some() {
        if random.permille(300) {
            let sent = stir(random, &mut duel);
            learn(&duel, &mut known, &sent);
        }
        let response = known.outstanding.is_some() && random.permille(400);
        let payloads = chain(random, &known, response);
        let Ok((first, mut plaintext)) = emit_chain(&payloads) else { continue };
        if random.permille(150) {
            damage(random, &mut plaintext);
        }
        let expected =
            if response { known.outstanding.unwrap_or_default() } else { known.next_request };
        let id = if random.permille(970) { expected } else { random.below(5) as u32 };
        let exchange = match random.below(12) {
            0..=5 => ExchangeType::CREATE_CHILD_SA,
            6 | 7 => ExchangeType::INFORMATIONAL,
            8 | 9 => ExchangeType::IKE_AUTH,
            10 => ExchangeType::IKE_FOLLOWUP_KE,
            _ => ExchangeType(34 + random.below(12) as u8),
        };
        let Some(peer) = duel.peer.as_mut() else { break };
        let octets = peer.seal(exchange, id, response, (first, &plaintext), Protection::Sk);
        if response && id == expected {
            known.outstanding = None;
        }
        let sent = duel.tell(octets);
        assert!(sent.len() <= MAX_SENT, "{} datagrams for one", sent.len());
        learn(&duel, &mut known, &sent);
        check(&duel);
        told += 1;
    }
    // Nobody answers any more: all of it ends.
    for _ in 0..40 {
        duel.wait(30_000);
    }
    assert!(duel.gateway.spis().is_empty(), "SPIs are left: {:?}", duel.gateway.log);
    assert_eq!(duel.gateway.engine.ike_sas(duel.now).count(), 0, "{:?}", duel.gateway.log);
    told.max(1)
}

#[test]
fn ike_24_authenticated_messages_of_any_content() {
    let messages = number("XSWAN_GRAMMAR").unwrap_or(MESSAGES);
    let seed = number("XSWAN_GRAMMAR_SEED").unwrap_or(1);
    let (mut told, mut lives) = (0, 0);
    while told < messages {
        let one = seed.wrapping_mul(1_000_003).wrapping_add(lives);
        let mut random = Seeded::new(one);
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| life(&mut random)));
        assert!(outcome.is_ok(), "life {lives} of XSWAN_GRAMMAR_SEED={seed}");
        told += outcome.unwrap_or(1);
        lives += 1;
    }
    assert!(lives > messages / EACH / 2);
}
