//! The shape of a frame in sixteen octets: where its headers are, and what a router asks of them.
//!
//! What [`crate::layers`] decodes, without what can be read again where it lies: a burst's list of
//! these stays in the first-level cache. Frames without tags, options, extension headers or
//! fragments, nearly all there are, are seen to be such by a few comparisons; all others, and
//! all that are wrong, go through [`crate::layers::parse`].

use crate::cursor::Bytes;
use crate::drop_reason::DropReason;
use crate::layers::{self, Addresses, Layers};
use crate::{ethernet, ipv4, ipv6};

const IS_V4: u8 = 1;
const IS_FRAGMENT: u8 = 2;

/// Where the IP packet lies in a frame, and what its header says.
///
/// Every length was compared with the frame's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Brief {
    /// Length in bytes of the whole IP packet.
    pub total_len: u32,
    /// Where the IP header starts; 0 if there is no Ethernet header.
    pub l3_offset: u16,
    /// Where the upper protocol starts.
    pub l4_offset: u16,
    /// The upper protocol, after the last extension header.
    pub protocol: u8,
    /// DSCP in the upper six bits, ECN in the lower two.
    pub traffic_class: u8,
    /// Time to live, hop limit.
    pub ttl: u8,
    flags: u8,
}

const _: () = assert!(size_of::<Brief>() == 12);

impl Brief {
    /// Reads a frame that starts with an Ethernet header and lies in one piece.
    ///
    /// # Errors
    /// Those of [`layers::parse`].
    #[inline(always)]
    pub fn of_frame(frame: &[u8]) -> Result<Self, DropReason> {
        let common = match frame.read_u16(12) {
            Some(ethernet::IPV4) => Self::common_v4(frame, ethernet::HEADER_LEN),
            Some(ethernet::IPV6) => Self::common_v6(frame, ethernet::HEADER_LEN),
            Some(_) | None => None,
        };
        common.map_or_else(|| Self::uncommon_frame(frame), Ok)
    }

    /// Reads a bare IP packet; what follows it is ignored.
    ///
    /// # Errors
    /// Those of [`layers::parse_packet`].
    #[inline(always)]
    pub fn of_packet(packet: &[u8]) -> Result<Self, DropReason> {
        let common = match packet.read_u8(0) {
            Some(0x45) => Self::common_v4(packet, 0),
            Some(0x60..=0x6f) => Self::common_v6(packet, 0),
            Some(_) | None => None,
        };
        common.map_or_else(|| Self::uncommon_packet(packet), Ok)
    }

    #[cold]
    fn uncommon_frame(frame: &[u8]) -> Result<Self, DropReason> {
        Ok(Self::from(&layers::parse(frame, frame.len())?))
    }

    #[cold]
    fn uncommon_packet(packet: &[u8]) -> Result<Self, DropReason> {
        Ok(Self::from(&layers::parse_packet(packet, packet.len())?))
    }

    /// IPv4 without options that is no fragment.
    #[expect(clippy::cast_possible_truncation, reason = "the offset is 0 or 14")]
    #[inline(always)]
    fn common_v4(frame: &[u8], l3_offset: usize) -> Option<Self> {
        let header = frame.get(l3_offset..)?.first_chunk::<{ ipv4::HEADER_LEN }>()?;
        let total_len = u16::from_be_bytes([header[2], header[3]]);
        let fragment = u16::from_be_bytes([header[6], header[7]]);
        let is_common = header[0] == 0x45
            && fragment & (ipv4::MORE_FRAGMENTS | ipv4::FRAGMENT_OFFSET) == 0
            && usize::from(total_len) >= ipv4::HEADER_LEN
            && l3_offset.wrapping_add(usize::from(total_len)) <= frame.len();
        is_common.then_some(Self {
            total_len: u32::from(total_len),
            l3_offset: l3_offset as u16,
            l4_offset: l3_offset.wrapping_add(ipv4::HEADER_LEN) as u16,
            protocol: header[9],
            traffic_class: header[1],
            ttl: header[8],
            flags: IS_V4,
        })
    }

    /// IPv6 without extension headers.
    #[expect(clippy::cast_possible_truncation, reason = "the offset is 0 or 14; 17 bits of length")]
    #[inline(always)]
    fn common_v6(frame: &[u8], l3_offset: usize) -> Option<Self> {
        let header = frame.get(l3_offset..)?.first_chunk::<{ ipv6::HEADER_LEN }>()?;
        let payload_len = u16::from_be_bytes([header[4], header[5]]);
        let total_len = usize::from(payload_len).wrapping_add(ipv6::HEADER_LEN);
        let is_common = header[0] >> 4 == 6
            && !ipv6::is_extension(header[6])
            && l3_offset.wrapping_add(total_len) <= frame.len();
        is_common.then_some(Self {
            total_len: total_len as u32,
            l3_offset: l3_offset as u16,
            l4_offset: l3_offset.wrapping_add(ipv6::HEADER_LEN) as u16,
            protocol: header[6],
            traffic_class: (header[0] << 4) | (header[1] >> 4),
            ttl: header[7],
            flags: 0,
        })
    }

    /// Whether the version is 4.
    #[inline(always)]
    #[must_use]
    pub const fn is_v4(&self) -> bool {
        self.flags & IS_V4 != 0
    }

    /// Whether this is a piece of a packet. An IPv6 atomic fragment (RFC 6946) is not.
    #[inline(always)]
    #[must_use]
    pub const fn is_fragment(&self) -> bool {
        self.flags & IS_FRAGMENT != 0
    }

    /// Where the IP packet ends; never past the frame.
    #[inline(always)]
    #[must_use]
    pub const fn l3_end(&self) -> usize {
        (self.l3_offset as usize).wrapping_add(self.total_len as usize)
    }

    /// The IP packet in the frame.
    #[inline(always)]
    #[must_use]
    pub fn packet<'f>(&self, frame: &'f [u8]) -> &'f [u8] {
        frame.get(usize::from(self.l3_offset)..self.l3_end()).unwrap_or_default()
    }

    /// Length in bytes of the IP header with options or extension headers.
    #[inline(always)]
    #[must_use]
    pub const fn header_len(&self) -> usize {
        self.l4_offset.wrapping_sub(self.l3_offset) as usize
    }

    /// Source and destination; `None` if `frame` is another one.
    #[inline(always)]
    #[must_use]
    pub fn addresses(&self, frame: &[u8]) -> Option<Addresses> {
        let at = usize::from(self.l3_offset);
        if self.is_v4() {
            let source = frame.read(at.wrapping_add(12))?;
            return Some(Addresses::V4 { source, destination: frame.read(at.wrapping_add(16))? });
        }
        let source = frame.read(at.wrapping_add(8))?;
        Some(Addresses::V6 { source, destination: frame.read(at.wrapping_add(24))? })
    }
}

impl From<&Layers> for Brief {
    fn from(layers: &Layers) -> Self {
        let ip = &layers.ip;
        let fragment = if ip.is_fragment { IS_FRAGMENT } else { 0 };
        Self {
            total_len: ip.total_len,
            l3_offset: layers.l3_offset,
            l4_offset: layers.l4_offset,
            protocol: ip.protocol,
            traffic_class: ip.traffic_class,
            ttl: ip.ttl,
            flags: fragment | if ip.is_v4() { IS_V4 } else { 0 },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Brief;
    use crate::layers;
    use proptest::prelude::*;
    use std::vec::Vec;

    fn agree(frame: &[u8]) -> Result<(), TestCaseError> {
        let slow = layers::parse(frame, frame.len());
        prop_assert_eq!(Brief::of_frame(frame), slow.as_ref().map(Brief::from).map_err(|e| *e));
        if let (Ok(brief), Ok(slow)) = (Brief::of_frame(frame), slow) {
            prop_assert_eq!(brief.addresses(frame), Some(slow.ip.addresses));
            prop_assert_eq!(brief.is_fragment(), slow.ip.is_fragment);
            prop_assert_eq!(brief.header_len(), usize::from(slow.ip.header_len));
            prop_assert_eq!(brief.packet(frame).len(), slow.ip.total_len as usize);
        }
        let packet = frame.get(14..).unwrap_or_default();
        let slow = layers::parse_packet(packet, packet.len());
        prop_assert_eq!(Brief::of_packet(packet), slow.as_ref().map(Brief::from).map_err(|e| *e));
        Ok(())
    }

    proptest! {
        /// The short way and the long way say the same of every frame.
        #[test]
        fn both_ways_agree(
            mut frame in proptest::collection::vec(any::<u8>(), 0..120),
            ethertype in prop::sample::select(std::vec![0x0800_u16, 0x86dd, 0x8100, 0x0806]),
            first in prop::sample::select(std::vec![0x45_u8, 0x46, 0x60, 0x6f, 0x44, 0x55]),
            next in prop::sample::select(std::vec![0_u8, 6, 17, 43, 44, 50, 60]),
            len in 0_u16..130, fragment in prop::sample::select(std::vec![0_u16, 0x4000, 0x2000, 1]),
        ) {
            agree(&frame)?;
            if frame.len() >= 34 {
                frame[12..14].copy_from_slice(&ethertype.to_be_bytes());
                frame[14] = first;
                if first >> 4 == 4 {
                    frame[16..18].copy_from_slice(&len.to_be_bytes());
                    frame[20..22].copy_from_slice(&fragment.to_be_bytes());
                    frame[23] = next;
                } else {
                    frame[18..20].copy_from_slice(&len.to_be_bytes());
                    frame[20] = next;
                }
            }
            agree(&frame)?;
            let cut: Vec<u8> = frame.iter().copied().take(usize::from(len)).collect();
            agree(&cut)?;
        }
    }
}
