//! Child SAs that the peer asks for.

use super::{
    FollowUp, Material, NONCE_LEN, Offered, Refused, allows_method, invalid_ke, nonce, respond,
};
use crate::child::{self, ChildRefusal, ChildSa, ChildState, NegotiatedChild};
use crate::established::job::Task;
use crate::established::{Established, Phase};
use crate::input::ChildId;
use crate::policy::{ChildPolicy, SelectorTemplate};
use crate::proposal::{kind, protocol};
use crate::rekey::covers;
use crate::sa::{Context, Inbound};
use crate::wire::{Notify, NotifyType, Payload, TrafficSelector};
use std::sync::Arc;
use xswan_ike_crypto::Secret;

impl From<ChildRefusal> for Refused {
    fn from(refusal: ChildRefusal) -> Self {
        Self::new(refusal.kind, refusal.text)
    }
}

impl Established {
    /// Answers a request for a Child SA.
    pub(super) fn answer_child(
        &mut self,
        ctx: &mut Context<'_>,
        inbound: &Inbound,
        offered: &Offered<'_>,
    ) -> Result<(), Refused> {
        if self.phase != Phase::Active {
            return Err(Refused::busy("the IKE_SA is being closed"));
        }
        if self.is_rekeying_ike() {
            return Err(Refused::busy("the IKE_SA is being rekeyed"));
        }
        let old = match inbound.notify(NotifyType::REKEY_SA) {
            Some(notify) => Some(self.rekeyed(notify)?),
            None => None,
        };
        let room = self.children.len() < ctx.settings().max_children as usize;
        if !room {
            return Err(Refused::new(NotifyType::NO_ADDITIONAL_SAS, "too many CHILD_SAs"));
        }
        let mut negotiated = self.negotiate(ctx, inbound, offered, old)?;
        let method = negotiated.choice.id(kind::KE);
        let answered = match offered.ke {
            _ if method == 0 => Ok(None),
            Some(peer) if peer.method == method => respond(ctx, peer)
                .map(Some)
                .map_err(|why| Refused::new(NotifyType::INVALID_SYNTAX, why)),
            Some(_) | None => {
                let text = format!("the peer has to use key exchange method {method}");
                Err(Refused { notify: invalid_ke(method), text })
            }
        };
        let (payload, shared) = match answered {
            Ok(answered) => answered.unzip(),
            Err(refused) => {
                ctx.host.release_spi(negotiated.spi_in);
                return Err(refused);
            }
        };
        negotiated.replaces = old;
        self.grant_child(ctx, inbound, offered, negotiated, payload, shared)
    }

    fn grant_child(
        &mut self,
        ctx: &mut Context<'_>,
        inbound: &Inbound,
        offered: &Offered<'_>,
        negotiated: NegotiatedChild,
        payload: Option<Payload>,
        shared: Option<Secret>,
    ) -> Result<(), Refused> {
        let nr = ctx.random_octets(NONCE_LEN);
        let mut between = vec![nonce(&nr)];
        between.extend(payload);
        let mut payloads = negotiated.answer_payloads(between);
        let shared = shared.into_iter().collect();
        let material = Material { ni: offered.nonce.to_vec(), nr, shared };
        let additional = negotiated.choice.additional_key_exchanges();
        if additional.is_empty() {
            // Before the answer leaves: the peer may send at once.
            self.child_made_by_peer(ctx, negotiated, &material)?;
        } else {
            let follow_up = FollowUp::child(ctx, negotiated, material, additional);
            payloads.push(follow_up.link());
            self.follow_up = Some(follow_up);
        }
        self.core.respond(ctx, inbound, &payloads);
        Ok(())
    }

    /// The Child SA that N(REKEY_SA) names, if it can be rekeyed now.
    ///
    /// Of what the peer sent, only an SPI of the right length goes back (IKE-14).
    fn rekeyed(&self, notify: &Notify) -> Result<ChildId, Refused> {
        let not_found = |text: &str| {
            let kind = NotifyType::CHILD_SA_NOT_FOUND;
            let notify = match notify.child_spi() {
                Some(spi) => Notify::about(protocol::ESP, spi, kind),
                None => Notify::new(kind, Vec::new()),
            };
            Refused { notify, text: text.to_owned() }
        };
        if notify.protocol != protocol::ESP {
            return Err(not_found("it is not about ESP"));
        }
        let spi = notify.child_spi().ok_or_else(|| not_found("the SPI has a wrong length"))?;
        let Some(child) = self.children.iter().find(|child| child.spi_out == spi) else {
            // It may be the one whose answer we still wait for.
            let coming = self.task.as_ref().is_some_and(Task::makes_child);
            let text = "there is no such CHILD_SA";
            return Err(if coming { Refused::busy(text) } else { not_found(text) });
        };
        match child.state {
            ChildState::Replaced { .. } => Err(not_found("the CHILD_SA is closed")),
            ChildState::Deleting => Err(Refused::busy("the CHILD_SA is being closed")),
            ChildState::Installed | ChildState::InboundOnly | ChildState::Rekeying => {
                let again = self.replacement_of(child.id).is_some();
                if again { Err(Refused::busy("it is being rekeyed")) } else { Ok(child.id) }
            }
        }
    }

    /// Chooses a policy, transforms and selectors; for rekeying those of the old SA.
    fn negotiate(
        &self,
        ctx: &mut Context<'_>,
        inbound: &Inbound,
        offered: &Offered<'_>,
        old: Option<ChildId>,
    ) -> Result<NegotiatedChild, Refused> {
        let old = old.and_then(|id| self.child(id));
        let candidates = match old {
            Some(old) => vec![Arc::new(as_negotiated(old))],
            None => child::candidates(&self.core.connection),
        };
        // A method that we do not allow must not stand in the way of one that we do.
        let method = offered.ke.map(|ke| ke.method).filter(|method| {
            candidates.iter().any(|policy| allows_method(&policy.proposals, *method))
        });
        let payloads = &inbound.payloads;
        let addresses = self.addresses();
        let mut negotiated = child::answer(ctx, payloads, &candidates, &addresses, false, method)?;
        let Some(old) = old else { return Ok(negotiated) };
        negotiated.policy = Arc::clone(&old.policy);
        let same = covers(&negotiated.local_ts, &old.local_ts)
            && covers(&negotiated.remote_ts, &old.remote_ts);
        if same {
            return Ok(negotiated);
        }
        ctx.host.release_spi(negotiated.spi_in);
        let text = "the peer wants fewer traffic selectors than the CHILD_SA has";
        Err(Refused::new(NotifyType::TS_UNACCEPTABLE, text))
    }
}

/// The policy of a Child SA with the selectors and the mode that were agreed on.
fn as_negotiated(old: &ChildSa) -> ChildPolicy {
    let fixed = |selectors: &[TrafficSelector]| {
        selectors.iter().cloned().map(SelectorTemplate::Fixed).collect()
    };
    let mut policy = ChildPolicy::clone(&old.policy);
    policy.mode = old.mode;
    policy.local_ts = fixed(&old.local_ts);
    policy.remote_ts = fixed(&old.remote_ts);
    policy
}
