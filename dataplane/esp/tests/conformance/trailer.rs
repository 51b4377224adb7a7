//! Authenticated packets that are wrong inside: a peer with the key may still be hostile.

use xswan_esp::DropReason;
use xswan_esp::sa::{InboundConfig, Mode};
use xswan_testkit::esp_builder::EspBuilder;

use crate::fixture::*;

fn verdict(change: impl Fn(&mut EspBuilder)) -> (Result<Vec<u8>, DropReason>, Inbound) {
    let mut sa = inbound();
    let mut recipe = recipe(5, &inner_v4(61));
    change(&mut recipe);
    let verdict = receive(&mut sa, &recipe.build().unwrap());
    assert_eq!(sa.replay().top(), 5, "it was authentic, so it counts as received");
    (verdict, sa)
}

#[test]
fn esp_05_pad_length_past_the_payload() {
    for pad_len in [64, 65, 100, 255] {
        let (result, sa) = verdict(|r| r.pad_len = Some(pad_len));
        assert_eq!(result, Err(DropReason::BadPadding), "{pad_len}");
        assert_eq!(sa.counters.malformed, 1);
    }
    // Nothing but a trailer that claims 255.
    let (result, _) = verdict(|r| {
        r.payload.clear();
        r.pad_len = Some(255);
    });
    assert_eq!(result, Err(DropReason::BadPadding));
}

#[test]
fn esp_06_pad_bytes_that_are_not_1_2_3() {
    for pad in [&[0, 0, 0][..], &[1, 2, 4], &[2, 2, 3], &[0xff; 7]] {
        let (result, _) = verdict(|r| r.pad = Some(pad.to_vec()));
        assert_eq!(result, Err(DropReason::BadPadding), "{pad:?}");
        let mut config = InboundConfig::tunnel(SPI, SALT, outer_v4());
        config.check_padding = false;
        let mut lenient = recipe(1, &inner_v4(61));
        lenient.pad = Some(pad.to_vec());
        let mut sa = inbound_of(&config, false);
        assert_eq!(receive(&mut sa, &lenient.build().unwrap()), Ok(inner_v4(61)));
    }
    for len in [0, 1, 2, 3, 4, 100, 255_u8] {
        let (result, _) = verdict(|r| r.pad = Some((1..=len).collect()));
        assert_eq!(result, Ok(inner_v4(61)), "any length up to 255 is allowed");
    }
}

#[test]
fn esp_07_dummy_packets_are_counted_and_move_the_window() {
    let (result, sa) = verdict(|r| r.next_header = 59);
    assert_eq!(result, Err(DropReason::Dummy));
    assert_eq!(sa.counters.dummy, 1);
    let (result, _) = verdict(|r| {
        r.next_header = 59;
        r.payload.clear();
    });
    assert_eq!(result, Err(DropReason::Dummy));
}

#[test]
fn esp_08_every_other_next_header_in_tunnel_mode() {
    for next_header in (0..=255).filter(|next| ![4, 41, 59].contains(next)) {
        let (result, sa) = verdict(|r| r.next_header = next_header);
        assert_eq!(result, Err(DropReason::BadNextHeader), "{next_header}");
        assert_eq!(sa.counters.malformed, 1);
    }
}

#[test]
fn esp_09_next_header_against_inner_version() {
    let (result, _) = verdict(|r| r.next_header = 41);
    assert_eq!(result, Err(DropReason::InnerVersion));
    let (result, _) = verdict(|r| r.payload = inner_v6(60));
    assert_eq!(result, Err(DropReason::InnerVersion));
    for version in (0..16).filter(|version| *version != 4) {
        let (result, _) = verdict(|r| r.payload[0] = version << 4 | 5);
        assert_eq!(result, Err(DropReason::InnerVersion), "{version}");
    }
}

#[test]
fn esp_10_inner_length_against_what_was_decrypted() {
    for more in [1, 3, 100, 60_000] {
        let (result, _) = verdict(|r| {
            let len = (61 + more) as u16;
            r.payload[2..4].copy_from_slice(&len.to_be_bytes());
        });
        assert_eq!(result, Err(DropReason::InnerLength), "{more}");
        let (result, _) = verdict(|r| {
            r.next_header = 41;
            r.payload = inner_v6(60);
            r.payload[4..6].copy_from_slice(&(20 + more as u16).to_be_bytes());
        });
        assert_eq!(result, Err(DropReason::InnerLength), "{more}");
    }
    for tfc in [1, 2, 3, 4, 500] {
        let (result, _) = verdict(|r| r.tfc = vec![0xcc; tfc]);
        assert_eq!(result, Ok(inner_v4(61)), "exactly the inner packet, {tfc}");
        let (result, _) = verdict(|r| {
            r.next_header = 41;
            r.payload = inner_v6(60);
            r.tfc = vec![0xcc; tfc];
        });
        assert_eq!(result, Ok(inner_v6(60)));
    }
}

#[test]
fn esp_11_inner_header_lengths() {
    for ihl in 0..5 {
        let (result, _) = verdict(|r| r.payload[0] = 0x40 | ihl);
        assert_eq!(result, Err(DropReason::InnerLength), "{ihl}");
    }
    for len in 20..60 {
        let (result, _) = verdict(|r| {
            r.payload = inner_v4(60);
            r.payload.truncate(len);
            r.payload[0] = 0x4f;
            r.payload[2..4].copy_from_slice(&(len as u16).to_be_bytes());
        });
        assert_eq!(result, Err(DropReason::InnerLength), "{len}");
    }
    for len in 0..20 {
        let (result, _) = verdict(|r| r.payload.truncate(len));
        assert_eq!(result, Err(DropReason::InnerLength), "{len}");
        let (result, _) = verdict(|r| {
            r.next_header = 41;
            r.payload = inner_v6(60);
            r.payload.truncate(len * 2);
        });
        assert_eq!(result, Err(DropReason::InnerLength), "{len}");
    }
    // A total length shorter than the header.
    let (result, _) = verdict(|r| r.payload[2..4].copy_from_slice(&[0, 19]));
    assert_eq!(result, Err(DropReason::InnerLength));
}

#[test]
fn esp_22_esp_inside_is_reported_by_its_protocol() {
    let nested = recipe(1, &inner_v4(60)).build().unwrap();
    let mut sa = inbound();
    let (checked, inner) = receive_checked(&mut sa, &recipe(2, &nested).build().unwrap()).unwrap();
    assert_eq!(checked.brief().protocol, 50);
    assert_eq!(inner, nested);
}

#[test]
fn transport_mode_trailers() {
    let mut config = InboundConfig::tunnel(SPI, SALT, outer_v4());
    config.mode = Mode::Transport;
    let mut sa = inbound_of(&config, false);
    let mut packet = recipe(1, &[0x13, 0x88, 0x17, 0x70, 0, 12, 0, 0, 1, 2, 3, 4]);
    packet.next_header = 17;
    packet.options = vec![1; 8];
    let (checked, inner) = receive_checked(&mut sa, &packet.build().unwrap()).unwrap();
    let flow = checked.flow(&inner).unwrap();
    assert_eq!((flow.ports, flow.protocol), (Some((5000, 6000)), 17));
    assert_eq!((inner.len(), inner[9]), (40, 17));
    assert!(xswan_wire::ipv4::checksum_is_right(&inner));
    packet.sequence = 2;
    packet.pad_len = Some(15);
    assert_eq!(receive(&mut sa, &packet.build().unwrap()), Err(DropReason::BadPadding));
    packet.sequence = 3;
    (packet.pad_len, packet.next_header) = (None, 59);
    assert_eq!(receive(&mut sa, &packet.build().unwrap()), Err(DropReason::Dummy));
}
