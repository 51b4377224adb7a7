//! Rings between the processes: worker → control ([`crate::event`]).
//!
//! One producer, one consumer. The indices lie in shared memory and are believed only as far
//! as they make sense: a distance larger than the ring means that the other side is broken
//! or another version, and is treated as "everything may have changed". A full ring loses
//! the entry and says so by a flag, never blocks.

use crate::mapping::Mapping;
use std::sync::atomic::{AtomicU64, Ordering};

/// Entries of a ring.
pub(crate) const RING_ENTRIES: u64 = 1024;
/// Words of an entry: one cache line, what the longest event takes.
pub(crate) const ENTRY_WORDS: usize = 8;
/// Place of the producer's index.
const HEAD: usize = 0;
/// Place of the consumer's index, on its own cache line.
const TAIL: usize = 8;
/// Place of the count of lost entries, written by the producer.
const LOST: usize = 16;
/// Place of the lost entries the consumer knows of.
const LOST_SEEN: usize = 24;
/// First word of the entries.
const ENTRIES: usize = 32;
/// Words of a ring.
pub(crate) const RING_WORDS: usize = ENTRIES + RING_ENTRIES as usize * ENTRY_WORDS;

const _: () = assert!(RING_ENTRIES.is_power_of_two());

/// One ring in shared memory; which side one is on is the caller's word.
#[derive(Clone, Debug)]
pub(crate) struct SharedRing {
    mapping: Mapping,
    index: u32,
}

/// What the consumer got.
pub(crate) enum Taken {
    /// The ring is empty.
    Nothing,
    /// The next entry.
    Entry([u64; ENTRY_WORDS]),
    /// Entries were lost, or the indices made no sense.
    Lost,
}

impl SharedRing {
    pub(crate) fn of(mapping: &Mapping, index: u32) -> Option<Self> {
        let ring = Self { mapping: mapping.clone(), index };
        (ring.words()?.len() >= RING_WORDS).then_some(ring)
    }

    fn words(&self) -> Option<&[AtomicU64]> {
        self.mapping.record(self.index)
    }

    fn entry(words: &[AtomicU64], position: u64) -> Option<&[AtomicU64]> {
        let start = ENTRIES + (position & (RING_ENTRIES - 1)) as usize * ENTRY_WORDS;
        words.get(start..start + ENTRY_WORDS)
    }

    /// Producer: false if the ring was full; the loss is then on record.
    pub(crate) fn push(&self, entry: [u64; ENTRY_WORDS]) -> bool {
        let Some(words) = self.words() else { return false };
        let (Some(head), Some(tail), Some(lost)) =
            (words.get(HEAD), words.get(TAIL), words.get(LOST))
        else {
            return false;
        };
        let position = head.load(Ordering::Relaxed);
        let used = position.wrapping_sub(tail.load(Ordering::Acquire));
        let place = Self::entry(words, position).filter(|_| used < RING_ENTRIES);
        let Some(place) = place else {
            lost.store(lost.load(Ordering::Relaxed).wrapping_add(1), Ordering::Release);
            return false;
        };
        for (to, from) in place.iter().zip(entry) {
            to.store(from, Ordering::Relaxed);
        }
        head.store(position.wrapping_add(1), Ordering::Release);
        true
    }

    /// Consumer: the next entry, or news of a loss.
    pub(crate) fn take(&self) -> Taken {
        let Some(words) = self.words() else { return Taken::Nothing };
        let (Some(head), Some(tail)) = (words.get(HEAD), words.get(TAIL)) else {
            return Taken::Nothing;
        };
        if Self::take_loss(words) {
            return Taken::Lost;
        }
        let position = tail.load(Ordering::Relaxed);
        let top = head.load(Ordering::Acquire);
        match top.wrapping_sub(position) {
            0 => Taken::Nothing,
            1..=RING_ENTRIES => {
                let Some(place) = Self::entry(words, position) else { return Taken::Nothing };
                let mut entry = [0; ENTRY_WORDS];
                for (to, from) in entry.iter_mut().zip(place) {
                    *to = from.load(Ordering::Relaxed);
                }
                tail.store(position.wrapping_add(1), Ordering::Release);
                Taken::Entry(entry)
            }
            // No honest producer gets here: start again from where it is.
            _ => {
                tail.store(top, Ordering::Release);
                Taken::Lost
            }
        }
    }

    fn take_loss(words: &[AtomicU64]) -> bool {
        let (Some(lost), Some(seen)) = (words.get(LOST), words.get(LOST_SEEN)) else {
            return false;
        };
        let count = lost.load(Ordering::Acquire);
        let news = count != seen.load(Ordering::Relaxed);
        if news {
            seen.store(count, Ordering::Relaxed);
        }
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Event, EventReceiver, EventSender};
    use crate::sys::Region;
    use proptest::prelude::*;
    use std::sync::Arc;

    proptest! {
        /// Whatever the other side writes into the shared page: bounded work, no panic, and
        /// the ring works again afterwards.
        #[test]
        fn xsk_20_hostile_indices(head in any::<u64>(), tail in any::<u64>(), lost in any::<u64>(),
                                  seen in any::<u64>(), words in any::<[u64; 8]>()) {
            let region = Arc::new(Region::anonymous(RING_WORDS).expect("memory"));
            let mapping = Mapping::new(region, RING_WORDS);
            for (place, value) in [(HEAD, head), (TAIL, tail), (LOST, lost), (LOST_SEEN, seen)] {
                mapping.words()[place].store(value, Ordering::Relaxed);
            }
            for (word, value) in mapping.words()[ENTRIES..].iter().zip(words) {
                word.store(value, Ordering::Relaxed);
            }
            let mut sender = EventSender::of(&mapping, 0).expect("long enough");
            let mut events = EventReceiver::of(&mapping, 0).expect("long enough");
            let event = Event::Acquire { child: 5, packet: None };
            sender.send(event);
            let mut polls = 0;
            while events.poll().is_some() {
                polls += 1;
                prop_assert!(polls <= RING_ENTRIES + 3);
            }
            prop_assert!(sender.send(event));
            prop_assert_eq!(events.poll(), Some(event));
            prop_assert_eq!(events.poll(), None);
            mapping.words()[HEAD].store(head, Ordering::Relaxed);
            let mut polls = 0;
            while events.poll().is_some() {
                polls += 1;
                prop_assert!(polls <= RING_ENTRIES + 3);
            }
        }
    }
}
