//! Child SAs: what is offered, what is answered, and the keys (RFC 7296 sections 1.3, 2.9, 2.17).
//!
//! IKE_AUTH and CREATE_CHILD_SA make Child SAs with the same payloads:
//!
//! ```text
//! [N(USE_TRANSPORT_MODE)] [N(ESP_TFC_PADDING_NOT_SUPPORTED)] SA [Ni] [KEi] TSi TSr
//! ```
//! A [`ChildOffer`] is what we sent and wait for; [`answer`] is what we do with the peer's.
//! Either ends in a [`NegotiatedChild`], which has everything but keys.

mod offer;

use crate::action::{Action, ChildInstall, ChildMode, EspSuite, RemoveReason};
use crate::clock::Millis;
use crate::event::Level;
use crate::input::ChildId;
use crate::policy::{ChildPolicy, ConnectionPolicy};
use crate::proposal::{self, Choice, kind, protocol};
use crate::sa::{Context, SaCore, notify};
use crate::traffic_selector::{self, is_narrowed, narrow, resolve};
use crate::wire::{Notify, NotifyType, Payload, Proposal, SecurityAssociation, TrafficSelector};
use std::net::IpAddr;
use std::sync::Arc;
use xswan_ike_crypto::{Encryption, Integrity, Prf, Secret, child_keymat};

/// Where a Child SA stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ChildState {
    /// In both directions.
    Installed,
    /// Made by the peer's rekeying: inbound only, until it is clear which SA survives.
    InboundOnly,
    /// Its replacement is being negotiated by us.
    Rekeying,
    /// Replaced: nothing leaves through it, late packets are still opened.
    Replaced {
        /// When the inbound half goes.
        until: Millis,
    },
    /// We asked the peer to delete it.
    Deleting,
}

/// A Child SA.
#[derive(Clone, Debug)]
pub(crate) struct ChildSa {
    pub(crate) id: ChildId,
    pub(crate) policy: Arc<ChildPolicy>,
    pub(crate) state: ChildState,
    pub(crate) mode: ChildMode,
    pub(crate) suite: EspSuite,
    /// Key exchange of its own; 0 if its keys come from the IKE SA's alone.
    pub(crate) key_exchange: u16,
    pub(crate) spi_in: u32,
    pub(crate) spi_out: u32,
    pub(crate) local_ts: Vec<TrafficSelector>,
    pub(crate) remote_ts: Vec<TrafficSelector>,
    pub(crate) installed: Millis,
    pub(crate) rekey_at: Option<Millis>,
    pub(crate) expires_at: Option<Millis>,
    /// The lowest nonce of the exchange that made it, for collisions (RFC 7296 section 2.8.1).
    pub(crate) lowest_nonce: Vec<u8>,
    /// Who started the exchange that made it.
    pub(crate) ours: bool,
    /// The Child SA whose place it takes.
    pub(crate) replaces: Option<ChildId>,
    /// When a packet last passed, as far as the dataplane has told.
    pub(crate) last_inbound: Option<Millis>,
    pub(crate) last_outbound: Option<Millis>,
}

/// What we offered and wait for an answer to.
#[derive(Clone, Debug)]
pub(crate) struct ChildOffer {
    pub(crate) policy: Arc<ChildPolicy>,
    pub(crate) spi_in: u32,
    pub(crate) replaces: Option<ChildId>,
    without_ke: bool,
    local_ts: Vec<TrafficSelector>,
    remote_ts: Vec<TrafficSelector>,
}

/// What both sides agreed on.
#[derive(Clone, Debug)]
pub(crate) struct NegotiatedChild {
    pub(crate) policy: Arc<ChildPolicy>,
    pub(crate) choice: Choice,
    pub(crate) suite: EspSuite,
    pub(crate) mode: ChildMode,
    pub(crate) spi_in: u32,
    pub(crate) spi_out: u32,
    pub(crate) local_ts: Vec<TrafficSelector>,
    pub(crate) remote_ts: Vec<TrafficSelector>,
    pub(crate) no_tfc: bool,
    pub(crate) replaces: Option<ChildId>,
    /// As responder: other children would take more of what the peer proposed.
    pub(crate) more_possible: bool,
}

/// Why there is no Child SA: what the peer is told, and what the log says.
#[derive(Clone, Debug)]
pub(crate) struct ChildRefusal {
    pub(crate) kind: NotifyType,
    pub(crate) text: String,
}

impl ChildRefusal {
    pub(crate) fn new(kind: NotifyType, text: impl Into<String>) -> Self {
        Self { kind, text: text.into() }
    }
}

/// The keys of a Child SA come from these.
#[derive(Debug)]
pub(crate) struct ChildSecrets<'a> {
    /// Shared secrets of its own key exchanges, in order; none for IKE_AUTH.
    pub(crate) shared: &'a [Secret],
    /// The initiator's nonce of the exchange.
    pub(crate) ni: &'a [u8],
    /// The responder's.
    pub(crate) nr: &'a [u8],
    /// Whether we are the initiator of the exchange.
    pub(crate) initiator: bool,
}

/// Addresses that `dynamic` stands for on each side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DynamicAddresses {
    pub(crate) local: Vec<IpAddr>,
    pub(crate) remote: Vec<IpAddr>,
}

/// Every address of both families: proposed while we do not know the address we will get.
pub(crate) fn everything() -> Vec<TrafficSelector> {
    let any = |first: IpAddr, last: IpAddr| TrafficSelector {
        protocol: 0,
        first_port: 0,
        last_port: 0xFFFF,
        first,
        last,
    };
    vec![any([0; 4].into(), [255; 4].into()), any([0_u16; 8].into(), [0xFFFF_u16; 8].into())]
}

/// SA, TSi and TSr of a message.
pub(crate) fn child_payloads(
    payloads: &[Payload],
) -> Option<(&[Proposal], &[TrafficSelector], &[TrafficSelector])> {
    let (mut sa, mut tsi, mut tsr) = (None, None, None);
    for payload in payloads {
        match payload {
            Payload::Sa(offered) => sa = Some(offered.proposals.as_slice()),
            Payload::TsI(list) => tsi = Some(list.selectors.as_slice()),
            Payload::TsR(list) => tsr = Some(list.selectors.as_slice()),
            _ => {}
        }
    }
    Some((sa?, tsi?, tsr?))
}

/// An SPI of ESP: four octets, 256 or above (RFC 4303 section 2.1).
pub(crate) fn esp_spi(octets: &[u8]) -> Option<u32> {
    let octets: [u8; 4] = octets.try_into().ok()?;
    Some(u32::from_be_bytes(octets)).filter(|spi| *spi > 255)
}

/// The transforms of ESP, if the dataplane has them.
pub(crate) fn esp_suite(choice: &Choice) -> Option<EspSuite> {
    let encryption = choice.transform(kind::ENCR)?;
    let suite = EspSuite {
        encryption: encryption.id,
        key_bits: encryption.key_bits.unwrap_or(0),
        integrity: choice.id(kind::INTEG),
        esn: choice.id(kind::SN) == 1,
    };
    key_lengths(suite).map(|_| suite)
}

/// Octets of the encryption key, with salt, and of the integrity key.
fn key_lengths(suite: EspSuite) -> Option<(usize, usize)> {
    let key_bits = (suite.key_bits != 0).then_some(suite.key_bits);
    let encryption = Encryption::from_transform_id(suite.encryption, key_bits)?;
    if encryption.is_aead() {
        return (suite.integrity == 0).then(|| (encryption.keymat_len(), 0));
    }
    let integrity = Integrity::from_transform_id(suite.integrity)?;
    Some((encryption.keymat_len(), integrity.key_len()))
}

/// What we answer to a peer that wants a Child SA. The SPI is reserved.
///
/// `candidates` are the connection's children to choose among; `key_exchange` is the method of
/// the KE payload that came along, `None` in IKE_AUTH.
///
/// # Errors
/// What to tell the peer.
pub(crate) fn answer(
    ctx: &mut Context<'_>,
    payloads: &[Payload],
    candidates: &[Arc<ChildPolicy>],
    addresses: &DynamicAddresses,
    without_ke: bool,
    key_exchange: Option<u16>,
) -> Result<NegotiatedChild, ChildRefusal> {
    let refuse = |kind, text: &str| ChildRefusal::new(kind, text);
    let (sa, tsi, tsr) = child_payloads(payloads)
        .ok_or_else(|| refuse(NotifyType::INVALID_SYNTAX, "SA, TSi or TSr is missing"))?;
    let transport = notify(payloads, NotifyType::USE_TRANSPORT_MODE).is_some();
    let mut best: Option<ChildRefusal> = None;
    for policy in candidates {
        let local_ts = narrow(tsr, &resolve(&policy.local_ts, &addresses.local));
        let remote_ts = narrow(tsi, &resolve(&policy.remote_ts, &addresses.remote));
        if local_ts.is_empty() || remote_ts.is_empty() {
            best.get_or_insert_with(|| unacceptable(tsi, tsr));
            continue;
        }
        let choice =
            proposal::choose(sa, &policy.proposals, protocol::ESP, without_ke, key_exchange);
        let choice = match choice {
            Ok(choice) => choice,
            Err(missing) => {
                best = Some(refuse(NotifyType::NO_PROPOSAL_CHOSEN, &missing.to_string()));
                continue;
            }
        };
        let (Some(suite), Some(spi_out)) = (esp_suite(&choice), esp_spi(&choice.spi)) else {
            best = Some(refuse(NotifyType::NO_PROPOSAL_CHOSEN, "unusable cipher or SPI"));
            continue;
        };
        // Transport mode is the initiator's wish; we agree only if we want it too.
        let agreed = transport && policy.mode == ChildMode::Transport;
        if !agreed && policy.mode == ChildMode::Transport {
            best = Some(refuse(NotifyType::NO_PROPOSAL_CHOSEN, "only transport mode is allowed"));
            continue;
        }
        let spi_in = ctx.host.reserve_spi().ok_or_else(|| {
            refuse(NotifyType::NO_ADDITIONAL_SAS, "there is no room for another SA")
        })?;
        return Ok(NegotiatedChild {
            policy: Arc::clone(policy),
            choice,
            suite,
            mode: if agreed { ChildMode::Transport } else { ChildMode::Tunnel },
            spi_in,
            spi_out,
            local_ts,
            remote_ts,
            no_tfc: notify(payloads, NotifyType::ESP_TFC_PADDING_NOT_SUPPORTED).is_some(),
            replaces: None,
            more_possible: candidates.iter().any(|other| {
                let takes = |proposed: &[TrafficSelector], templates, own: &[IpAddr]| {
                    !narrow(proposed, &resolve(templates, own)).is_empty()
                };
                !Arc::ptr_eq(other, policy)
                    && takes(tsr, &other.local_ts, &addresses.local)
                    && takes(tsi, &other.remote_ts, &addresses.remote)
            }),
        });
    }
    Err(best.unwrap_or_else(|| unacceptable(tsi, tsr)))
}

fn unacceptable(tsi: &[TrafficSelector], tsr: &[TrafficSelector]) -> ChildRefusal {
    let list = |selectors: &[TrafficSelector]| {
        selectors.iter().map(traffic_selector::display).collect::<Vec<_>>().join(" ")
    };
    let text = format!("no child has selectors for {} === {}", list(tsr), list(tsi));
    ChildRefusal::new(NotifyType::TS_UNACCEPTABLE, text)
}

impl NegotiatedChild {
    /// Narrows our side to the addresses that we were assigned, where they fit into it.
    pub(crate) fn restrict_local(&mut self, assigned: &[IpAddr]) {
        if assigned.is_empty() {
            return;
        }
        let own: Vec<_> = assigned.iter().map(|ip| TrafficSelector::addresses(*ip, *ip)).collect();
        let narrowed = narrow(&self.local_ts, &own);
        if !narrowed.is_empty() {
            self.local_ts = narrowed;
        }
    }

    /// The payloads of our answer; nonce and key exchange go between SA and TSi. The roles of
    /// the selectors are the exchange's, and the peer is its initiator.
    pub(crate) fn answer_payloads(&self, between: Vec<Payload>) -> Vec<Payload> {
        let mut payloads = Vec::new();
        if self.mode == ChildMode::Transport {
            payloads.push(Payload::Notify(Notify::new(NotifyType::USE_TRANSPORT_MODE, Vec::new())));
        }
        if self.more_possible {
            let kind = NotifyType::ADDITIONAL_TS_POSSIBLE;
            payloads.push(Payload::Notify(Notify::new(kind, Vec::new())));
        }
        let spi = self.spi_in.to_be_bytes().to_vec();
        let proposals = vec![self.choice.to_proposal(protocol::ESP, spi)];
        payloads.push(Payload::Sa(SecurityAssociation { proposals }));
        payloads.extend(between);
        payloads.push(Payload::TsI(self.remote_ts.clone().into()));
        payloads.push(Payload::TsR(self.local_ts.clone().into()));
        payloads
    }

    /// Derives the keys and installs it.
    ///
    /// # Errors
    /// The keys cannot be derived; the SPI is given back.
    pub(crate) fn install(
        self,
        ctx: &mut Context<'_>,
        core: &SaCore,
        secrets: &ChildSecrets<'_>,
        outbound: bool,
    ) -> Result<ChildSa, ChildRefusal> {
        let keys = derive(core.suite.prf(), core, self.suite, secrets);
        let Some((key_in, key_out)) = keys else {
            ctx.host.release_spi(self.spi_in);
            return Err(ChildRefusal::new(NotifyType::NO_PROPOSAL_CHOSEN, "no keys"));
        };
        let id = ctx.next_child();
        let now = ctx.millis();
        let lifetime = self.policy.lifetime;
        let jitter = ctx.jitter(lifetime.jitter_ms.min(lifetime.rekey_ms));
        let rekey_at = (lifetime.rekey_ms > 0).then(|| now.plus(lifetime.rekey_ms - jitter));
        let expires_at = (lifetime.life_ms > 0).then(|| now.plus(lifetime.life_ms));
        let child = ChildSa {
            id,
            policy: Arc::clone(&self.policy),
            state: if outbound { ChildState::Installed } else { ChildState::InboundOnly },
            mode: self.mode,
            suite: self.suite,
            key_exchange: self.choice.id(kind::KE),
            spi_in: self.spi_in,
            spi_out: self.spi_out,
            local_ts: self.local_ts.clone(),
            remote_ts: self.remote_ts.clone(),
            installed: now,
            rekey_at,
            expires_at,
            lowest_nonce: secrets.ni.min(secrets.nr).to_vec(),
            ours: secrets.initiator,
            replaces: self.replaces,
            last_inbound: None,
            last_outbound: None,
        };
        ctx.act(Action::InstallChild(Box::new(ChildInstall {
            child: id,
            ike: core.id,
            connection: core.connection.name.clone(),
            name: self.policy.name.clone(),
            replaces: self.replaces,
            outbound,
            mode: self.mode,
            suite: self.suite,
            spi_in: self.spi_in,
            spi_out: self.spi_out,
            key_in,
            key_out,
            local: core.local,
            remote: core.remote,
            encap: core.encap(),
            any_source: core.nat_remote,
            no_tfc: self.no_tfc,
            local_ts: self.local_ts,
            remote_ts: self.remote_ts,
        })));
        core.event(ctx, Level::Info, "child-established", child.describe("established"));
        Ok(child)
    }
}

/// KEYMAT, cut into the keys of what arrives and of what leaves.
fn derive(
    prf: Prf,
    core: &SaCore,
    suite: EspSuite,
    secrets: &ChildSecrets<'_>,
) -> Option<(Secret, Secret)> {
    let (encryption, integrity) = key_lengths(suite)?;
    let one = encryption + integrity;
    let sk_d = &core.keys.sk_d;
    let keymat = child_keymat(prf, sk_d, secrets.shared, (secrets.ni, secrets.nr), 2 * one).ok()?;
    let (initiator, responder) = keymat.as_bytes().split_at_checked(one)?;
    let (initiator, responder) = (Secret::from_slice(initiator), Secret::from_slice(responder));
    Some(if secrets.initiator { (responder, initiator) } else { (initiator, responder) })
}

impl ChildSa {
    /// One line.
    pub(crate) fn describe(&self, what: &str) -> String {
        let list = |selectors: &[TrafficSelector]| {
            selectors.iter().map(traffic_selector::display).collect::<Vec<_>>().join(" ")
        };
        format!(
            "CHILD_SA {}{{{}}} {what} with SPIs {:08x}_i {:08x}_o and TS {} === {}",
            self.policy.name,
            self.id.0,
            self.spi_in,
            self.spi_out,
            list(&self.local_ts),
            list(&self.remote_ts),
        )
    }

    /// Takes it out of the dataplane.
    pub(crate) fn remove(self, ctx: &mut Context<'_>, core: &SaCore, reason: RemoveReason) {
        ctx.act(Action::RemoveChild { child: self.id, reason });
        core.event(ctx, Level::Info, "child-closed", self.describe("closed"));
    }

    /// Makes it the one that traffic leaves through.
    pub(crate) fn switch_outbound(&mut self, ctx: &mut Context<'_>) {
        if self.state == ChildState::InboundOnly {
            self.state = ChildState::Installed;
            ctx.act(Action::SwitchOutbound { child: self.id });
        }
    }
}

/// The children of a connection that a peer may ask for.
pub(crate) fn candidates(connection: &ConnectionPolicy) -> Vec<Arc<ChildPolicy>> {
    connection.children.clone()
}
