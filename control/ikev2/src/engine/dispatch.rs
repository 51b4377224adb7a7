//! From a datagram to the state it belongs to.

use super::*;

impl Engine {
    pub(super) fn datagram(
        &mut self,
        now: Now,
        host: &mut dyn Host,
        local: SocketAddr,
        remote: SocketAddr,
        octets: Vec<u8>,
    ) {
        self.statistics.datagrams_in += 1;
        let parsed = match wire::parse_datagram(&octets) {
            Ok(parsed) => parsed,
            Err(error) => {
                self.malformed(now, &octets, local, remote, error);
                return;
            }
        };
        let header = parsed.header;
        if header.exchange == ExchangeType::IKE_SA_INIT {
            if header.flags.response {
                self.init_response(now, host, parsed, octets, local, remote);
            } else {
                self.init_request(now, host, parsed, &octets, local, remote);
            }
            return;
        }
        // The sender's Initiator flag says which SPI is ours (RFC 7296 section 3.1).
        let own = if header.flags.initiator { header.spi_r } else { header.spi_i };
        let peer = if header.flags.initiator { header.spi_i } else { header.spi_r };
        let Some(id) = self.index.by_spi(own) else {
            self.statistics.unknown_spi += 1;
            let (kind, initiator) = (NotifyType::INVALID_IKE_SPI, !header.flags.initiator);
            self.hint(now, &header, initiator, kind, local, remote);
            return;
        };
        let core = self.sas.get(&id).and_then(State::core);
        let matches = core.is_some_and(|core| {
            let peer_spi = if core.initiator { core.spi_r } else { core.spi_i };
            // A message with our own role in it is a reflection of ours (AUT-11).
            peer_spi == peer && core.initiator != header.flags.initiator
        });
        if !matches {
            self.statistics.unknown_spi += 1;
            return;
        }
        self.protected(now, host, id, &parsed, octets, local, remote);
    }

    /// Says what is wrong with the version, and nothing about the rest (RFC 7296 section 2.5).
    fn malformed(
        &mut self,
        now: Now,
        octets: &[u8],
        local: SocketAddr,
        remote: SocketAddr,
        error: WireError,
    ) {
        self.statistics.malformed += 1;
        let (WireError::MajorVersion(_), Ok(header)) = (error, Header::read(octets)) else {
            return;
        };
        if octets.len() == header.length as usize {
            self.hint(now, &header, false, NotifyType::INVALID_MAJOR_VERSION, local, remote);
        }
    }

    /// An unprotected hint, which nobody acts on without proof (section 2.21.4): rate-limited,
    /// only to requests, and not larger than they are.
    fn hint(
        &mut self,
        now: Now,
        header: &Header,
        initiator: bool,
        kind: NotifyType,
        local: SocketAddr,
        remote: SocketAddr,
    ) {
        if header.flags.response {
            return;
        }
        if !self.may_reply(now, remote) {
            return;
        }
        let flags = Flags { initiator, version: false, response: true };
        let came = header.length;
        let header =
            Header::new(header.spi_i, header.spi_r, header.exchange, flags, header.message_id);
        let notify = Payload::Notify(Notify::new(kind, Vec::new()));
        let octets = emit(&Message { header, payloads: vec![notify] });
        self.send_unproved(local, remote, octets, came as usize);
    }

    /// Whether another unprotected error may go there in this second.
    pub(super) fn may_reply(&mut self, now: Now, remote: SocketAddr) -> bool {
        let may = self.replies.take(now.monotonic, remote.ip(), 1, REPLIES);
        self.statistics.suppressed_answers += u64::from(!may);
        may
    }

    /// Sends to an address that nobody has proved to be at: no more octets than came from there.
    pub(super) fn send_unproved(
        &mut self,
        local: SocketAddr,
        remote: SocketAddr,
        octets: Vec<u8>,
        came: usize,
    ) {
        if octets.len() <= came {
            self.actions.push_back(Action::Send { local, remote, octets });
        }
    }

    fn init_response(
        &mut self,
        now: Now,
        host: &mut dyn Host,
        parsed: Datagram,
        octets: Vec<u8>,
        local: SocketAddr,
        remote: SocketAddr,
    ) {
        let header = parsed.header;
        let id = self.index.by_spi(header.spi_i);
        let waiting = id.filter(|id| match self.sas.get(id) {
            // Only from where the request went (RFC 7296 section 2.11).
            Some(State::InitRequested(state)) => {
                state.remote == remote && !header.flags.initiator && header.message_id == 0
            }
            _ => false,
        });
        let (Some(id), None) = (waiting, &parsed.encrypted) else {
            self.statistics.unexpected += 1;
            return;
        };
        let message = Message { header, payloads: parsed.clear };
        self.with_sa(now, host, id, |state, ctx| match state {
            State::InitRequested(state) => state.answer(ctx, message, octets, (local, remote)),
            other => other,
        });
    }

    #[expect(clippy::too_many_arguments, reason = "a datagram with all that is known of it")]
    fn protected(
        &mut self,
        now: Now,
        host: &mut dyn Host,
        id: IkeId,
        parsed: &Datagram,
        octets: Vec<u8>,
        local: SocketAddr,
        remote: SocketAddr,
    ) {
        let Some(state) = self.sas.get_mut(&id) else { return };
        let Some(core) = state.core_mut() else { return };
        let header = parsed.header;
        let Some(encrypted) = &parsed.encrypted else {
            self.statistics.unprotected += 1;
            // From where the peer is, it may be true: we ask it, under protection.
            if header.flags.response && remote == core.remote && denies(&parsed.clear) {
                self.with_sa(now, host, id, State::doubted);
            }
            return;
        };
        if header.flags.response {
            if !core.requests.answers(header.message_id) {
                self.statistics.outside_window += 1;
                return;
            }
        } else {
            match core.responses.standing(header.message_id, &octets) {
                Standing::New => {}
                Standing::Again(datagrams) => {
                    self.statistics.retransmitted_answers += 1;
                    for octets in datagrams {
                        self.actions.push_back(Action::Send { local, remote, octets });
                    }
                    return;
                }
                Standing::Outside => {
                    self.statistics.outside_window += 1;
                    return;
                }
            }
        }
        let (Some(aad), Some(body)) =
            (octets.get(encrypted.aad.clone()), octets.get(encrypted.body.clone()))
        else {
            return;
        };
        let Ok(plaintext) = core.inbound.open(aad, body) else {
            self.statistics.integrity += 1;
            return;
        };
        let (first, plaintext, octets) = match encrypted.protection {
            Protection::Sk => (encrypted.inner_first, plaintext, octets),
            Protection::Skf { fragment, total } => {
                let fragments = if header.flags.response {
                    &mut core.response_fragments
                } else {
                    &mut core.request_fragments
                };
                let (id, first) = (header.message_id, encrypted.inner_first);
                let whole = fragments.insert(id, (fragment, total), first, plaintext, octets);
                let Some(whole) = whole else { return };
                whole
            }
        };
        self.complete(now, host, id, header, first, plaintext, octets, local, remote);
    }

    #[expect(clippy::too_many_arguments, reason = "a message with all that is known of it")]
    fn complete(
        &mut self,
        now: Now,
        host: &mut dyn Host,
        id: IkeId,
        header: Header,
        first: PayloadType,
        plaintext: Vec<u8>,
        octets: Vec<u8>,
        local: SocketAddr,
        remote: SocketAddr,
    ) {
        self.statistics.messages_in += 1;
        let payloads = wire::parse_chain(first, &plaintext);
        self.with_sa(now, host, id, |state, ctx| {
            receive(state, ctx, header, first, payloads, plaintext, octets, (local, remote))
        });
    }
}

/// Somebody says that there is no such IKE SA.
fn denies(payloads: &[Payload]) -> bool {
    notify(payloads, NotifyType::INVALID_IKE_SPI).is_some()
}

/// An authenticated message, complete: what concerns every state, then the state's own.
#[expect(clippy::too_many_arguments, reason = "a message with all that is known of it")]
fn receive(
    mut state: State,
    ctx: &mut Context<'_>,
    header: Header,
    first: PayloadType,
    payloads: Result<Vec<Payload>, WireError>,
    plaintext: Vec<u8>,
    octets: Vec<u8>,
    (local, remote): (SocketAddr, SocketAddr),
) -> State {
    let established = state.is_established();
    let Some(core) = state.core_mut() else { return state };
    core.last_inbound = ctx.now.monotonic;
    if !established {
        // The initiator goes to port 4500 with its second message (RFC 7296 section 2.23).
        (core.local, core.remote) = (local, remote);
    }
    let mut inbound =
        Inbound { header, payloads: Vec::new(), first, plaintext, octets, local, remote };
    let refusal = match payloads {
        Ok(payloads) => {
            inbound.payloads = payloads;
            wire::first_unknown_critical(&inbound.payloads)
                .map(|kind| Notify::new(NotifyType::UNSUPPORTED_CRITICAL_PAYLOAD, vec![kind.0]))
        }
        Err(_) => Some(Notify::new(NotifyType::INVALID_SYNTAX, Vec::new())),
    };
    core.trace_inbound(ctx, &inbound);
    let Some(refusal) = refusal else {
        if inbound.header.flags.response {
            core.requests.answered();
            return state.response(ctx, inbound);
        }
        return state.request(ctx, inbound);
    };
    let text = format!("a message that cannot be read: {}", refusal.kind);
    core.event(ctx, Level::Warning, "message-refused", text);
    let fatal = refusal.kind == NotifyType::INVALID_SYNTAX;
    if !inbound.header.flags.response {
        core.respond(ctx, &inbound, &[Payload::Notify(refusal)]);
    } else if fatal {
        core.requests.answered();
    } else {
        return state;
    }
    // A peer that is authenticated and sends nonsense is broken (section 2.21.2).
    if fatal {
        state.abandon(ctx, "a message that cannot be read");
        return State::Closed;
    }
    state
}
