//! All maps together: opening or making them, and the record-level reads and writes.

use crate::doorbell::{DoorbellReceiver, DoorbellSender};
use crate::event::{EventReceiver, EventSender};
use crate::header::{Geometry, Header};
use crate::inbound::{InboundConfig, STATE_EMPTY, STATE_PRESENT, STATE_RETIRED, state_of};
use crate::live::{InLive, InLives, OutLive, OutLives};
use crate::mapping::Mapping;
use crate::open::{
    Layout, OpenError, check_geometry, ensure_directory, fresh_header, layouts, open_header,
    open_or_create_map,
};
use crate::outbound::OutboundConfig;
use crate::policy::{self, PolicyRow, Torn};
use crate::record::{Body, CONFIG_WORDS, ConfigHalf, Read};
use crate::replay::{Arena, ClaimError, ReplayWords};
use crate::steering::SteerMaps;
use crate::sys::{MMAPABLE, MapShape, MapType, Region};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use xswan_steer::spi::{FIRST_SPI, SpiKey};
use zeroize::Zeroize as _;

/// Where a slot is in its life, as control needs it to choose a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotState {
    /// Never used, or used and let go.
    Free,
    /// Retired, and the worker has not acknowledged.
    Draining,
    /// Published.
    Used,
    /// Half-written by a control that died.
    Torn,
}

/// The shared maps of one instance. Handles on it may be cloned and sent at will; who may
/// write what is a matter of [`crate::lock::Role`].
#[derive(Clone, Debug)]
pub struct SharedMaps {
    pub(crate) header: Header,
    pub(crate) sa_in: Mapping,
    pub(crate) sa_out: Mapping,
    pub(crate) policy: Mapping,
    doorbell: Mapping,
    events: Mapping,
    pub(crate) replay: Mapping,
    arena: Arc<Arena>,
    steering: Option<Arc<SteerMaps>>,
}

impl SharedMaps {
    /// Opens the maps of an instance, making those that are missing. Both daemons may do so
    /// at the same time.
    ///
    /// # Errors
    /// [`OpenError`], whose text names the path and what mends it.
    pub fn open_or_create(directory: &Path, geometry: &Geometry) -> Result<Self, OpenError> {
        check_geometry(geometry)?;
        ensure_directory(directory)?;
        let header = open_header(directory, geometry)?;
        let map = |(name, record_words, records): Layout| {
            let shape = MapShape {
                kind: MapType::Array as u32,
                key_size: 4,
                value_size: (record_words * 8) as u32,
                max_entries: records,
                flags: MMAPABLE,
            };
            let fd = open_or_create_map(directory, name, &shape)?;
            let region = Region::of_map(fd.as_fd(), record_words * records as usize)
                .map_err(|error| OpenError::Map { path: directory.join(name), error })?;
            Ok(Mapping::new(Arc::new(region), record_words))
        };
        let steering = Some(Arc::new(SteerMaps::open_or_create(directory)?));
        Self::assemble(header, map, steering)
    }

    /// The same without BPF, in this process and its forks only and without steering maps:
    /// for tests and benches.
    ///
    /// # Errors
    /// [`OpenError`] if there is no memory.
    pub fn in_memory(geometry: &Geometry) -> Result<Self, OpenError> {
        check_geometry(geometry)?;
        let failed = |error| OpenError::Map { path: PathBuf::from("memory"), error };
        let header = fresh_header(*geometry).map_err(failed)?;
        let map = |(_, record_words, records): Layout| {
            let region = Region::anonymous(record_words * records as usize).map_err(failed)?;
            Ok(Mapping::new(Arc::new(region), record_words))
        };
        Self::assemble(header, map, None)
    }

    /// Overwrites every table but the replay arena with `bytes`, repeated: the other side gone
    /// mad, for fuzzing.
    #[doc(hidden)]
    pub fn scribble(&self, bytes: &[u8]) {
        let tables = [&self.sa_in, &self.sa_out, &self.policy, &self.doorbell, &self.events];
        let words = tables.into_iter().flat_map(|table| table.words());
        for (word, chunk) in words.zip(bytes.chunks(8).cycle()) {
            let mut octets = [0; 8];
            for (to, from) in octets.iter_mut().zip(chunk) {
                *to = *from;
            }
            word.store(u64::from_le_bytes(octets), Ordering::Relaxed);
        }
    }

    fn assemble(
        header: Header,
        map: impl Fn(Layout) -> Result<Mapping, OpenError>,
        steering: Option<Arc<SteerMaps>>,
    ) -> Result<Self, OpenError> {
        let [sa_in, sa_out, policy, doorbell, events, replay] = layouts(&header.geometry);
        let replay = map(replay)?;
        Ok(Self {
            header,
            sa_in: map(sa_in)?,
            sa_out: map(sa_out)?,
            policy: map(policy)?,
            doorbell: map(doorbell)?,
            events: map(events)?,
            arena: Arc::new(Arena::new(Arc::clone(replay.region()))),
            replay,
            steering,
        })
    }

    /// How large the maps are.
    #[must_use]
    pub fn geometry(&self) -> &Geometry {
        &self.header.geometry
    }

    /// The key of the SPI permutation, drawn when the maps were made.
    #[must_use]
    pub fn spi_key(&self) -> SpiKey {
        SpiKey(self.header.spi_key)
    }

    /// The steering maps; `None` for maps in memory.
    #[must_use]
    pub fn steering(&self) -> Option<&SteerMaps> {
        self.steering.as_deref()
    }

    /// Any reader: the inbound SA of a slot; empty past the table.
    #[must_use]
    pub fn read_inbound(&self, slot: u32) -> Read<InboundConfig> {
        read(&self.sa_in, slot, InboundConfig::from_body)
    }

    /// Any reader: the outbound SA of a slot; empty past the table.
    #[must_use]
    pub fn read_outbound(&self, slot: u32) -> Read<OutboundConfig> {
        read(&self.sa_out, slot, OutboundConfig::from_body)
    }

    /// The live half of an inbound record; `None` past the table.
    #[must_use]
    pub fn inbound_live(&self, slot: u32) -> Option<InLive> {
        InLive::of(&self.sa_in, slot)
    }

    /// The live half of an outbound record; `None` past the table.
    #[must_use]
    pub fn outbound_live(&self, slot: u32) -> Option<OutLive> {
        OutLive::of(&self.sa_out, slot)
    }

    /// The live halves of all inbound records.
    #[must_use]
    pub fn inbound_lives(&self) -> InLives {
        InLives::of(&self.sa_in)
    }

    /// The live halves of all outbound records.
    #[must_use]
    pub fn outbound_lives(&self) -> OutLives {
        OutLives::of(&self.sa_out)
    }

    /// Any reader: all policies of one edition in order, and its generation.
    ///
    /// # Errors
    /// [`Torn`] if it is being written: keep what was applied and read again later.
    pub fn read_policies(&self) -> Result<(u64, Vec<PolicyRow>), Torn> {
        policy::read(&self.policy, self.header.geometry.policies)
    }

    /// The generation of the policy table, without reading it; odd while written.
    #[must_use]
    pub fn policies_generation(&self) -> u64 {
        policy::generation(&self.policy)
    }

    /// The generation of the policy table that the dataplane has taken in.
    #[must_use]
    pub fn policies_applied(&self) -> u64 {
        policy::applied(&self.policy)
    }

    /// Dataplane only: says which edition of the policy table every worker uses.
    pub fn acknowledge_policies(&self, generation: u64) {
        policy::acknowledge(&self.policy, generation);
    }

    /// Dataplane only: the words of an inbound SA's replay window.
    ///
    /// # Errors
    /// [`ClaimError`] if the range is not in the arena or claimed already.
    pub fn claim_replay(&self, offset: u32, len: u32) -> Result<ReplayWords, ClaimError> {
        ReplayWords::claim(&self.arena, offset, len)
    }

    /// Control's end of the doorbell.
    #[must_use]
    pub fn doorbell_sender(&self) -> Option<DoorbellSender> {
        DoorbellSender::of(&self.doorbell, self.header.geometry.sa_slots)
    }

    /// The dataplane main thread's end of the doorbell.
    #[must_use]
    pub fn doorbell_receiver(&self) -> Option<DoorbellReceiver> {
        DoorbellReceiver::of(&self.doorbell, self.header.geometry.sa_slots)
    }

    /// A worker's end of its events; `None` if there is no such worker.
    #[must_use]
    pub fn event_sender(&self, worker: u32) -> Option<EventSender> {
        EventSender::of(&self.events, worker)
    }

    /// Control's end of a worker's events; `None` if there is no such worker.
    #[must_use]
    pub fn event_receiver(&self, worker: u32) -> Option<EventReceiver> {
        EventReceiver::of(&self.events, worker)
    }

    /// Whether an inbound slot may be published into: empty, and its worker has let go.
    #[must_use]
    pub fn inbound_is_free(&self, slot: u32) -> bool {
        self.inbound_state(slot) == Some(SlotState::Free)
    }

    /// Whether an outbound slot may be published into: empty, and its worker has let go.
    #[must_use]
    pub fn outbound_is_free(&self, slot: u32) -> bool {
        self.outbound_state(slot) == Some(SlotState::Free)
    }

    /// Whether the worker has taken in what [`SharedMaps::publish_inbound`] or
    /// [`SharedMaps::retire_inbound`] returned this generation for, or something later.
    /// False for ever if the dataplane does not run, or could make no SA of the record.
    #[must_use]
    pub fn inbound_applied(&self, slot: u32, generation: u64) -> bool {
        self.inbound_live(slot).is_some_and(|live| live.applied_generation() >= generation)
    }

    /// The same for [`SharedMaps::publish_outbound`] and [`SharedMaps::retire_outbound`].
    #[must_use]
    pub fn outbound_applied(&self, slot: u32, generation: u64) -> bool {
        self.outbound_live(slot).is_some_and(|live| live.applied_generation() >= generation)
    }

    /// Where an inbound slot is in its life; `None` past the table.
    #[must_use]
    pub fn inbound_state(&self, slot: u32) -> Option<SlotState> {
        slot_state(&self.sa_in, slot)
    }

    /// Where an outbound slot is in its life; `None` past the table.
    #[must_use]
    pub fn outbound_state(&self, slot: u32) -> Option<SlotState> {
        slot_state(&self.sa_out, slot)
    }
}

fn read<T>(
    table: &Mapping,
    slot: u32,
    decode: impl Fn(&Body) -> Result<T, &'static str>,
) -> Read<T> {
    let Some(half) = table.record(slot).and_then(ConfigHalf::of) else {
        return Read::Empty { generation: 0 };
    };
    let Some((generation, mut body)) = half.read() else { return Read::Torn };
    let (state, spi) = state_of(&body);
    let decoded = match state {
        STATE_EMPTY | STATE_RETIRED => return Read::Empty { generation },
        STATE_PRESENT if spi >= FIRST_SPI => decode(&body),
        STATE_PRESENT => Err("spi"),
        _ => Err("state"),
    };
    body.zeroize();
    match decoded {
        Ok(config) => Read::Present { generation, config },
        Err(field) => Read::Invalid { generation, field },
    }
}

pub(crate) fn slot_state(table: &Mapping, slot: u32) -> Option<SlotState> {
    let record = table.record(slot)?;
    let half = ConfigHalf::of(record)?;
    let Some((generation, body)) = half.read() else { return Some(SlotState::Torn) };
    let applied = record.get(CONFIG_WORDS)?.load(Ordering::Acquire);
    Some(match state_of(&body) {
        (STATE_EMPTY | STATE_RETIRED, _) if applied == generation => SlotState::Free,
        (STATE_EMPTY | STATE_RETIRED, _) => SlotState::Draining,
        _ => SlotState::Used,
    })
}
