//! The states of an IKE SA, one struct each, consumed on transition.
//!
//! ```text
//! initiator   InitRequested ──▶ [IntermediateRequested ──▶] AuthRequested ──▶ Established
//! responder   (stateless)   ──▶ HalfOpen ──▶ [Authenticating ──▶]             Established
//! both        Established ──▶ Closed
//! ```
//! [`State::request`], [`State::response`] and [`State::timer`] are the whole machine: what a
//! state does not name, it drops.

use crate::clock::Millis;
use crate::established::{After, Established, Phase};
use crate::exchange::ike_auth::{AuthRequested, Authenticating};
use crate::exchange::ike_intermediate::IntermediateRequested;
use crate::exchange::ike_sa_init::{HalfOpen, InitRequested};
use crate::input::{ChildId, IkeId, RequestId};
use crate::policy::ChildPolicy;
use crate::sa::{Context, Inbound, SaCore};
use crate::wire::TrafficSelector;
use std::net::SocketAddr;
use std::sync::Arc;
use xswan_credentials::Identity;

/// An IKE SA in some state.
#[derive(Debug)]
pub(crate) struct IkeSa {
    pub(crate) id: IkeId,
    pub(crate) state: State,
}

/// Every state.
#[derive(Debug)]
pub(crate) enum State {
    /// We sent IKE_SA_INIT.
    InitRequested(Box<InitRequested>),
    /// We sent IKE_INTERMEDIATE (RFC 9242).
    IntermediateRequested(Box<IntermediateRequested>),
    /// We sent IKE_AUTH.
    AuthRequested(Box<AuthRequested>),
    /// We answered IKE_SA_INIT.
    HalfOpen(Box<HalfOpen>),
    /// We answered IKE_AUTH, and more rounds or EAP messages are to come.
    Authenticating(Box<Authenticating>),
    /// Both sides are authenticated.
    Established(Box<Established>),
    /// Nothing is left; the engine forgets it.
    Closed,
}

impl State {
    /// The keys and windows, from the moment there are any.
    pub(crate) fn core(&self) -> Option<&SaCore> {
        match self {
            Self::InitRequested(_) | Self::Closed => None,
            Self::IntermediateRequested(state) => Some(&state.core),
            Self::AuthRequested(state) => Some(&state.core),
            Self::HalfOpen(state) => Some(&state.core),
            Self::Authenticating(state) => Some(&state.core),
            Self::Established(state) => Some(&state.core),
        }
    }

    /// The same, to be changed.
    pub(crate) fn core_mut(&mut self) -> Option<&mut SaCore> {
        match self {
            Self::InitRequested(_) | Self::Closed => None,
            Self::IntermediateRequested(state) => Some(&mut state.core),
            Self::AuthRequested(state) => Some(&mut state.core),
            Self::HalfOpen(state) => Some(&mut state.core),
            Self::Authenticating(state) => Some(&mut state.core),
            Self::Established(state) => Some(&mut state.core),
        }
    }

    /// Whether both sides are authenticated.
    pub(crate) const fn is_established(&self) -> bool {
        matches!(self, Self::Established(_))
    }

    /// Whether both sides are authenticated, and neither closes it.
    pub(crate) fn may_be_replaced(&self) -> bool {
        matches!(self, Self::Established(sa) if sa.phase != Phase::Closing)
    }

    /// Whether it counts against the limits on half-open SAs: the peer started it and has not
    /// proved anything yet.
    pub(crate) const fn is_half_open(&self) -> bool {
        match self {
            Self::HalfOpen(_) => true,
            Self::Authenticating(state) => !state.is_over(),
            Self::InitRequested(_)
            | Self::IntermediateRequested(_)
            | Self::AuthRequested(_)
            | Self::Established(_)
            | Self::Closed => false,
        }
    }

    /// The name in listings, as strongSwan writes it.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::InitRequested(_)
            | Self::IntermediateRequested(_)
            | Self::AuthRequested(_)
            | Self::HalfOpen(_)
            | Self::Authenticating(_) => "CONNECTING",
            Self::Established(state) => state.name(),
            Self::Closed => "DESTROYING",
        }
    }

    /// A request with the expected message ID, authenticated.
    pub(crate) fn request(self, ctx: &mut Context<'_>, inbound: Inbound) -> Self {
        match self {
            Self::HalfOpen(state) => state.request(ctx, inbound),
            Self::Authenticating(state) => state.request(ctx, inbound),
            Self::Established(state) => state.request(ctx, inbound),
            // The responder has no business asking before it is authenticated.
            Self::InitRequested(_)
            | Self::IntermediateRequested(_)
            | Self::AuthRequested(_)
            | Self::Closed => self,
        }
    }

    /// The response to the outstanding request, authenticated.
    pub(crate) fn response(self, ctx: &mut Context<'_>, inbound: Inbound) -> Self {
        match self {
            Self::IntermediateRequested(state) => state.response(ctx, inbound),
            Self::AuthRequested(state) => state.response(ctx, inbound),
            Self::Established(state) => state.response(ctx, inbound),
            // IKE_SA_INIT is not protected and comes another way; a responder has not asked.
            Self::InitRequested(_) | Self::HalfOpen(_) | Self::Authenticating(_) | Self::Closed => {
                self
            }
        }
    }

    /// Whatever is due.
    pub(crate) fn timer(self, ctx: &mut Context<'_>) -> Self {
        match self {
            Self::InitRequested(state) => state.timer(ctx),
            Self::IntermediateRequested(state) => state.timer(ctx),
            Self::AuthRequested(state) => state.timer(ctx),
            Self::HalfOpen(state) => state.timer(ctx),
            Self::Authenticating(state) => state.timer(ctx),
            Self::Established(state) => state.timer(ctx),
            Self::Closed => self,
        }
    }

    /// When something is due.
    pub(crate) fn deadline(&self) -> Option<Millis> {
        match self {
            Self::InitRequested(state) => state.deadline(),
            Self::IntermediateRequested(state) => state.deadline(),
            Self::AuthRequested(state) => state.deadline(),
            Self::HalfOpen(state) => state.deadline(),
            Self::Authenticating(state) => state.deadline(),
            Self::Established(state) => state.deadline(),
            Self::Closed => None,
        }
    }

    /// Ends at once without telling the peer: Child SAs, addresses and waiting operators are
    /// seen to.
    pub(crate) fn abandon(self, ctx: &mut Context<'_>, why: &str) {
        match self {
            Self::InitRequested(state) => state.abandon(ctx, why),
            Self::IntermediateRequested(state) => state.abandon(ctx, why),
            Self::AuthRequested(state) => state.abandon(ctx, why),
            Self::Authenticating(state) => state.abandon(ctx, why),
            Self::Established(state) => state.abandon(ctx, why),
            Self::HalfOpen(_) | Self::Closed => {}
        }
    }

    /// Name of the connection.
    pub(crate) fn connection_name(&self) -> Option<&str> {
        match self {
            Self::InitRequested(state) => Some(&state.connection.name),
            Self::IntermediateRequested(_)
            | Self::AuthRequested(_)
            | Self::HalfOpen(_)
            | Self::Authenticating(_)
            | Self::Established(_)
            | Self::Closed => self.core().map(|core| core.connection.name.as_str()),
        }
    }

    /// One more child is wanted of a connection that is coming up. `None`: it is not coming up
    /// here. Otherwise whether the one who waits will be told at the end of it.
    pub(crate) fn join(&mut self, child: &str, request: Option<RequestId>) -> Option<bool> {
        let goal = match self {
            Self::InitRequested(state) => &mut state.goal,
            Self::IntermediateRequested(state) => &mut state.goal,
            Self::AuthRequested(state) => {
                if !state.goal.children.iter().any(|name| name == child) {
                    state.want(child);
                }
                &mut state.goal
            }
            _ => return None,
        };
        Some(goal.join(child, request))
    }

    /// Whether it is between these identities.
    pub(crate) fn is_between(&self, local: &Identity, remote: &Identity) -> bool {
        match self {
            Self::Established(state) => state.is_between(local, remote),
            _ => false,
        }
    }

    /// Closes it, or one of its Child SAs.
    pub(crate) fn terminate(
        self,
        ctx: &mut Context<'_>,
        child: Option<ChildId>,
        force: bool,
        request: Option<RequestId>,
    ) -> Self {
        match self {
            Self::Established(state) => state.terminate(ctx, child, force, request),
            other => {
                other.abandon(ctx, "terminated");
                ctx.done(request, Ok(1));
                Self::Closed
            }
        }
    }

    /// Replaces it, or one of its Child SAs.
    pub(crate) fn rekey(
        self,
        ctx: &mut Context<'_>,
        child: Option<ChildId>,
        reauthenticate: bool,
        request: Option<RequestId>,
    ) -> Self {
        match self {
            Self::Established(state) => state.rekey(ctx, child, reauthenticate, request),
            other => {
                ctx.done(request, Err("the IKE_SA is not established".into()));
                other
            }
        }
    }

    /// A limit of a Child SA is reached.
    pub(crate) fn expiry(self, ctx: &mut Context<'_>, spi_in: u32, hard: bool) -> Self {
        match self {
            Self::Established(state) => state.expiry(ctx, spi_in, hard),
            other => other,
        }
    }

    /// ESP came from another address.
    pub(crate) fn peer_moved(self, ctx: &mut Context<'_>, remote: SocketAddr) -> Self {
        match self {
            Self::Established(state) => state.peer_moved(ctx, remote),
            other => other,
        }
    }

    /// Our addresses are others now.
    pub(crate) fn addresses_changed(self, ctx: &mut Context<'_>) -> Self {
        match self {
            Self::Established(mut state) => {
                state.addresses_changed(ctx);
                state.settle(ctx, After::Stays)
            }
            other => other,
        }
    }

    /// Somebody says without proof that the peer has no such IKE SA.
    pub(crate) fn doubted(self, ctx: &mut Context<'_>) -> Self {
        match self {
            Self::Established(mut state) => {
                state.doubted(ctx);
                state.settle(ctx, After::Stays)
            }
            other => other,
        }
    }

    /// When ESP was last seen.
    pub(crate) fn child_use(
        self,
        ctx: &mut Context<'_>,
        spi_in: u32,
        idle_in_ms: Option<u64>,
        idle_out_ms: Option<u64>,
    ) -> Self {
        match self {
            Self::Established(state) => state.child_use(ctx, spi_in, idle_in_ms, idle_out_ms),
            other => other,
        }
    }

    /// One more child is wanted.
    pub(crate) fn initiate_child(
        self,
        ctx: &mut Context<'_>,
        policy: &Arc<ChildPolicy>,
        packet: Option<[TrafficSelector; 2]>,
        request: Option<RequestId>,
    ) -> Self {
        match self {
            Self::Established(state) => state.initiate_child(ctx, policy, packet, request),
            other => other,
        }
    }
}
