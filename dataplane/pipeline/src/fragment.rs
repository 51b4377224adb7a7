//! Cuts an IPv4 packet into fragments before it is sealed (RFC 791 section 3.2).
//!
//! Before, not after: the peer then needs no reassembly in front of its cipher, and each
//! fragment is an ESP packet of its own that any worker can open.

use xswan_wire::checksum::Sum;

/// The fragments of one packet, written one at a time into a buffer of the caller's.
#[derive(Debug)]
pub struct Fragments<'p> {
    packet: &'p [u8],
    header_len: usize,
    /// Payload bytes already given out.
    done: usize,
    /// Payload bytes a fragment may carry at most, a multiple of 8.
    step: usize,
    first_offset: u16,
    more_after: bool,
}

const MORE_FRAGMENTS: u16 = 0x2000;
const OFFSET_MASK: u16 = 0x1fff;
/// An option is repeated in every fragment if this bit of its type is set.
const OPTION_COPIED: u8 = 0x80;

impl<'p> Fragments<'p> {
    /// Fragments of at most `mtu` bytes, IP header included.
    ///
    /// `packet` is one whole IPv4 packet whose lengths have been checked. `None` if `mtu`
    /// leaves no room for eight bytes of payload.
    #[must_use]
    pub fn new(packet: &'p [u8], mtu: usize) -> Option<Self> {
        let header_len = usize::from(packet.first()? & 0x0f).checked_mul(4)?;
        let step = mtu.checked_sub(header_len)? & !7;
        if step == 0 || packet.len() < header_len || header_len < 20 {
            return None;
        }
        let field = u16::from_be_bytes([*packet.get(6)?, *packet.get(7)?]);
        Some(Self {
            packet,
            header_len,
            done: 0,
            step,
            first_offset: field & OFFSET_MASK,
            more_after: field & MORE_FRAGMENTS != 0,
        })
    }

    /// Writes the next fragment into `buffer` and returns its length; `None` after the last,
    /// or if `buffer` is too small.
    pub fn write_next(&mut self, buffer: &mut [u8]) -> Option<usize> {
        let payload = self.packet.get(self.header_len..)?;
        let rest = payload.len().checked_sub(self.done).filter(|&rest| rest > 0)?;
        let take = rest.min(self.step);
        let header_len = if self.done == 0 {
            let header = self.packet.get(..self.header_len)?;
            buffer.get_mut(..self.header_len)?.copy_from_slice(header);
            self.header_len
        } else {
            self.later_header(buffer)?
        };
        let total = header_len.checked_add(take)?;
        let until = self.done.checked_add(take)?;
        buffer.get_mut(header_len..total)?.copy_from_slice(payload.get(self.done..until)?);
        let offset = self.first_offset.checked_add(u16::try_from(self.done / 8).ok()?)?;
        let more = until < payload.len() || self.more_after;
        let field = (offset & OFFSET_MASK) | if more { MORE_FRAGMENTS } else { 0 };
        buffer.get_mut(2..4)?.copy_from_slice(&u16::try_from(total).ok()?.to_be_bytes());
        buffer.get_mut(6..8)?.copy_from_slice(&field.to_be_bytes());
        buffer.get_mut(10..12)?.copy_from_slice(&[0, 0]);
        let sum = Sum::new().bytes(buffer.get(..header_len)?).finish();
        buffer.get_mut(10..12)?.copy_from_slice(&sum.to_be_bytes());
        self.done = until;
        Some(total)
    }

    /// The header of a fragment after the first: only the options that are to be copied.
    fn later_header(&self, buffer: &mut [u8]) -> Option<usize> {
        buffer.get_mut(..20)?.copy_from_slice(self.packet.get(..20)?);
        let mut at = 20_usize;
        let mut rest = self.packet.get(20..self.header_len)?;
        // End of list and no-operation are one byte long; everything else tells its length.
        while let Some(&kind) = rest.first().filter(|&&kind| kind != 0) {
            let len = if kind == 1 { 1 } else { usize::from(*rest.get(1)?).max(2) };
            let option = rest.get(..len)?;
            if kind & OPTION_COPIED != 0 {
                let end = at.checked_add(len)?;
                buffer.get_mut(at..end)?.copy_from_slice(option);
                at = end;
            }
            rest = rest.get(len..)?;
        }
        let padded = at.checked_add(3)? & !3;
        buffer.get_mut(at..padded)?.fill(0);
        let words = u8::try_from(padded / 4).ok()?;
        *buffer.first_mut()? = 0x40 | words;
        Some(padded)
    }
}

#[cfg(test)]
mod tests {
    use super::Fragments;
    use alloc::vec;
    use alloc::vec::Vec;
    use proptest::prelude::*;
    use xswan_wire::checksum::Sum;

    fn packet(options: &[u8], payload: usize) -> Vec<u8> {
        let header = 20 + options.len();
        let mut packet = vec![0_u8; header];
        packet[0] = 0x40 | (header / 4) as u8;
        packet[2..4].copy_from_slice(&((header + payload) as u16).to_be_bytes());
        packet[4..6].copy_from_slice(&[0x12, 0x34]);
        packet[8] = 64;
        packet[9] = 17;
        packet[20..].copy_from_slice(options);
        packet.extend((0..payload).map(|index| index as u8));
        packet
    }

    fn all(packet: &[u8], mtu: usize) -> Vec<Vec<u8>> {
        let mut fragments = Fragments::new(packet, mtu).unwrap();
        let mut buffer = [0xa5; 70_000];
        let mut out = Vec::new();
        while let Some(len) = fragments.write_next(&mut buffer) {
            out.push(buffer[..len].to_vec());
        }
        out
    }

    #[test]
    fn options_marked_to_be_copied_are_in_every_fragment() {
        // A record-route option (7, not copied) and a router alert (0x94, copied).
        let packet = packet(&[7, 7, 4, 0, 0, 0, 0, 0x94, 4, 0, 0, 0], 100);
        let fragments = all(&packet, 72);
        assert_eq!(fragments[0][0], 0x48);
        assert_eq!(fragments[1][0], 0x46);
        assert_eq!(&fragments[1][20..24], &[0x94, 4, 0, 0]);
    }

    #[test]
    fn too_small_an_mtu_is_refused() {
        assert!(Fragments::new(&packet(&[], 100), 27).is_none());
        assert!(Fragments::new(&[], 1500).is_none());
    }

    proptest! {
        #[test]
        fn fragments_put_together_are_the_packet(payload in 1_usize..4000, mtu in 28_usize..1600) {
            let packet = packet(&[], payload);
            let mut whole = vec![0; payload];
            let fragments = all(&packet, mtu);
            for (index, fragment) in fragments.iter().enumerate() {
                prop_assert!(fragment.len() <= mtu);
                prop_assert_eq!(Sum::new().bytes(&fragment[..20]).finish(), 0);
                let field = u16::from_be_bytes([fragment[6], fragment[7]]);
                prop_assert_eq!(field & 0x2000 != 0, index + 1 < fragments.len());
                let at = usize::from(field & 0x1fff) * 8;
                whole[at..at + fragment.len() - 20].copy_from_slice(&fragment[20..]);
            }
            prop_assert_eq!(&whole[..], &packet[20..]);
        }

        #[test]
        fn hostile_options_never_panic(options in proptest::collection::vec(any::<u8>(), 0..11)) {
            let mut options = options;
            options.resize(options.len().div_ceil(4) * 4, 0);
            let _ = all(&packet(&options, 200), 100);
        }
    }
}
