//! Limits on an SA's use (RFC 4301 section 4.4.2.1): bytes, packets, time; soft and hard.
//!
//! Soft asks for a successor, hard ends the SA. Each is reported once. Time comes in as
//! milliseconds of whatever monotonic clock the caller keeps.

use xswan_wire::DropReason;

/// Which limit was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    /// Time to negotiate a successor; the SA still works.
    Soft,
    /// The SA no longer works.
    Hard,
}

/// One set of limits; [`u64::MAX`] is "none".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Bytes of protected packets.
    pub bytes: u64,
    /// Packets.
    pub packets: u64,
    /// Milliseconds since the SA was installed.
    pub time_ms: u64,
}

impl Limit {
    /// No limit at all.
    pub const NONE: Self = Self { bytes: u64::MAX, packets: u64::MAX, time_ms: u64::MAX };
}

impl Default for Limit {
    fn default() -> Self {
        Self::NONE
    }
}

/// The use of one SA against its limits.
///
/// What a packet touches comes first: two counts, and how far both and the clock may go before
/// any limit has to be looked at.
#[derive(Clone, Debug)]
#[repr(C)]
pub struct Lifetime {
    bytes: u64,
    packets: u64,
    quiet: Quiet,
    soft: Limit,
    hard: Limit,
    installed_ms: u64,
    soft_reported: bool,
    hard_reported: bool,
}

/// Below all of these no limit is reached that has not been reported.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
struct Quiet {
    bytes: u64,
    packets: u64,
    until_ms: u64,
}

impl Quiet {
    const NEVER: Self = Self { bytes: 0, packets: 0, until_ms: 0 };

    const fn below(limit: &Limit, installed_ms: u64) -> Self {
        let until_ms = installed_ms.saturating_add(limit.time_ms);
        Self { bytes: limit.bytes, packets: limit.packets, until_ms }
    }

    const fn and(self, other: Self) -> Self {
        const fn lower(a: u64, b: u64) -> u64 {
            if a < b { a } else { b }
        }
        Self {
            bytes: lower(self.bytes, other.bytes),
            packets: lower(self.packets, other.packets),
            until_ms: lower(self.until_ms, other.until_ms),
        }
    }
}

impl Lifetime {
    /// Octets from the front that a packet touches.
    pub(crate) const HOT_LEN: usize = core::mem::offset_of!(Self, soft);

    /// Unused, installed at `installed_ms`.
    #[must_use]
    pub const fn new(soft: Limit, hard: Limit, installed_ms: u64) -> Self {
        Self::resume(soft, hard, installed_ms, 0, 0)
    }

    /// With bytes and packets counted by a previous owner.
    #[must_use]
    pub const fn resume(
        soft: Limit,
        hard: Limit,
        installed_ms: u64,
        bytes: u64,
        packets: u64,
    ) -> Self {
        let (soft_reported, hard_reported) = (false, false);
        let quiet = Quiet::below(&hard, installed_ms).and(Quiet::below(&soft, installed_ms));
        Self { bytes, packets, quiet, soft, hard, installed_ms, soft_reported, hard_reported }
    }

    /// After a report, or with other limits.
    fn look_ahead(&mut self) {
        let hard = Quiet::below(&self.hard, self.installed_ms);
        self.quiet = match (self.hard_reported, self.soft_reported) {
            (true, _) => Quiet::NEVER,
            (false, true) => hard,
            (false, false) => hard.and(Quiet::below(&self.soft, self.installed_ms)),
        };
    }

    #[inline(always)]
    const fn is_quiet(&self, now_ms: u64) -> bool {
        self.bytes < self.quiet.bytes
            && self.packets < self.quiet.packets
            && now_ms < self.quiet.until_ms
    }

    /// Whether one more packet may pass.
    ///
    /// # Errors
    /// [`DropReason::SaExpired`] once a hard limit has been reached.
    #[inline]
    pub fn check(&self, now_ms: u64) -> Result<(), DropReason> {
        if self.is_quiet(now_ms) || !self.reached(&self.hard, now_ms) {
            return Ok(());
        }
        Err(DropReason::SaExpired)
    }

    /// Counts one packet of `bytes` and says what that reached, each event once.
    #[inline(always)]
    pub fn account(&mut self, bytes: usize, now_ms: u64) -> Option<Expiry> {
        self.bytes = self.bytes.saturating_add(bytes as u64);
        self.packets = self.packets.saturating_add(1);
        self.poll(now_ms)
    }

    /// What has been reached by now, without a packet: for the housekeeping slot.
    #[inline(always)]
    pub fn poll(&mut self, now_ms: u64) -> Option<Expiry> {
        if self.is_quiet(now_ms) { None } else { self.report(now_ms) }
    }

    #[cold]
    fn report(&mut self, now_ms: u64) -> Option<Expiry> {
        let event = if !self.hard_reported && self.reached(&self.hard, now_ms) {
            self.hard_reported = true;
            self.soft_reported = true;
            Some(Expiry::Hard)
        } else if !self.soft_reported && self.reached(&self.soft, now_ms) {
            self.soft_reported = true;
            Some(Expiry::Soft)
        } else {
            None
        };
        self.look_ahead();
        event
    }

    /// Takes over what was counted since when, under limits of its own. What was reported stays
    /// so only if the limits are the same.
    pub fn carry_on(&mut self, old: &Self) {
        (self.bytes, self.packets, self.installed_ms) = (old.bytes, old.packets, old.installed_ms);
        if (self.soft, self.hard) == (old.soft, old.hard) {
            self.soft_reported = old.soft_reported;
            self.hard_reported = old.hard_reported;
        }
        self.look_ahead();
    }

    /// A limit outside this type was reached softly (sequence numbers); true the first time.
    #[inline]
    pub(crate) fn reach_soft(&mut self) -> bool {
        let first = !core::mem::replace(&mut self.soft_reported, true);
        if first {
            self.look_ahead();
        }
        first
    }

    /// Bytes counted so far.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Packets counted so far.
    #[must_use]
    pub const fn packets(&self) -> u64 {
        self.packets
    }

    #[inline]
    fn reached(&self, limit: &Limit, now_ms: u64) -> bool {
        let age_ms = now_ms.saturating_sub(self.installed_ms);
        (limit.bytes != u64::MAX && self.bytes >= limit.bytes)
            || (limit.packets != u64::MAX && self.packets >= limit.packets)
            || (limit.time_ms != u64::MAX && age_ms >= limit.time_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn run(soft: Limit, hard: Limit, step_ms: u64) -> (u64, Vec<(u64, Expiry)>) {
        let mut lifetime = Lifetime::new(soft, hard, 1000);
        let (mut passed, mut events) = (0, Vec::new());
        for packet in 0..200 {
            let now_ms = 1000 + packet * step_ms;
            events.extend(lifetime.poll(now_ms).map(|event| (packet, event)));
            if lifetime.check(now_ms).is_ok() {
                passed += 1;
                events.extend(lifetime.account(100, now_ms).map(|event| (packet, event)));
            }
        }
        (passed, events)
    }

    #[test]
    fn sal_06_packets_soft_then_hard_once_each() {
        let soft = Limit { packets: 10, ..Limit::NONE };
        let hard = Limit { packets: 20, ..Limit::NONE };
        let (passed, events) = run(soft, hard, 1);
        assert_eq!(passed, 20);
        assert_eq!(events, [(9, Expiry::Soft), (19, Expiry::Hard)]);
    }

    #[test]
    fn sal_06_bytes_soft_then_hard_once_each() {
        let soft = Limit { bytes: 950, ..Limit::NONE };
        let hard = Limit { bytes: 2000, ..Limit::NONE };
        let (passed, events) = run(soft, hard, 1);
        assert_eq!(passed, 20);
        assert_eq!(events, [(9, Expiry::Soft), (19, Expiry::Hard)]);
    }

    #[test]
    fn sal_06_time_expires_without_traffic() {
        let soft = Limit { time_ms: 500, ..Limit::NONE };
        let hard = Limit { time_ms: 1000, ..Limit::NONE };
        let (passed, events) = run(soft, hard, 10);
        assert_eq!(passed, 100);
        assert_eq!(events, [(50, Expiry::Soft), (100, Expiry::Hard)]);
        let mut idle = Lifetime::new(soft, hard, 0);
        assert_eq!(idle.poll(499), None);
        assert_eq!(idle.poll(500), Some(Expiry::Soft));
        assert_eq!(idle.poll(900), None);
        assert_eq!(idle.poll(1000), Some(Expiry::Hard));
        assert_eq!(idle.poll(u64::MAX), None);
    }
}
