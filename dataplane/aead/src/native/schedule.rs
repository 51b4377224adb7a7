//! Round keys (FIPS 197 section 5.2) and powers of the hash key, in one record of 448 octets.

use core::arch::x86_64::{
    __m128i, _MM_HINT_T0, _mm_aesenc_si128, _mm_aesenclast_si128, _mm_aeskeygenassist_si128,
    _mm_extract_epi32, _mm_prefetch, _mm_set_epi64x, _mm_set1_epi32, _mm_setzero_si128,
};

use zeroize::{Zeroize, Zeroizing};

use super::block::{Block, load, store};
use super::hash;

/// Blocks in a record.
const SLOTS: usize = 28;
/// Words of round keys of the longest key.
const WORDS: usize = 60;

/// The round keys from the front, the powers of the hash key from the back: H^k is k slots before
/// the end. Shorter keys leave room for more powers. Seven cache lines, wiped when dropped.
#[repr(C, align(64))]
pub(super) struct Record {
    slots: [__m128i; SLOTS],
}

const _: () = assert!(size_of::<Record>() == 448);

impl Drop for Record {
    fn drop(&mut self) {
        self.slots.zeroize();
    }
}

impl Record {
    /// Schedules a key of 16, 24 or 32 octets.
    #[target_feature(enable = "aes,pclmulqdq,avx")]
    pub(super) fn new(key: &[u8]) -> Option<Box<Self>> {
        let mut record = Box::new(Self { slots: [_mm_setzero_si128(); SLOTS] });
        let words = expand(key)?;
        let rounds = key.len() / 4 + 6;
        let (blocks, _) = words.as_chunks::<4>();
        for (slot, [a, b, c, d]) in record.slots.iter_mut().zip(blocks).take(rounds + 1) {
            let pair = |low: u32, high: u32| (u64::from(high) << 32 | u64::from(low)).cast_signed();
            *slot = _mm_set_epi64x(pair(*c, *d), pair(*a, *b));
        }
        let first = record.first_power(rounds)?;
        let mut power = first;
        for slot in record.slots.get_mut(rounds + 1..)?.iter_mut().rev() {
            *slot = power;
            power = hash::multiply(power, first);
        }
        Some(record)
    }

    /// The hash key E(K, 0), times the indeterminate.
    #[target_feature(enable = "aes,avx")]
    fn first_power(&self, rounds: usize) -> Option<__m128i> {
        let mut state = self.slots[0];
        for key in self.slots.get(1..rounds)? {
            state = _mm_aesenc_si128(state, *key);
        }
        state = _mm_aesenclast_si128(state, *self.slots.get(rounds)?);
        let mut octets = Zeroizing::new([0; 16]);
        store(&mut octets, state);
        let key = u128::from_be_bytes(*octets);
        // All ones if the highest coefficient falls out: no branch on it.
        let carry = 0_u128.wrapping_sub(key >> 127);
        let shifted = (key << 1) ^ (carry & 0xc200_0000_0000_0000_0000_0000_0000_0001);
        *octets = shifted.to_le_bytes();
        let block: &Block = &octets;
        Some(load(block))
    }

    /// Asks for what a short packet needs to come into the cache: keys of ten rounds, low powers.
    #[inline]
    pub(super) fn prefetch(&self) {
        for slot in [0, 4, 8, 20, 24] {
            let line = core::ptr::from_ref(&self.slots[slot]).cast();
            // SAFETY: a hint, whatever the address; SSE is part of x86-64.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(line) }
        }
    }

    /// The key of a round.
    #[inline(always)]
    pub(super) const fn round(&self, round: usize) -> __m128i {
        self.slots[round]
    }

    /// H^k, for k of 1 to 13; to 17 beside a key of 128 bits.
    #[inline(always)]
    pub(super) const fn power(&self, k: usize) -> __m128i {
        self.slots[SLOTS - k]
    }

    /// H^`top` and all below it.
    #[inline(always)]
    pub(super) fn powers(&self, top: usize) -> &[__m128i] {
        self.slots.get(SLOTS - top..).unwrap_or_default()
    }
}

/// The key expansion, word by word, with the processor's S-box.
#[target_feature(enable = "aes,avx")]
fn expand(key: &[u8]) -> Option<Zeroizing<[u32; WORDS]>> {
    let (given, rest) = key.as_chunks::<4>();
    let key_words = given.len();
    if !rest.is_empty() || !matches!(key_words, 4 | 6 | 8) {
        return None;
    }
    let mut words = Zeroizing::new([0; WORDS]);
    for (word, octets) in words.iter_mut().zip(given) {
        *word = u32::from_le_bytes(*octets);
    }
    let mut constant = 1_u32;
    for at in key_words..4 * (key_words + 7) {
        let mut word = *words.get(at - 1)?;
        if at % key_words == 0 {
            word = substitute(word).rotate_right(8) ^ constant;
            // Doubling in the field of 256 elements; the tenth is the first to wrap.
            constant = (constant << 1) ^ ((constant >> 7) * 0x11b);
        } else if key_words == 8 && at % 8 == 4 {
            word = substitute(word);
        }
        *words.get_mut(at)? = word ^ *words.get(at - key_words)?;
    }
    Some(words)
}

/// The S-box on each octet.
#[inline]
#[target_feature(enable = "aes,avx")]
fn substitute(word: u32) -> u32 {
    let assisted = _mm_aeskeygenassist_si128::<0>(_mm_set1_epi32(word.cast_signed()));
    _mm_extract_epi32::<0>(assisted).cast_unsigned()
}
