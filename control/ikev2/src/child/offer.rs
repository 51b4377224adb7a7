//! A Child SA that we ask for, and what becomes of the answer.

use super::*;

impl ChildOffer {
    /// An offer, with an SPI reserved for it. `None`: no SPI is to be had.
    ///
    /// `packet` is put before the selectors of both sides, so that a responder that can take
    /// only a part takes the right one (RFC 7296 section 2.9).
    pub(crate) fn new(
        ctx: &mut Context<'_>,
        policy: &Arc<ChildPolicy>,
        addresses: &DynamicAddresses,
        packet: Option<&[TrafficSelector; 2]>,
        without_ke: bool,
    ) -> Option<Self> {
        let spi_in = ctx.host.reserve_spi()?;
        let mut local_ts = resolve(&policy.local_ts, &addresses.local);
        let mut remote_ts = resolve(&policy.remote_ts, &addresses.remote);
        if local_ts.is_empty() {
            // A virtual address that is still to be assigned.
            local_ts = everything();
        }
        if remote_ts.is_empty() {
            remote_ts = everything();
        }
        if let Some([local, remote]) = packet {
            local_ts.insert(0, *local);
            remote_ts.insert(0, *remote);
        }
        let policy = Arc::clone(policy);
        Some(Self { policy, spi_in, replaces: None, without_ke, local_ts, remote_ts })
    }

    /// The offer that takes the place of a Child SA: the same selectors (RFC 7296 section
    /// 2.9.2).
    pub(crate) fn replacing(ctx: &mut Context<'_>, old: &ChildSa) -> Option<Self> {
        Some(Self {
            policy: Arc::clone(&old.policy),
            spi_in: ctx.host.reserve_spi()?,
            replaces: Some(old.id),
            without_ke: false,
            local_ts: old.local_ts.clone(),
            remote_ts: old.remote_ts.clone(),
        })
    }

    /// Key exchange methods that may be tried first: those of the first proposal.
    pub(crate) fn key_exchanges(&self) -> Vec<u16> {
        let transforms = self.policy.proposals.iter().flat_map(|proposal| &proposal.transforms);
        transforms.filter(|item| item.kind == kind::KE).map(|item| item.id).collect()
    }

    /// The payloads of the offer; nonce and key exchange go between SA and TSi.
    pub(crate) fn payloads(&self, between: Vec<Payload>) -> Vec<Payload> {
        let mut payloads = Vec::new();
        if self.policy.mode == ChildMode::Transport {
            payloads.push(Payload::Notify(Notify::new(NotifyType::USE_TRANSPORT_MODE, Vec::new())));
        }
        let spi = self.spi_in.to_be_bytes();
        let offer = proposal::offer(&self.policy.proposals, protocol::ESP, &spi, self.without_ke);
        payloads.push(Payload::Sa(SecurityAssociation { proposals: offer }));
        payloads.extend(between);
        payloads.push(Payload::TsI(self.local_ts.clone().into()));
        payloads.push(Payload::TsR(self.remote_ts.clone().into()));
        payloads
    }

    /// Gives the SPI back: there will be no Child SA.
    pub(crate) fn abandon(self, ctx: &mut Context<'_>) {
        ctx.host.release_spi(self.spi_in);
    }

    /// The peer's answer.
    ///
    /// # Errors
    /// With the offer, whose SPI is still reserved, and one line.
    pub(crate) fn accept(
        self,
        payloads: &[Payload],
    ) -> Result<NegotiatedChild, (Self, ChildRefusal)> {
        match self.check(payloads) {
            Ok((choice, suite, spi_out, mode, local_ts, remote_ts)) => Ok(NegotiatedChild {
                policy: self.policy,
                choice,
                suite,
                mode,
                spi_in: self.spi_in,
                spi_out,
                local_ts,
                remote_ts,
                no_tfc: notify(payloads, NotifyType::ESP_TFC_PADDING_NOT_SUPPORTED).is_some(),
                replaces: self.replaces,
                more_possible: false,
            }),
            Err(refusal) => Err((self, refusal)),
        }
    }

    #[expect(clippy::type_complexity, reason = "the parts of a NegotiatedChild, taken apart once")]
    fn check(
        &self,
        payloads: &[Payload],
    ) -> Result<
        (Choice, EspSuite, u32, ChildMode, Vec<TrafficSelector>, Vec<TrafficSelector>),
        ChildRefusal,
    > {
        let refuse = |kind, text: &str| ChildRefusal::new(kind, text);
        if let Some(error) = payloads.iter().find_map(|payload| match payload {
            Payload::Notify(notify) if notify.kind.is_error() => Some(notify.kind),
            _ => None,
        }) {
            return Err(refuse(error, &format!("the peer refuses the Child SA: {error}")));
        }
        let (sa, tsi, tsr) = child_payloads(payloads).ok_or_else(|| {
            refuse(NotifyType::INVALID_SYNTAX, "the answer has no SA, TSi and TSr")
        })?;
        let policies = &self.policy.proposals;
        let choice = proposal::check_answer(sa, policies, protocol::ESP, self.without_ke)
            .ok_or_else(|| {
                refuse(NotifyType::NO_PROPOSAL_CHOSEN, "the peer chose what was not offered")
            })?;
        let spi_out = esp_spi(&choice.spi)
            .ok_or_else(|| refuse(NotifyType::INVALID_SYNTAX, "the peer's SPI is none"))?;
        let suite = esp_suite(&choice)
            .ok_or_else(|| refuse(NotifyType::NO_PROPOSAL_CHOSEN, "the cipher is unknown"))?;
        if !is_narrowed(tsi, &self.local_ts) || !is_narrowed(tsr, &self.remote_ts) {
            let text = "the peer's selectors are not among those we proposed";
            return Err(refuse(NotifyType::TS_UNACCEPTABLE, text));
        }
        let transport = notify(payloads, NotifyType::USE_TRANSPORT_MODE).is_some();
        let wanted = self.policy.mode == ChildMode::Transport;
        if transport && !wanted {
            let text = "the peer wants transport mode, which was not offered";
            return Err(refuse(NotifyType::NO_PROPOSAL_CHOSEN, text));
        }
        if wanted && !transport {
            let text = "the peer does not agree to transport mode";
            return Err(refuse(NotifyType::NO_PROPOSAL_CHOSEN, text));
        }
        let mode = if transport { ChildMode::Transport } else { ChildMode::Tunnel };
        Ok((choice, suite, spi_out, mode, tsi.to_vec(), tsr.to_vec()))
    }
}
