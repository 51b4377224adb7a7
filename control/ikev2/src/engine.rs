//! The machine as a whole: which IKE SA a datagram belongs to, the limits on those that have
//! proved nothing yet, timers, and the operator's commands.
//!
//! ```text
//! datagram ─▶ header ─▶ IKE_SA_INIT? ─▶ gate (limits, cookie) ─▶ new IKE SA
//!                └────▶ SPI ─▶ window ─▶ ICV ─▶ [fragments] ─▶ state
//! ```
//! Nothing is changed by a datagram before its ICV is verified, except by IKE_SA_INIT, whose
//! limits are here.

use crate::action::Action;
use crate::clock::{Millis, Now};
use crate::cookie::Cookies;
use crate::event::{Event, Level};
use crate::exchange::ike_sa_init::{self, Answer, Gate, Goal};
use crate::host::Host;
use crate::input::{IkeId, Input, RequestId, Target};
use crate::message_id::Standing;
use crate::policy::{Configuration, ConnectionPolicy, Unique};
use crate::pool::Pools;
use crate::sa::{Context, Inbound, Numbers, Wish};
use crate::state::{IkeSa, State};
use crate::statistics::Statistics;
use crate::wire::{
    self, Datagram, EncryptedKind, ExchangeType, Flags, Header, Message, Notify, NotifyType,
    Payload, PayloadType, WireError,
};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use xswan_credentials::Identity;
use xswan_ike_crypto::sha256;

/// How long a cookie secret is used before the next one takes its place.
const COOKIE_SECRET_MS: u64 = 120_000;
/// Answers to datagrams that belong to no SA, in a second: hints, which nobody must rely on.
const UNKNOWN_SPI_ANSWERS_PER_S: u32 = 100;

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
    /// Our SPI → IKE SA.
    by_spi: HashMap<u64, IkeId>,
    /// The peer's first request → what became of it (retransmissions are found by all of it).
    by_init: HashMap<[u8; 32], IkeId>,
    deadlines: BTreeSet<(Millis, IkeId)>,
    due: HashMap<IkeId, Millis>,
    half_open: u32,
    half_open_by_address: HashMap<IpAddr, u32>,
    half_open_from: HashMap<IkeId, (IpAddr, [u8; 32])>,
    planned: Vec<Planned>,
    cookies: Option<Cookies>,
    cookies_since: Millis,
    hints: (Millis, u32),
    pools: Pools,
    numbers: Numbers,
    actions: VecDeque<Action>,
    statistics: Statistics,
}

impl Engine {
    /// An engine without IKE SAs.
    #[must_use]
    pub fn new(configuration: Arc<Configuration>) -> Self {
        let pools = Pools::new(&configuration.pools);
        Self {
            configuration,
            sas: BTreeMap::new(),
            by_spi: HashMap::new(),
            by_init: HashMap::new(),
            deadlines: BTreeSet::new(),
            due: HashMap::new(),
            half_open: 0,
            half_open_by_address: HashMap::new(),
            half_open_from: HashMap::new(),
            planned: Vec::new(),
            cookies: None,
            cookies_since: Millis(0),
            hints: (Millis(0), 0),
            pools,
            numbers: Numbers::default(),
            actions: VecDeque::new(),
            statistics: Statistics::default(),
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
                self.command(now, host, &target, request, |state, ctx, child, request| {
                    state.terminate(ctx, child, force, request)
                });
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
                self.with_child(now, host, spi_in, |state, ctx| {
                    state.peer_moved(ctx, remote)
                });
            }
            Input::ChildUse { spi_in, idle_in_ms, idle_out_ms } => {
                self.with_child(now, host, spi_in, |state, ctx| {
                    state.child_use(ctx, spi_in, idle_in_ms, idle_out_ms)
                });
            }
        }
    }
}
