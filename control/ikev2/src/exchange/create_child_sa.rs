//! CREATE_CHILD_SA and IKE_FOLLOWUP_KE (RFC 7296 section 1.3, RFC 9370 section 2.2.4).
//!
//! ```text
//! either side                                   the other
//!   SA, Ni, [KEi], TSi, TSr              ──▶                          new Child SA
//!   N(REKEY_SA), SA, Ni, [KEi], TSi, TSr ──▶                          rekeyed Child SA
//!   SA, Ni, KEi                          ──▶                          rekeyed IKE SA
//!                                        ◀──   SA, Nr, [KEr], [TSi, TSr], [N(ADDITIONAL_KEY_EXCHANGE)]
//!   KEi(n), N(ADDITIONAL_KEY_EXCHANGE)   ──▶                          as often as was agreed
//!                                        ◀──   KEr(n), [N(ADDITIONAL_KEY_EXCHANGE)]
//!
//! Task        response                                   next
//! Child, Ike  SA Nr …                                    SA made, or FollowUp
//! Child, Ike  N(INVALID_KE_PAYLOAD)                      the same again with that method
//! Child, Ike  N(TEMPORARY_FAILURE)                       the Job again, later
//! rekeying    N(CHILD_SA_NOT_FOUND)                      forgotten, and a new Child SA
//! rekeying    refused too often, N(NO_ADDITIONAL_SAS)    a new authentication
//! FollowUp    KEr [N(ADDITIONAL_KEY_EXCHANGE)]           FollowUp, or SA made
//! ```
//! N(REKEY_SA) names the SPI that the *sender of the request* receives on.

mod child;
mod child_request;
mod follow_up;
mod ike;

pub(crate) use child::{ChildGoal, ChildTask};
pub(crate) use follow_up::{FollowUp, FollowUpTask};
pub(crate) use ike::{IkeAgreement, IkeTask};

use crate::established::{After, Established};
use crate::event::Level;
use crate::proposal::{kind, protocol};
use crate::sa::{Context, Inbound};
use crate::wire::{self, Nonce, Notify, NotifyType, Payload, Proposal};
use xswan_ike_crypto::{Group, KeyExchange, Secret};

/// Octets of our nonces: as many as the longest prf key (RFC 7296 section 2.10 asks for half).
const NONCE_LEN: usize = 32;
/// Requests repeated with another key exchange before we give up.
const MAX_RESTARTS: u32 = 4;

/// What the keys of an SA come from. Who started the exchange is `i`.
#[derive(Debug)]
pub(crate) struct Material {
    pub(crate) ni: Vec<u8>,
    pub(crate) nr: Vec<u8>,
    /// SK(0), SK(1) … in order; none without a key exchange.
    pub(crate) shared: Vec<Secret>,
}

impl Material {
    /// What decides between two SAs that are meant to replace the same one (RFC 7296 section
    /// 2.8.1). Octets from the left; of two nonces that are equal as far as they go, the
    /// shorter one is lower.
    pub(crate) fn lowest_nonce(&self) -> &[u8] {
        self.ni.as_slice().min(&self.nr)
    }
}

/// The payloads that every CREATE_CHILD_SA has.
struct Offered<'a> {
    sa: &'a [Proposal],
    nonce: &'a [u8],
    ke: Option<&'a wire::KeyExchange>,
}

impl<'a> Offered<'a> {
    fn read(payloads: &'a [Payload]) -> Option<Self> {
        let sa = payloads.iter().find_map(|payload| {
            let Payload::Sa(sa) = payload else { return None };
            Some(sa.proposals.as_slice())
        })?;
        Some(Self { sa, nonce: nonce_of(payloads)?, ke: ke_payload(payloads) })
    }

    fn is_ike(&self) -> bool {
        self.sa.first().is_some_and(|proposal| proposal.protocol == protocol::IKE)
    }
}

/// The nonce of a message.
pub(crate) fn nonce_of(payloads: &[Payload]) -> Option<&[u8]> {
    payloads.iter().find_map(|payload| {
        let Payload::Nonce(nonce) = payload else { return None };
        Some(nonce.0.as_slice())
    })
}

fn ke_payload(payloads: &[Payload]) -> Option<&wire::KeyExchange> {
    payloads.iter().find_map(|payload| {
        let Payload::Ke(ke) = payload else { return None };
        Some(ke)
    })
}

fn ke(method: u16, data: Vec<u8>) -> Payload {
    Payload::Ke(wire::KeyExchange { method, data })
}

fn nonce(octets: &[u8]) -> Payload {
    Payload::Nonce(Nonce(octets.to_vec()))
}

/// A private value of ours, with the payload that goes out.
fn generate(ctx: &mut Context<'_>, method: u16) -> Result<(KeyExchange, Payload), String> {
    let group = Group::from_transform_id(method)
        .ok_or_else(|| format!("key exchange method {method} is not known"))?;
    let (exchange, public) =
        KeyExchange::generate(group, ctx.random()).map_err(|error| error.to_string())?;
    Ok((exchange, ke(method, public)))
}

/// Our answer to the peer's public value, and the secret.
fn respond(ctx: &mut Context<'_>, peer: &wire::KeyExchange) -> Result<(Payload, Secret), String> {
    let group = Group::from_transform_id(peer.method)
        .ok_or_else(|| format!("key exchange method {} is not known", peer.method))?;
    let (public, shared) = xswan_ike_crypto::respond(group, &peer.data, ctx.random())
        .map_err(|error| error.to_string())?;
    Ok((ke(peer.method, public), shared))
}

/// The method that N(INVALID_KE_PAYLOAD) asks for (RFC 7296 section 1.3).
fn wanted_method(inbound: &Inbound) -> Option<u16> {
    let notify = inbound.notify(NotifyType::INVALID_KE_PAYLOAD)?;
    <[u8; 2]>::try_from(notify.data.as_slice()).ok().map(u16::from_be_bytes)
}

fn invalid_ke(method: u16) -> Notify {
    Notify::new(NotifyType::INVALID_KE_PAYLOAD, method.to_be_bytes().to_vec())
}

/// A request that is not granted: what the peer is told, and what the log says.
struct Refused {
    notify: Notify,
    text: String,
}

impl Refused {
    fn new(kind: NotifyType, text: impl Into<String>) -> Self {
        Self { notify: Notify::new(kind, Vec::new()), text: text.into() }
    }

    /// Something else is going on; the peer tries again later (RFC 7296 section 2.25).
    fn busy(text: &str) -> Self {
        Self::new(NotifyType::TEMPORARY_FAILURE, text)
    }
}

impl Established {
    /// A CREATE_CHILD_SA request of the peer.
    pub(crate) fn create_child_request(
        &mut self,
        ctx: &mut Context<'_>,
        inbound: &Inbound,
    ) -> After {
        // Whatever the peer has not finished, it has given up.
        if let Some(follow_up) = self.follow_up.take() {
            follow_up.abandon(ctx);
        }
        let result = match Offered::read(&inbound.payloads) {
            None => Err(Refused::new(NotifyType::INVALID_SYNTAX, "SA or nonce is missing")),
            Some(_) if !self.may_exchange_keys(ctx) => {
                Err(Refused::busy("more key exchanges in a second than are allowed"))
            }
            Some(offered) if offered.is_ike() => self.answer_rekey_ike(ctx, inbound, &offered),
            Some(offered) => self.answer_child(ctx, inbound, &offered),
        };
        if let Err(refused) = result {
            self.refuse(ctx, inbound, refused);
        }
        After::Stays
    }

    fn refuse(&mut self, ctx: &mut Context<'_>, inbound: &Inbound, refused: Refused) {
        let Refused { notify, text } = refused;
        let text = format!("{} refused with {}: {text}", inbound.header.exchange, notify.kind);
        self.core.event(ctx, Level::Warning, "exchange-refused", text);
        self.core.respond(ctx, inbound, &[Payload::Notify(notify)]);
    }

    /// Whether the peer may make us compute another key exchange in this second.
    fn may_exchange_keys(&mut self, ctx: &Context<'_>) -> bool {
        let (since, count) = &mut self.key_exchanges;
        let now = ctx.now.monotonic;
        if now.since(*since) >= 1_000 {
            (*since, *count) = (now, 0);
        }
        *count = count.saturating_add(1);
        *count <= ctx.configuration.settings.max_key_exchanges_per_s
    }

    fn is_rekeying_ike(&self) -> bool {
        self.task.as_ref().is_some_and(crate::established::job::Task::rekeys_ike)
    }
}

/// Whether a method is among the alternatives of a list of proposals.
fn allows_method(proposals: &[crate::policy::ProposalPolicy], method: u16) -> bool {
    let mut transforms = proposals.iter().flat_map(|proposal| &proposal.transforms);
    transforms.any(|item| item.kind == kind::KE && item.id == method)
}
