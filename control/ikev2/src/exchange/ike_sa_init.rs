//! IKE_SA_INIT (RFC 7296 section 1.2): algorithms, nonces, key exchange, in clear.
//!
//! ```text
//! initiator                            responder
//!   HDR, SAi1, KEi, Ni, N+      ──▶
//!                               ◀──    HDR, N(COOKIE)                no state
//!   HDR, N(COOKIE), SAi1, …     ──▶
//!                               ◀──    HDR, N(INVALID_KE_PAYLOAD)    no state
//!   HDR, …, KEi', …             ──▶
//!                               ◀──    HDR, SAr1, KEr, Nr, N+, [CERTREQ]
//!
//! state           input                                   next
//! (none)          operator, packet                        InitRequested
//! InitRequested   N(COOKIE), N(INVALID_KE_PAYLOAD)        InitRequested, a bounded number of times
//! InitRequested   SA KE Nr                                IntermediateRequested or AuthRequested
//! InitRequested   an error                                stays: it is not authenticated
//! InitRequested   no answer                               InitRequested anew, or Closed
//! (none)          request                                 HalfOpen, or an answer without state
//! ```
//! Errors in answers are not authenticated: anybody could have sent them. So they end nothing
//! at once; the request is repeated until its time is over (section 2.21.1), and only
//! then the last of them is given as the reason.

use crate::clock::Millis;
use crate::cookie::{Claim, Cookies};
use crate::event::{Event, Level};
use crate::exchange::{ike_auth, ike_intermediate};
use crate::fragmentation::Reassembly;
use crate::input::{IkeId, RequestId};
use crate::message_id::{Due, Requests, Responses};
use crate::nat;
use crate::policy::{AddressPattern, ConnectionPolicy, Fragmentation};
use crate::proposal::{self, Choice, kind, protocol};
use crate::protect::emit;
use crate::sa::{Context, Inbound, PeerFeatures, SaCore, Wish, notify};
use crate::state::State;
use crate::wire::{
    ExchangeType, Flags, Header, KeyExchange as KeyExchangeData, Message, Nonce, Notify,
    NotifyType, Payload, Proposal, SecurityAssociation, VendorId, TrafficSelector, first_unknown_critical,
};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use xswan_ike_crypto::{
    Encryption, Group, HashAlgorithm, IkeKeys, Integrity, KeyExchange, Prf, Secret, SkCipher,
    Skeyseed, Suite,
};

/// Octets of our nonces: as many as the longest prf key (RFC 7296 section 2.10 asks for half).
const NONCE_LEN: usize = 32;
/// Requests repeated with another cookie or key exchange before we give the peer up.
const MAX_RESTARTS: u32 = 8;
/// Port of IKE.
pub(crate) const IKE_PORT: u16 = 500;
/// Port of IKE and ESP in UDP.
pub(crate) const NAT_PORT: u16 = 4500;

/// What an initiator is after.
#[derive(Clone, Debug, Default)]
pub(crate) struct Goal {
    /// Children to bring up, by name; the first goes into IKE_AUTH.
    pub(crate) children: Vec<String>,
    /// The packet that wants the first of them.
    pub(crate) packet: Option<[TrafficSelector; 2]>,
    /// The IKE SA whose place is taken.
    pub(crate) replaces: Option<IkeId>,
    /// Failures in a row before this attempt.
    pub(crate) failures: u32,
    /// Who waits.
    pub(crate) request: Option<RequestId>,
    /// We have no other IKE SA with this peer (RFC 7296 section 2.4).
    pub(crate) initial_contact: bool,
}

/// What IKE_AUTH needs of IKE_SA_INIT.
#[derive(Debug)]
pub(crate) struct Handshake {
    /// The last request and its answer, as they were on the wire (section 2.15).
    pub(crate) init_request: Vec<u8>,
    pub(crate) init_response: Vec<u8>,
    pub(crate) ni: Vec<u8>,
    pub(crate) nr: Vec<u8>,
    /// IntAuth of both sides (RFC 9242 section 3.3.2); empty if there was no such exchange.
    pub(crate) int_auth_i: Vec<u8>,
    pub(crate) int_auth_r: Vec<u8>,
    /// Additional key exchanges that are still to be made, in order.
    pub(crate) additional: Vec<u16>,
    /// Responder: the connections that fit the addresses, best first.
    pub(crate) candidates: Vec<Arc<ConnectionPolicy>>,
    /// Authorities the peer asked for: SHA-1 of their public keys; `None`: it did not ask.
    pub(crate) authorities: Option<Vec<[u8; 20]>>,
    /// Both sides have shown USE_PPK.
    pub(crate) ppk: bool,
    /// Message ID of the first IKE_AUTH request (RFC 9242 section 3.3.2).
    pub(crate) auth_message_id: u32,
}

/// We sent IKE_SA_INIT.
#[derive(Debug)]
pub(crate) struct InitRequested {
    pub(crate) id: IkeId,
    pub(crate) connection: Arc<ConnectionPolicy>,
    pub(crate) local: SocketAddr,
    pub(crate) remote: SocketAddr,
    pub(crate) spi_i: u64,
    pub(crate) goal: Goal,
    nonce: Vec<u8>,
    group: u16,
    key_exchange: KeyExchange,
    public: Vec<u8>,
    cookie: Option<Vec<u8>>,
    request: Vec<u8>,
    requests: Requests,
    restarts: u32,
    tries: u32,
    /// The last answer that was no use, for the log.
    last_error: Option<String>,
}

fn first_key_exchange(connection: &ConnectionPolicy) -> Option<u16> {
    let transforms = connection.proposals.iter().flat_map(|proposal| &proposal.transforms);
    transforms.filter(|item| item.kind == kind::KE).map(|item| item.id).next()
}

fn allows_key_exchange(connection: &ConnectionPolicy, group: u16) -> bool {
    let mut transforms = connection.proposals.iter().flat_map(|proposal| &proposal.transforms);
    transforms.any(|item| item.kind == kind::KE && item.id == group)
}

fn has_additional(connection: &ConnectionPolicy) -> bool {
    let kinds = kind::ADDKE1..=kind::ADDKE7;
    let mut transforms = connection.proposals.iter().flat_map(|proposal| &proposal.transforms);
    transforms.any(|item| kinds.contains(&item.kind))
}

/// Where an initiator sends from and to.
fn endpoints(
    ctx: &mut Context<'_>,
    connection: &ConnectionPolicy,
) -> Result<(SocketAddr, SocketAddr), String> {
    let remotes = connection.remote_addresses.iter().filter_map(AddressPattern::single);
    for remote in remotes {
        let mut own = connection.local_addresses.iter().filter_map(AddressPattern::single);
        let local = own
            .find(|local| local.is_ipv4() == remote.is_ipv4())
            .or_else(|| ctx.host.local_address(remote));
        if let Some(local) = local {
            let local = SocketAddr::new(local, connection.local_port);
            return Ok((local, SocketAddr::new(remote, connection.remote_port)));
        }
    }
    Err(format!("{}: remote_addrs has no address to start with", connection.name))
}

/// Starts an IKE SA.
///
/// # Errors
/// One line: nothing was sent.
pub(crate) fn initiate(
    ctx: &mut Context<'_>,
    id: IkeId,
    connection: Arc<ConnectionPolicy>,
    goal: Goal,
) -> Result<InitRequested, String> {
    let (local, remote) = endpoints(ctx, &connection)?;
    let group = first_key_exchange(&connection).ok_or("no key exchange is configured")?;
    let (key_exchange, public) = generate(ctx, group)?;
    let nonce = ctx.random_octets(NONCE_LEN);
    let spi_i = ctx.ike_spi();
    let mut state = InitRequested {
        id,
        connection,
        local,
        remote,
        spi_i,
        goal,
        nonce,
        group,
        key_exchange,
        public,
        cookie: None,
        request: Vec::new(),
        requests: Requests::default(),
        restarts: 0,
        tries: 1,
        last_error: None,
    };
    let name = state.connection.name.clone();
    state.event(ctx, Level::Info, "initiating", format!("initiating IKE_SA {name} to {remote}"));
    state.transmit(ctx);
    Ok(state)
}

fn generate(ctx: &mut Context<'_>, group: u16) -> Result<(KeyExchange, Vec<u8>), String> {
    let method = Group::from_transform_id(group)
        .ok_or_else(|| format!("key exchange method {group} is not known"))?;
    KeyExchange::generate(method, ctx.random()).map_err(|error| error.to_string())
}

impl InitRequested {
    fn event(&self, ctx: &mut Context<'_>, level: Level, name: &'static str, text: String) {
        ctx.act(crate::action::Action::Event(Event {
            level,
            name,
            connection: Some(self.connection.name.clone()),
            ike: Some(self.id),
            child: None,
            remote: Some(self.remote),
            text,
        }));
    }

    fn payloads(&self) -> Vec<Payload> {
        let mut payloads = Vec::new();
        // The cookie goes first (section 2.6).
        if let Some(cookie) = &self.cookie {
            payloads.push(Payload::Notify(Notify::new(NotifyType::COOKIE, cookie.clone())));
        }
        let offer = proposal::offer(&self.connection.proposals, protocol::IKE, &[], false);
        payloads.push(Payload::Sa(SecurityAssociation { proposals: offer }));
        let data = self.public.clone();
        payloads.push(Payload::Ke(KeyExchangeData { method: self.group, data }));
        payloads.push(Payload::Nonce(Nonce(self.nonce.clone())));
        let addresses = (self.local, self.remote);
        payloads.extend(nat_detection(&self.connection, (self.spi_i, 0), addresses));
        payloads.extend(features(&self.connection));
        if has_additional(&self.connection) {
            payloads.push(status(NotifyType::INTERMEDIATE_EXCHANGE_SUPPORTED));
        }
        if self.connection.ppk_id.is_some() {
            payloads.push(status(NotifyType::USE_PPK));
        }
        // Behind everything else, and as long as what an answer adds to a request: a peer that
        // sends no more than it got can answer completely at once.
        payloads.push(Payload::Vendor(VendorId(vendor_id())));
        payloads
    }

    /// Sends the request as it is now, as a new message.
    fn transmit(&mut self, ctx: &mut Context<'_>) {
        let flags = Flags { initiator: true, version: false, response: false };
        let header = Header::new(self.spi_i, 0, ExchangeType::IKE_SA_INIT, flags, 0);
        let payloads = self.payloads();
        let message = Message { header, payloads };
        if ctx.settings().trace_messages {
            self.event(ctx, Level::Debug, "message", format!("generating {message}"));
        }
        self.request = emit(&message);
        self.requests.start_over();
        let datagrams = vec![self.request.clone()];
        ctx.send(self.local, self.remote, &datagrams);
        let now = ctx.millis();
        self.requests.sent(datagrams, &ctx.configuration.settings, now);
    }

    /// When the request is repeated.
    pub(crate) fn deadline(&self) -> Option<Millis> {
        self.requests.deadline()
    }

    /// Repeats the request, starts over, or gives up.
    pub(crate) fn timer(mut self: Box<Self>, ctx: &mut Context<'_>) -> State {
        match self.requests.poll(&ctx.configuration.settings, ctx.now.monotonic) {
            Due::Nothing => State::InitRequested(self),
            Due::Retransmit(datagrams) => {
                ctx.send(self.local, self.remote, &datagrams);
                State::InitRequested(self)
            }
            Due::Dead => {
                let endless = self.connection.keying_tries == 0;
                let waited_for = self.goal.request.is_some();
                if self.last_error.is_none()
                    && !waited_for
                    && (endless || self.tries < self.connection.keying_tries)
                {
                    self.tries += 1;
                    let text = format!("peer not responding, trying again ({})", self.tries);
                    self.event(ctx, Level::Warning, "initiating", text);
                    self.transmit(ctx);
                    return State::InitRequested(self);
                }
                let why = self.last_error.take().unwrap_or_else(|| "peer not responding".into());
                self.abandon(ctx, &why);
                State::Closed
            }
        }
    }

    /// Gives up, and tells who waits.
    pub(crate) fn abandon(self: Box<Self>, ctx: &mut Context<'_>, why: &str) {
        let text = format!("establishing IKE_SA failed: {why}");
        self.event(ctx, Level::Warning, "ike-failed", text);
        fail(ctx, &self.connection, self.goal, why);
    }

    /// An answer to the request, in clear.
    pub(crate) fn answer(
        mut self: Box<Self>,
        ctx: &mut Context<'_>,
        message: Message,
        octets: Vec<u8>,
        endpoints: (SocketAddr, SocketAddr),
    ) -> State {
        if ctx.settings().trace_messages {
            self.event(ctx, Level::Debug, "message", format!("parsed {message}"));
        }
        if first_unknown_critical(&message.payloads).is_some() {
            return State::InitRequested(self);
        }
        if let Some(again) = self.restart(ctx, &message) {
            if again {
                self.restarts += 1;
                self.transmit(ctx);
            }
            return State::InitRequested(self);
        }
        let error = message.payloads.iter().find_map(|payload| match payload {
            Payload::Notify(notify) if notify.kind.is_error() => Some(notify.kind),
            _ => None,
        });
        if let Some(kind) = error {
            let text = format!("the peer refuses IKE_SA_INIT: {kind}");
            self.event(ctx, Level::Warning, "ike-refused", text.clone());
            self.last_error = Some(text);
            return self.refused(ctx, kind);
        }
        match self.keys(ctx, &message, octets, endpoints) {
            Ok((core, handshake, goal)) => {
                if handshake.additional.is_empty() {
                    ike_auth::start(ctx, core, handshake, goal)
                } else {
                    ike_intermediate::start(ctx, core, handshake, goal)
                }
            }
            Err((state, why)) => {
                let mut state = state;
                state.event(ctx, Level::Warning, "ike-refused", why.clone());
                state.last_error = Some(why);
                State::InitRequested(state)
            }
        }
    }

    /// A refusal may be forged, but an operator who waits wants to hear it, and with nothing
    /// else to try there is no use in repeating the request that was refused.
    fn refused(self: Box<Self>, ctx: &mut Context<'_>, kind: NotifyType) -> State {
        if kind == NotifyType::NO_PROPOSAL_CHOSEN && self.requests.transmissions() > 1 {
            let why = format!("the peer refuses IKE_SA_INIT: {kind}");
            self.abandon(ctx, &why);
            return State::Closed;
        }
        State::InitRequested(self)
    }

    /// A cookie, or another key exchange. `Some(false)`: more of it than an honest peer wants.
    fn restart(&mut self, ctx: &mut Context<'_>, message: &Message) -> Option<bool> {
        let allowed = self.restarts < MAX_RESTARTS;
        if let Some(cookie) = notify(&message.payloads, NotifyType::COOKIE) {
            let usable = (1..=64).contains(&cookie.data.len());
            if allowed && usable {
                self.cookie = Some(cookie.data.clone());
            }
            return Some(allowed && usable);
        }
        let wanted = notify(&message.payloads, NotifyType::INVALID_KE_PAYLOAD)?;
        let group = <[u8; 2]>::try_from(wanted.data.as_slice()).ok().map(u16::from_be_bytes);
        let group = group.filter(|group| {
            *group != self.group && allows_key_exchange(&self.connection, *group)
        });
        let Some(group) = group.filter(|_| allowed) else { return Some(false) };
        let Ok((key_exchange, public)) = generate(ctx, group) else { return Some(false) };
        (self.group, self.key_exchange, self.public) = (group, key_exchange, public);
        Some(true)
    }

    #[expect(clippy::type_complexity, reason = "the state is handed back when nothing came of it")]
    fn keys(
        mut self: Box<Self>,
        ctx: &mut Context<'_>,
        message: &Message,
        octets: Vec<u8>,
        (local, remote): (SocketAddr, SocketAddr),
    ) -> Result<(SaCore, Handshake, Goal), (Box<Self>, String)> {
        let parsed = InitPayloads::read(&message.payloads);
        let Some(parsed) = parsed.filter(|_| message.header.spi_r != 0) else {
            return Err((self, "the answer is incomplete".into()));
        };
        let policies = &self.connection.proposals;
        let choice = proposal::check_answer(parsed.sa, policies, protocol::IKE, false);
        let suite = choice.as_ref().and_then(suite_of);
        let (Some(choice), Some(suite)) = (choice, suite) else {
            return Err((self, "the peer chose what was not offered".into()));
        };
        if parsed.ke.method != self.group || choice.id(kind::KE) != self.group {
            return Err((self, "the peer answered with another key exchange".into()));
        }
        if parsed.nonce == self.nonce {
            return Err((self, "the peer sent our own nonce back".into()));
        }
        let additional = choice.additional_key_exchanges();
        let features = peer_features(&message.payloads);
        if !additional.is_empty() && !features.intermediate {
            return Err((self, "additional key exchanges without IKE_INTERMEDIATE".into()));
        }
        let shared = match self.key_exchange.finish(&parsed.ke.data) {
            Ok(shared) => shared,
            Err(error) => return Err((self, format!("the peer's key exchange: {error}"))),
        };
        let spis = (self.spi_i, message.header.spi_r);
        let seed = Skeyseed::initial(suite.prf(), &self.nonce, parsed.nonce, &shared);
        let keys = IkeKeys::derive(seed, &suite, (&self.nonce, parsed.nonce), spis);
        let Ok(keys) = keys else { return Err((self, "the keys cannot be derived".into())) };
        let nat = nat_found(&message.payloads, spis, local, remote);
        let (mut local, mut remote) = (local, remote);
        let float = nat.known && (nat.local || nat.remote || self.connection.mobike);
        if float || self.connection.encap {
            local.set_port(if local.port() == IKE_PORT { NAT_PORT } else { local.port() });
            remote.set_port(if remote.port() == IKE_PORT { NAT_PORT } else { remote.port() });
        }
        let parts = CoreParts { id: self.id, initiator: true, spis, local, remote, nat, features };
        let handshake = Handshake {
            init_request: std::mem::take(&mut self.request),
            init_response: octets,
            ni: self.nonce.clone(),
            nr: parsed.nonce.to_vec(),
            int_auth_i: Vec::new(),
            int_auth_r: Vec::new(),
            additional: additional.clone(),
            candidates: Vec::new(),
            authorities: parsed.authorities,
            ppk: parts.features.ppk && self.connection.ppk_id.is_some(),
            auth_message_id: 1,
        };
        let connection = Arc::clone(&self.connection);
        match new_core(ctx, connection, parts, suite, keys, additional) {
            Some(core) => Ok((core, handshake, self.goal)),
            None => Err((self, "the ciphers cannot be made".into())),
        }
    }
}

/// Our Vendor ID: 16 octets of a digest of the product's name, and the version of what is
/// private between two of us.
pub(crate) fn vendor_id() -> Vec<u8> {
    let digest = xswan_ike_crypto::sha256(&[b"xswan IPsec gateway"]);
    let mut id: Vec<u8> = digest.iter().take(16).copied().collect();
    id.push(1);
    id
}

/// Tells who waits that an attempt is over, and has another one made where the policy says so.
pub(crate) fn fail(
    ctx: &mut Context<'_>,
    connection: &Arc<ConnectionPolicy>,
    goal: Goal,
    why: &str,
) {
    if goal.request.is_some() {
        ctx.done(goal.request, Err(why.to_owned()));
        return;
    }
    // Nobody waits: it came up by itself, and goes on trying with growing pauses.
    let pause = 1_000_u64.saturating_mul(1 << goal.failures.min(6));
    let jitter = ctx.jitter(pause / 4);
    let at = ctx.millis().plus(pause + jitter);
    let wanted = |name: &&String| {
        connection.child(name).is_some_and(|child| child.start_action.starts())
    };
    let child = goal.children.iter().find(wanted).cloned();
    if child.is_some() || goal.replaces.is_some() {
        ctx.wishes.push(Wish::Initiate {
            connection: Arc::clone(connection),
            child,
            replaces: goal.replaces,
            at,
            failures: goal.failures + 1,
            request: None,
        });
    }
}

/// The payloads that every IKE_SA_INIT has.
struct InitPayloads<'a> {
    sa: &'a [Proposal],
    ke: &'a KeyExchangeData,
    nonce: &'a [u8],
    authorities: Option<Vec<[u8; 20]>>,
}

impl<'a> InitPayloads<'a> {
    fn read(payloads: &'a [Payload]) -> Option<Self> {
        let (mut sa, mut ke, mut nonce, mut authorities) = (None, None, None, None);
        for payload in payloads {
            match payload {
                Payload::Sa(offered) => sa = Some(offered.proposals.as_slice()),
                Payload::Ke(data) => ke = Some(data),
                Payload::Nonce(octets) => nonce = Some(octets.0.as_slice()),
                Payload::CertReq(request) => {
                    let hashes = authorities.get_or_insert_with(Vec::new);
                    hashes.extend(request.hashes().copied());
                }
                _ => {}
            }
        }
        let nonce = nonce.filter(|nonce| (16..=256).contains(&nonce.len()))?;
        Some(Self { sa: sa?, ke: ke?, nonce, authorities })
    }
}

/// The suite of a choice, if all of it is known.
pub(crate) fn suite_of(choice: &Choice) -> Option<Suite> {
    let encryption = choice.transform(kind::ENCR)?;
    let encryption = Encryption::from_transform_id(encryption.id, encryption.key_bits)?;
    let integrity = match choice.id(kind::INTEG) {
        0 => None,
        id => Some(Integrity::from_transform_id(id)?),
    };
    let prf = Prf::from_transform_id(choice.id(kind::PRF))?;
    let group = Group::from_transform_id(choice.id(kind::KE))?;
    let mut additional = [None; 7];
    for (place, id) in additional.iter_mut().zip(choice.additional_key_exchanges()) {
        *place = Some(Group::from_transform_id(id)?);
    }
    Suite::new(encryption, integrity, prf, group)
        .ok()
        .map(|suite| suite.with_additional(additional))
}

/// What NAT detection found; `known` if the peer takes part.
#[derive(Clone, Copy, Debug, Default)]
struct NatFound {
    known: bool,
    local: bool,
    remote: bool,
}

fn nat_found(
    payloads: &[Payload],
    spis: (u64, u64),
    local: SocketAddr,
    remote: SocketAddr,
) -> NatFound {
    match nat::detect(spis.0, spis.1, payloads, local, remote) {
        Some(found) => NatFound { known: true, local: found.local, remote: found.remote },
        None => NatFound::default(),
    }
}

/// The two notifications. With `encap` the source is one that nobody has, so that the peer
/// sees a NAT and encapsulates too.
fn nat_detection(
    connection: &ConnectionPolicy,
    spis: (u64, u64),
    (local, remote): (SocketAddr, SocketAddr),
) -> [Payload; 2] {
    nat::payloads(spis.0, spis.1, local, remote, connection.encap)
}

fn status(kind: NotifyType) -> Payload {
    Payload::Notify(Notify::new(kind, Vec::new()))
}

/// What we can do, in notifications both sides send.
fn features(connection: &ConnectionPolicy) -> Vec<Payload> {
    let mut payloads = Vec::new();
    if connection.fragmentation != Fragmentation::No {
        payloads.push(status(NotifyType::IKEV2_FRAGMENTATION_SUPPORTED));
    }
    let algorithms = HashAlgorithm::ADVERTISED.iter();
    let data = algorithms.flat_map(|algorithm| algorithm.id().to_be_bytes()).collect();
    let hashes = Notify::new(NotifyType::SIGNATURE_HASH_ALGORITHMS, data);
    payloads.push(Payload::Notify(hashes));
    payloads
}

fn peer_features(payloads: &[Payload]) -> PeerFeatures {
    let has = |kind| notify(payloads, kind).is_some();
    let hashes = notify(payloads, NotifyType::SIGNATURE_HASH_ALGORITHMS);
    let hashes = hashes.map_or(&[][..], |notify| notify.data.as_slice());
    let pairs = hashes.chunks_exact(2).filter_map(|pair| <[u8; 2]>::try_from(pair).ok());
    PeerFeatures {
        fragmentation: has(NotifyType::IKEV2_FRAGMENTATION_SUPPORTED),
        hash_algorithms: pairs
            .filter_map(|pair| HashAlgorithm::from_id(u16::from_be_bytes(pair)))
            .collect(),
        childless: has(NotifyType::CHILDLESS_IKEV2_SUPPORTED),
        intermediate: has(NotifyType::INTERMEDIATE_EXCHANGE_SUPPORTED),
        ppk: has(NotifyType::USE_PPK),
        redirect: has(NotifyType::REDIRECT_SUPPORTED) || has(NotifyType::REDIRECTED_FROM),
        multiple_auth: has(NotifyType::MULTIPLE_AUTH_SUPPORTED),
        ..PeerFeatures::default()
    }
}

struct CoreParts {
    id: IkeId,
    initiator: bool,
    spis: (u64, u64),
    local: SocketAddr,
    remote: SocketAddr,
    nat: NatFound,
    features: PeerFeatures,
}

fn new_core(
    ctx: &Context<'_>,
    connection: Arc<ConnectionPolicy>,
    parts: CoreParts,
    suite: Suite,
    keys: IkeKeys,
    additional: Vec<u16>,
) -> Option<SaCore> {
    let (outbound, inbound) = ciphers(&suite, &keys, parts.initiator)?;
    let (requests, responses) = if parts.initiator {
        (Requests::starting_at(1), Responses::expecting(0))
    } else {
        (Requests::starting_at(0), Responses::expecting(1))
    };
    Some(SaCore {
        id: parts.id,
        connection,
        initiator: parts.initiator,
        spi_i: parts.spis.0,
        spi_r: parts.spis.1,
        local: parts.local,
        remote: parts.remote,
        nat_local: parts.nat.local,
        nat_remote: parts.nat.remote,
        suite,
        additional_key_exchanges: additional,
        keys,
        outbound,
        inbound,
        requests,
        responses,
        reassembly: (None, Reassembly::default()),
        first_fragment: Vec::new(),
        peer: parts.features,
        created: ctx.now.monotonic,
        last_inbound: ctx.now.monotonic,
        last_outbound: ctx.now.monotonic,
    })
}

/// The ciphers of what we send and of what we get.
pub(crate) fn ciphers(
    suite: &Suite,
    keys: &IkeKeys,
    initiator: bool,
) -> Option<(SkCipher, SkCipher)> {
    let cipher = |initiator| {
        let (sk_e, sk_a) = keys.sent_by(initiator);
        SkCipher::new(suite, sk_e, sk_a).ok()
    };
    Some((cipher(initiator)?, cipher(!initiator)?))
}

/// We answered IKE_SA_INIT.
#[derive(Debug)]
pub(crate) struct HalfOpen {
    pub(crate) core: SaCore,
    pub(crate) handshake: Handshake,
    /// When it is forgotten.
    pub(crate) until: Millis,
}

impl HalfOpen {
    /// The peer's next request: IKE_INTERMEDIATE or IKE_AUTH.
    pub(crate) fn request(mut self: Box<Self>, ctx: &mut Context<'_>, inbound: Inbound) -> State {
        match inbound.header.exchange {
            ExchangeType::IKE_INTERMEDIATE if !self.handshake.additional.is_empty() => {
                match ike_intermediate::answer(ctx, &mut self.core, &mut self.handshake, &inbound) {
                    Ok(()) => State::HalfOpen(self),
                    Err(()) => State::Closed,
                }
            }
            ExchangeType::IKE_AUTH if self.handshake.additional.is_empty() => {
                ike_auth::answer_first(ctx, *self, inbound)
            }
            _ => State::HalfOpen(self),
        }
    }

    /// The time at which it is forgotten.
    pub(crate) fn deadline(&self) -> Option<Millis> {
        Some(self.until)
    }

    /// Forgets it if it is time.
    pub(crate) fn timer(self: Box<Self>, ctx: &mut Context<'_>) -> State {
        if self.until > ctx.millis() {
            return State::HalfOpen(self);
        }
        let text = "deleting half open IKE_SA after timeout";
        self.core.event(ctx, Level::Info, "ike-half-open-timeout", text);
        State::Closed
    }
}

/// What becomes of a request for a new IKE SA.
pub(crate) enum Answer {
    /// An IKE SA, and what was sent for it.
    HalfOpen(Box<HalfOpen>),
    /// An answer without state.
    Stateless(Vec<u8>),
    /// Nothing is said.
    Silence,
}

/// How careful we are right now.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gate<'a> {
    pub(crate) cookies: &'a Cookies,
    /// A cookie must be shown.
    pub(crate) cookie_required: bool,
}

/// Answers a request for a new IKE SA. The stateless checks come first, the expensive key
/// exchange last.
pub(crate) fn answer(
    ctx: &mut Context<'_>,
    gate: &Gate<'_>,
    id: IkeId,
    message: &Message,
    octets: &[u8],
    (local, remote): (SocketAddr, SocketAddr),
) -> Answer {
    let stateless = |notify| Answer::Stateless(stateless(message, notify));
    if let Some(kind) = first_unknown_critical(&message.payloads) {
        let data = vec![kind.0];
        return stateless(Notify::new(NotifyType::UNSUPPORTED_CRITICAL_PAYLOAD, data));
    }
    let Some(parsed) = InitPayloads::read(&message.payloads) else {
        return stateless(Notify::new(NotifyType::INVALID_SYNTAX, Vec::new()));
    };
    let spi_i = message.header.spi_i;
    let claim = Claim { address: remote.ip(), spi_i, nonce: parsed.nonce };
    let verified = match notify(&message.payloads, NotifyType::COOKIE) {
        Some(cookie) => gate.cookies.verify(&claim, &cookie.data),
        None => false,
    };
    if gate.cookie_required && !verified {
        let cookie = gate.cookies.make(&claim).to_vec();
        return stateless(Notify::new(NotifyType::COOKIE, cookie));
    }
    let candidates = candidates(ctx, local.ip(), remote.ip());
    let (connection, choice, suite) = match choose(&candidates, &parsed) {
        Ok(chosen) => chosen,
        Err(why) => {
            refused(ctx, remote, format!("no IKE proposal fits: {why}"));
            return stateless(Notify::new(NotifyType::NO_PROPOSAL_CHOSEN, Vec::new()));
        }
    };
    let group = choice.id(kind::KE);
    if parsed.ke.method != group {
        let data = group.to_be_bytes().to_vec();
        return stateless(Notify::new(NotifyType::INVALID_KE_PAYLOAD, data));
    }
    let exchanged = xswan_ike_crypto::respond(suite.group(), &parsed.ke.data, ctx.random());
    let (public, shared) = match exchanged {
        Ok(exchanged) => exchanged,
        Err(error) => {
            refused(ctx, remote, format!("the peer's key exchange: {error}"));
            return stateless(Notify::new(NotifyType::INVALID_SYNTAX, Vec::new()));
        }
    };
    let request = Request { id, message, octets, local, remote, verified, parsed };
    let chosen = Chosen { connection, choice, suite, public, shared, candidates };
    match respond(ctx, request, chosen) {
        Some((state, cookie_needed)) if !cookie_needed || verified => Answer::HalfOpen(state),
        // The answer would be larger than the request and the address is not proved.
        Some((state, _)) => {
            let claim = Claim { address: remote.ip(), spi_i, nonce: &state.handshake.ni };
            let cookie = gate.cookies.make(&claim).to_vec();
            Answer::Stateless(self::stateless(message, Notify::new(NotifyType::COOKIE, cookie)))
        }
        None => Answer::Silence,
    }
}

fn refused(ctx: &mut Context<'_>, remote: SocketAddr, text: String) {
    ctx.act(crate::action::Action::Event(Event {
        level: Level::Warning,
        name: "ike-refused",
        connection: None,
        ike: None,
        child: None,
        remote: Some(remote),
        text,
    }));
}

/// An answer that leaves no state: the responder's SPI stays 0.
fn stateless(message: &Message, notify: Notify) -> Vec<u8> {
    let flags = Flags { initiator: false, version: false, response: true };
    let spi_i = message.header.spi_i;
    let header = Header::new(spi_i, 0, ExchangeType::IKE_SA_INIT, flags, 0);
    emit(&Message { header, payloads: vec![Payload::Notify(notify)] })
}

/// The connections for a pair of addresses, best first, equal ones in the order of the file.
fn candidates(ctx: &Context<'_>, local: IpAddr, remote: IpAddr) -> Vec<Arc<ConnectionPolicy>> {
    let connections = ctx.configuration.connections.iter();
    let mut fitting: Vec<_> = connections
        .filter_map(|connection| connection.fits(local, remote).map(|score| (score, connection)))
        .collect();
    fitting.sort_by_key(|(score, _)| std::cmp::Reverse(*score));
    fitting.into_iter().map(|(_, connection)| Arc::clone(connection)).collect()
}

fn choose(
    candidates: &[Arc<ConnectionPolicy>],
    parsed: &InitPayloads<'_>,
) -> Result<(Arc<ConnectionPolicy>, Choice, Suite), String> {
    let mut why = "no connection for these addresses".to_owned();
    for connection in candidates {
        let preferred = Some(parsed.ke.method);
        let policies = &connection.proposals;
        match proposal::choose(parsed.sa, policies, protocol::IKE, false, preferred) {
            Ok(choice) => match suite_of(&choice) {
                Some(suite) => return Ok((Arc::clone(connection), choice, suite)),
                None => why = "the suite cannot be built".into(),
            },
            Err(missing) => why = missing.to_string(),
        }
    }
    Err(why)
}

struct Request<'a> {
    id: IkeId,
    message: &'a Message,
    octets: &'a [u8],
    local: SocketAddr,
    remote: SocketAddr,
    verified: bool,
    parsed: InitPayloads<'a>,
}

struct Chosen {
    connection: Arc<ConnectionPolicy>,
    choice: Choice,
    suite: Suite,
    public: Vec<u8>,
    shared: Secret,
    candidates: Vec<Arc<ConnectionPolicy>>,
}

/// The answer with keys. The second value: it is larger than the request although everything
/// that may be left out was, so the peer's address must be proved first.
fn respond(
    ctx: &mut Context<'_>,
    request: Request<'_>,
    chosen: Chosen,
) -> Option<(Box<HalfOpen>, bool)> {
    let Chosen { connection, choice, suite, public, shared, candidates } = chosen;
    let spis = (request.message.header.spi_i, ctx.ike_spi());
    let ni = request.parsed.nonce.to_vec();
    let features_of_peer = peer_features(&request.message.payloads);
    let additional = choice.additional_key_exchanges();
    if !additional.is_empty() && !features_of_peer.intermediate {
        refused(ctx, request.remote, "additional key exchanges without IKE_INTERMEDIATE".into());
        return None;
    }
    let mut payloads = vec![
        Payload::Sa(SecurityAssociation {
            proposals: vec![choice.to_proposal(protocol::IKE, Vec::new())],
        }),
        Payload::Ke(KeyExchangeData { method: suite.group().id(), data: public }),
    ];
    let nat = nat_found(&request.message.payloads, spis, request.local, request.remote);
    if nat.known {
        let addresses = (request.local, request.remote);
        payloads.extend(nat_detection(&connection, spis, addresses));
    }
    payloads.extend(features(&connection).into_iter().filter(|payload| match payload {
        Payload::Notify(notify) if notify.kind == NotifyType::IKEV2_FRAGMENTATION_SUPPORTED => {
            features_of_peer.fragmentation
        }
        _ => true,
    }));
    if !additional.is_empty() {
        payloads.push(status(NotifyType::INTERMEDIATE_EXCHANGE_SUPPORTED));
    }
    // RFC 8784 section 3: shown by any connection that may turn out to be the peer's.
    let ppk = features_of_peer.ppk
        && candidates
            .iter()
            .any(|candidate| candidate.ppk_id.is_some() || candidate.ppk_required);
    if ppk {
        payloads.push(status(NotifyType::USE_PPK));
    }
    let flags = Flags { initiator: false, version: false, response: true };
    let header = Header::new(spis.0, spis.1, ExchangeType::IKE_SA_INIT, flags, 0);
    let mut message = Message { header, payloads };
    let budget = if request.verified { usize::MAX } else { request.octets.len() };
    let shortest = Nonce::MIN_LEN.max(suite.prf().key_len() / 2);
    let nr = ctx.random_octets(NONCE_LEN.max(shortest));
    let (nr, too_large) = fit(&mut message, optional_payloads(ctx, &connection), nr, shortest, budget);
    let octets = emit(&message);
    let seed = Skeyseed::initial(suite.prf(), &ni, &nr, &shared);
    let keys = IkeKeys::derive(seed, &suite, (&ni, &nr), spis).ok()?;
    let parts = CoreParts {
        id: request.id,
        initiator: false,
        spis,
        local: request.local,
        remote: request.remote,
        nat,
        features: features_of_peer,
    };
    let core = new_core(ctx, connection, parts, suite, keys, additional.clone())?;
    if ctx.settings().trace_messages {
        core.event(ctx, Level::Debug, "message", format!("generating {message}"));
    }
    let until = ctx.millis().plus(ctx.settings().half_open_timeout_ms);
    let handshake = Handshake {
        init_request: request.octets.to_vec(),
        init_response: octets,
        ni,
        nr,
        int_auth_i: Vec::new(),
        int_auth_r: Vec::new(),
        additional,
        candidates,
        authorities: request.parsed.authorities,
        ppk,
        auth_message_id: 1,
    };
    Some((Box::new(HalfOpen { core, handshake, until }), too_large))
}

/// Puts the nonce and what else there is room for into an answer that must not be larger than
/// `budget`, so that nobody can use us to flood somebody else. Returns the nonce, and whether
/// something is missing that the handshake needs.
fn fit(
    message: &mut Message,
    optional: Vec<Payload>,
    mut nr: Vec<u8>,
    shortest: usize,
    budget: usize,
) -> (Vec<u8>, bool) {
    let place = message.payloads.len().min(2);
    let nonce = |nr: &[u8]| Payload::Nonce(Nonce(nr.to_vec()));
    message.payloads.insert(place, nonce(&nr));
    let bare = message.payloads.len();
    message.payloads.extend(optional.iter().cloned());
    if emit(message).len() > budget {
        nr.truncate(shortest);
        if let Some(payload) = message.payloads.get_mut(place) {
            *payload = nonce(&nr);
        }
    }
    message.payloads.truncate(bare);
    let mut too_large = emit(message).len() > budget;
    for payload in optional {
        let needed = matches!(payload, Payload::CertReq(_));
        message.payloads.push(payload);
        if emit(message).len() > budget {
            message.payloads.pop();
            too_large |= needed;
        }
    }
    (nr, too_large)
}

/// Payloads that an answer may go without, most useful ones first. Without CERTREQ most peers
/// send no certificate.
fn optional_payloads(ctx: &Context<'_>, connection: &ConnectionPolicy) -> Vec<Payload> {
    let mut payloads = Vec::new();
    if connection.send_certificate_request {
        payloads.extend(ike_auth::certificate_request(ctx.configuration, connection));
    }
    if connection.childless != crate::policy::Childless::Never {
        payloads.push(status(NotifyType::CHILDLESS_IKEV2_SUPPORTED));
    }
    payloads.push(status(NotifyType::MULTIPLE_AUTH_SUPPORTED));
    payloads
}
