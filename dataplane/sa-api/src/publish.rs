//! Control's side: publishing, retiring, and what a slot remembers.

use crate::algorithm::Key;
use crate::inbound::{
    InboundConfig, STATE_PRESENT, STATE_RETIRED, replay_range, state_of, worker_of,
};
use crate::mapping::Mapping;
use crate::maps::{SharedMaps, SlotState, slot_state};
use crate::outbound::OutboundConfig;
use crate::policy::{self, PolicyRow};
use crate::record::{BODY_WORDS, Body, CONFIG_WORDS, ConfigHalf, wipe_key};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use xswan_steer::spi::FIRST_SPI;
use zeroize::Zeroize as _;

/// Why a record cannot be published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublishError {
    /// The slot is past the table.
    NoSuchSlot,
    /// The slot holds another SA, or the worker has not let go of the last one yet.
    Busy,
    /// The SPI is reserved (RFC 4303 section 2.1).
    ReservedSpi,
    /// The key does not have the algorithm's length.
    KeyLength,
    /// The worker does not exist.
    NoSuchWorker,
    /// The replay range is not within the arena, or may not change while the SA is in use.
    ReplayRange,
    /// More rows than the policy table has.
    TooManyPolicies,
}

impl fmt::Display for PublishError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoSuchSlot => "no such slot",
            Self::Busy => "the slot is in use",
            Self::ReservedSpi => "SPIs below 256 are reserved",
            Self::KeyLength => "the key does not have the algorithm's length",
            Self::NoSuchWorker => "no such worker",
            Self::ReplayRange => "the replay range is outside the arena or in use",
            Self::TooManyPolicies => "more policies than the table holds",
        })
    }
}

impl std::error::Error for PublishError {}

impl SharedMaps {
    /// Control only: publishes an inbound SA; see the crate's notes on the life of a slot.
    /// Returns the generation that the worker will acknowledge.
    ///
    /// # Errors
    /// [`PublishError`]; then nothing has changed.
    pub fn publish_inbound(&self, slot: u32, config: &InboundConfig) -> Result<u64, PublishError> {
        self.check(config.spi, config.worker, &config.key, config.algorithm.key_len())?;
        self.check_replay_range(config)?;
        let record = self.sa_in.record(slot).ok_or(PublishError::NoSuchSlot)?;
        let half = ConfigHalf::of(record).ok_or(PublishError::NoSuchSlot)?;
        let identity = self.identity(config.spi, &config.key);
        let state = slot_state(&self.sa_in, slot).ok_or(PublishError::NoSuchSlot)?;
        let mut old = half.peek();
        let (old_range, old_worker) = (replay_range(&old), worker_of(&old));
        old.zeroize();
        let new_range = (config.replay_offset, config.replay_len);
        let same = self.heal(&half) == identity;
        match (same, state) {
            // The same SA, wherever its worker is with it: the state goes on.
            (true, SlotState::Free) if old_range == new_range => {}
            (true, SlotState::Free) => {
                // Another window: what is known of the old one is its top.
                let floor = self.replay_floor(old_range);
                self.reset_replay(new_range, floor);
            }
            // Two workers must not have it at once.
            (true, _) if old_worker != config.worker => return Err(PublishError::Busy),
            (true, _) if old_range == new_range => {}
            (true, _) => return Err(PublishError::ReplayRange),
            (false, SlotState::Free) => {
                half.set_identity(0);
                reset_live(record);
                self.reset_replay(new_range, 0);
            }
            (false, _) => return Err(PublishError::Busy),
        }
        Ok(publish(&half, config.to_body(), identity))
    }

    /// Control only: publishes an outbound SA; see the crate's notes on the life of a slot.
    /// Returns the generation that the worker will acknowledge.
    ///
    /// # Errors
    /// [`PublishError`]; then nothing has changed.
    pub fn publish_outbound(
        &self,
        slot: u32,
        config: &OutboundConfig,
    ) -> Result<u64, PublishError> {
        self.check(config.spi, config.worker, &config.key, config.algorithm.key_len())?;
        let record = self.sa_out.record(slot).ok_or(PublishError::NoSuchSlot)?;
        let half = ConfigHalf::of(record).ok_or(PublishError::NoSuchSlot)?;
        let identity = self.identity(config.spi, &config.key);
        let state = slot_state(&self.sa_out, slot).ok_or(PublishError::NoSuchSlot)?;
        let mut old = half.peek();
        let old_worker = worker_of(&old);
        old.zeroize();
        match (self.heal(&half) == identity, state) {
            (true, SlotState::Free) => {}
            // Two workers must not have it at once.
            (true, _) if old_worker == config.worker => {}
            (false, SlotState::Free) => {
                half.set_identity(0);
                reset_live(record);
            }
            _ => return Err(PublishError::Busy),
        }
        Ok(publish(&half, config.to_body(), identity))
    }

    /// Control only: takes an inbound SA away and wipes its key. The slot is free when the
    /// worker has acknowledged the generation returned; `None` past the table.
    pub fn retire_inbound(&self, slot: u32) -> Option<u64> {
        self.retire(&self.sa_in, slot)
    }

    /// Control only: takes an outbound SA away and wipes its key. The slot is free when the
    /// worker has acknowledged the generation returned; `None` past the table.
    pub fn retire_outbound(&self, slot: u32) -> Option<u64> {
        self.retire(&self.sa_out, slot)
    }

    /// Control only: replaces the policy table.
    ///
    /// # Errors
    /// [`PublishError::TooManyPolicies`]; then nothing has changed.
    pub fn publish_policies(&self, rows: &[PolicyRow]) -> Result<(), PublishError> {
        if policy::publish(&self.policy, self.header.geometry.policies, rows) {
            Ok(())
        } else {
            Err(PublishError::TooManyPolicies)
        }
    }

    /// Whether the slot's live half belongs to this SPI and key, now or before it was retired.
    #[must_use]
    pub fn inbound_remembers(&self, slot: u32, spi: u32, key: &Key) -> bool {
        remembered(&self.sa_in, slot) == Some(self.identity(spi, key))
    }

    /// Whether the slot's live half belongs to this SPI and key, now or before it was retired.
    #[must_use]
    pub fn outbound_remembers(&self, slot: u32, spi: u32, key: &Key) -> bool {
        remembered(&self.sa_out, slot) == Some(self.identity(spi, key))
    }

    /// Whether the slot's live half belongs to some SA, present or retired.
    #[must_use]
    pub fn inbound_remembers_any(&self, slot: u32) -> bool {
        remembered(&self.sa_in, slot).is_some_and(|identity| identity != 0)
    }

    /// Whether the slot's live half belongs to some SA, present or retired.
    #[must_use]
    pub fn outbound_remembers_any(&self, slot: u32) -> bool {
        remembered(&self.sa_out, slot).is_some_and(|identity| identity != 0)
    }

    /// The replay range that a slot holds, of an SA present or retired: not to be given to
    /// another slot. `None` past the table or if there is none.
    #[must_use]
    pub fn replay_range(&self, slot: u32) -> Option<(u32, u32)> {
        let half = ConfigHalf::of(self.sa_in.record(slot)?)?;
        Some(replay_range(&half.peek())).filter(|(_, len)| *len > 0)
    }

    /// The SPI of the SA that an inbound slot held before it was retired; `None` if the slot
    /// holds one, never did, or is being written.
    #[must_use]
    pub fn inbound_retired_spi(&self, slot: u32) -> Option<u32> {
        let (_, body) = ConfigHalf::of(self.sa_in.record(slot)?)?.read()?;
        let (state, spi) = state_of(&body);
        (state == STATE_RETIRED).then_some(spi)
    }

    /// Control only: forgets whose live half and replay window a free inbound slot holds, so
    /// that the range can be given to another SA. False if the slot is not free. What is
    /// forgotten is not recognised when it comes back: the last resort when the arena is full.
    pub fn forget_inbound(&self, slot: u32) -> bool {
        let half = self.sa_in.record(slot).and_then(ConfigHalf::of);
        let free = slot_state(&self.sa_in, slot) == Some(SlotState::Free);
        let Some(half) = half.filter(|_| free) else { return false };
        half.set_identity(0);
        let generation = half.write(&[0; BODY_WORDS]);
        // The slot has no owner: nobody else would acknowledge.
        if let Some(live) = self.inbound_live(slot) {
            live.acknowledge(generation);
        }
        true
    }

    fn check(&self, spi: u32, worker: u16, key: &Key, len: usize) -> Result<(), PublishError> {
        if spi < FIRST_SPI {
            return Err(PublishError::ReservedSpi);
        }
        if u32::from(worker) >= self.header.geometry.workers {
            return Err(PublishError::NoSuchWorker);
        }
        if key.as_bytes().len() != len { Err(PublishError::KeyLength) } else { Ok(()) }
    }

    fn check_replay_range(&self, config: &InboundConfig) -> Result<(), PublishError> {
        let end = config.replay_offset.checked_add(config.replay_len);
        let inside = end.is_some_and(|end| end <= self.header.geometry.replay_words);
        let enough = config.replay_len >= crate::replay::replay_words_for(config.replay_window);
        if inside && enough { Ok(()) } else { Err(PublishError::ReplayRange) }
    }

    /// SPI and 32 bits that depend on the key and on the instance: enough to know a key
    /// again, by far not enough to know the key.
    fn identity(&self, spi: u32, key: &Key) -> u64 {
        let [key0, key1, key2, key3] = self.header.spi_key;
        let seed = u64::from(key0) | (u64::from(key1) << 32);
        let last = u64::from(key2) | (u64::from(key3) << 32);
        let mix = |state: u64, octet: &u8| {
            (state ^ u64::from(*octet)).wrapping_mul(0x0100_0000_01b3).rotate_left(23)
        };
        let mixed = key.as_bytes().iter().fold(seed, mix) ^ last;
        let folded = mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        (u64::from(spi) << 32) | folded
    }

    /// The identity; if a control died after it had published and before it had said whose
    /// the live half is, says so now.
    fn heal(&self, half: &ConfigHalf<'_>) -> u64 {
        let known = half.identity();
        if known != 0 {
            return known;
        }
        let Some((_, mut body)) = half.read() else { return 0 };
        let (state, spi) = state_of(&body);
        // SPI, key and its length lie at the same place in both directions.
        let key = (state == STATE_PRESENT).then(|| key_of(&body)).flatten();
        body.zeroize();
        let Some(key) = key else { return 0 };
        let identity = self.identity(spi, &key);
        half.set_identity(identity);
        identity
    }

    fn retire(&self, table: &Mapping, slot: u32) -> Option<u64> {
        let half = ConfigHalf::of(table.record(slot)?)?;
        self.heal(&half);
        let mut body = half.peek();
        let (_, spi) = state_of(&body);
        // The rest stays: the replay range is needed if the same SA comes back.
        wipe_key(&mut body);
        if let Some(state) = body.first_mut() {
            *state = u64::from(STATE_RETIRED) | (u64::from(spi) << 32);
        }
        Some(half.write(&body))
    }

    fn replay_words(&self, (offset, len): (u32, u32)) -> &[AtomicU64] {
        let (offset, len) = (offset as usize, len as usize);
        let words = self.replay.words().get(offset..).unwrap_or_default();
        words.get(..len).unwrap_or_default()
    }

    /// The highest sequence number that a window may have seen: its top, or the target of an
    /// advance that was cut short.
    fn replay_floor(&self, range: (u32, u32)) -> u64 {
        let words = self.replay_words(range).iter().take(2);
        words.map(|word| word.load(Ordering::Acquire)).max().unwrap_or(0)
    }

    /// A new window below which everything counts as seen: top 0 and a target above it is an
    /// advance cut short, which the worker mends when it adopts the window.
    fn reset_replay(&self, range: (u32, u32), floor: u64) {
        let words = self.replay_words(range);
        for word in words {
            word.store(0, Ordering::Relaxed);
        }
        if let Some(target) = words.get(1) {
            target.store(floor, Ordering::Release);
        }
    }
}

/// The key in a body of either direction. One of `sa_out` is never taken for one of `sa_in`:
/// where that has the local family, 4 or 6, it has both families in one octet.
fn key_of(body: &Body) -> Option<Key> {
    InboundConfig::from_body(body)
        .map(|config| config.key.clone())
        .or_else(|_| OutboundConfig::from_body(body).map(|config| config.key.clone()))
        .ok()
}

fn remembered(table: &Mapping, slot: u32) -> Option<u64> {
    Some(ConfigHalf::of(table.record(slot)?)?.identity())
}

/// Zeroes a live half but for the acknowledgement, which stays a true word about the slot.
fn reset_live(record: &[AtomicU64]) {
    for word in record.iter().skip(CONFIG_WORDS + 1) {
        word.store(0, Ordering::Release);
    }
}

fn publish(half: &ConfigHalf<'_>, mut body: Body, identity: u64) -> u64 {
    let generation = half.write(&body);
    body.zeroize();
    half.set_identity(identity);
    generation
}
