//! Packets for tests, good, odd and broken, built without the code under test.
//!
//! Every layer is a plain struct whose fields can be set to nonsense; lengths and checksums
//! are right unless a field says otherwise. Checksums are computed here a second time on
//! purpose: a builder that shared the product's would share its mistakes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Protocol numbers used in tests.
pub mod protocol {
    /// IPv6 hop-by-hop options.
    pub const HOP_BY_HOP: u8 = 0;
    /// ICMP.
    pub const ICMP: u8 = 1;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// IPv6 routing header.
    pub const ROUTING: u8 = 43;
    /// IPv6 fragment header.
    pub const FRAGMENT: u8 = 44;
    /// ESP.
    pub const ESP: u8 = 50;
    /// ICMPv6.
    pub const ICMPV6: u8 = 58;
    /// IPv6 destination options.
    pub const DESTINATION_OPTIONS: u8 = 60;
}

/// The Internet checksum over the concatenation of `parts` (RFC 1071), each padded to even.
#[must_use]
pub fn checksum(parts: &[&[u8]]) -> u16 {
    let mut sum: u64 = 0;
    for part in parts {
        for pair in part.chunks(2) {
            let high = u64::from(pair.first().copied().unwrap_or(0));
            let low = u64::from(pair.get(1).copied().unwrap_or(0));
            sum += high << 8 | low;
        }
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(0)
}

/// An IPv4 header.
#[derive(Clone, Debug)]
pub struct Ipv4 {
    /// Source address.
    pub source: Ipv4Addr,
    /// Destination address.
    pub destination: Ipv4Addr,
    /// Upper protocol.
    pub protocol: u8,
    /// DSCP and ECN.
    pub tos: u8,
    /// Time to live.
    pub ttl: u8,
    /// Identification.
    pub id: u16,
    /// Don't fragment.
    pub df: bool,
    /// More fragments.
    pub mf: bool,
    /// Fragment offset in units of 8 bytes.
    pub offset: u16,
    /// Options; padded with zeros to a multiple of four.
    pub options: Vec<u8>,
    /// Header length field instead of the right one.
    pub ihl: Option<u8>,
    /// Total length field instead of the right one.
    pub total_length: Option<u16>,
    /// Whether the header checksum is right.
    pub good_checksum: bool,
}

impl Ipv4 {
    /// A plain header: TTL 64, not a fragment, no options.
    #[must_use]
    pub fn new(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8) -> Self {
        Self {
            source,
            destination,
            protocol,
            tos: 0,
            ttl: 64,
            id: 0,
            df: false,
            mf: false,
            offset: 0,
            options: Vec::new(),
            ihl: None,
            total_length: None,
            good_checksum: true,
        }
    }

    /// The header followed by `payload`.
    #[must_use]
    pub fn packet(&self, payload: &[u8]) -> Vec<u8> {
        let mut options = self.options.clone();
        options.resize(options.len().next_multiple_of(4), 0);
        let header_length = 20 + options.len();
        let total = self.total_length.unwrap_or_else(|| low16(header_length + payload.len()));
        let ihl = self.ihl.unwrap_or_else(|| low8(header_length / 4));
        let flags = u16::from(self.df) << 14 | u16::from(self.mf) << 13 | self.offset & 0x1fff;
        let mut packet = vec![0x40 | ihl & 0x0f, self.tos];
        packet.extend(total.to_be_bytes());
        packet.extend(self.id.to_be_bytes());
        packet.extend(flags.to_be_bytes());
        packet.extend([self.ttl, self.protocol, 0, 0]);
        packet.extend(self.source.octets());
        packet.extend(self.destination.octets());
        packet.extend(&options);
        let mut sum = checksum(&[&packet]);
        if !self.good_checksum {
            sum ^= 0x5555;
        }
        put16(&mut packet, 10, sum);
        packet.extend(payload);
        packet
    }
}

/// An IPv6 header and its extension headers.
#[derive(Clone, Debug)]
pub struct Ipv6 {
    /// Source address.
    pub source: Ipv6Addr,
    /// Destination address.
    pub destination: Ipv6Addr,
    /// Upper protocol, after all extension headers.
    pub protocol: u8,
    /// DSCP and ECN.
    pub traffic_class: u8,
    /// Flow label, 20 bits.
    pub flow_label: u32,
    /// Hop limit.
    pub hop_limit: u8,
    /// Extension headers: protocol number and the bytes after "next header".
    pub extensions: Vec<(u8, Vec<u8>)>,
    /// Payload length field instead of the right one.
    pub payload_length: Option<u16>,
}

impl Ipv6 {
    /// A plain header: hop limit 64, no extension headers.
    #[must_use]
    pub fn new(source: Ipv6Addr, destination: Ipv6Addr, protocol: u8) -> Self {
        Self {
            source,
            destination,
            protocol,
            traffic_class: 0,
            flow_label: 0,
            hop_limit: 64,
            extensions: Vec::new(),
            payload_length: None,
        }
    }

    /// Adds an options header (hop-by-hop or destination) of `units` times 8 bytes, all padding.
    #[must_use]
    pub fn with_options(mut self, header: u8, units: u8) -> Self {
        let length = usize::from(units.max(1)) * 8;
        let mut bytes = vec![units.max(1) - 1, 1, low8(length - 4)];
        bytes.resize(length - 1, 0);
        self.extensions.push((header, bytes));
        self
    }

    /// Adds a fragment header; `offset` in units of 8 bytes.
    #[must_use]
    pub fn with_fragment(mut self, offset: u16, more: bool, id: u32) -> Self {
        let mut bytes = vec![0];
        bytes.extend((offset << 3 | u16::from(more)).to_be_bytes());
        bytes.extend(id.to_be_bytes());
        self.extensions.push((protocol::FRAGMENT, bytes));
        self
    }

    /// All headers followed by `payload`.
    #[must_use]
    pub fn packet(&self, payload: &[u8]) -> Vec<u8> {
        let extensions: usize = self.extensions.iter().map(|(_, bytes)| 1 + bytes.len()).sum();
        let length = self.payload_length.unwrap_or_else(|| low16(extensions + payload.len()));
        let first = 6 << 28 | u32::from(self.traffic_class) << 20 | self.flow_label & 0xf_ffff;
        let mut packet = first.to_be_bytes().to_vec();
        packet.extend(length.to_be_bytes());
        packet.extend([self.extensions.first().map_or(self.protocol, |(next, _)| *next)]);
        packet.push(self.hop_limit);
        packet.extend(self.source.octets());
        packet.extend(self.destination.octets());
        for (index, (_, bytes)) in self.extensions.iter().enumerate() {
            packet.push(self.extensions.get(index + 1).map_or(self.protocol, |(next, _)| *next));
            packet.extend(bytes);
        }
        packet.extend(payload);
        packet
    }
}

/// The sum of the pseudo header and `segment`, as TCP, UDP and ICMPv6 want it.
#[must_use]
pub fn upper_checksum(source: IpAddr, destination: IpAddr, protocol: u8, segment: &[u8]) -> u16 {
    let length = u32::try_from(segment.len()).unwrap_or(u32::MAX).to_be_bytes();
    let tail = [0, 0, 0, protocol];
    match (source, destination) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            checksum(&[&from.octets(), &to.octets(), &length, &tail, segment])
        }
        (from, to) => {
            let v6 = |address: IpAddr| match address {
                IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
                IpAddr::V6(v6) => v6.octets(),
            };
            checksum(&[&v6(from), &v6(to), &length, &tail, segment])
        }
    }
}

/// An IP packet of either family around `segment`, both addresses being of one family.
#[must_use]
pub fn ip(source: IpAddr, destination: IpAddr, protocol: u8, segment: &[u8]) -> Vec<u8> {
    match (source, destination) {
        (IpAddr::V4(from), IpAddr::V4(to)) => Ipv4::new(from, to, protocol).packet(segment),
        (IpAddr::V6(from), IpAddr::V6(to)) => Ipv6::new(from, to, protocol).packet(segment),
        (IpAddr::V4(from), IpAddr::V6(to)) => {
            Ipv6::new(from.to_ipv6_mapped(), to, protocol).packet(segment)
        }
        (IpAddr::V6(from), IpAddr::V4(to)) => {
            Ipv6::new(from, to.to_ipv6_mapped(), protocol).packet(segment)
        }
    }
}

/// A UDP datagram in an IP packet, checksum right.
#[must_use]
pub fn udp(source: (IpAddr, u16), destination: (IpAddr, u16), payload: &[u8]) -> Vec<u8> {
    let mut segment = source.1.to_be_bytes().to_vec();
    segment.extend(destination.1.to_be_bytes());
    segment.extend(low16(8 + payload.len()).to_be_bytes());
    segment.extend([0, 0]);
    segment.extend(payload);
    let sum = upper_checksum(source.0, destination.0, protocol::UDP, &segment);
    put16(&mut segment, 6, if sum == 0 { 0xffff } else { sum });
    ip(source.0, destination.0, protocol::UDP, &segment)
}

/// A TCP segment with the ACK flag in an IP packet, checksum right.
#[must_use]
pub fn tcp(source: (IpAddr, u16), destination: (IpAddr, u16), payload: &[u8]) -> Vec<u8> {
    let mut segment = source.1.to_be_bytes().to_vec();
    segment.extend(destination.1.to_be_bytes());
    segment.extend([0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x10, 0xff, 0xff, 0, 0, 0, 0]);
    segment.extend(payload);
    let sum = upper_checksum(source.0, destination.0, protocol::TCP, &segment);
    put16(&mut segment, 16, sum);
    ip(source.0, destination.0, protocol::TCP, &segment)
}

/// An echo request of the addresses' family.
#[must_use]
pub fn echo(source: IpAddr, destination: IpAddr, id: u16, sequence: u16, data: &[u8]) -> Vec<u8> {
    let v6 = source.is_ipv6();
    let mut segment = vec![if v6 { 128 } else { 8 }, 0, 0, 0];
    segment.extend(id.to_be_bytes());
    segment.extend(sequence.to_be_bytes());
    segment.extend(data);
    let protocol = if v6 { protocol::ICMPV6 } else { protocol::ICMP };
    let sum = if v6 {
        upper_checksum(source, destination, protocol, &segment)
    } else {
        checksum(&[&segment])
    };
    put16(&mut segment, 2, sum);
    ip(source, destination, protocol, &segment)
}

/// An Ethernet frame: addresses, VLAN tags (TPID, TCI), the EtherType of `packet`, `packet`.
///
/// The EtherType follows the version nibble; anything but 6 is called IPv4.
#[must_use]
pub fn frame(destination: [u8; 6], source: [u8; 6], tags: &[(u16, u16)], packet: &[u8]) -> Vec<u8> {
    let mut frame = destination.to_vec();
    frame.extend(source);
    for (tpid, tci) in tags {
        frame.extend(tpid.to_be_bytes());
        frame.extend(tci.to_be_bytes());
    }
    let version = packet.first().map_or(4, |byte| byte >> 4);
    frame.extend(if version == 6 { [0x86, 0xdd] } else { [0x08, 0x00] });
    frame.extend(packet);
    frame
}

/// A small generator of reproducible nonsense (xorshift64*), seeded so that a failure repeats.
#[derive(Clone, Debug)]
pub struct Noise(u64);

impl Noise {
    /// Starts at `seed`; 0 is taken as 1.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(if seed == 0 { 1 } else { seed })
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `limit`, 0 if `limit` is 0.
    pub fn below(&mut self, limit: usize) -> usize {
        let limit = u64::try_from(limit).unwrap_or(u64::MAX).max(1);
        usize::try_from(self.next_u64() % limit).unwrap_or(0)
    }

    /// Fills `bytes`.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let octets = self.next_u64().to_le_bytes();
            for (byte, octet) in chunk.iter_mut().zip(octets) {
                *byte = octet;
            }
        }
    }

    /// Damages `bytes` in one of the usual ways: a bit, a byte, a cut, a longer tail, a
    /// length-like field set to an extreme.
    pub fn mutate(&mut self, bytes: &mut Vec<u8>) {
        let at = self.below(bytes.len());
        match self.below(6) {
            0 => {
                let bit = self.below(8);
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << bit;
                }
            }
            1 => {
                let value = low8(self.below(256));
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = value;
                }
            }
            2 => bytes.truncate(at),
            3 => {
                let more = self.below(40);
                let mut tail = vec![0; more];
                self.fill(&mut tail);
                bytes.extend(tail);
            }
            4 => {
                let extreme = [0u16, 1, 0x7fff, 0x8000, 0xffff];
                let value = extreme.get(self.below(extreme.len())).copied().unwrap_or(0);
                put16(bytes, at, value);
            }
            _ => {
                let from = self.below(bytes.len());
                let copied = bytes.get(from).copied().unwrap_or(0);
                bytes.insert(at.min(bytes.len()), copied);
            }
        }
    }
}

fn put16(bytes: &mut [u8], at: usize, value: u16) {
    for (place, octet) in bytes.iter_mut().skip(at).zip(value.to_be_bytes()) {
        *place = octet;
    }
}

fn low16(value: usize) -> u16 {
    u16::try_from(value & 0xffff).unwrap_or(0)
}

fn low8(value: usize) -> u8 {
    u8::try_from(value & 0xff).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::{Ipv4, Ipv6, Noise, checksum, protocol, udp, upper_checksum};
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    #[test]
    fn an_ipv4_header_sums_to_zero_with_options() {
        let mut header = Ipv4::new(Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2), 50);
        header.options = vec![7, 3, 4];
        let packet = header.packet(&[1, 2, 3]);
        assert_eq!(packet.len(), 27);
        assert_eq!(packet[0], 0x46);
        assert_eq!(checksum(&[&packet[..24]]), 0);
    }

    #[test]
    fn udp_sums_to_zero_in_both_families() {
        let v4 = (IpAddr::V4(Ipv4Addr::new(10, 1, 0, 2)), IpAddr::V4(Ipv4Addr::new(10, 2, 0, 2)));
        let v6 = (
            IpAddr::V6("2001:db8:a::2".parse::<Ipv6Addr>().unwrap()),
            IpAddr::V6("2001:db8:b::2".parse::<Ipv6Addr>().unwrap()),
        );
        for (from, to, header) in [(v4.0, v4.1, 20), (v6.0, v6.1, 40)] {
            let packet = udp((from, 7), (to, 9), b"odd");
            assert_eq!(upper_checksum(from, to, protocol::UDP, &packet[header..]), 0);
        }
    }

    #[test]
    fn extension_headers_are_chained() {
        let address = Ipv6Addr::LOCALHOST;
        let packet = Ipv6::new(address, address, protocol::ESP)
            .with_options(protocol::HOP_BY_HOP, 1)
            .with_fragment(1, true, 9)
            .packet(&[0; 8]);
        assert_eq!(packet[6], protocol::HOP_BY_HOP);
        assert_eq!(packet[40], protocol::FRAGMENT);
        assert_eq!(packet[48], protocol::ESP);
        assert_eq!(packet[50..52], [0, 9]);
        assert_eq!(packet.len(), 40 + 8 + 8 + 8);
    }

    #[test]
    fn noise_repeats() {
        let (mut a, mut b) = (Noise::new(7), Noise::new(7));
        let (mut one, mut two) = (vec![1; 64], vec![1; 64]);
        for _ in 0..1000 {
            a.mutate(&mut one);
            b.mutate(&mut two);
            assert_eq!(one, two);
        }
    }
}
