//! IKE_INTERMEDIATE (RFC 9242): additional key exchanges before authentication (RFC 9370).
//!
//! ```text
//! initiator                            responder
//!   HDR, SK {KEi(n)}            ──▶
//!                               ◀──    HDR, SK {KEr(n)}           once for each ADDKE transform
//!
//! state                   input    next
//! IntermediateRequested   KEr(n)   IntermediateRequested for n + 1, or AuthRequested
//! HalfOpen                KEi(n)   HalfOpen with new keys
//! ```
//! Each exchange is protected by the keys before it, and is authenticated later: IKE_AUTH signs
//! a prf over its plaintext (RFC 9242 section 3.3.2).

use crate::clock::Millis;
use crate::event::Level;
use crate::exchange::ike_auth;
use crate::exchange::ike_sa_init::{Goal, Handshake, ciphers, fail};
use crate::message_id::Due;
use crate::sa::{Context, Inbound, SaCore};
use crate::state::State;
use crate::wire::{
    ExchangeType, GENERIC_HEADER_LEN, HEADER_LEN, Header, KeyExchange as KeyExchangeData, Payload,
    PayloadType, emit_chain,
};
use xswan_ike_crypto::{Group, IkeKeys, KeyExchange, Secret, Skeyseed};

/// We sent our part of an additional key exchange.
#[derive(Debug)]
pub(crate) struct IntermediateRequested {
    pub(crate) core: SaCore,
    handshake: Handshake,
    pub(crate) goal: Goal,
    key_exchange: KeyExchange,
    /// IntAuth_i of this exchange, which enters when it is complete.
    int_auth_i: Vec<u8>,
}

/// IntAuth of one message: `prf(SK_p, previous | A | P)`, where A is the header and the
/// generic header of SK as if there were no IV, padding and ICV, and P the inner payloads.
fn int_auth(
    core: &SaCore,
    by_initiator: bool,
    previous: &[u8],
    header: &Header,
    first: PayloadType,
    plaintext: &[u8],
) -> Vec<u8> {
    let length = HEADER_LEN + GENERIC_HEADER_LEN + plaintext.len();
    let length32 = u32::try_from(length).unwrap_or(u32::MAX);
    let header = Header { first: PayloadType::SK, length: length32, ..*header }.emit();
    let payload_length = u16::try_from(GENERIC_HEADER_LEN + plaintext.len()).unwrap_or(u16::MAX);
    let [high, low] = payload_length.to_be_bytes();
    let generic = [first.0, 0, high, low];
    let key = if by_initiator { &core.keys.sk_pi } else { &core.keys.sk_pr };
    let parts = [previous, &header, &generic, plaintext];
    core.suite.prf().compute(key.as_bytes(), &parts).as_bytes().to_vec()
}

/// New keys from the old SK_d and one more shared secret (RFC 9370 section 2.2.2).
fn advance(core: &mut SaCore, handshake: &Handshake, shared: &Secret) -> Option<()> {
    let (ni, nr) = (&handshake.ni, &handshake.nr);
    let seed = Skeyseed::additional(core.suite.prf(), &core.keys.sk_d, shared, ni, nr);
    let keys = IkeKeys::derive(seed, &core.suite, (ni, nr), (core.spi_i, core.spi_r)).ok()?;
    let (outbound, inbound) = ciphers(&core.suite, &keys, core.initiator)?;
    (core.keys, core.outbound, core.inbound) = (keys, outbound, inbound);
    Some(())
}

/// Sends our part of the next additional key exchange.
pub(crate) fn start(
    ctx: &mut Context<'_>,
    mut core: SaCore,
    handshake: Handshake,
    goal: Goal,
) -> State {
    let group = handshake.additional.first().copied().and_then(Group::from_transform_id);
    let generated = group.and_then(|group| KeyExchange::generate(group, ctx.random()).ok());
    let (Some(group), Some((key_exchange, data))) = (group, generated) else {
        core.event(ctx, Level::Warning, "ike-failed", "the additional key exchange is not known");
        fail(ctx, &core.connection, goal, "the additional key exchange is not known");
        return State::Closed;
    };
    let payloads = [Payload::Ke(KeyExchangeData { method: group.id(), data })];
    let id = core.request(ctx, ExchangeType::IKE_INTERMEDIATE, &payloads);
    let header = core.header(ExchangeType::IKE_INTERMEDIATE, id, false);
    let (first, plaintext) = emit_chain(&payloads).unwrap_or((PayloadType::NONE, Vec::new()));
    let int_auth_i = int_auth(&core, true, &handshake.int_auth_i, &header, first, &plaintext);
    let state = IntermediateRequested { core, handshake, goal, key_exchange, int_auth_i };
    State::IntermediateRequested(Box::new(state))
}

fn key_exchange_of(inbound: &Inbound, method: u16) -> Option<&[u8]> {
    inbound.payloads.iter().find_map(|payload| match payload {
        Payload::Ke(ke) if ke.method == method => Some(ke.data.as_slice()),
        _ => None,
    })
}

impl IntermediateRequested {
    /// The peer's part.
    pub(crate) fn response(self: Box<Self>, ctx: &mut Context<'_>, inbound: Inbound) -> State {
        let method = self.key_exchange.group().id();
        let shared = key_exchange_of(&inbound, method)
            .filter(|_| inbound.header.exchange == ExchangeType::IKE_INTERMEDIATE)
            .and_then(|data| self.key_exchange.finish(data).ok());
        let Some(shared) = shared else {
            let why = match inbound.error() {
                Some(error) => format!("the peer refuses IKE_INTERMEDIATE: {}", error.kind),
                None => "the additional key exchange failed".to_owned(),
            };
            self.abandon(ctx, &why);
            return State::Closed;
        };
        let Self { mut core, mut handshake, goal, int_auth_i, .. } = *self;
        handshake.int_auth_r = int_auth(
            &core,
            false,
            &handshake.int_auth_r,
            &inbound.header,
            inbound.first,
            &inbound.plaintext,
        );
        handshake.int_auth_i = int_auth_i;
        handshake.additional.remove(0);
        if advance(&mut core, &handshake, &shared).is_none() {
            core.event(ctx, Level::Warning, "ike-failed", "the keys cannot be derived");
            fail(ctx, &core.connection, goal, "the keys cannot be derived");
            return State::Closed;
        }
        if handshake.additional.is_empty() {
            ike_auth::start(ctx, core, handshake, goal)
        } else {
            start(ctx, core, handshake, goal)
        }
    }

    /// When the request is repeated.
    pub(crate) fn deadline(&self) -> Option<Millis> {
        self.core.requests.deadline()
    }

    /// Repeats the request, or gives up.
    pub(crate) fn timer(mut self: Box<Self>, ctx: &mut Context<'_>) -> State {
        match self.core.requests.poll(&ctx.configuration.settings, ctx.now.monotonic) {
            Due::Nothing => State::IntermediateRequested(self),
            Due::Retransmit(datagrams) => {
                ctx.statistics.retransmitted_requests += 1;
                ctx.send(self.core.local, self.core.remote, &datagrams);
                State::IntermediateRequested(self)
            }
            Due::Dead => {
                self.abandon(ctx, "peer not responding");
                State::Closed
            }
        }
    }

    /// Gives up, and tells who waits.
    pub(crate) fn abandon(self: Box<Self>, ctx: &mut Context<'_>, why: &str) {
        let text = format!("establishing IKE_SA failed: {why}");
        self.core.event(ctx, Level::Warning, "ike-failed", text);
        fail(ctx, &self.core.connection, self.goal, why);
    }
}

/// The responder's part of one additional key exchange.
///
/// # Errors
/// The IKE SA cannot go on; the peer has been told.
pub(crate) fn answer(
    ctx: &mut Context<'_>,
    core: &mut SaCore,
    handshake: &mut Handshake,
    inbound: &Inbound,
) -> Result<(), ()> {
    let group = handshake.additional.first().copied().and_then(Group::from_transform_id);
    let exchanged = group.and_then(|group| {
        let data = key_exchange_of(inbound, group.id())?;
        let (data, shared) = xswan_ike_crypto::respond(group, data, ctx.random()).ok()?;
        Some((group, data, shared))
    });
    let Some((group, data, shared)) = exchanged else {
        core.event(ctx, Level::Warning, "ike-failed", "the additional key exchange failed");
        core.refuse(ctx, inbound, crate::wire::NotifyType::INVALID_SYNTAX);
        return Err(());
    };
    let previous = std::mem::take(&mut handshake.int_auth_i);
    let (header, first) = (&inbound.header, inbound.first);
    handshake.int_auth_i = int_auth(core, true, &previous, header, first, &inbound.plaintext);
    let payloads = [Payload::Ke(KeyExchangeData { method: group.id(), data })];
    core.respond(ctx, inbound, &payloads);
    let header = core.header(ExchangeType::IKE_INTERMEDIATE, inbound.header.message_id, true);
    let (first, plaintext) = emit_chain(&payloads).unwrap_or((PayloadType::NONE, Vec::new()));
    let previous = std::mem::take(&mut handshake.int_auth_r);
    handshake.int_auth_r = int_auth(core, false, &previous, &header, first, &plaintext);
    handshake.additional.remove(0);
    advance(core, handshake, &shared).ok_or(())
}
