//! The live half of a record: counters, the sequence lease, the acknowledgement.
//!
//! Exactly one writer, the worker that owns the SA; everyone may read. A counter is stored,
//! not added to atomically: the writer keeps its own figures and publishes them when it
//! likes. Restarted, it goes on from what it reads here.

use crate::mapping::Mapping;
use crate::record::{CONFIG_WORDS, LIVE_WORDS};
use crate::sys::Region;
use std::sync::Arc;
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

/// One live half: the memory it lies in, and where. No larger than it must be, for every SA has one.
#[derive(Clone, Debug)]
struct Live {
    region: Arc<Region>,
    first_word: u32,
}

impl Live {
    fn of(mapping: &Mapping, slot: u32) -> Option<Self> {
        let record = mapping.place(slot)?;
        let first_word = u32::try_from(record.start + CONFIG_WORDS).ok()?;
        Some(Self { region: Arc::clone(mapping.region()), first_word })
    }

    #[inline]
    fn words(&self) -> Words<'_> {
        let first = self.first_word as usize;
        Words(self.region.words().get(first..first + LIVE_WORDS).unwrap_or_default())
    }
}

/// The words of one live half.
#[derive(Clone, Copy)]
struct Words<'a>(&'a [AtomicU64]);

impl<'a> Words<'a> {
    fn of(mapping: &'a Mapping, slot: u32) -> Option<Self> {
        mapping.record(slot)?.get(CONFIG_WORDS..).map(Self)
    }

    #[inline]
    fn load(self, position: usize) -> u64 {
        self.0.get(position).map_or(0, |word| word.load(Ordering::Acquire))
    }

    #[inline]
    fn store(self, position: usize, value: u64) {
        if let Some(word) = self.0.get(position) {
            word.store(value, Ordering::Release);
        }
    }

    fn in_counters(self) -> InCounters {
        InCounters {
            packets: self.load(PACKETS),
            bytes: self.load(BYTES),
            last_used_ms: self.load(LAST_USED),
            auth_fail: self.load(AUTH_FAIL),
            replay: self.load(REPLAY),
            lost: self.load(LOST),
            other: self.load(OTHER),
        }
    }

    fn publish_in(self, counters: &InCounters) {
        self.store(PACKETS, counters.packets);
        self.store(BYTES, counters.bytes);
        self.store(LAST_USED, counters.last_used_ms);
        self.store(AUTH_FAIL, counters.auth_fail);
        self.store(REPLAY, counters.replay);
        self.store(LOST, counters.lost);
        self.store(OTHER, counters.other);
    }

    fn out_counters(self) -> OutCounters {
        OutCounters {
            packets: self.load(PACKETS),
            bytes: self.load(BYTES),
            last_used_ms: self.load(LAST_USED),
            drops: self.load(OUT_DROPS),
            path_mtu: self.load(PATH_MTU),
        }
    }

    fn publish_out(self, counters: &OutCounters) {
        self.store(PACKETS, counters.packets);
        self.store(BYTES, counters.bytes);
        self.store(LAST_USED, counters.last_used_ms);
        self.store(OUT_DROPS, counters.drops);
        self.store(PATH_MTU, counters.path_mtu);
    }
}

/// The live halves of all inbound SAs: what a worker needs of a million of them in one handle.
#[derive(Clone, Debug)]
pub struct InLives(Mapping);

/// The live halves of all outbound SAs.
#[derive(Clone, Debug)]
pub struct OutLives(Mapping);

impl InLives {
    pub(crate) fn of(mapping: &Mapping) -> Self {
        Self(mapping.clone())
    }

    /// Owner only: as [`InLive::acknowledge`]; nothing past the table.
    pub fn acknowledge(&self, slot: u32, generation: u64) {
        if let Some(words) = Words::of(&self.0, slot) {
            words.store(APPLIED, generation);
        }
    }

    /// Owner only: as [`InLive::publish`]; nothing past the table.
    pub fn publish(&self, slot: u32, counters: &InCounters) {
        if let Some(words) = Words::of(&self.0, slot) {
            words.publish_in(counters);
        }
    }
}

impl OutLives {
    pub(crate) fn of(mapping: &Mapping) -> Self {
        Self(mapping.clone())
    }

    /// Owner only: as [`OutLive::acknowledge`]; nothing past the table.
    pub fn acknowledge(&self, slot: u32, generation: u64) {
        if let Some(words) = Words::of(&self.0, slot) {
            words.store(APPLIED, generation);
        }
    }

    /// As [`OutLive::counters`]; zeros past the table.
    #[must_use]
    pub fn counters(&self, slot: u32) -> OutCounters {
        Words::of(&self.0, slot).map_or_else(OutCounters::default, Words::out_counters)
    }

    /// Owner only: as [`OutLive::publish`]; nothing past the table.
    pub fn publish(&self, slot: u32, counters: &OutCounters) {
        if let Some(words) = Words::of(&self.0, slot) {
            words.publish_out(counters);
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
        self.0.words().load(APPLIED)
    }

    /// Owner only: the record of this generation is in use, or, if it is empty, no longer is
    /// and will not be touched again.
    pub fn acknowledge(&self, generation: u64) {
        self.0.words().store(APPLIED, generation);
    }

    /// The counters as last published; each is whole, together they may be a burst apart.
    #[must_use]
    pub fn counters(&self) -> InCounters {
        self.0.words().in_counters()
    }

    /// Owner only: publishes the counters.
    pub fn publish(&self, counters: &InCounters) {
        self.0.words().publish_in(counters);
    }
}

impl OutLive {
    pub(crate) fn of(mapping: &Mapping, slot: u32) -> Option<Self> {
        Live::of(mapping, slot).map(Self)
    }

    /// The generation of the config half that the owner has taken in.
    #[must_use]
    pub fn applied_generation(&self) -> u64 {
        self.0.words().load(APPLIED)
    }

    /// Owner only: the record of this generation is in use, or, if it is empty, no longer is
    /// and will not be touched again.
    pub fn acknowledge(&self, generation: u64) {
        self.0.words().store(APPLIED, generation);
    }

    /// The highest sequence number that may have been used. Who takes over the SA goes on
    /// above it.
    #[must_use]
    pub fn lease(&self) -> u64 {
        self.0.words().load(LEASE)
    }

    /// Owner only: numbers up to `up_to` may be used from now on. In memory before this
    /// returns, in the order that a kill at any instant leaves intact. Never goes back.
    pub fn publish_lease(&self, up_to: u64) {
        if up_to > self.lease() {
            self.0.words().store(LEASE, up_to);
            // No packet leaves before the lease that covers it is in the shared page.
            std::sync::atomic::fence(Ordering::SeqCst);
        }
    }

    /// The counters as last published; each is whole, together they may be a burst apart.
    #[must_use]
    pub fn counters(&self) -> OutCounters {
        self.0.words().out_counters()
    }

    /// Owner only: publishes the counters.
    pub fn publish(&self, counters: &OutCounters) {
        self.0.words().publish_out(counters);
    }
}
