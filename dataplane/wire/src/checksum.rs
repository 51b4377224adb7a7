//! The Internet checksum: computed (RFC 1071), amended (RFC 1624), with pseudo headers.
//!
//! The sum runs over words as they lie in memory and is turned into network order once,
//! at the end (RFC 1071 section 2 (B)), so that it is a plain vector addition.

/// A checksum being computed.
///
/// ```
/// use xswan_wire::checksum::Sum;
/// // The example of RFC 1071 section 3.
/// let sum = Sum::new().bytes(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]);
/// assert_eq!(sum.finish(), !0xddf2);
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Sum(u64);

impl Sum {
    /// Nothing summed yet.
    #[inline(always)]
    #[must_use]
    pub const fn new() -> Self {
        Self(0)
    }

    /// Adds bytes; an odd length is padded with a zero and must be the last piece.
    #[inline]
    #[must_use]
    pub fn bytes(self, bytes: &[u8]) -> Self {
        // Four-byte words into 64 bits cannot overflow below 2^32 words.
        let mut sum = self.0;
        let (words, rest) = bytes.as_chunks::<4>();
        for word in words {
            sum = sum.wrapping_add(u64::from(u32::from_ne_bytes(*word)));
        }
        let mut last = [0_u8; 4];
        for (to, from) in last.iter_mut().zip(rest) {
            *to = *from;
        }
        Self(sum.wrapping_add(u64::from(u32::from_ne_bytes(last))))
    }

    /// Adds a 16-bit number.
    #[inline(always)]
    #[must_use]
    pub const fn word(self, word: u16) -> Self {
        Self(self.0.wrapping_add(word.to_be() as u64))
    }

    /// Adds the IPv4 pseudo header (RFC 768): addresses, protocol, length in bytes.
    #[inline]
    #[must_use]
    pub fn pseudo_v4(self, source: [u8; 4], destination: [u8; 4], protocol: u8, len: u16) -> Self {
        self.bytes(&source).bytes(&destination).word(u16::from(protocol)).word(len)
    }

    /// Adds the IPv6 pseudo header (RFC 8200 section 8.1): addresses, protocol, length in bytes.
    #[inline]
    #[must_use]
    pub fn pseudo_v6(
        self,
        source: &[u8; 16],
        destination: &[u8; 16],
        protocol: u8,
        len: u32,
    ) -> Self {
        self.bytes(source).bytes(destination).bytes(&len.to_be_bytes()).word(u16::from(protocol))
    }

    /// The complement of the sum: what goes into the field, or 0 if the field was summed and is right.
    #[inline]
    #[must_use]
    pub const fn finish(self) -> u16 {
        !u16::from_be(fold(self.0))
    }
}

/// The 16 bits of one's complement sum.
#[inline(always)]
const fn fold(sum: u64) -> u16 {
    let sum = (sum >> 32).wrapping_add(sum & 0xffff_ffff);
    let sum = (sum >> 16).wrapping_add(sum & 0xffff);
    let sum = (sum >> 16).wrapping_add(sum & 0xffff);
    let sum = (sum >> 16).wrapping_add(sum & 0xffff);
    sum as u16
}

/// The checksum after one 16-bit word changed from `old` to `new`
/// (RFC 1624 section 3, equation 3, which cannot make 0xffff out of 0).
#[inline(always)]
#[must_use]
pub const fn update(checksum: u16, old: u16, new: u16) -> u16 {
    !fold((!checksum as u64).wrapping_add(!old as u64).wrapping_add(new as u64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    fn naive(bytes: &[u8]) -> u16 {
        let mut sum = 0_u32;
        for pair in bytes.chunks(2) {
            sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !(sum as u16)
    }

    #[test]
    fn rfc_1624_example_does_not_give_minus_zero() {
        // RFC 1624 section 4: the checksum 0xdd2f with 0x5555 become 0x3285 is 0x0000.
        assert_eq!(update(0xdd2f, 0x5555, 0x3285), 0x0000);
    }

    proptest! {
        #[test]
        fn agrees_with_the_definition(bytes: Vec<u8>) {
            prop_assert_eq!(Sum::new().bytes(&bytes).finish(), naive(&bytes));
        }

        #[test]
        fn pieces_of_even_length_add_up(a: Vec<u16>, b: Vec<u8>) {
            let mut whole: Vec<u8> = a.iter().flat_map(|word| word.to_be_bytes()).collect();
            let first = Sum::new().bytes(&whole);
            whole.extend_from_slice(&b);
            prop_assert_eq!(first.bytes(&b).finish(), naive(&whole));
        }

        #[test]
        fn amending_is_computing_again(mut words in prop::collection::vec(any::<u16>(), 1..40),
                                       at: prop::sample::Index, new: u16) {
            // All-zero data has two representations of its sum; a header is never all zero.
            words.push(0x4500);
            let sum = |words: &[u16]| words.iter().fold(Sum::new(), |sum, w| sum.word(*w)).finish();
            let before = sum(&words);
            let at = at.index(words.len() - 1);
            let old = std::mem::replace(&mut words[at], new);
            prop_assert_eq!(update(before, old, new), sum(&words));
        }
    }
}
