//! Inbound SAs that have been closed and receive for a moment longer.
//!
//! Whoever closes an SA has stopped sending through it, but what it sent is still under way, or
//! in a ring before a busy worker, when the DELETE is handled, which is on another way and in
//! another process. A second later nothing of that is left.

use std::collections::VecDeque;
use xswan_sa_api::clock_ms;

/// How long, in milliseconds.
const LINGER_MS: u64 = 1_000;

/// Slots of `sa_in`, with their ends on the clock of the maps; the earliest first.
#[derive(Debug, Default)]
pub struct Lingering(VecDeque<(u64, u32)>);

impl Lingering {
    /// From now on.
    pub fn add(&mut self, slot: u32) {
        self.0.push_back((clock_ms() + LINGER_MS, slot));
    }

    /// All of them.
    pub fn slots(&self) -> impl Iterator<Item = u32> {
        self.0.iter().map(|(_, slot)| *slot)
    }

    /// One whose time has come.
    pub fn take_due(&mut self) -> Option<u32> {
        let now_ms = clock_ms();
        self.0.pop_front_if(|(end_ms, _)| *end_ms <= now_ms).map(|(_, slot)| slot)
    }
}
