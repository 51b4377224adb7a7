//! The kernel in 512-bit lanes: VAES and VPCLMULQDQ with AVX-512, four blocks a lane.
//!
//! Groups of `G` lanes come first and what is left over last: masked loads and stores take any
//! number of octets, so that one piece of code does for all short ends. `R` is the number of
//! rounds. Each group's hash waits for that of the group before, so `G` is as large as the record
//! has powers for: 4 lanes with 10 rounds, 3 with more. Nothing is interleaved by hand: a group is so few instructions that the processor has
//! several of them under way at once.
#![expect(
    clippy::needless_range_loop,
    reason = "lanes, texts and powers are counted by the same number"
)]

use core::arch::x86_64::{
    __m128i, __m512i, __mmask64, _mm_aesenc_si128, _mm_aesenclast_si128, _mm_set_epi8,
    _mm_testz_si128, _mm_xor_si128, _mm512_add_epi32, _mm512_aesenc_epi128,
    _mm512_aesenclast_epi128, _mm512_broadcast_i32x4, _mm512_clmulepi64_epi128,
    _mm512_mask_storeu_epi8, _mm512_maskz_loadu_epi8, _mm512_maskz_mov_epi8, _mm512_or_si512,
    _mm512_set_epi32, _mm512_setzero_si512, _mm512_shuffle_epi8, _mm512_xor_si512,
};
use core::mem::transmute;

use super::aes_ni::{MAX_TEXT_LEN, first_counter, turned};
use super::block::{load, put_trailer, reversed, store};
use super::hash::{Known, Sum, multiply};
use super::schedule::Record;

mod short;

/// Octets of a lane.
const LANE: usize = 64;

/// Longest texts that take one lane, two, and three; the shortest that take the next.
const ONE_LANE: usize = short::max_len(1);
const TWO_LANES: usize = short::max_len(2);
const THREE_LANES: usize = short::max_len(3);
const TWO_FROM: usize = ONE_LANE + 1;
const THREE_FROM: usize = TWO_LANES + 1;

/// Ones for the first `len` octets of a lane; all if there are more.
#[inline(always)]
const fn front(len: usize) -> __mmask64 {
    if len >= LANE { u64::MAX } else { (1 << len) - 1 }
}

/// Loads a whole lane.
#[inline]
#[target_feature(enable = "avx512f")]
fn load_lane(octets: &[u8; LANE]) -> __m512i {
    // SAFETY: sixty-four octets of any value are a vector.
    unsafe { transmute::<[u8; LANE], __m512i>(*octets) }
}

/// Stores a whole lane.
#[inline]
#[target_feature(enable = "avx512f")]
fn store_lane(octets: &mut [u8; LANE], lane: __m512i) {
    // SAFETY: a vector is sixty-four octets.
    *octets = unsafe { transmute::<__m512i, [u8; LANE]>(lane) };
}

/// Loads what there is, a lane at most, and zeros behind it.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn load_front(octets: &[u8]) -> __m512i {
    // SAFETY: octets that the mask leaves out are not read; the others are the slice's.
    unsafe { _mm512_maskz_loadu_epi8(front(octets.len()), octets.as_ptr().cast()) }
}

/// Stores as much of a lane as there is room for.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn store_front(octets: &mut [u8], lane: __m512i) {
    let mask = front(octets.len());
    // SAFETY: octets that the mask leaves out are not written; the others are the slice's.
    unsafe { _mm512_mask_storeu_epi8(octets.as_mut_ptr().cast(), mask, lane) }
}

/// The four powers from H^`top` down, zeros below H^1.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn powers(record: &Record, top: usize) -> __m512i {
    let blocks = record.powers(top);
    // SAFETY: as in `load_front`: blocks that are not the slice's are not read.
    unsafe { _mm512_maskz_loadu_epi8(front(16 * blocks.len()), blocks.as_ptr().cast()) }
}

/// Four blocks, each reversed.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn reversed_lane(lane: __m512i) -> __m512i {
    let order = _mm_set_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    _mm512_shuffle_epi8(lane, _mm512_broadcast_i32x4(order))
}

/// Sums of four products side by side.
struct Sums {
    low: __m512i,
    middle: __m512i,
    high: __m512i,
}

impl Sums {
    /// Four products.
    #[inline]
    #[target_feature(enable = "avx512f,vpclmulqdq")]
    fn products(lane: __m512i, powers: __m512i) -> Self {
        Self {
            low: _mm512_clmulepi64_epi128::<0x00>(lane, powers),
            middle: _mm512_xor_si512(
                _mm512_clmulepi64_epi128::<0x01>(lane, powers),
                _mm512_clmulepi64_epi128::<0x10>(lane, powers),
            ),
            high: _mm512_clmulepi64_epi128::<0x11>(lane, powers),
        }
    }

    /// Both.
    #[inline]
    #[target_feature(enable = "avx512f,vpclmulqdq")]
    fn and(self, other: Self) -> Self {
        Self {
            low: _mm512_xor_si512(self.low, other.low),
            middle: _mm512_xor_si512(self.middle, other.middle),
            high: _mm512_xor_si512(self.high, other.high),
        }
    }

    /// All four, and those of `sum`.
    #[inline]
    #[target_feature(enable = "avx512f,avx")]
    fn onto(self, sum: Sum) -> Sum {
        Sum {
            low: _mm_xor_si128(sum.low, folded(self.low)),
            middle: _mm_xor_si128(sum.middle, folded(self.middle)),
            high: _mm_xor_si128(sum.high, folded(self.high)),
        }
    }
}

/// The sum of the four blocks of a lane.
#[inline]
#[target_feature(enable = "avx512f,avx")]
fn folded(lane: __m512i) -> __m128i {
    // SAFETY: the same sixty-four octets.
    let [a, b, c, d] = unsafe { transmute::<__m512i, [__m128i; 4]>(lane) };
    _mm_xor_si128(_mm_xor_si128(a, b), _mm_xor_si128(c, d))
}

/// A key under way through one packet.
struct Pass<'a> {
    record: &'a Record,
    /// Counters of the next four blocks, in the processor's order.
    counters: __m512i,
    /// The hash so far.
    hash: __m128i,
    /// 1 while the hash has not been multiplied since its last block was added.
    due: usize,
}

impl<'a> Pass<'a> {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx")]
    fn new(record: &'a Record, known: &Known, counter: __m128i) -> Self {
        let first = _mm512_set_epi32(4, 0, 0, 0, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0);
        let counters = _mm512_add_epi32(_mm512_broadcast_i32x4(turned(counter)), first);
        Self { record, counters, hash: known.aad, due: 1 }
    }

    /// Four counter blocks under the first round key.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx")]
    fn next(&mut self) -> __m512i {
        let order = _mm_set_epi8(12, 13, 14, 15, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
        let blocks = _mm512_shuffle_epi8(self.counters, _mm512_broadcast_i32x4(order));
        let four = _mm512_set_epi32(4, 0, 0, 0, 4, 0, 0, 0, 4, 0, 0, 0, 4, 0, 0, 0);
        self.counters = _mm512_add_epi32(self.counters, four);
        _mm512_xor_si512(blocks, _mm512_broadcast_i32x4(self.record.round(0)))
    }

    /// Text in, text out.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx,vaes")]
    fn cipher<const R: usize, const V: usize>(&mut self, text: [__m512i; V]) -> [__m512i; V] {
        let mut lanes = text;
        for lane in &mut lanes {
            *lane = self.next();
        }
        for round in 1..R {
            let key = _mm512_broadcast_i32x4(self.record.round(round));
            for lane in &mut lanes {
                *lane = _mm512_aesenc_epi128(*lane, key);
            }
        }
        let key = _mm512_broadcast_i32x4(self.record.round(R));
        for at in 0..V {
            lanes[at] = _mm512_aesenclast_epi128(lanes[at], _mm512_xor_si512(text[at], key));
        }
        lanes
    }

    /// Adds a whole group to the hash.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx,vpclmulqdq,pclmulqdq")]
    fn hash<const G: usize>(&mut self, text: [__m512i; G]) {
        let mut sums = Sums::products(reversed_lane(text[0]), powers(self.record, 4 * G));
        for at in 1..G {
            let power = powers(self.record, 4 * (G - at));
            sums = sums.and(Sums::products(reversed_lane(text[at]), power));
        }
        // The only step that waits for the group before.
        let before = Sum::product(self.hash, self.record.power(4 * G + self.due));
        self.hash = sums.onto(before).reduce();
        self.due = 0;
    }

    /// Adds what is left, zeros behind it, and the lengths.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx,vpclmulqdq,pclmulqdq")]
    fn finish<const V: usize>(&mut self, known: &Known, text: [__m512i; V], len: usize) {
        if V > 2 && self.due == 1 {
            // So many blocks and two would need a power more than the record has.
            self.hash = multiply(self.hash, self.record.power(1));
            self.due = 0;
        }
        let blocks = len.div_ceil(16);
        let mut sum = Sum::product(known.lengths, self.record.power(1));
        sum.add(self.hash, self.record.power(blocks + 1 + self.due));
        for at in 0..V {
            let top = powers(self.record, blocks + 1 - 4 * at);
            sum = Sums::products(reversed_lane(text[at]), top).onto(sum);
        }
        self.hash = sum.reduce();
    }
}

/// E(K, J0).
#[inline]
#[target_feature(enable = "aes,avx")]
fn tag_mask<const R: usize>(record: &Record, counter: __m128i) -> __m128i {
    let mut mask = _mm_xor_si128(counter, record.round(0));
    for round in 1..R {
        mask = _mm_aesenc_si128(mask, record.round(round));
    }
    _mm_aesenclast_si128(mask, record.round(R))
}

/// What of `octets` is in a lane, and what behind it.
#[inline(always)]
fn from_lane(octets: &[u8], at: usize) -> &[u8] {
    octets.get(LANE * at..).unwrap_or_default()
}

/// A lane that begins in the source and may end in the trailer.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn joined(src: &[u8], room: &[u8]) -> __m512i {
    if let Some(whole) = src.first_chunk::<LANE>() {
        return load_lane(whole);
    }
    let trailer = front(room.len()) & !front(src.len());
    // SAFETY: octets that the mask leaves out are not read; the others are the slice's.
    let trailer = unsafe { _mm512_maskz_loadu_epi8(trailer, room.as_ptr().cast()) };
    _mm512_or_si512(load_front(src), trailer)
}

/// Seals.
#[target_feature(
    enable = "aes,pclmulqdq,avx,avx512f,avx512bw,avx512vbmi2,bmi2,popcnt,vaes,vpclmulqdq"
)]
pub(super) fn seal<const R: usize, const G: usize>(
    record: &Record,
    nonce: &[u8; 12],
    aad: &[u8],
    src: &[u8],
    trailer: Option<[u8; 8]>,
    dst: &mut [u8],
) -> Option<()> {
    let text_len = dst.len().checked_sub(16)?;
    let behind = text_len.checked_sub(src.len())?;
    if text_len > MAX_TEXT_LEN || (trailer.is_some() && behind > 8) {
        return None;
    }
    let known = Known::new(record, aad, text_len);
    if text_len > THREE_LANES {
        put_trailer(src.len(), trailer, dst)?;
    }
    let (text, tag) = dst.split_last_chunk_mut::<16>()?;
    match text_len {
        ..=ONE_LANE => short::seal::<R, 1>(record, nonce, &known, src, trailer, text, tag),
        TWO_FROM..=TWO_LANES => short::seal::<R, 2>(record, nonce, &known, src, trailer, text, tag),
        THREE_FROM..=THREE_LANES => {
            short::seal::<R, 3>(record, nonce, &known, src, trailer, text, tag)
        }
        _ => return seal_long::<R, G>(record, nonce, &known, src, text, tag),
    }
    Some(())
}

/// Seals more than three lanes.
#[inline(never)]
#[target_feature(enable = "aes,pclmulqdq,avx,avx512f,avx512bw,vaes,vpclmulqdq")]
fn seal_long<const R: usize, const G: usize>(
    record: &Record,
    nonce: &[u8; 12],
    known: &Known,
    src: &[u8],
    text: &mut [u8],
    tag: &mut [u8; 16],
) -> Option<()> {
    let counter = first_counter(nonce);
    let mask = tag_mask::<R>(record, counter);
    let mut pass = Pass::new(record, known, counter);
    let whole = text.len() - text.len() % (LANE * G);
    let (front, end) = text.split_at_mut_checked(whole)?;
    let mut from = src;
    let mut before: Option<[__m512i; G]> = None;
    for group in front.as_chunks_mut::<LANE>().0.as_chunks_mut::<G>().0 {
        let mut lanes = [_mm512_setzero_si512(); G];
        for at in 0..G {
            lanes[at] = joined(from_lane(from, at), &group[at]);
        }
        lanes = pass.cipher::<R, G>(lanes);
        for at in 0..G {
            store_lane(&mut group[at], lanes[at]);
        }
        // A group's hash has its text at once, while the next one is still ciphered.
        if let Some(before) = before.replace(lanes) {
            pass.hash::<G>(before);
        }
        from = from_lane(from, G);
    }
    if let Some(before) = before {
        pass.hash::<G>(before);
    }
    match end.len().div_ceil(LANE) {
        0 => pass.finish::<0>(known, [], 0),
        1 => seal_end::<R, 1>(&mut pass, known, from, end),
        2 => seal_end::<R, 2>(&mut pass, known, from, end),
        3 => seal_end::<R, 3>(&mut pass, known, from, end),
        _ => seal_end::<R, 4>(&mut pass, known, from, end),
    }
    store(tag, _mm_xor_si128(mask, reversed(pass.hash)));
    Some(())
}

/// Seals less than a group.
#[inline]
#[target_feature(enable = "aes,pclmulqdq,avx,avx512f,avx512bw,vaes,vpclmulqdq")]
fn seal_end<const R: usize, const V: usize>(
    pass: &mut Pass<'_>,
    known: &Known,
    src: &[u8],
    end: &mut [u8],
) {
    let mut lanes = [_mm512_setzero_si512(); V];
    for at in 0..V {
        lanes[at] = joined(from_lane(src, at), from_lane(end, at));
    }
    lanes = pass.cipher::<R, V>(lanes);
    for at in 0..V {
        let room = end.get_mut(LANE * at..).unwrap_or_default();
        store_front(room, lanes[at]);
        lanes[at] = _mm512_maskz_mov_epi8(front(room.len()), lanes[at]);
    }
    pass.finish::<V>(known, lanes, end.len());
}

/// Opens; on a wrong tag `dst` is wiped.
#[target_feature(
    enable = "aes,pclmulqdq,avx,avx512f,avx512bw,avx512vbmi2,bmi2,popcnt,vaes,vpclmulqdq"
)]
pub(super) fn open<const R: usize, const G: usize>(
    record: &Record,
    nonce: &[u8; 12],
    aad: &[u8],
    src: &[u8],
    dst: &mut [u8],
) -> Option<()> {
    let (text, tag) = src.split_last_chunk::<16>()?;
    if text.len() > MAX_TEXT_LEN || text.len() != dst.len() {
        return None;
    }
    let known = Known::new(record, aad, text.len());
    match text.len() {
        ..=ONE_LANE => short::open::<R, 1>(record, nonce, &known, text, tag, dst),
        TWO_FROM..=TWO_LANES => short::open::<R, 2>(record, nonce, &known, text, tag, dst),
        THREE_FROM..=THREE_LANES => short::open::<R, 3>(record, nonce, &known, text, tag, dst),
        _ => open_long::<R, G>(record, nonce, &known, text, tag, dst),
    }
}

/// Opens more than three lanes.
#[inline(never)]
#[target_feature(enable = "aes,pclmulqdq,avx,avx512f,avx512bw,vaes,vpclmulqdq")]
fn open_long<const R: usize, const G: usize>(
    record: &Record,
    nonce: &[u8; 12],
    known: &Known,
    text: &[u8],
    tag: &[u8; 16],
    dst: &mut [u8],
) -> Option<()> {
    let counter = first_counter(nonce);
    let mask = tag_mask::<R>(record, counter);
    let mut pass = Pass::new(record, known, counter);
    let whole = text.len() - text.len() % (LANE * G);
    let (front, end) = text.split_at_checked(whole)?;
    let (rooms, room) = dst.split_at_mut_checked(whole)?;
    let groups = front.as_chunks::<LANE>().0.as_chunks::<G>().0;
    for (group, out) in groups.iter().zip(rooms.as_chunks_mut::<LANE>().0.as_chunks_mut::<G>().0) {
        let mut lanes = [_mm512_setzero_si512(); G];
        for at in 0..G {
            lanes[at] = load_lane(&group[at]);
        }
        let plain = pass.cipher::<R, G>(lanes);
        pass.hash::<G>(lanes);
        for at in 0..G {
            store_lane(&mut out[at], plain[at]);
        }
    }
    match end.len().div_ceil(LANE) {
        0 => pass.finish::<0>(known, [], 0),
        1 => open_end::<R, 1>(&mut pass, known, end, room),
        2 => open_end::<R, 2>(&mut pass, known, end, room),
        3 => open_end::<R, 3>(&mut pass, known, end, room),
        _ => open_end::<R, 4>(&mut pass, known, end, room),
    }
    let difference = _mm_xor_si128(_mm_xor_si128(mask, reversed(pass.hash)), load(tag));
    if _mm_testz_si128(difference, difference) == 0 {
        dst.fill(0);
        return None;
    }
    Some(())
}

/// Opens less than a group.
#[inline]
#[target_feature(enable = "aes,pclmulqdq,avx,avx512f,avx512bw,vaes,vpclmulqdq")]
fn open_end<const R: usize, const V: usize>(
    pass: &mut Pass<'_>,
    known: &Known,
    end: &[u8],
    room: &mut [u8],
) {
    let mut lanes = [_mm512_setzero_si512(); V];
    for at in 0..V {
        lanes[at] = load_front(from_lane(end, at));
    }
    let plain = pass.cipher::<R, V>(lanes);
    pass.finish::<V>(known, lanes, end.len());
    for at in 0..V {
        store_front(room.get_mut(LANE * at..).unwrap_or_default(), plain[at]);
    }
}
