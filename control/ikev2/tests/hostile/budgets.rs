//! What one peer may cost: errors told to it, key exchanges, verifications, rekeyings.

use crate::gateway;
use std::net::SocketAddr;
use xswan_credentials::IdentityPattern;
use xswan_ikev2::policy::{Configuration, ConnectionPolicy, Unique};
use xswan_ikev2::wire::{
    self, Authentication, ExchangeType, Flags, Header, Message, Nonce, NotifyType, Payload,
    PayloadType, Proposal, Protection, SecurityAssociation, protocol,
};
use xswan_ikev2::{Input, Millis, Statistics};
use xswan_simulation::peer::{Dial, Duel, Peer, endpoint};
use xswan_simulation::{Seeded, policies};

/// Key exchanges in a second in these tests: a tenth of the default, and the floods are a tenth
/// of what they are in the catalogue.
const BUDGET: u32 = 400;

fn host(number: u64) -> SocketAddr {
    let [.., high, low] = number.to_be_bytes();
    SocketAddr::from(([203, 0, high, low], 500))
}

/// What the gateway sends for a datagram from an address.
fn from(duel: &mut Duel, remote: SocketAddr, octets: Vec<u8>) -> Vec<Vec<u8>> {
    duel.input(Input::Datagram { local: endpoint(1), remote, octets })
}

fn statistics(duel: &Duel) -> Statistics {
    *duel.gateway.engine.statistics()
}

/// The notification that a message without protection begins with.
fn told(octets: &[u8]) -> Option<(NotifyType, Vec<u8>)> {
    match Message::parse(octets).ok()?.payloads.into_iter().next()? {
        Payload::Notify(notify) => Some((notify.kind, notify.data)),
        _ => None,
    }
}

/// A request of an IKE SA that nobody has, as long as a hint.
fn stray(spi: u64, response: bool) -> Vec<u8> {
    let flags = Flags { initiator: true, version: false, response };
    let header = Header::new(spi, spi, ExchangeType::INFORMATIONAL, flags, 1);
    let notify = Payload::notify(NotifyType::INITIAL_CONTACT, vec![0; 64]);
    Message::new(header, vec![notify]).emit().expect("a message")
}

/// A first message whose proposal nobody wants, and one without a nonce.
fn refusable(seed: u64) -> [Vec<u8>; 2] {
    let mut unwanted = Message::parse(&Dial::new(0, seed, &[]).octets).expect("our request");
    let mut cut = unwanted.clone();
    if let Some(Payload::Sa(sa)) = unwanted.payloads.first_mut() {
        sa.proposals[0].transforms[0].id = 3;
    }
    cut.payloads.retain(|payload| !matches!(payload, Payload::Nonce(_)));
    [unwanted, cut]
        .map(|message| Message::new(message.header, message.payloads).emit().expect("a message"))
}

#[test]
fn ike_25_errors_are_told_at_a_bounded_rate_to_each_source() {
    let mut duel = gateway(1, |_| {}, |_| {});
    let one = SocketAddr::from(([198, 51, 100, 1], 500));
    for second in 1..4 {
        duel.now = Millis(duel.now.0 + 1_000);
        let mut answers = 0;
        for number in 0..200 {
            let sent = match number % 4 {
                0 | 1 => from(&mut duel, one, stray(second * 1_000 + number, false)),
                other => {
                    let octets = refusable(number)[other as usize - 2].clone();
                    from(&mut duel, one, octets)
                }
            };
            answers += sent.len();
        }
        assert_eq!(answers, 20, "second {second}");
        // Others have a share of their own; all together a thousand.
        let others = (0..2_000).map(|other| from(&mut duel, host(other), stray(5, false)).len());
        assert_eq!(others.sum::<usize>(), 980);
    }
    let counted = statistics(&duel);
    assert_eq!(counted.suppressed_answers, 3 * (2_200 - 1_000));
}

#[test]
fn ike_25_no_error_is_told_to_an_error_or_a_response_or_in_more_octets() {
    let mut duel = gateway(1, |_| {}, |_| {});
    let mut replies = Vec::new();
    let requests = refusable(1).into_iter().chain([stray(77, false)]);
    for octets in requests {
        let came = octets.len();
        let sent = from(&mut duel, host(1), octets);
        assert_eq!(sent.len(), 1);
        assert!(told(&sent[0]).expect("an error").0.is_error() && sent[0].len() <= came);
        replies.extend(sent);
    }
    // What comes back is no request: a reflected error, or anything that says it is a response.
    replies.push(stray(77, true));
    for octets in replies {
        assert!(from(&mut duel, host(1), octets).is_empty());
    }
    // A header alone is shorter than any error.
    let flags = Flags { initiator: true, version: false, response: false };
    let header = Header::new(9, 9, ExchangeType::INFORMATIONAL, flags, 1);
    let mut header = Header { first: PayloadType::NONE, ..header };
    header.length = 28;
    assert!(from(&mut duel, host(1), header.emit().to_vec()).is_empty());
    header.version.major = 3;
    assert!(from(&mut duel, host(1), header.emit().to_vec()).is_empty());
}

/// Somebody answers for the peer, without protection, that it has no such IKE SA.
fn no_such_sa(peer: &Peer) -> Vec<u8> {
    let header = peer.header(ExchangeType::INFORMATIONAL, 0, true);
    let notify = Payload::notify(NotifyType::INVALID_IKE_SPI, Vec::new());
    Message::new(header, vec![notify]).emit().expect("a message")
}

#[test]
fn ike_25_an_unprotected_invalid_ike_spi_is_a_reason_to_ask_now_and_then() {
    let mut duel = gateway(1, |_| {}, |_| {}).established(4);
    let hint = no_such_sa(duel.peer.as_ref().expect("keys"));
    // From elsewhere it is nothing at all.
    assert!(from(&mut duel, host(1), hint.clone()).is_empty());
    let (mut asked, begin) = (0, duel.now);
    for _ in 0..60 {
        duel.now = Millis(duel.now.0 + 500);
        for _ in 0..50 {
            for request in duel.tell(hint.clone()) {
                asked += 1;
                let peer = duel.peer.as_mut().expect("keys");
                let message = peer.open(&request).expect("a protected request");
                assert!(!message.header.flags.response && message.payloads.is_empty());
                let id = message.header.message_id;
                let alive = peer.message(ExchangeType::INFORMATIONAL, id, true, &[]);
                assert!(duel.tell(alive).is_empty());
            }
        }
    }
    assert_eq!(duel.now.0 - begin.0, 30_000);
    assert_eq!(asked, 3, "{:?}", duel.gateway.log);
    // The peer lives, and so does the IKE SA with its child.
    assert_eq!(duel.gateway.children.len(), 1);
    // One that does not answer is given up, after all retransmissions and not before.
    duel.wait(10_000);
    assert_eq!(duel.tell(hint).len(), 1);
    for _ in 0..40 {
        duel.wait(10_000);
    }
    assert!(duel.gateway.children.is_empty());
}

/// A gateway for clients from anywhere.
fn crowd(budget: u32) -> Duel {
    crowd_with(|_| {}, |whole| whole.settings.init_key_exchanges_per_s = budget)
}

fn crowd_with(
    change: impl Fn(&mut ConnectionPolicy),
    configuration: impl Fn(&mut Configuration),
) -> Duel {
    gateway(
        1,
        |connection| {
            connection.unique = Unique::Never;
            for round in &mut connection.remote_rounds {
                round.id = IdentityPattern::ANY;
            }
            change(connection);
        },
        configuration,
    )
}

/// Sends a first message, and again with the cookie that is asked for; the answer with keys.
fn enter(duel: &mut Duel, remote: SocketAddr, mut dial: Dial) -> Option<(Dial, Vec<u8>)> {
    for _ in 0..2 {
        let answer = from(duel, remote, dial.octets.clone()).pop()?;
        match told(&answer) {
            Some((NotifyType::COOKIE, data)) => {
                dial = dial.again(&[Payload::notify(NotifyType::COOKIE, data)]);
            }
            Some(_) => return None,
            None => return Some((dial, answer)),
        }
    }
    None
}

/// A client that means it, all the way; whether it came in.
fn client(duel: &mut Duel, remote: SocketAddr, seed: u64) -> bool {
    let Some((dial, answer)) = enter(duel, remote, Dial::new(0, seed, &[])) else { return false };
    let mut peer = dial.finish(&answer).expect("an answer with keys");
    let mut payloads = peer.proof();
    payloads.extend(peer.child(seed as u32 | 0x0100_0000));
    let request = peer.message(ExchangeType::IKE_AUTH, 1, false, &payloads);
    let before = duel.gateway.children.len();
    from(duel, remote, request);
    duel.gateway.children.len() == before + 1
}

/// A first message whose public value is none, or nobody's.
fn garbage(random: &mut Seeded, seed: u64) -> Dial {
    let mut dial = Dial::new(0, seed, &[]);
    let mut message = Message::parse(&dial.octets).expect("our request");
    for payload in &mut message.payloads {
        if let Payload::Ke(ke) = payload {
            let zero = random.permille(300);
            ke.data.iter_mut().for_each(|octet| *octet = random.next() as u8 * u8::from(!zero));
        }
    }
    dial.octets = Message::new(message.header, message.payloads).emit().expect("a request");
    dial
}

#[test]
fn dos_06_garbage_key_exchanges_with_valid_cookies_stay_under_the_budget() {
    let mut duel = crowd(BUDGET);
    let mut random = Seeded::new(6);
    let (mut tried, mut came_in, mut seed) = (0, 0, 0);
    for second in 1..=3_u64 {
        let before = statistics(&duel).refused_key_exchange;
        for tick in 0..50 {
            duel.now = Millis(second * 1_000 + tick * 20);
            for _ in 0..10 {
                seed += 1;
                let attacker = host(seed % 10);
                enter(&mut duel, attacker, garbage(&mut random, seed));
            }
            if tick % 2 == 0 {
                tried += 1;
                seed += 1;
                came_in += u32::from(client(&mut duel, host(1_000 + seed), seed));
            }
        }
        let refused = statistics(&duel).refused_key_exchange - before;
        assert!(refused >= 100, "{refused} of 500 refused in second {second}");
        assert!(duel.gateway.engine.half_open() <= second as u32 * BUDGET);
    }
    assert!(came_in * 100 >= tried * 95, "{came_in} of {tried}");
}

#[test]
fn dos_06_broken_public_values_cost_no_more_without_any_cookie() {
    let mut duel = crowd(BUDGET);
    let mut refused = 0;
    for seed in 0..2_000 {
        let mut message = Message::parse(&Dial::new(0, seed, &[]).octets).expect("our request");
        for payload in &mut message.payloads {
            if let Payload::Ke(ke) = payload {
                ke.data.fill(0);
            }
        }
        let octets = Message::new(message.header, message.payloads).emit().expect("a request");
        let sent = from(&mut duel, host(seed), octets);
        refused += u32::from(sent.iter().any(|octets| {
            told(octets).is_some_and(|(kind, _)| kind == NotifyType::INVALID_SYNTAX)
        }));
        assert_eq!(duel.gateway.engine.half_open(), 0);
    }
    // From a quarter of the budget on, everybody has to show a cookie first.
    assert_eq!(refused, BUDGET / 4);
}

#[test]
fn dos_06_dos_07_many_half_open_ikes_are_kept_for_a_shorter_time() {
    let mut duel = crowd_with(|_| {}, |whole| whole.settings.init_limit_half_open = 400);
    for seed in 0..200 {
        assert!(enter(&mut duel, host(seed), Dial::new(0, seed, &[])).is_some());
    }
    assert_eq!(duel.gateway.engine.half_open(), 200);
    duel.wait(5_000);
    // The first hundred and one were made before it was crowded.
    assert_eq!(duel.gateway.engine.half_open(), 101);
    duel.wait(25_000);
    assert_eq!(duel.gateway.engine.half_open(), 0);
}

#[test]
fn dos_08_random_auth_on_half_open_ikes_is_one_check_each() {
    let mut duel = gateway(1, |_| {}, |_| {}).half_open(8);
    let mut random = Seeded::new(8);
    let (mut sent_to_it, before) = (0, statistics(&duel));
    for number in 0..50_000_u64 {
        let peer = duel.peer.as_mut().expect("keys");
        let protection = match number % 3 {
            0 => Protection::Skf { fragment: 1 + (number % 7) as u16, total: 7 },
            _ => Protection::Sk,
        };
        let header = peer.header(ExchangeType::IKE_AUTH, 1, false);
        let len = 40 + random.below(200) as usize;
        let prefix = wire::protected_prefix(&header, protection, PayloadType::AUTH, len);
        let mut octets = prefix.expect("a length that fits");
        octets.extend((0..len).map(|_| random.next() as u8));
        sent_to_it += 1;
        // From the peer's address or any other.
        let remote = if number % 2 == 0 { endpoint(0) } else { host(number) };
        assert!(from(&mut duel, remote, octets).is_empty());
    }
    let after = statistics(&duel);
    assert_eq!(after.integrity - before.integrity, sent_to_it);
    assert_eq!((after.messages_in, after.authentication_failed), (before.messages_in, 0));
    assert_eq!(duel.gateway.engine.half_open(), 1);
    // The real peer goes on with it.
    let peer = duel.peer.as_mut().expect("keys");
    let mut payloads = peer.proof();
    payloads.extend(peer.child(0x0808_0808));
    let request = peer.message(ExchangeType::IKE_AUTH, 1, false, &payloads);
    duel.tell(request);
    assert_eq!(duel.gateway.children.len(), 1, "{:?}", duel.gateway.log);
}

/// IKE_AUTH with certificates and a signature that nobody has checked.
fn certified(peer: &mut Peer, certificates: usize, octets: usize) -> Vec<u8> {
    let mut payloads = vec![peer.proof().remove(0)];
    for number in 0..certificates {
        let data = vec![number as u8; octets];
        payloads.push(Payload::Cert(wire::Certificate { encoding: 4, data }));
    }
    let method = Authentication::DIGITAL_SIGNATURE;
    // ecdsa-with-SHA256, with its length before it (RFC 7427 section 3), and a signature.
    let mut data = vec![12, 0x30, 10, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];
    data.extend([1; 70]);
    payloads.push(Payload::Auth(Authentication { method, data }));
    payloads.extend(peer.child(0x0909_0909));
    peer.message(ExchangeType::IKE_AUTH, 1, false, &payloads)
}

#[test]
fn dos_09_long_chains_are_not_even_read_and_end_the_attempt() {
    for (certificates, octets) in [(11, 40), (11, 5_900), (40, 40)] {
        let mut duel = gateway(
            1,
            |connection| connection.remote_rounds[0].method = "pubkey".parse().expect("a method"),
            |_| {},
        )
        .half_open(9);
        let peer = duel.peer.as_mut().expect("keys");
        let request = certified(peer, certificates, octets);
        let sent = duel.tell(request.clone());
        let answer = duel.peer.as_ref().and_then(|peer| peer.open(&sent[0])).expect("an answer");
        let failed = |payload: &Payload| match payload {
            Payload::Notify(notify) => notify.kind == NotifyType::AUTHENTICATION_FAILED,
            _ => false,
        };
        assert!(answer.payloads.iter().any(failed), "{answer}");
        let said = duel.gateway.log.iter().any(|line| line.contains("too many"));
        assert!(said, "{certificates} of {octets}: {:?}", duel.gateway.log);
        assert_eq!(duel.gateway.engine.half_open(), 0);
        // There is nothing left that a second chain could be sent to.
        let before = statistics(&duel).authentication_failed;
        duel.tell(request);
        assert_eq!((before, statistics(&duel).authentication_failed), (1, 1));
    }
}

#[test]
fn dos_09_one_source_has_so_many_chains_in_a_second() {
    let mut duel = crowd_with(
        |connection| connection.remote_rounds[0].method = "pubkey".parse().expect("a method"),
        |whole| whole.settings.init_key_exchanges_per_s = 64,
    );
    let mut attempt = |remote: SocketAddr, seed: u64| {
        let Some((dial, answer)) = enter(&mut duel, remote, Dial::new(0, seed, &[])) else {
            return;
        };
        let mut peer = dial.finish(&answer).expect("an answer with keys");
        let request = certified(&mut peer, 10, 500);
        from(&mut duel, remote, request);
    };
    (0..100).for_each(|seed| attempt(host(1), seed));
    (100..200).for_each(|seed| attempt(host(2), seed));
    // Each costs a key exchange, of which an attempt that fails gives none back: half of the
    // budget for the first, then a sixteenth for each.
    assert_eq!(statistics(&duel).authentication_failed, 32 + 4);
}

/// SA, nonce, key exchange and selectors of another child; what goes before.
fn create_child(peer: &mut Peer, spi: u32, before: Vec<Payload>) -> Vec<Payload> {
    let mut transforms = policies::esp_proposal().transforms;
    transforms.pop();
    let spi = spi.to_be_bytes().to_vec();
    let proposal = Proposal { number: 1, protocol: protocol::ESP, spi, transforms };
    let [_, selectors @ ..] = <[Payload; 3]>::try_from(peer.child(1)).expect("three payloads");
    let mut octets =
        |len: usize| -> Vec<u8> { (0..len).map(|_| peer.random().next() as u8).collect() };
    let mut payloads = before;
    payloads.push(Payload::Sa(SecurityAssociation { proposals: vec![proposal] }));
    payloads.push(Payload::Nonce(Nonce(octets(32))));
    payloads.push(Payload::Ke(wire::KeyExchange { method: 31, data: octets(32) }));
    payloads.extend(selectors);
    payloads
}

/// The peer asks for a child; the error that it gets, if it is one.
fn ask_for_child(duel: &mut Duel, id: u32, before: Vec<Payload>) -> Option<NotifyType> {
    let peer = duel.peer.as_mut().expect("keys");
    let payloads = create_child(peer, 0x0200_0000 + id, before);
    let request = peer.message(ExchangeType::CREATE_CHILD_SA, id, false, &payloads);
    let sent = duel.tell(request);
    let answer = duel.peer.as_ref().and_then(|peer| peer.open(&sent[0])).expect("an answer");
    answer.payloads.iter().find_map(|payload| match payload {
        Payload::Notify(notify) if notify.kind.is_error() => Some(notify.kind),
        _ => None,
    })
}

#[test]
fn dos_15_a_storm_of_rekeyings_is_put_off() {
    let mut duel = crowd(BUDGET).established(15);
    let mut id = 1;
    let mut first = 0x0101_0101_u32;
    for _ in 0..3 {
        duel.now = Millis(duel.now.0 + 1_000);
        let mut put_off = 0;
        for _ in 0..1_000 {
            id += 1;
            let rekey = wire::Notify::about(protocol::ESP, first, NotifyType::REKEY_SA);
            match ask_for_child(&mut duel, id, vec![Payload::Notify(rekey)]) {
                None => {
                    // The next one is about the new SA, as of a peer that is only in a hurry.
                    let old = std::mem::replace(&mut first, 0x0200_0000 + id);
                    id += 1;
                    let spis = vec![old];
                    let delete = Payload::Delete(wire::Delete { protocol: protocol::ESP, spis });
                    let peer = duel.peer.as_mut().expect("keys");
                    let request = peer.message(ExchangeType::INFORMATIONAL, id, false, &[delete]);
                    assert_eq!(duel.tell(request).len(), 1);
                }
                Some(kind) => {
                    assert_eq!(kind, NotifyType::TEMPORARY_FAILURE);
                    put_off += 1;
                }
            }
        }
        assert_eq!(put_off, 1_000 - 20);
        // Nobody else notices.
        for seed in 0..5 {
            assert!(client(&mut duel, host(u64::from(id) + seed), u64::from(id) + seed));
        }
    }
    let views: Vec<_> = duel.gateway.engine.ike_sas(duel.now).collect();
    assert_eq!(views.len(), 1 + 15);
    duel.wait(10_000);
    assert_eq!(duel.gateway.children.len(), 1 + 15, "replaced ones are gone");
}

#[test]
fn dos_15_there_are_so_many_children_of_one_ike_sa() {
    let mut duel = crowd(BUDGET).established(16);
    let most = duel.gateway.engine.configuration().settings.max_children as usize;
    let mut refused = 0;
    // A new one every 50 ms, which is as often as is allowed, and then five hundred more.
    for id in 2..(most as u32 + 501) {
        duel.now = Millis(duel.now.0 + 50);
        match ask_for_child(&mut duel, id, Vec::new()) {
            None => assert_eq!(refused, 0),
            Some(kind) => {
                assert_eq!(kind, NotifyType::NO_ADDITIONAL_SAS);
                refused += 1;
            }
        }
    }
    assert_eq!((duel.gateway.children.len(), refused), (most, 500));
    assert!(client(&mut duel, host(1), 1), "others get theirs");
}
