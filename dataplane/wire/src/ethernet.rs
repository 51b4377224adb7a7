//! Ethernet II with up to two VLAN tags (IEEE 802.1Q, 802.1ad).
//!
//! ```text
//! destination 6 | source 6 | (TPID 2 | TCI 2) x 0..2 | EtherType 2 | payload
//! ```

use crate::cursor::Bytes;

/// Length of the untagged header in bytes.
pub const HEADER_LEN: usize = 14;
/// Length of one VLAN tag in bytes.
pub const TAG_LEN: usize = 4;
/// Tags at most.
pub const MAX_TAGS: usize = 2;

/// IPv4.
pub const IPV4: u16 = 0x0800;
/// ARP.
pub const ARP: u16 = 0x0806;
/// IPv6.
pub const IPV6: u16 = 0x86dd;
/// Customer VLAN tag (802.1Q).
pub const VLAN: u16 = 0x8100;
/// Service VLAN tag (802.1ad).
pub const SERVICE_VLAN: u16 = 0x88a8;
/// The outer tag of switches older than 802.1ad.
pub const OLD_SERVICE_VLAN: u16 = 0x9100;

/// Whether this EtherType announces a VLAN tag.
#[inline(always)]
#[must_use]
pub const fn is_vlan(ethertype: u16) -> bool {
    matches!(ethertype, VLAN | SERVICE_VLAN | OLD_SERVICE_VLAN)
}

/// A hardware address.
pub type Mac = [u8; 6];

/// One VLAN tag as it lies in the frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tag {
    /// Which kind of tag: [`VLAN`], [`SERVICE_VLAN`] or [`OLD_SERVICE_VLAN`].
    pub tpid: u16,
    /// Priority 3, drop eligible 1, VLAN id 12 bits.
    pub tci: u16,
}

/// The tags of a frame, the outer one first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tags {
    count: u8,
    tags: [Tag; MAX_TAGS],
}

impl Tags {
    /// No tag.
    pub const NONE: Self = Self { count: 0, tags: [Tag { tpid: 0, tci: 0 }; MAX_TAGS] };

    /// One tag.
    #[must_use]
    pub const fn one(tag: Tag) -> Self {
        Self { count: 1, tags: [tag, Tag { tpid: 0, tci: 0 }] }
    }

    /// Two tags, `outer` before `inner`.
    #[must_use]
    pub const fn two(outer: Tag, inner: Tag) -> Self {
        Self { count: 2, tags: [outer, inner] }
    }

    /// The tags that are there.
    #[inline(always)]
    #[must_use]
    pub fn as_slice(&self) -> &[Tag] {
        let [outer, _] = &self.tags;
        match self.count {
            0 => &[],
            1 => core::slice::from_ref(outer),
            _ => &self.tags,
        }
    }

    /// Length on the wire in bytes.
    #[inline(always)]
    #[must_use]
    pub const fn wire_len(&self) -> usize {
        (self.count as usize).wrapping_mul(TAG_LEN)
    }
}

/// The header in native terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repr {
    /// Destination address.
    pub destination: Mac,
    /// Source address.
    pub source: Mac,
    /// VLAN tags.
    pub tags: Tags,
    /// EtherType of the payload.
    pub ethertype: u16,
}

impl Repr {
    /// Reads the header; `None` if it is cut short or has more than two tags.
    pub fn parse<B: Bytes + ?Sized>(frame: &B) -> Option<Self> {
        let destination = frame.read(0)?;
        let source = frame.read(6)?;
        let first = frame.read_u16(12)?;
        let (tags, ethertype) = if is_vlan(first) {
            let outer = Tag { tpid: first, tci: frame.read_u16(14)? };
            let second = frame.read_u16(16)?;
            if is_vlan(second) {
                let inner = Tag { tpid: second, tci: frame.read_u16(18)? };
                (Tags::two(outer, inner), frame.read_u16(20)?)
            } else {
                (Tags::one(outer), second)
            }
        } else {
            (Tags::NONE, first)
        };
        (!is_vlan(ethertype)).then_some(Self { destination, source, tags, ethertype })
    }

    /// Length of the header in bytes.
    #[inline(always)]
    #[must_use]
    pub const fn emitted_len(&self) -> usize {
        HEADER_LEN.wrapping_add(self.tags.wire_len())
    }

    /// Writes the header to the front of `buffer` and returns its length;
    /// `None`, with nothing written, if it does not fit.
    #[inline]
    pub fn emit(&self, buffer: &mut [u8]) -> Option<usize> {
        let len = self.emitted_len();
        let header = buffer.get_mut(..len)?;
        let (addresses, rest) = header.split_first_chunk_mut::<12>()?;
        let (to, from) = addresses.split_at_mut(6);
        to.copy_from_slice(&self.destination);
        from.copy_from_slice(&self.source);
        let (rest, last) = rest.split_last_chunk_mut::<2>()?;
        *last = self.ethertype.to_be_bytes();
        for (to, tag) in rest.as_chunks_mut::<TAG_LEN>().0.iter_mut().zip(self.tags.as_slice()) {
            let ([t0, t1], [c0, c1]) = (tag.tpid.to_be_bytes(), tag.tci.to_be_bytes());
            *to = [t0, t1, c0, c1];
        }
        Some(len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTER: Tag = Tag { tpid: SERVICE_VLAN, tci: 0x2064 };
    const INNER: Tag = Tag { tpid: VLAN, tci: 7 };

    #[test]
    fn round_trip_with_none_one_and_two_tags() {
        for tags in [Tags::NONE, Tags::one(INNER), Tags::two(OUTER, INNER)] {
            let repr = Repr { destination: [1; 6], source: [2; 6], tags, ethertype: IPV4 };
            let mut buffer = [0xa5; 40];
            let len = repr.emit(&mut buffer).unwrap();
            assert_eq!(len, 14 + 4 * tags.as_slice().len());
            assert!(buffer[len..].iter().all(|byte| *byte == 0xa5));
            assert_eq!(Repr::parse(&buffer[..len]), Some(repr));
            assert_eq!(Repr::parse(&buffer[..len - 1]), None);
            assert_eq!(repr.emit(&mut buffer[..len - 1]), None);
        }
    }

    #[test]
    fn three_tags_are_refused() {
        let mut frame = [0_u8; 40];
        for at in [12, 16, 20] {
            frame[at..at + 2].copy_from_slice(&VLAN.to_be_bytes());
        }
        assert_eq!(Repr::parse(&frame[..]), None);
    }
}
