//! Whether the peer is there, and where (RFC 7296 sections 2.4 and 2.23, RFC 3948 section 4).
//!
//! Every authenticated message and every ESP packet that was opened is a sign of life. Without
//! one for `dpd_delay_ms` an empty INFORMATIONAL request is sent; when its retransmissions are
//! over, the peer is dead. Behind a NAT of ours a keepalive leaves when nothing else did.

use crate::action::{Action, RemoveReason};
use crate::clock::Millis;
use crate::established::job::{Job, Task};
use crate::established::{After, Established, Phase};
use crate::event::Level;
use crate::input::RequestId;
use crate::sa::Context;
use std::net::SocketAddr;

/// How often hints without proof lead to a liveness check, at most.
const DOUBT_MS: u64 = 10_000;

impl Established {
    /// When the peer last proved that it is there.
    fn last_sign_of_life(&self) -> Millis {
        let children = self.children.iter().filter_map(|child| child.last_inbound).max();
        self.core.last_inbound.max(children.unwrap_or_default())
    }

    /// When the peer has been silent for too long. `None`: nothing to check, or it is being
    /// asked something anyway.
    pub(crate) fn liveness_due(&self) -> Option<Millis> {
        let delay = self.core.connection.dpd_delay_ms;
        let asked = self.task.is_some() || !self.core.requests.is_idle();
        (delay > 0 && !asked && self.phase == Phase::Active)
            .then(|| self.last_sign_of_life().plus(delay))
    }

    /// Asks the peer whether it is there, if it has been silent for too long.
    pub(crate) fn check_liveness(&mut self, ctx: &mut Context<'_>) {
        let now = ctx.millis();
        let waiting = self.jobs.iter().any(|planned| planned.at <= now);
        if !waiting && self.liveness_due().is_some_and(|due| due <= now) {
            self.core.event(ctx, Level::Debug, "dpd", "sending DPD request");
            self.plan(Job::Notify(Vec::new()), now);
        }
    }

    /// Somebody says without proof that the peer has no such IKE SA (RFC 7296 section 2.21.4):
    /// worth a question, once in a while, and nothing else.
    pub(crate) fn doubted(&mut self, ctx: &mut Context<'_>) {
        let now = ctx.millis();
        let lately = self.doubted.is_some_and(|at| now.since(at) < DOUBT_MS);
        let asked = self.task.is_some() || !self.core.requests.is_idle();
        if lately || asked || self.phase != Phase::Active {
            return;
        }
        self.doubted = Some(now);
        let text = "the peer may have lost this IKE_SA: sending DPD request";
        self.core.event(ctx, Level::Info, "dpd", text);
        self.plan(Job::Notify(Vec::new()), now);
    }

    /// When a keepalive is due.
    pub(crate) fn keepalive_due(&self) -> Option<Millis> {
        let interval = self.keepalive_ms?;
        let children = self.children.iter().filter_map(|child| child.last_outbound).max();
        let last = self.core.last_outbound.max(children.unwrap_or_default());
        (self.core.nat_local && self.phase == Phase::Active).then(|| last.plus(interval))
    }

    /// Keeps the mapping of our NAT.
    pub(crate) fn keep_alive(&mut self, ctx: &mut Context<'_>) {
        if self.keepalive_due().is_some_and(|due| due <= ctx.millis()) {
            let (local, remote) = (self.core.local, self.core.remote);
            ctx.act(Action::Keepalive { local, remote });
            self.core.last_outbound = ctx.millis();
        }
    }

    /// A new authenticated message came from here (RFC 7296 section 2.23). A peer behind a NAT
    /// may have got another mapping; one that is not stays where it is, and so does one that
    /// says by MOBIKE where it is.
    pub(crate) fn follow(&mut self, ctx: &mut Context<'_>, local: SocketAddr, remote: SocketAddr) {
        if (local, remote) == (self.core.local, self.core.remote) || !self.follows() {
            return;
        }
        let old = self.core.remote;
        (self.core.local, self.core.remote) = (local, remote);
        let text = format!("remote endpoint changed from {old} to {remote}");
        self.core.event(ctx, Level::Info, "peer-moved", text);
        for child in &self.children {
            ctx.act(Action::MoveChild { child: child.id, local, remote, encap: self.core.encap() });
        }
    }

    fn follows(&self) -> bool {
        let mobike = self.core.peer.mobike && self.core.connection.mobike;
        self.core.nat_remote && !self.core.nat_local && !mobike
    }

    /// Nothing is answered any more: the peer is gone, and everything with it.
    pub(crate) fn dead(&mut self, ctx: &mut Context<'_>) -> After {
        // The peer's rekeying was answered by us and ours not by the peer: it may live on there.
        if let Some(rival) = self.rival.take() {
            if let Some(request) = self.task.take().and_then(|task| task.rekey_request()) {
                ctx.done(Some(request), Ok(1));
            }
            self.give_way_to(ctx, *rival);
            return self.close(ctx, RemoveReason::Deleted, "rekeyed by the peer");
        }
        if self.phase == Phase::Active {
            let text = "giving up after retransmits: peer not responding";
            self.core.event(ctx, Level::Warning, "peer-dead", text);
            let connection = std::sync::Arc::clone(&self.core.connection);
            self.restart(ctx, |child| connection_action(&connection, child), None);
        } else if let Some(Task::Close(close)) = &mut self.task {
            let (restart, request) = (close.restart, close.request.take());
            self.restart_closed(ctx, restart, request);
        }
        self.close(ctx, RemoveReason::Deleted, "peer not responding")
    }
}

/// `dpd_action` as it is configured now, or was when the child came up.
fn connection_action(
    connection: &crate::policy::ConnectionPolicy,
    child: &crate::policy::ChildPolicy,
) -> crate::policy::StartAction {
    connection.child(&child.name).map_or(child.dpd_action, |child| child.dpd_action)
}

impl Task {
    /// Who waits for the rekeying of the IKE SA.
    fn rekey_request(self) -> Option<RequestId> {
        match self {
            Self::Ike(task) => task.request,
            Self::FollowUp(task) => task.ike_request(),
            Self::Child(_)
            | Self::Delete(_)
            | Self::Discard { .. }
            | Self::Close(_)
            | Self::Informational
            | Self::Mobike(_)
            | Self::Forgotten(_) => None,
        }
    }
}
