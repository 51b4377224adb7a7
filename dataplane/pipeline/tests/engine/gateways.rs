//! Two engines back to back.

use std::collections::VecDeque;

use xswan_esp::sa::UdpPorts;
use xswan_testkit::packet::{self, Noise};

use crate::gateway::*;

/// A packet from a side with random size, family and content.
fn random_packet(noise: &mut Noise, from: Side) -> Vec<u8> {
    let v6 = noise.below(2) == 1;
    let headers = if v6 { 48 } else { 28 };
    // The longest that the tunnel takes whole, with UDP in front, is 1438.
    let mut payload = vec![0; noise.below(1438 - headers + 1)];
    noise.fill(&mut payload);
    let number = 1 + noise.below(200) as u8;
    let (source, destination) = if v6 {
        (host6(from, number.into()), host6(3 - from, number.into()))
    } else {
        (host4(from, number), host4(3 - from, number))
    };
    match noise.below(3) {
        0 => packet::udp((source, 5), (destination, 6), &payload),
        1 => packet::ip(source, destination, 47, &payload),
        _ => packet::echo(source, destination, 1, 2, &payload),
    }
}

fn exchange(left: &mut Gateway, right: &mut Gateway, total: usize) {
    let mut noise = Noise::new(0x00dd_ba11);
    let mut done = 0;
    let mut numbers = std::collections::HashSet::new();
    while done < total {
        let count = 1 + noise.below(256).min(total - done - 1);
        let from_left = noise.below(2) == 0;
        let (near, far) =
            if from_left { (&mut *left, &mut *right) } else { (&mut *right, &mut *left) };
        let packets: Vec<_> = (0..count).map(|_| random_packet(&mut noise, near.side)).collect();
        let frames: Vec<_> = packets.iter().map(|packet| frame(packet)).collect();
        near.receive(INNER, &frames);
        let sealed = near.packets_out(OUTER);
        assert_eq!(sealed.len(), count);
        for packet in &sealed {
            let at = if packet[9] == 17 { 28 } else { 20 };
            let nonce: [u8; 16] = packet[at..at + 16].try_into().unwrap();
            assert!(numbers.insert(nonce), "SPI and IV were used before");
            assert!(packet.len() <= MTU.into());
        }
        let frames: Vec<_> = sealed.iter().map(|packet| frame(packet)).collect();
        far.receive(OUTER, &frames);
        let mut opened: VecDeque<_> = far.packets_out(INNER).into();
        for packet in &packets {
            assert_eq!(opened.pop_front(), Some(one_hop_on(&one_hop_on(packet))));
        }
        assert!(opened.is_empty());
        done += count;
    }
    left.assert_drops(&[]);
    right.assert_drops(&[]);
    assert_eq!(left.engine.totals.sealed, right.engine.totals.opened);
    assert_eq!(right.engine.totals.sealed, left.engine.totals.opened);
}

#[test]
fn tun_10_a_hundred_thousand_packets_of_all_sizes_arrive_as_they_were() {
    let (mut left, mut right) = (Gateway::new(LEFT), Gateway::new(RIGHT));
    exchange(&mut left, &mut right, 100_000);
}

#[test]
fn tun_10_the_same_in_udp() {
    let (mut left, mut right) = (Gateway::new(LEFT), Gateway::new(RIGHT));
    for gateway in [&mut left, &mut right] {
        let ports = Some(UdpPorts { local: 4500, remote: 4500 });
        let (mut out, mut into) =
            (outbound_config(gateway.side, SLOT), inbound_config(gateway.side, SLOT));
        (out.encap, into.encap) = (ports, ports);
        gateway.put_outbound(SLOT, CHILD, &out);
        gateway.put_inbound(SLOT, CHILD, &into);
    }
    exchange(&mut left, &mut right, 20_000);
}
