//! Packets of the gateway's own, which the kernel hands over.

use std::net::IpAddr;

use xswan_esp::selector::Flow;
use xswan_pipeline::sink::Event;
use xswan_pipeline::spd::{Action, SaHandle, Spd};
use xswan_testkit::packet;
use xswan_wire::DropReason;

use crate::gateway::*;

fn own(destination: [u8; 4]) -> Vec<u8> {
    packet::udp((IpAddr::from(inner4(LEFT)), 1), (IpAddr::from(destination), 2), &[3; 40])
}

#[test]
fn policy_decides_and_no_hop_is_taken() {
    let (mut left, mut right) = (Gateway::new(LEFT), Gateway::new(RIGHT));
    let protected = own([10, 2, 0, 1]);
    left.originate(&protected);
    let sealed = left.packets_out(OUTER);
    right.receive(OUTER, &[frame(&sealed[0])]);
    assert_eq!(right.packets_out(INNER), [one_hop_on(&protected)]);

    let to_host = own([10, 1, 0, 7]);
    left.originate(&to_host);
    assert_eq!(left.packets_out(INNER), [to_host]);
    let to_us = own(inner4(LEFT));
    left.originate(&to_us);
    assert_eq!(left.rings.punted, [to_us]);
    left.assert_drops(&[]);
}

#[test]
fn refusals_have_their_names() {
    let mut left = Gateway::new(LEFT);
    let to = own([10, 2, 0, 1]);
    for (action, reason) in [
        (Action::Discard, DropReason::Discarded),
        (Action::Protect(None), DropReason::NoSa),
        (Action::Protect(Some(SaHandle { slot: 1, worker: 1 })), DropReason::HandoffFull),
        (protect(9), DropReason::NoSa),
    ] {
        let before = left.drops(reason);
        left.spd = Spd::new(networks(LEFT, action));
        left.originate(&to);
        assert_eq!(left.drops(reason), before + 1);
    }
    assert_eq!(
        left.rings.events,
        [Event::Acquire { child: CHILD, flow: Flow::parse(&to).unwrap() }]
    );
    left.originate(&[0x45, 1, 2]);
    left.originate(&[]);
    assert_eq!(left.drops(DropReason::Malformed), 2);
    left.originate(&own([224, 0, 0, 9]));
    assert_eq!(left.drops(DropReason::Martian), 1);
}

#[test]
fn larger_than_the_tunnel_it_is_cut_and_every_piece_counted() {
    let mut left = Gateway::new(LEFT);
    let (from, to) = ((IpAddr::from(inner4(LEFT)), 1), (host4(RIGHT, 1), 2));
    let large = packet::udp(from, to, &pattern(9000));
    left.originate(&large);
    assert_eq!(left.packets_out(OUTER).len(), 7);
    assert_eq!((left.engine.totals.originated, left.engine.totals.sealed), (7, 7));
    left.rings.send_room = 3;
    left.originate(&large);
    left.assert_drops(&[(DropReason::TxFull, 4)]);
}
