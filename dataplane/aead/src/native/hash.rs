//! GHASH (NIST SP 800-38D section 6.4) by carry-less multiplication.
//!
//! Blocks are reversed octet by octet, so that the polynomial's first coefficient is the highest
//! bit; powers of the hash key are multiplied by the indeterminate beforehand, which saves the
//! shift after each product. Products are summed unreduced, and the sum reduced once.

use core::arch::x86_64::{
    __m128i, _mm_clmulepi64_si128, _mm_set_epi64x, _mm_set1_epi64x, _mm_setzero_si128,
    _mm_shuffle_epi32, _mm_xor_si128,
};

use super::block::{load, reversed};
use super::schedule::Record;

/// An unreduced sum of products: 256 bits, the middle ones apart.
#[derive(Clone, Copy)]
pub(super) struct Sum {
    pub(super) low: __m128i,
    pub(super) middle: __m128i,
    pub(super) high: __m128i,
}

impl Sum {
    /// No product yet.
    #[inline]
    #[target_feature(enable = "avx")]
    pub(super) fn nothing() -> Self {
        let zero = _mm_setzero_si128();
        Self { low: zero, middle: zero, high: zero }
    }

    /// One product.
    #[inline]
    #[target_feature(enable = "pclmulqdq,avx")]
    pub(super) fn product(block: __m128i, power: __m128i) -> Self {
        Self {
            low: _mm_clmulepi64_si128::<0x00>(block, power),
            middle: _mm_xor_si128(
                _mm_clmulepi64_si128::<0x01>(block, power),
                _mm_clmulepi64_si128::<0x10>(block, power),
            ),
            high: _mm_clmulepi64_si128::<0x11>(block, power),
        }
    }

    /// One product more.
    #[inline]
    #[target_feature(enable = "pclmulqdq,avx")]
    pub(super) fn add(&mut self, block: __m128i, power: __m128i) {
        self.low = _mm_xor_si128(self.low, _mm_clmulepi64_si128::<0x00>(block, power));
        self.middle = _mm_xor_si128(self.middle, _mm_clmulepi64_si128::<0x01>(block, power));
        self.middle = _mm_xor_si128(self.middle, _mm_clmulepi64_si128::<0x10>(block, power));
        self.high = _mm_xor_si128(self.high, _mm_clmulepi64_si128::<0x11>(block, power));
    }

    /// The sum modulo x^128 + x^7 + x^2 + x + 1, in two folds of 64 bits.
    #[inline]
    #[target_feature(enable = "pclmulqdq,avx")]
    pub(super) fn reduce(self) -> __m128i {
        let polynomial = _mm_set1_epi64x(0xc200_0000_0000_0000_u64.cast_signed());
        let folded = _mm_clmulepi64_si128::<0x00>(self.low, polynomial);
        let middle = _mm_xor_si128(self.middle, _mm_shuffle_epi32::<0x4e>(self.low));
        let middle = _mm_xor_si128(middle, folded);
        let folded = _mm_clmulepi64_si128::<0x00>(middle, polynomial);
        let high = _mm_xor_si128(self.high, _mm_shuffle_epi32::<0x4e>(middle));
        _mm_xor_si128(high, folded)
    }
}

/// The product of a block and a prepared power, reduced.
#[inline]
#[target_feature(enable = "pclmulqdq,avx")]
pub(super) fn multiply(block: __m128i, power: __m128i) -> __m128i {
    Sum::product(block, power).reduce()
}

/// What is known before the text: the additional data and the lengths, both as blocks to be hashed.
#[derive(Clone, Copy)]
pub(super) struct Known {
    /// The last block of additional data, with the hash of those before it.
    pub(super) aad: __m128i,
    /// Bits of additional data and of text.
    pub(super) lengths: __m128i,
}

impl Known {
    /// The additional data of an ESP packet are 8 or 12 octets; others go the long way.
    #[inline]
    #[target_feature(enable = "pclmulqdq,avx")]
    pub(super) fn new(record: &Record, aad: &[u8], text_len: usize) -> Self {
        let first = |octets: &[u8; 8]| u64::from_be_bytes(*octets).cast_signed();
        let block = match aad {
            [a, b, c, d, e, f, g, h] => _mm_set_epi64x(first(&[*a, *b, *c, *d, *e, *f, *g, *h]), 0),
            [a, b, c, d, e, f, g, h, i, j, k, l] => _mm_set_epi64x(
                first(&[*a, *b, *c, *d, *e, *f, *g, *h]),
                i64::from(u32::from_be_bytes([*i, *j, *k, *l])) << 32,
            ),
            other => long_aad(record, other),
        };
        let bits = |len: usize| (len as u64).wrapping_mul(8).cast_signed();
        Self { aad: block, lengths: _mm_set_epi64x(bits(aad.len()), bits(text_len)) }
    }
}

/// Hashes all but the last block, which is added only.
#[cold]
#[target_feature(enable = "pclmulqdq,avx")]
fn long_aad(record: &Record, aad: &[u8]) -> __m128i {
    let mut hash = _mm_setzero_si128();
    for (at, octets) in aad.chunks(16).enumerate() {
        if at > 0 {
            hash = multiply(hash, record.power(1));
        }
        let mut block = [0; 16];
        if let Some(front) = block.get_mut(..octets.len()) {
            front.copy_from_slice(octets);
        }
        hash = _mm_xor_si128(hash, reversed(load(&block)));
    }
    hash
}
