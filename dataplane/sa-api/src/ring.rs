//! Rings between the processes: control → dataplane (doorbell), worker → control (events).
//!
//! One producer, one consumer. The indices lie in shared memory and are believed only as far
//! as they make sense: a distance larger than the ring means that the other side is broken
//! or another version, and is treated as "everything may have changed". A full ring loses
//! the entry and says so by a flag, never blocks.

use crate::mapping::Mapping;
use std::sync::atomic::{AtomicU64, Ordering};

/// Entries of a ring.
pub(crate) const RING_ENTRIES: u64 = 1024;
/// Words of an entry.
const ENTRY_WORDS: usize = 2;
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
struct SharedRing {
    mapping: Mapping,
    index: u32,
}

/// What the consumer got.
enum Taken {
    Nothing,
    Entry([u64; ENTRY_WORDS]),
    /// Entries were lost, or the indices made no sense.
    Lost,
}

impl SharedRing {
    fn of(mapping: &Mapping, index: u32) -> Option<Self> {
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
    fn push(&self, entry: [u64; ENTRY_WORDS]) -> bool {
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
    fn take(&self) -> Taken {
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

/// What control says has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ring {
    /// The inbound record of this slot.
    Inbound(u32),
    /// The outbound record of this slot.
    Outbound(u32),
    /// The policy table.
    Policies,
    /// Rings were lost: anything may have changed, look at everything.
    Everything,
}

/// Control's end of the doorbell.
#[derive(Clone, Debug)]
pub struct DoorbellSender(SharedRing);

/// The dataplane's end of the doorbell.
#[derive(Debug)]
pub struct DoorbellReceiver(SharedRing);

const RING_INBOUND: u64 = 1;
const RING_OUTBOUND: u64 = 2;
const RING_POLICIES: u64 = 3;
const RING_EVERYTHING: u64 = 4;

impl DoorbellSender {
    pub(crate) fn of(mapping: &Mapping) -> Option<Self> {
        SharedRing::of(mapping, 0).map(Self)
    }

    /// Says what has changed, after it was published. If the ring is full the receiver is
    /// told to look at everything.
    pub fn ring(&self, ring: Ring) {
        let entry = match ring {
            Ring::Inbound(slot) => [RING_INBOUND, slot.into()],
            Ring::Outbound(slot) => [RING_OUTBOUND, slot.into()],
            Ring::Policies => [RING_POLICIES, 0],
            Ring::Everything => [RING_EVERYTHING, 0],
        };
        self.0.push(entry);
    }
}

impl DoorbellReceiver {
    pub(crate) fn of(mapping: &Mapping) -> Option<Self> {
        SharedRing::of(mapping, 0).map(Self)
    }

    /// The next thing that changed, `None` if nothing has.
    pub fn poll(&mut self) -> Option<Ring> {
        match self.0.take() {
            Taken::Nothing => None,
            Taken::Lost => Some(Ring::Everything),
            Taken::Entry([kind, slot]) => Some(match (kind, u32::try_from(slot)) {
                (RING_INBOUND, Ok(slot)) => Ring::Inbound(slot),
                (RING_OUTBOUND, Ok(slot)) => Ring::Outbound(slot),
                (RING_POLICIES, _) => Ring::Policies,
                _ => Ring::Everything,
            }),
        }
    }
}

/// Which table a slot is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// `sa_in`.
    Inbound,
    /// `sa_out`.
    Outbound,
}

/// What a worker tells control.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A soft limit was reached: time to replace the SA.
    SoftExpiry {
        /// Table.
        direction: Direction,
        /// Slot.
        slot: u32,
        /// SPI, in case the slot has been used anew since.
        spi: u32,
    },
    /// A hard limit was reached: the SA takes no more packets.
    HardExpiry {
        /// Table.
        direction: Direction,
        /// Slot.
        slot: u32,
        /// SPI, in case the slot has been used anew since.
        spi: u32,
    },
    /// Many packets of an SA failed their integrity check.
    IntegrityAlarm {
        /// Slot in `sa_in`.
        slot: u32,
        /// SPI.
        spi: u32,
    },
    /// Traffic wants an SA that is not there.
    Acquire {
        /// The child whose policy selects the traffic.
        child: u32,
    },
    /// Events were lost: state must be looked at.
    Lost,
}

const EVENT_SOFT: u64 = 1;
const EVENT_HARD: u64 = 2;
const EVENT_INTEGRITY: u64 = 3;
const EVENT_ACQUIRE: u64 = 4;
/// Set beside the kind for `sa_out`.
const EVENT_OUTBOUND: u64 = 1 << 8;

/// A worker's end of its ring of events.
#[derive(Debug)]
pub struct EventSender(SharedRing);

/// Control's end of a worker's ring of events.
#[derive(Debug)]
pub struct EventReceiver(SharedRing);

fn about(kind: u64, direction: Direction, slot: u32, spi: u32) -> [u64; ENTRY_WORDS] {
    let direction = match direction {
        Direction::Inbound => 0,
        Direction::Outbound => EVENT_OUTBOUND,
    };
    [kind | direction, u64::from(slot) | (u64::from(spi) << 32)]
}

impl EventSender {
    pub(crate) fn of(mapping: &Mapping, worker: u32) -> Option<Self> {
        SharedRing::of(mapping, worker).map(Self)
    }

    /// Sends an event; false if the ring was full, which control will learn.
    pub fn send(&mut self, event: Event) -> bool {
        let entry = match event {
            Event::SoftExpiry { direction, slot, spi } => about(EVENT_SOFT, direction, slot, spi),
            Event::HardExpiry { direction, slot, spi } => about(EVENT_HARD, direction, slot, spi),
            Event::IntegrityAlarm { slot, spi } => {
                about(EVENT_INTEGRITY, Direction::Inbound, slot, spi)
            }
            Event::Acquire { child } => [EVENT_ACQUIRE, child.into()],
            Event::Lost => [0, 0],
        };
        self.0.push(entry)
    }
}

impl EventReceiver {
    pub(crate) fn of(mapping: &Mapping, worker: u32) -> Option<Self> {
        SharedRing::of(mapping, worker).map(Self)
    }

    /// The next event, `None` if there is none.
    pub fn poll(&mut self) -> Option<Event> {
        let [kind, about] = match self.0.take() {
            Taken::Nothing => return None,
            Taken::Lost => return Some(Event::Lost),
            Taken::Entry(entry) => entry,
        };
        let (slot, spi) = (about as u32, (about >> 32) as u32);
        let direction =
            if kind & EVENT_OUTBOUND == 0 { Direction::Inbound } else { Direction::Outbound };
        Some(match kind & !EVENT_OUTBOUND {
            EVENT_SOFT => Event::SoftExpiry { direction, slot, spi },
            EVENT_HARD => Event::HardExpiry { direction, slot, spi },
            EVENT_INTEGRITY => Event::IntegrityAlarm { slot, spi },
            EVENT_ACQUIRE => Event::Acquire { child: slot },
            _ => Event::Lost,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
            let sender = DoorbellSender::of(&mapping).expect("long enough");
            let mut receiver = DoorbellReceiver::of(&mapping).expect("long enough");
            sender.ring(Ring::Policies);
            let mut polls = 0;
            while receiver.poll().is_some() {
                polls += 1;
                prop_assert!(polls <= RING_ENTRIES + 3);
            }
            sender.ring(Ring::Inbound(5));
            prop_assert_eq!(receiver.poll(), Some(Ring::Inbound(5)));
            prop_assert_eq!(receiver.poll(), None);
            let mut events = EventReceiver::of(&mapping, 0).expect("long enough");
            mapping.words()[HEAD].store(head, Ordering::Relaxed);
            let mut polls = 0;
            while events.poll().is_some() {
                polls += 1;
                prop_assert!(polls <= RING_ENTRIES + 3);
            }
        }
    }
}
