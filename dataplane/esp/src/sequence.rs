//! Outbound sequence numbers (RFC 4303 section 2.2, 3.3.3) and their leases.
//!
//! A number is used once for the life of the key, whatever happens to the process: before
//! a number above the published lease is used, a new lease is published to memory that
//! outlives the process, and whoever takes over continues above the lease. The IV of
//! a packet is its sequence number, so this is also what keeps nonces from repeating.

use xswan_wire::DropReason;

/// How far a lease reaches ahead of the first number it covers.
///
/// Each restart skips up to this many numbers, which the peer sees as lost packets: with a
/// lease of a million a few thousand restarts would eat a 32-bit space. Each lease costs one
/// store to shared memory (and, with a standby, one message): with a lease of 16 that
/// would be every burst.
pub const LEASE_STEP: u64 = 1024;

/// Where leases are published.
pub trait LeaseStore {
    /// Makes known that numbers up to and including `up_to` may be used.
    ///
    /// Must have taken effect in memory that outlives the process when it returns.
    fn publish(&mut self, up_to: u64);
}

/// No store: for SAs whose key dies with the process, as in tests and benches.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unleased;

impl LeaseStore for Unleased {
    fn publish(&mut self, _up_to: u64) {}
}

/// The sequence numbers of one outbound SA.
#[derive(Debug)]
#[repr(C)]
pub struct SequenceSpace<L> {
    last: u64,
    leased: u64,
    soft: u64,
    limit: u64,
    store: L,
}

impl<L: LeaseStore> SequenceSpace<L> {
    /// A space from 1. `soft` is the number from which on a rekey is due
    /// ([`u64::MAX`] for never).
    pub fn new(esn: bool, soft: u64, store: L) -> Self {
        Self::resume(esn, soft, 0, store)
    }

    /// Continues a space in which numbers up to `lease` may have been used.
    pub fn resume(esn: bool, soft: u64, lease: u64, store: L) -> Self {
        let limit = if esn { u64::MAX } else { u64::from(u32::MAX) };
        Self { last: lease, leased: lease, limit, soft, store }
    }

    /// The next number; each is returned once and none after the last.
    ///
    /// # Errors
    /// [`DropReason::SequenceExhausted`]: the counter never cycles (RFC 4303 section 3.3.3).
    #[inline]
    pub fn take(&mut self) -> Result<u64, DropReason> {
        // No lease reaches past the limit, so below the lease there is nothing else to ask.
        if self.last >= self.leased {
            self.renew()?;
        }
        self.last = self.last.saturating_add(1);
        Ok(self.last)
    }

    /// Publishes a lease over the next number, if there is one.
    #[cold]
    fn renew(&mut self) -> Result<(), DropReason> {
        let next = self.last.checked_add(1).filter(|&next| next <= self.limit);
        let next = next.ok_or(DropReason::SequenceExhausted)?;
        self.leased = next.saturating_add(LEASE_STEP).min(self.limit);
        self.store.publish(self.leased);
        Ok(())
    }

    /// The last number given out, or the lease that was resumed.
    #[must_use]
    pub const fn last(&self) -> u64 {
        self.last
    }

    /// The highest number published so far.
    #[must_use]
    pub const fn leased(&self) -> u64 {
        self.leased
    }

    /// Whether the soft limit has been reached: time to rekey.
    #[inline(always)]
    #[must_use]
    pub const fn past_soft(&self) -> bool {
        self.last >= self.soft
    }

    /// Whether the numbers are extended ones.
    #[must_use]
    pub const fn esn(&self) -> bool {
        self.limit == u64::MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[derive(Default)]
    struct Log(Vec<u64>);
    impl LeaseStore for &mut Log {
        fn publish(&mut self, up_to: u64) {
            self.0.push(up_to);
        }
    }

    #[test]
    fn sal_01_no_number_after_the_last_without_esn() {
        let soft = u64::from(u32::MAX) - 10;
        let mut space = SequenceSpace::resume(false, soft, u64::from(u32::MAX) - 12, Unleased);
        let mut soft_seen_at = None;
        for expected in u64::from(u32::MAX) - 11..=u64::from(u32::MAX) {
            assert_eq!(space.take(), Ok(expected));
            if space.past_soft() && soft_seen_at.is_none() {
                soft_seen_at = Some(expected);
            }
        }
        assert_eq!(soft_seen_at, Some(soft), "rekey is due before exhaustion");
        for _ in 0..3 {
            assert_eq!(space.take(), Err(DropReason::SequenceExhausted));
        }
        assert_eq!(space.last(), u64::from(u32::MAX));
    }

    #[test]
    fn sal_02_extended_counter_stops_at_the_end_of_64_bits() {
        for k in 0..5 {
            let mut log = Log::default();
            let mut space = SequenceSpace::resume(true, u64::MAX, u64::MAX - k, &mut log);
            for step in 1..=k {
                assert_eq!(space.take(), Ok(u64::MAX - k + step));
            }
            assert_eq!(space.take(), Err(DropReason::SequenceExhausted));
            assert_eq!(space.take(), Err(DropReason::SequenceExhausted));
            assert!(log.0.iter().all(|&lease| lease == u64::MAX), "a lease never wraps");
        }
    }

    #[test]
    fn a_number_is_used_only_under_a_published_lease() {
        let mut log = Log::default();
        let mut space = SequenceSpace::new(true, u64::MAX, &mut log);
        for expected in 1..=5000_u64 {
            let number = space.take().unwrap();
            assert_eq!(number, expected);
            assert!(number <= space.leased());
            assert_eq!(space.store.0.last(), Some(&space.leased()));
        }
        assert_eq!(log.0, [1025, 2050, 3075, 4100, 5125]);
    }

    #[test]
    fn a_successor_starts_above_the_lease() {
        let mut log = Log::default();
        let mut space = SequenceSpace::new(false, u64::MAX, &mut log);
        let mut used: Vec<u64> = (0..37).map(|_| space.take().unwrap()).collect();
        for _ in 0..20 {
            let lease = *log.0.last().unwrap();
            let mut space = SequenceSpace::resume(false, u64::MAX, lease, &mut log);
            used.extend((0..37).map(|_| space.take().unwrap()));
        }
        let mut unique = used.clone();
        unique.dedup();
        assert_eq!(used, unique);
        assert!(used.is_sorted());
    }
}
