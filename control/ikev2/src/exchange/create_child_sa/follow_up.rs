//! Additional key exchanges after CREATE_CHILD_SA (RFC 9370 section 2.2.4).
//!
//! The responder keeps what was agreed under a link of its own making, for a bounded time and
//! one at most; the initiator sends the link back with each public value.

use super::{ChildGoal, IkeAgreement, Material, Refused, generate, ke_payload, respond};
use crate::child::NegotiatedChild;
use crate::clock::Millis;
use crate::established::job::{Job, MAX_ATTEMPTS, Task};
use crate::established::{After, Established};
use crate::input::{ChildId, RequestId};
use crate::sa::{Context, Inbound};
use crate::wire::{ExchangeType, Notify, NotifyType, Payload};
use std::collections::VecDeque;
use xswan_ike_crypto::{KeyExchange, constant_time_eq};

/// Octets of our links.
const LINK_LEN: usize = 16;
/// The longest link of a peer that we send back.
const MAX_LINK_LEN: usize = 256;

/// What the exchanges are for.
#[derive(Debug)]
enum Purpose {
    Child(Option<ChildGoal>, Box<NegotiatedChild>),
    Ike(Option<RequestId>, Box<IkeAgreement>),
}

/// We sent IKE_FOLLOWUP_KE.
#[derive(Debug)]
pub(crate) struct FollowUpTask {
    purpose: Purpose,
    material: Material,
    remaining: VecDeque<u16>,
    attempts: u32,
    ke: Option<KeyExchange>,
}

impl FollowUpTask {
    pub(super) fn child(
        goal: ChildGoal,
        negotiated: NegotiatedChild,
        material: Material,
        additional: Vec<u16>,
        attempts: u32,
    ) -> Self {
        let purpose = Purpose::Child(Some(goal), Box::new(negotiated));
        Self { purpose, material, remaining: additional.into(), attempts, ke: None }
    }

    pub(super) fn ike(
        request: Option<RequestId>,
        agreement: IkeAgreement,
        material: Material,
        attempts: u32,
    ) -> Self {
        let remaining = agreement.additional.clone().into();
        let purpose = Purpose::Ike(request, Box::new(agreement));
        Self { purpose, material, remaining, attempts, ke: None }
    }

    /// The Child SA that it is to replace.
    pub(crate) fn replaces(&self) -> Option<ChildId> {
        match &self.purpose {
            Purpose::Child(_, negotiated) => negotiated.replaces,
            Purpose::Ike(..) => None,
        }
    }

    pub(crate) const fn is_child(&self) -> bool {
        matches!(self.purpose, Purpose::Child(..))
    }

    /// The lower one of the nonces.
    pub(crate) fn lowest_nonce(&self) -> &[u8] {
        self.material.lowest_nonce()
    }

    /// Our SPI, if it is for a Child SA.
    pub(crate) const fn spi_in(&self) -> Option<u32> {
        match &self.purpose {
            Purpose::Child(_, negotiated) => Some(negotiated.spi_in),
            Purpose::Ike(..) => None,
        }
    }

    /// Who waits for the rekeying of the IKE SA.
    pub(crate) const fn ike_request(&self) -> Option<RequestId> {
        match &self.purpose {
            Purpose::Ike(request, _) => *request,
            Purpose::Child(..) => None,
        }
    }

    /// Its response will not come.
    pub(crate) fn abandon(self, ctx: &mut Context<'_>, why: &str) {
        let request = match self.purpose {
            Purpose::Child(goal, negotiated) => {
                ctx.host.release_spi(negotiated.spi_in);
                goal.and_then(|goal| goal.request())
            }
            Purpose::Ike(request, _) => request,
        };
        ctx.done(request, Err(why.to_owned()));
    }
}

/// The peer is to send IKE_FOLLOWUP_KE.
#[derive(Debug)]
pub(crate) struct FollowUp {
    link: Vec<u8>,
    purpose: Purpose,
    material: Material,
    remaining: VecDeque<u16>,
    /// When it is forgotten.
    pub(crate) until: Millis,
}

impl FollowUp {
    pub(super) fn child(
        ctx: &mut Context<'_>,
        negotiated: NegotiatedChild,
        material: Material,
        additional: Vec<u16>,
    ) -> Self {
        let purpose = Purpose::Child(None, Box::new(negotiated));
        Self::new(ctx, purpose, material, additional)
    }

    pub(super) fn ike(ctx: &mut Context<'_>, agreement: IkeAgreement, material: Material) -> Self {
        let additional = agreement.additional.clone();
        Self::new(ctx, Purpose::Ike(None, Box::new(agreement)), material, additional)
    }

    fn new(
        ctx: &mut Context<'_>,
        purpose: Purpose,
        material: Material,
        additional: Vec<u16>,
    ) -> Self {
        let link = ctx.random_octets(LINK_LEN);
        let until = ctx.millis().plus(ctx.settings().half_open_timeout_ms);
        Self { link, purpose, material, remaining: additional.into(), until }
    }

    pub(super) fn link(&self) -> Payload {
        Payload::notify(NotifyType::ADDITIONAL_KEY_EXCHANGE, self.link.clone())
    }

    /// It is forgotten.
    pub(crate) fn abandon(self, ctx: &mut Context<'_>) {
        if let Purpose::Child(_, negotiated) = self.purpose {
            ctx.host.release_spi(negotiated.spi_in);
        }
    }
}

impl Established {
    /// Sends the next public value.
    pub(super) fn go_on(
        &mut self,
        ctx: &mut Context<'_>,
        mut task: FollowUpTask,
        link: Option<&Notify>,
    ) {
        let link = link.filter(|link| (1..=MAX_LINK_LEN).contains(&link.data.len()));
        let next = match (link, task.remaining.pop_front()) {
            (Some(link), Some(method)) => generate(ctx, method)
                .map(|(exchange, payload)| (link.data.clone(), exchange, payload)),
            (Some(_) | None, _) => Err("the peer does not go on with the key exchanges".into()),
        };
        match next {
            Ok((link, exchange, payload)) => {
                let link = Payload::notify(NotifyType::ADDITIONAL_KEY_EXCHANGE, link);
                self.core.request(ctx, ExchangeType::IKE_FOLLOWUP_KE, &[payload, link]);
                task.ke = Some(exchange);
                self.task = Some(Task::FollowUp(Box::new(task)));
            }
            Err(why) => self.follow_up_failed(ctx, task, None, &why),
        }
    }

    /// The response to it.
    pub(crate) fn follow_up_response(
        &mut self,
        ctx: &mut Context<'_>,
        mut task: FollowUpTask,
        inbound: &Inbound,
    ) -> After {
        if let Some(error) = inbound.error() {
            let kind = error.kind;
            let text = format!("the peer refuses with {kind}");
            self.follow_up_failed(ctx, task, Some(kind), &text);
            return After::Stays;
        }
        let ours = task.ke.take();
        let shared = ours.zip(ke_payload(&inbound.payloads)).and_then(|(ours, theirs)| {
            (ours.group().id() == theirs.method).then(|| ours.finish(&theirs.data).ok())?
        });
        let Some(shared) = shared else {
            let why = "the peer's additional key exchange is missing or wrong";
            self.follow_up_failed(ctx, task, None, why);
            return After::Stays;
        };
        task.material.shared.push(shared);
        if !task.remaining.is_empty() {
            let link = inbound.notify(NotifyType::ADDITIONAL_KEY_EXCHANGE);
            self.go_on(ctx, task, link);
            return After::Stays;
        }
        match task.purpose {
            Purpose::Child(Some(goal), negotiated) => {
                let material = &task.material;
                self.child_made_by_us(ctx, goal, *negotiated, material, task.attempts);
                After::Stays
            }
            Purpose::Ike(request, agreement) => {
                self.ike_made_by_us(ctx, request, &agreement, &task.material)
            }
            Purpose::Child(None, negotiated) => {
                ctx.host.release_spi(negotiated.spi_in);
                After::Stays
            }
        }
    }

    fn follow_up_failed(
        &mut self,
        ctx: &mut Context<'_>,
        task: FollowUpTask,
        kind: Option<NotifyType>,
        why: &str,
    ) {
        match task.purpose {
            Purpose::Child(goal, negotiated) => {
                // If it was the last exchange, the peer believes that there is an SA.
                self.plan_first(Job::Discard { spi_in: negotiated.spi_in });
                if let Some(goal) = goal {
                    // The peer has forgotten what was agreed: once more from the start.
                    let kind = if kind == Some(NotifyType::STATE_NOT_FOUND) {
                        Some(NotifyType::TEMPORARY_FAILURE)
                    } else {
                        kind
                    };
                    self.child_failed(ctx, goal, task.attempts, kind, why);
                }
            }
            Purpose::Ike(request, _) => {
                let attempts = task.attempts.min(MAX_ATTEMPTS);
                self.rekey_ike_failed(ctx, request, attempts, kind, why);
            }
        }
    }

    /// An IKE_FOLLOWUP_KE request of the peer.
    pub(crate) fn follow_up_request(&mut self, ctx: &mut Context<'_>, inbound: &Inbound) -> After {
        if let Err(refused) = self.answer_follow_up(ctx, inbound) {
            if let Some(follow_up) = self.follow_up.take() {
                follow_up.abandon(ctx);
            }
            self.refuse(ctx, inbound, refused);
        }
        After::Stays
    }

    fn answer_follow_up(
        &mut self,
        ctx: &mut Context<'_>,
        inbound: &Inbound,
    ) -> Result<(), Refused> {
        let link = inbound.notify(NotifyType::ADDITIONAL_KEY_EXCHANGE);
        let link = link.map_or(&[][..], |notify| notify.data.as_slice());
        let known = |follow_up: &mut FollowUp| constant_time_eq(&follow_up.link, link);
        let Some(mut follow_up) = self.follow_up.take_if(known) else {
            let text = "nothing was agreed under this link";
            return Err(Refused::new(NotifyType::STATE_NOT_FOUND, text));
        };
        let method = follow_up.remaining.front().copied();
        let peer = ke_payload(&inbound.payloads).filter(|ke| Some(ke.method) == method);
        let answered = match peer {
            Some(peer) => respond(ctx, peer),
            None => Err("the key exchange is missing or another one".to_owned()),
        };
        let (payload, shared) = match answered {
            Ok(answered) => answered,
            Err(why) => {
                follow_up.abandon(ctx);
                return Err(Refused::new(NotifyType::INVALID_SYNTAX, why));
            }
        };
        follow_up.material.shared.push(shared);
        follow_up.remaining.pop_front();
        if !follow_up.remaining.is_empty() {
            follow_up.link = ctx.random_octets(LINK_LEN);
            let payloads = [payload, follow_up.link()];
            self.follow_up = Some(follow_up);
            self.core.respond(ctx, inbound, &payloads);
            return Ok(());
        }
        match follow_up.purpose {
            Purpose::Child(_, negotiated) => {
                if self.is_rekeying_ike()
                    || negotiated.replaces.is_some_and(|old| self.is_going(old))
                {
                    ctx.host.release_spi(negotiated.spi_in);
                    return Err(Refused::busy("the SA that it is for is being closed"));
                }
                self.child_made_by_peer(ctx, *negotiated, &follow_up.material)?;
                self.core.respond(ctx, inbound, &[payload]);
                Ok(())
            }
            Purpose::Ike(_, agreement) => {
                self.may_rekey_ike()?;
                let material = &follow_up.material;
                self.ike_made_by_peer(ctx, inbound, &[payload], &agreement, material)?;
                Ok(())
            }
        }
    }
}
