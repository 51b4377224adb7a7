//! When to look for a lost high half of the sequence number (RFC 4303 appendix A3).
//!
//! If more than 2^32 packets are lost in a row, or the sender was moved ahead, the inferred
//! high half is wrong and every packet fails its ICV. After [`THRESHOLD`] failures
//! without a success, one packet at a time is tried with the next [`ATTEMPTS`] values.
//! A forger can make us try, so the trying is rationed.

/// Failures in a row before the first try. Lower, and a forger buys decryptions; higher,
/// and a dead SA stays dead longer, but a sender who lost 2^32 packets has seconds to spare.
pub const THRESHOLD: u32 = 1024;
/// High halves tried for one packet: 8 times 2^32 packets is hours of the fastest link.
pub const ATTEMPTS: u32 = 8;
/// Milliseconds between tries: at most 8 extra decryptions every 100 ms for each SA.
pub const INTERVAL_MS: u64 = 100;

/// Counts failures and says when to try.
#[derive(Clone, Copy, Debug, Default)]
pub struct Resync {
    failures: u32,
    next_try_ms: u64,
}

impl Resync {
    /// An ICV matched.
    #[inline(always)]
    pub const fn on_success(&mut self) {
        self.failures = 0;
    }

    /// An ICV did not match; whether to try other high halves on this packet.
    #[inline]
    pub fn on_failure(&mut self, now_ms: u64) -> bool {
        self.failures = self.failures.saturating_add(1);
        let due = self.failures >= THRESHOLD && now_ms >= self.next_try_ms;
        if due {
            self.next_try_ms = now_ms.saturating_add(INTERVAL_MS);
        }
        due
    }

    /// Failures since the last success.
    #[must_use]
    pub const fn failures(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tries_are_rationed() {
        let mut resync = Resync::default();
        let before = (1..THRESHOLD).filter(|_| resync.on_failure(0)).count();
        assert_eq!(before, 0);
        // A flood of a million forgeries within one second.
        let tries = (0..1_000_000_u64).filter(|n| resync.on_failure(n / 1000)).count();
        assert_eq!(tries, 10);
        resync.on_success();
        assert!(!resync.on_failure(1_000_000));
    }
}
