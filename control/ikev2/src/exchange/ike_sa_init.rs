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

mod initiator;
mod responder;

pub(crate) use initiator::{InitRequested, initiate};
pub(crate) use responder::{Answer, Gate, HalfOpen, answer, cost, stateless, with_cookie};

use crate::clock::Millis;
use crate::cookie::{Claim, Cookies};
use crate::event::{Event, Level};
use crate::exchange::{ike_auth, ike_intermediate};
use crate::input::{IkeId, RequestId};
use crate::message_id::{Due, Requests, Responses};
use crate::nat;
use crate::policy::{AddressPattern, ChildPolicy, ConnectionPolicy, Fragmentation};
use crate::proposal::{self, Choice, kind, protocol};
use crate::protect::emit;
use crate::sa::{Context, Fragments, Inbound, PeerFeatures, SaCore, Wish, notify};
use crate::state::State;
use crate::wire::{
    ExchangeType, Flags, GENERIC_HEADER_LEN, HEADER_LEN, Header, KeyExchange as KeyExchangeData,
    Message, Nonce, Notify, NotifyType, Payload, PayloadType, Proposal, SecurityAssociation,
    TrafficSelector, VendorId, first_unknown_critical,
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
    /// Who waits: for the first child, or for the IKE SA if there is none.
    pub(crate) request: Option<RequestId>,
    /// Who waits for another child.
    pub(crate) waiting: Vec<(String, RequestId)>,
    /// We have no other IKE SA with this peer (RFC 7296 section 2.4).
    pub(crate) initial_contact: bool,
}

impl Goal {
    /// One more child is wanted. False: somebody waits for that one already, and the new one
    /// who would wait will not be told.
    pub(crate) fn join(&mut self, child: &str, request: Option<RequestId>) -> bool {
        let first = self.children.first().is_none_or(|name| name == child);
        let waited_for =
            (first && self.request.is_some()) || self.waiting.iter().any(|(name, _)| name == child);
        if request.is_some() && waited_for && self.children.iter().any(|name| name == child) {
            return false;
        }
        if !self.children.iter().any(|name| name == child) {
            self.children.push(child.to_owned());
        }
        self.waiting.extend(request.map(|request| (child.to_owned(), request)));
        true
    }

    /// Who waits for a child, besides [`Self::request`].
    pub(crate) fn waits_for(&mut self, child: &str) -> Option<RequestId> {
        let position = self.waiting.iter().position(|(name, _)| name == child)?;
        Some(self.waiting.remove(position).1)
    }
}

/// What IKE_AUTH needs of IKE_SA_INIT.
#[derive(Debug)]
pub(crate) struct Handshake {
    /// The last request and its answer, as they were on the wire (section 2.15).
    pub(crate) init_request: Vec<u8>,
    pub(crate) init_response: Vec<u8>,
    /// Responder: the same request without the cookie, or with it.
    pub(crate) init_request_before: Option<Vec<u8>>,
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

impl Handshake {
    /// Believes the other one of two requests to be the one that the peer signs.
    pub(crate) fn swap_requests(&mut self) {
        if let Some(before) = &mut self.init_request_before {
            std::mem::swap(before, &mut self.init_request);
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
    let Goal { mut children, replaces, request, waiting, .. } = goal;
    ctx.done(request, Err(why.to_owned()));
    if request.is_some() && !children.is_empty() {
        children.remove(0);
    }
    for (child, request) in waiting {
        children.retain(|name| *name != child);
        ctx.done(Some(request), Err(why.to_owned()));
    }
    // For what nobody waits, it came up by itself, and goes on trying with growing pauses.
    let pause = 1_000_u64.saturating_mul(1 << goal.failures.min(6));
    let jitter = ctx.jitter(pause / 4);
    let at = ctx.millis().plus(pause + jitter);
    let starts = |child: &Arc<ChildPolicy>| {
        [child.start_action, child.dpd_action, child.close_action].iter().any(|one| one.starts())
    };
    children.retain(|name| connection.child(name).is_some_and(starts));
    let replaces = replaces.filter(|_| request.is_none());
    let mut again = |child: Option<String>, replaces: Option<IkeId>| {
        let (connection, failures) = (Arc::clone(connection), goal.failures + 1);
        let request = None;
        let wish = Wish::Initiate { connection, child, replaces, at, failures, request };
        ctx.wishes.push(wish);
    };
    match replaces {
        // What the old one has is asked for again.
        Some(_) => again(None, replaces),
        None => children.into_iter().for_each(|child| again(Some(child), None)),
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
        request_fragments: Fragments::default(),
        response_fragments: Fragments::default(),
        peer: parts.features,
        mobike: Default::default(),
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
