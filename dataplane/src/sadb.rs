//! From the shared records to the workers' tables.
//!
//! The main thread answers the doorbell: it reads a record, expands the key (which
//! allocates and takes a microsecond, so no worker does it) and sends the finished SA to
//! the worker that owns it. Policies are swapped in when the SAs they name have arrived, and an
//! outbound SA is taken away when no policy names it any more, so that a rekey loses nothing
//! whatever order control writes in. A slot that is to hold another SA is emptied first: only one
//! process and only one SA may ever have a slot's replay words and lease.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use rtrb::{Consumer, Producer};
use xswan_aead::Backend;
use xswan_esp::selector::{AddressRange, Family, PortRange, Selector};
use xswan_pipeline::spd::{Action, Policy, SaHandle, Spd};
use xswan_sa_api::{
    DoorbellReceiver, InboundConfig, OutboundConfig, PolicyAction, PolicyRow, Read, Ring,
    SharedMaps,
};
use xswan_steer::spi::SpiParts;
use xswan_wire::icmp::TooBig;
use xswan_wire::layers::Addresses;

use crate::ready;
use crate::worker::{Command, Retired};

/// Floors of a learned path MTU in bytes: an unauthenticated message gets no further down
/// (RFC 791's 576 for IPv4; RFC 8200 section 5 for IPv6).
const PATH_MTU_FLOOR4: u16 = 576;
const PATH_MTU_FLOOR6: u16 = 1280;

/// How long an edition of the policies waits for the SAs it names: workers take in an SA within
/// milliseconds, and one that does not is not going to.
const AWAITED_LIMIT: Duration = Duration::from_secs(1);

/// The main thread's rings to one worker.
pub struct WorkerLink {
    /// Commands.
    pub inbox: Producer<Command>,
    /// What it gives back.
    pub outbox: Consumer<Retired>,
}

/// What a slot holds, as far as the main thread has ordered it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Slot {
    #[default]
    Empty,
    /// With a worker.
    Held { generation: u64, worker: usize, spi: u32, is_static: bool },
    /// Taken from the worker, not back yet; the record is read again then.
    Draining,
}

/// The main thread's view of both tables.
pub struct Sadb {
    maps: Arc<SharedMaps>,
    doorbell: DoorbellReceiver,
    workers: Vec<WorkerLink>,
    backend: Backend,
    inbound: Vec<Slot>,
    outbound: Vec<Slot>,
    /// Outbound peers by slot, for "packet too big": peer, SPI, worker.
    peers: Vec<Option<(IpAddr, u32, usize)>>,
    /// Records to be read again: being written when they were read, or removed while an edition
    /// of the policies is awaited.
    torn: BTreeSet<(bool, u32)>,
    spd: Arc<ArcSwap<Spd>>,
    policies_generation: Option<u64>,
    /// An edition that waits for workers to take in the SAs it names, and since when.
    awaited: Option<Instant>,
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
            peers: vec![None; slots],
            torn: BTreeSet::new(),
            spd,
            policies_generation: None,
            awaited: None,
        };
        sadb.scan();
        // No worker runs yet, so none can have taken anything in.
        sadb.apply_policies();
        Ok(sadb)
    }

    /// Everything anew: after the start, and when the doorbell lost count.
    fn scan(&mut self) {
        for slot in 0..self.maps.geometry().sa_slots {
            self.apply_inbound(slot);
            self.apply_outbound(slot);
        }
        self.awaited = Some(Instant::now());
    }

    /// Answers the doorbell and takes back what workers return. To be called often.
    pub fn poll(&mut self) {
        for worker in 0..self.workers.len() {
            while let Some(retired) = self.workers.get_mut(worker).and_then(|w| w.outbox.pop().ok())
            {
                self.take_back(retired);
            }
        }
        while let Some(ring) = self.doorbell.poll() {
            match ring {
                Ring::Inbound(slot) => self.apply_inbound(slot),
                Ring::Outbound(slot) => self.apply_outbound(slot),
                Ring::Policies => self.awaited = Some(self.awaited.unwrap_or_else(Instant::now)),
                Ring::Everything => self.scan(),
            }
        }
        if let Some(since) = self.awaited
            && (self.named_are_applied() || since.elapsed() > AWAITED_LIMIT)
        {
            self.apply_policies();
        }
        for (inbound, slot) in std::mem::take(&mut self.torn) {
            if inbound { self.apply_inbound(slot) } else { self.apply_outbound(slot) }
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

    fn send(&mut self, worker: usize, command: Command) {
        // The ring is as long as both tables, and a slot has one command under way.
        if let Some(link) = self.workers.get_mut(worker)
            && link.inbox.push(command).is_err()
        {
            tracing::error!(worker, "a worker does not take commands");
        }
    }

    fn apply_inbound(&mut self, slot: u32) {
        let Some(&held) = self.inbound.get(slot as usize) else { return };
        if held == Slot::Draining {
            return;
        }
        match self.maps.read_inbound(slot) {
            Read::Torn => {
                self.torn.insert((true, slot));
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
        let worker = usize::from(config.worker);
        match ready::inbound(&self.maps, self.backend, slot, config, update) {
            Ok(sa) => {
                let parts = SpiParts {
                    member: u8::try_from(self.maps.geometry().member).unwrap_or(0),
                    worker: u8::try_from(config.worker).unwrap_or(u8::MAX),
                    slot,
                };
                let is_static = self.maps.spi_key().seal(parts) != Some(config.spi);
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
        for worker in 0..self.workers.len() {
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
                self.torn.insert((false, slot));
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
            Slot::Held { .. }
                if self.awaited.is_some_and(|since| since.elapsed() <= AWAITED_LIMIT) =>
            {
                self.torn.insert((false, slot));
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
        let worker = usize::from(config.worker);
        match ready::outbound(&self.maps, self.backend, slot, config, update) {
            Ok(sa) => {
                let sa = Some(Box::new(sa));
                self.send(worker, Command::Outbound { slot, generation, sa, update });
                let held = Slot::Held { generation, worker, spi: config.spi, is_static: false };
                self.set_outbound(slot, held, Some((config.remote, config.spi, worker)));
            }
            Err(why) => tracing::error!(slot, spi = config.spi, %why, "outbound SA not installed"),
        }
    }

    fn set_outbound(&mut self, slot: u32, value: Slot, peer: Option<(IpAddr, u32, usize)>) {
        if let (Some(place), Some(peers)) =
            (self.outbound.get_mut(slot as usize), self.peers.get_mut(slot as usize))
        {
            (*place, *peers) = (value, peer);
        }
    }

    /// Whether every outbound SA that the policies name is with its worker: an edition that was
    /// in use before would send packets to a slot that is still empty.
    fn named_are_applied(&self) -> bool {
        let Ok((_, rows)) = self.maps.read_policies() else { return false };
        let mut named = rows.iter().filter_map(|row| row.outbound_slot);
        named.all(|slot| match self.outbound.get(slot as usize) {
            Some(Slot::Held { generation, .. }) => self.maps.outbound_applied(slot, *generation),
            // Not there, so there is nothing to wait for.
            Some(Slot::Empty | Slot::Draining) | None => true,
        })
    }

    fn apply_policies(&mut self) {
        // Torn, it is read again with the next poll.
        let Ok((generation, rows)) = self.maps.read_policies() else { return };
        self.awaited = None;
        if self.policies_generation == Some(generation) {
            return;
        }
        let rows = rows.iter().map(|row| self.policy(row)).collect();
        self.spd.store(Arc::new(Spd::new(rows)));
        self.policies_generation = Some(generation);
        self.maps.acknowledge_policies(generation);
    }

    fn policy(&self, row: &PolicyRow) -> Policy {
        let action = match row.action {
            PolicyAction::Protect => Action::Protect(row.outbound_slot.and_then(|slot| {
                match self.maps.read_outbound(slot) {
                    Read::Present { config, .. } => {
                        Some(SaHandle { slot, worker: u32::from(config.worker) })
                    }
                    Read::Empty { .. } | Read::Torn | Read::Invalid { .. } => None,
                }
            })),
            PolicyAction::Bypass => Action::Bypass,
            PolicyAction::Discard => Action::Discard,
        };
        let range = |range: &xswan_sa_api::AddressRange| AddressRange {
            family: if range.ipv6 { Family::V6 } else { Family::V4 },
            first: range.first,
            last: range.last,
        };
        let ports =
            |ports: &xswan_sa_api::PortRange| PortRange { first: ports.first, last: ports.last };
        let selector = Selector {
            source: range(&row.local),
            destination: range(&row.remote),
            protocol: row.protocol,
            source_ports: ports(&row.local_ports),
            destination_ports: ports(&row.remote_ports),
        };
        Policy { selector, action, child: row.child, icmp: row.icmp, hold: row.hold }
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
        let found = self.peers.iter().enumerate().find_map(|(slot, peer)| {
            let (address, spi, worker) = (*peer)?;
            (address == destination && spi == quoted.spi).then_some((slot, worker))
        });
        if let Some((slot, worker)) = found {
            let slot = u32::try_from(slot).unwrap_or(u32::MAX);
            let command = Command::PathMtu { slot, sequence: quoted.sequence, mtu };
            self.send(worker, command);
        }
    }

    /// Peers of outbound SAs: their neighbours are to be known before traffic comes.
    pub fn peers(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.peers.iter().flatten().map(|&(address, ..)| address)
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
        for worker in 0..self.workers.len() {
            self.send(worker, Command::Stop);
        }
    }
}

#[cfg(test)]
#[path = "sadb_tests.rs"]
mod tests;
