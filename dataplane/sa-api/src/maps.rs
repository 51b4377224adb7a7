//! All maps together: opening or making them, and the record-level reads and writes.

use crate::algorithm::Key;
use crate::header::{Difference, Geometry, HEADER_LEN, Header, LAYOUT_VERSION};
use crate::inbound::{
    InboundConfig, KEY_WORD, STATE_EMPTY, STATE_PRESENT, STATE_RETIRED, replay_range, state_of,
    worker_of,
};
use crate::live::{InLive, OutLive};
use crate::mapping::Mapping;
use crate::outbound::OutboundConfig;
use crate::policy::{self, PolicyRow, ROW_WORDS, Torn};
use crate::record::{Body, CONFIG_WORDS, ConfigHalf, RECORD_WORDS, Read};
use crate::replay::{ClaimError, Claims, ReplayWords};
use crate::ring::{DoorbellReceiver, DoorbellSender, EventReceiver, EventSender, RING_WORDS};
use crate::steering::SteerMaps;
use crate::sys::{self, ElementMap, MMAPABLE, MapShape, MapType, Region};
use std::fmt;
use std::fs::DirBuilder;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use xswan_steer::spi::{FIRST_SPI, SLOT_BITS, SpiKey};
use zeroize::Zeroize as _;

/// Why the maps cannot be had.
#[derive(Debug)]
pub enum OpenError {
    /// The directory is not on a BPF file system.
    NotBpfFs {
        /// The directory.
        path: PathBuf,
    },
    /// The directory cannot be made or looked at.
    Directory {
        /// The directory.
        path: PathBuf,
        /// The kernel's reason.
        error: io::Error,
    },
    /// A map cannot be made, pinned, opened or mapped.
    Map {
        /// Where it is pinned.
        path: PathBuf,
        /// The kernel's reason.
        error: io::Error,
    },
    /// The maps that are there have another layout or geometry.
    Mismatch {
        /// Which one.
        path: PathBuf,
        /// What differs.
        difference: String,
    },
    /// The geometry makes no sense.
    Geometry {
        /// Which figure.
        what: &'static str,
    },
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotBpfFs { path } => write!(
                f,
                "{}: not on a BPF file system; mount one: mount -t bpf bpf /sys/fs/bpf",
                path.display()
            ),
            Self::Directory { path, error } | Self::Map { path, error } => {
                write!(f, "{}: {error}{}", path.display(), mend(error))
            }
            Self::Mismatch { path, difference } => {
                let directory = path.parent().unwrap_or(path);
                write!(
                    f,
                    "{}: made with {difference}; stop both daemons and remove {} to start anew",
                    path.display(),
                    directory.display()
                )
            }
            Self::Geometry { what } => write!(f, "{what} is out of range"),
        }
    }
}

impl std::error::Error for OpenError {}

/// The command or right that mends an error of the kernel's.
fn mend(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => "; CAP_BPF and CAP_NET_ADMIN are needed",
        Some(libc::EROFS) => "; remount the BPF file system read-write",
        Some(libc::ENOMEM | libc::ENOSPC) => "; make the maps smaller or give more memory",
        _ => "",
    }
}

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

/// Where a map is in the life of its SA, as control needs it to choose a slot.
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
    header: Header,
    sa_in: Mapping,
    sa_out: Mapping,
    policy: Mapping,
    doorbell: Mapping,
    events: Mapping,
    replay: Mapping,
    claims: Arc<Claims>,
    steering: Option<Arc<SteerMaps>>,
}

/// Opens the pinned map of this name, or makes and pins it; if another process is faster,
/// opens that one's.
pub(crate) fn open_or_create_map(
    directory: &Path,
    name: &str,
    shape: &MapShape,
) -> Result<OwnedFd, OpenError> {
    let path = directory.join(name);
    let failed = |error| OpenError::Map { path: path.clone(), error };
    let map = match sys::open_pinned(&path) {
        Ok(map) => map,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let map = sys::create(name, shape).map_err(failed)?;
            match sys::pin(map.as_fd(), &path) {
                Ok(()) => map,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    sys::open_pinned(&path).map_err(failed)?
                }
                Err(error) => return Err(failed(error)),
            }
        }
        Err(error) => return Err(failed(error)),
    };
    let found = sys::shape_of(map.as_fd()).map_err(failed)?;
    if found == *shape {
        return Ok(map);
    }
    Err(OpenError::Mismatch {
        path,
        difference: format!("{found:?}, this process wants {shape:?}"),
    })
}

fn ensure_directory(directory: &Path) -> Result<(), OpenError> {
    let failed = |error| OpenError::Directory { path: directory.to_owned(), error };
    // The nearest ancestor that exists tells the file system before anything is made.
    let ancestor = directory.ancestors().find(|path| path.exists()).unwrap_or(directory);
    if !sys::is_bpf_fs(ancestor).map_err(failed)? {
        return Err(OpenError::NotBpfFs { path: directory.to_owned() });
    }
    DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed)
}

fn open_header(directory: &Path, geometry: &Geometry) -> Result<Header, OpenError> {
    const NAME: &str = "xswan_header";
    let path = directory.join(NAME);
    let failed = |error| OpenError::Map { path: path.clone(), error };
    let shape = MapShape {
        kind: MapType::Array as u32,
        key_size: 4,
        value_size: HEADER_LEN as u32,
        max_entries: 1,
        flags: 0,
    };
    let index = 0_u32.to_ne_bytes();
    let map = match sys::open_pinned(&path) {
        Ok(map) => map,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let map = sys::create(NAME, &shape).map_err(failed)?;
            // Filled before anyone can see it.
            let header = fresh_header(*geometry).map_err(failed)?;
            let elements = ElementMap::new(map.try_clone().map_err(failed)?).map_err(failed)?;
            elements.update(&index, &header.to_bytes()).map_err(failed)?;
            match sys::pin(map.as_fd(), &path) {
                Ok(()) => map,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    sys::open_pinned(&path).map_err(failed)?
                }
                Err(error) => return Err(failed(error)),
            }
        }
        Err(error) => return Err(failed(error)),
    };
    let mismatch = |difference| OpenError::Mismatch { path: path.clone(), difference };
    if sys::shape_of(map.as_fd()).map_err(failed)? != shape {
        return Err(mismatch("another layout".to_owned()));
    }
    let mut bytes = [0; HEADER_LEN];
    ElementMap::new(map).and_then(|map| map.lookup(&index, &mut bytes)).map_err(failed)?;
    let header =
        Header::from_bytes(&bytes).ok_or_else(|| mismatch("an unknown header".to_owned()))?;
    match header.difference(geometry) {
        None => Ok(header),
        Some(difference @ Difference { .. }) => Err(mismatch(difference.to_string())),
    }
}

fn fresh_header(geometry: Geometry) -> io::Result<Header> {
    let mut random = [0_u8; 16];
    sys::random(&mut random)?;
    let mut spi_key = [0; 4];
    for (word, chunk) in spi_key.iter_mut().zip(random.as_chunks::<4>().0) {
        *word = u32::from_ne_bytes(*chunk);
    }
    Ok(Header { version: LAYOUT_VERSION, geometry, spi_key })
}

/// Name, words of a record, number of records.
type Layout = (&'static str, usize, u32);

fn layouts(geometry: &Geometry) -> [Layout; 6] {
    [
        ("sa_in", RECORD_WORDS, geometry.sa_slots),
        ("sa_out", RECORD_WORDS, geometry.sa_slots),
        ("policy", ROW_WORDS, geometry.policies.saturating_add(1)),
        ("doorbell", RING_WORDS, 1),
        ("events", RING_WORDS, geometry.workers),
        ("replay", 1, geometry.replay_words),
    ]
}

fn check_geometry(geometry: &Geometry) -> Result<(), OpenError> {
    let checks = [
        ("sa_slots", geometry.sa_slots, 1..=1 << SLOT_BITS),
        ("policies", geometry.policies, 1..=1 << 20),
        ("replay_words", geometry.replay_words, 1..=1 << 28),
        ("workers", geometry.workers, 1..=xswan_steer::abi::MAX_WORKERS),
        ("member", geometry.member, 0..=15),
    ];
    match checks.into_iter().find(|(_, value, range)| !range.contains(value)) {
        None => Ok(()),
        Some((what, ..)) => Err(OpenError::Geometry { what }),
    }
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
        Ok(Self {
            header,
            sa_in: map(sa_in)?,
            sa_out: map(sa_out)?,
            policy: map(policy)?,
            doorbell: map(doorbell)?,
            events: map(events)?,
            replay: map(replay)?,
            claims: Arc::default(),
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
        ReplayWords::claim(self.replay.region(), &self.claims, offset, len)
    }

    /// Control's end of the doorbell.
    #[must_use]
    pub fn doorbell_sender(&self) -> Option<DoorbellSender> {
        DoorbellSender::of(&self.doorbell)
    }

    /// The dataplane main thread's end of the doorbell.
    #[must_use]
    pub fn doorbell_receiver(&self) -> Option<DoorbellReceiver> {
        DoorbellReceiver::of(&self.doorbell)
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
        let old = half.peek();
        let old_range = replay_range(&old);
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
            (true, _) if worker_of(&old) != config.worker => return Err(PublishError::Busy),
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
        match (self.heal(&half) == identity, state) {
            (true, SlotState::Free) => {}
            // Two workers must not have it at once.
            (true, _) if worker_of(&half.peek()) == config.worker => {}
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
        let generation = half.write(&[0; crate::record::BODY_WORDS]);
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
        if let Some(key) = body.get_mut(KEY_WORD..KEY_WORD + 5) {
            key.zeroize();
        }
        if let Some(state) = body.first_mut() {
            *state = u64::from(STATE_RETIRED) | (u64::from(spi) << 32);
        }
        Some(half.write(&body))
    }

    fn replay_words(&self, (offset, len): (u32, u32)) -> &[std::sync::atomic::AtomicU64] {
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

fn key_of(body: &Body) -> Option<Key> {
    InboundConfig::from_body(body)
        .map(|config| config.key.clone())
        .or_else(|_| OutboundConfig::from_body(body).map(|config| config.key.clone()))
        .ok()
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

fn slot_state(table: &Mapping, slot: u32) -> Option<SlotState> {
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

fn remembered(table: &Mapping, slot: u32) -> Option<u64> {
    Some(ConfigHalf::of(table.record(slot)?)?.identity())
}

/// Zeroes a live half but for the acknowledgement, which stays a true word about the slot.
fn reset_live(record: &[std::sync::atomic::AtomicU64]) {
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
