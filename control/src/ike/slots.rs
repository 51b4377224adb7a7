//! Which slots of the shared tables negotiated SAs get: the one that has been free for longest.
//!
//! An inbound SPI says its worker and slot, so a slot is chosen, and kept, when the SPI is
//! given to the core, long before there are keys. The tables are scanned when the
//! configuration is applied; after that each SA costs the same however many there are.

use crate::replay_arena::ReplayArena;
use crate::spi::SpiAllocator;
use std::collections::{BTreeMap, HashSet, VecDeque};
use xswan_sa_api::SharedMaps;

/// Slots that are looked at in vain before one is refused: those whose workers have not let go.
const TRIES: usize = 256;

/// Free slots of both tables, and the replay arena.
#[derive(Debug)]
pub struct Slots {
    spis: SpiAllocator,
    /// SPIs of static SAs: never drawn.
    statics: BTreeMap<u32, u32>,
    workers: u32,
    turn: u32,
    inbound: VecDeque<u32>,
    outbound: VecDeque<u32>,
    /// Inbound slots whose SPI the core has.
    reserved: HashSet<u32>,
    arena: ReplayArena,
}

impl Slots {
    /// Nothing is free until the tables have been [scanned](Self::scan).
    #[must_use]
    pub fn new(maps: &SharedMaps) -> Self {
        let geometry = maps.geometry();
        Self {
            spis: SpiAllocator::new(maps.spi_key(), geometry),
            statics: BTreeMap::new(),
            workers: geometry.workers.max(1),
            turn: 0,
            inbound: VecDeque::new(),
            outbound: VecDeque::new(),
            reserved: HashSet::new(),
            arena: ReplayArena::default(),
        }
    }

    /// Takes stock: what is not in use now is free, or will be when its worker has let go.
    /// Slots that held a static SA are taken last: they may have to remember it.
    pub fn scan(
        &mut self,
        maps: &SharedMaps,
        statics: &BTreeMap<u32, u32>,
        in_use: (&HashSet<u32>, &HashSet<u32>),
    ) {
        self.statics.clone_from(statics);
        let slots = 0..maps.geometry().sa_slots;
        let foreign = |slot: &u32| {
            let held = maps.inbound_retired_spi(*slot);
            held.is_some_and(|spi| self.spis.place_of(spi, statics).map(|at| at.1) != Some(*slot))
        };
        let free = slots.clone().filter(|slot| !in_use.0.contains(slot));
        let free = free.filter(|slot| !self.reserved.contains(slot));
        let (last, first): (Vec<_>, Vec<_>) = free.partition(foreign);
        self.inbound = first.into_iter().chain(last).collect();
        self.outbound = slots.clone().filter(|slot| !in_use.1.contains(slot)).collect();
        let ranges = slots.filter_map(|slot| maps.replay_range(slot));
        self.arena = ReplayArena::new(maps.geometry().replay_words, ranges);
    }

    /// Draws an SPI; its slot is kept for it. `None`: all slots are in use.
    pub fn reserve(&mut self, maps: &SharedMaps) -> Option<u32> {
        for _ in 0..TRIES.min(self.inbound.len()) {
            let slot = self.inbound.pop_front()?;
            let worker = self.turn % self.workers;
            let spi = maps
                .inbound_is_free(slot)
                .then(|| self.spis.spi(worker, slot, &self.statics))
                .flatten();
            if let Some(spi) = spi {
                self.turn = self.turn.wrapping_add(1);
                self.reserved.insert(slot);
                return Some(spi);
            }
            self.inbound.push_back(slot);
        }
        None
    }

    /// Keeps the slot of an SPI that was drawn in an earlier life: before the first scan.
    pub fn reserve_again(&mut self, spi: u32) {
        if let Some((_, slot)) = self.place_of(spi) {
            self.reserved.insert(slot);
        }
    }

    /// The SPI that was drawn will not be used.
    pub fn release(&mut self, spi: u32) {
        if let Some((_, slot)) = self.place_of(spi)
            && self.reserved.remove(&slot)
        {
            self.inbound.push_back(slot);
        }
    }

    /// Worker and slot of an SPI drawn here.
    #[must_use]
    pub fn place_of(&self, spi: u32) -> Option<(u16, u32)> {
        let (worker, slot) = self.spis.place_of(spi, &self.statics)?;
        Some((worker as u16, slot))
    }

    /// The inbound slots that are kept for SPIs.
    pub fn reserved(&self) -> impl Iterator<Item = u32> {
        self.reserved.iter().copied()
    }

    /// The slot of a reserved SPI is in use from now on.
    pub fn claim(&mut self, slot: u32) {
        self.reserved.remove(&slot);
    }

    /// A free outbound slot.
    pub fn take_outbound(&mut self, maps: &SharedMaps) -> Option<u32> {
        for _ in 0..TRIES.min(self.outbound.len()) {
            let slot = self.outbound.pop_front()?;
            if maps.outbound_is_free(slot) {
                return Some(slot);
            }
            self.outbound.push_back(slot);
        }
        None
    }

    /// An inbound slot was retired.
    pub fn give_back_inbound(&mut self, slot: u32) {
        self.inbound.push_back(slot);
    }

    /// An outbound slot was retired.
    pub fn give_back_outbound(&mut self, slot: u32) {
        self.outbound.push_back(slot);
    }

    /// First word of a replay state of this length for a free slot: what the slot has, or
    /// something new, if need be at the cost of what other free slots remember.
    pub fn replay_range(&mut self, maps: &SharedMaps, slot: u32, len: u32) -> Option<u32> {
        match maps.replay_range(slot) {
            Some((offset, has)) if has == len => return Some(offset),
            Some(_) => self.forget(maps, slot),
            None => {}
        }
        if let Some(offset) = self.arena.take(len) {
            return Some(offset);
        }
        for _ in 0..self.inbound.len() {
            let other = self.inbound.pop_front()?;
            self.inbound.push_back(other);
            if maps.replay_range(other).is_some() {
                self.forget(maps, other);
                if let Some(offset) = self.arena.take(len) {
                    return Some(offset);
                }
            }
        }
        None
    }

    fn forget(&mut self, maps: &SharedMaps, slot: u32) {
        if let Some((offset, _)) = maps.replay_range(slot)
            && maps.forget_inbound(slot)
        {
            self.arena.give_back(offset);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use xswan_sa_api::Geometry;

    fn maps(sa_slots: u32, workers: u32) -> SharedMaps {
        let geometry = Geometry { sa_slots, policies: 8, replay_words: 4096, workers, member: 3 };
        SharedMaps::in_memory(&geometry).expect("memory")
    }

    #[test]
    fn every_slot_is_given_once_and_workers_take_turns() {
        let maps = maps(64, 4);
        let mut slots = Slots::new(&maps);
        assert_eq!(slots.reserve(&maps), None, "nothing is free before the scan");
        slots.scan(&maps, &BTreeMap::new(), (&HashSet::from([5, 6]), &HashSet::new()));
        let drawn: Vec<u32> = std::iter::from_fn(|| slots.reserve(&maps)).collect();
        let places: Vec<_> = drawn.iter().filter_map(|spi| slots.place_of(*spi)).collect();
        let distinct: HashSet<u32> = places.iter().map(|(_, slot)| *slot).collect();
        assert_eq!((places.len(), distinct.len()), (drawn.len(), drawn.len()));
        assert!(drawn.len() >= 60 && !distinct.contains(&5) && !distinct.contains(&6));
        for worker in 0..4 {
            let owned = places.iter().filter(|(owner, _)| *owner == worker).count();
            assert!((14..=17).contains(&owned), "worker {worker}: {owned}");
        }
        // Reserved ones stay so over a new scan; released ones come back.
        slots.scan(&maps, &BTreeMap::new(), (&HashSet::from([5, 6]), &HashSet::new()));
        let more = std::iter::from_fn(|| slots.reserve(&maps)).count();
        assert!(more <= 2, "{more}");
        slots.release(drawn[0]);
        slots.release(drawn[0]);
        assert_eq!(
            slots.reserve(&maps).and_then(|spi| slots.place_of(spi)).map(|at| at.1),
            Some(places[0].1)
        );
        assert_eq!(slots.reserve(&maps), None);
    }

    #[test]
    fn replay_ranges_are_reused_and_reclaimed() {
        let geometry =
            Geometry { sa_slots: 4, policies: 8, replay_words: 80, workers: 1, member: 0 };
        let maps = SharedMaps::in_memory(&geometry).expect("memory");
        let mut slots = Slots::new(&maps);
        slots.scan(&maps, &BTreeMap::new(), (&HashSet::new(), &HashSet::new()));
        assert_eq!(slots.replay_range(&maps, 0, 40), Some(0));
        assert_eq!(slots.replay_range(&maps, 1, 40), Some(40));
        assert_eq!(slots.replay_range(&maps, 2, 40), None, "the arena is full");
        assert_eq!(slots.replay_range(&maps, 2, 0), Some(0), "no window, no words");
    }
}
