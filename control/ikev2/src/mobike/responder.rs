//! The responder's side: it follows UPDATE_SA_ADDRESSES, after the peer has shown that it is
//! where it says (RFC 4555 sections 3.5 and 3.7).

use super::{COOKIE_LEN, MobikeTask, Pair, is_usable};
use crate::action::RemoveReason;
use crate::established::job::Task;
use crate::established::{After, Established, Phase};
use crate::event::Level;
use crate::nat::Detected;
use crate::policy::AddressPattern;
use crate::sa::{Context, Inbound};
use crate::wire::{ExchangeType, NotifyType, Payload};

impl Established {
    /// What a request says about addresses. An error is the answer.
    pub(crate) fn address_request(
        &mut self,
        ctx: &mut Context<'_>,
        inbound: &Inbound,
    ) -> Result<(), NotifyType> {
        if !self.is_mobile() {
            return Ok(());
        }
        self.core.mobike.learn(&inbound.payloads);
        if self.started_by_us || inbound.notify(NotifyType::UPDATE_SA_ADDRESSES).is_none() {
            return Ok(());
        }
        if let Some(expected) = inbound.notify(NotifyType::NO_NATS_ALLOWED)
            && expected.data != seen(inbound)
        {
            let text = "the peer allows no NAT, and there is one on the way";
            self.core.event(ctx, Level::Warning, "mobike-refused", text);
            return Err(NotifyType::UNEXPECTED_NAT_DETECTED);
        }
        let remote = inbound.remote.ip();
        let policies = &self.core.connection.remote_addresses;
        let allowed = policies.is_empty() || policies.iter().any(|one| one.contains(remote));
        if !allowed || !is_usable(remote) {
            let text = format!("the peer may not be at {remote}");
            self.core.event(ctx, Level::Warning, "mobike-refused", text);
            return Err(NotifyType::UNACCEPTABLE_ADDRESSES);
        }
        let pair = (inbound.local, inbound.remote);
        let bound = |pattern: &AddressPattern| match pattern {
            AddressPattern::Any => false,
            AddressPattern::Range(..) => pattern.contains(remote),
        };
        let is_known = pair.1 == self.core.remote || policies.iter().any(bound);
        let nat = self.detected(inbound);
        if is_known {
            self.proved(ctx, pair, nat);
        } else {
            self.core.mobike.unproved = Some((pair, nat));
        }
        Ok(())
    }

    /// The peer is where it says.
    fn proved(&mut self, ctx: &mut Context<'_>, pair: Pair, nat: Option<Detected>) {
        self.note_nat(nat);
        self.core.mobike.unproved = None;
        let old = self.core.remote;
        (self.core.local, self.core.remote) = pair;
        self.move_children(ctx);
        let text = format!("remote endpoint changed from {old} to {}", pair.1);
        self.core.event(ctx, Level::Info, "mobike-moved", text);
    }

    /// Asks the peer to show that it is at a new address. Sent there once: what else it is sent
    /// goes where it was until it has.
    pub(crate) fn start_check(&mut self, ctx: &mut Context<'_>) -> Option<Task> {
        let (pair, _) = self.core.mobike.unproved.filter(|_| self.phase == Phase::Active)?;
        let cookie = ctx.random_octets(COOKIE_LEN);
        let payload = Payload::notify(NotifyType::COOKIE2, cookie.clone());
        let used = (self.core.local, self.core.remote);
        (self.core.local, self.core.remote) = pair;
        self.core.request(ctx, ExchangeType::INFORMATIONAL, &[payload]);
        (self.core.local, self.core.remote) = used;
        Some(Task::Mobike(MobikeTask::Check { pair, cookie }))
    }

    /// It has, or has answered from where it was.
    pub(crate) fn check_response(
        &mut self,
        ctx: &mut Context<'_>,
        (pair, cookie): (Pair, &[u8]),
        inbound: &Inbound,
    ) -> After {
        let echoed = inbound.notify(NotifyType::COOKIE2);
        if echoed.is_some_and(|sent| sent.data != cookie) {
            return self.close(ctx, RemoveReason::Deleted, "COOKIE2 mismatch");
        }
        // A newer update is checked for itself.
        let asked = |unproved: &mut (Pair, Option<Detected>)| unproved.0 == pair;
        let Some((_, nat)) = self.core.mobike.unproved.take_if(asked) else {
            return After::Stays;
        };
        if echoed.is_some() && (inbound.local, inbound.remote) == pair {
            self.proved(ctx, pair, nat);
        } else {
            let text = format!("the peer has not shown that it is at {}", pair.1);
            self.core.event(ctx, Level::Warning, "mobike-unproved", text);
        }
        After::Stays
    }
}

/// What NO_NATS_ALLOWED has to say: addresses and ports as they arrived (RFC 4555 section 4.2.6).
fn seen(inbound: &Inbound) -> Vec<u8> {
    let octets = |address: std::net::IpAddr| match address {
        std::net::IpAddr::V4(v4) => v4.octets().to_vec(),
        std::net::IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    let mut all = octets(inbound.remote.ip());
    all.extend(octets(inbound.local.ip()));
    all.extend(inbound.remote.port().to_be_bytes());
    all.extend(inbound.local.port().to_be_bytes());
    all
}
