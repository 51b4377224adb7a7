//! The machine as a whole: which IKE SA a datagram belongs to, the limits on those that have
//! proved nothing yet, timers, and the operator's commands.
//!
//! ```text
//! datagram ─▶ header ─▶ IKE_SA_INIT? ─▶ gate (limits, cookie) ─▶ new IKE SA
//!                └────▶ SPI ─▶ window ─▶ ICV ─▶ [fragments] ─▶ state
//! ```
//! Nothing is changed by a datagram before its ICV is verified, except by IKE_SA_INIT, whose
//! limits are here.

pub(crate) mod budget;
mod command;
mod dispatch;
mod first_message;
#[cfg(test)]
mod hostile;
pub(crate) mod index;
mod persistence;

use crate::action::Action;
use crate::clock::{Millis, Now};
use crate::cookie::{Claim, Cookies};
use crate::event::Level;
use crate::exchange::ike_sa_init::{self, Answer, Gate, Goal};
use crate::host::Host;
use crate::input::{IkeId, Input, RequestId, Target};
use crate::message_id::Standing;
use crate::policy::{Configuration, ConnectionPolicy, Unique};
use crate::pool::Pools;
use crate::protect::emit;
use crate::sa::{Context, Inbound, Numbers, Wish, notify};
use crate::state::State;
use crate::statistics::Statistics;
use crate::wire::{
    self, Datagram, ExchangeType, Flags, Header, Message, Notify, NotifyType, Payload, PayloadType,
    Protection, WireError,
};
use budget::{Budget, Limits};
use index::Index;
use index::Others;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use xswan_credentials::Identity;
use xswan_ike_crypto::sha256;

/// How long a cookie secret is used before the next one takes its place.
const COOKIE_SECRET_MS: u64 = 120_000;
/// Errors told without protection in a second: hints, which nobody must rely on.
const REPLIES: Limits = Limits { total: 1_000, unshared: 0, share: 20 };
/// IKE SAs and planned connections that one [`Input::Timer`] is for: however many are due at
/// once, datagrams are looked at in between. [`Engine::deadline`] has passed until all are done.
pub const TIMER_BATCH: usize = 64;

/// A connection that will be tried again later.
#[derive(Debug)]
struct Planned {
    at: Millis,
    connection: Arc<ConnectionPolicy>,
    child: Option<String>,
    replaces: Option<IkeId>,
    failures: u32,
    request: Option<RequestId>,
}

/// The IKEv2 core of one daemon.
#[derive(Debug)]
pub struct Engine {
    configuration: Arc<Configuration>,
    sas: BTreeMap<IkeId, State>,
    index: Index,
    /// The peer's first request → what became of it (retransmissions are found by all of it).
    by_init: HashMap<[u8; 32], IkeId>,
    deadlines: BTreeSet<(Millis, IkeId)>,
    due: HashMap<IkeId, Millis>,
    half_open: u32,
    half_open_by_address: HashMap<IpAddr, u32>,
    half_open_from: HashMap<IkeId, (IpAddr, Vec<[u8; 32]>, u64)>,
    half_open_by_spi: HashMap<(IpAddr, u64), IkeId>,
    planned: Vec<Planned>,
    cookies: Option<Cookies>,
    cookies_since: Millis,
    /// Unprotected errors.
    replies: Budget,
    /// Key exchanges for peers that have not proved who they are.
    key_exchanges: Budget,
    pools: Pools,
    numbers: Numbers,
    actions: VecDeque<Action>,
    statistics: Statistics,
    /// Our outer addresses.
    addresses: Vec<IpAddr>,
}

impl Engine {
    /// An engine without IKE SAs.
    #[must_use]
    pub fn new(configuration: Arc<Configuration>) -> Self {
        let pools = Pools::new(&configuration.pools);
        Self {
            configuration,
            sas: BTreeMap::new(),
            index: Index::default(),
            by_init: HashMap::new(),
            deadlines: BTreeSet::new(),
            due: HashMap::new(),
            half_open: 0,
            half_open_by_address: HashMap::new(),
            half_open_from: HashMap::new(),
            half_open_by_spi: HashMap::new(),
            planned: Vec::new(),
            cookies: None,
            cookies_since: Millis(0),
            replies: Budget::default(),
            key_exchanges: Budget::default(),
            pools,
            numbers: Numbers::default(),
            actions: VecDeque::new(),
            statistics: Statistics::default(),
            addresses: Vec::new(),
        }
    }

    /// What is to be done next; to be asked until there is nothing.
    pub fn next_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When [`Input::Timer`] is wanted, at the latest.
    #[must_use]
    pub fn deadline(&self) -> Option<Millis> {
        let planned = self.planned.iter().map(|planned| planned.at).min();
        let first = self.deadlines.first().map(|(at, _)| *at);
        [planned, first].into_iter().flatten().min()
    }

    /// Counters since the start.
    #[must_use]
    pub const fn statistics(&self) -> &Statistics {
        &self.statistics
    }

    /// The configuration in force.
    #[must_use]
    pub fn configuration(&self) -> &Arc<Configuration> {
        &self.configuration
    }

    /// Takes another configuration. IKE SAs go on as they were negotiated, under the new
    /// parameters where their connection still exists.
    pub fn configure(&mut self, configuration: Arc<Configuration>) {
        self.pools.configure(&configuration.pools);
        for state in self.sas.values_mut() {
            let Some(core) = state.core_mut() else { continue };
            let same = |new: &&Arc<ConnectionPolicy>| new.name == core.connection.name;
            if let Some(connection) = configuration.connections.iter().find(same) {
                core.connection = Arc::clone(connection);
            }
        }
        self.configuration = configuration;
    }

    /// Handles one input; actions are then waiting.
    pub fn handle(&mut self, input: Input, now: Now, host: &mut dyn Host) {
        match input {
            Input::Datagram { local, remote, octets } => {
                self.datagram(now, host, local, remote, octets);
            }
            Input::Timer => self.timer(now, host),
            Input::Initiate { connection, child, packet, request } => {
                self.initiate_command(now, host, connection, child, packet, request);
            }
            Input::Terminate { target, force, request } => {
                self.terminate_command(now, host, &target, force, request);
            }
            Input::Rekey { target, reauthenticate, request } => {
                self.command(now, host, &target, request, |state, ctx, child, request| {
                    state.rekey(ctx, child, reauthenticate, request)
                });
            }
            Input::ChildExpiry { spi_in, hard } => {
                self.with_child(now, host, spi_in, |state, ctx| state.expiry(ctx, spi_in, hard));
            }
            Input::PeerMoved { spi_in, remote } => {
                self.with_child(now, host, spi_in, |state, ctx| state.peer_moved(ctx, remote));
            }
            Input::LocalAddresses { addresses } => {
                self.addresses = addresses;
                let all: Vec<IkeId> = self.sas.keys().copied().collect();
                for id in all {
                    self.with_sa(now, host, id, State::addresses_changed);
                }
            }
            Input::ChildUse { spi_in, idle_in_ms, idle_out_ms } => {
                self.with_child(now, host, spi_in, |state, ctx| {
                    state.child_use(ctx, spi_in, idle_in_ms, idle_out_ms)
                });
            }
        }
    }

    /// Runs `work` on an IKE SA: its state is taken out, changed, and put back.
    fn with_sa(
        &mut self,
        now: Now,
        host: &mut dyn Host,
        id: IkeId,
        work: impl FnOnce(State, &mut Context<'_>) -> State,
    ) {
        let Some(state) = self.sas.remove(&id) else { return };
        let mut wishes = Vec::new();
        let configuration = Arc::clone(&self.configuration);
        let mut ctx = Context {
            now,
            host,
            configuration: &configuration,
            pools: &mut self.pools,
            numbers: &mut self.numbers,
            statistics: &mut self.statistics,
            actions: &mut self.actions,
            wishes: &mut wishes,
            others: Others { index: &self.index, sas: &self.sas },
            addresses: &self.addresses,
        };
        let established = state.is_established();
        let state = work(state, &mut ctx);
        if state.is_established() && !established {
            self.statistics.established += 1;
            self.proved(now, id, &state);
        }
        self.put_back(id, state);
        self.grant(now, host, wishes);
    }

    /// Something without an IKE SA yet.
    fn with_context<T>(
        &mut self,
        now: Now,
        host: &mut dyn Host,
        work: impl FnOnce(&mut Context<'_>) -> T,
    ) -> T {
        let mut wishes = Vec::new();
        let configuration = Arc::clone(&self.configuration);
        let mut ctx = Context {
            now,
            host,
            configuration: &configuration,
            pools: &mut self.pools,
            numbers: &mut self.numbers,
            statistics: &mut self.statistics,
            actions: &mut self.actions,
            wishes: &mut wishes,
            others: Others { index: &self.index, sas: &self.sas },
            addresses: &self.addresses,
        };
        let result = work(&mut ctx);
        self.grant(now, host, wishes);
        result
    }

    /// Keeps a state, its SPI and its deadline, or forgets the IKE SA.
    fn put_back(&mut self, id: IkeId, state: State) {
        if let Some(at) = self.due.remove(&id) {
            self.deadlines.remove(&(at, id));
        }
        if !state.is_half_open() {
            self.not_half_open(id);
        }
        self.index.update(id, &state);
        if matches!(state, State::Closed) {
            return;
        }
        if let Some(at) = state.deadline() {
            self.due.insert(id, at);
            self.deadlines.insert((at, id));
        }
        self.sas.insert(id, state);
    }

    /// A peer's key exchange has led to an IKE SA: it was none of a flood.
    fn proved(&mut self, now: Now, id: IkeId, state: &State) {
        let (Some((address, ..)), Some(core)) = (self.half_open_from.get(&id), state.core()) else {
            return;
        };
        let cost = ike_sa_init::cost(&core.suite, &core.additional_key_exchanges);
        self.key_exchanges.give_back(now.monotonic, *address, cost);
    }

    fn not_half_open(&mut self, id: IkeId) {
        let Some((address, digests, spi_i)) = self.half_open_from.remove(&id) else { return };
        self.half_open = self.half_open.saturating_sub(1);
        for digest in digests {
            self.by_init.remove(&digest);
        }
        if self.half_open_by_spi.get(&(address, spi_i)) == Some(&id) {
            self.half_open_by_spi.remove(&(address, spi_i));
        }
        if let Some(count) = self.half_open_by_address.get_mut(&address) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.half_open_by_address.remove(&address);
            }
        }
    }

    /// What one IKE SA wants of the others.
    fn grant(&mut self, now: Now, host: &mut dyn Host, wishes: Vec<Wish>) {
        for wish in wishes {
            match wish {
                Wish::Adopt(sa) => self.put_back(sa.id, sa.state),
                Wish::Close(id) => self
                    .with_sa(now, host, id, |state, ctx| state.terminate(ctx, None, false, None)),
                Wish::Unique { ike, local, remote, initial_contact } => {
                    self.unique(now, host, ike, &local, &remote, initial_contact);
                }
                Wish::Initiate { connection, child, replaces, at, failures, request } => {
                    let planned = Planned { at, connection, child, replaces, failures, request };
                    if at <= now.monotonic {
                        self.start_planned(now, host, planned);
                    } else {
                        self.planned.push(planned);
                    }
                }
            }
        }
    }

    /// Other IKE SAs between the same identities (RFC 7296 section 2.4, `unique`).
    fn unique(
        &mut self,
        now: Now,
        host: &mut dyn Host,
        ike: IkeId,
        local: &Identity,
        remote: &Identity,
        initial_contact: bool,
    ) {
        let policy = self.sas.get(&ike).and_then(State::core);
        let policy = policy.map_or(Unique::Never, |core| core.connection.unique);
        let between = |id: &IkeId| {
            *id != ike && self.sas.get(id).is_some_and(|state| state.is_between(local, remote))
        };
        let others: Vec<IkeId> = self.index.by_peer(remote).filter(between).collect();
        if others.is_empty() || policy == Unique::Never {
            return;
        }
        match policy {
            Unique::Keep if !initial_contact => {
                self.with_sa(now, host, ike, |state, ctx| state.terminate(ctx, None, false, None));
            }
            Unique::Replace | Unique::Keep | Unique::No => {
                for other in others {
                    // With INITIAL_CONTACT the peer has no such SA any more: it is not told.
                    let stale = initial_contact;
                    if !stale && policy != Unique::Replace {
                        continue;
                    }
                    self.with_sa(now, host, other, |state, ctx| {
                        if let Some(core) = state.core() {
                            let text = format!(
                                "destroying duplicate IKE_SA for peer '{remote}'{}",
                                if stale { ", received INITIAL_CONTACT" } else { "" }
                            );
                            core.event(ctx, Level::Info, "ike-duplicate", text);
                        }
                        state.terminate(ctx, None, stale, None)
                    });
                }
            }
            Unique::Never => {}
        }
    }

    fn timer(&mut self, now: Now, host: &mut dyn Host) {
        for _ in 0..TIMER_BATCH {
            let first = self.deadlines.first().copied();
            let Some((at, id)) = first.filter(|(at, _)| *at <= now.monotonic) else { break };
            self.deadlines.remove(&(at, id));
            self.due.remove(&id);
            self.with_sa(now, host, id, |state, ctx| state.timer(ctx));
        }
        let ready = |planned: &mut Planned| planned.at <= now.monotonic;
        let ready: Vec<_> = self.planned.extract_if(.., ready).take(TIMER_BATCH).collect();
        for planned in ready {
            self.start_planned(now, host, planned);
        }
    }

    /// Counters, limits and pools for listings.
    #[must_use]
    pub const fn half_open(&self) -> u32 {
        self.half_open
    }

    /// Every IKE SA, in the order in which they were made.
    pub fn ike_sas(&self, now: Millis) -> impl Iterator<Item = crate::view::IkeSaView> {
        self.sas.iter().filter_map(move |(id, state)| state.view(*id, now))
    }

    /// Address pools and who has what.
    #[must_use]
    pub const fn pools(&self) -> &Pools {
        &self.pools
    }
}
