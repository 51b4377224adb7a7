//! The outer shape of a frame: Ethernet, VLAN tags, IP with options or extensions.
//!
//! Assumes nothing of the bytes. Guarantees that every length in [`Layers`] was compared
//! with the frame's, that a fragment is known as one before anybody can ask for ports,
//! and that the work is bounded: two tags, [`MAX_EXTENSIONS`] extension headers.
//! What follows the IP packet in the frame (Ethernet padding) is not part of it.

use crate::cursor::Bytes;
use crate::drop_reason::DropReason;
use crate::ethernet::{self, Tag, Tags};
use crate::{ipv4, ipv6};

/// IPv6 extension headers at most: hop-by-hop options, [`MAX_OPTIONS`] others, a fragment
/// header, [`MAX_OPTIONS`] others.
pub const MAX_EXTENSIONS: usize = 2 * (MAX_OPTIONS + 1);
/// IPv6 routing headers and destination options at most on either side of a fragment header.
pub const MAX_OPTIONS: usize = 3;

/// Protocol number of TCP.
pub const TCP: u8 = 6;
/// Protocol number of UDP.
pub const UDP: u8 = 17;
/// Protocol number of ESP (RFC 4303 section 2).
pub const ESP: u8 = 50;
/// Protocol number of ICMP for IPv4.
pub const ICMP: u8 = 1;
/// Protocol number of ICMP for IPv6.
pub const ICMPV6: u8 = 58;
/// Protocol number of SCTP.
pub const SCTP: u8 = 132;
/// Protocol number of UDP-Lite.
pub const UDP_LITE: u8 = 136;

/// Source and destination of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Addresses {
    /// IPv4.
    V4 {
        /// Source address, network order.
        source: [u8; 4],
        /// Destination address, network order.
        destination: [u8; 4],
    },
    /// IPv6.
    V6 {
        /// Source address, network order.
        source: [u8; 16],
        /// Destination address, network order.
        destination: [u8; 16],
    },
}

impl Addresses {
    /// Whether the version is 4.
    #[inline(always)]
    #[must_use]
    pub const fn is_v4(&self) -> bool {
        matches!(self, Self::V4 { .. })
    }

    /// Whether both lead to the same address.
    #[inline(always)]
    #[must_use]
    pub fn same_destination(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::V4 { destination: a, .. }, Self::V4 { destination: b, .. }) => a == b,
            (Self::V6 { destination: a, .. }, Self::V6 { destination: b, .. }) => a == b,
            (Self::V4 { .. }, Self::V6 { .. }) | (Self::V6 { .. }, Self::V4 { .. }) => false,
        }
    }
}

/// What an IP header says, of either version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IpLayer {
    /// Version, source and destination.
    pub addresses: Addresses,
    /// Length in bytes up to the upper protocol: with IPv4 options, IPv6 extension headers.
    pub header_len: u16,
    /// Length in bytes of the whole IP packet; not below `header_len`, not past the frame.
    pub total_len: u32,
    /// The upper protocol, after the last extension header.
    ///
    /// Of an IPv6 fragment that is not the first it is what the fragment header says,
    /// which may be an extension header lying in the first fragment.
    pub protocol: u8,
    /// Whether this is a piece of a packet. An IPv6 atomic fragment (RFC 6946) is not.
    pub is_fragment: bool,
    /// Whether this is a fragment and starts the packet: only then may ports be in it.
    pub first_fragment: bool,
    /// DSCP in the upper six bits, ECN in the lower two.
    pub traffic_class: u8,
    /// Time to live, hop limit.
    pub ttl: u8,
}

impl IpLayer {
    /// Whether the version is 4.
    #[inline(always)]
    #[must_use]
    pub const fn is_v4(&self) -> bool {
        self.addresses.is_v4()
    }

    /// Length in bytes of what follows the headers.
    #[inline(always)]
    #[must_use]
    pub const fn payload_len(&self) -> u32 {
        self.total_len.saturating_sub(self.header_len as u32)
    }
}

/// Where the layers of a frame are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layers {
    /// Where the IP header starts; 0 if there is no Ethernet header.
    pub l3_offset: u16,
    /// Where the upper protocol starts: `l3_offset + ip.header_len`.
    pub l4_offset: u16,
    /// VLAN tags, the outer one first.
    pub tags: Tags,
    /// The IP header.
    pub ip: IpLayer,
}

impl Layers {
    /// Where the IP packet ends; never past the frame.
    #[inline(always)]
    #[must_use]
    pub const fn l3_end(&self) -> usize {
        (self.l3_offset as usize).wrapping_add(self.ip.total_len as usize)
    }

    /// Source and destination port of TCP, UDP, UDP-Lite or SCTP; `None` if there are none,
    /// the packet is a fragment, or it ends before them.
    #[inline(always)]
    pub fn ports<B: Bytes + ?Sized>(&self, frame: &B) -> Option<(u16, u16)> {
        if self.ip.is_fragment
            || !matches!(self.ip.protocol, TCP | UDP | UDP_LITE | SCTP)
            || self.ip.payload_len() < 4
        {
            return None;
        }
        let [s0, s1, d0, d1] = frame.read(self.l4_offset as usize)?;
        Some((u16::from_be_bytes([s0, s1]), u16::from_be_bytes([d0, d1])))
    }
}

/// Decodes a frame that starts with an Ethernet header.
///
/// `frame` holds at least the headers; `frame_len` is the length of the whole frame, which
/// is more than `frame` holds if it lies in several buffers.
///
/// # Errors
/// [`DropReason::Runt`], [`DropReason::BadVlan`], [`DropReason::BadEtherType`] (neither
/// IPv4 nor IPv6), and those of [`parse_packet`].
#[inline(always)]
pub fn parse<B: Bytes + ?Sized>(frame: &B, frame_len: usize) -> Result<Layers, DropReason> {
    let Some(mut ethertype) = frame.read_u16(12) else { return Err(DropReason::Runt) };
    let mut l3_offset = ethernet::HEADER_LEN;
    let mut tags = Tags::NONE;
    if ethernet::is_vlan(ethertype) {
        let [t0, t1, e0, e1] = frame.read(14).ok_or(DropReason::BadVlan)?;
        let outer = Tag { tpid: ethertype, tci: u16::from_be_bytes([t0, t1]) };
        ethertype = u16::from_be_bytes([e0, e1]);
        tags = Tags::one(outer);
        l3_offset = 18;
        if ethernet::is_vlan(ethertype) {
            let [t0, t1, e0, e1] = frame.read(18).ok_or(DropReason::BadVlan)?;
            let inner = Tag { tpid: ethertype, tci: u16::from_be_bytes([t0, t1]) };
            ethertype = u16::from_be_bytes([e0, e1]);
            tags = Tags::two(outer, inner);
            l3_offset = 22;
        }
    }
    match ethertype {
        ethernet::IPV4 => v4(frame, l3_offset, frame_len, tags),
        ethernet::IPV6 => v6(frame, l3_offset, frame_len, tags),
        other if ethernet::is_vlan(other) => Err(DropReason::BadVlan),
        _ => Err(DropReason::BadEtherType),
    }
}

/// Decodes a bare IP packet of either version.
///
/// # Errors
/// [`DropReason::Runt`], [`DropReason::BadIpVersion`], [`DropReason::BadIpHeaderLength`],
/// [`DropReason::BadIpLength`], [`DropReason::BadExtension`].
#[inline]
pub fn parse_packet<B: Bytes + ?Sized>(packet: &B, len: usize) -> Result<Layers, DropReason> {
    match packet.read_u8(0).ok_or(DropReason::Runt)? >> 4 {
        4 => v4(packet, 0, len, Tags::NONE),
        6 => v6(packet, 0, len, Tags::NONE),
        _ => Err(DropReason::BadIpVersion),
    }
}

#[expect(clippy::cast_possible_truncation, reason = "at most 22 + 60 bytes of headers")]
#[inline(always)]
fn v4<B: Bytes + ?Sized>(
    frame: &B,
    l3_offset: usize,
    frame_len: usize,
    tags: Tags,
) -> Result<Layers, DropReason> {
    let header: [u8; ipv4::HEADER_LEN] = frame.read(l3_offset).ok_or(DropReason::Runt)?;
    let [first, traffic_class, l0, l1, _, _, f0, f1, ttl, protocol, _, _, addresses @ ..] = header;
    if first >> 4 != 4 {
        return Err(DropReason::BadIpVersion);
    }
    let header_len = u16::from(first & 15).wrapping_mul(4);
    let l4_offset = l3_offset.wrapping_add(header_len as usize);
    if (header_len as usize) < ipv4::HEADER_LEN || l4_offset > frame_len {
        return Err(DropReason::BadIpHeaderLength);
    }
    let total_len = u16::from_be_bytes([l0, l1]);
    if total_len < header_len || l3_offset.wrapping_add(total_len as usize) > frame_len {
        return Err(DropReason::BadIpLength);
    }
    let fragment = u16::from_be_bytes([f0, f1]);
    let is_fragment = fragment & (ipv4::MORE_FRAGMENTS | ipv4::FRAGMENT_OFFSET) != 0;
    let [s0, s1, s2, s3, d0, d1, d2, d3] = addresses;
    let ip = IpLayer {
        addresses: Addresses::V4 { source: [s0, s1, s2, s3], destination: [d0, d1, d2, d3] },
        header_len,
        total_len: u32::from(total_len),
        protocol,
        is_fragment,
        first_fragment: is_fragment && fragment & ipv4::FRAGMENT_OFFSET == 0,
        traffic_class,
        ttl,
    };
    Ok(Layers { l3_offset: l3_offset as u16, l4_offset: l4_offset as u16, tags, ip })
}

#[expect(clippy::cast_possible_truncation, reason = "the fixed header and 8 extensions are 16 kB")]
#[inline(always)]
fn v6<B: Bytes + ?Sized>(
    frame: &B,
    l3_offset: usize,
    frame_len: usize,
    tags: Tags,
) -> Result<Layers, DropReason> {
    let [c0, c1, _, _, l0, l1, next, ttl] = frame.read(l3_offset).ok_or(DropReason::Runt)?;
    if c0 >> 4 != 6 {
        return Err(DropReason::BadIpVersion);
    }
    let source = frame.read(l3_offset.wrapping_add(8)).ok_or(DropReason::Runt)?;
    let destination = frame.read(l3_offset.wrapping_add(24)).ok_or(DropReason::Runt)?;
    let total_len = usize::from(u16::from_be_bytes([l0, l1])).wrapping_add(ipv6::HEADER_LEN);
    let end = l3_offset.wrapping_add(total_len);
    if end > frame_len {
        return Err(DropReason::BadIpLength);
    }
    let mut walk = Walk {
        protocol: next,
        offset: l3_offset.wrapping_add(ipv6::HEADER_LEN),
        is_fragment: false,
        first_fragment: false,
    };
    walk.extensions(frame, end)?;
    let ip = IpLayer {
        addresses: Addresses::V6 { source, destination },
        header_len: walk.offset.wrapping_sub(l3_offset) as u16,
        total_len: total_len as u32,
        protocol: walk.protocol,
        is_fragment: walk.is_fragment,
        first_fragment: walk.first_fragment,
        traffic_class: (c0 << 4) | (c1 >> 4),
        ttl,
    };
    Ok(Layers { l3_offset: l3_offset as u16, l4_offset: walk.offset as u16, tags, ip })
}

/// A walk along the extension headers of an IPv6 packet.
///
/// The headers come in the order of RFC 8200 section 4.1, which leaves one way through the
/// code for each number of them: the kernel's verifier follows every way there is.
struct Walk {
    protocol: u8,
    offset: usize,
    is_fragment: bool,
    first_fragment: bool,
}

impl Walk {
    /// Goes to the upper protocol, or to the end of the fragment header of a fragment that
    /// is not the first: what follows there is not a header.
    #[inline(always)]
    fn extensions<B: Bytes + ?Sized>(&mut self, frame: &B, end: usize) -> Result<(), DropReason> {
        if self.protocol == ipv6::HOP_BY_HOP {
            self.step(frame, end)?;
        }
        self.steps(frame, end)?;
        if self.protocol == ipv6::FRAGMENT {
            let [next, _, o0, o1] = frame.read(self.offset).ok_or(DropReason::BadExtension)?;
            self.protocol = next;
            self.offset = self.offset.wrapping_add(8);
            if self.offset > end {
                return Err(DropReason::BadExtension);
            }
            let field = u16::from_be_bytes([o0, o1]);
            self.is_fragment = field & (ipv6::FRAGMENT_OFFSET | ipv6::MORE_FRAGMENTS) != 0;
            self.first_fragment = self.is_fragment && field & ipv6::FRAGMENT_OFFSET == 0;
            if field & ipv6::FRAGMENT_OFFSET != 0 {
                return Ok(());
            }
            self.steps(frame, end)?;
        }
        // More of them, out of order, or twice what may be there once.
        if ipv6::is_extension(self.protocol) { Err(DropReason::BadExtension) } else { Ok(()) }
    }

    /// Walks past routing headers and destination options.
    #[inline(always)]
    fn steps<B: Bytes + ?Sized>(&mut self, frame: &B, end: usize) -> Result<(), DropReason> {
        for _ in 0..MAX_OPTIONS {
            if self.protocol != ipv6::ROUTING && self.protocol != ipv6::DESTINATION_OPTIONS {
                break;
            }
            self.step(frame, end)?;
        }
        Ok(())
    }

    /// Walks past one header whose second byte is its length in units of eight bytes, less one.
    #[inline(always)]
    fn step<B: Bytes + ?Sized>(&mut self, frame: &B, end: usize) -> Result<(), DropReason> {
        let [next, len] = frame.read(self.offset).ok_or(DropReason::BadExtension)?;
        self.protocol = next;
        self.offset = self.offset.wrapping_add(usize::from(len).wrapping_add(1).wrapping_mul(8));
        if self.offset > end { Err(DropReason::BadExtension) } else { Ok(()) }
    }
}

/// The addresses of an IPv6 frame whose extension headers [`parse`] refused; `None` if it
/// is not IPv6 or is cut short.
#[inline(always)]
pub fn addresses_v6<B: Bytes + ?Sized>(frame: &B) -> Option<Addresses> {
    let mut offset = ethernet::HEADER_LEN;
    let mut ethertype = frame.read_u16(12)?;
    for _ in 0..ethernet::MAX_TAGS {
        if ethernet::is_vlan(ethertype) {
            ethertype = frame.read_u16(offset.wrapping_add(2))?;
            offset = offset.wrapping_add(ethernet::TAG_LEN);
        }
    }
    if ethertype != ethernet::IPV6 {
        return None;
    }
    let source = frame.read(offset.wrapping_add(8))?;
    let destination = frame.read(offset.wrapping_add(24))?;
    Some(Addresses::V6 { source, destination })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec;
    use std::vec::Vec;

    fn v4_frame(tags: &[u16], ihl: u8, fragment: u16, payload: usize) -> Vec<u8> {
        let mut frame = vec![0; 12];
        for tpid in tags {
            frame.extend_from_slice(&tpid.to_be_bytes());
            frame.extend_from_slice(&[0x20, 9]);
        }
        frame.extend_from_slice(&ethernet::IPV4.to_be_bytes());
        let total_len = u16::from(ihl.max(5)) * 4 + payload as u16;
        let [l0, l1] = total_len.to_be_bytes();
        let [f0, f1] = fragment.to_be_bytes();
        frame.extend_from_slice(&[0x40 | ihl, 0xb8, l0, l1, 0, 0, f0, f1, 7, UDP, 0, 0]);
        frame.extend_from_slice(&[192, 0, 2, 1, 198, 51, 100, 2]);
        frame.resize(14 + 4 * tags.len() + usize::from(total_len), 0x11);
        frame
    }

    fn v6_frame(next: u8, rest: &[u8]) -> Vec<u8> {
        let mut frame = vec![0; 12];
        frame.extend_from_slice(&ethernet::IPV6.to_be_bytes());
        let [l0, l1] = (rest.len() as u16).to_be_bytes();
        frame.extend_from_slice(&[0x6b, 0x80, 0, 0, l0, l1, next, 9]);
        frame.extend_from_slice(&[0x20; 16]);
        frame.extend_from_slice(&[0x30; 16]);
        frame.extend_from_slice(rest);
        frame
    }

    fn chain(kinds: &[u8], last: u8) -> Vec<u8> {
        let mut rest = Vec::new();
        for index in 0..kinds.len() {
            let next = kinds.get(index + 1).copied().unwrap_or(last);
            rest.extend_from_slice(&[next, 0, 0, 0, 0, 0, 0, 0]);
        }
        v6_frame(kinds[0], &rest)
    }

    fn parsed(frame: &[u8]) -> Result<Layers, DropReason> {
        parse(frame, frame.len())
    }

    #[test]
    fn tags_options_and_padding() {
        for tags in [&[][..], &[0x8100], &[0x88a8, 0x8100], &[0x9100, 0x8100]] {
            for ihl in 5..=15_u8 {
                let mut frame = v4_frame(tags, ihl, 0, 12);
                let len = frame.len();
                frame.extend_from_slice(&[0; 30]);
                let layers = parsed(&frame).unwrap();
                assert_eq!(usize::from(layers.l3_offset), 14 + 4 * tags.len());
                assert_eq!(layers.l4_offset, layers.l3_offset + u16::from(ihl) * 4);
                assert_eq!(layers.l3_end(), len, "padding is not in it");
                assert_eq!(layers.ip.payload_len(), 12);
                assert_eq!((layers.ip.traffic_class, layers.ip.ttl), (0xb8, 7));
                assert_eq!(layers.ports(&frame[..]), Some((0x1111, 0x1111)));
                let seen: Vec<u16> = layers.tags.as_slice().iter().map(|tag| tag.tpid).collect();
                assert_eq!(seen, tags);
                assert_eq!(parsed(&frame[..len - 1]), Err(DropReason::BadIpLength));
            }
        }
        assert_eq!(parsed(&v4_frame(&[0x8100; 3], 5, 0, 0)), Err(DropReason::BadVlan));
        for ihl in 0..5 {
            let frame = v4_frame(&[], ihl, 0, 40);
            assert_eq!(parsed(&frame), Err(DropReason::BadIpHeaderLength));
        }
    }

    #[test]
    fn several_buffers_show_only_the_first() {
        let frame = v4_frame(&[], 5, 0, 6000);
        let linear = &frame[..200];
        assert_eq!(parse(linear, frame.len()).unwrap().ip.total_len, 6020);
        assert_eq!(parse(linear, 200), Err(DropReason::BadIpLength));
    }

    #[test]
    fn a_fragment_has_no_ports() {
        for (field, is_fragment, first) in [
            (0x0000, false, false),
            (0x4000, false, false),
            (0x2000, true, true),
            (0x2001, true, false),
            (0x0001, true, false),
        ] {
            let frame = v4_frame(&[], 5, field, 12);
            let layers = parsed(&frame).unwrap();
            assert_eq!((layers.ip.is_fragment, layers.ip.first_fragment), (is_fragment, first));
            assert_eq!(layers.ports(&frame[..]).is_some(), !is_fragment);
        }
        for (field, is_fragment, first) in
            [(0, false, false), (1, true, true), (8, true, false), (9, true, false)]
        {
            let mut rest = vec![UDP, 0, 0, field, 0, 0, 0, 1];
            rest.extend_from_slice(&[0x11; 8]);
            let frame = v6_frame(ipv6::FRAGMENT, &rest);
            let layers = parsed(&frame).unwrap();
            assert_eq!((layers.ip.is_fragment, layers.ip.first_fragment), (is_fragment, first));
            assert_eq!((layers.ip.header_len, layers.ip.protocol), (48, UDP));
            assert_eq!(layers.ports(&frame[..]).is_some(), !is_fragment);
        }
    }

    #[test]
    fn what_follows_in_a_later_ipv6_fragment_is_not_read() {
        let mut rest = vec![ipv6::DESTINATION_OPTIONS, 0, 1, 0, 0, 0, 0, 1];
        rest.extend_from_slice(&[0xff; 8]);
        let layers = parsed(&v6_frame(ipv6::FRAGMENT, &rest)).unwrap();
        assert_eq!(layers.ip.protocol, ipv6::DESTINATION_OPTIONS);
        assert_eq!(layers.ip.payload_len(), 8);
    }

    #[test]
    fn extension_headers_in_order_and_bounded() {
        let ok = |kinds: &[u8]| parsed(&chain(kinds, ESP)).map(|layers| layers.ip.protocol);
        assert_eq!(ok(&[0]), Ok(ESP));
        assert_eq!(ok(&[0, 60, 43, 60, 44, 60, 43, 60]), Ok(ESP), "{MAX_EXTENSIONS} of them");
        assert_eq!(ok(&[43, 60, 60]), Ok(ESP));
        for kinds in [
            &[60, 0][..],
            &[0, 0],
            &[60; 4],
            &[0, 60, 60, 60, 60],
            &[44, 44],
            &[44, 60, 60, 60, 60],
        ] {
            assert_eq!(ok(kinds), Err(DropReason::BadExtension), "{kinds:?}");
        }
        let layers = parsed(&chain(&[60], 59)).unwrap();
        assert_eq!((layers.ip.protocol, layers.ip.payload_len()), (59, 0));
        // A header that is longer than the packet.
        let frame = v6_frame(60, &[ESP, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(parsed(&frame), Err(DropReason::BadExtension));
        assert!(matches!(addresses_v6(&frame[..]), Some(Addresses::V6 { .. })));
    }

    #[test]
    fn other_frames_are_named() {
        assert_eq!(parsed(&[0; 13]), Err(DropReason::Runt));
        let mut frame = v4_frame(&[], 5, 0, 12);
        frame[13] = 6;
        assert_eq!(parsed(&frame), Err(DropReason::BadEtherType));
        frame[12..14].copy_from_slice(&ethernet::IPV6.to_be_bytes());
        assert_eq!(parsed(&frame), Err(DropReason::BadIpVersion));
        assert_eq!(parse_packet(&frame[14..], 32).unwrap().l3_offset, 0);
        assert_eq!(parse_packet(&[0x50; 40][..], 40), Err(DropReason::BadIpVersion));
        assert_eq!(parse_packet(&[][..], 0), Err(DropReason::Runt));
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived_and_lengths_hold(
            mut frame: Vec<u8>, ethertype in prop::sample::select(vec![0x0800_u16, 0x86dd, 0x8100]),
            version in 4..7_u8, extra in 0..3000_usize,
        ) {
            if frame.len() > 14 {
                frame[12..14].copy_from_slice(&ethertype.to_be_bytes());
                frame[14] = version << 4 | frame[14] & 15;
            }
            let frame_len = frame.len() + extra;
            if let Ok(layers) = parse(&frame[..], frame_len) {
                prop_assert!(layers.l3_end() <= frame_len);
                prop_assert!(u32::from(layers.ip.header_len) <= layers.ip.total_len);
                prop_assert_eq!(layers.l3_offset + layers.ip.header_len, layers.l4_offset);
                prop_assert!(layers.ip.is_fragment || !layers.ip.first_fragment);
                let _ = layers.ports(&frame[..]);
            }
            let _ = parse_packet(&frame[..], frame_len);
        }
    }
}
