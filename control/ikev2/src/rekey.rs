//! Which of two SAs takes the place of an old one, and how traffic gets there without a loss
//! (RFC 7296 sections 2.8, 2.8.1, 2.8.2, 2.25).
//!
//! ```text
//! we rekey      response: new SA in both directions, switch ─▶ D(old) ─▶ old inbound kept a while
//! peer rekeys   request: new SA inbound only ─▶ D(old) or first packet: switch ─▶ old kept a while
//! both          four nonces: the SA of the exchange with the lowest one is redundant and closed
//!               by who started that exchange; who started the other one closes the old SA
//! ```
//! While our own request is outstanding, an IKE SA made by the peer's rekeying is held back as a
//! [`Rival`]: children move once, to the IKE SA that survives. A Child SA made by the peer's
//! rekeying is inbound only until the old one is deleted or a packet arrives through the new one.

use crate::action::RemoveReason;
use crate::child::{ChildSa, ChildSecrets, ChildState, NegotiatedChild};
use crate::clock::Millis;
use crate::established::job::{Close, DeleteChildren, Job, Planned, Task};
use crate::established::lifetime::Lifetimes;
use crate::established::{After, Established, Phase};
use crate::event::Level;
use crate::exchange::create_child_sa::{ChildGoal, IkeAgreement, Material};
use crate::exchange::ike_sa_init::ciphers;
use crate::input::{ChildId, RequestId};
use crate::message_id::{Requests, Responses};
use crate::sa::{Context, Inbound, SaCore, Wish};
use crate::state::{IkeSa, State};
use crate::traffic_selector::contains;
use crate::wire::{Delete, Payload, TrafficSelector};
use std::collections::VecDeque;
use std::sync::Arc;
use xswan_ike_crypto::{IkeKeys, Skeyseed};

/// The IKE SA that the peer's rekeying has made while ours is not answered.
#[derive(Debug)]
pub(crate) struct Rival {
    pub(crate) sa: Box<Established>,
    pub(crate) lowest_nonce: Vec<u8>,
}

/// Whether everything that `old` selects is selected by `new`.
pub(crate) fn covers(new: &[TrafficSelector], old: &[TrafficSelector]) -> bool {
    old.iter().all(|old| new.iter().any(|new| contains(new, old)))
}

impl Material {
    const fn secrets(&self, initiator: bool) -> ChildSecrets<'_> {
        ChildSecrets {
            shared: self.shared.as_slice(),
            ni: self.ni.as_slice(),
            nr: self.nr.as_slice(),
            initiator,
        }
    }
}

impl Established {
    /// The Child SA that the peer's rekeying has made in the place of one.
    pub(crate) fn replacement_of(&self, old: ChildId) -> Option<&ChildSa> {
        let by_peer = |child: &&ChildSa| child.replaces == Some(old) && !child.ours;
        self.children.iter().filter(by_peer).find(|child| child.is_live())
    }

    /// Whether a Child SA is gone or on its way out.
    pub(crate) fn is_going(&self, id: ChildId) -> bool {
        !self.child(id).is_some_and(ChildSa::is_live)
    }

    /// Takes a Child SA out of the dataplane and forgets it.
    pub(crate) fn drop_child(&mut self, ctx: &mut Context<'_>, id: ChildId, reason: RemoveReason) {
        if let Some(position) = self.children.iter().position(|child| child.id == id) {
            self.children.remove(position).remove(ctx, &self.core, reason);
        }
    }

    /// Nothing leaves through a Child SA any more; what comes late through it is still opened
    /// for a while.
    pub(crate) fn retire(&mut self, ctx: &mut Context<'_>, old: ChildId) {
        let until = ctx.millis().plus(ctx.settings().delete_rekeyed_delay_ms);
        if let Some(old) = self.child_mut(old) {
            old.state = ChildState::Replaced { until };
        }
    }

    /// Traffic leaves through what the peer's rekeying has made in the place of a Child SA.
    pub(crate) fn switch_from(&mut self, ctx: &mut Context<'_>, old: ChildId) {
        for child in self.children.iter_mut().filter(|child| child.replaces == Some(old)) {
            child.switch_outbound(ctx);
        }
    }

    /// The Child SA that our own rekeying has made in the place of one.
    pub(crate) fn own_replacement_of(&self, old: ChildId) -> Option<&ChildSa> {
        let by_us = |child: &&ChildSa| child.replaces == Some(old) && child.ours;
        self.children.iter().filter(by_us).find(|child| child.is_live())
    }

    /// Our exchange for a Child SA is complete.
    pub(crate) fn child_made_by_us(
        &mut self,
        ctx: &mut Context<'_>,
        goal: ChildGoal,
        mut negotiated: NegotiatedChild,
        material: &Material,
        attempts: u32,
    ) {
        let old = match &goal {
            ChildGoal::New(_) => None,
            ChildGoal::Rekey { child, .. } => Some(*child),
        };
        if self.early_deletes.contains(&negotiated.spi_out) {
            ctx.host.release_spi(negotiated.spi_in);
            self.child_failed(ctx, goal, attempts, None, "the peer has closed it already");
            return;
        }
        let rival = old.and_then(|old| self.replacement_of(old));
        let redundant = self.rival_nonce.as_ref().is_some_and(|(rekeyed, rival)| {
            Some(*rekeyed) == old && material.lowest_nonce() < rival.as_slice()
        });
        let rival = rival.map(|rival| (rival.id, rival.state));
        if let (Some((rival, _)), Some(old)) = (rival, old)
            && self.child(old).is_none()
        {
            negotiated.replaces = Some(rival);
        }
        let spi_in = negotiated.spi_in;
        let child = match negotiated.install(ctx, &self.core, &material.secrets(true), !redundant) {
            Ok(child) => child,
            Err(refusal) => {
                // The peer believes that there is an SA.
                let delete = Payload::Delete(Delete::esp(vec![spi_in]));
                self.plan_first(Job::Notify(vec![delete]));
                self.child_failed(ctx, goal, attempts, None, &refusal.text);
                return;
            }
        };
        let id = child.id;
        self.children.push(child);
        ctx.done(goal.request(), Ok(1));
        let Some(old) = old else { return };
        if redundant {
            let text = "CHILD_SA rekey collision lost, closing the redundant CHILD_SA";
            self.core.event(ctx, Level::Info, "child-rekey-collision", text);
            if let Some(old) = self.child_mut(old)
                && old.state == ChildState::Rekeying
            {
                old.state = ChildState::Installed;
            }
            self.plan_delete(id, RemoveReason::Redundant);
            return;
        }
        match rival {
            // The peer has closed the old one although its own SA is the redundant one.
            Some((rival, ChildState::Installed)) => {
                self.plan_delete(rival, RemoveReason::Redundant);
            }
            Some(_) => {
                let text = "CHILD_SA rekey collision won, the peer closes the redundant CHILD_SA";
                self.core.event(ctx, Level::Info, "child-rekey-collision", text);
            }
            None => {}
        }
        if self.child(old).is_some_and(|old| old.state == ChildState::Rekeying) {
            self.plan_delete(old, RemoveReason::Rekeyed);
        }
    }

    /// Closes a Child SA before anything else is asked.
    fn plan_delete(&mut self, child: ChildId, reason: RemoveReason) {
        if let Some(child) = self.child_mut(child) {
            child.state = ChildState::Deleting;
        }
        self.plan_first(Job::Delete(DeleteChildren {
            children: vec![child],
            reason,
            request: None,
        }));
    }

    /// The peer's exchange for a Child SA is complete.
    ///
    /// # Errors
    /// There are no keys; the SPI has been given back.
    pub(crate) fn child_made_by_peer(
        &mut self,
        ctx: &mut Context<'_>,
        negotiated: NegotiatedChild,
        material: &Material,
    ) -> Result<(), crate::child::ChildRefusal> {
        let old = negotiated.replaces;
        let child = negotiated.install(ctx, &self.core, &material.secrets(false), old.is_none())?;
        if let Some(old) = old
            && self.task.as_ref().and_then(Task::replaces) == Some(old)
        {
            self.rival_nonce = Some((old, child.lowest_nonce.clone()));
        }
        self.children.push(child);
        Ok(())
    }

    /// Our exchange for another IKE SA is complete.
    pub(crate) fn ike_made_by_us(
        &mut self,
        ctx: &mut Context<'_>,
        request: Option<RequestId>,
        agreement: &IkeAgreement,
        material: &Material,
    ) -> After {
        let Some(mut new) = self.successor(ctx, agreement, material, true) else {
            self.reauthenticate(ctx, request);
            return After::Stays;
        };
        ctx.done(request, Ok(1));
        match self.rival.take() {
            Some(rival) if material.lowest_nonce() < rival.lowest_nonce.as_slice() => {
                let text = "IKE_SA rekey collision lost, closing the redundant IKE_SA";
                self.core.event(ctx, Level::Info, "ike-rekey-collision", text);
                self.give_way_to(ctx, *rival);
                new.phase = Phase::Closing;
                new.plan_first(Job::Close(Close::default()));
                new.run(ctx);
                adopt(ctx, new);
            }
            rival => {
                if let Some(mut rival) = rival {
                    let text = "IKE_SA rekey collision won, the peer closes the redundant IKE_SA";
                    self.core.event(ctx, Level::Info, "ike-rekey-collision", text);
                    rival.sa.phase = replaced(ctx);
                    adopt(ctx, rival.sa);
                }
                self.hand_over(ctx, new);
                self.phase = Phase::Closing;
                self.plan_first(Job::Close(Close::default()));
            }
        }
        After::Stays
    }

    /// The peer's exchange for another IKE SA is complete, and answered with `payloads`.
    pub(crate) fn ike_made_by_peer(
        &mut self,
        ctx: &mut Context<'_>,
        inbound: &Inbound,
        payloads: &[Payload],
        agreement: &IkeAgreement,
        material: &Material,
    ) -> Result<(), crate::child::ChildRefusal> {
        let Some(new) = self.successor(ctx, agreement, material, false) else {
            let kind = crate::wire::NotifyType::NO_PROPOSAL_CHOSEN;
            return Err(crate::child::ChildRefusal::new(kind, "the keys cannot be derived"));
        };
        self.core.respond(ctx, inbound, payloads);
        let rival = Rival { sa: new, lowest_nonce: material.lowest_nonce().to_vec() };
        if self.task.as_ref().is_some_and(Task::rekeys_ike) {
            self.rival = Some(Box::new(rival));
        } else {
            self.give_way_to(ctx, rival);
        }
        Ok(())
    }

    /// Whether the peer's new IKE SA takes the place of this one: it does if there is one and
    /// ours does not exist, or is the redundant one of the two (`lowest_nonce`).
    pub(crate) fn yield_to_rival(
        &mut self,
        ctx: &mut Context<'_>,
        lowest_nonce: Option<&[u8]>,
    ) -> bool {
        let Some(mut rival) = self.rival.take() else { return false };
        let survives = lowest_nonce.is_none_or(|lowest| lowest < rival.lowest_nonce.as_slice());
        if survives {
            self.give_way_to(ctx, *rival);
        } else {
            // The peer closes it.
            rival.sa.phase = replaced(ctx);
            adopt(ctx, rival.sa);
        }
        survives
    }

    /// The peer's new IKE SA survives; the peer is to close this one.
    pub(crate) fn give_way_to(&mut self, ctx: &mut Context<'_>, rival: Rival) {
        self.hand_over(ctx, rival.sa);
        self.phase = replaced(ctx);
    }

    /// Everything goes to the IKE SA that takes the place of this one.
    fn hand_over(&mut self, ctx: &mut Context<'_>, mut new: Box<Self>) {
        new.children = std::mem::take(&mut self.children);
        new.vips = std::mem::take(&mut self.vips);
        new.leases = std::mem::take(&mut self.leases);
        new.closing_requests = std::mem::take(&mut self.closing_requests);
        for Planned { at, job } in std::mem::take(&mut self.jobs) {
            match job {
                // Just done.
                Job::RekeyIke { request, .. } => ctx.done(request, Ok(1)),
                Job::Child { .. }
                | Job::RekeyChild { .. }
                | Job::Delete(_)
                | Job::Discard { .. }
                | Job::Close(_)
                | Job::Notify(_) => new.plan(job, at),
            }
        }
        let (old, id) = (self.core.id.0, new.core.id.0);
        let text = format!("IKE_SA {old} rekeyed, IKE_SA {id} takes its place");
        new.core.event(ctx, Level::Info, "ike-rekeyed", text);
        new.run(ctx);
        adopt(ctx, new);
    }

    /// The IKE SA that an exchange has made, without children.
    fn successor(
        &self,
        ctx: &mut Context<'_>,
        agreement: &IkeAgreement,
        material: &Material,
        initiator: bool,
    ) -> Option<Box<Self>> {
        let core = successor_core(ctx, &self.core, agreement, material, initiator)?;
        let mut lifetimes = Lifetimes::new(ctx, &core.connection, self.started_by_us);
        lifetimes.reauth_at = self.lifetimes.reauth_at;
        Some(Box::new(Self {
            core,
            local_id: self.local_id.clone(),
            remote_id: self.remote_id.clone(),
            remote_eap_id: self.remote_eap_id.clone(),
            children: Vec::new(),
            vips: Vec::new(),
            leases: Vec::new(),
            started_by_us: self.started_by_us,
            authenticated: self.authenticated,
            phase: Phase::Active,
            task: None,
            jobs: VecDeque::new(),
            follow_up: None,
            rival: None,
            lifetimes,
            reauthenticating: None,
            early_deletes: Vec::new(),
            rival_nonce: None,
            closing_requests: Vec::new(),
            keepalive_ms: self.keepalive_ms,
            last_request: self.last_request,
            key_exchanges: self.key_exchanges,
            doubted: self.doubted,
        }))
    }
}

/// New keys and message IDs from 0 (RFC 7296 section 2.18).
fn successor_core(
    ctx: &mut Context<'_>,
    old: &SaCore,
    agreement: &IkeAgreement,
    material: &Material,
    initiator: bool,
) -> Option<SaCore> {
    let suite = agreement.suite;
    let nonces = (material.ni.as_slice(), material.nr.as_slice());
    let (first, additional) = material.shared.split_first()?;
    let seed = Skeyseed::rekeyed(old.suite.prf(), &old.keys.sk_d, first, nonces, additional);
    let keys = IkeKeys::derive(seed, &suite, nonces, (agreement.spi_i, agreement.spi_r)).ok()?;
    let (outbound, inbound) = ciphers(&suite, &keys, initiator)?;
    let now = ctx.millis();
    Some(SaCore {
        id: ctx.next_ike(),
        connection: Arc::clone(&old.connection),
        initiator,
        spi_i: agreement.spi_i,
        spi_r: agreement.spi_r,
        local: old.local,
        remote: old.remote,
        nat_local: old.nat_local,
        nat_remote: old.nat_remote,
        suite,
        additional_key_exchanges: agreement.additional.clone(),
        keys,
        outbound,
        inbound,
        requests: Requests::starting_at(0),
        responses: Responses::expecting(0),
        request_fragments: Default::default(),
        response_fragments: Default::default(),
        peer: old.peer.clone(),
        mobike: old.mobike.clone(),
        created: now,
        last_inbound: now,
        last_outbound: now,
    })
}

fn replaced(ctx: &Context<'_>) -> Phase {
    let wait = ctx.configuration.settings.half_open_timeout_ms;
    Phase::Replaced { until: Millis(ctx.now.monotonic.0).plus(wait) }
}

fn adopt(ctx: &mut Context<'_>, sa: Box<Established>) {
    let id = sa.core.id;
    ctx.wishes.push(Wish::Adopt(Box::new(IkeSa { id, state: State::Established(sa) })));
}
