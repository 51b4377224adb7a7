//! Post-quantum pre-shared keys (RFC 8784), as the initiator offers them.

use super::*;

/// PPK_ID_FIXED (RFC 8784 section 5.1).
const PPK_ID_FIXED: u8 = 2;

impl AuthRequested {
    /// PPK_IDENTITY, and NO_PPK_AUTH unless a PPK is demanded (RFC 8784 section 4.2).
    pub(super) fn mix_ppk(&mut self, ctx: &Context<'_>) -> Result<Vec<Payload>, String> {
        let connection = Arc::clone(&self.core.connection);
        let Some(id) = connection.ppk_id.as_ref() else { return Ok(Vec::new()) };
        if !self.handshake.ppk {
            let required = connection.ppk_required;
            return if required { Err("the peer has no PPK".into()) } else { Ok(Vec::new()) };
        }
        let mut payloads = Vec::new();
        let plain = self.core.keys.clone();
        let mut data = vec![PPK_ID_FIXED];
        data.extend_from_slice(&eap_name(id));
        payloads.push(Payload::Notify(Notify::new(NotifyType::PPK_IDENTITY, data)));
        if !connection.ppk_required {
            let round = connection.local_rounds.first().ok_or("no local authentication")?;
            if !matches!(round.method, AuthMethod::Eap(_)) {
                let peer = self.expected_peer();
                let ids = (&self.own, peer.as_ref());
                let (_, auth) = auth::prove(ctx, &self.core, &plain, &self.handshake, round, ids)?;
                payloads.push(Payload::Notify(Notify::new(NotifyType::NO_PPK_AUTH, auth.data)));
            }
            self.without_ppk = Some(plain);
        }
        with_ppk(ctx.configuration, &mut self.core, &eap_name(id))?;
        Ok(payloads)
    }
}
