//! INFORMATIONAL (RFC 7296 sections 1.4 and 1.4.1): deletion, liveness, notifications.
//!
//! ```text
//! either side                     the other
//!   [N+] [D+]             ──▶
//!                         ◀──     [D of the other direction] [N(NAT_DETECTION…)] [N(COOKIE2)]
//!
//! request             what we do                              answer
//! (nothing)           nothing: it was a liveness check        (nothing)
//! D(IKE)              everything of this IKE SA ends          (nothing)
//! D(ESP, SPIs)        those Child SAs end, each once          D(ESP, our SPIs), without those
//!                                                             that we are closing ourselves
//! N(AUTH_LIFETIME)    a new authentication before that time   (nothing)
//! N(AUTHENTICATION_FAILED)  the peer does not accept us: as D(IKE)
//! N(unknown)          nothing                                 (nothing)
//!
//! Task       response    next
//! Delete     any         the Child SAs go; those that were rekeyed stay for late packets
//! Close      any         Closed
//! ```
//! A D names the SPIs that its sender receives on.

use crate::action::RemoveReason;
use crate::child::ChildState;
use crate::established::job::{Close, DeleteChildren, Forgotten, Job, Restart, Task};
use crate::established::{After, Established, Phase};
use crate::event::Level;
use crate::input::{ChildId, RequestId};
use crate::nat;
use crate::policy::StartAction;
use crate::proposal::protocol;
use crate::sa::{Context, Inbound, Wish};
use crate::wire::{Delete, ExchangeType, NotifyType, Payload};
use std::sync::Arc;

/// SPIs kept that the peer has closed while an SA of ours is being made.
const MAX_EARLY_DELETES: usize = 16;

impl Established {
    /// An INFORMATIONAL request of the peer.
    pub(crate) fn informational_request(
        &mut self,
        ctx: &mut Context<'_>,
        inbound: &Inbound,
    ) -> After {
        let deletes = || {
            inbound.payloads.iter().filter_map(|payload| {
                let Payload::Delete(delete) = payload else { return None };
                Some(delete)
            })
        };
        let unwanted = inbound.notify(NotifyType::AUTHENTICATION_FAILED).is_some();
        if unwanted || deletes().any(|delete| delete.protocol == protocol::IKE) {
            self.core.respond(ctx, inbound, &[]);
            let why = if unwanted { "the peer does not accept us" } else { "the peer closed it" };
            return self.closed_by_peer(ctx, why);
        }
        if let Err(kind) = self.address_request(ctx, inbound) {
            self.core.refuse(ctx, inbound, kind);
            return After::Stays;
        }
        let mut closed = Vec::new();
        for delete in deletes().filter(|delete| delete.protocol == protocol::ESP) {
            for spi in &delete.spis {
                closed.extend(self.close_child(ctx, *spi));
            }
        }
        let mut payloads = Vec::new();
        if !closed.is_empty() {
            payloads.push(Payload::Delete(Delete::esp(closed)));
        }
        payloads.extend(self.echoes(inbound));
        if let Some(lifetime) = inbound.notify(NotifyType::AUTH_LIFETIME)
            && let Ok(seconds) = <[u8; 4]>::try_from(lifetime.data.as_slice())
        {
            self.reauthenticate_within(ctx, u32::from_be_bytes(seconds));
        }
        self.core.respond(ctx, inbound, &payloads);
        After::Stays
    }

    /// What an answer repeats or says about addresses (RFC 4555 sections 3.5, 3.7, 3.8).
    fn echoes(&self, inbound: &Inbound) -> Vec<Payload> {
        let mut payloads = Vec::new();
        let detection =
            [NotifyType::NAT_DETECTION_SOURCE_IP, NotifyType::NAT_DETECTION_DESTINATION_IP];
        if detection.iter().any(|kind| inbound.notify(*kind).is_some()) {
            let (local, remote) = (inbound.local, inbound.remote);
            let (spi_i, spi_r) = (self.core.spi_i, self.core.spi_r);
            let force = self.core.connection.encap;
            payloads.extend(nat::payloads(spi_i, spi_r, local, remote, force));
        }
        if let Some(cookie) = inbound.notify(NotifyType::COOKIE2)
            && (8..=64).contains(&cookie.data.len())
        {
            payloads.push(Payload::notify(NotifyType::COOKIE2, cookie.data.clone()));
        }
        payloads
    }

    /// The peer closes one of its inbound SAs. Returns the SPI of the other direction, if it
    /// goes into the answer: not for one that is unknown or closed already, nor if our own
    /// request to close it is on its way (RFC 7296 section 1.4.1).
    fn close_child(&mut self, ctx: &mut Context<'_>, spi_out: u32) -> Option<u32> {
        let Some(child) = self.children.iter().find(|child| child.spi_out == spi_out) else {
            let making = self.task.as_ref().is_some_and(Task::makes_child);
            if making && self.early_deletes.len() < MAX_EARLY_DELETES {
                self.early_deletes.push(spi_out);
            }
            return None;
        };
        let (id, spi_in, state) = (child.id, child.spi_in, child.state);
        match state {
            ChildState::Replaced { .. } => None,
            ChildState::Deleting => {
                self.finish_delete(ctx, id, self.delete_reason(id));
                None
            }
            ChildState::Installed | ChildState::InboundOnly | ChildState::Rekeying => {
                self.closed_child(ctx, id, state);
                Some(spi_in)
            }
        }
    }

    /// Whether the peer closes a Child SA because it has rekeyed it. What took its place may
    /// have been replaced in its turn.
    fn is_replaced(&self, id: ChildId) -> bool {
        self.children.iter().filter(|child| child.replaces == Some(id)).any(|child| {
            match child.state {
                ChildState::Replaced { .. } => true,
                ChildState::Deleting => self.delete_reason(child.id) == RemoveReason::Rekeyed,
                ChildState::Installed | ChildState::InboundOnly | ChildState::Rekeying => {
                    !child.ours
                }
            }
        })
    }

    fn closed_child(&mut self, ctx: &mut Context<'_>, id: ChildId, state: ChildState) {
        if self.is_replaced(id) {
            self.retire(ctx, id);
            self.switch_from(ctx, id);
            return;
        }
        if state == ChildState::InboundOnly {
            self.drop_child(ctx, id, RemoveReason::Redundant);
            return;
        }
        let name = self.child(id).map(|child| child.policy.name.clone()).unwrap_or_default();
        self.drop_child(ctx, id, RemoveReason::Deleted);
        let policy = self.core.connection.child(&name);
        let starts = policy.is_some_and(|policy| policy.close_action.starts());
        // If our rekeying is on its way, its outcome decides.
        if starts && state == ChildState::Installed && self.live_children(&name).is_empty() {
            ctx.wishes.push(Wish::Initiate {
                connection: Arc::clone(&self.core.connection),
                child: Some(name),
                replaces: None,
                at: ctx.now.monotonic,
                failures: 0,
                request: None,
            });
        }
    }

    /// Why we are closing a child.
    fn delete_reason(&self, id: ChildId) -> RemoveReason {
        let queued = self.jobs.iter().filter_map(|planned| match &planned.job {
            Job::Delete(delete) => Some(delete),
            Job::Child { .. }
            | Job::RekeyChild { .. }
            | Job::RekeyIke { .. }
            | Job::Discard { .. }
            | Job::Close(_)
            | Job::Notify(_) => None,
        });
        let asked = match &self.task {
            Some(Task::Delete(delete)) => Some(delete),
            Some(_) | None => None,
        };
        asked
            .into_iter()
            .chain(queued)
            .find(|delete| delete.children.contains(&id))
            .map_or(RemoveReason::Deleted, |delete| delete.reason)
    }

    /// Both sides know that a child is closed.
    fn finish_delete(&mut self, ctx: &mut Context<'_>, id: ChildId, reason: RemoveReason) {
        let deleting = self.child(id).is_some_and(|child| child.state == ChildState::Deleting);
        if !deleting {
            return;
        }
        if reason == RemoveReason::Rekeyed {
            self.retire(ctx, id);
        } else {
            self.drop_child(ctx, id, reason);
        }
    }

    /// The peer has closed the IKE SA.
    fn closed_by_peer(&mut self, ctx: &mut Context<'_>, why: &str) -> After {
        if let Some(rival) = self.rival.take() {
            // The peer knows already that its rekeying has won; ours is forgotten.
            let request = match self.task.take() {
                Some(Task::Ike(task)) => task.request,
                Some(Task::FollowUp(task)) => task.ike_request(),
                Some(_) | None => None,
            };
            ctx.done(request, Ok(1));
            self.give_way_to(ctx, *rival);
        }
        match self.task.take() {
            Some(Task::Close(close)) => return self.closed(ctx, &close),
            other => self.task = other,
        }
        if self.phase == Phase::Active {
            let connection = Arc::clone(&self.core.connection);
            let action = |child: &crate::policy::ChildPolicy| {
                connection.child(&child.name).map_or(child.close_action, |child| child.close_action)
            };
            self.restart(ctx, action, None);
        }
        self.close(ctx, RemoveReason::Deleted, why)
    }

    /// Asks the peer to close Child SAs.
    pub(crate) fn start_delete(
        &mut self,
        ctx: &mut Context<'_>,
        delete: DeleteChildren,
    ) -> Option<Task> {
        let DeleteChildren { mut children, reason, request } = delete;
        children.retain(|id| {
            self.child(*id).is_some_and(|child| !matches!(child.state, ChildState::Replaced { .. }))
        });
        let mut spis = Vec::new();
        for child in self.children.iter_mut().filter(|child| children.contains(&child.id)) {
            child.state = ChildState::Deleting;
            spis.push(child.spi_in);
        }
        if spis.is_empty() {
            // The peer was faster.
            ctx.done(request, Ok(1));
            return None;
        }
        let payload = Payload::Delete(Delete::esp(spis));
        self.core.request(ctx, ExchangeType::INFORMATIONAL, &[payload]);
        Some(Task::Delete(DeleteChildren { children, reason, request }))
    }

    /// The peer has closed them. Whatever it names, they are closed.
    pub(crate) fn delete_response(
        &mut self,
        ctx: &mut Context<'_>,
        delete: DeleteChildren,
    ) -> After {
        for id in delete.children {
            self.finish_delete(ctx, id, delete.reason);
        }
        ctx.done(delete.request, Ok(1));
        After::Stays
    }

    /// Asks the peer to close a Child SA that we do not have.
    pub(crate) fn start_discard(&mut self, ctx: &mut Context<'_>, spi_in: u32) -> Task {
        let payload = Payload::Delete(Delete::esp(vec![spi_in]));
        self.core.request(ctx, ExchangeType::INFORMATIONAL, &[payload]);
        Task::Discard { spi_in }
    }

    /// Asks the peer to close the IKE SA.
    pub(crate) fn start_close(&mut self, ctx: &mut Context<'_>, close: Close) -> Task {
        self.phase = Phase::Closing;
        self.core.event(ctx, Level::Info, "ike-closing", "deleting IKE_SA");
        let payload = Payload::Delete(Delete::ike_sa());
        self.core.request(ctx, ExchangeType::INFORMATIONAL, &[payload]);
        Task::Close(close)
    }

    /// It has.
    pub(crate) fn closed(&mut self, ctx: &mut Context<'_>, close: &Close) -> After {
        self.restart_closed(ctx, close.restart, close.request);
        self.close(ctx, RemoveReason::Deleted, "deleted")
    }

    /// Has children come up again after we have closed the IKE SA.
    pub(crate) fn restart_closed(
        &self,
        ctx: &mut Context<'_>,
        restart: Restart,
        request: Option<RequestId>,
    ) {
        match restart {
            Restart::None => ctx.done(request, Ok(1)),
            Restart::Starting => self.restart(ctx, |child| child.start_action, request),
            Restart::All => self.restart(ctx, |_| StartAction::Start, request),
        }
    }

    /// The response to a request of before a restart. Its private values are gone, so what the
    /// peer has made cannot be used.
    pub(crate) fn forgotten_response(
        &mut self,
        ctx: &mut Context<'_>,
        forgotten: Forgotten,
        inbound: &Inbound,
    ) -> After {
        let made = inbound.error().is_none();
        match forgotten {
            Forgotten::Child { spi_in } if made => self.plan_first(Job::Discard { spi_in }),
            Forgotten::Child { spi_in } => ctx.host.release_spi(spi_in),
            Forgotten::Ike { lowest_nonce } => {
                let theirs = crate::exchange::create_child_sa::nonce_of(&inbound.payloads);
                let lowest = theirs.map_or(lowest_nonce.as_slice(), |nr| nr.min(&lowest_nonce));
                if self.yield_to_rival(ctx, if made { Some(lowest) } else { None }) || !made {
                    return After::Stays;
                }
                // The peer has moved its Child SAs to an IKE SA that we have no keys of.
                let text = "an IKE_SA was rekeyed while the daemon restarted";
                self.core.event(ctx, Level::Warning, "ike-rekey-failed", text);
                self.plan_close(Close { restart: Restart::All, request: None });
            }
        }
        After::Stays
    }
}
