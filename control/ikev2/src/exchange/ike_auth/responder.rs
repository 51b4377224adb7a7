//! The responder's side of IKE_AUTH.

mod eap;
mod ppk;

use super::{Proofs, configuration, eap_name, own_identity, peer_identity, with_ppk};
use crate::auth::{self, AuthVerified};
use crate::child::{self, ChildSa, ChildSecrets, DynamicAddresses, child_payloads};
use crate::clock::Millis;
use crate::established::{Established, Params};
use crate::event::Level;
use crate::exchange::ike_sa_init::{HalfOpen, Handshake};
use crate::policy::{Childless, ConnectionPolicy, LocalRound, RemoteRound, Unique};
use crate::sa::{Context, Inbound, SaCore, Wish, notify, to_identification};
use crate::state::State;
use crate::wire::{
    Authentication, EapMessage, ExchangeType, Identification, Notify, NotifyType, Payload,
};
use ppk::Ppk;
use std::net::IpAddr;
use std::sync::Arc;
use xswan_credentials::{AuthMethod, EapKind, Identity};
use xswan_eap::{Password, Peer, Server, ServerConfig, ServerHost, ServerMethod, ServerStep};
use xswan_ike_crypto::{Random, Secret};

/// How long a refusal is kept, to be repeated if it was lost.
const REFUSAL_KEPT_MS: u64 = 10_000;

/// We answered IKE_AUTH and it goes on.
#[derive(Debug)]
pub(crate) struct Authenticating {
    pub(crate) core: SaCore,
    handshake: Handshake,
    until: Millis,
    own: Identity,
    peer: (Identity, Identification),
    eap_peer: Option<Identity>,
    /// What the first request asked for beside authentication.
    first: Vec<Payload>,
    local_round: usize,
    remote_round: usize,
    proved: Vec<AuthVerified>,
    /// We have not proved anything yet: the MSK of EAP will do it (RFC 5998).
    eap_only: bool,
    stage: Stage,
}

/// What the next request has to be.
#[derive(Debug)]
enum Stage {
    /// The conversation of EAP.
    Eap(Box<Server>),
    /// AUTH with the MSK.
    EapProof(Secret),
    /// AUTH of the next round, or nothing while our own rounds go on.
    NextRound,
    /// Refused: nothing.
    Over,
}

/// What is answered, and whether that was all.
enum Step {
    Answer(Vec<Payload>),
    Complete(Vec<Payload>),
}

/// The first IKE_AUTH request.
pub(crate) fn answer_first(ctx: &mut Context<'_>, half: HalfOpen, inbound: Inbound) -> State {
    let HalfOpen { core, mut handshake, until, .. } = half;
    handshake.auth_message_id = inbound.header.message_id;
    let mut core = core;
    // The initiator asks for our certificate here; it could not in its first message.
    for payload in &inbound.payloads {
        if let Payload::CertReq(request) = payload {
            let asked = handshake.authorities.get_or_insert_with(Vec::new);
            asked.extend(request.hashes().copied());
        }
    }
    let (peer, own) = match identify(&mut core, &handshake, &inbound) {
        Ok(found) => found,
        Err(why) => {
            let nobody = Identity::from_address(core.remote.ip());
            let id = to_identification(&nobody);
            let state = Authenticating::new(core, handshake, until, nobody.clone(), (nobody, id));
            return state.refuse(ctx, &inbound, &why);
        }
    };
    let mut state = Authenticating::new(core, handshake, until, own, peer);
    state.first = inbound.payloads.clone();
    state.go_on(ctx, &inbound)
}

/// Who the peer is, and which connection it means.
fn identify(
    core: &mut SaCore,
    handshake: &Handshake,
    inbound: &Inbound,
) -> Result<((Identity, Identification), Identity), String> {
    let proofs = Proofs::read(inbound, true);
    let id = proofs.identification.ok_or("the request has no IDi")?.clone();
    let identity = peer_identity(&id)?;
    let wanted = inbound.payloads.iter().find_map(|payload| match payload {
        Payload::IdR(id) => Some(peer_identity(id)),
        _ => None,
    });
    let wanted = wanted.transpose()?;
    let mut best: Option<(u8, Arc<ConnectionPolicy>, Identity)> = None;
    for connection in &handshake.candidates {
        let (Some(local), Some(remote)) =
            (connection.local_rounds.first(), connection.remote_rounds.first())
        else {
            continue;
        };
        let own = own_identity(local, core.local.ip());
        let addressed = wanted.as_ref().is_none_or(|wanted| *wanted == own);
        if !addressed || remote.id.matches(&identity).is_none() {
            continue;
        }
        let score = method_fits(&remote.method, proofs.auth);
        if best.as_ref().is_none_or(|(known, ..)| score > *known) {
            best = Some((score, Arc::clone(connection), own));
        }
    }
    let Some((_, connection, own)) = best else {
        let wanted = wanted.map_or_else(String::new, |wanted| format!(" that wants '{wanted}'"));
        return Err(format!("no connection is configured for '{identity}'{wanted}"));
    };
    core.connection = connection;
    Ok(((identity, id), own))
}

/// How well a method fits what the peer sent: a connection for EAP is meant by a request
/// without AUTH, one for signatures by one with a signature.
fn method_fits(method: &AuthMethod, auth: Option<&Authentication>) -> u8 {
    let shared = auth.is_some_and(|auth| auth.method == Authentication::SHARED_KEY);
    let fits = match method {
        AuthMethod::Any => auth.is_some(),
        AuthMethod::Psk => shared,
        AuthMethod::Signature(_) => auth.is_some() && !shared,
        AuthMethod::Eap(_) => auth.is_none(),
    };
    u8::from(fits)
}

impl Authenticating {
    fn new(
        core: SaCore,
        handshake: Handshake,
        until: Millis,
        own: Identity,
        peer: (Identity, Identification),
    ) -> Box<Self> {
        Box::new(Self {
            core,
            handshake,
            until,
            own,
            peer,
            eap_peer: None,
            first: Vec::new(),
            local_round: 0,
            remote_round: 0,
            proved: Vec::new(),
            eap_only: false,
            stage: Stage::NextRound,
        })
    }

    /// Whether it is only kept to repeat a refusal.
    pub(crate) const fn is_over(&self) -> bool {
        matches!(self.stage, Stage::Over)
    }

    /// A further request.
    pub(crate) fn request(self: Box<Self>, ctx: &mut Context<'_>, inbound: Inbound) -> State {
        if self.is_over() || inbound.header.exchange != ExchangeType::IKE_AUTH {
            return State::Authenticating(self);
        }
        self.go_on(ctx, &inbound)
    }

    fn go_on(mut self: Box<Self>, ctx: &mut Context<'_>, inbound: &Inbound) -> State {
        match self.step(ctx, inbound) {
            Ok(Step::Answer(payloads)) => {
                self.core.respond(ctx, inbound, &payloads);
                State::Authenticating(self)
            }
            Ok(Step::Complete(payloads)) => self.finish(ctx, inbound, payloads),
            Err(why) => self.refuse(ctx, inbound, &why),
        }
    }

    /// AUTHENTICATION_FAILED, whatever it was: the peer learns nothing from it.
    fn refuse(mut self: Box<Self>, ctx: &mut Context<'_>, inbound: &Inbound, why: &str) -> State {
        let text = format!("authentication of '{}' failed: {why}", self.peer.0);
        ctx.statistics.authentication_failed += 1;
        self.core.event(ctx, Level::Warning, "auth-failed", text);
        let mut payloads = Vec::new();
        if let Stage::Eap(_) = self.stage
            && let Some(failure) = self.first.iter().find_map(|payload| match payload {
                Payload::Eap(failure) if failure.code() == EapMessage::FAILURE => Some(failure),
                _ => None,
            })
        {
            payloads.push(Payload::Eap(failure.clone()));
        } else {
            payloads.push(status(NotifyType::AUTHENTICATION_FAILED));
        }
        self.core.respond(ctx, inbound, &payloads);
        self.stage = Stage::Over;
        self.until = ctx.millis().plus(REFUSAL_KEPT_MS);
        State::Authenticating(self)
    }

    fn remote(&self) -> Result<RemoteRound, String> {
        let rounds = &self.core.connection.remote_rounds;
        rounds.get(self.remote_round).cloned().ok_or_else(|| "more rounds than configured".into())
    }

    fn step(&mut self, ctx: &mut Context<'_>, inbound: &Inbound) -> Result<Step, String> {
        let proofs = Proofs::read(inbound, true);
        match std::mem::replace(&mut self.stage, Stage::NextRound) {
            Stage::Eap(server) => {
                let packet = proofs.eap.ok_or("the peer does not go on with EAP")?;
                self.eap_step(ctx, server, packet)
            }
            Stage::EapProof(msk) => {
                let auth = proofs.auth.ok_or("the peer does not prove the MSK of EAP")?;
                self.eap_proof(ctx, inbound, auth, &msk)
            }
            Stage::NextRound => self.round(ctx, inbound, &proofs),
            Stage::Over => Err("it is over".into()),
        }
    }

    /// A round begins: with a proof, with the wish for EAP, or with nothing.
    fn round(
        &mut self,
        ctx: &mut Context<'_>,
        inbound: &Inbound,
        proofs: &Proofs<'_>,
    ) -> Result<Step, String> {
        if let (Some(id), true) = (proofs.identification, self.remote_round > 0) {
            self.peer = (peer_identity(id)?, id.clone());
        }
        if self.remote_round >= self.core.connection.remote_rounds.len() {
            // Only our own rounds are missing.
            let payloads = self.own_round(ctx, inbound)?;
            return Ok(self.complete_or_not(payloads));
        }
        let remote = self.remote()?;
        let ppk = self.mix_ppk(ctx, inbound)?;
        let Some(auth) = proofs.auth else { return self.start_eap(ctx, inbound, &remote) };
        let auth = match &ppk {
            Ppk::Refused(plain) => Authentication { method: auth.method, data: plain.clone() },
            Ppk::Used | Ppk::None => auth.clone(),
        };
        let peer = (&self.peer.0, &self.peer.1);
        let (of_round, proof) = ((&remote, &self.own), (&auth, proofs.certificates.as_slice()));
        let verify =
            |handshake: &Handshake| auth::verify(ctx, &self.core, handshake, of_round, peer, proof);
        let mut verified = verify(&self.handshake);
        if verified.is_err() && self.handshake.init_request_before.is_some() {
            self.handshake.swap_requests();
            let peer = (&self.peer.0, &self.peer.1);
            let of_round = (&remote, &self.own);
            let again = auth::verify(ctx, &self.core, &self.handshake, of_round, peer, proof);
            verified = again.or(verified);
        }
        let verified = verified?;
        self.proved(ctx, verified);
        let mut payloads = self.own_round(ctx, inbound)?;
        if matches!(ppk, Ppk::Used) {
            payloads.push(status(NotifyType::PPK_IDENTITY));
        }
        self.check_more(inbound)?;
        Ok(self.complete_or_not(payloads))
    }

    /// The peer's plan fits ours: it goes on exactly if we demand more.
    fn check_more(&self, inbound: &Inbound) -> Result<(), String> {
        let follows = notify(&inbound.payloads, NotifyType::ANOTHER_AUTH_FOLLOWS).is_some();
        let demanded = self.remote_round < self.core.connection.remote_rounds.len();
        match (demanded, follows) {
            (true, false) => Err("the peer stops before all rounds are proved".into()),
            (false, true) => Err("the peer announces more rounds than are configured".into()),
            (true, true) | (false, false) => Ok(()),
        }
    }

    fn complete_or_not(&self, payloads: Vec<Payload>) -> Step {
        let connection = &self.core.connection;
        let all = self.remote_round >= connection.remote_rounds.len()
            && self.local_round >= connection.local_rounds.len();
        if all { Step::Complete(payloads) } else { Step::Answer(payloads) }
    }

    fn proved(&mut self, ctx: &mut Context<'_>, verified: AuthVerified) {
        let text =
            format!("authentication of '{}' with {} successful", verified.identity, verified.how);
        self.core.event(ctx, Level::Info, "peer-authenticated", text);
        self.proved.push(verified);
        self.remote_round += 1;
    }

    /// IDr, CERT and AUTH of our next round, if there is one.
    fn own_round(&mut self, ctx: &Context<'_>, _inbound: &Inbound) -> Result<Vec<Payload>, String> {
        let connection = Arc::clone(&self.core.connection);
        let Some(round) = connection.local_rounds.get(self.local_round) else {
            return Ok(Vec::new());
        };
        self.local_round += 1;
        self.prove(ctx, round, connection.local_rounds.len() > self.local_round)
    }

    fn prove(
        &mut self,
        ctx: &Context<'_>,
        round: &LocalRound,
        more: bool,
    ) -> Result<Vec<Payload>, String> {
        self.own = own_identity(round, self.core.local.ip());
        let ids = (&self.own, Some(&self.peer.0));
        let (certificates, auth) =
            auth::prove(ctx, &self.core, &self.core.keys, &self.handshake, round, ids)?;
        let mut payloads = vec![Payload::IdR(to_identification(&self.own))];
        payloads.extend(certificates);
        payloads.push(Payload::Auth(auth));
        if more {
            payloads.push(status(NotifyType::ANOTHER_AUTH_FOLLOWS));
        }
        Ok(payloads)
    }

    /// Everything is proved: addresses, the Child SA, the answer.
    fn finish(
        mut self: Box<Self>,
        ctx: &mut Context<'_>,
        inbound: &Inbound,
        mut payloads: Vec<Payload>,
    ) -> State {
        let connection = Arc::clone(&self.core.connection);
        let peer = self.eap_peer.as_ref().unwrap_or(&self.peer.0);
        let first_contact = notify(&self.first, NotifyType::INITIAL_CONTACT).is_some();
        let duplicate = !first_contact && ctx.others.are_between(&self.own, peer);
        if duplicate && connection.unique == Unique::Keep {
            return self.refuse(ctx, inbound, "there is an IKE_SA already, and unique = keep");
        }
        let first = std::mem::take(&mut self.first);
        let has = |kind| notify(&first, kind).is_some();
        let remote_id = self.peer.0.clone();
        let text = format!(
            "IKE_SA {}[{}] established between {}[{}]...{}[{remote_id}]",
            connection.name,
            self.core.id.0,
            self.core.local.ip(),
            self.own,
            self.core.remote.ip(),
        );
        self.core.event(ctx, Level::Info, "ike-established", text);
        let (child, leases) = self.answer_child(ctx, &connection, &first, &mut payloads);
        if connection.reauth_ms > 0 {
            let seconds = u32::try_from(connection.reauth_ms / 1000).unwrap_or(u32::MAX);
            let data = seconds.to_be_bytes().to_vec();
            payloads.push(Payload::Notify(Notify::new(NotifyType::AUTH_LIFETIME, data)));
        }
        let mobile = has(NotifyType::MOBIKE_SUPPORTED) && crate::mobike::is_offered(&connection);
        self.core.peer.mobike = mobile;
        if mobile {
            self.core.mobike.learn(&first);
            payloads.extend(crate::mobike::offer(ctx, self.core.local.ip()));
        }
        self.core.respond(ctx, inbound, &payloads);
        ctx.wishes.push(Wish::Unique {
            ike: self.core.id,
            local: self.own.clone(),
            remote: self.eap_peer.clone().unwrap_or_else(|| remote_id.clone()),
            initial_contact: has(NotifyType::INITIAL_CONTACT),
        });
        let params = Params {
            local_id: self.own,
            remote_id,
            remote_eap_id: self.eap_peer,
            child,
            wanted: Vec::new(),
            vips: Vec::new(),
            leases,
            auth_lifetime_s: None,
        };
        State::Established(Established::new(ctx, self.core, params))
    }

    /// The Child SA and the addresses that the first request asked for. What is refused is
    /// refused in the answer; the IKE SA stands all the same (section 1.2).
    fn answer_child(
        &self,
        ctx: &mut Context<'_>,
        connection: &Arc<ConnectionPolicy>,
        first: &[Payload],
        payloads: &mut Vec<Payload>,
    ) -> (Option<ChildSa>, Vec<IpAddr>) {
        let mut refuse = |ctx: &mut Context<'_>, kind: NotifyType, text: &str| {
            let text = format!("no CHILD_SA: {text}; answering {kind}");
            self.core.event(ctx, Level::Warning, "child-failed", text);
            payloads.push(status(kind));
        };
        let wants_child = child_payloads(first).is_some();
        if !wants_child && connection.childless == Childless::Never {
            refuse(ctx, NotifyType::INVALID_SYNTAX, "childless IKE_SAs are not allowed");
            return (None, Vec::new());
        }
        let requested = configuration::requested(first);
        let mut leases = Vec::new();
        if let (false, Some(requested)) = (connection.pools.is_empty(), &requested) {
            let owner = self.eap_peer.as_ref().unwrap_or(&self.peer.0);
            match configuration::lease(ctx, &connection.pools, owner, requested) {
                Ok(leased) => {
                    for address in &leased {
                        let text = format!("assigning virtual IP {address} to peer '{owner}'");
                        self.core.event(ctx, Level::Info, "lease", text);
                    }
                    leases = leased;
                }
                Err(why) => {
                    refuse(ctx, NotifyType::INTERNAL_ADDRESS_FAILURE, &why.to_string());
                    return (None, Vec::new());
                }
            }
        }
        if !wants_child {
            if !leases.is_empty() {
                payloads.push(configuration::reply(ctx, &connection.pools, &leases));
            }
            return (None, leases);
        }
        if !connection.pools.is_empty() && requested.is_none() {
            let text = "the connection gives addresses and the peer asks for none";
            refuse(ctx, NotifyType::FAILED_CP_REQUIRED, text);
            return (None, Vec::new());
        }
        if connection.childless == Childless::Force {
            refuse(ctx, NotifyType::NO_ADDITIONAL_SAS, "the first CHILD_SA must come later");
            return (None, leases);
        }
        let remote = if leases.is_empty() { vec![self.core.remote.ip()] } else { leases.clone() };
        let addresses = DynamicAddresses { local: vec![self.core.local.ip()], remote };
        let candidates = child::candidates(connection);
        let negotiated = child::answer(ctx, first, &candidates, &addresses, true, None);
        let (ni, nr) = (&self.handshake.ni, &self.handshake.nr);
        let secrets = ChildSecrets { shared: &[], ni, nr, initiator: false };
        let installed = negotiated.and_then(|negotiated| {
            let answer = negotiated.answer_payloads(Vec::new());
            negotiated.install(ctx, &self.core, &secrets, true).map(|child| (child, answer))
        });
        match installed {
            Ok((child, answer)) => {
                if !leases.is_empty() {
                    payloads.push(configuration::reply(ctx, &connection.pools, &leases));
                }
                payloads.extend(answer);
                (Some(child), leases)
            }
            Err(refusal) => {
                for address in leases.drain(..) {
                    ctx.pools.release(address);
                }
                refuse(ctx, refusal.kind, &refusal.text);
                (None, Vec::new())
            }
        }
    }

    /// When it is forgotten.
    pub(crate) fn deadline(&self) -> Option<Millis> {
        Some(self.until)
    }

    /// Forgets it if it is time.
    pub(crate) fn timer(self: Box<Self>, ctx: &mut Context<'_>) -> State {
        if self.until > ctx.millis() {
            return State::Authenticating(self);
        }
        if !self.is_over() {
            let text = "deleting half open IKE_SA after timeout";
            self.core.event(ctx, Level::Info, "ike-half-open-timeout", text);
        }
        State::Closed
    }

    /// Ends without an answer.
    pub(crate) fn abandon(self: Box<Self>, ctx: &mut Context<'_>, why: &str) {
        self.core.event(ctx, Level::Info, "ike-failed", format!("authentication ends: {why}"));
    }
}

fn status(kind: NotifyType) -> Payload {
    Payload::Notify(Notify::new(kind, Vec::new()))
}
