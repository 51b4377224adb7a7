//! The live half of a record: counters, the sequence lease, the acknowledgement.
//!
//! Exactly one writer, the worker that owns the SA; everyone may read. A counter is stored,
//! not added to atomically: the writer keeps its own figures and publishes them when it
//! likes. Restarted, it goes on from what it reads here.

use crate::mapping::Mapping;
use crate::record::CONFIG_WORDS;
use std::sync::atomic::{AtomicU64, Ordering};

const APPLIED: usize = 0;
const PACKETS: usize = 1;
const BYTES: usize = 2;
const LAST_USED: usize = 3;
/// Inbound from here: drops by kind. Outbound: the lease.
const AUTH_FAIL: usize = 4;
const REPLAY: usize = 5;
const LOST: usize = 6;
const OTHER: usize = 7;
const LEASE: usize = 4;
const PATH_MTU: usize = 5;
const OUT_DROPS: usize = 6;

/// What an inbound SA has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InCounters {
    /// Packets accepted.
    pub packets: u64,
    /// Octets of inner packets accepted.
    pub bytes: u64,
    /// Last packet accepted, on the clock of [`crate::clock_ms`]; 0 is never.
    pub last_used_ms: u64,
    /// Packets whose integrity check failed.
    pub auth_fail: u64,
    /// Packets seen before, or too old.
    pub replay: u64,
    /// Sequence numbers that left the window without having come.
    pub lost: u64,
    /// Packets dropped for another reason after the SA was found.
    pub other: u64,
}

/// What an outbound SA has sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutCounters {
    /// Packets sealed.
    pub packets: u64,
    /// Octets of inner packets sealed.
    pub bytes: u64,
    /// Last packet sealed, on the clock of [`crate::clock_ms`]; 0 is never.
    pub last_used_ms: u64,
    /// Packets dropped after the SA was chosen.
    pub drops: u64,
    /// Path MTU in use, in octets of the outer packet; 0 is not known.
    pub path_mtu: u64,
}

#[derive(Clone, Debug)]
struct Live {
    mapping: Mapping,
    slot: u32,
}

impl Live {
    fn of(mapping: &Mapping, slot: u32) -> Option<Self> {
        let live = Self { mapping: mapping.clone(), slot };
        live.word(OTHER).is_some().then_some(live)
    }

    #[inline]
    fn word(&self, position: usize) -> Option<&AtomicU64> {
        self.mapping.record(self.slot)?.get(CONFIG_WORDS + position)
    }

    #[inline]
    fn load(&self, position: usize) -> u64 {
        self.word(position).map_or(0, |word| word.load(Ordering::Acquire))
    }

    #[inline]
    fn store(&self, position: usize, value: u64) {
        if let Some(word) = self.word(position) {
            word.store(value, Ordering::Release);
        }
    }
}

/// Live half of an inbound SA.
#[derive(Clone, Debug)]
pub struct InLive(Live);

/// Live half of an outbound SA.
#[derive(Clone, Debug)]
pub struct OutLive(Live);

impl InLive {
    pub(crate) fn of(mapping: &Mapping, slot: u32) -> Option<Self> {
        Live::of(mapping, slot).map(Self)
    }

    /// The generation of the config half that the owner has taken in.
    #[must_use]
    pub fn applied_generation(&self) -> u64 {
        self.0.load(APPLIED)
    }

    /// Owner only: the record of this generation is in use, or, if it is empty, no longer is
    /// and will not be touched again.
    pub fn acknowledge(&self, generation: u64) {
        self.0.store(APPLIED, generation);
    }

    /// The counters as last published; each is whole, together they may be a burst apart.
    #[must_use]
    pub fn counters(&self) -> InCounters {
        InCounters {
            packets: self.0.load(PACKETS),
            bytes: self.0.load(BYTES),
            last_used_ms: self.0.load(LAST_USED),
            auth_fail: self.0.load(AUTH_FAIL),
            replay: self.0.load(REPLAY),
            lost: self.0.load(LOST),
            other: self.0.load(OTHER),
        }
    }

    /// Owner only: publishes the counters.
    pub fn publish(&self, counters: &InCounters) {
        self.0.store(PACKETS, counters.packets);
        self.0.store(BYTES, counters.bytes);
        self.0.store(LAST_USED, counters.last_used_ms);
        self.0.store(AUTH_FAIL, counters.auth_fail);
        self.0.store(REPLAY, counters.replay);
        self.0.store(LOST, counters.lost);
        self.0.store(OTHER, counters.other);
    }
}

impl OutLive {
    pub(crate) fn of(mapping: &Mapping, slot: u32) -> Option<Self> {
        Live::of(mapping, slot).map(Self)
    }

    /// The generation of the config half that the owner has taken in.
    #[must_use]
    pub fn applied_generation(&self) -> u64 {
        self.0.load(APPLIED)
    }

    /// Owner only: the record of this generation is in use, or, if it is empty, no longer is
    /// and will not be touched again.
    pub fn acknowledge(&self, generation: u64) {
        self.0.store(APPLIED, generation);
    }

    /// The highest sequence number that may have been used. Who takes over the SA goes on
    /// above it.
    #[must_use]
    pub fn lease(&self) -> u64 {
        self.0.load(LEASE)
    }

    /// Owner only: numbers up to `up_to` may be used from now on. In memory before this
    /// returns, in the order that a kill at any instant leaves intact. Never goes back.
    pub fn publish_lease(&self, up_to: u64) {
        if up_to > self.lease() {
            self.0.store(LEASE, up_to);
            // No packet leaves before the lease that covers it is in the shared page.
            std::sync::atomic::fence(Ordering::SeqCst);
        }
    }

    /// The counters as last published; each is whole, together they may be a burst apart.
    #[must_use]
    pub fn counters(&self) -> OutCounters {
        OutCounters {
            packets: self.0.load(PACKETS),
            bytes: self.0.load(BYTES),
            last_used_ms: self.0.load(LAST_USED),
            drops: self.0.load(OUT_DROPS),
            path_mtu: self.0.load(PATH_MTU),
        }
    }

    /// Owner only: publishes the counters.
    pub fn publish(&self, counters: &OutCounters) {
        self.0.store(PACKETS, counters.packets);
        self.0.store(BYTES, counters.bytes);
        self.0.store(LAST_USED, counters.last_used_ms);
        self.0.store(OUT_DROPS, counters.drops);
        self.0.store(PATH_MTU, counters.path_mtu);
    }
}
