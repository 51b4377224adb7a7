//! A worker's SAs: inbound by SPI, outbound by slot.
//!
//! An SPI of our own drawing is an index under a permutation; one that was given from
//! outside (manual keys) is found through a small hash index that is empty otherwise. Either
//! way the SA's full SPI is compared, so a wrong guess finds nothing.

use alloc::boxed::Box;
use alloc::vec::Vec;
use xswan_steer::spi::SpiKey;

/// Where an inbound packet belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// In this slot of this worker.
    Here(usize),
    /// In another worker's hands, as far as the SPI tells.
    Worker(u32),
    /// Nobody's.
    Unknown,
}

/// Slots of a fixed number, each empty or holding one SA.
#[derive(Debug)]
pub struct Slots<T> {
    slots: Vec<Option<Box<T>>>,
}

impl<T> Slots<T> {
    /// Room for `capacity` SAs; nothing is allocated later.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        let mut slots = Vec::new();
        slots.resize_with(capacity, || None);
        Self { slots }
    }

    /// Puts an SA into a slot and gives back what was there; the SA itself if there is no such slot.
    pub fn put(&mut self, slot: usize, sa: Option<Box<T>>) -> Option<Box<T>> {
        match self.slots.get_mut(slot) {
            Some(place) => core::mem::replace(place, sa),
            None => sa,
        }
    }

    /// The SA in a slot.
    #[inline(always)]
    #[must_use]
    pub fn at(&self, slot: usize) -> Option<&T> {
        self.slots.get(slot)?.as_deref()
    }

    /// Where a slot's SA is told from: what to ask for ahead of [`Slots::at`].
    #[inline(always)]
    #[must_use]
    pub fn place(&self, slot: usize) -> Option<&impl Sized> {
        self.slots.get(slot)
    }

    /// The SA in a slot, to be changed.
    #[inline(always)]
    pub fn at_mut(&mut self, slot: usize) -> Option<&mut T> {
        self.slots.get_mut(slot)?.as_deref_mut()
    }

    /// All SAs with their slots.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (usize, &mut T)> {
        self.slots.iter_mut().enumerate().filter_map(|(slot, sa)| Some((slot, sa.as_deref_mut()?)))
    }
}

/// Which slot and worker an SPI from outside leads to: open addressing, never more than half full.
#[derive(Debug, Default)]
pub struct StaticSpis {
    entries: Vec<Option<(u32, u32, u32)>>,
    len: usize,
}

impl StaticSpis {
    fn start(&self, spi: u32) -> usize {
        let mask = self.entries.len().saturating_sub(1);
        (spi.wrapping_mul(0x9e37_79b1) >> 7) as usize & mask
    }

    /// Adds or replaces an SPI. Allocates when it grows: between bursts only.
    pub fn insert(&mut self, spi: u32, worker: u32, slot: u32) {
        if self.len.saturating_mul(2) >= self.entries.len() {
            let size = self.entries.len().saturating_mul(2).max(16);
            let old = core::mem::replace(&mut self.entries, alloc::vec![None; size]);
            self.len = 0;
            for (spi, worker, slot) in old.into_iter().flatten() {
                self.place(spi, worker, slot);
            }
        }
        self.place(spi, worker, slot);
    }

    fn place(&mut self, spi: u32, worker: u32, slot: u32) {
        let mask = self.entries.len().saturating_sub(1);
        let mut at = self.start(spi);
        while let Some(entry) = self.entries.get_mut(at) {
            match entry {
                Some((known, ..)) if *known != spi => at = at.wrapping_add(1) & mask,
                Some(_) => {
                    *entry = Some((spi, worker, slot));
                    return;
                }
                None => {
                    *entry = Some((spi, worker, slot));
                    self.len = self.len.saturating_add(1);
                    return;
                }
            }
        }
    }

    /// Takes an SPI out: as much work as its chain is long, however many there are.
    pub fn remove(&mut self, spi: u32) {
        let mask = self.entries.len().saturating_sub(1);
        let mut hole = self.start(spi);
        loop {
            match self.entries.get(hole) {
                Some(Some((known, ..))) if *known == spi => break,
                Some(Some(_)) => hole = hole.wrapping_add(1) & mask,
                Some(None) | None => return,
            }
        }
        self.len = self.len.saturating_sub(1);
        // What follows moves up, unless that would be before the place where it is looked for.
        let mut at = hole;
        loop {
            at = at.wrapping_add(1) & mask;
            let Some(Some(next)) = self.entries.get(at).copied() else { break };
            let home = self.start(next.0);
            let moves = (at.wrapping_sub(home) & mask) >= (at.wrapping_sub(hole) & mask);
            if moves && let Some(place) = self.entries.get_mut(hole) {
                *place = Some(next);
                hole = at;
            }
        }
        if let Some(place) = self.entries.get_mut(hole) {
            *place = None;
        }
    }

    /// Worker and slot of an SPI.
    #[inline]
    #[must_use]
    pub fn lookup(&self, spi: u32) -> Option<(u32, u32)> {
        if self.len == 0 {
            return None;
        }
        let mask = self.entries.len().saturating_sub(1);
        let mut at = self.start(spi);
        loop {
            let &(known, worker, slot) = self.entries.get(at)?.as_ref()?;
            if known == spi {
                return Some((worker, slot));
            }
            at = at.wrapping_add(1) & mask;
        }
    }
}

/// How this worker reads an SPI.
#[derive(Clone, Copy, Debug)]
pub struct SpiReader {
    /// Key of the permutation.
    pub key: SpiKey,
    /// Our number in the cluster.
    pub member: u8,
    /// Our own number.
    pub worker: u32,
    /// How many workers there are.
    pub workers: u32,
}

impl SpiReader {
    /// Who owns the SA of this SPI; `Here` is only a place to look, the SPI there decides.
    #[inline]
    #[must_use]
    pub fn owner(&self, spi: u32, statics: &StaticSpis) -> Owner {
        let (worker, slot) = match statics.lookup(spi) {
            Some(found) => found,
            None => {
                let parts = self.key.open(spi);
                if parts.member != self.member || u32::from(parts.worker) >= self.workers {
                    return Owner::Unknown;
                }
                (u32::from(parts.worker), parts.slot)
            }
        };
        if worker == self.worker { Owner::Here(slot as usize) } else { Owner::Worker(worker) }
    }
}

#[cfg(test)]
mod tests {
    use super::{Owner, Slots, SpiReader, StaticSpis};
    use alloc::boxed::Box;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use xswan_steer::spi::{SpiKey, SpiParts};

    #[test]
    fn own_spis_are_read_without_a_table() {
        let key = SpiKey([5, 6, 7, 8]);
        let reader = SpiReader { key, member: 2, worker: 1, workers: 4 };
        let none = StaticSpis::default();
        let spi = |member, worker| key.seal(SpiParts { member, worker, slot: 99 }).unwrap();
        assert_eq!(reader.owner(spi(2, 1), &none), Owner::Here(99));
        assert_eq!(reader.owner(spi(2, 3), &none), Owner::Worker(3));
        assert_eq!(reader.owner(spi(2, 4), &none), Owner::Unknown);
        assert_eq!(reader.owner(spi(1, 1), &none), Owner::Unknown);
    }

    #[test]
    fn a_slot_out_of_range_gives_the_sa_back() {
        let mut slots = Slots::new(2);
        assert_eq!(slots.put(1, Some(Box::new(7))), None);
        assert_eq!(slots.put(5, Some(Box::new(8))), Some(Box::new(8)));
        assert_eq!(slots.put(1, None), Some(Box::new(7)));
        assert_eq!(slots.at(1), None);
    }

    proptest! {
        #[test]
        fn static_spis_are_a_map(steps in proptest::collection::vec((0_u32..64, any::<bool>()), 0..200)) {
            let mut spis = StaticSpis::default();
            let mut model = BTreeMap::new();
            for (order, &(spi, insert)) in steps.iter().enumerate() {
                let spi = spi.wrapping_mul(0x0100_0001);
                if insert {
                    spis.insert(spi, order as u32, order as u32 + 1);
                    model.insert(spi, (order as u32, order as u32 + 1));
                } else {
                    spis.remove(spi);
                    model.remove(&spi);
                }
                for probe in 0..64_u32 {
                    let probe = probe.wrapping_mul(0x0100_0001);
                    prop_assert_eq!(spis.lookup(probe), model.get(&probe).copied());
                }
            }
        }
    }
}
