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

#[test]
fn the_kernel_is_told_what_fits_when_it_may_not_be_cut() {
    let mut left = Gateway::new(LEFT);
    let (from, to) = ((IpAddr::from(inner4(LEFT)), 1), (host4(RIGHT, 1), 2));
    let mut large = packet::udp(from, to, &pattern(1447 - 28));
    large[6] |= 0x40;
    large[10..12].fill(0);
    let sum = packet::checksum(&[&large[..20]]);
    large[10..12].copy_from_slice(&sum.to_be_bytes());
    left.originate(&large);
    left.assert_drops(&[(DropReason::TooBig, 1)]);
    let [error] = &left.rings.punted[..] else { panic!("{:?}", left.rings.punted) };
    assert_eq!(error[16..20], inner4(LEFT), "to the sender");
    assert_eq!((error[9], error[20], error[21]), (1, 3, 4));
    assert_eq!(error[26..28], 1446_u16.to_be_bytes());
    assert_eq!(error[28..48], large[..20]);
    left.now_ms += 1000;
    let (from, to) = ((IpAddr::from(inner6(LEFT)), 1), (host6(RIGHT, 1), 2));
    left.originate(&packet::udp(from, to, &pattern(1447 - 48)));
    let error = &left.rings.punted[1];
    assert_eq!((error[6], error[40]), (58, 2));
    assert_eq!(error[44..48], 1446_u32.to_be_bytes());
    assert_eq!(left.packets_out(OUTER).len(), 0, "and nobody else");
}
