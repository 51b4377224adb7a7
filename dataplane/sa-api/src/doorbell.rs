//! The doorbell: what control has changed, for the dataplane's main thread.
//!
//! A bit for each record of both tables, with two levels of summary above, so that both sides
//! do work for changes and not for slots, however many there are. A bit says "look again":
//! a record that changes twice is looked at once, and no number of changes fills anything up.
//!
//! The sender sets from the record up, the receiver clears from the top down. So when a
//! [`DoorbellSender::ring`] has returned, the bit has been taken or will be found. The words lie
//! in shared memory: whatever is in them, a receiver does bounded work and names slots of the
//! table alone.

use crate::mapping::Mapping;
use std::sync::atomic::Ordering;

/// What control says has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ring {
    /// The inbound record of this slot.
    Inbound(u32),
    /// The outbound record of this slot.
    Outbound(u32),
    /// The policy table. Comes after the records that were rung for before it.
    Policies,
    /// Anything may have changed: look at everything.
    Everything,
}

/// Place of the flags.
const FLAGS: usize = 0;
const POLICIES: u64 = 1;
const EVERYTHING: u64 = 2;
/// Words of the head: a cache line.
const HEAD_WORDS: usize = 8;
/// Bits of a word.
const BITS: usize = 64;

/// Where the three levels of a table lie.
#[derive(Clone, Copy, Debug)]
struct Levels {
    top: usize,
    middle: usize,
    bottom: usize,
    end: usize,
}

impl Levels {
    const fn new(start: usize, slots: usize) -> Self {
        let bottom_words = words_for(slots);
        let middle_words = words_for(bottom_words);
        let top_words = words_for(middle_words);
        let middle = start + top_words;
        let bottom = middle + middle_words;
        Self { top: start, middle, bottom, end: bottom + bottom_words }
    }

    const fn pair(slots: u32) -> [Self; 2] {
        let inbound = Self::new(HEAD_WORDS, slots as usize);
        [inbound, Self::new(inbound.end, slots as usize)]
    }
}

/// Words for so many bits, whole cache lines.
const fn words_for(bits: usize) -> usize {
    bits.div_ceil(BITS).next_multiple_of(HEAD_WORDS)
}

/// Words of the doorbell of tables with so many slots.
pub(crate) const fn doorbell_words(slots: u32) -> usize {
    let [_, outbound] = Levels::pair(slots);
    outbound.end
}

/// Control's end of the doorbell.
#[derive(Clone, Debug)]
pub struct DoorbellSender {
    mapping: Mapping,
    levels: [Levels; 2],
    slots: u32,
}

impl DoorbellSender {
    pub(crate) fn of(mapping: &Mapping, slots: u32) -> Option<Self> {
        let whole = mapping.words().len() >= doorbell_words(slots);
        whole.then(|| Self { mapping: mapping.clone(), levels: Levels::pair(slots), slots })
    }

    /// Says what has changed, after it was published.
    pub fn ring(&self, ring: Ring) {
        let [inbound, outbound] = &self.levels;
        match ring {
            Ring::Inbound(slot) => self.mark(inbound, slot),
            Ring::Outbound(slot) => self.mark(outbound, slot),
            Ring::Policies => self.set(FLAGS, POLICIES),
            Ring::Everything => self.set(FLAGS, EVERYTHING),
        }
    }

    fn mark(&self, levels: &Levels, slot: u32) {
        if slot >= self.slots {
            return;
        }
        let slot = slot as usize;
        for (level, bit) in
            [(levels.bottom, slot), (levels.middle, slot / BITS), (levels.top, slot / BITS / BITS)]
        {
            self.set(level + bit / BITS, 1 << (bit % BITS));
        }
    }

    fn set(&self, word: usize, bits: u64) {
        if let Some(word) = self.mapping.words().get(word) {
            word.fetch_or(bits, Ordering::AcqRel);
        }
    }
}

/// One table's bits while they are taken: a word of each level, cleared in shared memory and
/// not dealt with yet.
#[derive(Clone, Copy, Debug, Default)]
struct Walk {
    top: (usize, u64),
    middle: (usize, u64),
    bottom: (usize, u64),
}

/// The dataplane's end of the doorbell.
#[derive(Debug)]
pub struct DoorbellReceiver {
    mapping: Mapping,
    levels: [Levels; 2],
    slots: u32,
    walks: [Walk; 2],
    /// The table that is walked.
    table: usize,
    /// Policies were rung for before this walk began.
    policies: bool,
    walking: bool,
}

impl DoorbellReceiver {
    pub(crate) fn of(mapping: &Mapping, slots: u32) -> Option<Self> {
        let whole = mapping.words().len() >= doorbell_words(slots);
        whole.then(|| Self {
            mapping: mapping.clone(),
            levels: Levels::pair(slots),
            slots,
            walks: [Walk::default(); 2],
            table: 0,
            policies: false,
            walking: false,
        })
    }

    /// The next thing that changed, `None` if nothing has, or when all that was there when the
    /// walk began has been told.
    pub fn poll(&mut self) -> Option<Ring> {
        if !self.walking {
            let flags = self.take(FLAGS);
            self.policies |= flags & POLICIES != 0;
            (self.table, self.walking) = (0, true);
            if flags & EVERYTHING != 0 {
                return Some(Ring::Everything);
            }
        }
        while let Some(slot) = self.next_slot() {
            let ring = if self.table == 0 { Ring::Inbound(slot) } else { Ring::Outbound(slot) };
            if slot < self.slots {
                return Some(ring);
            }
        }
        self.walking = false;
        std::mem::take(&mut self.policies).then_some(Ring::Policies)
    }

    /// Whether policies were rung for and not told yet: a record that is gone may still be in
    /// use until they are.
    #[must_use]
    pub fn policies_are_due(&self) -> bool {
        let flags = self.mapping.words().get(FLAGS);
        self.policies || flags.is_some_and(|word| word.load(Ordering::Acquire) & POLICIES != 0)
    }

    fn take(&self, word: usize) -> u64 {
        match self.mapping.words().get(word) {
            // Most words are clear most of the time, and reading does not take the line away.
            Some(word) if word.load(Ordering::Acquire) != 0 => word.swap(0, Ordering::AcqRel),
            Some(_) | None => 0,
        }
    }

    fn next_slot(&mut self) -> Option<u32> {
        loop {
            let levels = *self.levels.get(self.table)?;
            let mut walk = *self.walks.get(self.table)?;
            let found = self.step(&levels, &mut walk);
            if let Some(place) = self.walks.get_mut(self.table) {
                *place = walk;
            }
            if found.is_some() {
                return found;
            }
            // The table has been walked to its end; the next walk begins at its beginning.
            self.walks.get_mut(self.table).map(std::mem::take)?;
            self.table += 1;
            if self.table == self.levels.len() {
                return None;
            }
        }
    }

    /// The next bit of a table; bits of a word taken earlier come first.
    fn step(&self, levels: &Levels, walk: &mut Walk) -> Option<u32> {
        loop {
            if let Some(bit) = pop(&mut walk.bottom) {
                return u32::try_from(bit).ok();
            }
            if let Some(word) = pop(&mut walk.middle) {
                walk.bottom = (word, self.take_within(levels.bottom, word, levels.end));
                continue;
            }
            if let Some(word) = pop(&mut walk.top) {
                walk.middle = (word, self.take_within(levels.middle, word, levels.bottom));
                continue;
            }
            // `top.0` counts the words of the top level that have been taken.
            let next = walk.top.0;
            if levels.top + next >= levels.middle {
                return None;
            }
            walk.top = (next, self.take(levels.top + next));
            if walk.top.1 == 0 {
                walk.top.0 = next + 1;
            }
        }
    }

    fn take_within(&self, start: usize, word: usize, end: usize) -> u64 {
        if start + word < end { self.take(start + word) } else { 0 }
    }
}

/// The lowest bit of a word of a level, as a position in the level, cleared.
fn pop((word, bits): &mut (usize, u64)) -> Option<usize> {
    if *bits == 0 {
        return None;
    }
    let bit = bits.trailing_zeros() as usize;
    *bits &= *bits - 1;
    Some(*word * BITS + bit)
}

const _: () = assert!(doorbell_words(1 << 20) * 8 < 300 << 10);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::Region;
    use proptest::prelude::*;
    use std::collections::BTreeSet;
    use std::sync::Arc;

    fn pair(slots: u32) -> (Mapping, DoorbellSender, DoorbellReceiver) {
        let words = doorbell_words(slots);
        let mapping = Mapping::new(Arc::new(Region::anonymous(words).expect("memory")), words);
        let sender = DoorbellSender::of(&mapping, slots).expect("long enough");
        let receiver = DoorbellReceiver::of(&mapping, slots).expect("long enough");
        (mapping, sender, receiver)
    }

    fn all(receiver: &mut DoorbellReceiver) -> Vec<Ring> {
        std::iter::from_fn(|| receiver.poll()).collect()
    }

    #[test]
    fn a_million_rings_are_all_told_once_and_nothing_is_lost() {
        let (_, sender, mut receiver) = pair(1 << 20);
        for slot in 0..1 << 20 {
            sender.ring(Ring::Inbound(slot));
            sender.ring(Ring::Outbound(slot));
            sender.ring(Ring::Outbound(slot));
        }
        sender.ring(Ring::Inbound(1 << 20));
        let rings = all(&mut receiver);
        assert_eq!(rings.len(), 2 << 20);
        assert_eq!(rings.first(), Some(&Ring::Inbound(0)));
        assert_eq!(rings.last(), Some(&Ring::Outbound((1 << 20) - 1)));
        assert_eq!(all(&mut receiver), []);
    }

    #[test]
    fn policies_come_after_the_records_that_were_rung_for_before_them() {
        let (_, sender, mut receiver) = pair(100_000);
        sender.ring(Ring::Outbound(99_999));
        assert!(!receiver.policies_are_due());
        sender.ring(Ring::Policies);
        assert!(receiver.policies_are_due());
        sender.ring(Ring::Inbound(5));
        sender.ring(Ring::Everything);
        let expected = [Ring::Everything, Ring::Inbound(5), Ring::Outbound(99_999), Ring::Policies];
        assert_eq!(all(&mut receiver), expected);
        assert!(!receiver.policies_are_due());
        // Rung for in the middle of a walk: with the next one.
        sender.ring(Ring::Inbound(7));
        assert_eq!(receiver.poll(), Some(Ring::Inbound(7)));
        sender.ring(Ring::Outbound(8));
        sender.ring(Ring::Policies);
        assert_eq!(all(&mut receiver), [Ring::Outbound(8)]);
        assert!(receiver.policies_are_due());
        assert_eq!(all(&mut receiver), [Ring::Policies]);
    }

    /// A doorbell that nobody rings costs as many loads as the top level has words.
    #[test]
    fn every_ring_is_found_while_the_other_side_rings() {
        let (_, sender, mut receiver) = pair(70_000);
        let rounds = 200_000_u32;
        let slot = |round: u32| round.wrapping_mul(2_654_435_761) % 70_000;
        let done = std::sync::atomic::AtomicBool::new(false);
        let mut found = BTreeSet::new();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                (0..rounds).for_each(|round| sender.ring(Ring::Outbound(slot(round))));
                done.store(true, Ordering::Release);
            });
            loop {
                let last = done.load(Ordering::Acquire);
                found.extend(all(&mut receiver).into_iter().filter_map(|ring| match ring {
                    Ring::Outbound(slot) => Some(slot),
                    Ring::Inbound(_) | Ring::Policies | Ring::Everything => None,
                }));
                if last {
                    break;
                }
            }
        });
        assert_eq!(found, (0..rounds).map(slot).collect());
    }

    proptest! {
        #[test]
        fn what_is_told_is_what_was_rung_for(
            slots in 1_u32..300_000,
            rings in proptest::collection::vec((any::<u32>(), any::<bool>(), any::<bool>()), 0..300),
        ) {
            let (_, sender, mut receiver) = pair(slots);
            let mut model = BTreeSet::new();
            for (slot, inbound, look) in rings {
                let slot = slot % slots;
                sender.ring(if inbound { Ring::Inbound(slot) } else { Ring::Outbound(slot) });
                model.insert((inbound, slot));
                if look {
                    for ring in all(&mut receiver) {
                        match ring {
                            Ring::Inbound(slot) => prop_assert!(model.remove(&(true, slot))),
                            Ring::Outbound(slot) => prop_assert!(model.remove(&(false, slot))),
                            Ring::Policies | Ring::Everything => prop_assert!(false),
                        }
                    }
                    prop_assert!(model.is_empty());
                }
            }
        }

        /// Whatever the other side writes into the shared page: bounded work, no panic, no slot
        /// past the table, and the doorbell works again afterwards.
        #[test]
        fn xsk_20_hostile_words(slots in 1_u32..9000, words in proptest::collection::vec(any::<u64>(), 1..64)) {
            let (mapping, sender, mut receiver) = pair(slots);
            for (word, value) in mapping.words().iter().zip(words.iter().cycle()) {
                word.store(*value, Ordering::Relaxed);
            }
            let rings = all(&mut receiver);
            prop_assert!(rings.len() <= 2 * slots as usize + 2);
            for ring in rings {
                match ring {
                    Ring::Inbound(slot) | Ring::Outbound(slot) => prop_assert!(slot < slots),
                    Ring::Policies | Ring::Everything => {}
                }
            }
            let more = all(&mut receiver);
            prop_assert!(more.len() <= 2 * slots as usize + 2);
            sender.ring(Ring::Inbound(0));
            prop_assert_eq!(receiver.poll(), Some(Ring::Inbound(0)));
        }
    }
}
