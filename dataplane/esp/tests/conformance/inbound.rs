//! What a received packet must pass before the cipher, and what a failed tag leaves.

use xswan_esp::DropReason;
use xswan_esp::decap;
use xswan_esp::outer::{MIN_ESP_LEN, Outer};
use xswan_esp::resync::{INTERVAL_MS, THRESHOLD};
use xswan_esp::sa::{EncapPolicy, InboundConfig, PeerAddress};
use xswan_testkit::esp_builder::{EspBuilder, UdpChecksum};
use xswan_wire::layers::{MAX_EXTENSIONS, MAX_OPTIONS};

use crate::fixture::*;

fn udp(mut recipe: EspBuilder) -> EspBuilder {
    recipe.udp = Some((PORTS.remote, PORTS.local));
    recipe
}

fn v6(mut recipe: EspBuilder) -> EspBuilder {
    (recipe.source, recipe.destination) = ip(&outer_v6());
    recipe
}

fn udp_sa() -> Inbound {
    let mut config = InboundConfig::tunnel(SPI, SALT, outer_v4());
    config.encap = Some(PORTS);
    inbound_of(&config, false)
}

#[test]
fn esp_01_every_short_length_is_a_runt() {
    let whole = recipe(1, &inner_v4(60));
    for encapsulate in [|r| r, udp, v6, |r| udp(v6(r))] {
        for len in 0..40 {
            let mut short: EspBuilder = encapsulate(whole.clone());
            short.cut = Some(len);
            let packet = short.build().unwrap();
            let expected = if len < MIN_ESP_LEN { Err(DropReason::Runt) } else { Ok(()) };
            assert_eq!(Outer::parse(&packet).map(drop), expected, "{len}");
        }
    }
    // The shortest that could be ESP gets as far as the cipher.
    for len in MIN_ESP_LEN..40 {
        let mut short = whole.clone();
        short.cut = Some(len);
        assert_eq!(receive(&mut inbound(), &short.build().unwrap()), Err(DropReason::AuthFail));
    }
}

#[test]
fn esp_03_truncated_packets() {
    let whole = recipe(1, &inner_v4(200)).build().unwrap();
    for cut in 1..whole.len() {
        let short = &whole[..whole.len() - cut];
        let expected = if short.len() < 20 { DropReason::Runt } else { DropReason::BadIpLength };
        let reason = receive(&mut inbound(), short);
        if short.is_empty() || short.len() < 20 {
            assert_eq!(reason, Err(DropReason::Runt));
        } else {
            assert_eq!(reason, Err(expected), "length not adjusted");
        }
    }
    let esp_len = whole.len() - 20;
    for len in 0..esp_len {
        let mut adjusted = recipe(1, &inner_v4(200));
        adjusted.cut = Some(len);
        let reason = receive(&mut inbound(), &adjusted.build().unwrap()).unwrap_err();
        let expected = if len < MIN_ESP_LEN { DropReason::Runt } else { DropReason::AuthFail };
        assert_eq!(reason, expected, "{len}");
    }
}

#[test]
fn esp_04_what_ethernet_padded_is_not_seen() {
    let inner = inner_v4(28);
    for trailer in [1, 14, 200] {
        for encapsulate in [|r| r, v6] {
            let mut packet = encapsulate(recipe(1, &inner)).build().unwrap();
            packet.extend(vec![0xee; trailer]);
            let mut sa = if packet[0] >> 4 == 4 {
                inbound()
            } else {
                inbound_of(&InboundConfig::tunnel(SPI, SALT, outer_v6()), false)
            };
            assert_eq!(receive(&mut sa, &packet), Ok(inner.clone()));
        }
    }
}

#[test]
fn esp_12_reserved_spis() {
    for spi in 0..256 {
        let mut reserved = recipe(1, &inner_v4(60));
        reserved.spi = spi;
        let packet = reserved.build().unwrap();
        assert_eq!(Outer::parse(&packet), Err(DropReason::ReservedSpi), "{spi}");
        assert!(InboundConfig::tunnel(spi, SALT, outer_v4()).spi == spi);
        let sa = xswan_esp::sa::InboundSa::new(
            &InboundConfig::tunnel(spi, SALT, outer_v4()),
            key(),
            window(64, false),
            0,
        );
        assert!(sa.is_err(), "no SA can have it either");
    }
    let mut first = recipe(1, &inner_v4(60));
    first.spi = 256;
    assert_eq!(Outer::parse(&first.build().unwrap()).map(|outer| outer.spi), Ok(256));
    assert_eq!(receive(&mut inbound(), &first.build().unwrap()), Err(DropReason::UnknownSpi));
}

#[test]
fn esp_14_fragments_are_never_opened() {
    for fragment in [0x2000, 0x0001, 0x3fff, 0x1fff] {
        let mut piece = recipe(1, &inner_v4(100));
        piece.fragment = fragment;
        let piece = piece.build().unwrap();
        assert_eq!(receive(&mut inbound(), &piece), Err(DropReason::Fragment));
    }
}

#[test]
fn esp_16_options_and_extension_chains() {
    let inner = inner_v4(60);
    for units in 0..=10 {
        let mut with_options = recipe(1, &inner);
        with_options.options = vec![1; units * 4];
        let packet = with_options.build().unwrap();
        assert_eq!(receive(&mut inbound(), &packet), Ok(inner.clone()), "{units}");
    }
    for depth in 0..=32 {
        let mut chain = v6(recipe(1, &inner));
        // Hop-by-hop first, then destination options without end.
        chain.extensions = (0..depth)
            .map(|at| (if at == 0 { 0 } else { 60 }, vec![0; 8 * (1 + at % 3)]))
            .collect();
        let mut sa = inbound_of(&InboundConfig::tunnel(SPI, SALT, outer_v6()), false);
        let verdict = receive(&mut sa, &chain.build().unwrap());
        // One of hop-by-hop options and so many others, where no fragment header is.
        if depth <= 1 + MAX_OPTIONS {
            assert_eq!(verdict, Ok(inner.clone()), "{depth}");
        } else {
            assert_eq!(verdict, Err(DropReason::BadExtension), "{depth}");
        }
    }
    let mut longest = v6(recipe(1, &inner));
    let other = (60, vec![0; 8]);
    longest.extensions = vec![(0, vec![0; 8])];
    longest.extensions.extend(vec![other.clone(); MAX_OPTIONS]);
    longest.extensions.push((44, vec![0; 8]));
    longest.extensions.extend(vec![other; MAX_OPTIONS]);
    assert_eq!(longest.extensions.len(), MAX_EXTENSIONS);
    let mut sa = inbound_of(&InboundConfig::tunnel(SPI, SALT, outer_v6()), false);
    assert_eq!(receive(&mut sa, &longest.build().unwrap()), Ok(inner.clone()));
    let mut atomic = v6(recipe(1, &inner));
    atomic.extensions = vec![(44, vec![0; 8])];
    let mut sa = inbound_of(&InboundConfig::tunnel(SPI, SALT, outer_v6()), false);
    assert_eq!(receive(&mut sa, &atomic.build().unwrap()), Ok(inner.clone()));
    let mut fragment = v6(recipe(2, &inner));
    fragment.extensions = vec![(44, vec![0, 0, 0, 1, 0, 0, 0, 9])];
    assert_eq!(receive(&mut sa, &fragment.build().unwrap()), Err(DropReason::Fragment));
}

#[test]
fn esp_17_only_the_addresses_of_the_sa() {
    let inner = inner_v4(60);
    let mut other_source = recipe(1, &inner);
    other_source.source = [192, 0, 2, 99].into();
    let mut other_destination = recipe(2, &inner);
    other_destination.destination = [192, 0, 2, 99].into();
    let mut other_family = recipe(3, &inner);
    (other_family.source, other_family.destination) = ip(&outer_v6());
    for wrong in [&other_source, &other_destination, &other_family] {
        let mut sa = inbound();
        let reason = receive(&mut sa, &wrong.build().unwrap());
        assert_eq!(reason, Err(DropReason::AddressMismatch));
        assert_eq!((sa.replay().top(), sa.counters.address), (0, 1));
    }

    let mut config = InboundConfig::tunnel(SPI, SALT, outer_v4());
    config.peer_address = PeerAddress::AnyAuthenticated;
    let mut roaming = inbound_of(&config, false);
    let (moved, _) = receive_checked(&mut roaming, &other_source.build().unwrap()).unwrap();
    assert!(moved.moved(), "reported");
    let (stays, _) = receive_checked(&mut roaming, &recipe(9, &inner).build().unwrap()).unwrap();
    assert!(!stays.moved(), "and not learned");
    for wrong in [&other_destination, &other_family] {
        let reason = receive(&mut roaming, &wrong.build().unwrap());
        assert_eq!(reason, Err(DropReason::AddressMismatch), "the destination is always ours");
    }
    let mut forged = other_source.build().unwrap();
    *forged.last_mut().unwrap() ^= 1;
    forged[27] = 7;
    assert_eq!(receive(&mut roaming, &forged), Err(DropReason::AuthFail));
}

#[test]
fn esp_17_ports_and_encapsulation_of_the_sa() {
    let inner = inner_v4(60);
    let (raw, mut in_udp) = (recipe(1, &inner), udp(recipe(2, &inner)));
    assert_eq!(receive(&mut inbound(), &in_udp.build().unwrap()), Err(DropReason::EncapMismatch));
    assert_eq!(receive(&mut udp_sa(), &raw.build().unwrap()), Err(DropReason::EncapMismatch));
    assert_eq!(receive(&mut udp_sa(), &in_udp.build().unwrap()), Ok(inner.clone()));
    in_udp.udp = Some((PORTS.remote + 1, PORTS.local));
    assert_eq!(receive(&mut udp_sa(), &in_udp.build().unwrap()), Err(DropReason::AddressMismatch));
    in_udp.udp = Some((PORTS.remote, PORTS.local + 1));
    assert_eq!(receive(&mut udp_sa(), &in_udp.build().unwrap()), Err(DropReason::EncapMismatch));

    let mut config = InboundConfig::tunnel(SPI, SALT, outer_v4());
    config.encap = Some(PORTS);
    config.encap_policy = EncapPolicy::Either;
    let mut either = inbound_of(&config, false);
    assert_eq!(receive(&mut either, &raw.build().unwrap()), Ok(inner.clone()));
    assert_eq!(receive(&mut either, &udp(recipe(2, &inner)).build().unwrap()), Ok(inner.clone()));
    in_udp.udp = Some((PORTS.remote + 1, PORTS.local));
    assert_eq!(receive(&mut either, &in_udp.build().unwrap()), Err(DropReason::AddressMismatch));
}

#[test]
fn esp_19_a_failed_tag_leaves_only_zeros() {
    for backend in xswan_aead::Backend::ALL {
        let key = xswan_aead::Key::new(backend, xswan_aead::Algorithm::Aes128Gcm16, &KEY).unwrap();
        let sa = inbound();
        for len in [28, 29, 64, 1000, 1400] {
            let mut packet = recipe(1, &inner_v4(len)).build().unwrap();
            let last = packet.len() - 1;
            packet[last] ^= 0x80;
            let outer = Outer::parse(&packet).unwrap();
            let job = decap::prepare(&sa, &outer, &packet, 1).unwrap();
            let mut out = vec![0xa5; job.out_len() + 100];
            let result = decap::open(&key, &job, &packet, &mut out);
            assert_eq!(result.map(drop), Err(DropReason::AuthFail));
            let (plain, beyond) = out.split_at(job.out_len());
            assert!(plain.iter().all(|byte| *byte == 0), "{backend:?} {len}");
            assert!(beyond.iter().all(|byte| *byte == 0xa5));
        }
    }
}

#[test]
fn esp_20_udp_lengths_and_checksums() {
    let inner = inner_v4(60);
    let verdict = |change: &dyn Fn(&mut EspBuilder)| {
        let mut in_udp = udp(recipe(1, &inner));
        change(&mut in_udp);
        receive(&mut udp_sa(), &in_udp.build().unwrap())
    };
    assert_eq!(verdict(&|_| {}), Ok(inner.clone()));
    assert_eq!(verdict(&|r| r.udp_checksum = UdpChecksum::Right), Ok(inner.clone()));
    assert_eq!(verdict(&|r| r.udp_checksum = UdpChecksum::Wrong), Err(DropReason::BadUdpChecksum));
    for len in (0..8).chain([107, 109, 8, u16::MAX]) {
        assert_eq!(verdict(&|r| r.udp_len = Some(len)), Err(DropReason::BadUdpLength), "{len}");
    }
    // Cut within the UDP header.
    for len in 20..28 {
        let mut packet = udp(recipe(1, &inner)).build().unwrap();
        packet.truncate(len);
        packet[2..4].copy_from_slice(&(len as u16).to_be_bytes());
        packet[10..12].fill(0);
        let sum = xswan_wire::checksum::Sum::new().bytes(&packet[..20]).finish();
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
        assert_eq!(receive(&mut udp_sa(), &packet), Err(DropReason::BadUdpLength), "{len}");
    }
    // IPv6: zero is allowed for tunnels (RFC 6935), wrong is wrong.
    let mut config = InboundConfig::tunnel(SPI, SALT, outer_v6());
    config.encap = Some(PORTS);
    for (checksum, expected) in [
        (UdpChecksum::Zero, Ok(inner.clone())),
        (UdpChecksum::Right, Ok(inner.clone())),
        (UdpChecksum::Wrong, Err(DropReason::BadUdpChecksum)),
    ] {
        let mut in_udp = udp(v6(recipe(1, &inner)));
        in_udp.udp_checksum = checksum;
        let mut sa = inbound_of(&config, false);
        assert_eq!(receive(&mut sa, &in_udp.build().unwrap()), expected);
    }
}

#[test]
fn esp_21_keepalives_and_what_looks_like_one() {
    let datagram = |content: &[u8]| {
        let mut recipe = udp(recipe(1, &inner_v4(60)));
        recipe.cut = Some(content.len());
        let mut packet = recipe.build().unwrap();
        let from = packet.len() - content.len();
        packet[from..].copy_from_slice(content);
        packet
    };
    assert_eq!(Outer::parse(&datagram(&[0xff])), Err(DropReason::Keepalive));
    assert_eq!(Outer::parse(&datagram(&[])), Err(DropReason::Runt));
    assert_eq!(Outer::parse(&datagram(&[0xfe])), Err(DropReason::Runt));
    for len in 2..MIN_ESP_LEN {
        let mut garbage = vec![0x5a; len];
        garbage[0] = 0xff;
        assert_eq!(Outer::parse(&datagram(&garbage)), Err(DropReason::Runt), "{len}");
    }
}

#[test]
fn esp_24_the_high_half_is_authenticated() {
    const SEQUENCE: u64 = (5 << 32) + 77;
    let config = InboundConfig::tunnel(SPI, SALT, outer_v4());
    let sa = || {
        let mut replay = window(64, true);
        replay.assume_seen(SEQUENCE - 1);
        xswan_esp::sa::InboundSa::new(&config, key(), replay, 0).unwrap()
    };
    let mut extended = recipe(SEQUENCE, &inner_v4(60));
    extended.esn = true;
    assert_eq!(receive(&mut sa(), &extended.build().unwrap()), Ok(inner_v4(60)));
    for wrong in [0, 4, 6, u32::MAX] {
        extended.aad_high = Some(wrong);
        let mut sa = sa();
        assert_eq!(receive(&mut sa, &extended.build().unwrap()), Err(DropReason::AuthFail));
        assert_eq!(sa.replay().top(), SEQUENCE - 1);
    }
    // Eight octets where the SA's numbers are extended, and twelve where they are not.
    extended.esn = false;
    assert_eq!(receive(&mut sa(), &extended.build().unwrap()), Err(DropReason::AuthFail));
    let mut plain = recipe(1, &inner_v4(60));
    plain.esn = true;
    assert_eq!(receive(&mut inbound(), &plain.build().unwrap()), Err(DropReason::AuthFail));
}

#[test]
fn rep_04_a_forgery_ahead_does_not_move_the_window() {
    let mut sa = inbound();
    let inner = inner_v4(60);
    receive(&mut sa, &recipe(10, &inner).build().unwrap()).unwrap();
    let genuine = recipe(1010, &inner).build().unwrap();
    let mut forged = genuine.clone();
    forged[60] ^= 1;
    assert_eq!(receive(&mut sa, &forged), Err(DropReason::AuthFail));
    assert_eq!((sa.replay().top(), sa.counters.auth_fail), (10, 1));
    assert_eq!(receive(&mut sa, &genuine), Ok(inner.clone()));
    assert_eq!(receive(&mut sa, &genuine), Err(DropReason::ReplayDuplicate));
    assert_eq!(sa.counters.replay, 1);
}

#[test]
fn rep_09_a_claimed_wrap_that_is_none() {
    let inner = inner_v4(60);
    let mut replay = window(64, true);
    replay.assume_seen((1 << 32) + 1000);
    let config = InboundConfig::tunnel(SPI, SALT, outer_v4());
    let mut sa = xswan_esp::sa::InboundSa::new(&config, key(), replay, 0).unwrap();
    // An old packet of the same subspace is taken for one of the next.
    let mut old = recipe((1 << 32) + 5, &inner);
    old.esn = true;
    assert_eq!(receive(&mut sa, &old.build().unwrap()), Err(DropReason::AuthFail));
    assert_eq!(sa.replay().top(), (1 << 32) + 1000);
}

#[test]
fn a_lost_subspace_is_found_again() {
    let inner = inner_v4(60);
    let mut sa = inbound_of(&InboundConfig::tunnel(SPI, SALT, outer_v4()), true);
    let send = |sa: &mut Inbound, sequence, now_ms| {
        let mut packet = recipe(sequence, &inner);
        packet.esn = true;
        let mut out = vec![0; 2000];
        decap::decap(sa, &packet.build().unwrap(), &any(), now_ms, &mut out).map(|c| c.len())
    };
    assert_eq!(send(&mut sa, 1, 0), Ok(60));
    let far = (3 << 32) + 100;
    for step in 1..u64::from(THRESHOLD) {
        assert_eq!(send(&mut sa, far + step, INTERVAL_MS), Err(DropReason::AuthFail));
    }
    assert_eq!(send(&mut sa, far + 5000, INTERVAL_MS), Ok(60));
    assert_eq!(sa.replay().top(), far + 5000);
    assert_eq!(send(&mut sa, far + 5001, INTERVAL_MS), Ok(60));
    assert_eq!(send(&mut sa, far + 5001, INTERVAL_MS), Err(DropReason::ReplayDuplicate));
}
