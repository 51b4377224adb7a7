//! The IPv4 header (RFC 791 section 3.1).
//!
//! ```text
//! version 4 | IHL 4 | DSCP 6 | ECN 2 | total length 16
//! identification 16 | 0 | DF | MF | fragment offset 13
//! TTL 8 | protocol 8 | header checksum 16
//! source 32
//! destination 32
//! options 0..40 bytes
//! ```

use crate::checksum::{self, Sum};
use crate::drop_reason::DropReason;
use zerocopy::byteorder::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Length without options in bytes.
pub const HEADER_LEN: usize = 20;
/// Length with the most options in bytes.
pub const MAX_HEADER_LEN: usize = 60;
/// Flag: do not fragment.
pub const DONT_FRAGMENT: u16 = 0x4000;
/// Flag: more fragments follow.
pub const MORE_FRAGMENTS: u16 = 0x2000;
/// Mask of the fragment offset, in units of eight bytes.
pub const FRAGMENT_OFFSET: u16 = 0x1fff;

/// The fixed part of the header, as it lies in the packet.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Header {
    version_ihl: u8,
    /// DSCP and ECN.
    pub traffic_class: u8,
    /// Length in bytes of header and payload.
    pub total_len: U16,
    /// Identification, for reassembly.
    pub identification: U16,
    /// Flags and fragment offset.
    pub fragment: U16,
    /// Time to live.
    pub ttl: u8,
    /// Protocol of the payload.
    pub protocol: u8,
    /// Header checksum.
    pub checksum: U16,
    /// Source address.
    pub source: [u8; 4],
    /// Destination address.
    pub destination: [u8; 4],
}

const _: () = assert!(size_of::<Header>() == HEADER_LEN);

impl Header {
    /// The header at the front of `packet`.
    ///
    /// # Errors
    /// [`DropReason::Runt`], [`DropReason::BadIpVersion`], [`DropReason::BadIpHeaderLength`],
    /// or [`DropReason::BadIpLength`] if the total length is below the header's or past `packet`.
    #[inline]
    pub fn new_checked(packet: &[u8]) -> Result<&Self, DropReason> {
        let (header, _) = Self::ref_from_prefix(packet).map_err(|_short| DropReason::Runt)?;
        header.check(packet.len())?;
        Ok(header)
    }

    /// As [`Header::new_checked`], to be written to.
    ///
    /// # Errors
    /// Those of [`Header::new_checked`].
    #[inline]
    pub fn new_checked_mut(packet: &mut [u8]) -> Result<&mut Self, DropReason> {
        let len = packet.len();
        let (header, _) = Self::mut_from_prefix(packet).map_err(|_short| DropReason::Runt)?;
        header.check(len)?;
        Ok(header)
    }

    /// The header at the front of a packet whose header has been checked before; `None` if there
    /// are not so many octets.
    #[inline(always)]
    pub fn parsed_mut(packet: &mut [u8]) -> Option<&mut Self> {
        Self::mut_from_prefix(packet).ok().map(|(header, _)| header)
    }

    #[inline(always)]
    fn check(&self, len: usize) -> Result<(), DropReason> {
        let (header_len, total_len) = (self.header_len(), usize::from(self.total_len.get()));
        if self.version_ihl >> 4 != 4 {
            Err(DropReason::BadIpVersion)
        } else if header_len < HEADER_LEN || header_len > len {
            Err(DropReason::BadIpHeaderLength)
        } else if total_len < header_len || total_len > len {
            Err(DropReason::BadIpLength)
        } else {
            Ok(())
        }
    }

    /// Length in bytes with options.
    #[inline(always)]
    #[must_use]
    pub const fn header_len(&self) -> usize {
        ((self.version_ihl & 15) as usize).wrapping_mul(4)
    }

    /// Whether the don't-fragment flag is set.
    #[inline(always)]
    #[must_use]
    pub fn dont_fragment(&self) -> bool {
        self.fragment.get() & DONT_FRAGMENT != 0
    }

    /// Sets the time to live and amends the checksum (RFC 1624).
    #[inline(always)]
    pub fn set_ttl(&mut self, ttl: u8) {
        let old = u16::from_be_bytes([self.ttl, self.protocol]);
        self.ttl = ttl;
        self.amend(old, u16::from_be_bytes([ttl, self.protocol]));
    }

    /// One hop less, where there is one, and the checksum one more in its upper octet
    /// (RFC 1624 section 3, with nothing but additions).
    #[inline(always)]
    pub fn decrement_ttl(&mut self) {
        if self.ttl == 0 {
            return;
        }
        self.ttl = self.ttl.wrapping_sub(1);
        let sum = u32::from(self.checksum.get()).wrapping_add(0x0100);
        // An end-around carry, also for the sum that would be minus zero.
        #[expect(clippy::cast_possible_truncation, reason = "the carry has been added")]
        let sum = sum.wrapping_add(u32::from(sum >= 0xffff)) as u16;
        self.checksum.set(sum);
    }

    /// Sets DSCP and ECN and amends the checksum (RFC 1624).
    #[inline(always)]
    pub fn set_traffic_class(&mut self, traffic_class: u8) {
        let old = u16::from_be_bytes([self.version_ihl, self.traffic_class]);
        self.traffic_class = traffic_class;
        self.amend(old, u16::from_be_bytes([self.version_ihl, traffic_class]));
    }

    /// Sets the two ECN bits and amends the checksum (RFC 1624).
    #[inline(always)]
    pub fn set_ecn(&mut self, ecn: u8) {
        self.set_traffic_class((self.traffic_class & !3) | (ecn & 3));
    }

    #[inline(always)]
    fn amend(&mut self, old: u16, new: u16) {
        self.checksum.set(checksum::update(self.checksum.get(), old, new));
    }
}

/// Whether the header checksum of `packet` is right; `false` too if the header is cut short.
#[inline]
#[must_use]
pub fn checksum_is_right(packet: &[u8]) -> bool {
    // A length that is known makes five additions of what is a loop otherwise.
    if let Some(header @ [0x45, ..]) = packet.first_chunk::<HEADER_LEN>() {
        return Sum::new().bytes(header).finish() == 0;
    }
    Header::new_checked(packet)
        .ok()
        .and_then(|header| packet.get(..header.header_len()))
        .is_some_and(|header| Sum::new().bytes(header).finish() == 0)
}

/// A header without options, in native terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repr {
    /// Source address.
    pub source: [u8; 4],
    /// Destination address.
    pub destination: [u8; 4],
    /// Length in bytes of header and payload.
    pub total_len: u16,
    /// Identification; free to be 0 if `dont_fragment` (RFC 6864 section 4.1).
    pub identification: u16,
    /// Don't-fragment flag.
    pub dont_fragment: bool,
    /// DSCP and ECN.
    pub traffic_class: u8,
    /// Time to live.
    pub ttl: u8,
    /// Protocol of the payload.
    pub protocol: u8,
}

impl Repr {
    /// Writes the header with its checksum to the front of `buffer` and returns its length;
    /// `None`, with nothing written, if it does not fit.
    #[inline]
    pub fn emit(&self, buffer: &mut [u8]) -> Option<usize> {
        let mut header = Header {
            version_ihl: 0x45,
            traffic_class: self.traffic_class,
            total_len: U16::new(self.total_len),
            identification: U16::new(self.identification),
            fragment: U16::new(if self.dont_fragment { DONT_FRAGMENT } else { 0 }),
            ttl: self.ttl,
            protocol: self.protocol,
            checksum: U16::new(0),
            source: self.source,
            destination: self.destination,
        };
        header.checksum.set(Sum::new().bytes(header.as_bytes()).finish());
        header.write_to_prefix(buffer).ok()?;
        Some(HEADER_LEN)
    }

    /// Reads a header; options are skipped, the checksum is not looked at.
    ///
    /// # Errors
    /// Those of [`Header::new_checked`].
    pub fn parse(packet: &[u8]) -> Result<Self, DropReason> {
        let header = Header::new_checked(packet)?;
        Ok(Self {
            source: header.source,
            destination: header.destination,
            total_len: header.total_len.get(),
            identification: header.identification.get(),
            dont_fragment: header.dont_fragment(),
            traffic_class: header.traffic_class,
            ttl: header.ttl,
            protocol: header.protocol,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    const REPR: Repr = Repr {
        source: [192, 0, 2, 1],
        destination: [198, 51, 100, 2],
        total_len: 30,
        identification: 0x1234,
        dont_fragment: true,
        traffic_class: 0xb9,
        ttl: 64,
        protocol: 50,
    };

    fn packet() -> [u8; 40] {
        let mut packet = [0xa5; 40];
        assert_eq!(REPR.emit(&mut packet), Some(20));
        packet
    }

    #[test]
    fn round_trip_into_a_dirty_buffer() {
        let packet = packet();
        assert_eq!(packet[20..], [0xa5; 20]);
        assert!(checksum_is_right(&packet));
        assert_eq!(Repr::parse(&packet), Ok(REPR));
        assert_eq!(REPR.emit(&mut [0; 19]), None);
    }

    #[test]
    fn changes_keep_the_checksum_right() {
        let mut packet = packet();
        for value in 0..=255 {
            let header = Header::new_checked_mut(&mut packet).unwrap();
            header.set_ttl(value);
            header.set_traffic_class(value);
            assert!(checksum_is_right(&packet), "{value}");
            for ecn in 0..4 {
                let header = Header::new_checked_mut(&mut packet).unwrap();
                header.set_ecn(ecn);
                assert_eq!(header.traffic_class, value & 0xfc | ecn);
                assert!(checksum_is_right(&packet));
            }
        }
        packet[3] ^= 1;
        assert!(!checksum_is_right(&packet));
    }

    #[test]
    fn one_hop_less_is_the_next_lower_ttl() {
        let mut packet = packet();
        for identification in 0..=u16::MAX {
            let header = Header::new_checked_mut(&mut packet).unwrap();
            let old = header.identification.get();
            header.identification.set(identification);
            header.amend(old, identification);
            header.set_ttl((identification >> 3) as u8);
            let mut expected = *header;
            expected.set_ttl(expected.ttl.saturating_sub(1));
            header.decrement_ttl();
            assert_eq!(header.as_bytes(), expected.as_bytes(), "{identification:04x}");
        }
    }

    #[test]
    fn lengths_are_compared() {
        let good = packet();
        assert_eq!(Header::new_checked(&good[..19]).err(), Some(DropReason::Runt));
        assert_eq!(Header::new_checked(&good[..29]).err(), Some(DropReason::BadIpLength));
        for first in 0..=255_u8 {
            let mut packet = good;
            packet[0] = first;
            let expected = match (first >> 4, first & 15) {
                (4, 5..=7) => None,
                (4, 8..=10) => Some(DropReason::BadIpLength),
                (4, _) => Some(DropReason::BadIpHeaderLength),
                _ => Some(DropReason::BadIpVersion),
            };
            assert_eq!(Header::new_checked(&packet).err(), expected, "{first:02x}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(mut bytes: Vec<u8>) {
            let _ = Repr::parse(&bytes);
            let _ = checksum_is_right(&bytes);
            if let Ok(header) = Header::new_checked_mut(&mut bytes) {
                header.set_ttl(1);
            }
        }
    }
}
