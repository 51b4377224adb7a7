//! Child SAs that we ask for, new ones and in the place of others.

use super::{
    FollowUpTask, MAX_RESTARTS, Material, NONCE_LEN, Offered, generate, nonce, wanted_method,
};
use crate::child::{ChildOffer, ChildState, NegotiatedChild};
use crate::established::job::{Job, MAX_ATTEMPTS, Task, pause_ms};
use crate::established::{After, Established, Phase, Wanted};
use crate::event::Level;
use crate::input::{ChildId, RequestId};
use crate::proposal::{kind, protocol};
use crate::rekey::covers;
use crate::sa::{Context, Inbound, notify};
use crate::wire::{ExchangeType, Notify, NotifyType, Payload};
use std::sync::Arc;
use xswan_ike_crypto::KeyExchange;

/// Why we want a Child SA.
#[derive(Debug)]
pub(crate) enum ChildGoal {
    /// There is none yet.
    New(Wanted),
    /// This one is to be replaced.
    Rekey { child: ChildId, request: Option<RequestId> },
}

/// We sent CREATE_CHILD_SA for a Child SA.
#[derive(Debug)]
pub(crate) struct ChildTask {
    pub(super) offer: ChildOffer,
    pub(super) goal: ChildGoal,
    pub(super) nonce: Vec<u8>,
    pub(super) ke: Option<KeyExchange>,
    pub(super) attempts: u32,
    pub(super) restarts: u32,
}

impl ChildGoal {
    /// Who waits.
    pub(crate) const fn request(&self) -> Option<RequestId> {
        match self {
            Self::New(wanted) => wanted.request,
            Self::Rekey { request, .. } => *request,
        }
    }
}

impl ChildTask {
    /// Its response will not come.
    pub(crate) fn abandon(self, ctx: &mut Context<'_>, why: &str) {
        ctx.done(self.goal.request(), Err(why.to_owned()));
        self.offer.abandon(ctx);
    }

    /// Whether it is for a new child of this name.
    pub(crate) fn is_for(&self, name: &str) -> bool {
        self.offer.policy.name == name
    }

    /// The child that it is to replace.
    pub(crate) const fn replaces(&self) -> Option<ChildId> {
        match &self.goal {
            ChildGoal::New(_) => None,
            ChildGoal::Rekey { child, .. } => Some(*child),
        }
    }

    /// Our SPI in it.
    pub(crate) const fn spi_in(&self) -> u32 {
        self.offer.spi_in
    }
}

impl Established {
    /// Asks for a new Child SA.
    pub(crate) fn start_child(
        &mut self,
        ctx: &mut Context<'_>,
        wanted: Wanted,
        attempts: u32,
    ) -> Option<Task> {
        let room = self.children.len() < ctx.settings().max_children as usize;
        let addresses = self.addresses();
        let offer = if room && self.phase == Phase::Active {
            let packet = wanted.packet.as_ref();
            ChildOffer::new(ctx, &wanted.policy, &addresses, packet, false)
        } else {
            None
        };
        let Some(offer) = offer else {
            let why = format!("CHILD_SA {}: no room for another SA", wanted.policy.name);
            self.core.event(ctx, Level::Warning, "child-failed", why.clone());
            ctx.done(wanted.request, Err(why));
            return None;
        };
        let text = format!("establishing CHILD_SA {}", wanted.policy.name);
        self.core.event(ctx, Level::Info, "child-initiating", text);
        let method = offer.key_exchanges().first().copied().unwrap_or(0);
        self.send_offer(ctx, offer, ChildGoal::New(wanted), method, (attempts, 0))
    }

    /// Asks for a Child SA in the place of one.
    pub(crate) fn start_rekey_child(
        &mut self,
        ctx: &mut Context<'_>,
        child: ChildId,
        request: Option<RequestId>,
        attempts: u32,
    ) -> Option<Task> {
        if self.replacement_of(child).is_some() {
            // The peer was faster.
            ctx.done(request, Ok(1));
            return None;
        }
        let usable = |state| matches!(state, ChildState::Installed | ChildState::InboundOnly);
        let old = self.child_mut(child).filter(|child| usable(child.state));
        let Some(old) = old else {
            ctx.done(request, Err("the CHILD_SA is gone or going".into()));
            return None;
        };
        if old.state == ChildState::InboundOnly {
            // The peer's own rekeying is not over yet.
            let at = ctx.millis().plus(pause_ms(ctx, attempts));
            self.plan(Job::RekeyChild { child, request, attempts: attempts + 1 }, at);
            return None;
        }
        let Some(offer) = ChildOffer::replacing(ctx, old) else {
            let goal = ChildGoal::Rekey { child, request };
            self.child_failed(ctx, goal, attempts, None, "no SPI is to be had");
            return None;
        };
        old.state = ChildState::Rekeying;
        let old_method = old.key_exchange;
        let methods = offer.key_exchanges();
        // The method of the SA that is replaced is one that the peer agrees to.
        let method = if methods.contains(&old_method) && old_method != 0 {
            old_method
        } else {
            methods.first().copied().unwrap_or(0)
        };
        let text = format!("rekeying CHILD_SA {}{{{}}}", offer.policy.name, child.0);
        self.core.event(ctx, Level::Info, "child-rekeying", text);
        let goal = ChildGoal::Rekey { child, request };
        self.send_offer(ctx, offer, goal, method, (attempts, 0))
    }

    fn send_offer(
        &mut self,
        ctx: &mut Context<'_>,
        offer: ChildOffer,
        goal: ChildGoal,
        method: u16,
        (attempts, restarts): (u32, u32),
    ) -> Option<Task> {
        let octets = ctx.random_octets(NONCE_LEN);
        let mut between = vec![nonce(&octets)];
        let mut ke = None;
        if method != 0 {
            match generate(ctx, method) {
                Ok((exchange, payload)) => {
                    ke = Some(exchange);
                    between.push(payload);
                }
                Err(why) => {
                    offer.abandon(ctx);
                    self.child_failed(ctx, goal, attempts, None, &why);
                    return None;
                }
            }
        }
        let mut payloads = Vec::new();
        if let ChildGoal::Rekey { child, .. } = &goal
            && let Some(old) = self.child(*child)
        {
            let about = Notify::about(protocol::ESP, old.spi_in, NotifyType::REKEY_SA);
            payloads.push(Payload::Notify(about));
        }
        payloads.extend(offer.payloads(between));
        self.core.request(ctx, ExchangeType::CREATE_CHILD_SA, &payloads);
        let task = ChildTask { offer, goal, nonce: octets, ke, attempts, restarts };
        Some(Task::Child(Box::new(task)))
    }

    /// The response to it.
    pub(crate) fn child_response(
        &mut self,
        ctx: &mut Context<'_>,
        task: ChildTask,
        inbound: &Inbound,
    ) -> After {
        let ChildTask { offer, goal, nonce, ke, attempts, restarts } = task;
        if let Some(method) = wanted_method(inbound) {
            let sent = ke.as_ref().map_or(0, |ke| ke.group().id());
            let usable = method != sent && offer.key_exchanges().contains(&method);
            if usable && restarts < MAX_RESTARTS && self.still_wanted(&goal) {
                self.task = self.send_offer(ctx, offer, goal, method, (attempts, restarts + 1));
                return After::Stays;
            }
        }
        if let Some(error) = inbound.error() {
            let kind = error.kind;
            offer.abandon(ctx);
            let text = format!("the peer refuses with {kind}");
            self.child_failed(ctx, goal, attempts, Some(kind), &text);
            return After::Stays;
        }
        let spi_in = offer.spi_in;
        let agreed = Offered::read(&inbound.payloads)
            .ok_or_else(|| "the answer has no SA or no nonce".to_owned())
            .and_then(|answer| {
                let negotiated = offer.accept(&inbound.payloads).map_err(|(_, why)| why.text)?;
                self.agree(&goal, negotiated, &answer, nonce, ke.as_ref())
            });
        match agreed {
            Ok((negotiated, material)) => {
                let additional = negotiated.choice.additional_key_exchanges();
                if additional.is_empty() {
                    self.child_made_by_us(ctx, goal, negotiated, &material, attempts);
                } else {
                    let task =
                        FollowUpTask::child(goal, negotiated, material, additional, attempts);
                    self.go_on(
                        ctx,
                        task,
                        notify(&inbound.payloads, NotifyType::ADDITIONAL_KEY_EXCHANGE),
                    );
                }
            }
            Err(why) => {
                // The peer believes that there is an SA.
                self.plan_first(Job::Discard { spi_in });
                self.child_failed(ctx, goal, attempts, None, &why);
            }
        }
        After::Stays
    }

    fn agree(
        &self,
        goal: &ChildGoal,
        negotiated: NegotiatedChild,
        answer: &Offered<'_>,
        ni: Vec<u8>,
        ke: Option<&KeyExchange>,
    ) -> Result<(NegotiatedChild, Material), String> {
        let method = negotiated.choice.id(kind::KE);
        let mut shared = Vec::new();
        if method != 0 {
            let ours = ke.filter(|ke| ke.group().id() == method);
            let theirs = answer.ke.filter(|theirs| theirs.method == method);
            let (Some(ours), Some(theirs)) = (ours, theirs) else {
                return Err("the peer answered with another key exchange".into());
            };
            shared.push(ours.finish(&theirs.data).map_err(|error| error.to_string())?);
        }
        if let ChildGoal::Rekey { child, .. } = goal
            && let Some(old) = self.child(*child)
            && !(covers(&negotiated.local_ts, &old.local_ts)
                && covers(&negotiated.remote_ts, &old.remote_ts))
        {
            return Err("the peer wants fewer traffic selectors than the CHILD_SA has".into());
        }
        let nr = answer.nonce.to_vec();
        if nr == ni {
            return Err("the peer sent our own nonce back".into());
        }
        Ok((negotiated, Material { ni, nr, shared }))
    }

    fn still_wanted(&self, goal: &ChildGoal) -> bool {
        match goal {
            ChildGoal::New(_) => true,
            ChildGoal::Rekey { child, .. } => {
                self.replacement_of(*child).is_none()
                    && self.child(*child).is_some_and(|old| old.state == ChildState::Rekeying)
            }
        }
    }

    /// There is no Child SA: later, otherwise, or not at all.
    pub(crate) fn child_failed(
        &mut self,
        ctx: &mut Context<'_>,
        goal: ChildGoal,
        attempts: u32,
        kind: Option<NotifyType>,
        why: &str,
    ) {
        let text = format!("establishing CHILD_SA failed: {why}");
        self.core.event(ctx, Level::Warning, "child-failed", text);
        let busy = kind == Some(NotifyType::TEMPORARY_FAILURE);
        match goal {
            ChildGoal::New(wanted) if busy && attempts + 1 < MAX_ATTEMPTS => {
                let at = ctx.millis().plus(pause_ms(ctx, attempts));
                self.plan(Job::Child { wanted, attempts: attempts + 1 }, at);
            }
            ChildGoal::New(wanted) => ctx.done(wanted.request, Err(why.to_owned())),
            ChildGoal::Rekey { child, request } => {
                self.rekey_child_failed(ctx, child, request, attempts, kind, why);
            }
        }
    }

    fn rekey_child_failed(
        &mut self,
        ctx: &mut Context<'_>,
        child: ChildId,
        request: Option<RequestId>,
        attempts: u32,
        kind: Option<NotifyType>,
        why: &str,
    ) {
        if self.replacement_of(child).is_some() {
            // The peer's rekeying of the same SA has taken its place.
            if let Some(old) = self.child_mut(child).filter(|old| old.is_live()) {
                old.state = ChildState::Installed;
            }
            ctx.done(request, Ok(1));
            return;
        }
        let Some(old) = self.child_mut(child).filter(|old| old.state == ChildState::Rekeying)
        else {
            ctx.done(request, Err(why.to_owned()));
            return;
        };
        old.state = ChildState::Installed;
        if kind == Some(NotifyType::CHILD_SA_NOT_FOUND) {
            // RFC 7296 section 2.25.1.
            let policy = Arc::clone(&old.policy);
            self.drop_child(ctx, child, crate::action::RemoveReason::Deleted);
            let wanted = Wanted { policy, packet: None, request };
            self.plan_first(Job::Child { wanted, attempts: 0 });
            return;
        }
        let hopeless = kind == Some(NotifyType::NO_ADDITIONAL_SAS);
        if hopeless || attempts + 1 >= MAX_ATTEMPTS {
            self.reauthenticate(ctx, request);
            return;
        }
        let at = ctx.millis().plus(pause_ms(ctx, attempts));
        self.plan(Job::RekeyChild { child, request, attempts: attempts + 1 }, at);
    }
}
