//! The arena of replay windows: plain words that outlive the worker.
//!
//! Control gives each inbound SA a range; the worker that owns the SA claims it and then has
//! it as plain memory, at the cost of plain memory. Claims are exclusive within a process,
//! and only the dataplane claims.

use crate::sys::Region;
use std::collections::BTreeMap;
use std::fmt;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, PoisonError};

/// Words to allot for a replay window of `window` packets: the ring of RFC 6479, a power of
/// two of words of which one is always being cleared, two words of state, rounded up to
/// whole cache lines. 0 if the window is off.
#[must_use]
pub const fn replay_words_for(window: u32) -> u32 {
    if window == 0 {
        return 0;
    }
    let ring = (window.div_ceil(64) + 1).next_power_of_two();
    (ring + 2).next_multiple_of(8)
}

/// Ranges handed out in this process: first word → length.
#[derive(Debug, Default)]
struct Claims(Mutex<BTreeMap<u32, u32>>);

impl Claims {
    fn take(&self, offset: u32, len: u32) -> bool {
        let Some(end) = offset.checked_add(len) else { return false };
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = taken.range(..end).next_back();
        let free = before.is_none_or(|(start, len)| start.saturating_add(*len) <= offset);
        if free {
            taken.insert(offset, len);
        }
        free
    }

    fn give_back(&self, offset: u32) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&offset);
    }
}

/// Why a range cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClaimError {
    /// It is empty or reaches past the arena.
    OutOfRange,
    /// Part of it is claimed already.
    Taken,
}

impl fmt::Display for ClaimError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OutOfRange => "the replay range is not within the arena",
            Self::Taken => "the replay range overlaps one in use",
        })
    }
}

impl std::error::Error for ClaimError {}

/// The memory and who has which part of it.
#[derive(Debug)]
pub(crate) struct Arena {
    region: Arc<Region>,
    claims: Claims,
}

impl Arena {
    pub(crate) fn new(region: Arc<Region>) -> Self {
        Self { region, claims: Claims::default() }
    }
}

/// Exclusive words of the arena; the range is free again on drop, its content stays. No larger
/// than it must be, for every SA has one.
#[derive(Debug)]
pub struct ReplayWords {
    words: NonNull<u64>,
    offset: u32,
    len: u32,
    /// Keeps the memory mapped.
    arena: Arc<Arena>,
}

// SAFETY: the claim is exclusive and the memory belongs to no thread.
unsafe impl Send for ReplayWords {}

impl ReplayWords {
    pub(crate) fn claim(arena: &Arc<Arena>, offset: u32, len: u32) -> Result<Self, ClaimError> {
        let end = offset.checked_add(len).ok_or(ClaimError::OutOfRange)?;
        if len == 0 || end as usize > arena.region.words().len() {
            return Err(ClaimError::OutOfRange);
        }
        if !arena.claims.take(offset, len) {
            return Err(ClaimError::Taken);
        }
        // SAFETY: `claims` has just recorded the range as ours, so no other `ReplayWords` of
        // this process covers it, and the `Arc` beside it keeps the region mapped.
        let words = unsafe { arena.region.exclusive(offset as usize, len as usize) };
        let words = words.ok_or(ClaimError::OutOfRange)?.cast();
        Ok(Self { words, offset, len, arena: Arc::clone(arena) })
    }
}

impl AsRef<[u64]> for ReplayWords {
    #[inline(always)]
    fn as_ref(&self) -> &[u64] {
        let words = NonNull::slice_from_raw_parts(self.words, self.len as usize);
        // SAFETY: `len` words from here are within the region we hold; exclusive by the claim.
        unsafe { words.as_ref() }
    }
}

impl AsMut<[u64]> for ReplayWords {
    #[inline(always)]
    fn as_mut(&mut self) -> &mut [u64] {
        let mut words = NonNull::slice_from_raw_parts(self.words, self.len as usize);
        // SAFETY: `len` words from here are within the region we hold; exclusive by the claim.
        unsafe { words.as_mut() }
    }
}

const _: () = assert!(size_of::<ReplayWords>() == 24);

impl Drop for ReplayWords {
    fn drop(&mut self) {
        self.arena.claims.give_back(self.offset);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_hold_the_ring_and_its_state() {
        assert_eq!(replay_words_for(0), 0);
        assert_eq!(replay_words_for(64), 8);
        assert_eq!(replay_words_for(1024), 40);
        assert_eq!(replay_words_for(1 << 20), 32_776);
        for window in 64..5000 {
            let words = replay_words_for(window) - 2;
            assert!((words - 1) * 64 >= window);
        }
    }

    #[test]
    fn a_range_has_one_claimant() {
        let region = Arc::new(Region::anonymous(128).expect("memory"));
        let arena = Arc::new(Arena::new(region));
        let claim = |offset, len| ReplayWords::claim(&arena, offset, len);
        let mut first = claim(40, 40).expect("free");
        first.as_mut()[0] = 7;
        assert_eq!(claim(0, 41).err(), Some(ClaimError::Taken));
        assert_eq!(claim(79, 1).err(), Some(ClaimError::Taken));
        assert_eq!(claim(50, 2).err(), Some(ClaimError::Taken));
        assert!(claim(0, 40).is_ok());
        assert!(claim(80, 48).is_ok());
        assert_eq!(claim(80, 49).err(), Some(ClaimError::OutOfRange));
        assert_eq!(claim(0, 0).err(), Some(ClaimError::OutOfRange));
        assert_eq!(claim(u32::MAX, 2).err(), Some(ClaimError::OutOfRange));
        drop(first);
        assert_eq!(claim(40, 40).expect("free again").as_ref()[0], 7);
    }
}
