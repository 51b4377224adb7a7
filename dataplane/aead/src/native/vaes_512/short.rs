//! Packets of a few lanes, in one straight line.
//!
//! Everything that is a block of its own lies in lanes together with the text: the mask of the tag
//! is ciphered, and the additional data and the lengths are hashed, in the places around it.
//!
//! ```text
//! counters   J0    J0+1  J0+2  …  J0+n  (what follows is not used)
//! text       zeros T1    T2    …  Tn
//! ciphered   mask  C1    C2    …  Cn
//! hashed     AAD   C1    C2    …  Cn    lengths
//! powers     n+2   n+1   n     …  2     1
//! ```
//!
//! Lanes are loaded and stored sixteen octets before the text, so that its first block comes into
//! the second place; masks leave out what is not the text's.

use core::arch::x86_64::{
    __m128i, __m512i, __mmask16, __mmask64, _bzhi_u64, _mm_cvtsi64_si128, _mm_testz_si128,
    _mm_xor_si128, _mm512_add_epi32, _mm512_aesenc_epi128, _mm512_aesenclast_epi128,
    _mm512_broadcast_i32x4, _mm512_castsi128_si512, _mm512_castsi512_si128,
    _mm512_mask_broadcast_i32x4, _mm512_mask_storeu_epi8, _mm512_maskz_expand_epi8,
    _mm512_maskz_loadu_epi8, _mm512_maskz_mov_epi8, _mm512_or_si512, _mm512_set_epi32,
    _mm512_setzero_si512, _mm512_xor_si512,
};

use super::{LANE, Sums, powers, reversed_lane};
use crate::native::aes_ni::first_counter;
use crate::native::block::{load, reversed, store};
use crate::native::hash::{Known, Sum};
use crate::native::schedule::Record;

/// Octets of a block.
const BLOCK: usize = 16;

/// The longest text for so many lanes: two blocks are not its own.
pub(super) const fn max_len(lanes: usize) -> usize {
    LANE * lanes - 2 * BLOCK
}

/// One packet's octets in `V` lanes.
struct Places<const V: usize> {
    text_len: usize,
}

impl<const V: usize> Places<V> {
    /// The octets of lane `at` that the first `len` octets of the text are in.
    #[inline]
    #[target_feature(enable = "bmi2")]
    fn of_front(len: usize, at: usize) -> __mmask64 {
        let end = (len + BLOCK).saturating_sub(LANE * at).min(LANE);
        let all = _bzhi_u64(u64::MAX, end as u32);
        if at == 0 { all & !0xffff } else { all }
    }

    /// The octets of lane `at` that are text.
    #[inline]
    #[target_feature(enable = "bmi2")]
    fn text(&self, at: usize) -> __mmask64 {
        Self::of_front(self.text_len, at)
    }

    /// The words of lane `at` where the lengths are hashed.
    #[inline(always)]
    const fn lengths(&self, at: usize) -> __mmask16 {
        let block = self.text_len.div_ceil(BLOCK) + 1;
        let words = 0xf_u64 << (4 * block);
        (words >> (16 * at)) as u16
    }

    /// Lane `at` of `octets`, of which `mask` is there.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn load(octets: &[u8], at: usize, mask: __mmask64) -> __m512i {
        let lane = octets.as_ptr().wrapping_sub(BLOCK).wrapping_add(LANE * at);
        // SAFETY: octets that the mask leaves out are not read; the others are the slice's.
        unsafe { _mm512_maskz_loadu_epi8(mask, lane.cast()) }
    }

    /// Stores lane `at` of the text.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,bmi2")]
    fn store(&self, text: &mut [u8], at: usize, value: __m512i) {
        let lane = text.as_mut_ptr().wrapping_sub(BLOCK).wrapping_add(LANE * at);
        let mask = self.text(at);
        // SAFETY: octets that the mask leaves out are not written; the others are the slice's.
        unsafe { _mm512_mask_storeu_epi8(lane.cast(), mask, value) }
    }

    /// Ciphers text, with zeros in the first place.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,vaes")]
    fn cipher<const R: usize>(
        record: &Record,
        nonce: &[u8; 12],
        text: [__m512i; V],
    ) -> [__m512i; V] {
        // The last octet of a counter has room for all of them.
        let first = _mm512_broadcast_i32x4(first_counter(nonce));
        let plus =
            _mm512_set_epi32(3 << 24, 0, 0, 0, 2 << 24, 0, 0, 0, 1 << 24, 0, 0, 0, 0, 0, 0, 0);
        let four = _mm512_set_epi32(
            4 << 24,
            0,
            0,
            0,
            4 << 24,
            0,
            0,
            0,
            4 << 24,
            0,
            0,
            0,
            4 << 24,
            0,
            0,
            0,
        );
        let key = _mm512_broadcast_i32x4(record.round(0));
        let mut counter = _mm512_add_epi32(first, plus);
        let mut lanes = text;
        for lane in &mut lanes {
            *lane = _mm512_xor_si512(counter, key);
            counter = _mm512_add_epi32(counter, four);
        }
        for round in 1..R {
            let key = _mm512_broadcast_i32x4(record.round(round));
            for lane in &mut lanes {
                *lane = _mm512_aesenc_epi128(*lane, key);
            }
        }
        let key = _mm512_broadcast_i32x4(record.round(R));
        for at in 0..V {
            lanes[at] = _mm512_aesenclast_epi128(lanes[at], _mm512_xor_si512(text[at], key));
        }
        lanes
    }

    /// The hash of additional data, text and lengths.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx,bmi2,vpclmulqdq,pclmulqdq")]
    fn hash(&self, record: &Record, known: &Known, text: [__m512i; V]) -> __m128i {
        let top = self.text_len.div_ceil(BLOCK) + 2;
        let zero = _mm512_setzero_si512();
        let mut sums = Sums { low: zero, middle: zero, high: zero };
        for at in 0..V {
            let mut lane = reversed_lane(_mm512_maskz_mov_epi8(self.text(at), text[at]));
            if at == 0 {
                lane = _mm512_mask_broadcast_i32x4(lane, 0xf, known.aad);
            }
            lane = _mm512_mask_broadcast_i32x4(lane, self.lengths(at), known.lengths);
            sums = sums.and(Sums::products(lane, powers(record, top.saturating_sub(4 * at))));
        }
        sums.onto(Sum::nothing()).reduce()
    }
}

/// The next octets into the places that the mask says.
#[inline]
#[target_feature(enable = "avx512f,avx512vbmi2,popcnt")]
fn take(octets: &mut u64, places: __mmask64) -> __m512i {
    let low = _mm512_castsi128_si512(_mm_cvtsi64_si128(octets.cast_signed()));
    *octets = octets.checked_shr(8 * places.count_ones()).unwrap_or(0);
    _mm512_maskz_expand_epi8(places, low)
}

/// Seals a text of at most [`max_len`] octets; `src` is its front if that lies elsewhere.
#[target_feature(
    enable = "aes,pclmulqdq,avx,avx512f,avx512bw,avx512vbmi2,bmi2,popcnt,vaes,vpclmulqdq"
)]
pub(super) fn seal<const R: usize, const V: usize>(
    record: &Record,
    nonce: &[u8; 12],
    known: &Known,
    src: &[u8],
    trailer: Option<[u8; 8]>,
    text: &mut [u8],
    tag: &mut [u8; BLOCK],
) {
    let places = Places::<V> { text_len: text.len() };
    let mut lanes = [_mm512_setzero_si512(); V];
    let mut given = trailer.map(u64::from_le_bytes);
    for at in 0..V {
        let front = Places::<V>::of_front(src.len(), at);
        let behind = places.text(at) & !front;
        let end = match &mut given {
            Some(octets) => take(octets, behind),
            None => Places::<V>::load(text, at, behind),
        };
        lanes[at] = _mm512_or_si512(Places::<V>::load(src, at, front), end);
    }
    lanes = Places::<V>::cipher::<R>(record, nonce, lanes);
    for at in 0..V {
        places.store(text, at, lanes[at]);
    }
    let hash = places.hash(record, known, lanes);
    store(tag, _mm_xor_si128(_mm512_castsi512_si128(lanes[0]), reversed(hash)));
}

/// Opens a text of at most [`max_len`] octets; `None`, with `dst` wiped, if the tag does not match.
#[target_feature(
    enable = "aes,pclmulqdq,avx,avx512f,avx512bw,avx512vbmi2,bmi2,popcnt,vaes,vpclmulqdq"
)]
pub(super) fn open<const R: usize, const V: usize>(
    record: &Record,
    nonce: &[u8; 12],
    known: &Known,
    text: &[u8],
    tag: &[u8; BLOCK],
    dst: &mut [u8],
) -> Option<()> {
    let places = Places::<V> { text_len: text.len() };
    let mut lanes = [_mm512_setzero_si512(); V];
    for at in 0..V {
        lanes[at] = Places::<V>::load(text, at, places.text(at));
    }
    let plain = Places::<V>::cipher::<R>(record, nonce, lanes);
    let hash = places.hash(record, known, lanes);
    let expected = _mm_xor_si128(_mm512_castsi512_si128(plain[0]), reversed(hash));
    let difference = _mm_xor_si128(expected, load(tag));
    if _mm_testz_si128(difference, difference) == 0 {
        dst.fill(0);
        return None;
    }
    for at in 0..V {
        places.store(dst, at, plain[at]);
    }
    Some(())
}
