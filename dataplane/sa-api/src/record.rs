//! A record's config half: a generation and a body, readable while it is being written.
//!
//! One writer, any number of readers, no lock. The generation is odd while the body is
//! written and even otherwise, and never goes back. The body is words of relaxed atomics,
//! so a reader that races the writer reads old or new words, sees the generation move and
//! says so. A writer killed half-way leaves an odd generation; the next writer starts from
//! there and readers keep what they had.

use crate::algorithm::{KEY_WORDS, Key, codec};
use std::sync::atomic::{AtomicU64, Ordering, fence};
use zeroize::Zeroize as _;

/// Words of the config half, the generation among them.
pub(crate) const CONFIG_WORDS: usize = 32;
/// Words of the live half.
pub(crate) const LIVE_WORDS: usize = 8;
/// Words of an SA record.
pub(crate) const RECORD_WORDS: usize = CONFIG_WORDS + LIVE_WORDS;
/// Words of the body: all of the config half but generation and identity.
pub(crate) const BODY_WORDS: usize = CONFIG_WORDS - 2;

/// Place of the generation.
const GENERATION: usize = 0;
/// Place of the identity: which key the live half belongs to. Outside the sequence lock,
/// so that it is whole whenever the writer dies.
const IDENTITY: usize = 1;
/// First word of the body.
const BODY: usize = 2;

// Both halves on cache lines of their own.
const _: () = assert!((CONFIG_WORDS * 8).is_multiple_of(64));
const _: () = assert!((LIVE_WORDS * 8).is_multiple_of(64));
const _: () = assert!(RECORD_WORDS * 8 == 320);

/// The words of a body.
pub(crate) type Body = [u64; BODY_WORDS];

/// First word of the lifetimes in a body of either direction.
const LIFETIME_WORD: usize = 9;
/// Words of the lifetimes.
const LIFETIME_WORDS: usize = 7;
/// First word of the key in a body of either direction: the longest field, so the last.
const KEY_WORD: usize = LIFETIME_WORD + LIFETIME_WORDS;

const _: () = assert!(KEY_WORD + KEY_WORDS <= BODY_WORDS);

/// A body from what comes first in one direction or the other, lifetimes and key.
pub(crate) fn body(
    front: [u64; LIFETIME_WORD],
    lifetimes: [u64; LIFETIME_WORDS],
    key: &Key,
) -> Body {
    let mut key_words = codec::key_to_words(key);
    let mut body = [0; BODY_WORDS];
    let words = front.iter().chain(&lifetimes).chain(&key_words);
    for (to, from) in body.iter_mut().zip(words) {
        *to = *from;
    }
    key_words.zeroize();
    body
}

/// The parts of a body, the key apart.
pub(crate) fn parts(body: &Body) -> ([u64; LIFETIME_WORD], [u64; LIFETIME_WORDS]) {
    let (mut front, mut lifetimes) = ([0; LIFETIME_WORD], [0; LIFETIME_WORDS]);
    for (to, from) in front.iter_mut().chain(&mut lifetimes).zip(body) {
        *to = *from;
    }
    (front, lifetimes)
}

/// The key of so many octets in a body.
pub(crate) fn key_in(body: &Body, len: u8) -> Option<Key> {
    let words = body.get(KEY_WORD..)?.first_chunk::<KEY_WORDS>()?;
    codec::key_from_words(words, len)
}

/// Wipes the key in a body.
pub(crate) fn wipe_key(body: &mut Body) {
    if let Some(key) = body.get_mut(KEY_WORD..) {
        key.zeroize();
    }
}

/// What a record says.
#[derive(Debug, PartialEq, Eq)]
pub enum Read<T> {
    /// No SA. The generation is for the acknowledgement.
    Empty {
        /// Generation of the removal; 0 if the slot was never used.
        generation: u64,
    },
    /// Being written at this moment, or its writer died: keep what was applied, read again later.
    Torn,
    /// An SA.
    Present {
        /// Generation to acknowledge once the SA is in use.
        generation: u64,
        /// The SA.
        config: T,
    },
    /// Whole, but not an SA this version can read: acknowledge, and treat as empty.
    Invalid {
        /// Generation for the acknowledgement.
        generation: u64,
        /// The field that cannot be read.
        field: &'static str,
    },
}

/// The config half of one record.
#[derive(Clone, Copy)]
pub(crate) struct ConfigHalf<'a> {
    generation: &'a AtomicU64,
    identity: &'a AtomicU64,
    body: &'a [AtomicU64],
}

impl<'a> ConfigHalf<'a> {
    /// The config half at the head of a record; `None` if the record is too short.
    pub(crate) fn of(record: &'a [AtomicU64]) -> Option<Self> {
        Some(Self {
            generation: record.get(GENERATION)?,
            identity: record.get(IDENTITY)?,
            body: record.get(BODY..BODY + BODY_WORDS)?,
        })
    }

    /// Which key the live half belongs to; 0 for none.
    pub(crate) fn identity(&self) -> u64 {
        self.identity.load(Ordering::Acquire)
    }

    /// Says which key the live half belongs to.
    pub(crate) fn set_identity(&self, identity: u64) {
        self.identity.store(identity, Ordering::Release);
    }

    /// Replaces the body; returns the new generation.
    pub(crate) fn write(&self, body: &Body) -> u64 {
        write_locked(self.generation, || {
            for (to, from) in self.body.iter().zip(body) {
                to.store(*from, Ordering::Relaxed);
            }
        })
    }

    /// The generation and the body, or `None` if it was being written.
    pub(crate) fn read(&self) -> Option<(u64, Body)> {
        read_locked(self.generation, || self.peek())
    }

    /// The body as it lies there, whole or not.
    pub(crate) fn peek(&self) -> Body {
        let mut body = [0; BODY_WORDS];
        for (to, from) in body.iter_mut().zip(self.body) {
            *to = from.load(Ordering::Relaxed);
        }
        body
    }
}

/// The writer's side of the sequence lock; returns the new, even generation.
pub(crate) fn write_locked(generation: &AtomicU64, write: impl FnOnce()) -> u64 {
    // Odd already if the last writer died: then this write completes on the same number.
    let odd = generation.load(Ordering::Relaxed) | 1;
    generation.store(odd, Ordering::Relaxed);
    // The odd generation is visible before any word of the body.
    fence(Ordering::Release);
    write();
    let even = odd.wrapping_add(1);
    generation.store(even, Ordering::Release);
    even
}

/// The reader's side: the generation and what `read` saw, or `None` if it may be mixed.
pub(crate) fn read_locked<T>(generation: &AtomicU64, read: impl FnOnce() -> T) -> Option<(u64, T)> {
    let before = generation.load(Ordering::Acquire);
    if before & 1 == 1 {
        return None;
    }
    let value = read();
    // The words were loaded before the generation is looked at again.
    fence(Ordering::Acquire);
    (generation.load(Ordering::Relaxed) == before).then_some((before, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Vec<AtomicU64> {
        (0..RECORD_WORDS).map(|_| AtomicU64::new(0)).collect()
    }

    #[test]
    fn a_reader_never_sees_a_mixture() {
        let record = record();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let half = ConfigHalf::of(&record).expect("long enough");
                for value in 1..=200_000_u64 {
                    half.write(&[value; BODY_WORDS]);
                }
            });
            for _ in 0..2 {
                scope.spawn(|| {
                    let half = ConfigHalf::of(&record).expect("long enough");
                    let mut last = 0;
                    while last < 400_000 {
                        let Some((generation, body)) = half.read() else { continue };
                        assert!(generation >= last, "generation went back");
                        assert!(body.iter().all(|word| *word * 2 == generation));
                        last = generation;
                    }
                });
            }
        });
    }

    #[test]
    fn a_dead_writer_leaves_a_torn_record_and_the_next_one_mends_it() {
        let record = record();
        let half = ConfigHalf::of(&record).expect("long enough");
        assert_eq!(half.write(&[7; BODY_WORDS]), 2);
        record[GENERATION].store(3, Ordering::Relaxed);
        record[BODY + 4].store(8, Ordering::Relaxed);
        assert!(half.read().is_none());
        assert_eq!(half.write(&[9; BODY_WORDS]), 4);
        assert_eq!(half.read(), Some((4, [9; BODY_WORDS])));
    }
}
