//! How long SAs last: rekeying, reauthentication (RFC 7296 section 2.8.3), the end.

use crate::action::RemoveReason;
use crate::child::{ChildSa, ChildState};
use crate::clock::Millis;
use crate::established::job::{Close, DeleteChildren, Job, Restart, Task};
use crate::established::{Established, Phase};
use crate::event::Level;
use crate::input::{ChildId, RequestId};
use crate::policy::{AddressPattern, ConnectionPolicy, Lifetime};
use crate::sa::{Context, Wish};
use std::sync::Arc;

/// How long a reauthentication may take before the old IKE SA is used again.
const REAUTHENTICATION_MS: u64 = 180_000;
/// How long a Child SA of the peer's rekeying may be without the end of the one before it.
const UNRESOLVED_MS: u64 = 60_000;

/// When an IKE SA is replaced, and when it ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lifetimes {
    pub(crate) rekey_at: Option<Millis>,
    pub(crate) reauth_at: Option<Millis>,
    pub(crate) expires_at: Option<Millis>,
}

impl Lifetimes {
    /// From now on, with jitter. Only who started an IKE SA authenticates anew by itself.
    pub(crate) fn new(
        ctx: &mut Context<'_>,
        connection: &ConnectionPolicy,
        started_by_us: bool,
    ) -> Self {
        let now = ctx.millis();
        let Lifetime { rekey_ms, jitter_ms, life_ms } = connection.lifetime;
        let mut earlier = |after_ms: u64| {
            let jitter = ctx.jitter(jitter_ms.min(after_ms));
            (after_ms > 0).then(|| now.plus(after_ms - jitter))
        };
        Self {
            rekey_at: earlier(rekey_ms),
            reauth_at: earlier(connection.reauth_ms).filter(|_| started_by_us),
            expires_at: (life_ms > 0).then(|| now.plus(life_ms)),
        }
    }
}

/// Something about a child that is due now.
enum Due {
    /// Its late packets have had their time.
    Late,
    Expired,
    Rekey,
    Unused,
    /// The peer has rekeyed and gone on neither way.
    Unresolved(ChildId),
}

/// When the next thing about a child is due.
fn child_deadline(child: &ChildSa, last_request: Millis) -> Option<Millis> {
    let soft = child.rekey_at.filter(|_| child.state == ChildState::Installed);
    let unresolved = unresolved_at(child, last_request);
    match child.state {
        ChildState::Replaced { until } => Some(until),
        ChildState::Deleting => None,
        ChildState::Installed | ChildState::InboundOnly | ChildState::Rekeying => {
            let all = [child.expires_at, soft, unresolved, idle_until(child)];
            all.into_iter().flatten().min()
        }
    }
}

/// When a child that is still inbound only needs a decision: not before the peer has shown by
/// another request that it knows of this child.
fn unresolved_at(child: &ChildSa, last_request: Millis) -> Option<Millis> {
    let known = child.state == ChildState::InboundOnly && last_request > child.installed;
    known.then(|| child.installed.plus(UNRESOLVED_MS))
}

/// When a child without traffic is closed.
fn idle_until(child: &ChildSa) -> Option<Millis> {
    let (inbound, outbound) = (child.last_inbound, child.last_outbound);
    let last = inbound.max(outbound).unwrap_or(child.installed).max(child.installed);
    let counts = child.policy.inactivity_ms > 0 && child.state == ChildState::Installed;
    counts.then(|| last.plus(child.policy.inactivity_ms))
}

fn child_due(child: &ChildSa, last_request: Millis, now: Millis) -> Option<Due> {
    let passed = |at: Option<Millis>| at.is_some_and(|at| at <= now);
    match child.state {
        ChildState::Replaced { until } => (until <= now).then_some(Due::Late),
        ChildState::Deleting => None,
        ChildState::Installed | ChildState::InboundOnly | ChildState::Rekeying => {
            if passed(child.expires_at) {
                Some(Due::Expired)
            } else if child.state == ChildState::Installed && passed(child.rekey_at) {
                Some(Due::Rekey)
            } else if passed(idle_until(child)) {
                Some(Due::Unused)
            } else if passed(unresolved_at(child, last_request)) {
                // A child that is inbound only without an old one cannot be.
                Some(Due::Unresolved(child.replaces.unwrap_or(child.id)))
            } else {
                None
            }
        }
    }
}

impl Established {
    /// When the next thing is due, jobs and retransmissions apart.
    pub(super) fn next_due(&self) -> Option<Millis> {
        let deadline = |child: &ChildSa| child_deadline(child, self.last_request);
        let children = self.children.iter().filter_map(deadline).min();
        let follow_up = self.follow_up.as_ref().map(|follow_up| follow_up.until);
        let own = match self.phase {
            Phase::Active => {
                let Lifetimes { rekey_at, reauth_at, expires_at } = self.lifetimes;
                let all = [rekey_at, reauth_at, expires_at, self.reauthenticating];
                all.into_iter().flatten().min()
            }
            Phase::Replaced { until } => Some(until),
            Phase::Closing => None,
        };
        let liveness = [self.liveness_due(), self.keepalive_due()].into_iter().flatten().min();
        [children, follow_up, own, liveness].into_iter().flatten().min()
    }

    /// Does what is due.
    pub(super) fn due(&mut self, ctx: &mut Context<'_>) -> super::After {
        let now = ctx.millis();
        let last_request = self.last_request;
        let due = |child: &ChildSa| child_due(child, last_request, now).map(|due| (child.id, due));
        let children: Vec<_> = self.children.iter().filter_map(due).collect();
        for (id, due) in children {
            self.child_is_due(ctx, id, due);
        }
        if let Some(follow_up) = self.follow_up.take_if(|follow_up| follow_up.until <= now) {
            follow_up.abandon(ctx);
        }
        match self.phase {
            Phase::Active => self.own_due(ctx, now),
            Phase::Replaced { until } if until <= now => {
                self.phase = Phase::Closing;
                self.plan_first(Job::Close(Close::default()));
            }
            Phase::Replaced { .. } | Phase::Closing => {}
        }
        self.check_liveness(ctx);
        self.keep_alive(ctx);
        super::After::Stays
    }

    fn child_is_due(&mut self, ctx: &mut Context<'_>, id: ChildId, due: Due) {
        match due {
            Due::Late => self.drop_child(ctx, id, RemoveReason::Rekeyed),
            Due::Expired => self.expire(ctx, id),
            Due::Rekey => {
                if let Some(child) = self.child_mut(id) {
                    child.rekey_at = None;
                }
                self.plan_rekey(ctx, id);
            }
            Due::Unused => {
                self.core.event(ctx, Level::Info, "child-unused", "CHILD_SA closed: no traffic");
                self.plan_delete_children(vec![id], RemoveReason::Deleted, None);
            }
            Due::Unresolved(old) if self.own_replacement_of(old).is_some() => {
                // Ours has won, and the peer has not closed its own.
                self.plan_delete_children(vec![id], RemoveReason::Redundant, None);
            }
            Due::Unresolved(old) => {
                let text = "the peer has rekeyed a CHILD_SA without closing the old one";
                self.core.event(ctx, Level::Warning, "child-unresolved", text);
                if let Some(child) = self.child_mut(id) {
                    child.switch_outbound(ctx);
                }
                if old != id && !self.is_going(old) {
                    self.plan_delete_children(vec![old], RemoveReason::Rekeyed, None);
                }
            }
        }
    }

    /// A Child SA has come to its end without having been replaced.
    pub(crate) fn expire(&mut self, ctx: &mut Context<'_>, id: ChildId) {
        if self.is_going(id) {
            return;
        }
        let text = "CHILD_SA expired without having been rekeyed";
        self.core.event(ctx, Level::Warning, "child-expired", text);
        self.switch_from(ctx, id);
        self.plan_delete_children(vec![id], RemoveReason::Expired, None);
    }

    /// Rekeys a Child SA unless that is under way.
    pub(crate) fn plan_rekey(&mut self, ctx: &Context<'_>, id: ChildId) {
        let planned = self.jobs.iter().any(|planned| match &planned.job {
            Job::RekeyChild { child, .. } => *child == id,
            Job::Child { .. }
            | Job::RekeyIke { .. }
            | Job::Delete(_)
            | Job::Discard { .. }
            | Job::Close(_)
            | Job::Notify(_) => false,
        });
        let fit = self.child(id).is_some_and(|child| child.state == ChildState::Installed);
        if !planned && fit && self.replacement_of(id).is_none() && self.phase == Phase::Active {
            let job = Job::RekeyChild { child: id, request: None, attempts: 0 };
            self.plan(job, ctx.now.monotonic);
        }
    }

    /// Closes Child SAs.
    pub(crate) fn plan_delete_children(
        &mut self,
        children: Vec<ChildId>,
        reason: RemoveReason,
        request: Option<RequestId>,
    ) {
        self.jobs.push_back(super::Planned {
            at: Millis(0),
            job: Job::Delete(DeleteChildren { children: children.clone(), reason, request }),
        });
        for child in self.children.iter_mut().filter(|child| children.contains(&child.id)) {
            child.state = ChildState::Deleting;
        }
    }

    fn own_due(&mut self, ctx: &mut Context<'_>, now: Millis) {
        if self.reauthenticating.is_some_and(|until| until <= now) {
            self.reauthenticating = None;
        }
        let passed = |at: Option<Millis>| at.is_some_and(|at| at <= now);
        if passed(self.lifetimes.expires_at) {
            self.lifetimes = Lifetimes::default();
            let text = "IKE_SA expired without having been replaced";
            self.core.event(ctx, Level::Warning, "ike-expired", text);
            self.plan_close(Close { restart: Restart::Starting, request: None });
        } else if passed(self.lifetimes.reauth_at) {
            self.lifetimes.reauth_at = None;
            self.reauthenticate(ctx, None);
        } else if passed(self.lifetimes.rekey_at) {
            self.lifetimes.rekey_at = None;
            if self.reauthenticating.is_none() && !self.rekeying_is_planned() {
                self.plan(Job::RekeyIke { request: None, attempts: 0 }, now);
            }
        }
    }

    fn rekeying_is_planned(&self) -> bool {
        let planned = |planned: &super::Planned| matches!(planned.job, Job::RekeyIke { .. });
        self.task.as_ref().is_some_and(Task::rekeys_ike) || self.jobs.iter().any(planned)
    }

    /// Closes this IKE SA before anything else is asked.
    pub(crate) fn plan_close(&mut self, close: Close) {
        self.phase = Phase::Closing;
        let is_close = |planned: &super::Planned| matches!(planned.job, Job::Close(_));
        if !matches!(self.task, Some(Task::Close(_))) && !self.jobs.iter().any(is_close) {
            self.plan_first(Job::Close(close));
        }
    }

    /// AUTH_LIFETIME (RFC 4478): a tenth of the time is left for the new authentication.
    pub(crate) fn reauthenticate_within(&mut self, ctx: &mut Context<'_>, seconds: u32) {
        let milliseconds = u64::from(seconds).saturating_mul(1_000);
        let jitter = ctx.jitter(milliseconds / 20);
        // A tenth early, and half a minute where that is less; of short times a third.
        let margin = (milliseconds / 10).max(30_000.min(milliseconds / 3));
        let at = ctx.millis().plus(milliseconds.saturating_sub(margin + jitter));
        let text = format!("received AUTH_LIFETIME of {seconds}s");
        self.core.event(ctx, Level::Info, "auth-lifetime", text);
        if self.started_by_us {
            let earlier = self.lifetimes.reauth_at.map_or(at, |own| own.min(at));
            self.lifetimes.reauth_at = Some(earlier);
        }
    }

    /// Another IKE SA with a new authentication takes the place of this one.
    pub(crate) fn reauthenticate(&mut self, ctx: &mut Context<'_>, request: Option<RequestId>) {
        let connection = Arc::clone(&self.core.connection);
        let mut remotes = connection.remote_addresses.iter();
        let reachable = remotes.any(|pattern: &AddressPattern| pattern.single().is_some());
        if !self.started_by_us && (!self.leases.is_empty() || !reachable) {
            let why = "only the peer can authenticate anew";
            self.core.event(ctx, Level::Warning, "ike-reauth-impossible", why);
            ctx.done(request, Err(why.into()));
            return;
        }
        self.core.event(ctx, Level::Info, "ike-reauthenticating", "reauthenticating IKE_SA");
        if !ctx.settings().make_before_break {
            self.plan_close(Close { restart: Restart::All, request });
            return;
        }
        let at = ctx.millis();
        self.reauthenticating = Some(at.plus(REAUTHENTICATION_MS));
        ctx.wishes.push(Wish::Initiate {
            connection,
            child: None,
            replaces: Some(self.core.id),
            at,
            failures: 0,
            request,
        });
    }
}
