//! What of ESP is in clear (RFC 4303 section 2) and in front of it in UDP (RFC 3948 section 2).
//!
//! ```text
//! SPI 32
//! sequence number, lower half 32
//! IV, payload, padding, pad length, next header, ICV: not this module's
//! ```

use crate::cursor::Bytes;

/// Length in bytes of SPI and sequence number.
pub const HEADER_LEN: usize = 8;
/// SPIs below this are reserved (RFC 4303 section 2.1).
pub const FIRST_SPI: u32 = 256;
/// Length in bytes of the non-ESP marker, four zeros in front of IKE on port 4500.
pub const NON_ESP_MARKER_LEN: usize = 4;
/// The one byte of a NAT keepalive (RFC 3948 section 2.3).
pub const KEEPALIVE: u8 = 0xff;
/// Next header of a dummy packet (RFC 4303 section 2.6).
pub const NEXT_HEADER_DUMMY: u8 = 59;
/// Next header of an IPv4 packet in tunnel mode.
pub const NEXT_HEADER_IPV4: u8 = 4;
/// Next header of an IPv6 packet in tunnel mode.
pub const NEXT_HEADER_IPV6: u8 = 41;

/// SPI and sequence number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Security parameters index.
    pub spi: u32,
    /// Lower 32 bits of the sequence number.
    pub sequence: u32,
}

impl Header {
    /// Reads the header at `offset`; `None` if it is cut short.
    #[inline(always)]
    pub fn parse<B: Bytes + ?Sized>(bytes: &B, offset: usize) -> Option<Self> {
        let [s0, s1, s2, s3, n0, n1, n2, n3] = bytes.read(offset)?;
        Some(Self {
            spi: u32::from_be_bytes([s0, s1, s2, s3]),
            sequence: u32::from_be_bytes([n0, n1, n2, n3]),
        })
    }

    /// Writes the header to the front of `buffer` and returns its length; `None`, with
    /// nothing written, if it does not fit.
    #[inline(always)]
    pub fn emit(&self, buffer: &mut [u8]) -> Option<usize> {
        let to = buffer.first_chunk_mut::<HEADER_LEN>()?;
        let ([s0, s1, s2, s3], [n0, n1, n2, n3]) =
            (self.spi.to_be_bytes(), self.sequence.to_be_bytes());
        *to = [s0, s1, s2, s3, n0, n1, n2, n3];
        Some(HEADER_LEN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip_into_a_dirty_buffer() {
        let header = Header { spi: 0x1122_3344, sequence: 0x5566_7788 };
        let mut buffer = [0xa5; 12];
        assert_eq!(header.emit(&mut buffer), Some(8));
        assert_eq!(
            buffer,
            [0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0xa5, 0xa5, 0xa5, 0xa5]
        );
        assert_eq!(Header::parse(&buffer[..], 0), Some(header));
        assert_eq!(Header::parse(&buffer[..], 5), None);
        assert_eq!(header.emit(&mut buffer[..7]), None);
    }
}
