//! Conservation of frames: wherever they are, they add up to the UMEM.
//!
//! The ledger is filled from counters that are kept independently of the frames' own
//! state words: stocks, rings and hand-back rings each report what they hold. Against it
//! stands [`crate::Umem::census`], which looks at the words. They must agree.

use std::ops::AddAssign;

use crate::socket::Outstanding;

/// Where frames are; of one worker, or of all added up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    /// In a [`crate::FrameStock`].
    pub free: u64,
    /// In fill rings, with the kernel for receiving, in rx rings.
    pub rx: u64,
    /// In a worker's batches.
    pub worker: u64,
    /// In tx rings, with the kernel for sending, in completion rings.
    pub tx: u64,
    /// In a ring between workers.
    pub handoff: u64,
    /// Dropped or discarded, and not yet reclaimed.
    pub lost: u64,
}

impl Ledger {
    /// Adds what one queue's kernel side holds.
    pub const fn add_queue(&mut self, outstanding: Outstanding) {
        self.rx += outstanding.rx;
        self.tx += outstanding.tx;
    }

    /// All frames accounted for.
    #[must_use]
    pub const fn sum(&self) -> u64 {
        self.free + self.rx + self.worker + self.tx + self.handoff + self.lost
    }

    /// What is missing from `frames`; negative if there are more than there can be.
    #[must_use]
    pub const fn residual(&self, frames: u32) -> i64 {
        (frames as i64).saturating_sub_unsigned(self.sum())
    }
}

impl AddAssign for Ledger {
    fn add_assign(&mut self, other: Self) {
        self.free += other.free;
        self.rx += other.rx;
        self.worker += other.worker;
        self.tx += other.tx;
        self.handoff += other.handoff;
        self.lost += other.lost;
    }
}
