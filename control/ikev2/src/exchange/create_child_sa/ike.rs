//! Rekeying of the IKE SA, from both sides (RFC 7296 sections 1.3.2 and 2.18).

use super::{
    FollowUp, FollowUpTask, MAX_RESTARTS, Material, NONCE_LEN, Offered, Refused, allows_method,
    generate, invalid_ke, nonce, respond, wanted_method,
};
use crate::established::job::{Job, MAX_ATTEMPTS, Task, pause_ms};
use crate::established::{After, Established, Phase};
use crate::event::Level;
use crate::exchange::ike_sa_init::suite_of;
use crate::input::RequestId;
use crate::policy::ConnectionPolicy;
use crate::proposal::{self, Choice, kind, protocol};
use crate::sa::{Context, Inbound};
use crate::wire::{ExchangeType, NotifyType, Payload, SecurityAssociation};
use std::sync::Arc;
use xswan_ike_crypto::{KeyExchange, Suite};

/// We sent CREATE_CHILD_SA for the IKE SA.
#[derive(Debug)]
pub(crate) struct IkeTask {
    pub(crate) request: Option<RequestId>,
    connection: Arc<ConnectionPolicy>,
    spi: u64,
    nonce: Vec<u8>,
    ke: KeyExchange,
    attempts: u32,
    restarts: u32,
}

impl IkeTask {
    /// Our nonce.
    pub(crate) fn nonce(&self) -> &[u8] {
        &self.nonce
    }
}

/// What both sides agreed on for the next IKE SA.
#[derive(Clone, Debug)]
pub(crate) struct IkeAgreement {
    pub(crate) suite: Suite,
    pub(crate) additional: Vec<u16>,
    pub(crate) spi_i: u64,
    pub(crate) spi_r: u64,
}

/// An SPI of IKE: eight octets, not 0.
fn ike_spi(octets: &[u8]) -> Option<u64> {
    <[u8; 8]>::try_from(octets).ok().map(u64::from_be_bytes).filter(|spi| *spi != 0)
}

fn first_method(connection: &ConnectionPolicy) -> u16 {
    let transforms = connection.proposals.iter().flat_map(|proposal| &proposal.transforms);
    transforms.filter(|item| item.kind == kind::KE).map(|item| item.id).next().unwrap_or(0)
}

impl Established {
    /// Asks for another IKE SA in the place of this one.
    pub(crate) fn start_rekey_ike(
        &mut self,
        ctx: &mut Context<'_>,
        request: Option<RequestId>,
        attempts: u32,
    ) -> Option<Task> {
        if self.phase != Phase::Active {
            ctx.done(request, Err("the IKE_SA is being closed".into()));
            return None;
        }
        let connection = Arc::clone(&self.core.connection);
        let current = self.core.suite.group().id();
        // The method in use is one that the peer agrees to.
        let method = if allows_method(&connection.proposals, current) {
            current
        } else {
            first_method(&connection)
        };
        self.core.event(ctx, Level::Info, "ike-rekeying", "rekeying IKE_SA");
        self.send_rekey_ike(ctx, connection, request, method, (attempts, 0))
    }

    fn send_rekey_ike(
        &mut self,
        ctx: &mut Context<'_>,
        connection: Arc<ConnectionPolicy>,
        request: Option<RequestId>,
        method: u16,
        (attempts, restarts): (u32, u32),
    ) -> Option<Task> {
        let (ke, payload) = match generate(ctx, method) {
            Ok(generated) => generated,
            Err(why) => {
                self.rekey_ike_failed(ctx, request, attempts, None, &why);
                return None;
            }
        };
        let spi = ctx.ike_spi();
        let octets = ctx.random_octets(NONCE_LEN);
        let proposals =
            proposal::offer(&connection.proposals, protocol::IKE, &spi.to_be_bytes(), false);
        let sa = Payload::Sa(SecurityAssociation { proposals });
        let payloads = [sa, nonce(&octets), payload];
        self.core.request(ctx, ExchangeType::CREATE_CHILD_SA, &payloads);
        let task = IkeTask { request, connection, spi, nonce: octets, ke, attempts, restarts };
        Some(Task::Ike(Box::new(task)))
    }

    /// The response to it.
    pub(crate) fn ike_response(
        &mut self,
        ctx: &mut Context<'_>,
        task: IkeTask,
        inbound: &Inbound,
    ) -> After {
        let IkeTask { request, connection, spi, nonce, ke, attempts, restarts } = task;
        if let Some(method) = wanted_method(inbound) {
            let usable = method != ke.group().id() && allows_method(&connection.proposals, method);
            if usable && restarts < MAX_RESTARTS && self.rival.is_none() {
                let counts = (attempts, restarts + 1);
                self.task = self.send_rekey_ike(ctx, connection, request, method, counts);
                return After::Stays;
            }
        }
        if let Some(error) = inbound.error() {
            let kind = error.kind;
            let text = format!("the peer refuses with {kind}");
            self.rekey_ike_failed(ctx, request, attempts, Some(kind), &text);
            return After::Stays;
        }
        match agree(&connection, spi, nonce, &ke, &inbound.payloads) {
            Ok((agreement, material)) if agreement.additional.is_empty() => {
                self.ike_made_by_us(ctx, request, &agreement, &material)
            }
            Ok((agreement, material)) => {
                let task = FollowUpTask::ike(request, agreement, material, attempts);
                self.go_on(ctx, task, inbound.notify(NotifyType::ADDITIONAL_KEY_EXCHANGE));
                After::Stays
            }
            Err(why) => {
                // The peer has an IKE SA that we cannot use, and waits for the end of this one.
                self.rekey_ike_failed(ctx, request, MAX_ATTEMPTS, None, &why);
                After::Stays
            }
        }
    }

    /// There is no other IKE SA: later, by a new authentication, or by the peer's rekeying.
    pub(super) fn rekey_ike_failed(
        &mut self,
        ctx: &mut Context<'_>,
        request: Option<RequestId>,
        attempts: u32,
        kind: Option<NotifyType>,
        why: &str,
    ) {
        if let Some(rival) = self.rival.take() {
            ctx.done(request, Ok(1));
            self.give_way_to(ctx, *rival);
            return;
        }
        let text = format!("rekeying IKE_SA failed: {why}");
        self.core.event(ctx, Level::Warning, "ike-rekey-failed", text);
        let hopeless = kind == Some(NotifyType::NO_ADDITIONAL_SAS);
        if hopeless || attempts + 1 >= MAX_ATTEMPTS {
            self.reauthenticate(ctx, request);
            return;
        }
        let at = ctx.millis().plus(pause_ms(ctx, attempts));
        self.plan(Job::RekeyIke { request, attempts: attempts + 1 }, at);
    }

    /// Whether the peer may replace this IKE SA now (RFC 7296 section 2.25.2).
    pub(super) fn may_rekey_ike(&self) -> Result<(), Refused> {
        if self.phase != Phase::Active || matches!(self.task, Some(Task::Close(_))) {
            return Err(Refused::busy("the IKE_SA is being closed"));
        }
        if self.task.as_ref().is_some_and(Task::concerns_children) {
            return Err(Refused::busy("a CHILD_SA of it is being made or closed"));
        }
        if self.reauthenticating.is_some() {
            return Err(Refused::busy("it is being reauthenticated"));
        }
        if self.rival.is_some() {
            return Err(Refused::busy("it has been rekeyed already"));
        }
        Ok(())
    }

    /// Answers a request for another IKE SA in the place of this one.
    pub(super) fn answer_rekey_ike(
        &mut self,
        ctx: &mut Context<'_>,
        inbound: &Inbound,
        offered: &Offered<'_>,
    ) -> Result<(), Refused> {
        self.may_rekey_ike()?;
        let peer = offered
            .ke
            .ok_or_else(|| Refused::new(NotifyType::INVALID_SYNTAX, "a key exchange is missing"))?;
        let policies = &self.core.connection.proposals;
        let preferred = Some(peer.method);
        let choice = proposal::choose(offered.sa, policies, protocol::IKE, false, preferred)
            .map_err(|why| Refused::new(NotifyType::NO_PROPOSAL_CHOSEN, why.to_string()))?;
        let unusable = || Refused::new(NotifyType::NO_PROPOSAL_CHOSEN, "unusable suite or SPI");
        let peer_spi = ike_spi(&choice.spi).ok_or_else(unusable)?;
        let suite = suite_of(&choice).ok_or_else(unusable)?;
        let method = choice.id(kind::KE);
        if method != peer.method {
            let text = format!("the peer has to use key exchange method {method}");
            return Err(Refused { notify: invalid_ke(method), text });
        }
        let (payload, shared) =
            respond(ctx, peer).map_err(|why| Refused::new(NotifyType::INVALID_SYNTAX, why))?;
        let own_spi = ctx.ike_spi();
        let nr = ctx.random_octets(NONCE_LEN);
        let own = own_spi.to_be_bytes().to_vec();
        let proposals = vec![choice.to_proposal(protocol::IKE, own)];
        let sa = Payload::Sa(SecurityAssociation { proposals });
        let mut payloads = vec![sa, nonce(&nr), payload];
        let agreement = IkeAgreement {
            suite,
            additional: choice.additional_key_exchanges(),
            spi_i: peer_spi,
            spi_r: own_spi,
        };
        let material = Material { ni: offered.nonce.to_vec(), nr, shared: vec![shared] };
        if agreement.additional.is_empty() {
            self.ike_made_by_peer(ctx, inbound, &payloads, &agreement, &material)?;
            return Ok(());
        }
        let follow_up = FollowUp::ike(ctx, agreement, material);
        payloads.push(follow_up.link());
        self.follow_up = Some(follow_up);
        self.core.respond(ctx, inbound, &payloads);
        Ok(())
    }
}

/// What the peer's answer to our rekeying makes.
fn agree(
    connection: &ConnectionPolicy,
    spi: u64,
    ni: Vec<u8>,
    ke: &KeyExchange,
    payloads: &[Payload],
) -> Result<(IkeAgreement, Material), String> {
    let answer = Offered::read(payloads).ok_or("the answer has no SA or no nonce")?;
    let policies = &connection.proposals;
    let choice: Choice = proposal::check_answer(answer.sa, policies, protocol::IKE, false)
        .ok_or("the peer chose what was not offered")?;
    let suite = suite_of(&choice).ok_or("the suite cannot be built")?;
    let peer_spi = ike_spi(&choice.spi).ok_or("the peer's SPI is none")?;
    let theirs = answer
        .ke
        .filter(|theirs| theirs.method == ke.group().id() && theirs.method == suite.group().id())
        .ok_or("the peer answered with another key exchange")?;
    let shared = ke.finish(&theirs.data).map_err(|error| error.to_string())?;
    let nr = answer.nonce.to_vec();
    if nr == ni {
        return Err("the peer sent our own nonce back".into());
    }
    let additional = choice.additional_key_exchanges();
    let agreement = IkeAgreement { suite, additional, spi_i: spi, spi_r: peer_spi };
    Ok((agreement, Material { ni, nr, shared: vec![shared] }))
}
