//! Floods of datagrams from addresses that have proved nothing.

use crate::mutation::damage;
use crate::{gateway, number};
use std::net::SocketAddr;
use xswan_ikev2::wire::{ExchangeType, Header, Message, NotifyType, Payload, PayloadType};
use xswan_ikev2::{Input, Millis};
use xswan_simulation::Seeded;
use xswan_simulation::peer::{Dial, Duel, endpoint};

/// Random inputs of an ordinary run; `XSWAN_FLOOD` makes more.
const INPUTS: u64 = 100_000;

/// A spoofed source.
fn source(random: &mut Seeded) -> SocketAddr {
    let address = [198, 18, random.next() as u8, random.next() as u8];
    SocketAddr::from((address, 1_024 + random.below(60_000) as u16))
}

/// What the gateway sends for a datagram from an address.
fn from(duel: &mut Duel, remote: SocketAddr, octets: Vec<u8>) -> Vec<Vec<u8>> {
    duel.input(Input::Datagram { local: endpoint(1), remote, octets })
}

fn cookie(answer: &[u8]) -> Option<Vec<u8>> {
    let message = Message::parse(answer).ok()?;
    message.payloads.into_iter().find_map(|payload| match payload {
        Payload::Notify(notify) if notify.kind == NotifyType::COOKIE => Some(notify.data),
        _ => None,
    })
}

#[test]
fn dos_01_spoofed_floods_make_no_state_beyond_the_threshold() {
    let mut duel = gateway(1, |_| {}, |_| {});
    let mut random = Seeded::new(1);
    let mut cookies = 0;
    for seed in 0..2_000 {
        let octets = Dial::new(0, seed, &[]).octets;
        let remote = source(&mut random);
        let sent = from(&mut duel, remote, octets);
        cookies += u64::from(sent.iter().any(|answer| cookie(answer).is_some()));
        assert!(duel.gateway.engine.half_open() <= 30);
    }
    assert!(cookies >= 1_970, "{cookies}");
    assert_eq!(duel.gateway.engine.ike_sas(duel.now).count(), 30);
    // They are gone after the time of half-open ones, and nothing is sent to them unasked.
    assert!(duel.wait(30_000).is_empty());
    assert_eq!(duel.gateway.engine.half_open(), 0);
    assert_eq!(duel.gateway.engine.ike_sas(duel.now).count(), 0);
    assert_eq!(duel.gateway.deadline(), None);
}

#[test]
fn dos_01_who_shows_the_cookie_gets_in_during_a_flood() {
    let mut duel = gateway(1, |_| {}, |_| {});
    let mut random = Seeded::new(2);
    for seed in 0..200 {
        let remote = source(&mut random);
        from(&mut duel, remote, Dial::new(0, seed, &[]).octets);
    }
    let dial = Dial::new(0, 777, &[]);
    let sent = from(&mut duel, endpoint(0), dial.octets.clone());
    let shown = Payload::notify(NotifyType::COOKIE, cookie(&sent[0]).expect("a cookie"));
    let dial = dial.again(&[shown]);
    let sent = from(&mut duel, endpoint(0), dial.octets.clone());
    assert_eq!(cookie(&sent[0]), None);
    let mut peer = dial.finish(&sent[0]).expect("an answer");
    let mut payloads = peer.proof();
    payloads.extend(peer.child(0x0505_0505));
    let request = peer.message(ExchangeType::IKE_AUTH, 1, false, &payloads);
    from(&mut duel, endpoint(0), request);
    assert_eq!(duel.gateway.children.len(), 1, "{:?}", duel.gateway.log);
}

#[test]
fn dos_04_a_cookie_of_somebody_else_gets_a_fresh_one_and_no_state() {
    let mut duel = gateway(1, |_| {}, |whole| whole.settings.cookie_threshold = 1);
    let mut random = Seeded::new(3);
    from(&mut duel, source(&mut random), Dial::new(0, 1, &[]).octets);
    assert_eq!(duel.gateway.engine.half_open(), 1);
    let dial = || Dial::new(0, 777, &[]);
    let sent = from(&mut duel, endpoint(0), dial().octets);
    let right = cookie(&sent[0]).expect("a cookie");
    let show = |data: Vec<u8>| dial().again(&[Payload::notify(NotifyType::COOKIE, data)]).octets;
    let other_nonce =
        Dial::new(0, 778, &[]).again(&[Payload::notify(NotifyType::COOKIE, right.clone())]);
    let tries = [
        (source(&mut random), show(right.clone())),
        (endpoint(0), show(right[..right.len() - 1].to_vec())),
        (endpoint(0), show(Vec::new())),
        (endpoint(0), show(vec![0; right.len()])),
        (endpoint(0), other_nonce.octets),
    ];
    for (number, (remote, octets)) in tries.into_iter().enumerate() {
        let sent = from(&mut duel, remote, octets);
        assert!(cookie(&sent[0]).is_some(), "{number}");
        assert_eq!(duel.gateway.engine.half_open(), 1, "{number}");
    }
    // The secret has been replaced twice.
    let half_open = |duel: &mut Duel, random: &mut Seeded, seed: u64| {
        from(duel, source(random), Dial::new(0, seed, &[]).octets)
    };
    for seed in [20, 21, 22] {
        duel.wait(121_000);
        half_open(&mut duel, &mut random, seed);
    }
    let sent = from(&mut duel, endpoint(0), show(right));
    assert!(cookie(&sent[0]).is_some());
}

/// The initiator gets a cookie for the second copy of its request and the answer to the first,
/// and goes on before its request with the cookie is there.
#[test]
fn dos_05_a_cookie_and_an_answer_cross() {
    let mut duel = gateway(1, |_| {}, |whole| whole.settings.cookie_threshold = 1);
    let dial = Dial::new(0, 777, &[]);
    let first = duel.tell(dial.octets.clone());
    let second = duel.tell(dial.octets.clone());
    let asked = cookie(&second[0]).expect("a cookie for the second copy");
    let signed = dial.again(&[Payload::notify(NotifyType::COOKIE, asked)]);
    let mut peer = signed.finish(&first[0]).expect("an answer");
    let mut payloads = peer.proof();
    payloads.extend(peer.child(0x0505_0505));
    let request = peer.message(ExchangeType::IKE_AUTH, 1, false, &payloads);
    duel.tell(request);
    assert_eq!(duel.gateway.children.len(), 1, "{:?}", duel.gateway.log);
}

#[test]
fn dos_07_half_open_ikes_are_capped() {
    let mut duel = gateway(
        1,
        |_| {},
        |whole| {
            whole.settings.cookie_threshold = 0;
            whole.settings.cookie_threshold_ip = 0;
            whole.settings.init_limit_half_open = 100;
        },
    );
    let mut random = Seeded::new(4);
    for seed in 0..500 {
        let remote = source(&mut random);
        from(&mut duel, remote, Dial::new(0, seed, &[]).octets);
    }
    assert_eq!(duel.gateway.engine.half_open(), 100);
    assert_eq!(duel.gateway.engine.statistics().refused_half_open, 400);
    duel.wait(30_000);
    assert_eq!(duel.gateway.engine.half_open(), 0);
}

/// One input without any proof: a request that is nearly right, a header, or anything.
fn nonsense(random: &mut Seeded) -> Vec<u8> {
    let mut octets = match random.below(10) {
        0..=5 => Dial::new(0, random.below(50), &[]).octets,
        6 | 7 => {
            let exchange = ExchangeType(30 + random.below(20) as u8);
            let mut header = Header::read(&[0; 28]).expect("28 octets");
            (header.spi_i, header.spi_r) = (random.below(3), random.below(3));
            header.version.major = [2, 2, 2, 1, 3, 15][random.below(6) as usize];
            header.exchange = exchange;
            header.flags.initiator = random.permille(500);
            header.flags.response = random.permille(300);
            header.first = PayloadType(random.below(60) as u8);
            let mut octets = header.emit().to_vec();
            octets.resize(28 + random.below(40) as usize, 0);
            octets
        }
        _ => (0..random.below(200)).map(|_| random.next() as u8).collect(),
    };
    if random.permille(900) {
        damage(random, &mut octets);
    }
    let length = octets.len() as u32;
    if random.permille(900)
        && let Some(field) = octets.get_mut(24..28)
    {
        field.copy_from_slice(&length.to_be_bytes());
    }
    octets
}

#[test]
fn dos_11_no_more_octets_leave_than_came() {
    let inputs = number("XSWAN_FLOOD").unwrap_or(INPUTS);
    let mut random = Seeded::new(number("XSWAN_FLOOD_SEED").unwrap_or(5));
    let mut duel = gateway(1, |_| {}, |_| {});
    let (mut answered, mut answers) = (0_u64, 0_u64);
    for input in 0..inputs {
        let octets = nonsense(&mut random);
        let (remote, came) = (source(&mut random), octets.len());
        duel.now = Millis(duel.now.0 + random.below(20));
        let sent = from(&mut duel, remote, octets.clone());
        let left: usize = sent.iter().map(Vec::len).sum();
        assert!(left <= came, "input {input}: {left} octets for {came}: {octets:02x?}");
        assert!(sent.len() <= 1, "input {input}");
        answered += u64::from(!sent.is_empty());
        answers += left as u64;
        if input % 64 == 0 {
            // The responder sends nothing unasked.
            assert!(duel.input(Input::Timer).is_empty());
            duel.gateway.log.clear();
            duel.gateway.log_times.clear();
        }
    }
    assert!(answered > inputs / 20 && answers > 0, "{answered} of {inputs} are answered");
    duel.wait(60_000);
    assert_eq!(duel.gateway.engine.ike_sas(duel.now).count(), 0);
    assert!(duel.gateway.spis().is_empty());
}
