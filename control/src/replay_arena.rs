//! Which words of the replay arena are free: first fit over what the records say.

use std::collections::BTreeMap;

/// Ranges in use: first word → length.
#[derive(Clone, Debug, Default)]
pub struct ReplayArena {
    used: BTreeMap<u32, u32>,
    words: u32,
}

impl ReplayArena {
    /// An arena of so many words, of which these ranges are taken.
    #[must_use]
    pub fn new(words: u32, used: impl IntoIterator<Item = (u32, u32)>) -> Self {
        Self { used: used.into_iter().collect(), words }
    }

    /// Takes a free range of this length, at the end of what is used if there is room, else
    /// the first that fits; a length of 0 is at 0 and takes nothing.
    pub fn take(&mut self, len: u32) -> Option<u32> {
        if len == 0 {
            return Some(0);
        }
        let end = self.used.last_key_value().map_or(0, |(at, used)| at.saturating_add(*used));
        if end.checked_add(len).is_some_and(|last| last <= self.words) {
            self.used.insert(end, len);
            return Some(end);
        }
        let mut start = 0_u32;
        for (offset, used) in &self.used {
            if offset.saturating_sub(start) >= len {
                break;
            }
            start = start.max(offset.saturating_add(*used));
        }
        let fits = start.checked_add(len).is_some_and(|end| end <= self.words);
        fits.then(|| {
            self.used.insert(start, len);
            start
        })
    }

    /// Gives a range back that begins here.
    pub fn give_back(&mut self, offset: u32) {
        self.used.remove(&offset);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_found_and_the_end_is_kept() {
        let mut arena = ReplayArena::new(100, [(0, 10), (20, 10), (90, 10)]);
        assert_eq!(arena.take(10), Some(10));
        assert_eq!(arena.take(50), Some(30));
        assert_eq!(arena.take(11), None);
        assert_eq!(arena.take(10), Some(80));
        assert_eq!(arena.take(1), None);
        assert_eq!(arena.take(0), Some(0));
        assert_eq!(ReplayArena::new(8, []).take(8), Some(0));
        let mut arena = ReplayArena::new(100, [(0, 10), (20, 10)]);
        assert_eq!(arena.take(10), Some(30), "without a search");
        arena.give_back(20);
        assert_eq!((arena.take(60), arena.take(20)), (Some(40), Some(10)));
        assert_eq!(ReplayArena::new(8, [(u32::MAX, 9)]).take(9), None);
    }
}
