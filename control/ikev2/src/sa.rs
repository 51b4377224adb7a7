//! What an IKE SA is made of from the moment it has keys, whatever its state.

use crate::action::Action;
use crate::clock::{Millis, Now};
use crate::engine::index::Others;
use crate::event::{Event, Level};
use crate::fragmentation::Reassembly;
use crate::host::Host;
use crate::input::{ChildId, IkeId, RequestId};
use crate::message_id::{Datagrams, Requests, Responses};
use crate::policy::{Configuration, ConnectionPolicy};
use crate::pool::Pools;
use crate::settings::Settings;
use crate::state::IkeSa;
use crate::statistics::Statistics;
use crate::wire::{
    ExchangeType, Flags, Header, Identification, Message, Notify, NotifyType, Payload, PayloadType,
};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use xswan_credentials::Identity;
use xswan_ike_crypto::{HashAlgorithm, IkeKeys, Random, SkCipher, Suite};

/// What the machine works with while it handles one input.
pub(crate) struct Context<'a> {
    pub(crate) now: Now,
    pub(crate) host: &'a mut dyn Host,
    pub(crate) configuration: &'a Configuration,
    pub(crate) pools: &'a mut Pools,
    pub(crate) numbers: &'a mut Numbers,
    pub(crate) statistics: &'a mut Statistics,
    pub(crate) actions: &'a mut VecDeque<Action>,
    pub(crate) wishes: &'a mut Vec<Wish>,
    pub(crate) others: Others<'a>,
    /// Our outer addresses, as far as the shell has told.
    pub(crate) addresses: &'a [std::net::IpAddr],
}

/// The next numbers of SAs.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Numbers {
    pub(crate) ike: u32,
    pub(crate) child: u32,
}

/// What concerns other IKE SAs than the one at hand: the engine does it afterwards.
#[derive(Debug)]
pub(crate) enum Wish {
    /// A rekeyed IKE SA stands on its own.
    Adopt(Box<IkeSa>),
    /// Authentication is done: the policy on duplicates applies.
    Unique { ike: IkeId, local: Identity, remote: Identity, initial_contact: bool },
    /// A connection, or a child of it, is to come up (again).
    Initiate {
        connection: Arc<ConnectionPolicy>,
        child: Option<String>,
        /// The IKE SA that it takes the place of, children and all (reauthentication).
        replaces: Option<IkeId>,
        /// Not before.
        at: Millis,
        /// How often it has failed in a row.
        failures: u32,
        request: Option<RequestId>,
    },
    /// An IKE SA whose replacement is up can go.
    Close(IkeId),
}

impl Context<'_> {
    pub(crate) fn settings(&self) -> &Settings {
        &self.configuration.settings
    }

    pub(crate) fn millis(&self) -> Millis {
        self.now.monotonic
    }

    pub(crate) fn random(&mut self) -> &mut dyn Random {
        self.host.random()
    }

    /// Unpredictable octets.
    pub(crate) fn random_octets(&mut self, len: usize) -> Vec<u8> {
        let mut octets = vec![0; len];
        self.random().fill(&mut octets);
        octets
    }

    /// An SPI of an IKE SA: anything but 0 (RFC 7296 section 3.1).
    pub(crate) fn ike_spi(&mut self) -> u64 {
        let mut octets = [0; 8];
        self.random().fill(&mut octets);
        u64::from_be_bytes(octets).max(1)
    }

    /// A number between 0 and `most`, both included, for jitter.
    pub(crate) fn jitter(&mut self, most: u64) -> u64 {
        let mut octets = [0; 8];
        self.random().fill(&mut octets);
        most.checked_add(1).map_or(0, |range| u64::from_be_bytes(octets) % range)
    }

    pub(crate) fn next_ike(&mut self) -> IkeId {
        self.numbers.ike += 1;
        IkeId(self.numbers.ike)
    }

    pub(crate) fn next_child(&mut self) -> ChildId {
        self.numbers.child += 1;
        ChildId(self.numbers.child)
    }

    pub(crate) fn act(&mut self, action: Action) {
        self.actions.push_back(action);
    }

    /// Answers an operator, if one waits.
    pub(crate) fn done(&mut self, request: Option<RequestId>, result: Result<u32, String>) {
        if let Some(request) = request {
            self.act(Action::Done { request, result });
        }
    }

    pub(crate) fn send(&mut self, local: SocketAddr, remote: SocketAddr, datagrams: &Datagrams) {
        for octets in datagrams {
            self.act(Action::Send { local, remote, octets: octets.clone() });
        }
    }
}

/// What the peer said it can do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PeerFeatures {
    pub(crate) fragmentation: bool,
    /// SIGNATURE_HASH_ALGORITHMS (RFC 7427 section 4); empty: only the old methods.
    pub(crate) hash_algorithms: Vec<HashAlgorithm>,
    pub(crate) childless: bool,
    pub(crate) intermediate: bool,
    pub(crate) ppk: bool,
    pub(crate) mobike: bool,
    pub(crate) redirect: bool,
    pub(crate) multiple_auth: bool,
    pub(crate) eap_only: bool,
    pub(crate) initial_contact: bool,
    pub(crate) message_id_sync: bool,
}

/// Everything an IKE SA has once SKEYSEED is known.
#[derive(Debug)]
pub(crate) struct SaCore {
    pub(crate) id: IkeId,
    pub(crate) connection: Arc<ConnectionPolicy>,
    /// Whether we sent the IKE_SA_INIT request, or the request that rekeyed it.
    pub(crate) initiator: bool,
    pub(crate) spi_i: u64,
    pub(crate) spi_r: u64,
    pub(crate) local: SocketAddr,
    pub(crate) remote: SocketAddr,
    pub(crate) nat_local: bool,
    pub(crate) nat_remote: bool,
    pub(crate) suite: Suite,
    /// Additional key exchanges of the chosen proposal, for listings.
    pub(crate) additional_key_exchanges: Vec<u16>,
    pub(crate) keys: IkeKeys,
    pub(crate) outbound: SkCipher,
    pub(crate) inbound: SkCipher,
    pub(crate) requests: Requests,
    pub(crate) responses: Responses,
    /// Fragments of the peer's request.
    pub(crate) request_fragments: Fragments,
    /// Fragments of the response to ours. Both may arrive mixed with each other.
    pub(crate) response_fragments: Fragments,
    pub(crate) peer: PeerFeatures,
    pub(crate) mobike: crate::mobike::Mobike,
    pub(crate) created: Millis,
    /// When the peer last proved that it is there.
    pub(crate) last_inbound: Millis,
    /// When something last left for the peer, for keepalives.
    pub(crate) last_outbound: Millis,
}

/// A message that arrives in fragments, each authenticated.
#[derive(Debug, Default)]
pub(crate) struct Fragments {
    message_id: Option<u32>,
    reassembly: Reassembly,
    /// The first one, as it came.
    first: Vec<u8>,
}

impl Fragments {
    /// One more fragment. When all are there: type of the first payload, content, and the first
    /// datagram.
    pub(crate) fn insert(
        &mut self,
        message_id: u32,
        (fragment, total): (u16, u16),
        kind: PayloadType,
        plaintext: Vec<u8>,
        octets: Vec<u8>,
    ) -> Option<(PayloadType, Vec<u8>, Vec<u8>)> {
        if self.message_id != Some(message_id) {
            self.message_id = Some(message_id);
            self.reassembly.clear();
        }
        if fragment == 1 {
            self.first = octets;
        }
        let whole = self.reassembly.insert(fragment, total, kind, plaintext).ok()??;
        self.message_id = None;
        Some((whole.first, whole.content.to_vec(), std::mem::take(&mut self.first)))
    }
}

/// A message of the peer, authenticated and complete.
#[derive(Clone, Debug)]
pub(crate) struct Inbound {
    pub(crate) header: Header,
    pub(crate) payloads: Vec<Payload>,
    /// Type of the first payload within SK, and all of them as they were sealed (RFC 9242
    /// section 3.3.2 authenticates these octets).
    pub(crate) first: PayloadType,
    pub(crate) plaintext: Vec<u8>,
    /// The datagram, or the first fragment: what a retransmission is compared with.
    pub(crate) octets: Vec<u8>,
    pub(crate) local: SocketAddr,
    pub(crate) remote: SocketAddr,
}

impl Inbound {
    /// The first notification of a type.
    pub(crate) fn notify(&self, kind: NotifyType) -> Option<&Notify> {
        notify(&self.payloads, kind)
    }

    /// The first error notification, if there is one.
    pub(crate) fn error(&self) -> Option<&Notify> {
        self.payloads.iter().find_map(|payload| match payload {
            Payload::Notify(notify) if notify.kind.is_error() => Some(notify),
            _ => None,
        })
    }
}

/// The first notification of a type.
pub(crate) fn notify(payloads: &[Payload], kind: NotifyType) -> Option<&Notify> {
    payloads.iter().find_map(|payload| match payload {
        Payload::Notify(notify) if notify.kind == kind => Some(notify),
        _ => None,
    })
}

/// An identity as a payload's body.
pub(crate) fn to_identification(identity: &Identity) -> Identification {
    Identification::new(identity.kind_number(), identity.data().to_vec())
}

impl SaCore {
    /// Our SPI.
    pub(crate) const fn own_spi(&self) -> u64 {
        if self.initiator { self.spi_i } else { self.spi_r }
    }

    /// ESP goes in UDP.
    pub(crate) fn encap(&self) -> bool {
        self.nat_local || self.nat_remote || self.connection.encap
    }

    /// The header of a message of ours.
    pub(crate) fn header(&self, exchange: ExchangeType, message_id: u32, response: bool) -> Header {
        let flags = Flags { initiator: self.initiator, version: false, response };
        Header::new(self.spi_i, self.spi_r, exchange, flags, message_id)
    }

    /// Seals a message, in fragments if it is too large and the peer can take them.
    pub(crate) fn seal(
        &mut self,
        ctx: &mut Context<'_>,
        exchange: ExchangeType,
        message_id: u32,
        response: bool,
        payloads: &[Payload],
    ) -> Datagrams {
        let header = self.header(exchange, message_id, response);
        let ceiling = self.fragment_ceiling(ctx.settings());
        let random = ctx.host.random();
        crate::protect::seal(&mut self.outbound, &header, payloads, ceiling, random)
    }

    /// The largest IP datagram, if messages may be fragmented.
    fn fragment_ceiling(&self, settings: &Settings) -> Option<crate::protect::Ceiling> {
        let allowed = self.connection.fragmentation == crate::policy::Fragmentation::Yes;
        (self.peer.fragmentation && allowed).then(|| crate::protect::Ceiling {
            octets: settings.fragment_size,
            peer: self.remote.ip(),
            marker: self.local.port() != 500 || self.remote.port() != 500,
        })
    }

    /// Sends a request. There must be none outstanding ([`Requests::is_idle`]).
    pub(crate) fn request(
        &mut self,
        ctx: &mut Context<'_>,
        exchange: ExchangeType,
        payloads: &[Payload],
    ) -> u32 {
        let id = self.requests.next_id();
        let datagrams = self.seal(ctx, exchange, id, false, payloads);
        self.trace(ctx, "generating", exchange, id, false, payloads);
        ctx.send(self.local, self.remote, &datagrams);
        let now = ctx.millis();
        self.last_outbound = now;
        self.requests.sent(datagrams, &ctx.configuration.settings, now);
        id
    }

    /// Answers a request, to where it came from, and remembers the answer.
    pub(crate) fn respond(
        &mut self,
        ctx: &mut Context<'_>,
        request: &Inbound,
        payloads: &[Payload],
    ) -> Datagrams {
        let (exchange, id) = (request.header.exchange, request.header.message_id);
        let datagrams = self.seal(ctx, exchange, id, true, payloads);
        self.trace(ctx, "generating", exchange, id, true, payloads);
        ctx.send(request.local, request.remote, &datagrams);
        self.last_outbound = ctx.millis();
        self.responses.answered(&request.octets, datagrams.clone());
        datagrams
    }

    /// Answers a request with one error.
    pub(crate) fn refuse(&mut self, ctx: &mut Context<'_>, request: &Inbound, kind: NotifyType) {
        self.respond(ctx, request, &[Payload::Notify(Notify::new(kind, Vec::new()))]);
    }

    /// One line for the log.
    pub(crate) fn event(
        &self,
        ctx: &mut Context<'_>,
        level: Level,
        name: &'static str,
        text: impl Into<String>,
    ) {
        ctx.act(Action::Event(Event {
            level,
            name,
            connection: Some(self.connection.name.clone()),
            ike: Some(self.id),
            child: None,
            remote: Some(self.remote),
            text: text.into(),
        }));
    }

    fn trace(
        &self,
        ctx: &mut Context<'_>,
        verb: &str,
        exchange: ExchangeType,
        id: u32,
        response: bool,
        payloads: &[Payload],
    ) {
        if ctx.settings().trace_messages {
            let header = self.header(exchange, id, response);
            let message = Message { header, payloads: payloads.to_vec() };
            self.event(ctx, Level::Debug, "message", format!("{verb} {message}"));
        }
    }

    /// One line for a message that arrived.
    pub(crate) fn trace_inbound(&self, ctx: &mut Context<'_>, inbound: &Inbound) {
        let (exchange, id) = (inbound.header.exchange, inbound.header.message_id);
        self.trace(ctx, "parsed", exchange, id, inbound.header.flags.response, &inbound.payloads);
    }
}
