//! Blocks of sixteen octets: how they come into registers, out of them, and stay in order.

use core::arch::asm;
use core::arch::x86_64::{__m128i, _mm_set_epi8, _mm_shuffle_epi8};
use core::mem::transmute;

/// One block as it lies in memory.
pub(super) type Block = [u8; 16];

/// Loads a block.
#[inline]
#[target_feature(enable = "avx")]
pub(super) fn load(block: &Block) -> __m128i {
    // SAFETY: sixteen octets of any value are a vector, and the other way round. (The intrinsics
    // would check their pointers wherever overflow is checked.)
    unsafe { transmute::<Block, __m128i>(*block) }
}

/// Stores a block.
#[inline]
#[target_feature(enable = "avx")]
pub(super) fn store(block: &mut Block, value: __m128i) {
    // SAFETY: as in `load`.
    *block = unsafe { transmute::<__m128i, Block>(value) };
}

/// Does nothing, and must be done where it stands: without it the compiler would run one lane's
/// rounds to their end before the next lane's, and the processor would wait for each of them.
#[inline]
#[target_feature(enable = "avx")]
pub(super) fn in_order(mut lane: __m128i) -> __m128i {
    // SAFETY: there is no instruction in it.
    unsafe {
        asm!("/* {0} */", inout(xmm_reg) lane, options(nomem, nostack, preserves_flags));
    }
    lane
}

/// The octets in the opposite order: GHASH's first bit becomes the highest.
#[inline]
#[target_feature(enable = "avx")]
pub(super) fn reversed(block: __m128i) -> __m128i {
    _mm_shuffle_epi8(block, _mm_set_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15))
}

/// Ones, then zeros.
static ONES: [u8; 32] = {
    let mut table = [0; 32];
    let mut at = 0;
    while at < 16 {
        table[at] = 0xff;
        at += 1;
    }
    table
};

/// Shuffles: nothing, then each octet to its own place, then nothing.
static PLACES: [u8; 48] = {
    let mut table = [0x80; 48];
    let mut at = 0;
    while at < 16 {
        table[16 + at] = at as u8;
        at += 1;
    }
    table
};

/// Sixteen octets of a table; the index depends on lengths only.
#[inline]
#[target_feature(enable = "avx")]
fn window(table: &[u8], at: usize) -> __m128i {
    load(table.get(at..).and_then(<[u8]>::first_chunk).unwrap_or(&[0; 16]))
}

/// Octets of the last block of so many, 1 to 16; `len` is not zero.
#[inline(always)]
pub(super) const fn last_len(len: usize) -> usize {
    (len.wrapping_sub(1) & 15) + 1
}

/// Keeps the first `len` octets of a block, 0 to 16.
#[inline]
#[target_feature(enable = "avx")]
pub(super) fn front_mask(len: usize) -> __m128i {
    window(&ONES, 16 - (len & 31).min(16))
}

/// Moves the first `len` octets of a block to its end, 0 to 16.
#[inline]
#[target_feature(enable = "avx")]
pub(super) fn to_end(block: __m128i, len: usize) -> __m128i {
    _mm_shuffle_epi8(block, window(&PLACES, len & 31))
}

/// Moves the last `len` octets of a block to its front, 0 to 16; zeros behind them.
#[inline]
#[target_feature(enable = "avx")]
pub(super) fn to_front(block: __m128i, len: usize) -> __m128i {
    _mm_shuffle_epi8(block, window(&PLACES, 32 - (len & 31).min(16)))
}

/// Puts a trailer of at most eight octets behind the text whose front is `src_len` octets long.
#[inline(always)]
pub(super) fn put_trailer(src_len: usize, trailer: Option<[u8; 8]>, dst: &mut [u8]) -> Option<()> {
    if let Some(trailer) = trailer {
        *dst.get_mut(src_len..)?.first_chunk_mut()? = trailer;
    }
    Some(())
}
