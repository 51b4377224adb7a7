//! Established IKE SAs: both sides are authenticated and either may ask for anything.
//!
//! ```text
//! operator, timer, dataplane ──▶ Job ──▶ (one at a time) Task ──▶ request on the wire
//! response ──▶ consumes the Task ──▶ more Jobs
//! request  ──▶ answered at once, in the file of its exchange
//! ```
//! The window is one: a [`Job`] waits in the queue until the [`Task`] before it has ended. What
//! the peer asks in the meantime is answered; where both want the same, RFC 7296 section 2.8
//! and 2.25 decide, in [`crate::rekey`].
//!
//! May assume: messages are authenticated, requests come in order, each once. Guarantees: when
//! it ends, on whatever path, its Child SAs are removed, reserved SPIs and leased addresses are
//! given back, and operators who wait are told.

pub(crate) mod command;
pub(crate) mod job;
pub(crate) mod lifetime;

use crate::action::{Action, RemoveReason};
use crate::child::{ChildSa, ChildState, DynamicAddresses};
use crate::clock::Millis;
use crate::event::Level;
use crate::exchange::create_child_sa::FollowUp;
use crate::input::{ChildId, RequestId};
use crate::message_id::Due;
use crate::mobike::MobikeTask;
use crate::policy::{ChildPolicy, StartAction};
use crate::rekey::Rival;
use crate::sa::{Context, Inbound, SaCore, Wish};
use crate::state::State;
use crate::wire::{ExchangeType, Payload, TrafficSelector};
use job::{DeleteChildren, Job, Planned, Task};
use lifetime::Lifetimes;
use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use xswan_credentials::Identity;

/// What came of the authentication.
#[derive(Debug)]
pub(crate) struct Params {
    /// Who we said we are.
    pub(crate) local_id: Identity,
    /// Who the peer proved to be.
    pub(crate) remote_id: Identity,
    /// Who it is in EAP, if that is another name.
    pub(crate) remote_eap_id: Option<Identity>,
    /// The Child SA that IKE_AUTH made, if it made one.
    pub(crate) child: Option<ChildSa>,
    /// Children that are still to be made, by CREATE_CHILD_SA.
    pub(crate) wanted: Vec<Wanted>,
    /// Inner addresses we were given; announced already.
    pub(crate) vips: Vec<IpAddr>,
    /// Inner addresses of our pools that the peer was given.
    pub(crate) leases: Vec<IpAddr>,
    /// AUTH_LIFETIME (RFC 4478): a new authentication is due before so many seconds.
    pub(crate) auth_lifetime_s: Option<u32>,
}

/// A child to be made.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) policy: Arc<ChildPolicy>,
    /// The packet that wants it (RFC 7296 section 2.9).
    pub(crate) packet: Option<[TrafficSelector; 2]>,
    /// Who waits for it.
    pub(crate) request: Option<RequestId>,
}

/// Where an established IKE SA stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// In use.
    Active,
    /// Another one has taken its place; the peer is to delete it.
    Replaced {
        /// After this we delete it ourselves.
        until: Millis,
    },
    /// We delete it.
    Closing,
}

/// Whether there is still an IKE SA after something has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum After {
    /// Yes.
    Stays,
    /// No; everything it had has been released.
    Closed,
}

/// An established IKE SA.
#[derive(Debug)]
pub(crate) struct Established {
    pub(crate) core: SaCore,
    pub(crate) local_id: Identity,
    pub(crate) remote_id: Identity,
    pub(crate) remote_eap_id: Option<Identity>,
    pub(crate) children: Vec<ChildSa>,
    /// Inner addresses we were given.
    pub(crate) vips: Vec<IpAddr>,
    /// Inner addresses the peer was given.
    pub(crate) leases: Vec<IpAddr>,
    /// Whether we sent the first IKE_SA_INIT; rekeying does not change it.
    pub(crate) started_by_us: bool,
    /// When it was authenticated; rekeying does not change it.
    pub(crate) authenticated: Millis,
    pub(crate) phase: Phase,
    pub(crate) task: Option<Task>,
    pub(crate) jobs: VecDeque<Planned>,
    /// A new SA of the peer's that waits for its additional key exchanges.
    pub(crate) follow_up: Option<FollowUp>,
    /// The IKE SA that the peer's rekeying has made while ours is not answered.
    pub(crate) rival: Option<Box<Rival>>,
    pub(crate) lifetimes: Lifetimes,
    /// A reauthentication has been started and may last until then.
    pub(crate) reauthenticating: Option<Millis>,
    /// SPIs of the peer that it has closed before we knew them: of an SA whose making is still
    /// to be answered.
    pub(crate) early_deletes: Vec<u32>,
    /// The peer has rekeyed the Child SA that our outstanding request is about, and the lowest
    /// nonce of that. What it made may be gone before our answer is here.
    pub(crate) rival_nonce: Option<(ChildId, Vec<u8>)>,
    /// Operators who wait for its end.
    pub(crate) closing_requests: Vec<RequestId>,
    /// How long a NAT mapping of ours may be idle.
    pub(crate) keepalive_ms: Option<u64>,
    /// When the peer's last request came: it has the answers to all requests before that one.
    pub(crate) last_request: Millis,
    /// Key exchanges of the peer that were worked on since a time.
    pub(crate) key_exchanges: (Millis, u32),
    /// When somebody last said, without proof, that the peer has no such IKE SA.
    pub(crate) doubted: Option<Millis>,
}

impl Established {
    /// An IKE SA whose authentication is done. `core.initiator` still tells who started it.
    pub(crate) fn new(ctx: &mut Context<'_>, core: SaCore, params: Params) -> Box<Self> {
        let now = ctx.millis();
        let started_by_us = core.initiator;
        let lifetimes = Lifetimes::new(ctx, &core.connection, started_by_us);
        let mut sa = Box::new(Self {
            core,
            local_id: params.local_id,
            remote_id: params.remote_id,
            remote_eap_id: params.remote_eap_id,
            children: params.child.into_iter().collect(),
            vips: params.vips,
            leases: params.leases,
            started_by_us,
            authenticated: now,
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
            keepalive_ms: None,
            last_request: now,
            key_exchanges: (now, 0),
            doubted: None,
        });
        if let Some(seconds) = params.auth_lifetime_s {
            sa.reauthenticate_within(ctx, seconds);
        }
        for wanted in params.wanted {
            sa.plan(Job::Child { wanted, attempts: 0 }, now);
        }
        sa.run(ctx);
        sa
    }

    /// The name in listings, as strongSwan writes it.
    pub(crate) const fn name(&self) -> &'static str {
        match self.phase {
            Phase::Active if matches!(self.task, Some(Task::Ike(_))) => "REKEYING",
            Phase::Active => "ESTABLISHED",
            Phase::Replaced { .. } => "REKEYED",
            Phase::Closing => "DELETING",
        }
    }

    /// Whether new children may be put into it.
    pub(crate) fn is_usable(&self) -> bool {
        self.phase == Phase::Active && self.reauthenticating.is_none()
    }

    /// Whether it is between these two; the peer's name in EAP counts if it has one.
    pub(crate) fn is_between(&self, local: &Identity, remote: &Identity) -> bool {
        self.phase == Phase::Active && self.local_id == *local && self.peer_identity() == remote
    }

    /// Who the peer is: in EAP, if it has another name there.
    pub(crate) fn peer_identity(&self) -> &Identity {
        self.remote_eap_id.as_ref().unwrap_or(&self.remote_id)
    }

    /// The children that are up or coming up, by name, each once.
    pub(crate) fn child_names(&self) -> Vec<String> {
        let live = self.children.iter().filter(|child| child.is_live());
        let wanted = self.jobs.iter().filter_map(|planned| planned.job.wanted());
        let all = live.map(|child| &child.policy).chain(wanted.map(|wanted| &wanted.policy));
        let mut names: Vec<String> = Vec::new();
        for policy in all {
            if !names.contains(&policy.name) {
                names.push(policy.name.clone());
            }
        }
        names
    }

    /// The Child SAs of a name that are in use.
    pub(crate) fn live_children(&self, name: &str) -> Vec<ChildId> {
        let named = |child: &&ChildSa| child.policy.name == name && child.is_live();
        self.children.iter().filter(named).map(|child| child.id).collect()
    }

    pub(crate) fn child(&self, id: ChildId) -> Option<&ChildSa> {
        self.children.iter().find(|child| child.id == id)
    }

    pub(crate) fn child_mut(&mut self, id: ChildId) -> Option<&mut ChildSa> {
        self.children.iter_mut().find(|child| child.id == id)
    }

    /// What `dynamic` selectors stand for.
    pub(crate) fn addresses(&self) -> DynamicAddresses {
        let or_outer = |inner: &[IpAddr], outer: IpAddr| {
            if inner.is_empty() { vec![outer] } else { inner.to_vec() }
        };
        DynamicAddresses {
            local: or_outer(&self.vips, self.core.local.ip()),
            remote: or_outer(&self.leases, self.core.remote.ip()),
        }
    }

    /// A request of the peer.
    pub(crate) fn request(mut self: Box<Self>, ctx: &mut Context<'_>, inbound: Inbound) -> State {
        self.follow(ctx, inbound.local, inbound.remote);
        self.last_request = ctx.millis();
        let after = match inbound.header.exchange {
            ExchangeType::CREATE_CHILD_SA => self.create_child_request(ctx, &inbound),
            ExchangeType::IKE_FOLLOWUP_KE => self.follow_up_request(ctx, &inbound),
            ExchangeType::INFORMATIONAL => self.informational_request(ctx, &inbound),
            // IKE_AUTH and its like are over (RFC 7296 section 1.2); no answer, no trace.
            other => {
                let text = format!("{other} request in an established IKE_SA dropped");
                self.core.event(ctx, Level::Debug, "message-dropped", text);
                After::Stays
            }
        };
        self.settle(ctx, after)
    }

    /// The response to our request.
    pub(crate) fn response(
        mut self: Box<Self>,
        ctx: &mut Context<'_>,
        mut inbound: Inbound,
    ) -> State {
        self.follow(ctx, inbound.local, inbound.remote);
        let Some(task) = self.task.take() else { return self.settle(ctx, After::Stays) };
        if task.exchange() != inbound.header.exchange {
            let text = format!("the peer answers with {}", inbound.header.exchange);
            self.core.event(ctx, Level::Warning, "message-refused", text);
            inbound.payloads.clear();
        }
        let early_deletes = std::mem::take(&mut self.early_deletes);
        let rival_nonce = self.rival_nonce.take();
        if task.makes_child() {
            self.early_deletes = early_deletes;
            self.rival_nonce = rival_nonce;
        }
        let after = match task {
            Task::Child(task) => self.child_response(ctx, *task, &inbound),
            Task::Ike(task) => self.ike_response(ctx, *task, &inbound),
            Task::FollowUp(task) => self.follow_up_response(ctx, *task, &inbound),
            Task::Delete(task) => self.delete_response(ctx, task),
            Task::Discard { spi_in } => {
                ctx.host.release_spi(spi_in);
                After::Stays
            }
            Task::Close(close) => self.closed(ctx, &close),
            Task::Informational => After::Stays,
            Task::Mobike(MobikeTask::Update { pair, cookie }) => {
                self.update_response(ctx, (pair, &cookie), &inbound)
            }
            Task::Mobike(MobikeTask::Check { pair, cookie }) => {
                self.check_response(ctx, (pair, &cookie), &inbound)
            }
            Task::Forgotten(forgotten) => self.forgotten_response(ctx, forgotten, &inbound),
        };
        self.settle(ctx, after)
    }

    /// Whatever is due.
    pub(crate) fn timer(mut self: Box<Self>, ctx: &mut Context<'_>) -> State {
        match self.core.requests.poll(&ctx.configuration.settings, ctx.now.monotonic) {
            Due::Nothing => {}
            Due::Retransmit(datagrams) => {
                ctx.statistics.retransmitted_requests += 1;
                let text = format!("retransmit of request {}", self.core.requests.transmissions());
                self.core.event(ctx, Level::Info, "retransmit", text);
                ctx.send(self.core.local, self.core.remote, &datagrams);
                self.core.last_outbound = ctx.millis();
            }
            Due::Dead => {
                let after = self.dead(ctx);
                return self.settle(ctx, after);
            }
        }
        let after = self.due(ctx);
        self.settle(ctx, after)
    }

    /// When something is due.
    pub(crate) fn deadline(&self) -> Option<Millis> {
        let idle = self.task.is_none() && self.core.requests.is_idle();
        let job = self.jobs.iter().map(|planned| planned.at).min().filter(|_| idle);
        [self.core.requests.deadline(), job, self.next_due()].into_iter().flatten().min()
    }

    /// Ends at once without telling the peer.
    pub(crate) fn abandon(mut self: Box<Self>, ctx: &mut Context<'_>, why: &str) {
        let _closed = self.close(ctx, RemoveReason::Deleted, why);
    }

    /// Puts a job at the end of the queue.
    pub(crate) fn plan(&mut self, job: Job, at: Millis) {
        self.jobs.push_back(Planned { at, job });
    }

    /// Puts a job before all others.
    pub(crate) fn plan_first(&mut self, job: Job) {
        self.jobs.push_front(Planned { at: Millis(0), job });
    }

    /// Starts the next job if nothing is outstanding.
    pub(crate) fn run(&mut self, ctx: &mut Context<'_>) {
        let keepalive_ms = ctx.settings().keepalive_ms;
        self.keepalive_ms = (keepalive_ms > 0).then_some(keepalive_ms);
        while self.task.is_none() && self.core.requests.is_idle() {
            if let Some(task) = self.start_update(ctx).or_else(|| self.start_check(ctx)) {
                self.task = Some(task);
                return;
            }
            let now = ctx.millis();
            let ready = self.jobs.iter().position(|planned| planned.at <= now);
            let Some(planned) = ready.and_then(|position| self.jobs.remove(position)) else {
                return;
            };
            self.task = self.start(ctx, planned.job);
        }
    }

    /// Sends the request of a job. `None`: there is nothing to be asked any more.
    fn start(&mut self, ctx: &mut Context<'_>, job: Job) -> Option<Task> {
        match job {
            Job::Child { wanted, attempts } => self.start_child(ctx, wanted, attempts),
            Job::RekeyChild { child, request, attempts } => {
                self.start_rekey_child(ctx, child, request, attempts)
            }
            Job::RekeyIke { request, attempts } => self.start_rekey_ike(ctx, request, attempts),
            Job::Delete(delete) => self.start_delete(ctx, delete),
            Job::Discard { spi_in } => Some(self.start_discard(ctx, spi_in)),
            Job::Close(close) => Some(self.start_close(ctx, close)),
            Job::Notify(payloads) => {
                self.core.request(ctx, ExchangeType::INFORMATIONAL, &payloads);
                if !payloads.iter().any(|payload| matches!(payload, Payload::Delete(_))) {
                    return Some(Task::Informational);
                }
                // Ours are gone already, but the IKE SA must not be replaced before the peer's are:
                // the peer would look for them in the wrong one (RFC 7296 section 2.25.2).
                let (children, reason) = (Vec::new(), RemoveReason::Deleted);
                Some(Task::Delete(DeleteChildren { children, reason, request: None }))
            }
        }
    }

    pub(crate) fn settle(mut self: Box<Self>, ctx: &mut Context<'_>, after: After) -> State {
        match after {
            After::Closed => State::Closed,
            After::Stays => {
                self.run(ctx);
                State::Established(self)
            }
        }
    }

    /// The end: gives everything back and tells who waits.
    pub(crate) fn close(
        &mut self,
        ctx: &mut Context<'_>,
        reason: RemoveReason,
        why: &str,
    ) -> After {
        self.core.event(ctx, Level::Info, "ike-closed", format!("IKE_SA closed: {why}"));
        for child in std::mem::take(&mut self.children) {
            child.remove(ctx, &self.core, reason);
        }
        for address in std::mem::take(&mut self.vips) {
            ctx.act(Action::RemoveVirtualIp { ike: self.core.id, address });
        }
        for address in std::mem::take(&mut self.leases) {
            ctx.pools.release(address);
        }
        if let Some(task) = self.task.take() {
            task.abandon(ctx, why);
        }
        for planned in std::mem::take(&mut self.jobs) {
            planned.job.abandon(ctx, why);
        }
        if let Some(follow_up) = self.follow_up.take() {
            follow_up.abandon(ctx);
        }
        self.rival = None;
        for request in std::mem::take(&mut self.closing_requests) {
            ctx.done(Some(request), Ok(1));
        }
        After::Closed
    }

    /// Has children come up again after the end of this IKE SA, those for which `action` says
    /// so. `request` waits for the first of them.
    pub(crate) fn restart(
        &self,
        ctx: &mut Context<'_>,
        action: impl Fn(&ChildPolicy) -> StartAction,
        mut request: Option<RequestId>,
    ) {
        for name in self.child_names() {
            let Some(policy) = self.core.connection.child(&name) else { continue };
            if action(policy).starts() {
                ctx.wishes.push(Wish::Initiate {
                    connection: Arc::clone(&self.core.connection),
                    child: Some(name),
                    replaces: None,
                    at: ctx.now.monotonic,
                    failures: 0,
                    request: request.take(),
                });
            }
        }
        ctx.done(request, Err("there is no child to be brought up again".into()));
    }
}

impl ChildSa {
    /// In use, rather than on its way out.
    pub(crate) const fn is_live(&self) -> bool {
        match self.state {
            ChildState::Installed | ChildState::InboundOnly | ChildState::Rekeying => true,
            ChildState::Replaced { .. } | ChildState::Deleting => false,
        }
    }
}
