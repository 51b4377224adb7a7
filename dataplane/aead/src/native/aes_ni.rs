//! The kernel in 128-bit lanes: AES-NI and PCLMULQDQ in their three-operand (VEX) forms.
//!
//! `R` is the number of rounds: 10, 12 or 14.
#![expect(
    clippy::needless_range_loop,
    reason = "lanes, texts and powers are counted by the same number"
)]

use core::arch::x86_64::{
    __m128i, _mm_add_epi32, _mm_aesenc_si128, _mm_aesenclast_si128, _mm_and_si128,
    _mm_andnot_si128, _mm_or_si128, _mm_set_epi8, _mm_set_epi32, _mm_set_epi64x, _mm_setzero_si128,
    _mm_shuffle_epi8, _mm_testz_si128, _mm_xor_si128,
};

use super::block::{
    Block, front_mask, in_order, last_len, load, put_trailer, reversed, store, to_end, to_front,
};
use super::hash::{Known, Sum, multiply};
use super::schedule::Record;

/// Longest text: 2^32 - 2 blocks (NIST SP 800-38D section 5.2.1.1).
pub(super) const MAX_TEXT_LEN: usize = (u32::MAX as usize - 1) * 16;

/// Writes `$step!(round, arguments)` for each round between the first key and the last.
macro_rules! for_each_round {
    ($rounds:expr, $step:ident $(, $argument:tt)*) => {
        $step!(1 $(, $argument)*);
        $step!(2 $(, $argument)*);
        $step!(3 $(, $argument)*);
        $step!(4 $(, $argument)*);
        $step!(5 $(, $argument)*);
        $step!(6 $(, $argument)*);
        $step!(7 $(, $argument)*);
        $step!(8 $(, $argument)*);
        $step!(9 $(, $argument)*);
        if $rounds > 10 {
            $step!(10 $(, $argument)*);
            $step!(11 $(, $argument)*);
        }
        if $rounds > 12 {
            $step!(12 $(, $argument)*);
            $step!(13 $(, $argument)*);
        }
    };
}

/// Calls `$function::<R, blocks, LAST>` for a number of blocks from 1 to 8.
macro_rules! by_blocks {
    ($blocks:expr, $function:ident, $last:literal, $arguments:tt) => {
        match $blocks {
            1 => $function::<R, 1, $last> $arguments,
            2 => $function::<R, 2, $last> $arguments,
            3 => $function::<R, 3, $last> $arguments,
            4 => $function::<R, 4, $last> $arguments,
            5 => $function::<R, 5, $last> $arguments,
            6 => $function::<R, 6, $last> $arguments,
            7 => $function::<R, 7, $last> $arguments,
            _ => $function::<R, 8, $last> $arguments,
        }
    };
}

/// What a first group leaves behind.
pub(super) struct First {
    /// The hash so far, reversed.
    pub(super) hash: __m128i,
    /// E(K, J0), which goes over the last hash to make the tag.
    pub(super) mask: __m128i,
}

/// The first counter block, J0 (NIST SP 800-38D section 7.1).
#[inline]
#[target_feature(enable = "avx")]
pub(super) fn first_counter(nonce: &[u8; 12]) -> __m128i {
    let [a, b, c, d, e, f, g, h, i, j, k, l] = *nonce;
    let low = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
    let high = u64::from_le_bytes([i, j, k, l, 0, 0, 0, 1]);
    _mm_set_epi64x(high.cast_signed(), low.cast_signed())
}

/// `counter` plus up to 255, where its last octet has room for it.
#[inline]
#[target_feature(enable = "avx")]
fn near(counter: __m128i, plus: usize) -> __m128i {
    _mm_add_epi32(counter, _mm_set_epi32((plus as i32) << 24, 0, 0, 0))
}

/// The octets of the counter in the processor's order, or back in the network's.
#[inline]
#[target_feature(enable = "avx")]
pub(super) fn turned(counter: __m128i) -> __m128i {
    let order = _mm_set_epi8(12, 13, 14, 15, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    _mm_shuffle_epi8(counter, order)
}

/// Seals.
#[target_feature(enable = "aes,pclmulqdq,avx")]
pub(super) fn seal<const R: usize>(
    record: &Record,
    nonce: &[u8; 12],
    aad: &[u8],
    src: &[u8],
    trailer: Option<[u8; 8]>,
    dst: &mut [u8],
) -> Option<()> {
    put_trailer(src.len(), trailer, dst)?;
    let text_len = dst.len().checked_sub(16).filter(|&len| len <= MAX_TEXT_LEN)?;
    join(src, dst)?;
    let known = Known::new(record, aad, text_len);
    let counter = first_counter(nonce);
    let blocks = text_len.div_ceil(16);
    let (from, _) = src.as_chunks::<16>();
    let First { hash, mask } = match blocks {
        0 => empty::<R>(record, &known, counter),
        1..=8 => by_blocks!(blocks, seal_first, true, (record, &known, counter, from, dst))?,
        _ => {
            let done = last_len_of_eight(blocks);
            let first = by_blocks!(done, seal_first, false, (record, &known, counter, from, dst))?;
            let from = from.get(done..).unwrap_or_default();
            let rest = dst.get_mut(16 * done..)?;
            let hash = seal_rest::<R>(record, &known, counter, done, first.hash, from, rest)?;
            First { hash, mask: first.mask }
        }
    };
    store(dst.last_chunk_mut()?, _mm_xor_si128(mask, reversed(hash)));
    Some(())
}

/// Opens; on a wrong tag `dst` is wiped.
#[target_feature(enable = "aes,pclmulqdq,avx")]
pub(super) fn open<const R: usize>(
    record: &Record,
    nonce: &[u8; 12],
    aad: &[u8],
    src: &[u8],
    dst: &mut [u8],
) -> Option<()> {
    let text_len = src.len().checked_sub(16).filter(|&len| len <= MAX_TEXT_LEN)?;
    if dst.len() != text_len {
        return None;
    }
    let known = Known::new(record, aad, text_len);
    let counter = first_counter(nonce);
    let blocks = text_len.div_ceil(16);
    let (from, _) = src.as_chunks::<16>();
    let First { hash, mask } = match blocks {
        0 => empty::<R>(record, &known, counter),
        1..=8 => by_blocks!(blocks, open_first, true, (record, &known, counter, from, dst))?,
        _ => {
            let done = last_len_of_eight(blocks);
            let first = by_blocks!(done, open_first, false, (record, &known, counter, from, dst))?;
            let from = from.get(done..blocks)?;
            let rest = dst.get_mut(16 * done..)?;
            let hash = open_rest::<R>(record, &known, counter, done, first.hash, from, rest)?;
            First { hash, mask: first.mask }
        }
    };
    let difference = _mm_xor_si128(_mm_xor_si128(mask, reversed(hash)), load(src.last_chunk()?));
    if _mm_testz_si128(difference, difference) == 0 {
        dst.fill(0);
        return None;
    }
    Some(())
}

/// Blocks that are left over by groups of eight, 1 to 8; `blocks` is not zero.
#[inline(always)]
pub(super) const fn last_len_of_eight(blocks: usize) -> usize {
    (blocks.wrapping_sub(1) & 7) + 1
}

/// Puts the end of `src` that is no whole block in front of the trailer in `dst`.
#[inline]
#[target_feature(enable = "avx")]
pub(super) fn join(src: &[u8], dst: &mut [u8]) -> Option<()> {
    // Behind the text is the tag: sixteen octets may be written at any of its blocks.
    if src.len().checked_add(16)? > dst.len() {
        return None;
    }
    let odd = src.len() & 15;
    if odd == 0 {
        return Some(());
    }
    let joint = dst.get_mut(src.len() - odd..)?.first_chunk_mut::<16>()?;
    match src.last_chunk::<16>() {
        Some(end) => {
            let behind = _mm_andnot_si128(front_mask(odd), load(joint));
            store(joint, _mm_or_si128(to_front(load(end), odd), behind));
        }
        None => joint.get_mut(..odd)?.copy_from_slice(src),
    }
    Some(())
}

/// A packet without text.
#[cold]
#[target_feature(enable = "aes,pclmulqdq,avx")]
pub(super) fn empty<const R: usize>(record: &Record, known: &Known, counter: __m128i) -> First {
    let mut mask = _mm_xor_si128(counter, record.round(0));
    for round in 1..R {
        mask = _mm_aesenc_si128(mask, record.round(round));
    }
    mask = _mm_aesenclast_si128(mask, record.round(R));
    let aad = multiply(known.aad, record.power(1));
    First { hash: multiply(_mm_xor_si128(aad, known.lengths), record.power(1)), mask }
}

/// The first `N` blocks and the tag's mask. `LAST`: they are all there is, the last may be short.
#[target_feature(enable = "aes,pclmulqdq,avx")]
fn seal_first<const R: usize, const N: usize, const LAST: bool>(
    record: &Record,
    known: &Known,
    counter: __m128i,
    from: &[Block],
    dst: &mut [u8],
) -> Option<First> {
    // The tag's room counts as one whole block more.
    let last_len = last_len(dst.len());
    let room = dst.as_chunks_mut::<16>().0.first_chunk_mut::<N>()?;
    let (mut mask, mut lanes) = begin::<N>(record, counter);
    let mut sum = Sum::product(known.aad, record.power(N + 1 + usize::from(LAST)));
    if LAST {
        sum.add(known.lengths, record.power(1));
    }
    macro_rules! step {
        ($round:literal) => {
            let key = record.round($round);
            mask = in_order(_mm_aesenc_si128(mask, key));
            for lane in &mut lanes {
                *lane = in_order(_mm_aesenc_si128(*lane, key));
            }
        };
    }
    for_each_round!(R, step);
    mask = _mm_aesenclast_si128(mask, record.round(R));
    for at in 0..N {
        let text = load(from.get(at).unwrap_or(&room[at]));
        lanes[at] = _mm_aesenclast_si128(lanes[at], _mm_xor_si128(text, record.round(R)));
    }
    for at in 0..N {
        store(&mut room[at], lanes[at]);
    }
    if LAST {
        lanes[N - 1] = _mm_and_si128(lanes[N - 1], front_mask(last_len));
    }
    for at in 0..N {
        sum.add(reversed(lanes[at]), record.power(N - at + usize::from(LAST)));
    }
    Some(First { hash: sum.reduce(), mask })
}

/// As [`seal_first`], the other way; the hash is summed between the rounds.
#[target_feature(enable = "aes,pclmulqdq,avx")]
fn open_first<const R: usize, const N: usize, const LAST: bool>(
    record: &Record,
    known: &Known,
    counter: __m128i,
    from: &[Block],
    dst: &mut [u8],
) -> Option<First> {
    let last_len = last_len(dst.len());
    let from = from.first_chunk::<N>()?;
    let (mut mask, mut lanes) = begin::<N>(record, counter);
    let mut sum = Sum::product(known.aad, record.power(N + 1 + usize::from(LAST)));
    if LAST {
        sum.add(known.lengths, record.power(1));
    }
    macro_rules! step {
        ($round:literal) => {
            let key = record.round($round);
            mask = in_order(_mm_aesenc_si128(mask, key));
            for lane in &mut lanes {
                *lane = in_order(_mm_aesenc_si128(*lane, key));
            }
            if $round <= N {
                let mut block = load(&from[$round - 1]);
                if LAST && $round == N {
                    block = _mm_and_si128(block, front_mask(last_len));
                }
                sum.add(reversed(block), record.power(N + 1 - $round + usize::from(LAST)));
            }
        };
    }
    for_each_round!(R, step);
    mask = _mm_aesenclast_si128(mask, record.round(R));
    for at in 0..N {
        let text = _mm_xor_si128(load(&from[at]), record.round(R));
        lanes[at] = _mm_aesenclast_si128(lanes[at], text);
    }
    if LAST && last_len < 16 {
        put_odd(lanes[N - 1], dst);
    }
    let (blocks, _) = dst.as_chunks_mut::<16>();
    for (block, lane) in blocks.iter_mut().zip(lanes) {
        store(block, lane);
    }
    Some(First { hash: sum.reduce(), mask })
}

/// The mask's counter block and those of `N` blocks, under the first round key.
#[inline]
#[target_feature(enable = "avx")]
fn begin<const N: usize>(record: &Record, counter: __m128i) -> (__m128i, [__m128i; N]) {
    let mut lanes = [_mm_setzero_si128(); N];
    for at in 0..N {
        lanes[at] = _mm_xor_si128(near(counter, at + 1), record.round(0));
    }
    (_mm_xor_si128(counter, record.round(0)), lanes)
}

/// Stores the last block of a text that is short of it, before the others are stored.
#[target_feature(enable = "avx")]
fn put_odd(last: __m128i, out: &mut [u8]) {
    let odd = out.len() & 15;
    match out.last_chunk_mut::<16>() {
        // What this writes of the block before is written over afterwards.
        Some(end) => store(end, to_end(last, odd)),
        None => {
            let mut whole = [0; 16];
            store(&mut whole, last);
            out.iter_mut().zip(whole).for_each(|(to, octet)| *to = octet);
        }
    }
}

/// One round of eight lanes, and the product of one block: the powers go down from `TOP`; with 9
/// the last block may be short, with 0 there is none.
macro_rules! eight_step {
    ($round:literal, $top:literal, $record:ident, $lanes:ident, $sum:ident, $hash:ident, $hashed:ident, $last:ident) => {
        let key = $record.round($round);
        for lane in &mut $lanes {
            *lane = in_order(_mm_aesenc_si128(*lane, key));
        }
        if $top > 0 && $round <= 8 {
            let mut block = load(&$hashed[($round - 1) % 8]);
            if $top == 9 && $round == 8 {
                block = _mm_and_si128(block, $last);
            }
            block = reversed(block);
            if $round == 1 {
                block = _mm_xor_si128(block, $hash);
            }
            $sum.add(block, $record.power(($top + 16 - $round) % 16 + 1));
        }
    };
}

/// Eight counter blocks under the first round key.
#[inline]
#[target_feature(enable = "avx")]
fn eight(record: &Record, counter: __m128i) -> [__m128i; 8] {
    let mut lanes = [_mm_setzero_si128(); 8];
    for at in 0..8 {
        let plus = _mm_add_epi32(counter, _mm_set_epi32(at as i32, 0, 0, 0));
        lanes[at] = _mm_xor_si128(turned(plus), record.round(0));
    }
    lanes
}

/// The groups of eight behind the first.
#[target_feature(enable = "aes,pclmulqdq,avx")]
fn seal_rest<const R: usize>(
    record: &Record,
    known: &Known,
    counter: __m128i,
    done: usize,
    hash: __m128i,
    from: &[Block],
    dst: &mut [u8],
) -> Option<__m128i> {
    let last = front_mask(last_len(dst.len()));
    let (whole, rest) = from.as_chunks::<8>();
    let (groups, _) = dst.as_chunks_mut::<16>().0.as_chunks_mut::<8>();
    let mut counter = after(counter, done);
    let mut hash = hash;
    let mut before: Option<&[Block; 8]> = None;
    for (at, group) in groups.iter_mut().enumerate() {
        let mut lanes = eight(record, counter);
        let mut sum = Sum::nothing();
        if let Some(before) = before {
            for_each_round!(R, eight_step, 8, record, lanes, sum, hash, before, last);
            hash = sum.reduce();
        } else {
            for_each_round!(R, eight_step, 0, record, lanes, sum, hash, group, last);
        }
        let text = if let Some(text) = whole.get(at) {
            text
        } else {
            if at == whole.len() {
                for (to, block) in group.iter_mut().zip(rest) {
                    *to = *block;
                }
            }
            &*group
        };
        for (lane, block) in lanes.iter_mut().zip(text) {
            let over = _mm_xor_si128(load(block), record.round(R));
            *lane = _mm_aesenclast_si128(*lane, over);
        }
        for (block, lane) in group.iter_mut().zip(lanes) {
            store(block, lane);
        }
        counter = _mm_add_epi32(counter, _mm_set_epi32(8, 0, 0, 0));
        before = Some(group);
    }
    let before = before?;
    let mut sum = Sum::product(known.lengths, record.power(1));
    for at in 0..8 {
        let mut block = load(&before[at]);
        if at == 7 {
            block = _mm_and_si128(block, last);
        }
        block = reversed(block);
        if at == 0 {
            block = _mm_xor_si128(block, hash);
        }
        sum.add(block, record.power(9 - at));
    }
    Some(sum.reduce())
}

/// As [`seal_rest`], the other way.
#[target_feature(enable = "aes,pclmulqdq,avx")]
fn open_rest<const R: usize>(
    record: &Record,
    known: &Known,
    counter: __m128i,
    done: usize,
    hash: __m128i,
    from: &[Block],
    dst: &mut [u8],
) -> Option<__m128i> {
    let last = front_mask(last_len(dst.len()));
    let (groups, _) = from.as_chunks::<8>();
    let (end, groups) = groups.split_last()?;
    let mut counter = after(counter, done);
    let mut hash = hash;
    let (rooms, _) = dst.as_chunks_mut::<16>().0.as_chunks_mut::<8>();
    for (group, room) in groups.iter().zip(rooms) {
        let mut sum = Sum::nothing();
        let mut lanes = eight(record, counter);
        for_each_round!(R, eight_step, 8, record, lanes, sum, hash, group, last);
        for (lane, block) in lanes.iter_mut().zip(group) {
            let over = _mm_xor_si128(load(block), record.round(R));
            *lane = _mm_aesenclast_si128(*lane, over);
        }
        for (block, lane) in room.iter_mut().zip(lanes) {
            store(block, lane);
        }
        hash = sum.reduce();
        counter = _mm_add_epi32(counter, _mm_set_epi32(8, 0, 0, 0));
    }
    let mut sum = Sum::product(known.lengths, record.power(1));
    let mut lanes = eight(record, counter);
    for_each_round!(R, eight_step, 9, record, lanes, sum, hash, end, last);
    for (lane, block) in lanes.iter_mut().zip(end) {
        let over = _mm_xor_si128(load(block), record.round(R));
        *lane = _mm_aesenclast_si128(*lane, over);
    }
    let room = dst.get_mut(128 * groups.len()..)?;
    if !room.len().is_multiple_of(16) {
        put_odd(lanes[7], room);
    }
    let (blocks, _) = room.as_chunks_mut::<16>();
    for (block, lane) in blocks.iter_mut().zip(lanes) {
        store(block, lane);
    }
    Some(sum.reduce())
}

/// The counter of the block behind the first `done`, in the processor's order.
#[inline]
#[target_feature(enable = "avx")]
pub(super) fn after(counter: __m128i, done: usize) -> __m128i {
    let plus = i32::try_from(done).unwrap_or(0).wrapping_add(1);
    _mm_add_epi32(turned(counter), _mm_set_epi32(plus, 0, 0, 0))
}
