//! One core with everything that a daemon would put around it.

use crate::seeded::Seeded;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use xswan_ike_crypto::Random;
use xswan_ikev2::action::ChildInstall;
use xswan_ikev2::policy::Configuration;
use xswan_ikev2::{Action, ChildId, Engine, Host, Input, Millis, Now, RequestId};

/// A Child SA in the gateway's dataplane.
#[derive(Clone, Debug)]
pub struct InstalledChild {
    /// As the core asked for it.
    pub install: ChildInstall,
    /// Traffic leaves through it.
    pub outbound: bool,
}

#[derive(Debug)]
struct SimulatedHost {
    random: Seeded,
    spis: BTreeSet<u32>,
    address: IpAddr,
}

impl Host for SimulatedHost {
    fn random(&mut self) -> &mut dyn Random {
        &mut self.random
    }

    fn local_address(&mut self, _remote: IpAddr) -> Option<IpAddr> {
        Some(self.address)
    }

    fn reserve_spi(&mut self) -> Option<u32> {
        loop {
            let spi = self.random.next() as u32;
            if spi > 255 && self.spis.insert(spi) {
                return Some(spi);
            }
        }
    }

    fn release_spi(&mut self, spi: u32) {
        assert!(self.spis.remove(&spi), "SPI {spi:08x} is released and was not reserved");
    }
}

/// One gateway.
#[derive(Debug)]
pub struct Gateway {
    /// The core.
    pub engine: Engine,
    host: SimulatedHost,
    /// Child SAs in its dataplane.
    pub children: BTreeMap<ChildId, InstalledChild>,
    /// How operators' questions were answered.
    pub answers: BTreeMap<u64, Result<u32, String>>,
    /// Lines of the log.
    pub log: Vec<String>,
    /// When each was written, by the world's clock.
    pub log_times: Vec<Millis>,
    /// Virtual addresses, and how many IKE SAs each is from.
    pub addresses: BTreeMap<IpAddr, u32>,
    /// How far its monotonic clock has leapt ahead of the world's.
    pub clock_ahead_ms: u64,
    /// How far its wall clock was set forward, or back.
    pub wall_offset_s: i64,
    requests: u64,
}

/// A datagram on its way.
#[derive(Clone, Debug)]
pub struct Datagram {
    /// From.
    pub from: SocketAddr,
    /// To.
    pub to: SocketAddr,
    /// What.
    pub octets: Vec<u8>,
}

impl Gateway {
    /// A gateway at an address.
    #[must_use]
    pub fn new(address: IpAddr, configuration: Arc<Configuration>, seed: u64) -> Self {
        Self {
            engine: Engine::new(configuration),
            host: SimulatedHost { random: Seeded::new(seed), spis: BTreeSet::new(), address },
            children: BTreeMap::new(),
            answers: BTreeMap::new(),
            log: Vec::new(),
            log_times: Vec::new(),
            addresses: BTreeMap::new(),
            clock_ahead_ms: 0,
            wall_offset_s: 0,
            requests: 0,
        }
    }

    /// The daemon is killed and starts again: what it exported is imported, the dataplane has
    /// gone on. Operators who waited are gone.
    ///
    /// # Panics
    /// If it does not take what it exported.
    pub fn restart(&mut self, configuration: Arc<Configuration>, now: Millis) {
        let now = Now { monotonic: now, unix_s: 1_800_000_000 + now.0 / 1000 };
        let exported = self.engine.export(now);
        self.engine = Engine::new(configuration);
        let imported = self.engine.import(&exported, now).expect("a snapshot");
        assert_eq!(imported.refused, Vec::<String>::new());
        let installed = self.children.values().map(|child| child.install.spi_in);
        self.host.spis = installed.chain(imported.reserved_spis).collect();
    }

    /// Its address is another one from now on; the core is not told.
    pub const fn set_address(&mut self, address: IpAddr) {
        self.host.address = address;
    }

    /// Its address.
    #[must_use]
    pub const fn address(&self) -> IpAddr {
        self.host.address
    }

    /// The number of the next question of an operator.
    pub const fn ask(&mut self) -> RequestId {
        self.requests += 1;
        RequestId(self.requests)
    }

    /// How many questions operators have asked.
    #[must_use]
    pub const fn asked(&self) -> u64 {
        self.requests
    }

    /// When it wants to be woken, by the world's clock.
    #[must_use]
    pub fn deadline(&self) -> Option<Millis> {
        self.engine.deadline().map(|at| Millis(at.0.saturating_sub(self.clock_ahead_ms)))
    }

    /// Its own clock, at a moment of the world's.
    #[must_use]
    pub const fn clock(&self, now: Millis) -> Millis {
        Millis(now.0 + self.clock_ahead_ms)
    }

    /// SPIs that are reserved or in use.
    #[must_use]
    pub fn spis(&self) -> &BTreeSet<u32> {
        &self.host.spis
    }

    /// Handles one input; what it sends is returned.
    ///
    /// # Panics
    /// If the core asks for what cannot be: that is what it is tested for.
    pub fn handle(&mut self, input: Input, now: Millis) -> Vec<Datagram> {
        let world = now;
        let wall = (1_800_000_000 + now.0 / 1000).saturating_add_signed(self.wall_offset_s);
        let now = Now { monotonic: self.clock(now), unix_s: wall };
        self.engine.handle(input, now, &mut self.host);
        let mut sent = Vec::new();
        while let Some(action) = self.engine.next_action() {
            match action {
                Action::Send { local, remote, octets } => {
                    assert!(!octets.is_empty(), "an empty message");
                    sent.push(Datagram { from: local, to: remote, octets });
                }
                Action::Keepalive { .. } => {}
                Action::MoveChild { child, local, remote, encap } => {
                    let moved = self.children.get_mut(&child).expect("a Child SA to be moved");
                    let install = &mut moved.install;
                    (install.local, install.remote, install.encap) = (local, remote, encap);
                }
                Action::InstallChild(install) => self.install(*install),
                Action::SwitchOutbound { child } => self.switch(child),
                Action::RemoveChild { child, .. } => {
                    let removed = self.children.remove(&child);
                    let removed = removed.expect("a Child SA that is not there is removed");
                    assert!(self.host.spis.remove(&removed.install.spi_in), "its SPI was reserved");
                }
                Action::AddVirtualIp { address, .. } => {
                    *self.addresses.entry(address).or_default() += 1;
                }
                Action::RemoveVirtualIp { address, .. } => {
                    let count = self.addresses.get_mut(&address).expect("an address of ours");
                    *count -= 1;
                    if *count == 0 {
                        self.addresses.remove(&address);
                    }
                }
                Action::Done { request, result } => {
                    let earlier = self.answers.insert(request.0, result);
                    assert!(earlier.is_none(), "a question is answered twice");
                }
                Action::Event(event) => {
                    self.log.push(event.text);
                    self.log_times.push(world);
                }
            }
        }
        sent
    }

    fn install(&mut self, install: ChildInstall) {
        assert!(self.host.spis.contains(&install.spi_in), "an SPI that was not reserved");
        let taken = self.children.values().any(|child| child.install.spi_in == install.spi_in);
        assert!(!taken, "two Child SAs with one SPI");
        if install.outbound
            && let Some(old) = install.replaces.and_then(|old| self.children.get_mut(&old))
        {
            old.outbound = false;
        }
        let (id, outbound) = (install.child, install.outbound);
        let earlier = self.children.insert(id, InstalledChild { install, outbound });
        assert!(earlier.is_none(), "a number is used twice");
    }

    fn switch(&mut self, child: ChildId) {
        let new = self.children.get_mut(&child).expect("a Child SA to switch to");
        new.outbound = true;
        let replaces = new.install.replaces;
        if let Some(old) = replaces.and_then(|old| self.children.get_mut(&old)) {
            old.outbound = false;
        }
    }

    /// Whether a packet sealed by the other gateway's outbound SA would be opened here, for each
    /// SA that the other one sends through.
    #[must_use]
    pub fn opens_what_is_sent_by(&self, other: &Self) -> bool {
        other.children.values().filter(|child| child.outbound).all(|sender| {
            self.children.values().any(|receiver| {
                receiver.install.spi_in == sender.install.spi_out
                    && receiver.install.key_in == sender.install.key_out
                    && receiver.install.suite == sender.install.suite
            })
        })
    }

    /// Child SAs that traffic leaves through.
    #[must_use]
    pub fn outbound_children(&self) -> usize {
        self.children.values().filter(|child| child.outbound).count()
    }
}
