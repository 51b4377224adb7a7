//! What anti-replay means, said naively: every number received is remembered for ever.
//!
//! Shares neither code nor formulas with the window it judges. Where RFC 4303 appendix A2
//! distinguishes cases, this asks one question: which number with this low half lies in
//! the window, or else which is the next above it?

use std::collections::BTreeSet;

/// What the oracle says of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// New; the full sequence number.
    Accept(u64),
    /// Left of the window.
    Old,
    /// Received before.
    Duplicate,
    /// Number zero.
    Zero,
}

/// The naive window.
#[derive(Clone, Debug)]
pub struct ReplayOracle {
    window: u64,
    esn: bool,
    top: u64,
    seen: BTreeSet<u64>,
    seen_below: u64,
}

impl ReplayOracle {
    /// Nothing received yet; `window` in packets.
    #[must_use]
    pub fn new(window: u32, esn: bool) -> Self {
        Self { window: u64::from(window), esn, top: 0, seen: BTreeSet::new(), seen_below: 0 }
    }

    /// With everything up to `top` received.
    #[must_use]
    pub fn all_seen(window: u32, esn: bool, top: u64) -> Self {
        let mut oracle = Self::new(window, esn);
        oracle.top = top;
        let left = top.saturating_sub(u64::from(window));
        oracle.seen = (left + 1..=top).collect();
        oracle.seen_below = left;
        oracle
    }

    /// Highest number received.
    #[must_use]
    pub fn top(&self) -> u64 {
        self.top
    }

    /// The full number that a low half stands for; `None` if there can be none.
    #[must_use]
    pub fn full(&self, seq_low: u32) -> Option<u64> {
        if !self.esn {
            return Some(u64::from(seq_low));
        }
        let low = u128::from(seq_low);
        let (top, window) = (u128::from(self.top), u128::from(self.window));
        // Numbers before the first lie in the window too while it is not full: shifting by one
        // subspace keeps them apart from real ones.
        let shift = 1_u128 << 32;
        let left = top + shift + 1 - window;
        let mut candidate = low;
        while candidate < left {
            candidate += ((left - candidate) / shift).max(1) * shift;
        }
        // Now the smallest that is not left of the window.
        candidate.checked_sub(shift).and_then(|full| u64::try_from(full).ok())
    }

    /// Judges a packet.
    #[must_use]
    pub fn judge(&self, seq_low: u32) -> Judgement {
        let Some(sequence) = self.full(seq_low) else { return Judgement::Old };
        if sequence == 0 {
            return Judgement::Zero;
        }
        if u128::from(sequence) + u128::from(self.window) <= u128::from(self.top) {
            return Judgement::Old;
        }
        if self.seen.contains(&sequence) {
            return Judgement::Duplicate;
        }
        Judgement::Accept(sequence)
    }

    /// Remembers a number that was accepted.
    pub fn accept(&mut self, sequence: u64) {
        self.seen.insert(sequence);
        self.top = self.top.max(sequence);
        // Only to keep the set small: what is left of the window is counted instead.
        let left = self.top.saturating_sub(self.window);
        while let Some(first) = self.seen.first().copied().filter(|first| *first <= left) {
            self.seen.remove(&first);
            self.seen_below += 1;
        }
    }

    /// Numbers left of the window that were never received.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.top.saturating_sub(self.window) - self.seen_below
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oracle_infers_the_high_half() {
        const SPACE: u64 = 1 << 32;
        let fresh = ReplayOracle::new(64, true);
        assert_eq!(fresh.full(1), Some(1));
        assert_eq!(fresh.full(u32::MAX), None, "before the first number");
        let middle = ReplayOracle::all_seen(64, true, SPACE + 1000);
        assert_eq!(middle.full(1000), Some(SPACE + 1000));
        assert_eq!(middle.full(937), Some(SPACE + 937));
        assert_eq!(middle.full(936), Some(2 * SPACE + 936));
        let edge = ReplayOracle::all_seen(64, true, SPACE + 10);
        assert_eq!(edge.full(u32::MAX), Some(SPACE - 1));
        assert_eq!(edge.full(11), Some(SPACE + 11));
    }

    #[test]
    fn the_oracle_counts_what_never_came() {
        let mut oracle = ReplayOracle::new(64, false);
        for sequence in (1..=300).filter(|sequence| !(50..60).contains(sequence)) {
            oracle.accept(sequence);
        }
        assert_eq!(oracle.lost(), 10);
    }
}
