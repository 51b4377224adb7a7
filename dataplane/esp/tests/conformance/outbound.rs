//! What is sent: byte for byte what the builder makes of it, and what the peer gets out.

use xswan_aead::{Algorithm, Backend, Key};
use xswan_esp::DropReason;
use xswan_esp::encap;
use xswan_esp::lifetime::{Expiry, Limit};
use xswan_esp::outer::Outer;
use xswan_esp::sa::{ConfigError, InboundConfig, InboundSa, Mode, OutboundConfig, OutboundSa, Tfc};
use xswan_esp::sequence::{SequenceSpace, Unleased};
use xswan_wire::layers::Addresses;
use xswan_wire::udp;

use crate::fixture::*;

fn send(sa: &mut Outbound, inner: &[u8]) -> Result<Vec<u8>, DropReason> {
    let mut out = vec![0xa5; inner.len() + 1600];
    let len = encap::encap(sa, inner, 1, &mut out)?;
    assert!(out[len..].iter().all(|byte| *byte == 0xa5), "nothing beyond the packet");
    out.truncate(len);
    Ok(out)
}

/// A transport-mode packet between the SA's own addresses.
fn own_packet(addresses: &Addresses, len: usize) -> Vec<u8> {
    let mut packet = match addresses {
        Addresses::V4 { .. } => inner_v4(len),
        Addresses::V6 { .. } => inner_v6(len),
    };
    match addresses {
        Addresses::V4 { source, destination } => {
            packet[12..16].copy_from_slice(source);
            packet[16..20].copy_from_slice(destination);
            packet[10..12].fill(0);
            let sum = xswan_wire::checksum::Sum::new().bytes(&packet[..20]).finish();
            packet[10..12].copy_from_slice(&sum.to_be_bytes());
        }
        Addresses::V6 { source, destination } => {
            packet[8..24].copy_from_slice(source);
            packet[24..40].copy_from_slice(destination);
        }
    }
    packet
}

#[test]
fn every_shape_arrives_as_it_was_sent() {
    for addresses in [outer_v4(), outer_v6()] {
        for (udp, esn) in [(false, false), (false, true), (true, false), (true, true)] {
            let (mut from, mut to) = pair(addresses, Mode::Tunnel, udp, esn);
            for len in 48..200 {
                for inner in [inner_v4(len), inner_v6(len)] {
                    let packet = send(&mut from, &inner).unwrap();
                    assert_eq!(packet.len() - inner.len(), from.overhead(inner.len()));
                    assert_eq!(receive(&mut to, &packet), Ok(inner));
                }
            }
            let (mut from, mut to) = pair(addresses, Mode::Transport, udp, esn);
            for len in 48..200 {
                let inner = own_packet(&addresses, len);
                let packet = send(&mut from, &inner).unwrap();
                assert_eq!(packet.len() - inner.len(), from.overhead(inner.len()));
                assert_eq!(receive(&mut to, &packet), Ok(inner));
            }
            assert_eq!(to.replay().lost(), 0);
            assert_eq!(from.sequence().last(), 152);
        }
    }
}

#[test]
fn the_bytes_are_those_of_the_builder() {
    for algorithm in Algorithm::AEADS {
        let octets: Vec<u8> = (1..=algorithm.key_len() as u8).collect();
        for backend in Backend::ALL {
            for (esn, first) in [(false, 0), (true, 0), (true, (7 << 32) - 20)] {
                let config = OutboundConfig::tunnel(SPI, SALT, outer_v4());
                let key = Key::new(backend, algorithm, &octets).unwrap();
                let numbers = SequenceSpace::resume(esn, u64::MAX, first, Unleased);
                let mut sa = OutboundSa::new(&config, key, numbers, 0).unwrap();
                for step in 1..=40 {
                    let inner = inner_v4(28 + step as usize * 3);
                    let mut recipe = recipe(first + step, &inner);
                    recipe.key = octets.clone();
                    recipe.chacha = algorithm == Algorithm::ChaCha20Poly1305;
                    recipe.esn = esn;
                    let packet = send(&mut sa, &inner).unwrap();
                    assert_eq!(packet[20..], recipe.esp().unwrap(), "{algorithm:?} {backend:?}");
                }
            }
        }
    }
}

#[test]
fn udp_checksum_over_ipv6_is_right_or_zero() {
    for wanted in [true, false] {
        let mut config = OutboundConfig::tunnel(SPI, SALT, outer_v6());
        config.encap = Some(PORTS);
        config.udp_checksum = wanted;
        let mut sa = outbound_of(&config, false);
        for len in 28..100 {
            let packet = send(&mut sa, &inner_v4(len)).unwrap();
            assert_eq!(packet[46..48] != [0, 0], wanted);
            assert!(udp::checksum_is_right(&outer_v6(), &packet[40..]));
        }
    }
}

#[test]
fn esp_12_no_packet_leaves_under_a_reserved_spi() {
    for spi in 0..256 {
        let config = OutboundConfig::tunnel(spi, SALT, outer_v4());
        let numbers = SequenceSpace::new(false, u64::MAX, Unleased);
        let refused = OutboundSa::new(&config, key(), numbers, 0).err();
        assert_eq!(refused, Some(ConfigError::ReservedSpi(spi)));
    }
}

#[test]
fn sal_01_the_packet_after_the_last_number_is_dropped() {
    let config = OutboundConfig::tunnel(SPI, SALT, outer_v4());
    let last = u64::from(u32::MAX);
    let numbers = SequenceSpace::resume(false, last - 5, last - 10, Unleased);
    let mut sa = OutboundSa::new(&config, key(), numbers, 0).unwrap();
    let mut soft_at = Vec::new();
    for _ in 0..10 {
        send(&mut sa, &inner_v4(60)).unwrap();
        soft_at.extend(sa.take_expiry().map(|event| (sa.sequence().last(), event)));
    }
    assert_eq!(soft_at, [(last - 5, Expiry::Soft)], "one event, before the end");
    for _ in 0..3 {
        assert_eq!(send(&mut sa, &inner_v4(60)), Err(DropReason::SequenceExhausted));
    }
}

#[test]
fn sal_02_the_iv_never_repeats_at_the_end_of_64_bits() {
    let config = OutboundConfig::tunnel(SPI, SALT, outer_v4());
    for left in 0..4 {
        let numbers = SequenceSpace::resume(true, u64::MAX, u64::MAX - left, Unleased);
        let mut sa = OutboundSa::new(&config, key(), numbers, 0).unwrap();
        let mut ivs = Vec::new();
        for _ in 0..left {
            ivs.push(send(&mut sa, &inner_v4(60)).unwrap()[28..36].to_vec());
        }
        let expected: Vec<Vec<u8>> =
            (1..=left).map(|step| (u64::MAX - left + step).to_be_bytes().to_vec()).collect();
        assert_eq!(ivs, expected);
        assert_eq!(send(&mut sa, &inner_v4(60)), Err(DropReason::SequenceExhausted));
    }
}

#[test]
fn sal_06_limits_in_both_directions() {
    let soft = Limit { packets: 3, ..Limit::NONE };
    let hard = Limit { packets: 5, ..Limit::NONE };
    let mut out = OutboundConfig::tunnel(SPI, SALT, outer_v4());
    (out.soft, out.hard) = (soft, hard);
    let mut sender = outbound_of(&out, false);
    let mut events = Vec::new();
    for packet in 1..=8 {
        let result = send(&mut sender, &inner_v4(60));
        assert_eq!(result.is_ok(), packet <= 5);
        assert!(packet <= 5 || result == Err(DropReason::SaExpired));
        events.extend(sender.take_expiry().map(|event| (packet, event)));
    }
    assert_eq!(events, [(3, Expiry::Soft), (5, Expiry::Hard)]);
    assert_eq!(sender.sequence().last(), 5, "a dead SA spends no numbers");

    let mut into = InboundConfig::tunnel(SPI, SALT, outer_v4());
    (into.soft, into.hard) = (soft, hard);
    let mut receiver = inbound_of(&into, false);
    let mut events = Vec::new();
    for packet in 1..=8 {
        let sealed = recipe(packet, &inner_v4(60)).build().unwrap();
        let result = receive(&mut receiver, &sealed);
        assert!(if packet <= 5 { result.is_ok() } else { result == Err(DropReason::SaExpired) });
        events.extend(receiver.take_expiry().map(|event| (packet, event)));
    }
    assert_eq!(events, [(3, Expiry::Soft), (5, Expiry::Hard)]);
}

#[test]
fn sal_12_key_or_salt_of_the_other_direction() {
    let packet = recipe(1, &inner_v4(60)).build().unwrap();
    let into = InboundConfig::tunnel(SPI, SALT, outer_v4());
    let other_key = Key::new(Backend::RustCrypto, Algorithm::Aes128Gcm16, &[9; 16]).unwrap();
    let mut swapped = InboundSa::new(&into, other_key, window(64, false), 0).unwrap();
    assert_eq!(receive(&mut swapped, &packet), Err(DropReason::AuthFail));
    let into = InboundConfig::tunnel(SPI, *b"tlas", outer_v4());
    assert_eq!(receive(&mut inbound_of(&into, false), &packet), Err(DropReason::AuthFail));
}

#[test]
fn too_big_spends_nothing_and_max_inner_is_exact() {
    for addresses in [outer_v4(), outer_v6()] {
        for (mode, udp) in [
            (Mode::Tunnel, false),
            (Mode::Tunnel, true),
            (Mode::Transport, false),
            (Mode::Transport, true),
        ] {
            let (mut sa, _) = pair(addresses, mode, udp, false);
            let mut out = vec![0; 3000];
            for mtu in 576..=620 {
                let fits = usize::from(sa.max_inner(mtu));
                let before = sa.sequence().last();
                let inner = own_packet(&addresses, fits);
                let job = encap::prepare(&mut sa, &inner, mtu, 1, &mut out).unwrap();
                assert!(job.total_len() <= usize::from(mtu), "{mtu}");
                assert_eq!(job.total_len(), fits + sa.overhead(fits));
                let inner = own_packet(&addresses, fits + 1);
                let reason = encap::prepare(&mut sa, &inner, mtu, 1, &mut out).err();
                assert_eq!(reason, Some(DropReason::TooBig), "{mtu}");
                assert_eq!(sa.sequence().last(), before + 1);
            }
            let short =
                encap::prepare(&mut sa, &own_packet(&addresses, 500), 1500, 1, &mut [0; 99]);
            assert_eq!(short.err(), Some(DropReason::FrameViolation));
        }
    }
    let (sa, _) = pair(outer_v4(), Mode::Tunnel, false, false);
    assert_eq!(sa.max_inner(1500), 1446);
    assert_eq!(sa.max_inner(20), 0);
}

#[test]
fn tun_10_the_largest_and_every_padding() {
    for addresses in [outer_v4(), outer_v6()] {
        let (mut from, mut to) = pair(addresses, Mode::Tunnel, false, false);
        let largest = usize::from(from.max_inner(u16::MAX));
        assert!(largest > 65_400, "{largest}");
        for len in (largest - 8..=largest).chain(28..=36) {
            let inner = inner_v4(len);
            let packet = send(&mut from, &inner).unwrap();
            assert_eq!(packet.len() % 4, 0);
            assert_eq!(receive(&mut to, &packet), Ok(inner));
        }
        // A packet of 65,535 bytes must be fragmented before: no outer header can hold it.
        for len in [largest + 1, 65_535] {
            assert_eq!(send(&mut from, &inner_v4(len)), Err(DropReason::TooBig));
        }
        assert_eq!(to.replay().lost(), 0);
    }
}

#[test]
fn tfc_padding_hides_the_length_and_is_stripped() {
    let mut config = OutboundConfig::tunnel(SPI, SALT, outer_v4());
    config.tfc = Tfc::PadTo(1400);
    let (mut sa, mut peer) = (outbound_of(&config, false), inbound());
    let mut lengths = std::collections::BTreeSet::new();
    for len in 48..1300 {
        for inner in [inner_v4(len), inner_v6(len)] {
            let packet = send(&mut sa, &inner).unwrap();
            lengths.insert(packet.len());
            assert_eq!(receive(&mut peer, &packet), Ok(inner));
        }
    }
    assert_eq!(lengths.len(), 1);
    let mut out = vec![0; 2000];
    let job = encap::prepare(&mut sa, &inner_v4(100), 1000, 1, &mut out).unwrap();
    assert!((997..=1000).contains(&job.total_len()), "never past the MTU");
    config.mode = Mode::Transport;
    let numbers = SequenceSpace::new(false, u64::MAX, Unleased);
    let refused = OutboundSa::new(&config, key(), numbers, 0).err();
    assert_eq!(refused, Some(ConfigError::TfcInTransportMode));
}

#[test]
fn what_is_no_packet_is_not_sealed() {
    let (mut sa, _) = pair(outer_v4(), Mode::Tunnel, false, false);
    for len in 0..60 {
        assert_eq!(send(&mut sa, &inner_v4(60)[..len]), Err(DropReason::Malformed), "{len}");
    }
    for first in (0..=255_u8).filter(|first| first >> 4 != 4 && first >> 4 != 6) {
        let mut packet = inner_v4(60);
        packet[0] = first;
        assert_eq!(send(&mut sa, &packet), Err(DropReason::Malformed));
    }
    assert_eq!(sa.sequence().last(), 0);
    // What follows the IP packet is not part of it.
    let mut padded = inner_v4(60);
    padded.extend([0xee; 40]);
    let packet = send(&mut sa, &padded).unwrap();
    assert_eq!(receive(&mut inbound(), &packet), Ok(inner_v4(60)));
}

#[test]
fn transport_mode_options_extensions_and_refusals() {
    let v6 = outer_v6();
    let (mut from, mut to) = pair(v6, Mode::Transport, false, false);
    // Hop-by-hop, routing stay in front; the last destination options are protected.
    let plain = own_packet(&v6, 100);
    let mut extended = plain[..40].to_vec();
    extended[6] = 0;
    let routing_without_segments = [60, 0, 0, 0, 0, 0, 0, 0];
    for header in [[43, 0, 1, 4, 0, 0, 0, 0], routing_without_segments, [17, 0, 1, 4, 0, 0, 0, 0]] {
        extended.extend(header);
    }
    extended.extend(&plain[40..]);
    let len = (extended.len() - 40) as u16;
    extended[4..6].copy_from_slice(&len.to_be_bytes());
    let packet = send(&mut from, &extended).unwrap();
    assert_eq!(Outer::parse(&packet).unwrap().esp_offset, 56);
    assert_eq!(receive(&mut to, &packet), Ok(extended));

    let v4 = outer_v4();
    let (mut from, mut to) = pair(v4, Mode::Transport, true, false);
    let plain = own_packet(&v4, 100);
    let mut options = plain[..20].to_vec();
    (options[0], options[3]) = (0x47, 108);
    options.extend([1; 8]);
    options[10..12].fill(0);
    let sum = xswan_wire::checksum::Sum::new().bytes(&options).finish();
    options[10..12].copy_from_slice(&sum.to_be_bytes());
    options.extend(&plain[20..]);
    let packet = send(&mut from, &options).unwrap();
    assert_eq!(receive(&mut to, &packet), Ok(options));

    let mut fragment = plain.clone();
    fragment[6] = 0x20;
    assert_eq!(send(&mut from, &fragment), Err(DropReason::InnerFragment));
    assert_eq!(send(&mut from, &inner_v4(100)), Err(DropReason::AddressMismatch));
    assert_eq!(from.sequence().last(), 1);
}

#[test]
fn nothing_secret_is_printed() {
    let (from, to) = pair(outer_v4(), Mode::Tunnel, false, false);
    let mut out = vec![0; 200];
    let mut sa = outbound_of(&OutboundConfig::tunnel(SPI, SALT, outer_v4()), true);
    let job = encap::prepare(&mut sa, &inner_v4(60), 1500, 1, &mut out).unwrap();
    let printed = format!("{from:?} {to:?} {job:?}");
    assert!(!printed.contains("115, 97, 108, 116"), "{printed}");
    assert!(!printed.to_lowercase().contains("73616c74"), "{printed}");
}

#[test]
fn an_sa_under_other_parameters_repeats_no_iv_and_accepts_no_replay() {
    let config = OutboundConfig::tunnel(SPI, SALT, outer_v4());
    let key = || Key::new(Backend::RustCrypto, Algorithm::Aes128Gcm16, &[9; 16]).unwrap();
    let space = |lease| SequenceSpace::resume(true, u64::MAX, lease, Unleased);
    let mut old = OutboundSa::new(&config, key(), space(0), 0).unwrap();
    let mut out = vec![0; 2000];
    let mut receiver = {
        let into = InboundConfig::tunnel(SPI, SALT, outer_v4());
        InboundSa::new(&into, key(), window(64, true), 0).unwrap()
    };
    let mut seen = Vec::new();
    for number in 1..=5 {
        let len = encap::encap(&mut old, &inner_v4(60), 1, &mut out).unwrap();
        seen.push(out[..len].to_vec());
        assert_eq!(old.sequence().last(), number);
        receive(&mut receiver, &seen[seen.len() - 1]).unwrap();
    }
    // What stands in for the numbers until they move over has none left.
    let changed = OutboundConfig { ttl: 9, ..config.clone() };
    let mut new = OutboundSa::new(&changed, key(), space(u64::MAX), 0).unwrap();
    assert_eq!(
        encap::encap(&mut new, &inner_v4(60), 1, &mut out),
        Err(DropReason::SequenceExhausted)
    );
    assert!(new.take_over(&mut old));
    let len = encap::encap(&mut new, &inner_v4(60), 1, &mut out).unwrap();
    assert_eq!((out[8], new.sequence().last(), new.lifetime().packets()), (9, 6, 6));
    assert_eq!(
        encap::encap(&mut old, &inner_v4(60), 1, &mut [0; 2000]),
        Err(DropReason::SequenceExhausted),
        "the old one has nothing left to send with"
    );

    let into =
        InboundConfig { check_padding: false, ..InboundConfig::tunnel(SPI, SALT, outer_v4()) };
    let mut after = InboundSa::new(&into, key(), window(64, true), 0).unwrap();
    assert!(after.take_over(&mut receiver));
    for packet in &seen {
        assert_eq!(receive(&mut after, packet), Err(DropReason::ReplayDuplicate));
    }
    assert!(receive(&mut after, &out[..len]).is_ok());
    assert_eq!(after.lifetime().packets(), 6);

    let other = OutboundConfig { spi: SPI + 1, ..config };
    let mut other = OutboundSa::new(&other, key(), space(0), 0).unwrap();
    assert!(!other.take_over(&mut new), "another SA's numbers are its own");
}
