//! Proof that a cipher accepted a packet.
//!
//! The replay window moves only for an [`Authenticated`], and only [`crate::decap::open`]
//! makes one, after the tag matched. It names the packet it speaks for, so it cannot
//! vouch for another, and it is neither `Clone` nor `Copy`, so it is used once.

/// The integrity check value of one packet of one SA matched.
#[derive(Debug)]
#[must_use = "an authenticated packet must be committed to the replay window"]
pub struct Authenticated {
    spi: u32,
    sequence: u64,
}

impl Authenticated {
    /// Called by `open` alone.
    #[inline(always)]
    pub(crate) const fn new(spi: u32, sequence: u64) -> Self {
        Self { spi, sequence }
    }

    /// The SA's SPI.
    #[must_use]
    pub const fn spi(&self) -> u32 {
        self.spi
    }

    /// The full sequence number that was authenticated, high half included.
    #[must_use]
    pub const fn sequence(&self) -> u64 {
        self.sequence
    }
}
