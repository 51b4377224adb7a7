//! The SPI as an address: `[member 4][worker 8][slot 20]` under a keyed permutation.
//!
//! Whoever holds the key reads member, worker and slot out of an SPI with a few
//! multiplications and no table; whoever does not sees 32 bits that tell nothing of
//! how many SAs there are. The permutation is a four-round Feistel network: a bijection
//! whatever the round function, so two parts never give the same SPI. It hides, it
//! does not protect: an SPI is no secret, ESP's ICV is what authenticates.

/// SPIs below this are reserved (RFC 4303 section 2.1) and never given out.
pub const FIRST_SPI: u32 = 256;
/// Bits of the slot number.
pub const SLOT_BITS: u32 = 20;
/// Bits of the worker number.
pub const WORKER_BITS: u32 = 8;

/// What an SPI of our own says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpiParts {
    /// Member of the cluster, 0 to 15.
    pub member: u8,
    /// Worker that owns the SA, 0 to 255.
    pub worker: u8,
    /// Slot in the inbound table, below 2^20.
    pub slot: u32,
}

/// Key of the permutation, one an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpiKey(pub [u32; 4]);

#[inline(always)]
fn round(half: u32, key: u32) -> u32 {
    let mixed = (half ^ key).wrapping_mul(0x9e37_79b1);
    (mixed ^ (mixed >> 15)).wrapping_mul(0x85eb_ca77) >> 16
}

impl SpiKey {
    /// The SPI for these parts, or `None` if it falls into the reserved range: take another slot.
    ///
    /// ```
    /// use xswan_steer::spi::{SpiKey, SpiParts};
    /// let key = SpiKey([1, 2, 3, 4]);
    /// let parts = SpiParts { member: 3, worker: 7, slot: 12_345 };
    /// let spi = key.seal(parts).expect("not reserved");
    /// assert_eq!(key.open(spi), parts);
    /// ```
    #[must_use]
    pub fn seal(&self, parts: SpiParts) -> Option<u32> {
        let slot = parts.slot & ((1 << SLOT_BITS) - 1);
        let plain = (u32::from(parts.member & 15) << (SLOT_BITS + WORKER_BITS))
            | (u32::from(parts.worker) << SLOT_BITS)
            | slot;
        let (mut left, mut right) = (plain >> 16, plain & 0xffff);
        let mut index = 0;
        while index < 4 {
            (left, right) = (right, left ^ round(right, self.0[index]));
            index += 1;
        }
        let spi = (left << 16) | right;
        (spi >= FIRST_SPI).then_some(spi)
    }

    /// The parts of an SPI, which means something only if [`SpiKey::seal`] made it.
    #[inline(always)]
    #[must_use]
    pub fn open(&self, spi: u32) -> SpiParts {
        let (mut left, mut right) = (spi >> 16, spi & 0xffff);
        (left, right) = (right ^ round(left, self.0[3]), left);
        (left, right) = (right ^ round(left, self.0[2]), left);
        (left, right) = (right ^ round(left, self.0[1]), left);
        (left, right) = (right ^ round(left, self.0[0]), left);
        let plain = (left << 16) | right;
        SpiParts {
            member: (plain >> (SLOT_BITS + WORKER_BITS)) as u8,
            worker: (plain >> SLOT_BITS) as u8,
            slot: plain & ((1 << SLOT_BITS) - 1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn open_undoes_seal(key: [u32; 4], member in 0..16_u8, worker: u8, slot in 0..1_u32 << SLOT_BITS) {
            let parts = SpiParts { member, worker, slot };
            match SpiKey(key).seal(parts) {
                Some(spi) => prop_assert_eq!(SpiKey(key).open(spi), parts),
                // Only what opens from a reserved number is refused.
                None => prop_assert!((0..FIRST_SPI).any(|spi| SpiKey(key).open(spi) == parts)),
            }
        }

        #[test]
        fn two_spis_never_open_alike(key: [u32; 4], a: u32, b: u32) {
            prop_assert_eq!(a == b, SpiKey(key).open(a) == SpiKey(key).open(b));
        }
    }
}
