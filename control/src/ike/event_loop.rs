//! The core driven: datagrams, time, news of the dataplane and commands in, actions done.
//!
//! A batch of inputs is handled, its SAs published at once, policies and steering once at the
//! end ([`Ike::settle`]), and then what has to survive a restart is saved, before a peer hears
//! of it. What the peer is told after an SA was published also waits until the
//! dataplane has taken it in, or until [`PATIENCE_MS`]: a peer may use an SA the moment it
//! hears of it. Everything else leaves at once.

use super::addresses::{Addresses, Wish};
use super::awaited::{Await, is_applied};
use super::commands::Waiting;
use super::convert::Converted;
use super::event_log::EventLog;
use super::persistence::Keeper;
use super::udp::{Sockets, local_address};
use crate::tables::Tables;
use crate::virtual_ip::Route;
use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};
use xswan_config::{Config, Ike as Settings};
use xswan_credentials::Certificate;
use xswan_ike_crypto::{Random, SystemRandom};
use xswan_ikev2::action::{ChildInstall, RemoveReason};
use xswan_ikev2::{Action, ChildId, Engine, Host, IkeId, Input, Millis, Now, RequestId};
use xswan_sa_api::{InstanceLock, Role, clock_ms};

/// Datagrams handled before the daemon looks at anything else.
const BATCH: usize = 64;
/// How long a datagram waits for the dataplane at most.
pub const PATIENCE_MS: u64 = 50;
/// How often the use of all SAs is looked at.
const USE_PERIOD_MS: u64 = 1_000;
/// How often it is asked whether the dataplane runs.
const DATAPLANE_PERIOD_MS: u64 = 1_000;
/// Rows of policies that may be written in a millisecond on average: a table of thousands is
/// written less often. Writing a row here and taking it in there cost some tenths of a
/// microsecond: a tenth of a core at most, whatever the number of peers.
const ROWS_PER_MS: usize = 500;

#[derive(Debug)]
enum Outgoing {
    Message { local: SocketAddr, remote: SocketAddr, octets: Vec<u8> },
    Keepalive { local: SocketAddr, remote: SocketAddr },
}

/// Datagrams that wait for the state to be saved, or for the dataplane.
#[derive(Debug)]
struct Held {
    awaited: Vec<Await>,
    /// They are about what is in the tables.
    tables: bool,
    /// Edition of the policies; `None` until it is written.
    policies: Option<u64>,
    /// Which save has what they tell.
    save: Option<u64>,
    deadline_ms: u64,
    outgoing: Vec<Outgoing>,
}

/// What one input led to.
#[derive(Debug, Default)]
struct Outcome {
    awaited: Vec<Await>,
    outgoing: Vec<Outgoing>,
    tables_changed: bool,
    /// SAs that could not be installed.
    failed: Vec<u32>,
}

/// When an SA was used last, in and out, as the core was told.
type Use = (u64, u64);

/// The core and everything around it but the maps.
#[derive(Debug)]
pub struct Ike {
    pub(super) engine: Engine,
    /// End entity certificates for listings.
    pub certificates: Vec<Arc<Certificate>>,
    /// What has happened.
    pub log: EventLog,
    pub(super) waiting: HashMap<u64, Waiting>,
    pub(super) next_request: u64,
    pub(super) settings: Settings,
    random: SystemRandom,
    sockets: Sockets,
    held: VecDeque<Held>,
    published_ms: u64,
    pub(super) addresses: Option<Addresses>,
    pub(super) routes: HashMap<u32, Vec<Route>>,
    pub(super) vips: HashMap<IkeId, Vec<IpAddr>>,
    pub(super) uses: HashMap<ChildId, Use>,
    uses_ms: u64,
    run_directory: std::path::PathBuf,
    dataplane: (u64, bool),
    pub(super) keeper: Keeper,
}

/// What the core may ask in the middle of an input.
struct Surroundings<'a> {
    random: &'a mut SystemRandom,
    tables: &'a mut Tables,
}

impl Host for Surroundings<'_> {
    fn random(&mut self) -> &mut dyn Random {
        self.random
    }

    fn local_address(&mut self, remote: IpAddr) -> Option<IpAddr> {
        local_address(remote)
    }

    fn reserve_spi(&mut self) -> Option<u32> {
        let Tables { child_sas, maps, .. } = &mut *self.tables;
        child_sas.reserve_spi(maps)
    }

    fn release_spi(&mut self, spi: u32) {
        self.tables.child_sas.release_spi(spi);
    }
}

fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_millis() as u64
}

pub(super) fn now() -> Now {
    Now { monotonic: Millis(clock_ms()), unix_s: unix_ms() / 1000 }
}

impl Ike {
    /// Opens the sockets; nothing is sent yet. Must be called inside the runtime.
    ///
    /// # Errors
    /// One line: a port cannot be had.
    pub fn start(config: &Config, converted: Converted) -> Result<Self, String> {
        let settings = config.ike.clone();
        let sockets = Sockets::open(settings.port, settings.port_nat_t)?;
        let wanted = settings.install_virtual_ip || settings.install_routes;
        let addresses = if wanted { Some(Addresses::start(&config.dataplane.tun)?) } else { None };
        Ok(Self {
            engine: Engine::new(Arc::new(converted.configuration)),
            certificates: converted.certificates,
            log: EventLog::default(),
            waiting: HashMap::new(),
            next_request: 0,
            settings,
            random: SystemRandom,
            sockets,
            held: VecDeque::new(),
            published_ms: 0,
            addresses,
            routes: HashMap::new(),
            vips: HashMap::new(),
            uses: HashMap::new(),
            uses_ms: 0,
            run_directory: config.run_directory(),
            dataplane: (0, false),
            keeper: Keeper::new(&config.run_directory(), config.ike.keep_state),
        })
    }

    /// Takes another configuration. Ports cannot change.
    pub fn configure(&mut self, config: &Config, converted: Converted) {
        self.settings = config.ike.clone();
        self.certificates = converted.certificates;
        self.engine.configure(Arc::new(converted.configuration));
    }

    /// What the daemon was started with or last given.
    #[must_use]
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The core, for listings.
    #[must_use]
    pub const fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Datagrams by what became of them.
    #[must_use]
    pub const fn udp_counters(&self) -> super::udp::UdpCounters {
        self.sockets.counters
    }

    /// What an earlier life left in the kernel goes, but what has been wished for since.
    pub fn clean(&self) {
        if let Some(addresses) = &self.addresses {
            addresses.wish(Wish::Clean);
        }
    }

    /// Waits until a datagram may be there.
    pub async fn readable(&self) {
        self.sockets.readable().await;
    }

    /// Handles the datagrams that are there, up to a batch.
    pub fn receive(&mut self, tables: &mut Tables) {
        for datagram in self.sockets.receive(BATCH) {
            let super::udp::Datagram { local, remote, octets } = datagram;
            self.handle(tables, Input::Datagram { local, remote, octets });
        }
    }

    /// Handles one input and does what it leads to.
    pub fn handle(&mut self, tables: &mut Tables, input: Input) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            let mut host = Surroundings { random: &mut self.random, tables };
            let datagram = matches!(input, Input::Datagram { .. });
            let before = self.engine.statistics().messages_in;
            self.engine.handle(input, now(), &mut host);
            let mut outcome = Outcome::default();
            let mut acted = false;
            while let Some(action) = self.engine.next_action() {
                acted |= !matches!(action, Action::Event(_));
                self.perform(tables, action, &mut outcome);
            }
            // What proves nothing, a flood of first messages, changes nothing that is kept.
            let authentic = self.engine.statistics().messages_in != before;
            let changed = authentic || (acted && !datagram);
            let save = changed.then(|| self.keeper.changed()).flatten();
            inputs.extend(
                outcome.failed.drain(..).map(|spi_in| Input::ChildExpiry { spi_in, hard: true }),
            );
            self.hand_over(outcome, save);
        }
    }

    fn hand_over(&mut self, outcome: Outcome, save: Option<u64>) {
        let Outcome { awaited, outgoing, tables_changed: tables, .. } = outcome;
        if outgoing.is_empty() {
            return;
        }
        if !tables && save.is_none() {
            return outgoing.into_iter().for_each(|one| self.send(one));
        }
        let deadline_ms = clock_ms() + PATIENCE_MS;
        self.held.push_back(Held { awaited, tables, policies: None, save, deadline_ms, outgoing });
    }

    fn send(&mut self, outgoing: Outgoing) {
        match outgoing {
            Outgoing::Message { local, remote, octets } => {
                self.sockets.send(local, remote, &octets);
            }
            Outgoing::Keepalive { local, remote } => self.sockets.send_keepalive(local, remote),
        }
    }

    fn perform(&mut self, tables: &mut Tables, action: Action, outcome: &mut Outcome) {
        match action {
            Action::Send { local, remote, octets } => {
                outcome.outgoing.push(Outgoing::Message { local, remote, octets });
            }
            Action::Keepalive { local, remote } => {
                outcome.outgoing.push(Outgoing::Keepalive { local, remote });
            }
            Action::InstallChild(install) => self.install(tables, &install, outcome),
            Action::SwitchOutbound { child } => {
                tables.child_sas.switch_outbound(child);
                outcome.tables_changed = true;
            }
            Action::RemoveChild { child, reason } => {
                self.uses.remove(&child);
                // A limit is a limit. What one side has closed may have packets under way still.
                tables.remove(child, reason == RemoveReason::Expired);
                outcome.tables_changed = true;
            }
            Action::MoveChild { child, local, remote, encap } => {
                tables.relocate(child, (local, remote), encap);
            }
            Action::AddVirtualIp { ike, address, dns } => self.add_vip(ike, address, &dns),
            Action::RemoveVirtualIp { ike, address } => self.remove_vip(ike, address),
            Action::Done { request, result } => self.done(request, result),
            Action::Event(event) => self.log.note(&event, unix_ms()),
        }
    }

    fn install(&mut self, tables: &mut Tables, install: &ChildInstall, outcome: &mut Outcome) {
        outcome.tables_changed = true;
        match tables.install(install) {
            Ok(awaited) => outcome.awaited.extend(awaited),
            Err(error) => {
                tracing::error!(
                    connection = install.connection,
                    child = install.name,
                    spi_in = format!("{:08x}", install.spi_in),
                    "a Child SA cannot be installed and is closed again: {error}"
                );
                outcome.failed.push(install.spi_in);
            }
        }
    }

    pub(super) fn add_vip(&mut self, ike: IkeId, address: IpAddr, dns: &[IpAddr]) {
        if !dns.is_empty() {
            let dns = dns.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
            tracing::info!(ike = ike.0, dns, "the peer names servers; they are not installed");
        }
        self.vips.entry(ike).or_default().push(address);
        if let Some(addresses) =
            self.addresses.as_ref().filter(|_| self.settings.install_virtual_ip)
        {
            addresses.wish(Wish::Add(address));
        }
    }

    fn remove_vip(&mut self, ike: IkeId, address: IpAddr) {
        let Some(own) = self.vips.get_mut(&ike) else { return };
        let Some(position) = own.iter().position(|one| *one == address) else { return };
        own.remove(position);
        if own.is_empty() {
            self.vips.remove(&ike);
        }
        if let Some(addresses) =
            self.addresses.as_ref().filter(|_| self.settings.install_virtual_ip)
        {
            addresses.wish(Wish::Remove(address));
        }
    }

    /// Writes what has changed in the tables, and lets go of datagrams that waited for it.
    pub fn settle(&mut self, tables: &mut Tables) {
        let now_ms = clock_ms();
        let pause = (tables.row_count() / ROWS_PER_MS) as u64;
        if tables.child_sas.is_changed() && now_ms >= self.published_ms.saturating_add(pause) {
            self.published_ms = now_ms;
            let edition = tables.flush();
            let unwritten =
                self.held.iter_mut().filter(|held| held.tables && held.policies.is_none());
            unwritten.for_each(|held| held.policies = edition);
        }
        self.settle_routes(tables);
        // Before the peer hears of it: killed after that, we go on from what it knows.
        self.keep(tables, now_ms);
        self.release(tables, now_ms);
    }

    fn release(&mut self, tables: &Tables, now_ms: u64) {
        if self.held.is_empty() {
            return;
        }
        let runs = self.dataplane_runs(now_ms);
        let changed = tables.child_sas.is_changed();
        let applied = tables.maps.policies_applied();
        let saves = self.keeper.saves();
        let ready = |held: &Held| {
            let saved = held.save.is_none_or(|save| saves >= save);
            let written = !held.tables || !changed || held.policies.is_some();
            let policies = held.policies.is_none_or(|edition| applied >= edition);
            let taken = || policies && is_applied(&tables.maps, &held.awaited);
            saved && written && (!runs || now_ms >= held.deadline_ms || taken())
        };
        // In order, as far as possible: the first that waits stops nobody else.
        let mut kept = VecDeque::with_capacity(self.held.len());
        for held in std::mem::take(&mut self.held) {
            if ready(&held) {
                held.outgoing.into_iter().for_each(|one| self.send(one));
            } else {
                kept.push_back(held);
            }
        }
        self.held = kept;
    }

    fn dataplane_runs(&mut self, now_ms: u64) -> bool {
        let (asked_ms, _) = self.dataplane;
        if now_ms >= asked_ms.saturating_add(DATAPLANE_PERIOD_MS) {
            let runs = InstanceLock::is_held(&self.run_directory, Role::Dataplane);
            self.dataplane = (now_ms, runs);
        }
        self.dataplane.1
    }

    /// When [`Ike::timer`] is wanted, on the clock of the maps; `None`: not.
    #[must_use]
    pub fn wake_ms(&self, tables: &Tables) -> Option<u64> {
        let soon = !self.held.is_empty() || tables.child_sas.is_changed();
        let soon = soon.then(|| clock_ms() + 1);
        let core = self.engine.deadline().map(|at| at.0);
        [soon, core, self.next_timeout(), self.keeper.due_ms()].into_iter().flatten().min()
    }

    /// Handles what is due.
    pub fn timer(&mut self, tables: &mut Tables) {
        let now_ms = clock_ms();
        if self.engine.deadline().is_some_and(|at| at.0 <= now_ms) {
            self.handle(tables, Input::Timer);
        }
        self.expire_calls(now_ms);
        if now_ms >= self.uses_ms.saturating_add(USE_PERIOD_MS) {
            self.uses_ms = now_ms;
            self.tell_uses(tables, now_ms);
        }
    }

    /// Answers an operator's call when it is done.
    fn done(&mut self, request: RequestId, result: Result<u32, String>) {
        if let Some(waiting) = self.waiting.remove(&request.0) {
            waiting.finish(result);
        }
    }
}
