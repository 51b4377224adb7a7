//! Packets larger than the way: errors with the right MTU, or fragments.

use std::net::IpAddr;

use xswan_esp::sa::UdpPorts;
use xswan_pipeline::spd::Spd;
use xswan_testkit::packet::{self, Ipv4, Ipv6};
use xswan_wire::DropReason;

use crate::gateway::*;

/// The longest inner packet over IPv4, raw ESP, 1500: see `OutboundSa::max_inner`.
const MAX_INNER: u16 = 1446;

fn v4(from: Side, len: usize, df: bool) -> Vec<u8> {
    let (IpAddr::V4(source), IpAddr::V4(destination)) = (host4(from, 1), host4(3 - from, 1)) else {
        unreachable!()
    };
    let mut header = Ipv4::new(source, destination, 17);
    (header.df, header.id) = (df, 77);
    let payload = pattern(len - 28);
    let length = u16::try_from(len - 20).unwrap().to_be_bytes();
    header.packet(&[&[1, 1, 2, 2, length[0], length[1], 0, 0], &payload[..]].concat())
}

/// Fragments of one packet put together again: header of the first, payload of all.
fn reassemble(fragments: &[Vec<u8>]) -> Vec<u8> {
    let mut whole = fragments[0][..20].to_vec();
    for (index, fragment) in fragments.iter().enumerate() {
        let field = u16::from_be_bytes([fragment[6], fragment[7]]);
        assert_eq!(usize::from(field & 0x1fff) * 8, whole.len() - 20, "in order, no hole");
        assert_eq!(field & 0x2000 != 0, index + 1 < fragments.len());
        assert_eq!(packet::checksum(&[&fragment[..20]]), 0);
        whole.extend_from_slice(&fragment[20..]);
    }
    let len = u16::try_from(whole.len()).unwrap();
    whole[2..4].copy_from_slice(&len.to_be_bytes());
    whole[6..8].fill(0);
    whole[10..12].fill(0);
    let sum = packet::checksum(&[&whole[..20]]);
    whole[10..12].copy_from_slice(&sum.to_be_bytes());
    whole
}

/// Asserts that this is "fragmentation needed" with this MTU, quoting this packet.
fn assert_frag_needed(error: &[u8], mtu: u16, about: &[u8]) {
    assert_eq!((error[9], packet::checksum(&[&error[..20]])), (1, 0));
    assert_eq!((&error[20..22], packet::checksum(&[&error[20..]])), (&[3, 4][..], 0));
    assert_eq!(u16::from_be_bytes([error[26], error[27]]), mtu);
    assert_eq!(error[16..20], about[12..16], "to its source");
    assert_eq!(error[28..], about[..error.len() - 28], "as its source sent it");
}

#[test]
fn tun_04_dont_fragment_and_too_big_tells_the_source() {
    let mut left = Gateway::new(LEFT);
    let fits = v4(LEFT, MAX_INNER.into(), true);
    let too_big = v4(LEFT, usize::from(MAX_INNER) + 1, true);
    left.receive(INNER, &[frame(&fits), frame(&too_big)]);
    let sealed = left.packets_out(OUTER);
    assert_eq!(sealed.len(), 1);
    assert!(sealed[0].len() <= MTU.into());
    let errors = left.packets_out(INNER);
    assert_eq!(errors.len(), 1);
    assert_frag_needed(&errors[0], MAX_INNER, &too_big);
    assert_eq!(errors[0][12..16], inner4(LEFT));
    left.assert_drops(&[(DropReason::TooBig, 1)]);
    // No sequence number was spent on it.
    assert_eq!(left.engine.outbound.at(SLOT as usize).unwrap().sa.sequence().last(), 1);
}

#[test]
fn tun_04_errors_keep_to_their_rate() {
    let mut left = Gateway::new(LEFT);
    let burst = vec![frame(&v4(LEFT, 1480, true)); 100];
    for step in 0..100 {
        left.now_ms = 1_000_000 + step * 10;
        left.receive(INNER, &burst);
    }
    let errors = left.packets_out(INNER).len() as u64;
    assert!((10..=11).contains(&errors), "{errors} in a second at 10 a second");
    let held_back = (DropReason::IcmpRateLimited, 10_000 - errors);
    left.assert_drops(&[(DropReason::TooBig, 10_000), held_back]);
}

#[test]
fn tun_04_fragments_are_sealed_and_come_together_on_the_other_side() {
    let (mut left, mut right) = (Gateway::new(LEFT), Gateway::new(RIGHT));
    for len in [1447, 1460, 1500, 1900] {
        let inner = v4(LEFT, len, false);
        left.receive(INNER, &[frame(&inner)]);
        let sealed = left.packets_out(OUTER);
        assert_eq!(sealed.len(), 2);
        assert!(sealed.iter().all(|packet| packet.len() <= MTU.into()));
        for packet in &sealed {
            right.receive(OUTER, &[frame(packet)]);
        }
        let fragments = right.packets_out(INNER);
        assert_eq!(reassemble(&fragments), one_hop_on(&one_hop_on(&inner)));
    }
    left.assert_drops(&[]);
    assert_eq!((left.engine.totals.originated, left.engine.totals.sealed), (4, 8));
}

#[test]
fn tun_04_fragmentation_can_be_forbidden() {
    let mut left = Gateway::with(LEFT, |config| config.fragment = false);
    let inner = v4(LEFT, 1480, false);
    left.receive(INNER, &[frame(&inner)]);
    assert_frag_needed(&left.packets_out(INNER)[0], MAX_INNER, &inner);
    left.assert_drops(&[(DropReason::TooBig, 1)]);
}

#[test]
fn tun_04_ipv6_is_told_packet_too_big() {
    let mut left = Gateway::new(LEFT);
    let (IpAddr::V6(source), IpAddr::V6(destination)) = (host6(LEFT, 1), host6(RIGHT, 1)) else {
        unreachable!()
    };
    let inner = Ipv6::new(source, destination, 59).packet(&pattern(1407));
    left.receive(INNER, &[frame(&inner)]);
    let errors = left.packets_out(INNER);
    let error = &errors[0];
    assert_eq!((error[6], &error[40..42]), (58, &[2, 0][..]));
    assert_eq!(
        u32::from_be_bytes([error[44], error[45], error[46], error[47]]),
        u32::from(MAX_INNER)
    );
    let (from, to) = (IpAddr::from(inner6(LEFT)), host6(LEFT, 1));
    assert_eq!(packet::upper_checksum(from, to, 58, &error[40..]), 0);
    assert_eq!(error[48..], inner[..error.len() - 48]);
    left.assert_drops(&[(DropReason::TooBig, 1)]);
}

#[test]
fn a_learned_path_mtu_and_udp_make_the_tunnel_narrower() {
    let mut left = Gateway::new(LEFT);
    let mut config = outbound_config(LEFT, SLOT);
    config.encap = Some(UdpPorts { local: 4500, remote: 4500 });
    left.put_outbound(SLOT, CHILD, &config);
    let entry = left.engine.outbound.at_mut(SLOT as usize).unwrap();
    entry.path_mtu = 1400;
    let max_inner = entry.sa.max_inner(1400);
    let inner = v4(LEFT, 1400, true);
    left.receive(INNER, &[frame(&inner)]);
    assert_frag_needed(&left.packets_out(INNER)[0], max_inner, &inner);
    left.receive(INNER, &[frame(&v4(LEFT, max_inner.into(), true))]);
    let sealed = left.packets_out(OUTER);
    assert!((1397..=1400).contains(&sealed[0].len()), "{}", sealed[0].len());
}

#[test]
fn an_opened_packet_larger_than_the_hosts_link() {
    let mut right = Gateway::new(RIGHT);
    right.fib = fib(RIGHT, &[prefix4([10, 2, 0, 0], 16, hop4(RIGHT, INNER, 600))]);
    let (cut, kept) = (v4(LEFT, 1400, false), v4(LEFT, 1400, true));
    right.receive(OUTER, &[built(&esp(1, &cut)), built(&esp(2, &kept))]);
    let fragments = right.packets_out(INNER);
    assert_eq!(fragments.len(), 3);
    assert!(fragments.iter().all(|fragment| fragment.len() <= 600));
    assert_eq!(reassemble(&fragments), one_hop_on(&cut));
    // The source is behind the tunnel: so is the error's way.
    let sealed = right.packets_out(OUTER);
    let mut left = Gateway::new(LEFT);
    left.receive(OUTER, &[frame(&sealed[0])]);
    let error = &left.packets_out(INNER)[0];
    assert_frag_needed(error, 600, &kept);
    assert_eq!(error[12..16], inner4(RIGHT));
    right.assert_drops(&[(DropReason::TooBig, 1)]);
}

#[test]
fn running_out_of_buffers_in_the_middle_is_accounted_for() {
    for room in 0..8 {
        let mut right = Gateway::new(RIGHT);
        right.fib = fib(RIGHT, &[prefix4([10, 2, 0, 0], 16, hop4(RIGHT, INNER, 300))]);
        right.rings.take_room = room;
        right.receive(OUTER, &[built(&esp(1, &v4(LEFT, 1400, false)))]);
        let mut left = Gateway::new(LEFT);
        left.rings.take_room = room;
        left.receive(INNER, &[frame(&v4(LEFT, 1900, false)), frame(&v4(LEFT, 1480, true))]);
        let mut hub = Gateway::new(RIGHT);
        hub.spd = Spd::new(everything(protect(SLOT)));
        hub.rings.take_room = room;
        hub.receive(OUTER, &[built(&esp(1, &v4(LEFT, 1480, false)))]);
        hub.originate(&v4(RIGHT, 1900, false));
    }
}
