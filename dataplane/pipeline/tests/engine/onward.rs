//! From the tunnel onward: selectors, hosts, other tunnels, the kernel; and back if refused.

use std::net::IpAddr;

use xswan_esp::ecn::DfEncap;
use xswan_esp::selector::{AddressRange, Flow, Selector};
use xswan_pipeline::forward::NextHop;
use xswan_pipeline::sink::Event;
use xswan_pipeline::spd::{Action, Policy, Spd};
use xswan_testkit::packet::{self, Ipv4};
use xswan_wire::DropReason;

use crate::gateway::*;

fn v4(source: [u8; 4], destination: [u8; 4]) -> Ipv4 {
    Ipv4::new(source.into(), destination.into(), 17)
}

#[test]
fn tun_01_outside_the_selectors_is_refused() {
    let mut right = Gateway::new(RIGHT);
    let strangers = [
        v4([10, 3, 0, 1], [10, 2, 0, 1]),
        v4([10, 1, 0, 1], [10, 3, 0, 1]),
        v4([10, 2, 0, 1], [10, 1, 0, 1]),
        v4([127, 0, 0, 1], [10, 2, 0, 1]),
    ];
    for (sequence, stranger) in (1..).zip(&strangers) {
        right.receive(OUTER, &[built(&esp(sequence, &stranger.packet(&[0; 20])))]);
    }
    right.assert_drops(&[(DropReason::SelectorMismatch, 4)]);
    assert_eq!(right.engine.inbound.at(SLOT as usize).unwrap().sa.counters.selector, 4);
    assert!(right.rings.sent.is_empty() && right.rings.punted.is_empty());
}

/// Two clients with an address each, SAs in slots 2 and 3.
fn with_clients() -> Gateway {
    let mut right = Gateway::new(RIGHT);
    let home = AddressRange::v4_prefix([10, 2, 0, 0], 16);
    let client = |number: u8| {
        let selector = Selector::addresses(home, AddressRange::v4_prefix([10, 9, 0, number], 32));
        let slot = u32::from(number);
        Policy { selector, action: protect(slot), child: 100 + slot, icmp: false, hold: false }
    };
    right.spd = Spd::new(vec![client(2), client(3)]);
    for slot in [2, 3] {
        right.put_inbound(slot, 100 + slot, &inbound_config(RIGHT, slot));
        right.put_outbound(slot, 100 + slot, &outbound_config(RIGHT, slot));
    }
    right
}

#[test]
fn tun_02_one_client_under_the_address_of_another() {
    let mut right = with_clients();
    let from = |number| v4([10, 9, 0, number], [10, 2, 0, 1]).packet(&[0; 20]);
    right.receive(
        OUTER,
        &[
            built(&esp_to(spi(RIGHT, 2), 1, &from(2))),
            built(&esp_to(spi(RIGHT, 2), 2, &from(3))),
            built(&esp_to(spi(RIGHT, 3), 1, &from(2))),
            built(&esp_to(spi(RIGHT, 3), 2, &from(3))),
        ],
    );
    assert_eq!(right.packets_out(INNER), [one_hop_on(&from(2)), one_hop_on(&from(3))]);
    right.assert_drops(&[(DropReason::SelectorMismatch, 2)]);
}

#[test]
fn tun_09_inner_addresses_of_more_than_one_host() {
    let mut right = Gateway::new(RIGHT);
    right.spd = Spd::new(everything(protect(SLOT)));
    // Not sealed again: those are not for a tunnel either, without a policy that is narrower.
    right.spd = Spd::new(
        networks(RIGHT, protect(SLOT))
            .into_iter()
            .chain([policy(
                Selector::addresses(
                    AddressRange::v4_prefix([224, 0, 0, 0], 3),
                    AddressRange::v4_prefix([10, 1, 0, 0], 16),
                ),
                protect(SLOT),
            )])
            .collect(),
    );
    for (sequence, destination) in (1..).zip([[224, 0, 0, 1], [255; 4], [240, 0, 0, 1]]) {
        let inner = v4([10, 1, 0, 1], destination).packet(&[0; 20]);
        right.receive(OUTER, &[built(&esp(sequence, &inner))]);
    }
    right.assert_drops(&[(DropReason::Martian, 3)]);
}

#[test]
fn tun_11_icmp_errors_of_routers_on_the_far_side() {
    let error = |kind: u8, to: [u8; 4]| {
        let mut message = vec![kind, 1, 0, 0, 0, 0, 0, 0];
        message.extend(v4(to, [10, 1, 0, 1]).packet(&[0; 8]));
        let sum = packet::checksum(&[&message]);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        Ipv4::new([203, 0, 113, 5].into(), to.into(), 1).packet(&message)
    };
    let host = [10, 2, 0, 1];
    for allowed in [false, true] {
        let mut right = Gateway::new(RIGHT);
        let rows = networks(RIGHT, protect(SLOT));
        right.spd = Spd::new(rows.into_iter().map(|row| Policy { icmp: allowed, ..row }).collect());
        let mut sequence = 0;
        let mut refused = 0;
        for (kind, to, is_error) in [
            (3, host, true),
            (11, host, true),
            (12, host, true),
            (5, host, false),
            (8, host, false),
            // An error about somebody else's traffic.
            (3, [10, 3, 0, 1], false),
        ] {
            sequence += 1;
            right.receive(OUTER, &[built(&esp(sequence, &error(kind, to)))]);
            let expected = usize::from(allowed && is_error);
            assert_eq!(right.packets_out(INNER).len(), expected, "type {kind}");
            refused += 1 - expected as u64;
        }
        right.assert_drops(&[(DropReason::SelectorMismatch, refused)]);
    }
}

#[test]
fn from_one_tunnel_into_another() {
    let mut hub = with_clients();
    // The clients may talk with each other.
    let between = |from: u8, to: u8| {
        let one = |number| AddressRange::v4_prefix([10, 9, 0, number], 32);
        let slot = u32::from(to);
        Policy {
            selector: Selector::addresses(one(from), one(to)),
            action: protect(slot),
            child: 100 + slot,
            icmp: false,
            hold: false,
        }
    };
    hub.spd = Spd::new([&[between(2, 3), between(3, 2)], hub.spd.rows()].concat());
    let mut inner = v4([10, 9, 0, 2], [10, 9, 0, 3]);
    hub.receive(OUTER, &[built(&esp_to(spi(RIGHT, 2), 1, &inner.packet(&[7; 20])))]);
    let sealed = hub.packets_out(OUTER);
    assert_eq!(sealed.len(), 1);
    assert_eq!(sealed[0][20..24], spi(LEFT, 3).to_be_bytes());
    assert_eq!(hub.engine.totals.sealed, 1);
    hub.assert_drops(&[]);
    // At its last hop: the sender is told, through its own tunnel.
    inner.ttl = 1;
    hub.receive(OUTER, &[built(&esp_to(spi(RIGHT, 2), 2, &inner.packet(&[7; 20])))]);
    let told = hub.packets_out(OUTER);
    assert_eq!(told.len(), 1);
    assert_eq!(told[0][20..24], spi(LEFT, 2).to_be_bytes());
    hub.assert_drops(&[(DropReason::TtlExceeded, 1)]);
    // Larger than the second tunnel's way, and not to be cut: told as well.
    hub.now_ms += 1000;
    hub.engine.outbound.at_mut(3).unwrap().path_mtu = 600;
    (inner.ttl, inner.df) = (9, true);
    hub.receive(OUTER, &[built(&esp_to(spi(RIGHT, 2), 3, &inner.packet(&[7; 900])))]);
    let told = hub.packets_out(OUTER);
    assert_eq!((told.len(), &told[0][20..24]), (1, &spi(LEFT, 2).to_be_bytes()[..]));
    assert_eq!(hub.drops(DropReason::TooBig), 1);
    inner.df = false;
    hub.receive(OUTER, &[built(&esp_to(spi(RIGHT, 2), 4, &inner.packet(&[7; 900])))]);
    let pieces = hub.packets_out(OUTER);
    assert_eq!(pieces.len(), 2);
    assert!(pieces.iter().all(|p| p.len() <= 600 && p[20..24] == spi(LEFT, 3).to_be_bytes()));
}

#[test]
fn onward_into_a_tunnel_that_has_no_sa_asks_for_one() {
    let mut right = Gateway::new(RIGHT);
    let far = AddressRange::v4_prefix([10, 3, 0, 0], 16);
    let left_net = AddressRange::v4_prefix([10, 1, 0, 0], 16);
    right.spd = Spd::new(vec![
        policy(Selector::addresses(far, left_net), protect(SLOT)),
        Policy { child: 8, ..policy(Selector::addresses(left_net, far), Action::Protect(None)) },
    ]);
    let inner = v4([10, 1, 0, 1], [10, 3, 0, 1]).packet(&[0; 20]);
    right.receive(OUTER, &[built(&esp(1, &inner))]);
    right.assert_drops(&[(DropReason::NoSa, 1)]);
    assert_eq!(
        right.rings.events,
        [Event::Acquire { child: 8, flow: Flow::parse(&inner).unwrap() }]
    );
}

#[test]
fn an_error_about_a_tunnels_packet_never_leaves_in_clear() {
    // Our inner address is not within the selectors.
    let mut right = with_clients();
    let home = AddressRange::v4_prefix([10, 2, 0, 1], 32);
    let client = AddressRange::v4_prefix([10, 9, 0, 2], 32);
    let row = policy(Selector::addresses(home, client), protect(2));
    right.spd = Spd::new(vec![Policy { child: 102, ..row }]);
    let mut inner = v4([10, 9, 0, 2], [10, 2, 0, 1]);
    inner.ttl = 1;
    let secret = pattern(64);
    right.receive(OUTER, &[built(&esp_to(spi(RIGHT, 2), 1, &inner.packet(&secret)))]);
    let told = right.packets_out(OUTER);
    assert_eq!(told.len(), 1, "through the SA that an answer would take");
    assert_eq!((told[0][9], &told[0][20..24]), (50, &spi(LEFT, 2).to_be_bytes()[..]));
    assert!(!told[0].windows(16).any(|bytes| bytes == &secret[..16]));
    // With no such SA: silence, and not because of the rate limit.
    right.now_ms += 1000;
    let row = policy(Selector::addresses(home, client), Action::Protect(None));
    right.spd = Spd::new(vec![Policy { child: 102, ..row }]);
    right.receive(OUTER, &[built(&esp_to(spi(RIGHT, 2), 2, &inner.packet(&secret)))]);
    assert!(right.rings.sent.is_empty() && right.rings.punted.is_empty());
    right.assert_drops(&[(DropReason::TtlExceeded, 2)]);
}

#[test]
fn the_kernel_gets_what_is_for_us_or_has_no_neighbour_yet() {
    let mut right = Gateway::new(RIGHT);
    right.fib = fib(RIGHT, &[prefix4([10, 2, 5, 0], 24, NextHop::Kernel { mtu: 1500 })]);
    let to_us = v4([10, 1, 0, 1], inner4(RIGHT)).packet(&[1; 20]);
    let unresolved = v4([10, 1, 0, 1], [10, 2, 5, 1]).packet(&[2; 20]);
    right.receive(OUTER, &[built(&esp(1, &to_us)), built(&esp(2, &unresolved))]);
    assert_eq!(right.rings.punted, [to_us, unresolved], "as they came, the kernel takes the hop");
    // The other way: sealed, but the kernel must find the neighbour.
    let kernel = NextHop::Kernel { mtu: 1500 };
    right.fib = fib(RIGHT, &[prefix4([192, 0, 2, 1], 32, kernel)]);
    right.rings.punted.clear();
    right.receive(INNER, &[frame(&inner_packet4(RIGHT, 40))]);
    let mut left = Gateway::new(LEFT);
    left.receive(OUTER, &[frame(&right.rings.punted[0])]);
    assert_eq!(left.packets_out(INNER).len(), 1);
}

#[test]
fn routes_that_say_no_are_counted() {
    let mut right = Gateway::new(RIGHT);
    let no = NextHop::Drop(DropReason::LinkDown);
    right.fib = fib(RIGHT, &[prefix4([10, 2, 0, 0], 16, no), prefix4([192, 0, 2, 1], 32, no)]);
    right.receive(OUTER, &[built(&esp(1, &inner_packet4(LEFT, 40)))]);
    right.receive(INNER, &[frame(&inner_packet4(RIGHT, 40))]);
    right.assert_drops(&[(DropReason::LinkDown, 2)]);
    // A peer that is ourselves.
    right.fib = fib(RIGHT, &[prefix4([192, 0, 2, 1], 32, NextHop::Local)]);
    right.receive(INNER, &[frame(&inner_packet4(RIGHT, 40))]);
    assert_eq!(right.drops(DropReason::NoRoute), 1);
}

#[test]
fn vlan_tags_come_and_go() {
    let (mut left, mut right) = (Gateway::new(LEFT), Gateway::new(RIGHT));
    let inner = inner_packet4(LEFT, 900);
    for tags in [&[][..], &[(0x8100, 5)], &[(0x88a8, 5), (0x8100, 6)]] {
        let hop =
            |side, port| NextHop::Port { port, mtu: MTU, header: header(side, port, tags, 0x0800) };
        left.fib = fib(LEFT, &[prefix4([192, 0, 2, 2], 32, hop(LEFT, OUTER))]);
        right.fib = fib(RIGHT, &[prefix4([10, 2, 0, 0], 16, hop(RIGHT, INNER))]);
        left.receive(INNER, &[packet::frame([1; 6], [2; 6], tags, &inner)]);
        let sealed = left.rings.take_sent(OUTER).remove(0);
        let l2 = header(LEFT, OUTER, tags, 0x0800);
        assert_eq!(sealed[..l2.len()], *l2.as_bytes());
        right.receive(OUTER, &[sealed]);
        let opened = right.rings.take_sent(INNER).remove(0);
        let l2 = header(RIGHT, INNER, tags, 0x0800);
        assert_eq!(opened[..l2.len()], *l2.as_bytes());
        assert_eq!(opened[l2.len()..], one_hop_on(&one_hop_on(&inner)));
    }
}

#[test]
fn either_family_within_either() {
    for outer_is_v6 in [false, true] {
        let (mut left, mut right) = (Gateway::new(LEFT), Gateway::new(RIGHT));
        let (mut out, mut into) = (outbound_config(LEFT, SLOT), inbound_config(RIGHT, SLOT));
        if outer_is_v6 {
            (out.addresses, into.addresses) = (outer_v6(LEFT), outer_v6(LEFT));
        }
        left.put_outbound(SLOT, CHILD, &out);
        right.put_inbound(SLOT, CHILD, &into);
        for inner in [inner_packet4(LEFT, 100), inner_packet6(LEFT, 100)] {
            left.receive(INNER, &[frame(&inner)]);
            let sealed = left.packets_out(OUTER);
            assert_eq!(sealed[0][0] >> 4, if outer_is_v6 { 6 } else { 4 });
            right.receive(OUTER, &[frame(&sealed[0])]);
            assert_eq!(right.packets_out(INNER), [one_hop_on(&one_hop_on(&inner))]);
        }
    }
}

#[test]
fn tun_06_two_gateways_that_send_each_other_everything_end_by_ttl() {
    let (mut left, mut right) = (Gateway::new(LEFT), Gateway::new(RIGHT));
    left.spd = Spd::new([bypass_home(LEFT), everything(protect(SLOT))].concat());
    right.spd = Spd::new(everything(protect(SLOT)));
    let inner = packet::udp((host4(LEFT, 1), 1), (IpAddr::from([10, 77, 0, 1]), 2), &[0; 40]);
    left.receive(INNER, &[frame(&inner)]);
    let mut passes = 0;
    loop {
        let (from, to) =
            if passes % 2 == 0 { (&mut left, &mut right) } else { (&mut right, &mut left) };
        let mut sealed = from.packets_out(OUTER);
        let Some(packet) = sealed.pop() else { break };
        assert!(sealed.is_empty(), "one packet stays one");
        to.receive(OUTER, &[frame(&packet)]);
        passes += 1;
        assert!(passes < 200, "no end");
    }
    let ended = left.drops(DropReason::TtlExceeded) + right.drops(DropReason::TtlExceeded);
    // 63 times the packet, once the error about it.
    assert_eq!((ended, passes), (1, 64));
    let told = left.packets_out(INNER);
    assert_eq!((told.len(), &told[0][20..22]), (1, &[11, 0][..]), "its source hears of it");
}

#[test]
fn tun_06_a_route_to_the_peer_that_leads_into_the_tunnel_ends_at_once() {
    let kernel = NextHop::Kernel { mtu: 1500 };
    for df in [DfEncap::Set, DfEncap::Clear] {
        let mut left = Gateway::new(LEFT);
        let mut config = outbound_config(LEFT, SLOT);
        config.df = df;
        left.put_outbound(SLOT, CHILD, &config);
        left.spd = Spd::new(everything(protect(SLOT)));
        left.fib = fib(LEFT, &[prefix4([192, 0, 2, 2], 32, kernel)]);
        left.receive(INNER, &[frame(&inner_packet4(LEFT, 100))]);
        let mut passes = 0;
        // The kernel sends what it is given into the TUN device.
        while let Some(packet) = left.rings.punted.pop() {
            left.originate(&packet);
            passes += 1;
            assert!(passes < 100, "no end");
        }
        left.assert_drops(&[(DropReason::NestLimit, 1)]);
    }
}

#[test]
fn tun_06_a_loop_over_two_tunnels_ends_at_the_mtu() {
    let mut left = Gateway::new(LEFT);
    let mut second = outbound_config(LEFT, 2);
    second.df = DfEncap::Clear;
    second.addresses = xswan_wire::layers::Addresses::V4 {
        source: [192, 0, 2, 1],
        destination: [198, 51, 100, 1],
    };
    let mut first = outbound_config(LEFT, SLOT);
    first.df = DfEncap::Clear;
    left.put_outbound(SLOT, CHILD, &first);
    left.put_outbound(2, CHILD, &second);
    let any = AddressRange::any(xswan_esp::selector::Family::V4);
    let to = |net| Selector::addresses(any, AddressRange::v4_prefix(net, 24));
    left.spd = Spd::new(vec![
        policy(to([198, 51, 100, 0]), protect(SLOT)),
        policy(Selector::addresses(any, any), protect(2)),
    ]);
    let kernel = NextHop::Kernel { mtu: 1500 };
    left.fib = fib(LEFT, &[prefix4([0; 4], 0, kernel)]);
    left.receive(INNER, &[frame(&inner_packet4(LEFT, 100))]);
    let mut passes = 0;
    while let Some(packet) = left.rings.punted.pop() {
        left.originate(&packet);
        passes += 1;
        assert!(passes < 100, "no end");
    }
    left.assert_drops(&[(DropReason::TooBig, 1)]);
}
