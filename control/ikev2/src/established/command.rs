//! What operators and the dataplane want of an IKE SA.

use crate::action::RemoveReason;
use crate::child::ChildState;
use crate::clock::Millis;
use crate::established::job::{Close, DeleteChildren, Job, Task};
use crate::established::{After, Established, Phase, Wanted};
use crate::input::{ChildId, RequestId};
use crate::policy::ChildPolicy;
use crate::sa::Context;
use crate::state::State;
use crate::wire::{Delete, ExchangeType, Payload, TrafficSelector};
use std::net::SocketAddr;
use std::sync::Arc;

impl Established {
    /// Closes this IKE SA, or a child of it. `force`: without waiting for the peer.
    pub(crate) fn terminate(
        mut self: Box<Self>,
        ctx: &mut Context<'_>,
        child: Option<ChildId>,
        force: bool,
        request: Option<RequestId>,
    ) -> State {
        let after = match child {
            Some(child) => self.terminate_child(ctx, child, force, request),
            None => self.terminate_ike(ctx, force, request),
        };
        self.settle(ctx, after)
    }

    /// Replaces this IKE SA, or a child of it.
    pub(crate) fn rekey(
        mut self: Box<Self>,
        ctx: &mut Context<'_>,
        child: Option<ChildId>,
        reauthenticate: bool,
        request: Option<RequestId>,
    ) -> State {
        let now = ctx.millis();
        match child {
            Some(child) => self.plan(Job::RekeyChild { child, request, attempts: 0 }, now),
            None if self.phase != Phase::Active => {
                ctx.done(request, Err("the IKE_SA is being closed".into()));
            }
            None if reauthenticate => self.reauthenticate(ctx, request),
            None => self.plan(Job::RekeyIke { request, attempts: 0 }, now),
        }
        self.settle(ctx, After::Stays)
    }

    /// The dataplane says that a limit of a Child SA is reached.
    pub(crate) fn expiry(
        mut self: Box<Self>,
        ctx: &mut Context<'_>,
        spi_in: u32,
        hard: bool,
    ) -> State {
        let child = self.children.iter().find(|child| child.spi_in == spi_in);
        if let Some(id) = child.map(|child| child.id) {
            if hard {
                self.expire(ctx, id);
            } else {
                self.plan_rekey(ctx, id);
            }
        }
        self.settle(ctx, After::Stays)
    }

    /// An authenticated ESP packet came from another outer address.
    pub(crate) fn peer_moved(
        mut self: Box<Self>,
        ctx: &mut Context<'_>,
        remote: SocketAddr,
    ) -> State {
        let local = self.core.local;
        self.follow(ctx, local, remote);
        self.settle(ctx, After::Stays)
    }

    /// When ESP last arrived and left.
    pub(crate) fn child_use(
        mut self: Box<Self>,
        ctx: &mut Context<'_>,
        spi_in: u32,
        idle_in_ms: Option<u64>,
        idle_out_ms: Option<u64>,
    ) -> State {
        let now = ctx.millis().0;
        let before = |idle: Option<u64>| idle.map(|idle| Millis(now.saturating_sub(idle)));
        if let Some(child) = self.children.iter_mut().find(|child| child.spi_in == spi_in) {
            child.last_inbound = child.last_inbound.max(before(idle_in_ms));
            child.last_outbound = child.last_outbound.max(before(idle_out_ms));
            // The peer sends through it, so it is the one that survives.
            if child.last_inbound.is_some_and(|last| last >= child.installed) {
                child.switch_outbound(ctx);
            }
        }
        self.settle(ctx, After::Stays)
    }

    /// Brings another child up.
    pub(crate) fn initiate_child(
        mut self: Box<Self>,
        ctx: &mut Context<'_>,
        policy: &Arc<ChildPolicy>,
        packet: Option<[TrafficSelector; 2]>,
        request: Option<RequestId>,
    ) -> State {
        // A packet asks again and again; an operator may want another one beside it.
        let up = self.child_names().contains(&policy.name);
        let asked = matches!(&self.task, Some(Task::Child(task)) if task.is_for(&policy.name));
        if request.is_some() || !(up || asked) {
            let wanted = Wanted { policy: Arc::clone(policy), packet, request };
            self.plan(Job::Child { wanted, attempts: 0 }, ctx.now.monotonic);
        }
        self.settle(ctx, After::Stays)
    }

    fn terminate_ike(
        &mut self,
        ctx: &mut Context<'_>,
        force: bool,
        request: Option<RequestId>,
    ) -> After {
        self.closing_requests.extend(request);
        if !force {
            self.plan_close(Close::default());
            return After::Stays;
        }
        if self.core.requests.is_idle() {
            let payload = Payload::Delete(Delete::ike_sa());
            self.core.request(ctx, ExchangeType::INFORMATIONAL, &[payload]);
        }
        self.close(ctx, RemoveReason::Deleted, "terminated by force")
    }

    fn terminate_child(
        &mut self,
        ctx: &mut Context<'_>,
        id: ChildId,
        force: bool,
        request: Option<RequestId>,
    ) -> After {
        let Some(child) = self.child(id) else {
            ctx.done(request, Err("the CHILD_SA is gone".into()));
            return After::Stays;
        };
        let (state, spi_in) = (child.state, child.spi_in);
        if force {
            if !matches!(state, ChildState::Replaced { .. }) {
                let payload = Payload::Delete(Delete::esp(vec![spi_in]));
                self.plan(Job::Notify(vec![payload]), ctx.now.monotonic);
            }
            self.drop_child(ctx, id, RemoveReason::Deleted);
            ctx.done(request, Ok(1));
            return After::Stays;
        }
        let planned = self.jobs.iter_mut().find_map(|planned| match &mut planned.job {
            Job::Delete(delete) if delete.children.contains(&id) => Some(delete),
            Job::Delete(_)
            | Job::Child { .. }
            | Job::RekeyChild { .. }
            | Job::RekeyIke { .. }
            | Job::Discard { .. }
            | Job::Close(_)
            | Job::Notify(_) => None,
        });
        match planned {
            Some(DeleteChildren { request: waiting, .. }) if waiting.is_none() => {
                *waiting = request
            }
            _ if state == ChildState::Deleting => ctx.done(request, Ok(1)),
            _ => self.plan_delete_children(vec![id], RemoveReason::Deleted, request),
        }
        After::Stays
    }
}
