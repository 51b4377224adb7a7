//! From the shared records to the workers' tables.
//!
//! The main thread answers the doorbell: it reads a record, expands the key (which
//! allocates and takes a microsecond, so no worker does it) and sends the finished SA to
//! the worker that owns it. Policies are swapped in when the SAs they name have arrived, and an
//! outbound SA is taken away when no policy names it any more, so that a rekey loses nothing
//! whatever order control writes in. A slot that is to hold another SA is emptied first: only one
//! process and only one SA may ever have a slot's replay words and lease.
//!
//! Work is done for what has changed, a bounded amount at once, and never more than a worker's
//! ring has room for: what has to wait stays in the shared records, and only its slot number here.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::ops::Bound;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rtrb::{Consumer, Producer};
use xswan_aead::Backend;
use xswan_pipeline::spd::Spd;
use xswan_sa_api::{DoorbellReceiver, InboundConfig, OutboundConfig, Read, Ring, SharedMaps};
use xswan_steer::spi::SpiParts;
use xswan_wire::icmp::TooBig;
use xswan_wire::layers::Addresses;
use xswan_xsk::Bell;

use crate::peers::Peers;
use crate::ready;
use crate::worker::{Command, Retired};

mod edition;
mod policies;

use edition::{Awaited, Progress};

/// Records that are looked at in one poll at most: it is to end within milliseconds.
const CHANGES_AT_ONCE: usize = 4096;
/// Records that are looked at once more in one poll at most.
const LATER_AT_ONCE: usize = 1024;
/// While so many wait, no further ones are looked at that nobody rang for.
const LATER_MAX: usize = 65_536;
/// Room that a worker's ring must have for a change: what one SA needs, and what is sent
/// without asking.
const ROOM: usize = 16;

/// Floors of a learned path MTU in bytes: an unauthenticated message gets no further down
/// (RFC 791's 576 for IPv4; RFC 8200 section 5 for IPv6).
const PATH_MTU_FLOOR4: u16 = 576;
const PATH_MTU_FLOOR6: u16 = 1280;

/// The main thread's rings to one worker.
pub struct WorkerLink {
    /// Commands.
    pub inbox: Producer<Command>,
    /// What it gives back.
    pub outbox: Consumer<Retired>,
    /// Wakes it, if there is a thread that may sleep.
    pub bell: Option<Arc<Bell>>,
}

/// What a slot holds, as far as the main thread has ordered it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Slot {
    #[default]
    Empty,
    /// With a worker.
    Held { generation: u64, worker: u16, spi: u32, is_static: bool },
    /// Taken from the worker, not back yet; the record is read again then.
    Draining,
}

const _: () = assert!(size_of::<Slot>() == 16);

/// One of the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Table {
    Inbound,
    Outbound,
}

/// The main thread's view of both tables.
pub struct Sadb {
    maps: Arc<SharedMaps>,
    doorbell: DoorbellReceiver,
    workers: Vec<WorkerLink>,
    backend: Backend,
    inbound: Vec<Slot>,
    outbound: Vec<Slot>,
    /// Outbound peers, for "packet too big".
    peers: Peers,
    /// Records that were being written when they were read. Their writer may be dead.
    torn: BTreeSet<(Table, u32)>,
    /// Records for a worker whose ring was full.
    later: BTreeSet<(Table, u32)>,
    /// The last of them that was looked at.
    later_at: Option<(Table, u32)>,
    /// Outbound SAs that are removed when the awaited edition is in use.
    leaving: BTreeSet<u32>,
    /// Where looking at everything has got to.
    scan_at: Option<u32>,
    spd: Arc<ArcSwap<Spd>>,
    policies_generation: Option<u64>,
    /// An edition that waits for workers to take in the SAs it names.
    awaited: Option<Awaited>,
}

impl Sadb {
    /// Takes in everything that is in the maps.
    ///
    /// # Errors
    /// If the doorbell cannot be had.
    pub fn new(
        maps: Arc<SharedMaps>,
        workers: Vec<WorkerLink>,
        backend: Backend,
        spd: Arc<ArcSwap<Spd>>,
    ) -> Result<Self, String> {
        let doorbell = maps.doorbell_receiver().ok_or("the doorbell map is too small")?;
        let slots = maps.geometry().sa_slots as usize;
        let mut sadb = Self {
            maps,
            doorbell,
            workers,
            backend,
            inbound: vec![Slot::Empty; slots],
            outbound: vec![Slot::Empty; slots],
            peers: Peers::new(slots),
            torn: BTreeSet::new(),
            later: BTreeSet::new(),
            later_at: None,
            leaving: BTreeSet::new(),
            scan_at: Some(0),
            spd,
            policies_generation: None,
            awaited: None,
        };
        while sadb.scan() {}
        // No worker runs yet, so none can have taken anything in.
        sadb.awaited = Some(Awaited::new());
        sadb.apply_policies();
        Ok(sadb)
    }

    /// The next few records, after the start and when everything may have changed; false if
    /// there are no more, or too many wait already.
    fn scan(&mut self) -> bool {
        let Some(first) = self.scan_at.filter(|_| self.later.len() < LATER_MAX) else {
            return false;
        };
        let slots = self.maps.geometry().sa_slots;
        let step = u32::try_from(CHANGES_AT_ONCE).unwrap_or(u32::MAX);
        let end = first.saturating_add(step).min(slots);
        for slot in first..end {
            self.apply_inbound(slot);
            self.apply_outbound(slot);
        }
        self.scan_at = Some(end).filter(|end| *end < slots);
        if self.scan_at.is_none() {
            self.await_policies();
        }
        self.scan_at.is_some()
    }

    /// Whether all that was whole in the maps has been given to the workers.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.scan_at.is_none() && self.later.is_empty()
    }

    fn await_policies(&mut self) {
        self.awaited.get_or_insert_with(Awaited::new);
    }

    /// Answers the doorbell and takes back what workers return. To be called often.
    pub fn poll(&mut self) {
        for worker in 0..self.workers.len() {
            while let Some(retired) = self.workers.get_mut(worker).and_then(|w| w.outbox.pop().ok())
            {
                self.take_back(retired);
            }
        }
        self.look_again();
        for _ in 0..CHANGES_AT_ONCE {
            match self.doorbell.poll() {
                Some(Ring::Inbound(slot)) => self.apply_inbound(slot),
                Some(Ring::Outbound(slot)) => self.apply_outbound(slot),
                Some(Ring::Policies) => self.await_policies(),
                Some(Ring::Everything) => self.scan_at = Some(0),
                None => break,
            }
        }
        self.scan();
        if self.named_are_applied() || self.awaited.as_ref().is_some_and(Awaited::is_overdue) {
            self.apply_policies();
        }
        if self.awaited.is_none() && !self.leaving.is_empty() {
            let leaving = std::mem::take(&mut self.leaving);
            leaving.into_iter().for_each(|slot| self.apply_outbound(slot));
        }
    }

    /// The next of those that had to wait, in turn.
    fn look_again(&mut self) {
        let after = self.later_at.map_or(Bound::Unbounded, Bound::Excluded);
        let next = self.later.range((after, Bound::Unbounded)).take(LATER_AT_ONCE);
        let batch: Vec<_> = next.copied().collect();
        self.later_at = batch.last().copied().filter(|_| batch.len() == LATER_AT_ONCE);
        let torn: Vec<_> = self.torn.iter().take(LATER_AT_ONCE).copied().collect();
        torn.iter().for_each(|record| _ = self.torn.remove(record));
        let batch = batch.into_iter().chain(torn);
        for (table, slot) in batch {
            self.later.remove(&(table, slot));
            match table {
                Table::Inbound => self.apply_inbound(slot),
                Table::Outbound => self.apply_outbound(slot),
            }
        }
    }

    fn take_back(&mut self, retired: Retired) {
        // Dropping the SA here frees its claim on the replay words, before the next reads.
        match retired {
            Retired::Inbound(slot, sa) => {
                drop(sa);
                if let Some(place @ Slot::Draining) = self.inbound.get_mut(slot as usize) {
                    *place = Slot::Empty;
                    self.apply_inbound(slot);
                }
            }
            Retired::Outbound(slot, sa) => {
                drop(sa);
                if let Some(place @ Slot::Draining) = self.outbound.get_mut(slot as usize) {
                    *place = Slot::Empty;
                    self.apply_outbound(slot);
                }
            }
            Retired::Packet(packet) => drop(packet),
        }
    }

    /// Whether a worker can be told, all of them for what all must know. One that is not there
    /// is told, which says so in the log.
    fn has_room(&self, worker: u16, is_static: bool) -> bool {
        let room = |link: &WorkerLink| link.inbox.slots() >= ROOM;
        if is_static {
            return self.workers.iter().all(room);
        }
        self.workers.get(usize::from(worker)).is_none_or(room)
    }

    fn send(&mut self, worker: u16, command: Command) {
        let worker = usize::from(worker);
        // There was room when it was asked for, and what is sent without asking can be lost.
        let Some(link) = self.workers.get_mut(worker) else { return };
        if link.inbox.push(command).is_err() {
            tracing::error!(worker, "a worker does not take commands");
        }
        if let Some(bell) = &link.bell {
            bell.ring();
        }
    }

    fn apply_inbound(&mut self, slot: u32) {
        let Some(&held) = self.inbound.get(slot as usize) else { return };
        if held == Slot::Draining {
            return;
        }
        match self.maps.read_inbound(slot) {
            Read::Torn => {
                self.torn.insert((Table::Inbound, slot));
            }
            Read::Invalid { generation, field } => {
                tracing::error!(slot, field, "inbound record not understood: treated as empty");
                self.empty_inbound(slot, held, generation);
            }
            Read::Empty { generation } => self.empty_inbound(slot, held, generation),
            Read::Present { generation, config } => match held {
                Slot::Held { generation: known, .. } if known == generation => {}
                // A slot is emptied before it gets another SA: this is the same under
                // other parameters.
                Slot::Held { .. } => self.install_inbound(slot, generation, &config, true),
                Slot::Empty | Slot::Draining => {
                    self.install_inbound(slot, generation, &config, false);
                }
            },
        }
    }

    fn empty_inbound(&mut self, slot: u32, held: Slot, generation: u64) {
        match held {
            Slot::Held { worker, is_static, .. } if !self.has_room(worker, is_static) => {
                self.later.insert((Table::Inbound, slot));
            }
            Slot::Held { worker, spi, is_static, .. } => {
                if is_static {
                    self.tell_all(spi, None);
                }
                self.send(worker, Command::Inbound { slot, generation, sa: None, update: false });
                self.set_inbound(slot, Slot::Draining);
            }
            Slot::Empty | Slot::Draining => {
                if let Some(live) = self.maps.inbound_live(slot) {
                    live.acknowledge(generation);
                }
            }
        }
    }

    fn install_inbound(
        &mut self,
        slot: u32,
        generation: u64,
        config: &InboundConfig,
        update: bool,
    ) {
        let worker = config.worker;
        let parts = SpiParts {
            member: u8::try_from(self.maps.geometry().member).unwrap_or(0),
            worker: u8::try_from(config.worker).unwrap_or(u8::MAX),
            slot,
        };
        let is_static = self.maps.spi_key().seal(parts) != Some(config.spi);
        if !self.has_room(worker, is_static) {
            self.later.insert((Table::Inbound, slot));
            return;
        }
        match ready::inbound(&self.maps, self.backend, slot, config, update) {
            Ok(sa) => {
                if is_static {
                    self.tell_all(config.spi, Some((u32::from(config.worker), slot)));
                }
                let sa = Some(Box::new(sa));
                self.send(worker, Command::Inbound { slot, generation, sa, update });
                self.set_inbound(
                    slot,
                    Slot::Held { generation, worker, spi: config.spi, is_static },
                );
            }
            Err(why) => tracing::error!(slot, spi = config.spi, %why, "inbound SA not installed"),
        }
    }

    fn set_inbound(&mut self, slot: u32, value: Slot) {
        if let Some(place) = self.inbound.get_mut(slot as usize) {
            *place = value;
        }
    }

    /// Every worker knows every SPI from outside: any of them may see its packets.
    fn tell_all(&mut self, spi: u32, place: Option<(u32, u32)>) {
        for worker in 0..u16::try_from(self.workers.len()).unwrap_or(u16::MAX) {
            self.send(worker, Command::StaticSpi { spi, place });
        }
    }

    fn apply_outbound(&mut self, slot: u32) {
        let Some(&held) = self.outbound.get(slot as usize) else { return };
        if held == Slot::Draining {
            return;
        }
        match self.maps.read_outbound(slot) {
            Read::Torn => {
                self.torn.insert((Table::Outbound, slot));
            }
            Read::Invalid { generation, field } => {
                tracing::error!(slot, field, "outbound record not understood: treated as empty");
                self.empty_outbound(slot, held, generation);
            }
            Read::Empty { generation } => self.empty_outbound(slot, held, generation),
            Read::Present { generation, config } => match held {
                Slot::Held { generation: known, .. } if known == generation => {}
                Slot::Held { .. } => self.install_outbound(slot, generation, &config, true),
                Slot::Empty | Slot::Draining => {
                    self.install_outbound(slot, generation, &config, false);
                }
            },
        }
    }

    fn empty_outbound(&mut self, slot: u32, held: Slot, generation: u64) {
        match held {
            // The edition in use may still send through it; the one awaited may have another.
            Slot::Held { .. } if self.policies_are_due() => {
                self.leaving.insert(slot);
            }
            Slot::Held { worker, .. } if !self.has_room(worker, false) => {
                self.later.insert((Table::Outbound, slot));
            }
            Slot::Held { worker, .. } => {
                self.send(worker, Command::Outbound { slot, generation, sa: None, update: false });
                self.set_outbound(slot, Slot::Draining, None);
            }
            Slot::Empty | Slot::Draining => {
                if let Some(live) = self.maps.outbound_live(slot) {
                    live.acknowledge(generation);
                }
            }
        }
    }

    fn install_outbound(
        &mut self,
        slot: u32,
        generation: u64,
        config: &OutboundConfig,
        update: bool,
    ) {
        let worker = config.worker;
        if !self.has_room(worker, false) {
            self.later.insert((Table::Outbound, slot));
            return;
        }
        match ready::outbound(&self.maps, self.backend, slot, config, update) {
            Ok(sa) => {
                let sa = Some(Box::new(sa));
                self.send(worker, Command::Outbound { slot, generation, sa, update });
                let held = Slot::Held { generation, worker, spi: config.spi, is_static: false };
                self.set_outbound(slot, held, Some((config.remote, config.spi)));
            }
            Err(why) => tracing::error!(slot, spi = config.spi, %why, "outbound SA not installed"),
        }
    }

    fn set_outbound(&mut self, slot: u32, value: Slot, peer: Option<(IpAddr, u32)>) {
        if let Some(place) = self.outbound.get_mut(slot as usize) {
            *place = value;
            self.peers.set(slot, peer);
        }
    }

    /// The worker of an outbound slot.
    fn owner(&self, slot: u32) -> Option<u32> {
        match self.outbound.get(slot as usize) {
            Some(Slot::Held { worker, .. }) => Some(u32::from(*worker)),
            // About to be taken in, or taken in once more.
            Some(Slot::Empty | Slot::Draining) | None => match self.maps.read_outbound(slot) {
                Read::Present { config, .. } => Some(u32::from(config.worker)),
                Read::Empty { .. } | Read::Torn | Read::Invalid { .. } => None,
            },
        }
    }

    /// A router on the path says that a packet of ours was too big.
    pub fn too_big(&mut self, message: &TooBig) {
        let Some(quoted) = message.esp else { return };
        let destination = match message.addresses {
            Addresses::V4 { destination, .. } => IpAddr::from(destination),
            Addresses::V6 { destination, .. } => IpAddr::from(destination),
        };
        let floor = if destination.is_ipv4() { PATH_MTU_FLOOR4 } else { PATH_MTU_FLOOR6 };
        let mtu = u16::try_from(message.mtu).unwrap_or(u16::MAX).max(floor);
        let Some(slot) = self.peers.find(destination, quoted.spi) else { return };
        if let Some(&Slot::Held { worker, .. }) = self.outbound.get(slot as usize)
            && self.has_room(worker, false)
        {
            let command = Command::PathMtu { slot, sequence: quoted.sequence, mtu };
            self.send(worker, command);
        }
    }

    /// Peers of outbound SAs, each once: their neighbours are to be known before traffic comes.
    pub fn peers(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.peers.iter()
    }

    /// Number of SAs with workers: inbound, outbound.
    #[must_use]
    pub fn count(&self) -> (usize, usize) {
        let held =
            |slots: &[Slot]| slots.iter().filter(|slot| matches!(slot, Slot::Held { .. })).count();
        (held(&self.inbound), held(&self.outbound))
    }

    /// Tells every worker to end.
    pub fn stop_workers(&mut self) {
        for worker in 0..u16::try_from(self.workers.len()).unwrap_or(u16::MAX) {
            self.send(worker, Command::Stop);
        }
    }
}

#[cfg(test)]
#[path = "sadb_tests.rs"]
mod tests;
