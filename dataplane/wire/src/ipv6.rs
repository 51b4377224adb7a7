//! The IPv6 header and what its extension headers are called (RFC 8200 sections 3 and 4).
//!
//! ```text
//! version 4 | traffic class 8 | flow label 20
//! payload length 16 | next header 8 | hop limit 8
//! source 128
//! destination 128
//! ```

use crate::drop_reason::DropReason;
use zerocopy::byteorder::network_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Length of the fixed header in bytes.
pub const HEADER_LEN: usize = 40;
/// Offset of the hop limit.
pub const HOP_LIMIT: usize = 7;
/// The smallest MTU a link may have, in bytes (RFC 8200 section 5).
pub const MIN_MTU: u16 = 1280;
/// Next header: hop-by-hop options.
pub const HOP_BY_HOP: u8 = 0;
/// Next header: routing.
pub const ROUTING: u8 = 43;
/// Next header: fragment.
pub const FRAGMENT: u8 = 44;
/// Next header: destination options.
pub const DESTINATION_OPTIONS: u8 = 60;
/// Mask of the fragment offset, in units of eight bytes, in place.
pub const FRAGMENT_OFFSET: u16 = 0xfff8;
/// Flag of the fragment header: more fragments follow.
pub const MORE_FRAGMENTS: u16 = 1;

/// Whether this next header is an extension to walk past. ESP and AH count as upper protocols.
#[inline(always)]
#[must_use]
pub const fn is_extension(next_header: u8) -> bool {
    matches!(next_header, HOP_BY_HOP | ROUTING | FRAGMENT | DESTINATION_OPTIONS)
}

/// The fixed header, as it lies in the packet.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Header {
    class_flow: U32,
    /// Length in bytes of what follows the fixed header.
    pub payload_len: U16,
    /// The first extension header or the upper protocol.
    pub next_header: u8,
    /// Hop limit.
    pub hop_limit: u8,
    /// Source address.
    pub source: [u8; 16],
    /// Destination address.
    pub destination: [u8; 16],
}

const _: () = assert!(size_of::<Header>() == HEADER_LEN);

impl Header {
    /// The header at the front of `packet`.
    ///
    /// # Errors
    /// [`DropReason::Runt`], [`DropReason::BadIpVersion`], or [`DropReason::BadIpLength`]
    /// if the payload length goes past `packet`.
    #[inline]
    pub fn new_checked(packet: &[u8]) -> Result<&Self, DropReason> {
        let (header, rest) = Self::ref_from_prefix(packet).map_err(|_short| DropReason::Runt)?;
        header.check(rest.len())?;
        Ok(header)
    }

    /// As [`Header::new_checked`], to be written to.
    ///
    /// # Errors
    /// Those of [`Header::new_checked`].
    #[inline]
    pub fn new_checked_mut(packet: &mut [u8]) -> Result<&mut Self, DropReason> {
        let (header, rest) = Self::mut_from_prefix(packet).map_err(|_short| DropReason::Runt)?;
        header.check(rest.len())?;
        Ok(header)
    }

    #[inline(always)]
    fn check(&self, rest_len: usize) -> Result<(), DropReason> {
        if self.class_flow.get() >> 28 != 6 {
            Err(DropReason::BadIpVersion)
        } else if usize::from(self.payload_len.get()) > rest_len {
            Err(DropReason::BadIpLength)
        } else {
            Ok(())
        }
    }

    /// DSCP and ECN.
    #[inline(always)]
    #[must_use]
    pub fn traffic_class(&self) -> u8 {
        (self.class_flow.get() >> 20 & 0xff) as u8
    }

    /// The flow label, 20 bits.
    #[inline(always)]
    #[must_use]
    pub fn flow_label(&self) -> u32 {
        self.class_flow.get() & 0xf_ffff
    }

    /// Sets DSCP and ECN.
    #[inline(always)]
    pub fn set_traffic_class(&mut self, traffic_class: u8) {
        let others = self.class_flow.get() & 0xf00f_ffff;
        self.class_flow.set(others | u32::from(traffic_class) << 20);
    }

    /// Sets the two ECN bits.
    #[inline(always)]
    pub fn set_ecn(&mut self, ecn: u8) {
        self.set_traffic_class((self.traffic_class() & !3) | (ecn & 3));
    }
}

/// A header in native terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repr {
    /// Source address.
    pub source: [u8; 16],
    /// Destination address.
    pub destination: [u8; 16],
    /// Length in bytes of what follows the fixed header.
    pub payload_len: u16,
    /// The first extension header or the upper protocol.
    pub next_header: u8,
    /// Hop limit.
    pub hop_limit: u8,
    /// DSCP and ECN.
    pub traffic_class: u8,
    /// Flow label; only the lower 20 bits are sent.
    pub flow_label: u32,
}

impl Repr {
    /// Writes the header to the front of `buffer` and returns its length;
    /// `None`, with nothing written, if it does not fit.
    #[inline]
    pub fn emit(&self, buffer: &mut [u8]) -> Option<usize> {
        let class = u32::from(self.traffic_class) << 20;
        let header = Header {
            class_flow: U32::new(0x6000_0000 | class | self.flow_label & 0xf_ffff),
            payload_len: U16::new(self.payload_len),
            next_header: self.next_header,
            hop_limit: self.hop_limit,
            source: self.source,
            destination: self.destination,
        };
        header.write_to_prefix(buffer).ok()?;
        Some(HEADER_LEN)
    }

    /// Reads a fixed header.
    ///
    /// # Errors
    /// Those of [`Header::new_checked`].
    pub fn parse(packet: &[u8]) -> Result<Self, DropReason> {
        let header = Header::new_checked(packet)?;
        Ok(Self {
            source: header.source,
            destination: header.destination,
            payload_len: header.payload_len.get(),
            next_header: header.next_header,
            hop_limit: header.hop_limit,
            traffic_class: header.traffic_class(),
            flow_label: header.flow_label(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    const REPR: Repr = Repr {
        source: [1; 16],
        destination: [2; 16],
        payload_len: 10,
        next_header: 50,
        hop_limit: 64,
        traffic_class: 0xb9,
        flow_label: 0xa_bcde,
    };

    #[test]
    fn round_trip_into_a_dirty_buffer() {
        let mut packet = [0xa5; 60];
        assert_eq!(REPR.emit(&mut packet), Some(40));
        assert_eq!(packet[40..], [0xa5; 20]);
        assert_eq!(Repr::parse(&packet), Ok(REPR));
        assert_eq!(REPR.emit(&mut packet[..39]), None);
        assert_eq!(Repr::parse(&packet[..39]), Err(DropReason::Runt));
        assert_eq!(Repr::parse(&packet[..49]), Err(DropReason::BadIpLength));
        packet[0] = 0x45;
        assert_eq!(Repr::parse(&packet), Err(DropReason::BadIpVersion));
    }

    #[test]
    fn the_class_is_set_and_nothing_else() {
        let mut packet = [0; 50];
        REPR.emit(&mut packet).unwrap();
        for value in 0..=255 {
            let header = Header::new_checked_mut(&mut packet).unwrap();
            header.set_traffic_class(value);
            assert_eq!((header.traffic_class(), header.flow_label()), (value, 0xa_bcde));
            for ecn in 0..4 {
                header.set_ecn(ecn);
                assert_eq!(header.traffic_class(), value & 0xfc | ecn);
            }
        }
        assert_eq!(Repr::parse(&packet), Ok(Repr { traffic_class: 0xff, ..REPR }));
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes: Vec<u8>) {
            let _ = Repr::parse(&bytes);
        }
    }
}
