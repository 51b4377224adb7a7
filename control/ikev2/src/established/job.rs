//! What is to be asked of the peer, and what is being asked.
//!
//! A [`Job`] waits; it becomes a [`Task`] when its request is sent, and the response consumes
//! the task. Either ends in somebody being told, on every path.

use crate::action::RemoveReason;
use crate::clock::Millis;
use crate::established::Wanted;
use crate::exchange::create_child_sa::{ChildTask, FollowUpTask, IkeTask};
use crate::input::{ChildId, RequestId};
use crate::mobike::MobikeTask;
use crate::sa::Context;
use crate::wire::{ExchangeType, Payload};

/// How often the peer may put one thing off before we do without this IKE SA.
pub(crate) const MAX_ATTEMPTS: u32 = 6;
/// The first pause after the peer was busy; doubled each time.
const FIRST_PAUSE_MS: u64 = 4_000;
/// The longest pause.
const LONGEST_PAUSE_MS: u64 = 60_000;

/// Something to be asked of the peer.
#[derive(Debug)]
pub(crate) enum Job {
    /// A new Child SA.
    Child { wanted: Wanted, attempts: u32 },
    /// Another Child SA in the place of one.
    RekeyChild { child: ChildId, request: Option<RequestId>, attempts: u32 },
    /// Another IKE SA in the place of this one.
    RekeyIke { request: Option<RequestId>, attempts: u32 },
    /// The end of Child SAs.
    Delete(DeleteChildren),
    /// The end of a Child SA that the peer has and we have not. The SPI is still reserved.
    Discard { spi_in: u32 },
    /// The end of this IKE SA.
    Close(Close),
    /// An INFORMATIONAL request; without payloads it is a liveness check.
    Notify(Vec<Payload>),
}

/// Child SAs that are to be closed.
#[derive(Debug)]
pub(crate) struct DeleteChildren {
    pub(crate) children: Vec<ChildId>,
    pub(crate) reason: RemoveReason,
    pub(crate) request: Option<RequestId>,
}

/// The end of an IKE SA, and what comes after it.
#[derive(Debug, Default)]
pub(crate) struct Close {
    /// Its children come up again by another one.
    pub(crate) restart: Restart,
    /// Who waits for that.
    pub(crate) request: Option<RequestId>,
}

/// Which children come up again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Restart {
    /// None.
    #[default]
    None,
    /// Those that come up by themselves.
    Starting,
    /// All.
    All,
}

/// A job and its time.
#[derive(Debug)]
pub(crate) struct Planned {
    /// Not before.
    pub(crate) at: Millis,
    pub(crate) job: Job,
}

/// What a response is waited for.
#[derive(Debug)]
pub(crate) enum Task {
    /// CREATE_CHILD_SA for a Child SA, new or rekeyed.
    Child(Box<ChildTask>),
    /// CREATE_CHILD_SA for an IKE SA.
    Ike(Box<IkeTask>),
    /// IKE_FOLLOWUP_KE (RFC 9370).
    FollowUp(Box<FollowUpTask>),
    /// D for Child SAs.
    Delete(DeleteChildren),
    /// D for a Child SA that only the peer has.
    Discard { spi_in: u32 },
    /// D for the IKE SA.
    Close(Close),
    /// Liveness and notifications.
    Informational,
    /// Addresses.
    Mobike(MobikeTask),
    /// A request of before a restart, whose private values are gone.
    Forgotten(Forgotten),
}

/// What the request of before a restart was about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Forgotten {
    /// A Child SA with this SPI of ours.
    Child { spi_in: u32 },
    /// An IKE SA; the lowest nonce so far decides a collision.
    Ike { lowest_nonce: Vec<u8> },
}

impl Job {
    /// The child that it will make.
    pub(crate) const fn wanted(&self) -> Option<&Wanted> {
        match self {
            Self::Child { wanted, .. } => Some(wanted),
            Self::RekeyChild { .. }
            | Self::RekeyIke { .. }
            | Self::Delete(_)
            | Self::Discard { .. }
            | Self::Close(_)
            | Self::Notify(_) => None,
        }
    }

    /// It will not be done.
    pub(crate) fn abandon(self, ctx: &mut Context<'_>, why: &str) {
        let request = match self {
            Self::Child { wanted, .. } => wanted.request,
            Self::RekeyChild { request, .. } | Self::RekeyIke { request, .. } => request,
            Self::Close(close) => close.request,
            Self::Delete(delete) => {
                // Gone they are.
                ctx.done(delete.request, Ok(1));
                None
            }
            Self::Discard { spi_in } => {
                ctx.host.release_spi(spi_in);
                None
            }
            Self::Notify(_) => None,
        };
        ctx.done(request, Err(why.to_owned()));
    }
}

impl Task {
    /// The exchange of its request and of the response.
    pub(crate) const fn exchange(&self) -> ExchangeType {
        match self {
            Self::Child(_) | Self::Ike(_) | Self::Forgotten(_) => ExchangeType::CREATE_CHILD_SA,
            Self::FollowUp(_) => ExchangeType::IKE_FOLLOWUP_KE,
            Self::Delete(_)
            | Self::Discard { .. }
            | Self::Close(_)
            | Self::Informational
            | Self::Mobike(_) => ExchangeType::INFORMATIONAL,
        }
    }

    /// Its response will not come.
    pub(crate) fn abandon(self, ctx: &mut Context<'_>, why: &str) {
        let job = match self {
            Self::Child(task) => return task.abandon(ctx, why),
            Self::Ike(task) => Job::RekeyIke { request: task.request, attempts: 0 },
            Self::FollowUp(task) => return task.abandon(ctx, why),
            Self::Delete(delete) => Job::Delete(delete),
            Self::Discard { spi_in } | Self::Forgotten(Forgotten::Child { spi_in }) => {
                Job::Discard { spi_in }
            }
            Self::Close(close) => Job::Close(close),
            Self::Informational | Self::Mobike(_) | Self::Forgotten(Forgotten::Ike { .. }) => {
                return;
            }
        };
        job.abandon(ctx, why);
    }

    /// The Child SA that it is to replace.
    pub(crate) fn replaces(&self) -> Option<ChildId> {
        match self {
            Self::Child(task) => task.replaces(),
            Self::FollowUp(task) => task.replaces(),
            Self::Ike(_)
            | Self::Delete(_)
            | Self::Discard { .. }
            | Self::Close(_)
            | Self::Informational
            | Self::Mobike(_)
            | Self::Forgotten(_) => None,
        }
    }

    /// Whether it makes a Child SA.
    pub(crate) fn makes_child(&self) -> bool {
        match self {
            Self::Child(_) => true,
            Self::FollowUp(task) => task.is_child(),
            Self::Ike(_)
            | Self::Delete(_)
            | Self::Discard { .. }
            | Self::Close(_)
            | Self::Informational
            | Self::Mobike(_)
            | Self::Forgotten(_) => false,
        }
    }

    /// Whether it makes or closes a Child SA (RFC 7296 section 2.25.2).
    pub(crate) fn concerns_children(&self) -> bool {
        match self {
            Self::Child(_) | Self::Delete(_) | Self::Discard { .. } => true,
            Self::Forgotten(forgotten) => matches!(forgotten, Forgotten::Child { .. }),
            Self::FollowUp(task) => task.is_child(),
            Self::Ike(_) | Self::Close(_) | Self::Informational | Self::Mobike(_) => false,
        }
    }

    /// Whether it makes another IKE SA in the place of this one.
    pub(crate) fn rekeys_ike(&self) -> bool {
        match self {
            Self::Ike(_) | Self::Forgotten(Forgotten::Ike { .. }) => true,
            Self::FollowUp(task) => !task.is_child(),
            Self::Child(_)
            | Self::Delete(_)
            | Self::Discard { .. }
            | Self::Close(_)
            | Self::Informational
            | Self::Mobike(_)
            | Self::Forgotten(Forgotten::Child { .. }) => false,
        }
    }
}

/// How long to wait before the next attempt, in milliseconds: twice as long each time, and up
/// to half as long again, so that two sides that refuse each other do not meet for ever.
pub(crate) fn pause_ms(ctx: &mut Context<'_>, attempts: u32) -> u64 {
    let pause = FIRST_PAUSE_MS.saturating_mul(1 << attempts.min(10)).min(LONGEST_PAUSE_MS);
    pause + ctx.jitter(pause / 2)
}
