//! Packets whose policy has no SA yet: held, released in order, bounded, timed out.

use std::net::IpAddr;

use xswan_esp::selector::Flow;
use xswan_pipeline::held::{HELD_PACKETS, HELD_PER_CHILD, HOLD_MS};
use xswan_pipeline::sink::Event;
use xswan_pipeline::spd::{Action, Policy, SaHandle, Spd};
use xswan_testkit::packet;
use xswan_wire::DropReason;

use crate::gateway::*;

fn trap(side: Side, action: Action) -> Spd {
    let rows = networks(side, action).into_iter();
    Spd::new(rows.map(|row| Policy { hold: true, ..row }).collect())
}

/// The left side before its tunnel is there.
fn waiting() -> Gateway {
    let mut left = Gateway::new(LEFT);
    left.spd = trap(LEFT, Action::Protect(None));
    left
}

fn numbered(number: u16) -> Vec<u8> {
    packet::udp((host4(LEFT, 1), number), (host4(RIGHT, 1), 6000), &pattern(60))
}

fn own(number: u16) -> Vec<u8> {
    packet::udp((IpAddr::from(inner4(LEFT)), number), (host4(RIGHT, 1), 2), &[3; 40])
}

#[test]
fn the_first_packets_leave_in_order_when_the_sa_is_there() {
    let (mut left, mut right) = (waiting(), Gateway::new(RIGHT));
    let packets: Vec<_> = (1..=10).map(numbered).collect();
    let frames: Vec<_> = packets.iter().map(|packet| frame(packet)).collect();
    left.receive(INNER, &frames);
    assert_eq!(left.engine.held(), 10);
    let flow = Flow::parse(&packets[0]).unwrap();
    assert_eq!(left.rings.events, [Event::Acquire { child: CHILD, flow }]);
    left.now_ms += 5;
    left.release();
    assert_eq!((left.engine.held(), left.packets_out(OUTER).len()), (10, 0), "nothing yet");
    left.spd = trap(LEFT, protect(SLOT));
    left.release();
    let sealed: Vec<_> = left.packets_out(OUTER).iter().map(|packet| frame(packet)).collect();
    right.receive(OUTER, &sealed);
    let expected: Vec<_> = packets.iter().map(|packet| one_hop_on(&one_hop_on(packet))).collect();
    assert_eq!(right.packets_out(INNER), expected);
    left.assert_drops(&[]);
    assert!(!left.engine.holds());
    assert_eq!((left.engine.totals.received, left.engine.totals.forwarded), (10, 10));
}

#[test]
fn policy_before_the_sa_waits_for_it() {
    let mut left = waiting();
    left.receive(INNER, &[frame(&numbered(1))]);
    left.spd = trap(LEFT, protect(9));
    left.release();
    assert_eq!(left.engine.held(), 1);
    left.put_outbound(9, CHILD, &outbound_config(LEFT, 9));
    left.release();
    assert_eq!((left.engine.held(), left.packets_out(OUTER).len()), (0, 1));
}

#[test]
fn of_another_worker_it_is_handed_over_as_it_came() {
    let mut left = waiting();
    let came = frame(&numbered(1));
    left.receive(INNER, &[&came]);
    left.spd = trap(LEFT, Action::Protect(Some(SaHandle { slot: 3, worker: 1 })));
    left.release();
    assert_eq!(left.rings.handed, [(1, INNER, came)]);
    assert_eq!(left.engine.totals.handed_off, 1);
}

#[test]
fn too_many_and_too_long_are_counted_under_their_own_names() {
    let mut left = waiting();
    let frames: Vec<_> = (0..HELD_PER_CHILD as u16 + 4).map(|n| frame(&numbered(n))).collect();
    left.receive(INNER, &frames);
    left.assert_drops(&[(DropReason::HoldOverflow, 4)]);
    left.now_ms += HOLD_MS;
    left.release();
    assert_eq!(left.engine.held(), HELD_PER_CHILD);
    left.now_ms += 1;
    left.release();
    let timed_out = HELD_PER_CHILD as u64;
    left.assert_drops(&[(DropReason::HoldOverflow, 4), (DropReason::HoldTimeout, timed_out)]);
    assert!(!left.engine.holds());
}

#[test]
fn without_a_trap_nothing_is_held() {
    let mut left = Gateway::new(LEFT);
    left.spd = Spd::new(networks(LEFT, Action::Protect(None)));
    left.receive(INNER, &[frame(&numbered(1))]);
    left.inject(&own(1));
    assert!(!left.engine.holds());
    left.assert_drops(&[(DropReason::NoSa, 2)]);
}

#[test]
fn a_policy_that_changed_its_mind_decides() {
    for (action, reason) in [(Action::Discard, Some(DropReason::Discarded)), (Action::Bypass, None)]
    {
        let mut left = waiting();
        left.receive(INNER, &[frame(&numbered(1))]);
        left.spd = trap(LEFT, action);
        left.release();
        left.assert_drops(&reason.map(|reason| (reason, 1)).into_iter().collect::<Vec<_>>());
        assert_eq!(left.rings.punted.len(), usize::from(reason.is_none()));
    }
    // The child is gone: its addresses are nobody's, and nothing leaves in clear.
    let mut left = waiting();
    left.receive(INNER, &[frame(&numbered(1))]);
    left.spd = Spd::new(Vec::new());
    left.release();
    left.assert_drops(&[(DropReason::NoPolicy, 1)]);
}

/// No frame of the pool waits, however many packets do.
#[test]
fn held_packets_pin_no_frames() {
    let mut left = waiting();
    let rows = (0..100_u8).map(|child| {
        let selector = networks(LEFT, Action::Discard)[0].selector;
        let destination = xswan_esp::selector::AddressRange::v4_prefix([10, 2, child, 0], 24);
        let selector = xswan_esp::selector::Selector { destination, ..selector };
        Policy { child: child.into(), hold: true, ..policy(selector, Action::Protect(None)) }
    });
    left.spd = Spd::new(rows.collect());
    let to = |child: u8, n: u16| {
        frame(&packet::udp((host4(LEFT, 1), n), (IpAddr::from([10, 2, child, 1]), 1), &[7; 900]))
    };
    for n in 0..HELD_PER_CHILD as u16 {
        let burst: Vec<_> = (0..100).map(|child| to(child, n)).collect();
        // Buffers are asked for by the ledger after every burst.
        left.receive(INNER, &burst);
    }
    assert_eq!(left.engine.held(), HELD_PACKETS);
    let gone = (100 * HELD_PER_CHILD - HELD_PACKETS) as u64;
    left.assert_drops(&[(DropReason::HoldOverflow, gone)]);
    assert_eq!(left.rings.events.len(), 100, "each child asks, however many others do");
}

#[test]
fn the_gateways_own_packets_are_sent_by_the_worker_that_gets_the_sa() {
    let second = || {
        let mut left = Gateway::with(LEFT, |config| config.spis.worker = 1);
        left.spd = trap(LEFT, Action::Protect(None));
        left
    };
    for owner in [0, 1] {
        let mut workers = [waiting(), second()];
        for worker in &mut workers {
            worker.inject(&own(1));
            assert_eq!(worker.engine.held(), 1);
        }
        assert_eq!(workers[0].rings.events.len(), 1);
        assert_eq!(workers[1].rings.events.len(), 0, "one asks for all");
        let mut sent = Vec::new();
        for worker in &mut workers {
            worker.spd = trap(LEFT, Action::Protect(Some(SaHandle { slot: SLOT, worker: owner })));
            worker.release();
            sent.push(worker.packets_out(OUTER).len());
            worker.assert_drops(&[]);
            assert!(!worker.engine.holds());
        }
        assert_eq!(sent, [usize::from(owner == 0), usize::from(owner == 1)]);
    }
    // In time-outs only the first counts.
    let mut workers = [waiting(), second()];
    for worker in &mut workers {
        worker.inject(&own(1));
        worker.now_ms += HOLD_MS + 1;
        worker.release();
    }
    workers[0].assert_drops(&[(DropReason::HoldTimeout, 1)]);
    workers[1].assert_drops(&[]);
}
