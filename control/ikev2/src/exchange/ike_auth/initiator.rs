//! The initiator's side of IKE_AUTH.

mod eap;
mod failure;
mod ppk;

use super::{
    Proofs, certificate_request, configuration, eap_name, own_identity, peer_identity, with_ppk,
};
use crate::action::Action;
use crate::auth::{self, AuthVerified};
use crate::child::{ChildOffer, ChildSa, ChildSecrets, DynamicAddresses};
use crate::clock::Millis;
use crate::established::{Established, Params, Wanted};
use crate::event::Level;
use crate::exchange::ike_sa_init::{Goal, Handshake, fail};
use crate::input::RequestId;
use crate::message_id::Due;
use crate::policy::{Childless, LocalRound, RemoteRound, Unique};
use crate::sa::{Context, Inbound, SaCore, Wish, notify, to_identification};
use crate::state::State;
use crate::wire::{EapMessage, ExchangeType, Identification, Notify, NotifyType, Payload};
use failure::Failure;
use std::net::IpAddr;
use std::sync::Arc;
use xswan_credentials::{AuthMethod, EapKind, Identity};
use xswan_eap::{Client, ClientConfig, ClientStep, ClientTls, Password};
use xswan_ike_crypto::{IkeKeys, Secret};

/// We sent IKE_AUTH.
#[derive(Debug)]
pub(crate) struct AuthRequested {
    pub(crate) core: SaCore,
    pub(crate) handshake: Handshake,
    pub(crate) goal: Goal,
    own: Identity,
    peer: Option<(Identity, Identification)>,
    local_round: usize,
    remote_round: usize,
    proved: Vec<AuthVerified>,
    stage: Stage,
    child: Option<ChildOffer>,
    /// The keys without the PPK, while it is open whether the peer has it.
    without_ppk: Option<IkeKeys>,
    pending_children: Vec<String>,
}

/// What the outstanding request was.
#[derive(Debug)]
enum Stage {
    /// Our AUTH, or nothing more to prove.
    Proof,
    /// The conversation of EAP.
    Eap(Box<Client>),
    /// AUTH with the MSK.
    EapProof(Secret),
}

/// Starts IKE_AUTH.
pub(crate) fn start(
    ctx: &mut Context<'_>,
    core: SaCore,
    mut handshake: Handshake,
    goal: Goal,
) -> State {
    handshake.auth_message_id = core.requests.next_id();
    let Some(round) = core.connection.local_rounds.first().cloned() else {
        fail(ctx, &core.connection, goal, "no local authentication is configured");
        return State::Closed;
    };
    let own = own_identity(&round, core.local.ip());
    let mut state = Box::new(AuthRequested {
        core,
        handshake,
        goal,
        own,
        peer: None,
        local_round: 0,
        remote_round: 0,
        proved: Vec::new(),
        stage: Stage::Proof,
        child: None,
        without_ppk: None,
        pending_children: Vec::new(),
    });
    match state.first_request(ctx, &round) {
        Ok(payloads) => {
            state.core.request(ctx, ExchangeType::IKE_AUTH, &payloads);
            State::AuthRequested(state)
        }
        Err(why) => {
            state.abandon(ctx, &why);
            State::Closed
        }
    }
}

impl AuthRequested {
    /// One more child, to be made when the IKE SA stands.
    pub(crate) fn want(&mut self, child: &str) {
        self.pending_children.push(child.to_owned());
    }

    fn first_request(
        &mut self,
        ctx: &mut Context<'_>,
        round: &LocalRound,
    ) -> Result<Vec<Payload>, String> {
        let connection = Arc::clone(&self.core.connection);
        let ppk = self.mix_ppk(ctx)?;
        let mut payloads = vec![Payload::IdI(to_identification(&self.own))];
        let proof = self.proof(ctx, round)?;
        let (certificates, auth) = match proof {
            Some((certificates, auth)) => (certificates, Some(auth)),
            None => (Vec::new(), None),
        };
        payloads.extend(certificates);
        if self.goal.initial_contact && connection.unique != Unique::Never {
            payloads.push(status(NotifyType::INITIAL_CONTACT));
        }
        if connection.send_certificate_request {
            payloads.extend(certificate_request(ctx.configuration, &connection));
        }
        let expected = connection.remote_rounds.first().and_then(|round| round.id.identity());
        if let Some(expected) = expected {
            payloads.push(Payload::IdR(to_identification(expected)));
        }
        if let Some(auth) = auth {
            payloads.push(Payload::Auth(auth));
            if connection.local_rounds.len() > 1 {
                payloads.push(status(NotifyType::ANOTHER_AUTH_FOLLOWS));
            }
        }
        payloads.extend(configuration::request(&connection.vips));
        payloads.extend(self.offer_child(ctx)?);
        if crate::mobike::is_offered(&connection) {
            payloads.extend(crate::mobike::offer(ctx, self.core.local.ip()));
        }
        payloads.push(status(NotifyType::MULTIPLE_AUTH_SUPPORTED));
        let eap = |method: &AuthMethod| matches!(method, AuthMethod::Eap(_));
        let both = eap(&round.method)
            && connection.remote_rounds.first().is_some_and(|round| eap(&round.method));
        if both {
            payloads.push(status(NotifyType::EAP_ONLY_AUTHENTICATION));
        }
        payloads.extend(ppk);
        Ok(payloads)
    }

    fn expected_peer(&self) -> Option<Identity> {
        let known = self.peer.as_ref().map(|(identity, _)| identity.clone());
        let round = self.core.connection.remote_rounds.get(self.remote_round);
        known.or_else(|| round.and_then(|round| round.id.identity().cloned()))
    }

    /// CERT and AUTH of a round; `None` if it is EAP, whose client is then ready.
    fn proof(
        &mut self,
        ctx: &Context<'_>,
        round: &LocalRound,
    ) -> Result<Option<(Vec<Payload>, crate::wire::Authentication)>, String> {
        if matches!(round.method, AuthMethod::Eap(_)) {
            self.stage = Stage::Eap(Box::new(self.eap_client(ctx, round)?));
            return Ok(None);
        }
        self.stage = Stage::Proof;
        let peer = self.expected_peer();
        let ids = (&self.own, peer.as_ref());
        auth::prove(ctx, &self.core, &self.core.keys, &self.handshake, round, ids).map(Some)
    }

    /// The payloads of the first child, unless it is to come later or not at all.
    fn offer_child(&mut self, ctx: &mut Context<'_>) -> Result<Vec<Payload>, String> {
        let connection = Arc::clone(&self.core.connection);
        let mut names = self.goal.children.clone();
        let childless = match connection.childless {
            Childless::Force if !self.core.peer.childless => {
                return Err("the peer takes no IKE_SA without a CHILD_SA".into());
            }
            Childless::Force => true,
            Childless::Prefer => self.core.peer.childless,
            Childless::Allow => names.is_empty() && self.core.peer.childless,
            Childless::Never => false,
        };
        if childless {
            self.pending_children = names;
            return Ok(Vec::new());
        }
        if names.is_empty() {
            names.extend(connection.children.first().map(|child| child.name.clone()));
        }
        let policy = names.first().and_then(|name| connection.child(name));
        let policy = policy.ok_or("no child is configured")?;
        self.pending_children = names.iter().skip(1).cloned().collect();
        let local =
            if connection.vips.is_empty() { vec![self.core.local.ip()] } else { Vec::new() };
        let addresses = DynamicAddresses { local, remote: vec![self.core.remote.ip()] };
        let packet = self.goal.packet.as_ref();
        let offer = ChildOffer::new(ctx, policy, &addresses, packet, true)
            .ok_or("there is no room for another SA")?;
        let payloads = offer.payloads(Vec::new());
        self.child = Some(offer);
        Ok(payloads)
    }

    /// An answer of the peer.
    pub(crate) fn response(mut self: Box<Self>, ctx: &mut Context<'_>, inbound: Inbound) -> State {
        if inbound.header.exchange != ExchangeType::IKE_AUTH {
            self.abandon(ctx, "the answer is of another exchange");
            return State::Closed;
        }
        match self.step(ctx, &inbound) {
            Ok(Some(payloads)) => {
                self.core.request(ctx, ExchangeType::IKE_AUTH, &payloads);
                State::AuthRequested(self)
            }
            Ok(None) => self.finish(ctx, &inbound),
            Err(Failure { why, tell_peer }) => {
                if tell_peer {
                    // RFC 7296 section 2.21.2: the peer believes that the IKE SA stands.
                    let failed = [status(NotifyType::AUTHENTICATION_FAILED)];
                    self.core.request(ctx, ExchangeType::INFORMATIONAL, &failed);
                }
                self.abandon(ctx, &why);
                State::Closed
            }
        }
    }

    /// The payloads of the next request; `None` when everything is proved.
    fn step(
        &mut self,
        ctx: &mut Context<'_>,
        inbound: &Inbound,
    ) -> Result<Option<Vec<Payload>>, Failure> {
        let proofs = Proofs::read(inbound, false);
        if proofs.auth.is_none() && proofs.eap.is_none() {
            let refused = inbound.error().map(|error| error.kind);
            if let Some(kind) = refused {
                return Err(Failure::silent(format!("received {kind} notify error")));
            }
        }
        if let Some(id) = proofs.identification {
            let identity = peer_identity(id).map_err(Failure::told)?;
            self.peer = Some((identity, id.clone()));
        }
        if let Some(plain) = self.without_ppk.take()
            && notify(&inbound.payloads, NotifyType::PPK_IDENTITY).is_none()
        {
            // The peer has no such PPK and took NO_PPK_AUTH (RFC 8784 section 4.2).
            self.core.keys = plain;
            let text = "the peer did not use the PPK, going on without";
            self.core.event(ctx, Level::Info, "ppk-not-used", text);
        }
        if let Some(auth) = proofs.auth {
            let verified = self.verify(ctx, auth, &proofs).map_err(Failure::told)?;
            let text = format!(
                "authentication of '{}' with {} successful",
                verified.identity, verified.how
            );
            self.core.event(ctx, Level::Info, "peer-authenticated", text);
            self.proved.push(verified);
            self.remote_round += 1;
        }
        let peer_goes_on = notify(&inbound.payloads, NotifyType::ANOTHER_AUTH_FOLLOWS).is_some();
        if let Some(packet) = proofs.eap {
            return self.eap(ctx, packet).map(Some);
        }
        if matches!(self.stage, Stage::Eap(_)) {
            return Err(Failure::told("the peer does not start EAP".to_owned()));
        }
        let connection = Arc::clone(&self.core.connection);
        if let Some(round) = connection.local_rounds.get(self.local_round + 1) {
            self.local_round += 1;
            return self.next_round(ctx, round).map(Some).map_err(Failure::told);
        }
        if peer_goes_on {
            return Ok(Some(Vec::new()));
        }
        self.check_complete()?;
        Ok(None)
    }

    fn next_round(
        &mut self,
        ctx: &Context<'_>,
        round: &LocalRound,
    ) -> Result<Vec<Payload>, String> {
        self.own = own_identity(round, self.core.local.ip());
        let mut payloads = vec![Payload::IdI(to_identification(&self.own))];
        if let Some((certificates, auth)) = self.proof(ctx, round)? {
            payloads.extend(certificates);
            payloads.push(Payload::Auth(auth));
            if self.core.connection.local_rounds.len() > self.local_round + 1 {
                payloads.push(status(NotifyType::ANOTHER_AUTH_FOLLOWS));
            }
        }
        Ok(payloads)
    }

    /// Every round that the configuration demands of the peer has been proved.
    fn check_complete(&self) -> Result<(), Failure> {
        let demanded = self.core.connection.remote_rounds.len();
        if self.proved.is_empty() || self.proved.len() < demanded {
            let proved = self.proved.len();
            let why = format!("the peer proved {proved} of {demanded} rounds of authentication");
            return Err(Failure::told(why));
        }
        Ok(())
    }

    fn verify(
        &self,
        ctx: &Context<'_>,
        auth: &crate::wire::Authentication,
        proofs: &Proofs<'_>,
    ) -> Result<AuthVerified, String> {
        let (identity, id) = self.peer.as_ref().ok_or("the answer has no IDr")?;
        let rounds = &self.core.connection.remote_rounds;
        if let Stage::EapProof(msk) = &self.stage {
            // With EAP as the only method this is the peer's proof; otherwise one more.
            let peer = (identity, id);
            let how = "EAP";
            return auth::verify_by_secret(&self.core, &self.handshake, peer, auth, msk, how);
        }
        let round: &RemoteRound =
            rounds.get(self.remote_round).ok_or("more authentications than configured")?;
        let (peer, certificates) = ((identity, id), proofs.certificates.as_slice());
        let round = (round, &self.own);
        auth::verify(ctx, &self.core, &self.handshake, round, peer, (auth, certificates))
    }

    /// Everything is proved: the IKE SA stands, with or without the Child SA.
    fn finish(mut self: Box<Self>, ctx: &mut Context<'_>, inbound: &Inbound) -> State {
        let Some((remote_id, _)) = self.peer.take() else { return State::Closed };
        let mobile = notify(&inbound.payloads, NotifyType::MOBIKE_SUPPORTED).is_some();
        self.core.peer.mobike = mobile && crate::mobike::is_offered(&self.core.connection);
        self.core.mobike.learn(&inbound.payloads);
        let assigned = self.virtual_addresses(ctx, &inbound.payloads);
        let text = format!(
            "IKE_SA {}[{}] established between {}[{}]...{}[{remote_id}]",
            self.core.connection.name,
            self.core.id.0,
            self.core.local.ip(),
            self.own,
            self.core.remote.ip(),
        );
        self.core.event(ctx, Level::Info, "ike-established", text);
        let (child, failure) = match self.child.take() {
            None => (None, None),
            Some(offer) => match self.install(ctx, offer, &inbound.payloads, &assigned.addresses) {
                Ok(child) => (Some(child), None),
                Err(why) => (None, Some(why)),
            },
        };
        let lifetime = notify(&inbound.payloads, NotifyType::AUTH_LIFETIME);
        let lifetime = lifetime.and_then(|notify| <[u8; 4]>::try_from(notify.data.as_slice()).ok());
        let offered = child.is_some() || failure.is_some();
        let name = self.goal.children.first().filter(|_| offered).cloned();
        let also = name.and_then(|name| self.goal.waits_for(&name));
        let request = match failure {
            Some(why) => {
                let text = format!("failed to establish CHILD_SA, keeping IKE_SA: {why}");
                self.core.event(ctx, Level::Warning, "child-failed", text.clone());
                ctx.done(also, Err(text.clone()));
                ctx.done(self.goal.request.take(), Err(text));
                None
            }
            None => {
                ctx.done(also, Ok(1));
                self.goal.request.take()
            }
        };
        if let Some(old) = self.goal.replaces {
            ctx.wishes.push(Wish::Close(old));
        }
        let seconds = lifetime.map(u32::from_be_bytes);
        let wanted = self.wanted(ctx, child.is_some(), request);
        let params = Params {
            local_id: self.own,
            remote_id,
            remote_eap_id: None,
            child,
            wanted,
            vips: assigned.addresses,
            leases: Vec::new(),
            auth_lifetime_s: seconds,
        };
        State::Established(Established::new(ctx, self.core, params))
    }

    /// Tells the shell about the addresses that we were given.
    fn virtual_addresses(
        &self,
        ctx: &mut Context<'_>,
        payloads: &[Payload],
    ) -> configuration::Assigned {
        let assigned = configuration::assigned(payloads);
        for address in &assigned.addresses {
            let (ike, address, dns) = (self.core.id, *address, assigned.dns.clone());
            ctx.act(Action::AddVirtualIp { ike, address, dns });
            let text = format!("installing new virtual IP {address}");
            self.core.event(ctx, Level::Info, "virtual-ip", text);
        }
        assigned
    }

    /// The children that are still to be made, and who waits for them. Whoever waits for what
    /// is done or cannot be is told.
    fn wanted(
        &mut self,
        ctx: &mut Context<'_>,
        has_child: bool,
        mut request: Option<RequestId>,
    ) -> Vec<Wanted> {
        let mut wanted: Vec<Wanted> = self
            .pending_children
            .iter()
            .filter_map(|name| self.core.connection.child(name).cloned())
            .map(|policy| Wanted {
                request: self.goal.waits_for(&policy.name),
                policy,
                packet: None,
            })
            .collect();
        // An operator who waits, waits for the child he named.
        if let Some(first) = wanted.first_mut().filter(|_| !has_child) {
            if let Some(request) = request.take() {
                let also = first.request.replace(request);
                ctx.done(also, Ok(1));
            }
            first.packet = self.goal.packet.take();
        }
        ctx.done(request, Ok(1));
        for (child, request) in std::mem::take(&mut self.goal.waiting) {
            ctx.done(Some(request), Err(format!("{child} is not configured any more")));
        }
        wanted
    }

    fn install(
        &self,
        ctx: &mut Context<'_>,
        offer: ChildOffer,
        payloads: &[Payload],
        assigned: &[IpAddr],
    ) -> Result<ChildSa, String> {
        let mut negotiated = match offer.accept(payloads) {
            Ok(negotiated) => negotiated,
            Err((offer, refusal)) => {
                offer.abandon(ctx);
                return Err(refusal.text);
            }
        };
        negotiated.restrict_local(assigned);
        let (ni, nr) = (&self.handshake.ni, &self.handshake.nr);
        let secrets = ChildSecrets { shared: &[], ni, nr, initiator: true };
        negotiated.install(ctx, &self.core, &secrets, true).map_err(|refusal| refusal.text)
    }

    /// When the request is repeated.
    pub(crate) fn deadline(&self) -> Option<Millis> {
        self.core.requests.deadline()
    }

    /// Repeats the request, or gives up.
    pub(crate) fn timer(mut self: Box<Self>, ctx: &mut Context<'_>) -> State {
        match self.core.requests.poll(&ctx.configuration.settings, ctx.now.monotonic) {
            Due::Nothing => State::AuthRequested(self),
            Due::Retransmit(datagrams) => {
                ctx.statistics.retransmitted_requests += 1;
                ctx.send(self.core.local, self.core.remote, &datagrams);
                State::AuthRequested(self)
            }
            Due::Dead => {
                self.abandon(ctx, "peer not responding");
                State::Closed
            }
        }
    }

    /// Gives up, and tells who waits.
    pub(crate) fn abandon(mut self: Box<Self>, ctx: &mut Context<'_>, why: &str) {
        if let Some(offer) = self.child.take() {
            offer.abandon(ctx);
        }
        let text = format!("establishing IKE_SA failed: {why}");
        self.core.event(ctx, Level::Warning, "ike-failed", text);
        fail(ctx, &self.core.connection, self.goal, why);
    }
}

fn status(kind: NotifyType) -> Payload {
    Payload::Notify(Notify::new(kind, Vec::new()))
}
