//! What crosses between inner and outer header, and which inner packets an SA may carry.

use xswan_esp::DropReason;
use xswan_esp::decap;
use xswan_esp::ecn::{
    CE, DfEncap, DscpDecap, DscpEncap, ECT_0, EcnDecap, EcnEncap, NOT_ECT, decapsulate,
};
use xswan_esp::encap;
use xswan_esp::sa::{InboundConfig, OutboundConfig};
use xswan_esp::selector::{AddressRange, Family, Flow, PortRange, Selector};
use xswan_wire::layers::parse_packet;

use crate::fixture::*;

fn classed(mut inner: Vec<u8>, class: u8) -> Vec<u8> {
    if inner[0] >> 4 == 4 {
        inner[1] = class;
        inner[10..12].fill(0);
        let sum = xswan_wire::checksum::Sum::new().bytes(&inner[..20]).finish();
        inner[10..12].copy_from_slice(&sum.to_be_bytes());
    } else {
        inner[0] = 0x60 | class >> 4;
        inner[1] = class << 4 | inner[1] & 15;
    }
    inner
}

fn class_of(packet: &[u8]) -> u8 {
    parse_packet(packet, packet.len()).unwrap().ip.traffic_class
}

fn remote_site() -> Selector {
    // As received: from the site behind the peer to ours.
    Selector::addresses(
        AddressRange::v4_prefix([10, 1, 0, 0], 16),
        AddressRange::v4_prefix([10, 2, 0, 0], 16),
    )
}

#[test]
fn tun_01_tun_02_inner_addresses_outside_the_selectors() {
    let mut out = vec![0; 300];
    let mut sa = inbound();
    let mut sequence = 0;
    let mut verdict = |offset: usize, address: [u8; 4]| {
        sequence += 1;
        let mut inner = inner_v4(60);
        inner[offset..offset + 4].copy_from_slice(&address);
        let packet = recipe(sequence, &inner).build().unwrap();
        decap::decap(&mut sa, &packet, &[remote_site()], 1, &mut out).map(|checked| checked.len())
    };
    assert_eq!(verdict(12, [10, 1, 255, 255]), Ok(60));
    // Another client's address, our own site's, the neighbours of the range.
    for source in [[10, 3, 0, 1], [10, 2, 0, 1], [10, 0, 255, 255], [10, 2, 0, 0], [127, 0, 0, 1]] {
        assert_eq!(verdict(12, source), Err(DropReason::SelectorMismatch), "{source:?}");
    }
    for destination in [[10, 1, 0, 1], [10, 3, 0, 0], [255; 4], [224, 0, 0, 1]] {
        assert_eq!(verdict(16, destination), Err(DropReason::SelectorMismatch), "{destination:?}");
    }
    assert_eq!(sa.counters.selector, 9);
    let mut v6 = recipe(100, &inner_v6(60));
    v6.next_header = 41;
    let verdict = decap::decap(&mut sa, &v6.build().unwrap(), &[remote_site()], 1, &mut out);
    assert_eq!(verdict.map(drop), Err(DropReason::SelectorMismatch), "the other family");
    let verdict =
        decap::decap(&mut sa, &recipe(101, &inner_v4(60)).build().unwrap(), &[], 1, &mut out);
    assert_eq!(verdict.map(drop), Err(DropReason::SelectorMismatch), "no selector, no packet");
}

#[test]
fn tun_03_every_class_in_every_family_out_and_in() {
    for addresses in [outer_v4(), outer_v6()] {
        for (ecn, dscp) in [
            (EcnEncap::Normal, DscpEncap::Copy),
            (EcnEncap::Compatibility, DscpEncap::Copy),
            (EcnEncap::Normal, DscpEncap::Fixed(46)),
        ] {
            let mut config = OutboundConfig::tunnel(SPI, SALT, addresses);
            (config.ecn, config.dscp, config.ttl, config.flow_label) = (ecn, dscp, 17, 0xabcde);
            let mut sender = outbound_of(&config, false);
            let mut receiver = inbound_of(&InboundConfig::tunnel(SPI, SALT, addresses), false);
            for class in 0..=255 {
                for inner in [classed(inner_v4(60), class), classed(inner_v6(60), class)] {
                    let mut out = vec![0xa5; 300];
                    let len = encap::encap(&mut sender, &inner, 1, &mut out).unwrap();
                    out.truncate(len);
                    let outer = parse_packet(out.as_slice(), len).unwrap().ip;
                    assert_eq!(outer.traffic_class, xswan_esp::ecn::encapsulate(ecn, dscp, class));
                    assert_eq!(outer.ttl, 17, "its own, not the inner's");
                    if out[0] >> 4 == 6 {
                        assert_eq!(out[1..4], [out[1] & 0xf0 | 0xa, 0xbc, 0xde]);
                    }
                    // ECT under not-ECT changes nothing, so the inner arrives as it was.
                    assert_eq!(receive(&mut receiver, &out), Ok(inner));
                }
            }
        }
    }
}

#[test]
fn tun_03_outer_marks_reach_the_inner_header() {
    for addresses in [outer_v4(), outer_v6()] {
        for copy in [false, true] {
            let mut config = InboundConfig::tunnel(SPI, SALT, addresses);
            config.dscp = if copy { DscpDecap::CopyOuter } else { DscpDecap::Keep };
            let mut sa = inbound_of(&config, false);
            let mut sequence = 0;
            for inner_class in (0..=255).step_by(3) {
                for outer_class in 0..=255 {
                    for plain in [inner_v4(60), inner_v6(60)] {
                        sequence += 1;
                        let inner = classed(plain, inner_class);
                        let mut packet = recipe(sequence, &inner);
                        packet.next_header = if inner[0] >> 4 == 4 { 4 } else { 41 };
                        packet.traffic_class = outer_class;
                        (packet.source, packet.destination) = ip(&addresses);
                        let got = receive(&mut sa, &packet.build().unwrap());
                        let dscp = if copy { outer_class } else { inner_class } & 0xfc;
                        match decapsulate(inner_class, outer_class) {
                            Ok(egress) => {
                                assert_eq!(got, Ok(classed(inner, dscp | egress.ecn)));
                            }
                            Err(reason) => assert_eq!(got, Err(reason)),
                        }
                    }
                }
            }
            assert!(sa.counters.ecn > 0);
        }
    }
    let mut packet = recipe(1, &classed(inner_v4(60), NOT_ECT));
    packet.traffic_class = CE;
    assert_eq!(receive(&mut inbound(), &packet.build().unwrap()), Err(DropReason::EcnForbidden));
    packet.payload = classed(inner_v4(60), ECT_0);
    assert_eq!(class_of(&receive(&mut inbound(), &packet.build().unwrap()).unwrap()), CE);
}

#[test]
fn tun_04_df_and_the_mtu_of_the_sa() {
    for (df, inner_set, inner_clear, inner_is_v6) in [
        (DfEncap::Copy, true, false, true),
        (DfEncap::Set, true, true, true),
        (DfEncap::Clear, false, false, false),
    ] {
        let mut config = OutboundConfig::tunnel(SPI, SALT, outer_v4());
        config.df = df;
        let mut sa = outbound_of(&config, false);
        let mut set = inner_v4(60);
        set[6] = 0x40;
        for (inner, expected) in
            [(set, inner_set), (inner_v4(60), inner_clear), (inner_v6(60), inner_is_v6)]
        {
            let mut out = vec![0; 300];
            encap::encap(&mut sa, &inner, 1, &mut out).unwrap();
            assert_eq!(out[6] & 0x40 != 0, expected, "{df:?}");
            // An identification of its own where a router may fragment.
            let identification = u16::from_be_bytes([out[4], out[5]]);
            let own = sa.sequence().last() as u16;
            assert_eq!(identification, if expected { 0 } else { own });
            assert!(xswan_wire::ipv4::checksum_is_right(&out));
        }
    }
    // 1446 fit into 1500; the ICMP error of the one that does not says so.
    let mut sa = outbound_of(&OutboundConfig::tunnel(SPI, SALT, outer_v4()), false);
    let mut out = vec![0; 2000];
    assert!(encap::prepare(&mut sa, &inner_v4(1446), 1500, 1, &mut out).is_ok());
    let too_big = encap::prepare(&mut sa, &inner_v4(1447), 1500, 1, &mut out).err();
    assert_eq!((too_big, sa.max_inner(1500)), (Some(DropReason::TooBig), 1446));
}

#[test]
fn selectors_judge_ports_protocols_and_fragments() {
    let any = Selector::addresses(AddressRange::any(Family::V4), AddressRange::any(Family::V4));
    let ports = |first, last| PortRange { first, last };
    let udp = Flow::parse(&inner_v4(60)).unwrap();
    assert_eq!((udp.protocol, udp.ports), (17, Some((5000, 6000))));
    assert!(Selector { protocol: 17, ..any }.matches(&udp));
    assert!(!Selector { protocol: 6, ..any }.matches(&udp));
    let by_port = Selector { protocol: 17, destination_ports: ports(6000, 6100), ..any };
    assert!(by_port.matches(&udp) && by_port.selects_ports() && !any.selects_ports());
    assert!(!by_port.reversed().matches(&udp));
    assert!(!Selector { destination_ports: ports(6001, 6100), ..any }.matches(&udp));
    assert!(Selector { source_ports: PortRange::one(5000), ..any }.matches(&udp));

    // Every fragment, also the first: no ports.
    for field in [[0x20, 0], [0x20, 5], [0, 5]] {
        let mut fragment = inner_v4(60);
        fragment[6..8].copy_from_slice(&field);
        let flow = Flow::parse(&fragment).unwrap();
        assert_eq!((flow.ports, flow.is_fragment), (None, true));
        assert!(any.matches(&flow) && !by_port.matches(&flow));
        let opaque = PortRange::OPAQUE;
        let only_these = Selector { source_ports: opaque, destination_ports: opaque, ..any };
        assert!(only_these.matches(&flow) && !only_these.matches(&udp));
    }

    // ICMP echo request: type 8, code 0.
    let mut echo = inner_v4(60);
    (echo[9], echo[20], echo[21]) = (1, 8, 0);
    let flow = Flow::parse(&echo).unwrap();
    assert_eq!(flow.ports, Some((0x800, 0x800)));
    let echo_only = Selector { protocol: 1, source_ports: ports(0x800, 0x8ff), ..any };
    assert!(echo_only.matches(&flow));
    assert!(Selector { destination_ports: PortRange::OPAQUE, ..echo_only }.matches(&flow));
    assert!(!Selector { protocol: 1, source_ports: ports(0, 0xff), ..any }.matches(&flow));

    // Through IPv6 extension headers.
    let mut v6 = inner_v6(100);
    let mut extended = v6[..40].to_vec();
    extended.extend([17, 0, 1, 4, 0, 0, 0, 0]);
    extended[6] = 60;
    extended.extend(v6.split_off(40));
    extended[5] += 8;
    assert_eq!(Flow::parse(&extended).unwrap().ports, Some((5000, 6000)));
    // Cut before the ports: seen by nobody.
    let mut stump = inner_v4(28);
    stump.truncate(23);
    stump[3] = 23;
    assert_eq!(Flow::parse(&stump).unwrap().ports, None);
}

#[test]
fn prefixes_are_ranges() {
    assert_eq!(AddressRange::v4_prefix([1, 2, 3, 4], 0), AddressRange::any(Family::V4));
    assert_eq!(AddressRange::v6_prefix([7; 16], 0), AddressRange::any(Family::V6));
    let host = AddressRange::v4_prefix([1, 2, 3, 4], 32);
    assert_eq!((host.first, host.last), (0x0102_0304, 0x0102_0304));
    let net = AddressRange::v6_prefix([0xff; 16], 120);
    assert_eq!((net.first, net.last), (u128::MAX - 255, u128::MAX));
}

/// An SA that does not copy ECN takes no mark, and drops nothing for one.
#[test]
fn tun_03_outer_marks_stay_outside_where_they_are_not_to_be_copied() {
    let mut config = InboundConfig::tunnel(SPI, SALT, outer_v4());
    config.ecn = EcnDecap::Keep;
    let mut sa = inbound_of(&config, false);
    let mut sequence = 0;
    for inner_class in 0..8 {
        for outer_class in 0..=255 {
            sequence += 1;
            let inner = classed(inner_v4(60), inner_class);
            let mut packet = recipe(sequence, &inner);
            packet.traffic_class = outer_class;
            assert_eq!(receive(&mut sa, &packet.build().unwrap()), Ok(inner));
        }
    }
    assert_eq!(sa.counters.ecn, 0);
}
