//! SPIs of our own choice: member, worker and slot under the instance's permutation.
//!
//! An SPI given from outside (a static SA) is in no such order; the steering maps list it.
//! One that is drawn here must not be equal to any of those, and one that was static must
//! not be drawn: both kinds are kept apart by asking the set of static ones.

use std::collections::BTreeMap;
use xswan_sa_api::Geometry;
use xswan_steer::spi::{SpiKey, SpiParts};

/// Draws SPIs for inbound slots.
#[derive(Clone, Debug)]
pub struct SpiAllocator {
    key: SpiKey,
    member: u8,
    workers: u32,
    slots: u32,
}

impl SpiAllocator {
    /// An allocator for maps of this geometry.
    #[must_use]
    pub fn new(key: SpiKey, geometry: &Geometry) -> Self {
        let member = (geometry.member & 15) as u8;
        Self { key, member, workers: geometry.workers, slots: geometry.sa_slots }
    }

    /// The SPI of a worker's SA in a slot. `None` if worker or slot do not exist, if the SPI
    /// would be reserved, or if it is a static one: take another slot.
    #[must_use]
    pub fn spi(&self, worker: u32, slot: u32, statics: &BTreeMap<u32, u32>) -> Option<u32> {
        if worker >= self.workers || slot >= self.slots {
            return None;
        }
        let worker = u8::try_from(worker).ok()?;
        let spi = self.key.seal(SpiParts { member: self.member, worker, slot })?;
        (!statics.contains_key(&spi)).then_some(spi)
    }

    /// Worker and slot of an SPI drawn here; `None` for one that cannot have been.
    #[must_use]
    pub fn place_of(&self, spi: u32, statics: &BTreeMap<u32, u32>) -> Option<(u32, u32)> {
        let parts = self.key.open(spi);
        let (worker, slot) = (u32::from(parts.worker), parts.slot);
        let ours = parts.member == self.member && worker < self.workers && slot < self.slots;
        (ours && !statics.contains_key(&spi)).then_some((worker, slot))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn sal_09_no_spi_is_drawn_twice_and_static_ones_are_not_drawn() {
        let geometry =
            Geometry { sa_slots: 4096, policies: 1, replay_words: 8, workers: 4, member: 5 };
        let allocator = SpiAllocator::new(SpiKey([7, 8, 9, 10]), &geometry);
        let mut statics = BTreeMap::new();
        let mut drawn = HashSet::new();
        for worker in 0..4 {
            for slot in 0..4096 {
                let Some(spi) = allocator.spi(worker, slot, &statics) else { continue };
                assert!(spi >= 256 && drawn.insert(spi));
                assert_eq!(allocator.place_of(spi, &statics), Some((worker, slot)));
            }
        }
        let first = allocator.spi(0, 0, &statics).expect("not reserved");
        statics.insert(first, 0);
        assert_eq!(allocator.spi(0, 0, &statics), None);
        assert_eq!(allocator.place_of(first, &statics), None);
        assert_eq!(allocator.spi(4, 0, &statics), None);
        assert_eq!(allocator.spi(0, 4096, &statics), None);
    }

    #[test]
    fn str_14_sixty_four_sas_are_balanced_over_workers_and_steered_to_their_own() {
        for (seed, workers) in (1_u32..).zip([1, 2, 3, 4, 6, 8, 16, 32]) {
            let geometry =
                Geometry { sa_slots: 64, policies: 1, replay_words: 8, workers, member: 1 };
            let key = SpiKey([seed, 77, 3, 9]);
            let allocator = SpiAllocator::new(key, &geometry);
            let statics = BTreeMap::new();
            let mut owned = vec![0_u32; workers as usize];
            let mut drawn = 0;
            for slot in 0.. {
                // The next in turn; a reserved SPI costs a slot, not the worker its turn.
                let Some(spi) = allocator.spi(drawn % workers, slot, &statics) else { continue };
                // What the steering program does with the SPI alone.
                owned[usize::from(key.open(spi).worker)] += 1;
                drawn += 1;
                if drawn == 64 {
                    break;
                }
            }
            let fair = 64.0 / f64::from(workers);
            for (worker, owned) in owned.into_iter().enumerate() {
                let off = (f64::from(owned) - fair).abs();
                // An SA cannot be split: where 64 does not divide evenly one more is allowed.
                assert!(off <= (fair * 0.1).max(0.999), "worker {worker} of {workers}: {owned}");
            }
        }
    }
}
