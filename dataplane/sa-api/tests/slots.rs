//! The life of a slot, on maps in memory: what is published, acknowledged, retired, and
//! what survives a daemon that dies anywhere.

#![expect(clippy::expect_used, reason = "the helpers of a test fail it")]

use proptest::prelude::*;
use xswan_sa_api::{
    Algorithm, DfPolicy, DscpPolicy, Encap, Geometry, InCounters, InboundConfig, InboundFlags, Key,
    Lifetimes, Limit, Mode, OutCounters, OutboundConfig, PublishError, Read, Ring, SharedMaps,
    SlotState, replay_words_for,
};

const GEOMETRY: Geometry =
    Geometry { sa_slots: 8, policies: 8, replay_words: 400, workers: 2, member: 0 };

fn maps() -> SharedMaps {
    SharedMaps::in_memory(&GEOMETRY).expect("memory")
}

fn key(fill: u8) -> Key {
    Key::new(&[fill; 36]).expect("fits")
}

fn lifetimes() -> Lifetimes {
    Lifetimes {
        bytes: Limit { soft: 1, hard: 2 },
        packets: Limit { soft: 3, hard: 4 },
        time_ms: Limit { soft: 5, hard: 6 },
        installed_ms: 7,
    }
}

fn inbound(spi: u32, fill: u8) -> InboundConfig {
    InboundConfig {
        spi,
        worker: 1,
        algorithm: Algorithm::Aes256Gcm16,
        key: key(fill),
        mode: Mode::Tunnel,
        local: "192.0.2.1".parse().expect("address"),
        remote: "2001:db8::2".parse().expect("address"),
        encap: Some(Encap { local_port: 4500, remote_port: 4501 }),
        replay_window: 1024,
        replay_offset: 40,
        replay_len: replay_words_for(1024),
        child: 9,
        flags: InboundFlags { esn: true, check_padding: true, icmp: true, ..Default::default() },
        lifetimes: lifetimes(),
    }
}

fn outbound(spi: u32, fill: u8) -> OutboundConfig {
    OutboundConfig {
        spi,
        worker: 1,
        algorithm: Algorithm::ChaCha20Poly1305,
        key: key(fill),
        esn: true,
        mode: Mode::Transport,
        local: "2001:db8::1".parse().expect("address"),
        remote: "192.0.2.2".parse().expect("address"),
        encap: None,
        df: DfPolicy::Clear,
        dscp: DscpPolicy::Fixed(46),
        copy_ecn: true,
        ttl: 63,
        tfc_padding: 1400,
        path_mtu: 1500,
        iv_base: 0x6900_0000_0000_0000,
        child: 9,
        lifetimes: lifetimes(),
    }
}

fn retire_out(maps: &SharedMaps, slot: u32) {
    let generation = maps.retire_outbound(slot).expect("slot");
    maps.outbound_live(slot).expect("slot").acknowledge(generation);
}

fn retire_in(maps: &SharedMaps, slot: u32) {
    let generation = maps.retire_inbound(slot).expect("slot");
    maps.inbound_live(slot).expect("slot").acknowledge(generation);
}

#[test]
fn what_is_published_is_what_is_read() {
    let maps = maps();
    assert_eq!(maps.read_inbound(3), Read::Empty { generation: 0 });
    assert_eq!(maps.publish_inbound(3, &inbound(256, 1)), Ok(2));
    assert_eq!(maps.read_inbound(3), Read::Present { generation: 2, config: inbound(256, 1) });
    assert_eq!(maps.publish_outbound(3, &outbound(257, 2)), Ok(2));
    assert_eq!(maps.read_outbound(3), Read::Present { generation: 2, config: outbound(257, 2) });
    assert_eq!(maps.inbound_state(3), Some(SlotState::Used));
    assert_eq!(maps.read_inbound(8), Read::Empty { generation: 0 });
    assert!(maps.inbound_live(8).is_none() && maps.inbound_state(8).is_none());
}

#[test]
fn what_cannot_be_is_refused() {
    let maps = maps();
    let refused = |config: InboundConfig| maps.publish_inbound(0, &config).expect_err("refused");
    assert_eq!(refused(inbound(255, 1)), PublishError::ReservedSpi);
    assert_eq!(refused(InboundConfig { worker: 2, ..inbound(256, 1) }), PublishError::NoSuchWorker);
    let short = Key::new(&[1; 20]).expect("fits");
    assert_eq!(refused(InboundConfig { key: short, ..inbound(256, 1) }), PublishError::KeyLength);
    for (replay_offset, replay_len) in [(361, 40), (u32::MAX, 40), (0, 39)] {
        let config = InboundConfig { replay_offset, replay_len, ..inbound(256, 1) };
        assert_eq!(refused(config), PublishError::ReplayRange);
    }
    assert_eq!(maps.publish_inbound(8, &inbound(256, 1)), Err(PublishError::NoSuchSlot));
    assert_eq!(maps.inbound_state(0), Some(SlotState::Free));
}

#[test]
fn a_slot_is_not_reused_before_the_worker_lets_go() {
    let maps = maps();
    maps.publish_outbound(0, &outbound(256, 1)).expect("free");
    let live = maps.outbound_live(0).expect("slot");
    live.acknowledge(2);
    assert_eq!(maps.publish_outbound(0, &outbound(257, 2)), Err(PublishError::Busy));
    assert_eq!(maps.retire_outbound(0), Some(4));
    assert_eq!(maps.outbound_state(0), Some(SlotState::Draining));
    assert_eq!(maps.publish_outbound(0, &outbound(257, 2)), Err(PublishError::Busy));
    live.publish_lease(7000);
    live.acknowledge(4);
    assert_eq!(maps.outbound_state(0), Some(SlotState::Free));
    maps.publish_outbound(0, &outbound(257, 2)).expect("free");
    assert_eq!((live.lease(), live.counters()), (0, OutCounters::default()));
}

#[test]
fn sal_02_no_change_or_removal_takes_a_lease_back() {
    let maps = maps();
    maps.publish_outbound(0, &outbound(256, 1)).expect("free");
    let live = maps.outbound_live(0).expect("slot");
    live.publish_lease(5000);
    live.publish_lease(4000);
    assert_eq!(live.lease(), 5000);
    let changed = OutboundConfig { ttl: 1, ..outbound(256, 1) };
    maps.publish_outbound(0, &changed).expect("the same SA");
    assert_eq!(live.lease(), 5000);
    retire_out(&maps, 0);
    assert!(maps.outbound_remembers(0, 256, &key(1)));
    assert!(!maps.outbound_remembers(0, 256, &key(2)));
    assert!(!maps.outbound_remembers(0, 257, &key(1)));
    maps.publish_outbound(0, &outbound(256, 1)).expect("comes back");
    assert_eq!(live.lease(), 5000);
}

#[test]
fn a_replay_window_outlives_removal_and_a_change_of_size() {
    let maps = maps();
    maps.publish_inbound(0, &inbound(256, 1)).expect("free");
    let mut words = maps.claim_replay(40, 40).expect("free");
    words.as_mut()[..4].copy_from_slice(&[900, 950, 3, 4]);
    drop(words);
    maps.inbound_live(0).expect("slot").publish(&InCounters { packets: 5, ..Default::default() });
    retire_in(&maps, 0);
    assert_eq!(maps.replay_range(0), Some((40, 40)));
    maps.publish_inbound(0, &inbound(256, 1)).expect("comes back");
    assert_eq!(maps.claim_replay(40, 40).expect("free").as_ref()[..4], [900, 950, 3, 4]);
    let larger = InboundConfig {
        replay_window: 4096,
        replay_offset: 80,
        replay_len: replay_words_for(4096),
        ..inbound(256, 1)
    };
    assert_eq!(maps.publish_inbound(0, &larger), Err(PublishError::ReplayRange));
    retire_in(&maps, 0);
    maps.publish_inbound(0, &larger).expect("moved");
    // All that the old window may have seen counts as seen: an advance to 950 cut short.
    assert_eq!(maps.claim_replay(80, 136).expect("free").as_ref()[..4], [0, 950, 0, 0]);
    assert_eq!(maps.inbound_live(0).expect("slot").counters().packets, 5);
}

#[test]
fn another_sa_starts_with_an_empty_window() {
    let maps = maps();
    maps.publish_inbound(0, &inbound(256, 1)).expect("free");
    maps.claim_replay(40, 40).expect("free").as_mut().fill(9);
    retire_in(&maps, 0);
    maps.publish_inbound(0, &inbound(256, 2)).expect("free");
    assert!(maps.claim_replay(40, 40).expect("free").as_ref().iter().all(|word| *word == 0));
    retire_in(&maps, 0);
    assert_eq!(maps.inbound_retired_spi(0), Some(256));
    assert!(maps.forget_inbound(0));
    assert_eq!((maps.replay_range(0), maps.inbound_retired_spi(0)), (None, None));
    assert_eq!(maps.inbound_state(0), Some(SlotState::Free));
}

#[test]
fn keys_are_not_printed() {
    let text = format!("{:?} {:?}", inbound(256, 0xab), outbound(256, 0xab));
    assert!(!text.contains("171") && !text.to_lowercase().contains("abab"), "{text}");
}

#[test]
fn the_doorbell_is_never_full() {
    let maps = maps();
    let sender = maps.doorbell_sender().expect("there");
    let mut receiver = maps.doorbell_receiver().expect("there");
    sender.ring(Ring::Inbound(1));
    sender.ring(Ring::Outbound(2));
    sender.ring(Ring::Policies);
    let got: Vec<_> = std::iter::from_fn(|| receiver.poll()).collect();
    assert_eq!(got, [Ring::Inbound(1), Ring::Outbound(2), Ring::Policies]);
    for ring in 0..5000 {
        sender.ring(Ring::Inbound(ring % 8));
    }
    let got: Vec<_> = std::iter::from_fn(|| receiver.poll()).collect();
    assert_eq!(got, (0..8).map(Ring::Inbound).collect::<Vec<_>>(), "each record once");
    // A receiver that is new goes on where the last one was.
    sender.ring(Ring::Inbound(7));
    let mut restarted = maps.doorbell_receiver().expect("there");
    assert_eq!(restarted.poll(), Some(Ring::Inbound(7)));
    assert_eq!(restarted.poll(), None);
}

#[test]
fn rings_between_threads_lose_nothing() {
    use xswan_sa_api::Event;
    let maps = maps();
    let mut sender = maps.event_sender(1).expect("there");
    let mut receiver = maps.event_receiver(1).expect("there");
    assert!(maps.event_sender(2).is_none());
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut sent = 0_u32;
            while sent < 100_000 {
                if sender.send(Event::Acquire { child: sent, packet: None }) {
                    sent += 1;
                }
            }
        });
        let mut next = 0;
        while next < 100_000 {
            match receiver.poll() {
                Some(Event::Acquire { child, .. }) => {
                    assert_eq!(child, next);
                    next += 1;
                }
                // A full ring is a loss on record, even if the sender tries again.
                Some(Event::Lost) | None => std::thread::yield_now(),
                Some(other) => panic!("{other:?}"),
            }
        }
    });
}

proptest! {
    /// Any words in the record: a reader says what it can make of them and never panics.
    #[test]
    fn records_of_any_content_are_read(
        spi in any::<u32>(), fill in any::<u8>(), worker in 0_u16..2, window in 64_u32..4000,
        ports in any::<(u16, u16)>(), child in any::<u32>(),
    ) {
        let maps = maps();
        let config = InboundConfig {
            worker,
            child,
            encap: Some(Encap { local_port: ports.0, remote_port: ports.1 }),
            replay_window: window,
            replay_len: replay_words_for(window),
            ..inbound(spi.max(256), fill)
        };
        prop_assert!(maps.publish_inbound(0, &config).is_ok());
        prop_assert_eq!(maps.read_inbound(0), Read::Present { generation: 2, config });
    }
}
