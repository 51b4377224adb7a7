//! The peer proves itself with EAP (RFC 7296 section 2.16).

use super::*;

impl Authenticating {
    /// The peer sent no AUTH: it wants EAP.
    pub(super) fn start_eap(
        &mut self,
        ctx: &mut Context<'_>,
        inbound: &Inbound,
        remote: &RemoteRound,
    ) -> Result<Step, String> {
        let AuthMethod::Eap(kind) = &remote.method else {
            return Err("the peer wants EAP, which is not configured".into());
        };
        let method = match kind {
            EapKind::Tls => ServerMethod::Tls {
                credential: remote.eap_tls.clone().ok_or("EAP-TLS has no certificate")?,
                now_unix_s: ctx.now.unix_s,
                fragment_bytes: xswan_eap::tls::DEFAULT_FRAGMENT_BYTES,
            },
            EapKind::MschapV2 | EapKind::Any => {
                ServerMethod::MschapV2 { server_name: self.own.to_string() }
            }
        };
        let (ask_identity, identity) = match &remote.eap_id {
            Some(pattern) => match pattern.identity() {
                Some(identity) => (false, eap_name(identity)),
                None => (true, Vec::new()),
            },
            None => (false, eap_name(&self.peer.0)),
        };
        let mut server = Server::new(ServerConfig { method, ask_identity, identity });
        let packet = server.start(ctx.host.random()).map_err(|reason| reason.to_string())?;
        let only = notify(&inbound.payloads, NotifyType::EAP_ONLY_AUTHENTICATION).is_some();
        let local = self.core.connection.local_rounds.get(self.local_round);
        let local_eap = local.is_some_and(|round| matches!(round.method, AuthMethod::Eap(_)));
        let mut payloads = if self.remote_round > 0 {
            Vec::new()
        } else if local_eap {
            if !only || !matches!(kind, EapKind::Tls) {
                return Err("we are to prove ourselves by EAP, which the peer does not take".into());
            }
            self.eap_only = true;
            self.local_round += 1;
            vec![Payload::IdR(to_identification(&self.own))]
        } else {
            self.own_round(ctx, inbound)?
        };
        payloads.push(eap_payload(packet)?);
        self.stage = Stage::Eap(Box::new(server));
        Ok(Step::Answer(payloads))
    }

    pub(super) fn eap_step(
        &mut self,
        ctx: &mut Context<'_>,
        mut server: Box<Server>,
        packet: &[u8],
    ) -> Result<Step, String> {
        let mut host = Passwords { configuration: ctx.configuration, random: ctx.host.random() };
        match server.handle(packet, &mut host) {
            ServerStep::Send(packet) => {
                self.stage = Stage::Eap(server);
                Ok(Step::Answer(vec![eap_payload(packet)?]))
            }
            ServerStep::Success { packet, msk, peer } => {
                let remote = self.remote()?;
                let claimed = server.claimed_identity().to_vec();
                self.eap_peer = Some(self.check_eap_peer(ctx, &remote, &peer, &claimed)?);
                let text = "EAP method succeeded, MSK established";
                self.core.event(ctx, Level::Info, "eap-succeeded", text);
                self.stage = Stage::EapProof(msk);
                Ok(Step::Answer(vec![eap_payload(packet)?]))
            }
            ServerStep::Failure { packet, reason } => {
                // The failure goes into the answer instead of the notification.
                self.first = vec![eap_payload(packet)?];
                self.stage = Stage::Eap(server);
                Err(format!("EAP failed: {reason}"))
            }
        }
    }

    /// Whom EAP has proved must be whom the configuration allows, and with TLS whom IKE was
    /// told.
    pub(super) fn check_eap_peer(
        &self,
        ctx: &Context<'_>,
        remote: &RemoteRound,
        peer: &Peer,
        claimed: &[u8],
    ) -> Result<Identity, String> {
        match peer {
            Peer::User(user) => {
                let identity = Identity::parse(user).map_err(|error| error.to_string())?;
                let allowed = match &remote.eap_id {
                    Some(pattern) => pattern.matches(&identity).is_some(),
                    None => user.as_bytes() == claimed,
                };
                if allowed {
                    Ok(identity)
                } else {
                    Err(format!("user '{identity}' is not allowed"))
                }
            }
            Peer::Certificate { chain, .. } => {
                let certificate = auth::verify_tls_chain(ctx, &remote.peer, chain)?;
                let identity = match &remote.eap_id {
                    Some(pattern) => pattern.identity().cloned(),
                    None => None,
                };
                let identity = identity.unwrap_or_else(|| self.peer.0.clone());
                if certificate.matches_identity(&identity) {
                    Ok(identity)
                } else {
                    Err(format!("the certificate of EAP-TLS is not that of '{identity}'"))
                }
            }
        }
    }

    /// AUTH with the MSK, and ours with it.
    pub(super) fn eap_proof(
        &mut self,
        ctx: &mut Context<'_>,
        inbound: &Inbound,
        auth: &Authentication,
        msk: &Secret,
    ) -> Result<Step, String> {
        let peer = (&self.peer.0, &self.peer.1);
        let (core, handshake) = (&self.core, &self.handshake);
        let verified = auth::verify_by_secret(core, handshake, peer, auth, msk, "EAP")?;
        self.proved(ctx, verified);
        let id = to_identification(&self.own);
        let (core, handshake) = (&self.core, &self.handshake);
        let own = auth::prove_by_secret(core, &core.keys, handshake, &id, msk);
        self.check_more(inbound)?;
        Ok(self.complete_or_not(vec![Payload::Auth(own)]))
    }
}

/// What EAP asks of us.
struct Passwords<'a> {
    configuration: &'a crate::policy::Configuration,
    random: &'a mut dyn Random,
}

impl Random for Passwords<'_> {
    fn fill(&mut self, out: &mut [u8]) {
        self.random.fill(out);
    }
}

impl ServerHost for Passwords<'_> {
    fn password(&self, user: &str) -> Option<Password> {
        let secrets = &self.configuration.secrets;
        let password = secrets.eap_password(user.as_bytes())?;
        Some(Password::from_text(password.as_bytes()))
    }
}

fn eap_payload(packet: Vec<u8>) -> Result<Payload, String> {
    EapMessage::new(packet).map(Payload::Eap).map_err(|error| error.to_string())
}
