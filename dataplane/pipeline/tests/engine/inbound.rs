//! ESP from outside, good and bad.

use std::net::IpAddr;

use xswan_aead::Backend;
use xswan_esp::replay::{ReplayWindow, words_for};
use xswan_esp::sa::{InboundSa, UdpPorts};
use xswan_pipeline::engine::Inbound;
use xswan_pipeline::sink::Event;
use xswan_testkit::esp_builder::UdpChecksum;
use xswan_testkit::packet::{self, Noise};
use xswan_wire::DropReason;

use crate::gateway::*;

fn encapsulated() -> Gateway {
    let mut right = Gateway::new(RIGHT);
    let mut config = inbound_config(RIGHT, SLOT);
    config.encap = Some(UdpPorts { local: 4500, remote: 4500 });
    right.put_inbound(SLOT, CHILD, &config);
    right
}

#[test]
fn a_good_packet_is_forwarded_to_its_host() {
    let mut right = Gateway::new(RIGHT);
    for (sequence, inner) in [(1, inner_packet4(LEFT, 100)), (2, inner_packet6(LEFT, 100))] {
        right.receive(OUTER, &[built(&esp(sequence, &inner))]);
        assert_eq!(right.packets_out(INNER), [one_hop_on(&inner)]);
    }
    right.assert_drops(&[]);
    assert_eq!((right.engine.totals.opened, right.engine.totals.forwarded), (2, 2));
}

#[test]
fn esp_01_every_short_length_is_a_runt() {
    let mut right = Gateway::new(RIGHT);
    let mut cut = esp(1, &inner_packet4(LEFT, 100));
    for len in 0..=39 {
        cut.cut = Some(len);
        right.receive(OUTER, &[built(&cut)]);
    }
    // From 36 bytes on a packet could be ESP; what was cut off then fails its ICV.
    right.assert_drops(&[(DropReason::Runt, 36), (DropReason::AuthFail, 4)]);
    let mut right = encapsulated();
    cut.udp = Some((4500, 4500));
    for len in 0..=39 {
        cut.cut = Some(len);
        right.receive(OUTER, &[built(&cut)]);
    }
    right.assert_drops(&[(DropReason::Runt, 36), (DropReason::AuthFail, 4)]);
    assert_eq!(right.engine.totals.opened, 0);
}

#[test]
fn esp_04_ethernet_padding_is_not_seen() {
    let mut right = Gateway::new(RIGHT);
    let inner = inner_packet4(LEFT, 0);
    for (sequence, padding) in [(1, 1), (2, 46), (3, 200)] {
        let mut padded = built(&esp(sequence, &inner));
        padded.resize(padded.len() + padding, 0x77);
        right.receive(OUTER, &[padded]);
        assert_eq!(right.packets_out(INNER), [one_hop_on(&inner)]);
    }
    right.assert_drops(&[]);
}

#[test]
fn esp_10_inner_length_against_what_was_decrypted() {
    let mut right = Gateway::new(RIGHT);
    let inner = inner_packet4(LEFT, 100);
    let mut long = inner.clone();
    long[2..4].copy_from_slice(&129_u16.to_be_bytes());
    right.receive(OUTER, &[built(&esp(1, &long))]);
    right.assert_drops(&[(DropReason::InnerLength, 1)]);
    // Shorter: what is left over is padding against traffic analysis.
    let mut padded = esp(2, &inner);
    padded.tfc = vec![0x77; 333];
    right.receive(OUTER, &[built(&padded)]);
    assert_eq!(right.packets_out(INNER), [one_hop_on(&inner)]);
}

#[test]
fn esp_12_reserved_spis_end_silently() {
    let mut right = Gateway::new(RIGHT);
    for number in 0..256_u32 {
        let mut frame = built(&esp(1, &inner_packet4(LEFT, 20)));
        frame[34..38].copy_from_slice(&number.to_be_bytes());
        right.receive(OUTER, &[frame]);
    }
    right.assert_drops(&[(DropReason::ReservedSpi, 256)]);
    assert!(right.rings.sent.is_empty() && right.rings.events.is_empty());
}

#[test]
fn esp_13_a_million_unknown_spis_are_counted_and_nothing_else() {
    // One worker only: an SPI that names another is handed to it.
    let mut right = Gateway::with(RIGHT, |config| config.spis.workers = 1);
    let mut noise = Noise::new(13);
    let template = built(&esp(1, &inner_packet4(LEFT, 20)));
    let known = spi(RIGHT, SLOT);
    let mut sent = 0_u64;
    let mut burst = vec![template; 250];
    while sent < 1_000_000 {
        for frame in &mut burst {
            let spi = loop {
                let spi = noise.next_u64() as u32;
                if spi >= 256 && spi != known {
                    break spi;
                }
            };
            frame[34..38].copy_from_slice(&spi.to_be_bytes());
        }
        right.receive(OUTER, &burst);
        sent += 250;
    }
    right.assert_drops(&[(DropReason::UnknownSpi, 1_000_000)]);
    assert_eq!(right.rings.takes, 0, "nothing was sent about it, nothing decrypted");
    assert!(right.rings.events.is_empty());
    right.receive(OUTER, &[built(&esp(1, &inner_packet4(LEFT, 20)))]);
    assert_eq!(right.packets_out(INNER).len(), 1);
}

#[test]
fn esp_14_fragments_are_never_decrypted() {
    let mut right = Gateway::new(RIGHT);
    let mut builder = esp(1, &inner_packet4(LEFT, 100));
    for field in [0x2000, 0x0001, 0x2001, 0x1fff] {
        builder.fragment = field;
        right.receive(OUTER, &[built(&builder)]);
    }
    right.assert_drops(&[(DropReason::Fragment, 4)]);
    builder.fragment = 0x4000;
    right.receive(OUTER, &[built(&builder)]);
    assert_eq!(right.engine.totals.opened, 1, "don't-fragment is no fragment");
}

#[test]
fn esp_15_a_hundred_thousand_fragments_leave_nothing_behind() {
    let mut right = Gateway::new(RIGHT);
    let mut builder = esp(1, &inner_packet4(LEFT, 100));
    // Overlapping, never complete, all of one packet or each of its own: nothing is kept of any.
    for round in 0..1_000_u16 {
        builder.fragment = 0x2000 | (round % 200);
        let frame = built(&builder);
        right.receive(OUTER, &vec![frame; 100]);
    }
    right.assert_drops(&[(DropReason::Fragment, 100_000)]);
    assert_eq!(right.engine.totals.opened, 0);
}

#[test]
fn esp_17_only_from_and_to_the_addresses_of_the_sa() {
    let mut right = Gateway::new(RIGHT);
    let mut other_source = esp(1, &inner_packet4(LEFT, 100));
    other_source.source = IpAddr::from([192, 0, 2, 77]);
    let mut other_destination = esp(1, &inner_packet4(LEFT, 100));
    other_destination.destination = IpAddr::from([192, 0, 2, 12]);
    right.receive(OUTER, &[built(&other_source), built(&other_destination)]);
    right.assert_drops(&[(DropReason::AddressMismatch, 2)]);
    assert_eq!(right.engine.inbound.at(SLOT as usize).unwrap().sa.counters.address, 2);
    right.receive(OUTER, &[built(&esp(1, &inner_packet4(LEFT, 100)))]);
    assert_eq!(right.packets_out(INNER).len(), 1);
}

#[test]
fn esp_18_a_flood_of_forgeries_harms_nobody_else() {
    let mut right = Gateway::new(RIGHT);
    right.put_inbound(2, CHILD, &inbound_config(RIGHT, 2));
    let inner = inner_packet4(LEFT, 40);
    let mut forged = built(&esp(1, &inner));
    *forged.last_mut().unwrap() ^= 1;
    let mut delivered = 0;
    for round in 1..=500_u64 {
        let mut burst = vec![forged.clone(); 200];
        burst.insert(100, built(&esp_to(spi(RIGHT, 2), round, &inner)));
        right.receive(OUTER, &burst);
        delivered += right.packets_out(INNER).len();
    }
    assert_eq!(delivered, 500, "all of the other SA's");
    right.assert_drops(&[(DropReason::AuthFail, 100_000)]);
    let alarms = right.rings.events.len();
    assert!(right.rings.events.iter().all(|event| *event == Event::Integrity { slot: SLOT }));
    assert_eq!(alarms, 100_000 / 1024);
    // And the attacked SA is alive, its window where it was.
    right.receive(OUTER, &[built(&esp(1, &inner))]);
    assert_eq!(right.packets_out(INNER).len(), 1);
}

#[test]
fn esp_19_a_failed_tag_leaves_neither_plaintext_nor_keystream() {
    for backend in Backend::ALL {
        for esn in [false, true] {
            let mut right = Gateway::new(RIGHT);
            right.rings = crate::rings::Rings::new(4);
            let config = inbound_config(RIGHT, SLOT);
            let replay = ReplayWindow::new(64, esn, vec![0; words_for(64)]).unwrap();
            let cipher = key(backend, config.spi);
            let sa = InboundSa::new(&config, cipher, replay, 0).unwrap();
            let entry = Box::new(Inbound { sa, child: CHILD });
            right.engine.inbound.put(SLOT as usize, Some(entry));

            let inner = inner_packet4(LEFT, 1000);
            let mut recipe = esp(1, &inner);
            recipe.esn = esn;
            let mut forged = built(&recipe);
            *forged.last_mut().unwrap() ^= 0x80;
            // Enough that resynchronisation is tried as well.
            for _ in 0..1100 {
                right.receive(OUTER, &[&forged]);
                assert!(!right.rings.hold(&inner[28..44]), "{}", backend.name());
            }
            // Zeros under this nonce decrypt to the keystream.
            let mut zeros = recipe.clone();
            zeros.payload = vec![0; inner.len()];
            let keystream = built(&zeros)[14 + 20 + 16..][..inner.len()].to_vec();
            let len = forged.len();
            forged[14 + 20 + 16..len - 16].fill(0);
            right.receive(OUTER, &[&forged]);
            for piece in keystream.chunks_exact(16) {
                assert!(!right.rings.hold(piece), "{}", backend.name());
            }
            right.assert_drops(&[(DropReason::AuthFail, 1101)]);
        }
    }
}

#[test]
fn esp_20_udp_lengths_and_checksums() {
    let inner = inner_packet4(LEFT, 100);
    let mut right = encapsulated();
    let mut builder = esp(1, &inner);
    builder.udp = Some((4500, 4500));
    let right_len = u16::try_from(builder.esp().unwrap().len() + 8).unwrap();
    for len in [0, 7, right_len - 1, right_len + 1, u16::MAX] {
        builder.udp_len = Some(len);
        right.receive(OUTER, &[built(&builder)]);
    }
    right.assert_drops(&[(DropReason::BadUdpLength, 5)]);
    builder.udp_len = None;
    builder.udp_checksum = UdpChecksum::Wrong;
    right.receive(OUTER, &[built(&builder)]);
    right.assert_drops(&[(DropReason::BadUdpLength, 5), (DropReason::BadUdpChecksum, 1)]);
    for (sequence, checksum) in [(1, UdpChecksum::Zero), (2, UdpChecksum::Right)] {
        (builder.sequence, builder.udp_checksum) = (sequence, checksum);
        right.receive(OUTER, &[built(&builder)]);
        assert_eq!(right.packets_out(INNER), [one_hop_on(&inner)]);
    }
    assert_eq!(right.all_drops(), 6);
}

#[test]
fn esp_21_keepalives_and_what_resembles_them() {
    let mut right = encapsulated();
    let (from, to) = ((IpAddr::from([192, 0, 2, 1]), 4500), (IpAddr::from([192, 0, 2, 2]), 4500));
    for payload in [&[0xff][..], &[0xff, 0xff, 1, 2, 3], &[0xff; 8], &[0xfe], &[]] {
        right.receive(OUTER, &[frame(&packet::udp(from, to, payload))]);
    }
    right.assert_drops(&[(DropReason::Keepalive, 1), (DropReason::Runt, 4)]);
    // A non-ESP marker is IKE, which steering leaves to the kernel.
    right.receive(OUTER, &[frame(&packet::udp(from, to, &[0; 40]))]);
    assert_eq!(right.drops(DropReason::ReservedSpi), 1);
}

#[test]
fn esp_23_parts_of_a_large_packet_are_dropped_each() {
    let mut right = Gateway::new(RIGHT);
    let whole = built(&esp(1, &inner_packet4(LEFT, 1000)));
    let parts: Vec<_> = (0..5).map(|_| (OUTER, right.rings.received(&whole, true))).collect();
    right.process(parts);
    right.assert_drops(&[(DropReason::MultiBuffer, 5)]);
    right.receive(OUTER, &[whole]);
    assert_eq!(right.packets_out(INNER).len(), 1);
}

#[test]
fn esp_03_truncated_packets() {
    let mut right = Gateway::new(RIGHT);
    let builder = esp(1, &inner_packet4(LEFT, 40));
    let whole = built(&builder);
    let esp_len = builder.esp().unwrap().len();
    for missing in 1..=esp_len {
        // The IP length says more than there is, then it is made to fit.
        right.receive(OUTER, &[&whole[..whole.len() - missing]]);
        let mut cut = builder.clone();
        cut.cut = Some(esp_len - missing);
        right.receive(OUTER, &[built(&cut)]);
    }
    let n = esp_len as u64;
    right.assert_drops(&[
        (DropReason::BadIpLength, n),
        (DropReason::Runt, 36),
        (DropReason::AuthFail, n - 36),
    ]);
}

#[test]
fn frames_that_are_no_ip_have_their_names() {
    let mut right = Gateway::new(RIGHT);
    let good = built(&esp(1, &inner_packet4(LEFT, 40)));
    let arp = [&good[..12], &[8, 6][..], &[0; 28]].concat();
    let three_tags = [&good[..12], &[0x81, 0, 0, 1].repeat(3), &good[12..]].concat();
    let mut checksum = good.clone();
    checksum[24] ^= 1;
    right.receive(OUTER, &[&good[..13], &arp, &three_tags, &checksum]);
    right.assert_drops(&[
        (DropReason::Runt, 1),
        (DropReason::BadEtherType, 1),
        (DropReason::BadVlan, 1),
        (DropReason::BadIpChecksum, 1),
    ]);
}

#[test]
fn without_buffers_packets_are_dropped_and_stay_acceptable() {
    let mut right = Gateway::new(RIGHT);
    let inner = inner_packet4(LEFT, 40);
    right.rings.take_room = 2;
    let burst: Vec<_> = (1..=5).map(|sequence| built(&esp(sequence, &inner))).collect();
    right.receive(OUTER, &burst);
    right.assert_drops(&[(DropReason::NoFrame, 3)]);
    right.rings.take_room = usize::MAX;
    right.receive(OUTER, &burst[2..]);
    assert_eq!(right.packets_out(INNER).len(), 5, "the window did not move for those dropped");
}

#[test]
fn full_rings_are_counted_by_name() {
    let mut right = Gateway::new(RIGHT);
    right.rings.send_room = 1;
    right.rings.punt_room = 0;
    let to_us = packet::udp((host4(LEFT, 1), 1), (IpAddr::from(inner4(RIGHT)), 2), &[1; 20]);
    let inner = inner_packet4(LEFT, 40);
    right.receive(OUTER, &[built(&esp(1, &inner)), built(&esp(2, &inner)), built(&esp(3, &to_us))]);
    right.assert_drops(&[(DropReason::TxFull, 1), (DropReason::SlowPathFull, 1)]);
}

#[test]
fn str_04_another_workers_packet_is_handed_over_or_counted() {
    let mut right = Gateway::new(RIGHT);
    let theirs = spi_of(1, 3);
    right.rings.hand_off_room = 2;
    let frames: Vec<_> =
        (1..=3).map(|n| built(&esp_to(theirs, n, &inner_packet4(LEFT, 40)))).collect();
    right.receive(OUTER, &frames);
    right.assert_drops(&[(DropReason::HandoffFull, 1)]);
    let handed: Vec<_> = right.rings.handed.drain(..).collect();
    assert_eq!(handed, [(1, OUTER, frames[0].clone()), (1, OUTER, frames[1].clone())], "in order");
    assert_eq!(right.engine.totals.handed_off, 2);
    // A worker that does not exist has no SAs.
    right.receive(OUTER, &[built(&esp_to(spi_of(2, 3), 1, &inner_packet4(LEFT, 40)))]);
    assert_eq!(right.drops(DropReason::UnknownSpi), 1);
}

#[test]
fn an_spi_from_outside_is_found_through_the_table() {
    let mut right = Gateway::new(RIGHT);
    let mut config = inbound_config(RIGHT, 3);
    config.spi = 0x1001;
    right.put_inbound(3, CHILD, &config);
    let frame = built(&esp_to(0x1001, 1, &inner_packet4(LEFT, 40)));
    right.receive(OUTER, &[&frame]);
    assert_eq!(right.packets_out(INNER).len(), 0);
    right.engine.static_spis.insert(0x1001, 0, 3);
    right.receive(OUTER, &[&frame]);
    assert_eq!(right.packets_out(INNER).len(), 1);
    right.engine.static_spis.insert(0x1001, 1, 3);
    right.receive(OUTER, &[&frame]);
    assert_eq!(right.rings.handed.len(), 1);
}
