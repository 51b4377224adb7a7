//! ICMP errors of both versions (RFC 792, RFC 1191, RFC 4443): those a router owes the
//! sender of a packet, and those that tell of the path of our own tunnels.
//!
//! ```text
//! type 8 | code 8 | checksum 16
//! unused, or MTU: the lower 16 bits (version 4), all 32 (version 6)
//! as much of the packet in question as fits
//! ```
//!
//! An error is never built about an ICMP error, a fragment that is not the first, a packet
//! to more than one host or from an address that is not one host's (RFC 1122 section
//! 3.2.2, RFC 4443 section 2.4 (e)); how often one may be sent is the caller's business.

use crate::checksum::Sum;
use crate::esp;
use crate::layers::{self, Addresses, Layers};
use crate::udp;
use crate::{Bytes, ipv4, ipv6};

/// Length of the ICMP header in bytes.
pub const HEADER_LEN: usize = 8;
/// Length at most of an ICMP error over IPv4 in bytes (RFC 1812 section 4.3.2.3).
pub const MAX_V4_LEN: usize = 576;
/// Length at most of an ICMP error over IPv6 in bytes (RFC 4443 section 2.4 (c)).
pub const MAX_V6_LEN: usize = 1280;

/// TTL of an error that starts here.
const TTL: u8 = 64;
/// Precedence 6, internetwork control (RFC 1812 section 4.3.2.5).
const V4_TRAFFIC_CLASS: u8 = 0xc0;
/// Longer than any packet: what is quoted is cut short and says its full length.
const UNKNOWN_LEN: usize = 1 << 17;

/// What went wrong with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// TTL or hop limit used up.
    TimeExceeded,
    /// Larger than what can go on: fragmentation needed, packet too big.
    TooBig {
        /// The largest packet in bytes that can.
        mtu: u16,
    },
}

/// Builds the ICMPv4 error about `packet`, which starts with its IPv4 header, as an IPv4
/// packet from `source` at the front of `buffer`, and returns its length.
///
/// `None` if no error is due about such a packet, or `buffer` is too short for it;
/// [`MAX_V4_LEN`] is enough for any.
#[must_use]
pub fn build_v4(
    problem: Problem,
    packet: &[u8],
    source: [u8; 4],
    buffer: &mut [u8],
) -> Option<usize> {
    let (layers, quoted) = due(packet, MAX_V4_LEN.checked_sub(ipv4::HEADER_LEN + HEADER_LEN)?)?;
    let Addresses::V4 { source: to, destination } = layers.ip.addresses else { return None };
    if !is_one_host_v4(to) || !is_one_host_v4(destination) {
        return None;
    }
    let len = quoted.len().checked_add(HEADER_LEN)?;
    let total_len = len.checked_add(ipv4::HEADER_LEN)?;
    let header = ipv4::Repr {
        source,
        destination: to,
        total_len: u16::try_from(total_len).ok()?,
        identification: 0,
        dont_fragment: true,
        traffic_class: V4_TRAFFIC_CLASS,
        ttl: TTL,
        protocol: layers::ICMP,
    };
    let buffer = buffer.get_mut(..total_len)?;
    header.emit(buffer)?;
    let (kind, code, mtu) = match problem {
        Problem::TimeExceeded => (11, 0, 0),
        Problem::TooBig { mtu } => (3, 4, mtu),
    };
    message(buffer.get_mut(ipv4::HEADER_LEN..)?, [kind, code], mtu, quoted, Sum::new())?;
    Some(total_len)
}

/// Builds the ICMPv6 error about `packet`, which starts with its IPv6 header, as an IPv6
/// packet from `source` at the front of `buffer`, and returns its length.
///
/// `None` if no error is due about such a packet, or `buffer` is too short for it;
/// [`MAX_V6_LEN`] is enough for any. RFC 4443 would allow packet-too-big about multicast;
/// it is not built, a gateway of unicast tunnels has no use for it.
#[must_use]
pub fn build_v6(
    problem: Problem,
    packet: &[u8],
    source: [u8; 16],
    buffer: &mut [u8],
) -> Option<usize> {
    let (layers, quoted) = due(packet, MAX_V6_LEN.checked_sub(ipv6::HEADER_LEN + HEADER_LEN)?)?;
    let Addresses::V6 { source: to, destination } = layers.ip.addresses else { return None };
    if !is_one_host_v6(&to) || !is_one_host_v6(&destination) {
        return None;
    }
    let len = quoted.len().checked_add(HEADER_LEN)?;
    let total_len = len.checked_add(ipv6::HEADER_LEN)?;
    let header = ipv6::Repr {
        source,
        destination: to,
        payload_len: u16::try_from(len).ok()?,
        next_header: layers::ICMPV6,
        hop_limit: TTL,
        traffic_class: 0,
        flow_label: 0,
    };
    let buffer = buffer.get_mut(..total_len)?;
    header.emit(buffer)?;
    let (kind, mtu) = match problem {
        Problem::TimeExceeded => (3, 0),
        Problem::TooBig { mtu } => (2, mtu),
    };
    let pseudo = Sum::new().pseudo_v6(&source, &to, layers::ICMPV6, u32::try_from(len).ok()?);
    message(buffer.get_mut(ipv6::HEADER_LEN..)?, [kind, 0], mtu, quoted, pseudo)?;
    Some(total_len)
}

/// Writes the ICMP message over all of `buffer`.
fn message(
    buffer: &mut [u8],
    [kind, code]: [u8; 2],
    mtu: u16,
    quoted: &[u8],
    pseudo: Sum,
) -> Option<()> {
    let (header, rest) = buffer.split_first_chunk_mut::<HEADER_LEN>()?;
    let [m0, m1] = mtu.to_be_bytes();
    *header = [kind, code, 0, 0, 0, 0, m0, m1];
    rest.get_mut(..quoted.len())?.copy_from_slice(quoted);
    let [c0, c1] = pseudo.bytes(header).bytes(quoted).finish().to_be_bytes();
    *header = [kind, code, c0, c1, 0, 0, m0, m1];
    Some(())
}

/// The layers of `packet` and its first `max_len` bytes, if an error about it may be sent as
/// far as fragments and ICMP go.
fn due(packet: &[u8], max_len: usize) -> Option<(Layers, &[u8])> {
    let layers = layers::parse_packet(packet, packet.len()).ok()?;
    let ip = &layers.ip;
    if ip.is_fragment && !ip.first_fragment {
        return None;
    }
    let kind = || packet.read_u8(usize::from(layers.l4_offset));
    let is_error = match (ip.protocol, ip.is_v4()) {
        // Unreachable, source quench, redirect, time exceeded, parameter problem.
        (layers::ICMP, true) => matches!(kind()?, 3 | 4 | 5 | 11 | 12),
        // Every type below 128 is an error; redirect is treated as one.
        (layers::ICMPV6, false) => matches!(kind()?, 0..128 | 137),
        _ => false,
    };
    if is_error {
        return None;
    }
    packet.get(..layers.l3_end().min(max_len)).map(|quoted| (layers, quoted))
}

/// Not "this network", loopback, multicast, reserved or broadcast.
const fn is_one_host_v4([first, ..]: [u8; 4]) -> bool {
    !matches!(first, 0 | 127 | 224..)
}

/// Not unspecified, loopback or multicast.
const fn is_one_host_v6(address: &[u8; 16]) -> bool {
    let bits = u128::from_be_bytes(*address);
    bits > 1 && bits >> 120 != 0xff
}

/// A router's word that a packet of a tunnel of ours was too big. Anybody can send one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooBig {
    /// Addresses of the packet that was too big: the destination is the tunnel's far end.
    pub addresses: Addresses,
    /// The largest packet in bytes that can go on; 0 from a router older than RFC 1191.
    pub mtu: u32,
    /// Source and destination port if it was ESP in UDP.
    pub udp_ports: Option<(u16, u16)>,
    /// Its SPI and sequence number; `None` if so little was quoted that they are missing,
    /// which over UDP is all that RFC 792 demands.
    pub esp: Option<esp::Header>,
}

/// Reads an ICMPv4 packet, from its IP header on as a raw socket gives it, that says that
/// ESP or ESP in UDP was too big.
///
/// `None` if it is anything else, IKE on port 4500 too, or its checksum is wrong.
#[must_use]
pub fn parse_too_big4(packet: &[u8]) -> Option<TooBig> {
    let layers = layers::parse_packet(packet, packet.len()).ok()?;
    if !layers.ip.is_v4() || layers.ip.protocol != layers::ICMP || layers.ip.is_fragment {
        return None;
    }
    let message = packet.get(usize::from(layers.l4_offset)..layers.l3_end())?;
    let [kind, code, _, _, _, _, m0, m1] = message.read::<HEADER_LEN>(0)?;
    if (kind, code) != (3, 4) || Sum::new().bytes(message).finish() != 0 {
        return None;
    }
    let (esp, udp_ports, addresses) = quoted_esp(message.get(HEADER_LEN..)?)?;
    let mtu = u32::from(u16::from_be_bytes([m0, m1]));
    addresses.is_v4().then_some(TooBig { addresses, mtu, udp_ports, esp })
}

/// Reads an ICMPv6 message, without an IP header as a raw socket gives it, that says that
/// ESP or ESP in UDP was too big.
///
/// `None` if it is anything else, IKE on port 4500 too. The checksum is not looked at: it
/// covers addresses that are not here, and the kernel has checked it (RFC 3542 section 3.1).
#[must_use]
pub fn parse_too_big6(message: &[u8]) -> Option<TooBig> {
    let [kind, _, _, _, mtu @ ..] = message.read::<HEADER_LEN>(0)?;
    if kind != 2 {
        return None;
    }
    let (esp, udp_ports, addresses) = quoted_esp(message.get(HEADER_LEN..)?)?;
    let mtu = u32::from_be_bytes(mtu);
    (!addresses.is_v4()).then_some(TooBig { addresses, mtu, udp_ports, esp })
}

type Quoted = (Option<esp::Header>, Option<(u16, u16)>, Addresses);

fn quoted_esp(quoted: &[u8]) -> Option<Quoted> {
    let layers = layers::parse_packet(quoted, UNKNOWN_LEN).ok()?;
    let ip = &layers.ip;
    if ip.is_fragment && !ip.first_fragment {
        return None;
    }
    let l4_offset = usize::from(layers.l4_offset);
    match ip.protocol {
        layers::ESP => Some((esp::Header::parse(quoted, l4_offset), None, ip.addresses)),
        layers::UDP => {
            let [s0, s1, d0, d1] = quoted.read(l4_offset)?;
            let ports = (u16::from_be_bytes([s0, s1]), u16::from_be_bytes([d0, d1]));
            if ports.0 != udp::NAT_T_PORT && ports.1 != udp::NAT_T_PORT {
                return None;
            }
            let esp = esp::Header::parse(quoted, l4_offset.checked_add(udp::HEADER_LEN)?);
            match esp {
                // The non-ESP marker.
                Some(esp::Header { spi: 0, .. }) => None,
                esp => Some((esp, Some(ports), ip.addresses)),
            }
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec;
    use std::vec::Vec;

    const HOST: [u8; 4] = [192, 0, 2, 7];
    const PEER: [u8; 4] = [198, 51, 100, 9];
    const GATEWAY: [u8; 4] = [192, 0, 2, 1];
    const HOST6: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7];
    const PEER6: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9];
    const GATEWAY6: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];

    fn v4(protocol: u8, source: [u8; 4], destination: [u8; 4], payload: &[u8]) -> Vec<u8> {
        let mut packet = vec![0xa5; 20];
        ipv4::Repr {
            source,
            destination,
            total_len: (20 + payload.len()) as u16,
            identification: 1,
            dont_fragment: true,
            traffic_class: 0,
            ttl: 3,
            protocol,
        }
        .emit(&mut packet)
        .unwrap();
        packet.extend_from_slice(payload);
        packet
    }

    fn v6(next_header: u8, source: [u8; 16], destination: [u8; 16], payload: &[u8]) -> Vec<u8> {
        let mut packet = vec![0xa5; 40];
        ipv6::Repr {
            source,
            destination,
            payload_len: payload.len() as u16,
            next_header,
            hop_limit: 3,
            traffic_class: 0,
            flow_label: 0,
        }
        .emit(&mut packet)
        .unwrap();
        packet.extend_from_slice(payload);
        packet
    }

    const ESP: [u8; 40] = {
        let mut esp = [0x5e; 40];
        esp[0] = 0x11;
        esp[7] = 9;
        esp
    };

    fn header() -> esp::Header {
        esp::Header::parse(&ESP[..], 0).unwrap()
    }

    #[test]
    fn too_big_round_trip_over_ipv4() {
        let packet = v4(layers::ESP, HOST, PEER, &ESP);
        let mut buffer = [0xa5; MAX_V4_LEN];
        let problem = Problem::TooBig { mtu: 1400 };
        let len = build_v4(problem, &packet, GATEWAY, &mut buffer).unwrap();
        assert_eq!(len, 28 + packet.len());
        assert!(ipv4::checksum_is_right(&buffer[..len]));
        assert!(buffer[len..].iter().all(|byte| *byte == 0xa5));
        let told = parse_too_big4(&buffer[..len]).unwrap();
        let addresses = Addresses::V4 { source: HOST, destination: PEER };
        assert_eq!(told, TooBig { addresses, mtu: 1400, udp_ports: None, esp: Some(header()) });
        buffer[30] ^= 1;
        assert_eq!(parse_too_big4(&buffer[..len]), None, "checksum");
        assert_eq!(build_v4(problem, &packet, GATEWAY, &mut buffer[..len - 1]), None);
    }

    #[test]
    fn too_big_round_trip_over_ipv6_in_udp() {
        let mut datagram = vec![0x11, 0x94, 0x30, 0x39, 0, 48, 0, 0];
        datagram.extend_from_slice(&ESP);
        let packet = v6(layers::UDP, HOST6, PEER6, &datagram);
        let mut buffer = [0xa5; MAX_V6_LEN];
        let problem = Problem::TooBig { mtu: 1300 };
        let len = build_v6(problem, &packet, GATEWAY6, &mut buffer).unwrap();
        let addresses = Addresses::V6 { source: HOST6, destination: PEER6 };
        let udp_ports = Some((4500, 12_345));
        assert_eq!(
            parse_too_big6(&buffer[40..len]),
            Some(TooBig { addresses, mtu: 1300, udp_ports, esp: Some(header()) })
        );
        // IKE on the same port is not ours to judge.
        datagram[8..12].fill(0);
        let packet = v6(layers::UDP, HOST6, PEER6, &datagram);
        let len = build_v6(problem, &packet, GATEWAY6, &mut buffer).unwrap();
        assert_eq!(parse_too_big6(&buffer[40..len]), None);
    }

    #[test]
    fn only_eight_bytes_quoted_are_enough_for_esp() {
        let mut packet = v4(layers::ESP, HOST, PEER, &[0x5e; 1400]);
        let mut buffer = [0; MAX_V4_LEN];
        let len = build_v4(Problem::TooBig { mtu: 0 }, &packet, GATEWAY, &mut buffer).unwrap();
        assert_eq!(len, MAX_V4_LEN, "quoted as far as it fits");
        packet.truncate(28);
        let icmp = {
            let mut icmp = vec![3, 4, 0, 0, 0, 0, 5, 0];
            icmp.extend_from_slice(&packet);
            let sum = Sum::new().bytes(&icmp).finish().to_be_bytes();
            icmp[2..4].copy_from_slice(&sum);
            v4(layers::ICMP, GATEWAY, HOST, &icmp)
        };
        let told = parse_too_big4(&icmp).unwrap();
        assert_eq!((told.mtu, told.esp.unwrap().spi), (1280, 0x5e5e_5e5e));
    }

    #[test]
    fn time_exceeded_of_both_versions() {
        let mut buffer = [0xa5; MAX_V6_LEN];
        let packet = v4(17, HOST, PEER, &[0; 64]);
        let len = build_v4(Problem::TimeExceeded, &packet, GATEWAY, &mut buffer).unwrap();
        assert_eq!(buffer[20..22], [11, 0]);
        assert_eq!(Sum::new().bytes(&buffer[20..len]).finish(), 0);
        assert_eq!(buffer[28..len], packet);
        let packet = v6(17, HOST6, PEER6, &[0; 1400]);
        let len = build_v6(Problem::TimeExceeded, &packet, GATEWAY6, &mut buffer).unwrap();
        assert_eq!(len, MAX_V6_LEN);
        assert_eq!(buffer[40..42], [3, 0]);
        let sum = Sum::new().pseudo_v6(&GATEWAY6, &HOST6, 58, len as u32 - 40);
        assert_eq!(sum.bytes(&buffer[40..len]).finish(), 0);
    }

    #[test]
    fn no_error_about_what_must_not_cause_one() {
        let mut buffer = [0; MAX_V6_LEN];
        let mut built =
            |packet: &[u8]| build_v4(Problem::TimeExceeded, packet, GATEWAY, &mut buffer).is_some();
        for kind in 0..=255_u8 {
            let packet = v4(layers::ICMP, HOST, PEER, &[kind, 0, 0, 0, 0, 0, 0, 0]);
            assert_eq!(built(&packet), ![3, 4, 5, 11, 12].contains(&kind));
        }
        for (source, destination) in [
            ([0; 4], PEER),
            ([127, 0, 0, 1], PEER),
            ([255; 4], PEER),
            ([224, 0, 0, 1], PEER),
            (HOST, [239, 1, 1, 1]),
            (HOST, [255; 4]),
        ] {
            assert!(!built(&v4(17, source, destination, &[0; 8])));
        }
        let mut fragment = v4(17, HOST, PEER, &[0; 8]);
        fragment[6..8].copy_from_slice(&ipv4::MORE_FRAGMENTS.to_be_bytes());
        assert!(built(&fragment), "the first fragment");
        fragment[6..8].copy_from_slice(&1_u16.to_be_bytes());
        assert!(!built(&fragment), "a later fragment");
        let mut built6 = |packet: &[u8]| {
            build_v6(Problem::TimeExceeded, packet, GATEWAY6, &mut buffer).is_some()
        };
        for kind in 0..=255_u8 {
            let packet = v6(layers::ICMPV6, HOST6, PEER6, &[kind, 0, 0, 0]);
            assert_eq!(built6(&packet), kind >= 128 && kind != 137);
        }
        let multicast = [0xff; 16];
        assert!(!built6(&v6(17, HOST6, multicast, &[0; 8])));
        assert!(!built6(&v6(17, multicast, PEER6, &[0; 8])));
        assert!(!built6(&v6(17, [0; 16], PEER6, &[0; 8])));
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(mut bytes: Vec<u8>, version in 3..8_u8, len in 0..1400_usize) {
            if let Some(first) = bytes.first_mut() {
                *first = version << 4 | *first & 15;
            }
            let mut buffer = [0; 1400];
            let _ = parse_too_big4(&bytes);
            let _ = parse_too_big6(&bytes);
            let problem = Problem::TooBig { mtu: 1 };
            let _ = build_v4(problem, &bytes, GATEWAY, &mut buffer[..len]);
            let _ = build_v6(problem, &bytes, GATEWAY6, &mut buffer[..len]);
        }
    }
}
