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
