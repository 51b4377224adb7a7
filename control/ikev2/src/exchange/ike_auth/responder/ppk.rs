//! Post-quantum pre-shared keys (RFC 8784), as the responder takes them.

use super::*;

/// What became of the PPK.
pub(super) enum Ppk {
    /// There is none in this exchange.
    None,
    /// It is mixed in.
    Used,
    /// We do not have it; this is the AUTH without it.
    Refused(Vec<u8>),
}

impl Authenticating {
    /// The PPK that the peer names (RFC 8784 section 4.2), before its AUTH is looked at.
    pub(super) fn mix_ppk(
        &mut self,
        ctx: &mut Context<'_>,
        inbound: &Inbound,
    ) -> Result<Ppk, String> {
        if self.remote_round > 0 {
            return Ok(Ppk::None);
        }
        let required = self.core.connection.ppk_required;
        let named = notify(&inbound.payloads, NotifyType::PPK_IDENTITY);
        let id = named.filter(|_| self.handshake.ppk).and_then(|notify| notify.data.get(1..));
        let known = id.is_some_and(|id| ctx.configuration.secrets.ppk(id).is_some());
        if let (Some(id), true) = (id, known)
            && with_ppk(ctx.configuration, &mut self.core, id).is_ok()
        {
            let name = String::from_utf8_lossy(id).escape_debug().to_string();
            self.core.event(ctx, Level::Info, "ppk-used", format!("using PPK for PPK_ID '{name}'"));
            return Ok(Ppk::Used);
        }
        if required {
            return Err("a PPK is required, and the peer names none that we have".into());
        }
        let plain = notify(&inbound.payloads, NotifyType::NO_PPK_AUTH);
        match (id, plain) {
            (Some(_), Some(plain)) => Ok(Ppk::Refused(plain.data.clone())),
            (Some(_), None) => Err("the peer demands a PPK that we do not have".into()),
            (None, _) => Ok(Ppk::None),
        }
    }
}
