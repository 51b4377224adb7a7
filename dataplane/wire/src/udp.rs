//! The UDP header (RFC 768) and the ports of ESP in UDP (RFC 3948).
//!
//! ```text
//! source port 16 | destination port 16
//! length 16      | checksum 16
//! ```

use crate::checksum::Sum;
use crate::drop_reason::DropReason;
use crate::layers::{Addresses, UDP};
use zerocopy::byteorder::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Length of the header in bytes.
pub const HEADER_LEN: usize = 8;
/// Port of IKE (RFC 7296 section 2).
pub const IKE_PORT: u16 = 500;
/// Port of ESP in UDP, shared with IKE behind the non-ESP marker (RFC 3948 section 2).
pub const NAT_T_PORT: u16 = 4500;

/// The header, as it lies in the packet.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Header {
    /// Source port.
    pub source_port: U16,
    /// Destination port.
    pub destination_port: U16,
    /// Length in bytes of header and payload.
    pub len: U16,
    /// Checksum; 0 if the sender computed none.
    pub checksum: U16,
}

const _: () = assert!(size_of::<Header>() == HEADER_LEN);

impl Header {
    /// The header at the front of `datagram`, an IP payload of exactly the datagram's length,
    /// and what it carries.
    ///
    /// # Errors
    /// [`DropReason::Runt`] if the header is cut short, [`DropReason::BadUdpLength`] if its
    /// length is not that of `datagram`.
    #[inline]
    pub fn new_checked(datagram: &[u8]) -> Result<(&Self, &[u8]), DropReason> {
        let (header, payload) =
            Self::ref_from_prefix(datagram).map_err(|_short| DropReason::Runt)?;
        if usize::from(header.len.get()) != datagram.len() {
            return Err(DropReason::BadUdpLength);
        }
        Ok((header, payload))
    }
}

#[inline]
fn pseudo(addresses: &Addresses, len: u16) -> Sum {
    match addresses {
        Addresses::V4 { source, destination } => {
            Sum::new().pseudo_v4(*source, *destination, UDP, len)
        }
        Addresses::V6 { source, destination } => {
            Sum::new().pseudo_v6(source, destination, UDP, u32::from(len))
        }
    }
}

/// Whether the checksum of `datagram` (UDP header and payload) is right.
///
/// A checksum of 0 is none, and right: over IPv4 by RFC 768, over IPv6 for tunnels by
/// RFC 6935 section 5.
#[inline]
#[must_use]
pub fn checksum_is_right(addresses: &Addresses, datagram: &[u8]) -> bool {
    let Ok((header, _)) = Header::ref_from_prefix(datagram) else { return false };
    let Ok(len) = u16::try_from(datagram.len()) else { return false };
    header.checksum.get() == 0 || pseudo(addresses, len).bytes(datagram).finish() == 0
}

/// Computes and writes the checksum of `datagram` (UDP header and payload).
///
/// # Errors
/// [`DropReason::Runt`] if the header is cut short, [`DropReason::BadUdpLength`] if the
/// datagram is longer than 65,535 bytes.
#[inline]
pub fn fill_checksum(addresses: &Addresses, datagram: &mut [u8]) -> Result<(), DropReason> {
    let len = u16::try_from(datagram.len()).map_err(|_long| DropReason::BadUdpLength)?;
    let (header, payload) = Header::mut_from_prefix(datagram).map_err(|_short| DropReason::Runt)?;
    header.checksum.set(0);
    let sum = pseudo(addresses, len).bytes(header.as_bytes()).bytes(payload).finish();
    // RFC 768: a computed 0 is sent as all ones, because 0 means none.
    header.checksum.set(if sum == 0 { 0xffff } else { sum });
    Ok(())
}

/// A header in native terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repr {
    /// Source port.
    pub source_port: u16,
    /// Destination port.
    pub destination_port: u16,
    /// Length in bytes of header and payload.
    pub len: u16,
}

impl Repr {
    /// Writes the header with checksum 0 to the front of `buffer` and returns its length;
    /// `None`, with nothing written, if it does not fit. See [`fill_checksum`].
    #[inline]
    pub fn emit(&self, buffer: &mut [u8]) -> Option<usize> {
        let header = Header {
            source_port: U16::new(self.source_port),
            destination_port: U16::new(self.destination_port),
            len: U16::new(self.len),
            checksum: U16::new(0),
        };
        header.write_to_prefix(buffer).ok()?;
        Some(HEADER_LEN)
    }

    /// Reads a header; the checksum is not looked at.
    ///
    /// # Errors
    /// Those of [`Header::new_checked`].
    pub fn parse(datagram: &[u8]) -> Result<Self, DropReason> {
        let (header, _) = Header::new_checked(datagram)?;
        Ok(Self {
            source_port: header.source_port.get(),
            destination_port: header.destination_port.get(),
            len: header.len.get(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    const V4: Addresses = Addresses::V4 { source: [192, 0, 2, 1], destination: [192, 0, 2, 2] };
    const V6: Addresses = Addresses::V6 { source: [1; 16], destination: [2; 16] };

    #[test]
    fn round_trip_into_a_dirty_buffer() {
        let repr = Repr { source_port: 4500, destination_port: 1025, len: 20 };
        let mut datagram = [0xa5; 20];
        assert_eq!(repr.emit(&mut datagram), Some(8));
        assert_eq!(datagram[8..], [0xa5; 12]);
        assert_eq!(Repr::parse(&datagram), Ok(repr));
        assert_eq!(Repr::parse(&datagram[..19]), Err(DropReason::BadUdpLength));
        assert_eq!(Repr::parse(&datagram[..7]), Err(DropReason::Runt));
        assert_eq!(repr.emit(&mut datagram[..7]), None);
        assert!(checksum_is_right(&V4, &datagram), "none is right");
    }

    #[test]
    fn a_computed_zero_is_sent_as_ones() {
        // The payload is what makes the sum over everything else come to 0xffff.
        let mut datagram = [0; 10];
        Repr { source_port: 1, destination_port: 2, len: 10 }.emit(&mut datagram).unwrap();
        fill_checksum(&V6, &mut datagram).unwrap();
        let [c0, c1] = [datagram[6], datagram[7]];
        datagram[8..].copy_from_slice(&[c0, c1]);
        fill_checksum(&V6, &mut datagram).unwrap();
        assert_eq!(datagram[6..8], [0xff, 0xff]);
        assert!(checksum_is_right(&V6, &datagram));
    }

    proptest! {
        #[test]
        fn a_flipped_bit_is_noticed(mut datagram in prop::collection::vec(any::<u8>(), 8..200),
                                    at: prop::sample::Index, bit in 0..8_u8) {
            for addresses in [V4, V6] {
                fill_checksum(&addresses, &mut datagram).unwrap();
                prop_assert!(checksum_is_right(&addresses, &datagram));
                let at = at.index(datagram.len());
                datagram[at] ^= 1 << bit;
                let none = datagram[6..8] == [0, 0];
                prop_assert_eq!(checksum_is_right(&addresses, &datagram), none);
                datagram[at] ^= 1 << bit;
            }
        }

        #[test]
        fn any_bytes_are_survived(bytes: Vec<u8>) {
            let _ = Repr::parse(&bytes);
            let _ = checksum_is_right(&V6, &bytes);
        }
    }
}
