//! Clear packets from the protected side, and those from outside that should not be clear.

use std::net::IpAddr;

use xswan_esp::selector::{AddressRange, Family, Flow, PortRange, Selector};
use xswan_pipeline::sink::Event;
use xswan_pipeline::spd::{Action, SaHandle, Spd};
use xswan_steer::abi::{ROLE_INNER, ROLE_OUTER};
use xswan_testkit::packet::{self, Ipv4, Ipv6, Noise};
use xswan_wire::DropReason;

use crate::gateway::*;

#[test]
fn a_clear_packet_leaves_as_esp_that_the_other_side_opens() {
    let (mut left, mut right) = (Gateway::new(LEFT), Gateway::new(RIGHT));
    for inner in [inner_packet4(LEFT, 100), inner_packet6(LEFT, 100)] {
        left.receive(INNER, &[frame(&inner)]);
        let sealed = left.packets_out(OUTER);
        assert_eq!(sealed.len(), 1);
        assert_eq!((sealed[0][9], &sealed[0][12..20]), (50, &[192, 0, 2, 1, 192, 0, 2, 2][..]));
        right.receive(OUTER, &[frame(&sealed[0])]);
        assert_eq!(right.packets_out(INNER), [one_hop_on(&one_hop_on(&inner))]);
    }
    left.assert_drops(&[]);
    right.assert_drops(&[]);
    assert_eq!((left.engine.totals.sealed, right.engine.totals.opened), (2, 2));
}

#[test]
fn policies_are_asked_in_their_order() {
    let udp_to = |port| Selector {
        protocol: 17,
        destination_ports: PortRange::one(port),
        ..Selector::addresses(AddressRange::any(Family::V4), AddressRange::any(Family::V4))
    };
    let to = |port| packet::udp((host4(LEFT, 1), 9), (host4(RIGHT, 1), port), &[7; 30]);
    let rows = [
        policy(udp_to(53), Action::Bypass),
        policy(udp_to(25), Action::Discard),
        policy(udp_to(53), Action::Discard),
    ];
    for first_protects in [false, true] {
        let mut left = Gateway::new(LEFT);
        left.spd = if first_protects {
            Spd::new([&networks(LEFT, protect(SLOT)), &rows[..]].concat())
        } else {
            Spd::new([&rows[..], &networks(LEFT, protect(SLOT))].concat())
        };
        left.receive(INNER, &[frame(&to(53)), frame(&to(25)), frame(&to(80))]);
        if first_protects {
            assert_eq!(left.packets_out(OUTER).len(), 3);
            continue;
        }
        assert_eq!(left.rings.punted, [to(53)], "as it came: the kernel forwards it");
        assert_eq!(left.packets_out(OUTER).len(), 1);
        left.assert_drops(&[(DropReason::Discarded, 1)]);
    }
}

#[test]
fn a_policy_to_everywhere_leaves_the_gateway_reachable() {
    let mut left = Gateway::new(LEFT);
    left.spd = Spd::new(everything(protect(SLOT)));
    let host = (host4(LEFT, 1), 40_000);
    let to_gateway = packet::udp(host, (IpAddr::from(inner4(LEFT)), 22), &[7; 30]);
    left.receive(INNER, &[frame(&to_gateway)]);
    assert_eq!(left.rings.punted, [to_gateway], "the kernel's, not the tunnel's");
    let elsewhere = packet::udp(host, (IpAddr::from([203, 0, 113, 5]), 53), &[7; 30]);
    left.receive(INNER, &[frame(&elsewhere)]);
    assert_eq!(left.packets_out(OUTER).len(), 1);
    left.assert_drops(&[]);
}

#[test]
fn a_fragment_does_not_slip_past_a_policy_by_ports() {
    let any = AddressRange::any(Family::V4);
    let web = Selector {
        protocol: 17,
        destination_ports: PortRange::one(443),
        ..Selector::addresses(any, any)
    };
    let mut left = Gateway::new(LEFT);
    left.spd = Spd::new(vec![
        policy(web, protect(SLOT)),
        policy(Selector::addresses(any, any), Action::Bypass),
    ]);
    let (IpAddr::V4(from), IpAddr::V4(to)) = (host4(LEFT, 1), host4(RIGHT, 1)) else { return };
    let mut header = Ipv4::new(from, to, 17);
    (header.offset, header.mf) = (100, true);
    left.receive(INNER, &[frame(&header.packet(&[1; 64]))]);
    (header.offset, header.mf) = (0, true);
    left.receive(INNER, &[frame(&header.packet(&[1; 64]))]);
    left.assert_drops(&[(DropReason::InnerFragment, 2)]);
    // Another protocol's fragment is nothing to that policy.
    header.protocol = 6;
    left.receive(INNER, &[frame(&header.packet(&[1; 64]))]);
    assert_eq!(left.rings.punted.len(), 1);
    // From outside the same question is asked the other way round.
    let mut right = Gateway::new(RIGHT);
    right.spd = Spd::new(vec![policy(web, protect(SLOT))]);
    header.protocol = 17;
    right.receive(OUTER, &[frame(&header.packet(&[1; 64]))]);
    right.assert_drops(&[(DropReason::InnerFragment, 1)]);
}

#[test]
fn a_later_ipv6_fragment_may_hide_its_protocol() {
    let any = AddressRange::any(Family::V6);
    let web = Selector { protocol: 17, ..Selector::addresses(any, any) };
    let mut left = Gateway::new(LEFT);
    left.spd = Spd::new(vec![
        policy(web, protect(SLOT)),
        policy(Selector::addresses(any, any), Action::Bypass),
    ]);
    let (IpAddr::V6(from), IpAddr::V6(to)) = (host6(LEFT, 1), host6(RIGHT, 1)) else { return };
    let later =
        Ipv6::new(from, to, packet::protocol::DESTINATION_OPTIONS).with_fragment(9, false, 1);
    left.receive(INNER, &[frame(&later.packet(&[0; 16]))]);
    left.assert_drops(&[(DropReason::InnerFragment, 1)]);
}

#[test]
fn sal_17_without_an_sa_control_is_asked_at_a_limited_rate() {
    let mut left = Gateway::new(LEFT);
    left.spd = Spd::new(networks(LEFT, Action::Protect(None)));
    let burst = vec![frame(&inner_packet4(LEFT, 40)); 100];
    for millisecond in 0..100 {
        left.now_ms = 1_000_000 + millisecond;
        left.receive(INNER, &burst);
    }
    left.assert_drops(&[(DropReason::NoSa, 10_000)]);
    let flow = Flow::parse(&inner_packet4(LEFT, 40)).unwrap();
    let asked = Event::Acquire { child: CHILD, flow };
    assert_eq!(left.rings.events, [asked]);
    left.now_ms = 1_001_000;
    left.receive(INNER, &burst);
    assert_eq!(left.rings.events, [asked, asked]);
    assert!(left.rings.sent.is_empty() && left.rings.punted.is_empty());
}

#[test]
fn an_empty_slot_is_no_sa() {
    let mut left = Gateway::new(LEFT);
    left.spd = Spd::new(networks(LEFT, protect(9)));
    left.receive(INNER, &[frame(&inner_packet4(LEFT, 40))]);
    left.spd = Spd::new(networks(LEFT, protect(u32::MAX)));
    left.receive(INNER, &[frame(&inner_packet4(LEFT, 40))]);
    left.assert_drops(&[(DropReason::NoSa, 2)]);
}

#[test]
fn str_04_a_clear_packet_of_another_workers_sa_is_handed_over() {
    let mut left = Gateway::new(LEFT);
    let theirs = Action::Protect(Some(SaHandle { slot: 3, worker: 1 }));
    left.spd = Spd::new(networks(LEFT, theirs));
    left.rings.hand_off_room = 1;
    let frames = [frame(&inner_packet4(LEFT, 40)), frame(&inner_packet6(LEFT, 41))];
    left.receive(INNER, &frames);
    left.assert_drops(&[(DropReason::HandoffFull, 1)]);
    assert_eq!(left.rings.handed, [(1, INNER, frames[0].clone())], "as it came");
}

#[test]
fn tun_08_what_must_be_protected_is_not_taken_in_clear() {
    let mut right = Gateway::new(RIGHT);
    let (IpAddr::V4(from), IpAddr::V4(to)) = (host4(LEFT, 1), host4(RIGHT, 1)) else { return };
    let mut fragment = Ipv4::new(from, to, 17);
    fragment.offset = 9;
    let packets = [inner_packet4(LEFT, 40), inner_packet6(LEFT, 40), fragment.packet(&[0; 16])];
    for packet in &packets {
        right.receive(OUTER, &[frame(packet)]);
        right.receive(INNER, &[frame(packet)]);
    }
    right.assert_drops(&[(DropReason::ClearTextForbidden, 6)]);
    // The same on a device that serves both sides.
    let both = vec![ROLE_OUTER | ROLE_INNER; 2];
    let mut right = Gateway::with(RIGHT, |config| config.roles = both);
    for packet in &packets {
        right.receive(OUTER, &[frame(packet)]);
    }
    right.assert_drops(&[(DropReason::ClearTextForbidden, 3)]);
    assert!(right.rings.punted.is_empty() && right.rings.sent.is_empty());
}

#[test]
fn tun_08_nor_from_outside_under_an_inside_address() {
    let mut right = Gateway::new(RIGHT);
    right.receive(OUTER, &[frame(&inner_packet4(RIGHT, 40)), frame(&inner_packet6(RIGHT, 40))]);
    right.assert_drops(&[(DropReason::ClearTextForbidden, 2)]);
    // What no policy knows is the kernel's.
    let stranger =
        packet::udp((IpAddr::from([192, 0, 2, 9]), 1), (IpAddr::from([192, 0, 2, 2]), 2), &[]);
    right.receive(OUTER, &[frame(&stranger)]);
    assert_eq!(right.rings.punted, [stranger]);
}

#[test]
fn clear_packets_with_odd_headers() {
    let mut left = Gateway::new(LEFT);
    let (IpAddr::V4(from), IpAddr::V4(to)) = (host4(LEFT, 1), host4(RIGHT, 1)) else { return };
    let mut header = Ipv4::new(from, to, 17);
    header.good_checksum = false;
    left.receive(INNER, &[frame(&header.packet(&[0; 16]))]);
    left.assert_drops(&[(DropReason::Malformed, 1)]);
    header.good_checksum = true;
    header.options = vec![1, 1, 1, 1];
    header.ttl = 2;
    left.receive(INNER, &[frame(&header.packet(&[0; 16]))]);
    assert_eq!(left.packets_out(OUTER).len(), 1);
    // To somewhere no policy knows.
    let other = packet::udp((host4(LEFT, 1), 1), (IpAddr::from([8, 8, 8, 8]), 2), &[]);
    left.receive(INNER, &[frame(&other)]);
    assert_eq!(left.drops(DropReason::NoPolicy), 1);
}

#[test]
fn tun_07_what_ethernet_padded_is_not_sealed() {
    let (mut left, mut right) = (Gateway::new(LEFT), Gateway::new(RIGHT));
    let inner = inner_packet4(LEFT, 1);
    let mut padded = frame(&inner);
    padded.resize(padded.len() + 31, 0x99);
    left.receive(INNER, &[padded]);
    let sealed = left.packets_out(OUTER);
    right.receive(OUTER, &[frame(&sealed[0])]);
    assert_eq!(right.packets_out(INNER), [one_hop_on(&one_hop_on(&inner))]);
}

#[test]
fn a_burst_larger_than_the_largest_is_several() {
    let mut left = Gateway::new(LEFT);
    let mut right = Gateway::new(RIGHT);
    let burst = vec![frame(&inner_packet4(LEFT, 40)); 700];
    left.rings = crate::rings::Rings::new(2000);
    right.rings = crate::rings::Rings::new(2000);
    left.receive(INNER, &burst);
    let sealed: Vec<_> = left.packets_out(OUTER).iter().map(|packet| frame(packet)).collect();
    right.receive(OUTER, &sealed);
    assert_eq!(right.packets_out(INNER).len(), 700);
}

#[test]
fn sequence_numbers_leave_in_their_order_whatever_is_mixed() {
    let (mut left, mut right) = (Gateway::new(LEFT), Gateway::new(RIGHT));
    let mut noise = Noise::new(3);
    // Small ones are staged, large ones are cut and sealed at once: more of the first than the
    // window is wide before one of the second.
    let burst: Vec<_> = (0..250)
        .map(|index| {
            let large = index % 100 == 99 || noise.below(90) == 0;
            frame(&inner_packet4(LEFT, if large { 1470 } else { 40 }))
        })
        .collect();
    left.receive(INNER, &burst);
    let sealed = left.packets_out(OUTER);
    let numbers: Vec<_> =
        sealed.iter().map(|p| u32::from_be_bytes([p[24], p[25], p[26], p[27]])).collect();
    assert!(numbers.is_sorted(), "{numbers:?}");
    for packet in &sealed {
        right.receive(OUTER, &[frame(packet)]);
    }
    right.assert_drops(&[]);
}
