//! The initiator's side: it decides which pair of addresses is used (RFC 4555 section 3.5).

use super::{COOKIE_LEN, MobikeTask, Pair, additional};
use crate::action::RemoveReason;
use crate::established::job::Task;
use crate::established::{After, Established, Phase};
use crate::event::Level;
use crate::exchange::ike_sa_init::NAT_PORT;
use crate::nat::{self, Detected};
use crate::sa::{Context, Inbound};
use crate::wire::{ExchangeType, NotifyType, Payload};
use std::net::SocketAddr;

impl Established {
    /// Our addresses are others now.
    pub(crate) fn addresses_changed(&mut self, ctx: &mut Context<'_>) {
        if !self.is_mobile() || !self.started_by_us || self.phase != Phase::Active {
            return;
        }
        if ctx.addresses.contains(&self.core.local.ip()) {
            return;
        }
        let own = [self.core.remote.ip()];
        let remotes: Vec<_> =
            own.into_iter().chain(self.core.mobike.peer_addresses.iter().copied()).collect();
        let found = remotes.into_iter().find_map(|remote| {
            let local = ctx.host.local_address(remote)?;
            ctx.addresses.contains(&local).then_some((local, remote))
        });
        let Some((local, remote)) = found else {
            let text = "no address is left that leads to the peer";
            self.core.event(ctx, Level::Warning, "mobike-stranded", text);
            return;
        };
        let port = if remote == self.core.remote.ip() { self.core.remote.port() } else { NAT_PORT };
        self.move_to(ctx, (SocketAddr::new(local, NAT_PORT), SocketAddr::new(remote, port)));
    }

    /// Everything goes to another pair, and the peer is told.
    fn move_to(&mut self, ctx: &mut Context<'_>, pair: Pair) {
        let (old_local, old_remote) = (self.core.local, self.core.remote);
        (self.core.local, self.core.remote) = pair;
        self.core.mobike.pending = true;
        let text = format!("moving from {old_local} - {old_remote} to {} - {}", pair.0, pair.1);
        self.core.event(ctx, Level::Info, "mobike-moving", text);
        self.move_children(ctx);
        // What is outstanding may have been lost on the old path.
        if let Some(datagrams) = self.core.requests.outstanding().cloned() {
            ctx.send(pair.0, pair.1, &datagrams);
        }
    }

    /// UPDATE_SA_ADDRESSES, if the peer has to be told.
    pub(crate) fn start_update(&mut self, ctx: &mut Context<'_>) -> Option<Task> {
        if !self.core.mobike.pending || self.phase != Phase::Active {
            return None;
        }
        let pair = (self.core.local, self.core.remote);
        let cookie = ctx.random_octets(COOKIE_LEN);
        let (spi_i, spi_r) = (self.core.spi_i, self.core.spi_r);
        let force = self.core.connection.encap;
        let mut payloads = vec![Payload::notify(NotifyType::UPDATE_SA_ADDRESSES, Vec::new())];
        payloads.extend(nat::payloads(spi_i, spi_r, pair.0, pair.1, force));
        payloads.push(Payload::notify(NotifyType::COOKIE2, cookie.clone()));
        payloads.extend(additional(ctx.addresses, pair.0.ip()));
        self.core.request(ctx, ExchangeType::INFORMATIONAL, &payloads);
        Some(Task::Mobike(MobikeTask::Update { pair, cookie }))
    }

    /// The answer to it.
    pub(crate) fn update_response(
        &mut self,
        ctx: &mut Context<'_>,
        (pair, cookie): (Pair, &[u8]),
        inbound: &Inbound,
    ) -> After {
        if inbound.notify(NotifyType::COOKIE2).is_some_and(|sent| sent.data != cookie) {
            return self.close(ctx, RemoveReason::Deleted, "COOKIE2 mismatch");
        }
        if pair != (self.core.local, self.core.remote) {
            // It is about a pair that is not used any more: once more, for the one that is.
            return After::Stays;
        }
        self.core.mobike.pending = false;
        if let Some(error) = inbound.error() {
            let text = format!("the peer does not take the new addresses: {}", error.kind);
            self.core.event(ctx, Level::Warning, "mobike-refused", text);
            return After::Stays;
        }
        let nat = self.detected(inbound);
        self.note_nat(nat);
        self.move_children(ctx);
        let text = format!("moved to {} - {}", pair.0, pair.1);
        self.core.event(ctx, Level::Info, "mobike-moved", text);
        After::Stays
    }

    /// What a message says about NATs on the way.
    pub(super) fn detected(&self, inbound: &Inbound) -> Option<Detected> {
        let (spi_i, spi_r) = (self.core.spi_i, self.core.spi_r);
        nat::detect(spi_i, spi_r, &inbound.payloads, inbound.local, inbound.remote)
    }

    /// Believes it.
    pub(super) fn note_nat(&mut self, nat: Option<Detected>) {
        if let Some(found) = nat {
            (self.core.nat_local, self.core.nat_remote) = (found.local, found.remote);
        }
    }
}
