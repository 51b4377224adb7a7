//! We prove ourselves with EAP (RFC 7296 section 2.16).

use super::*;

impl AuthRequested {
    pub(super) fn eap_client(
        &self,
        ctx: &Context<'_>,
        round: &LocalRound,
    ) -> Result<Client, String> {
        let identity = eap_name(round.eap_id.as_ref().unwrap_or(&self.own));
        let secret = ctx.configuration.secrets.eap_password(&identity);
        let password = secret.map(|secret| Password::from_text(secret.as_bytes()));
        let tls = round.eap_tls.clone().map(|credential| ClientTls {
            credential,
            now_unix_s: ctx.now.unix_s,
            fragment_bytes: xswan_eap::tls::DEFAULT_FRAGMENT_BYTES,
        });
        Client::new(ClientConfig { identity, password, tls }).map_err(|error| error.to_string())
    }

    pub(super) fn eap(
        &mut self,
        ctx: &mut Context<'_>,
        packet: &[u8],
    ) -> Result<Vec<Payload>, Failure> {
        let connection = Arc::clone(&self.core.connection);
        let tls = |method: &AuthMethod| matches!(method, AuthMethod::Eap(EapKind::Tls));
        let any = |method: &AuthMethod| matches!(method, AuthMethod::Eap(_));
        // TLS alone proves the gateway before anything of ours is told.
        let remote = connection.remote_rounds.first().is_some_and(|round| any(&round.method));
        let local = connection.local_rounds.get(self.local_round);
        let mutual = remote && local.is_some_and(|round| tls(&round.method));
        // Nothing of ours is told before the gateway is known, unless EAP makes it known.
        if self.proved.is_empty() && !mutual {
            return Err(Failure::told("EAP before the peer is authenticated".to_owned()));
        }
        let Stage::Eap(client) = &mut self.stage else {
            return Err(Failure::told("EAP without being asked for".to_owned()));
        };
        match client.handle(packet, ctx.host.random()) {
            ClientStep::Send(packet) => Ok(vec![eap_payload(packet)?]),
            ClientStep::Success { msk, chain } => {
                self.check_tls_peer(ctx, &chain, mutual).map_err(Failure::told)?;
                let text = "EAP method succeeded, MSK established";
                self.core.event(ctx, Level::Info, "eap-succeeded", text);
                let id = to_identification(&self.own);
                let (core, handshake) = (&self.core, &self.handshake);
                let auth = auth::prove_by_secret(core, &core.keys, handshake, &id, &msk);
                self.stage = Stage::EapProof(msk);
                let mut payloads = vec![Payload::Auth(auth)];
                if connection.local_rounds.len() > self.local_round + 1 {
                    payloads.push(status(NotifyType::ANOTHER_AUTH_FOLLOWS));
                }
                Ok(payloads)
            }
            ClientStep::Failure { reason, .. } => {
                Err(Failure::silent(format!("EAP failed: {reason}")))
            }
        }
    }

    /// EAP-TLS proves a certificate; it must be that of the identity we talk to.
    /// Where EAP is the peer's only proof (RFC 5998), there has to be one.
    fn check_tls_peer(
        &self,
        ctx: &Context<'_>,
        chain: &[Vec<u8>],
        only_proof: bool,
    ) -> Result<(), String> {
        match chain.first() {
            Some(_) => {}
            None if only_proof && self.proved.is_empty() => {
                return Err("the EAP method does not prove who the peer is".into());
            }
            None => return Ok(()),
        }
        let (identity, _) = self.peer.as_ref().ok_or("the peer has not said who it is")?;
        let round = self.core.connection.remote_rounds.first();
        let allowed = round.is_some_and(|round| round.id.matches(identity).is_some());
        let policy = round.map(|round| round.peer.clone()).unwrap_or_default();
        let certificate = auth::verify_tls_chain(ctx, &policy, chain)?;
        if allowed && certificate.matches_identity(identity) {
            Ok(())
        } else {
            Err(format!("the certificate of EAP-TLS is not that of '{identity}'"))
        }
    }
}

fn eap_payload(packet: Vec<u8>) -> Result<Payload, Failure> {
    let message = EapMessage::new(packet);
    message.map(Payload::Eap).map_err(|_| Failure::silent("EAP made a wrong packet".into()))
}
