//! From a datagram to the state it belongs to.

use super::*;

/// Key exchanges of this part of the budget without a proof: everybody has to show a cookie.
const STRAINED_PART: u32 = 4;
/// Half-open IKE SAs of this part of what there is room for: they are kept for a shorter time.
const CROWDED_PART: u32 = 4;
/// By how much shorter.
const CROWDED_RETENTION_PART: u64 = 6;

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
    fn may_reply(&mut self, now: Now, remote: SocketAddr) -> bool {
        let may = self.replies.take(now.monotonic, remote.ip(), 1, REPLIES);
        self.statistics.suppressed_answers += u64::from(!may);
        may
    }

    /// Sends to an address that nobody has proved to be at: no more octets than came from there.
    fn send_unproved(
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

    fn init_request(
        &mut self,
        now: Now,
        host: &mut dyn Host,
        parsed: Datagram,
        octets: &[u8],
        local: SocketAddr,
        remote: SocketAddr,
    ) {
        let header = parsed.header;
        let proper = header.flags.initiator && header.message_id == 0 && header.spi_r == 0;
        if !proper || parsed.encrypted.is_some() {
            self.statistics.unexpected += 1;
            return;
        }
        // Of a flood nothing is known: only what may be a repetition is worth a digest.
        if self.half_open_by_spi.contains_key(&(remote.ip(), header.spi_i)) {
            let digest = init_digest(octets, remote);
            if let Some(id) = self.by_init.get(&digest).copied() {
                self.repeated_init(now, host, id, (&parsed, octets), local, remote);
                return;
            }
            if let Some(id) = self.joins_half_open(&parsed, octets, digest, remote) {
                if let Some(State::HalfOpen(state)) = self.sas.get(&id) {
                    let octets = state.handshake.init_response.clone();
                    self.actions.push_back(Action::Send { local, remote, octets });
                }
                return;
            }
        }
        if self.sas.len() >= self.configuration.settings.max_ike_sas as usize
            || self.half_open >= self.half_open_room()
        {
            self.statistics.refused_half_open += 1;
            return;
        }
        let message = Message { header, payloads: parsed.clear };
        let Some(answer) = self.init_answer(now, host, &message, octets, local, remote) else {
            return;
        };
        let octets_of_request = octets;
        let came = octets.len();
        match answer {
            Answer::Silence => {}
            Answer::Busy => self.statistics.refused_key_exchange += 1,
            Answer::Stateless(octets) => {
                self.statistics.stateless_answers += 1;
                self.send_unproved(local, remote, octets, came);
            }
            Answer::Refusal(octets) => {
                if self.may_reply(now, remote) {
                    self.statistics.stateless_answers += 1;
                    self.send_unproved(local, remote, octets, came);
                }
            }
            Answer::HalfOpen(state) => {
                let (id, digest) = (state.core.id, init_digest(octets_of_request, remote));
                let octets = state.handshake.init_response.clone();
                self.half_open += 1;
                *self.half_open_by_address.entry(remote.ip()).or_default() += 1;
                let spi_i = header.spi_i;
                self.half_open_from.insert(id, (remote.ip(), vec![digest], spi_i));
                self.half_open_by_spi.insert((remote.ip(), spi_i), id);
                self.by_init.insert(digest, id);
                self.put_back(id, State::HalfOpen(state));
                self.actions.push_back(Action::Send { local, remote, octets });
            }
        }
    }

    /// The answer to a first message that is no repetition, with what we can afford right now.
    fn init_answer(
        &mut self,
        now: Now,
        host: &mut dyn Host,
        message: &Message,
        octets: &[u8],
        local: SocketAddr,
        remote: SocketAddr,
    ) -> Option<Answer> {
        self.rotate_cookies(now, host);
        let cookie_required = self.cookie_required(now, remote.ip());
        let retention_ms = self.half_open_retention_ms();
        let limits = Limits::of_key_exchanges(self.configuration.settings.init_key_exchanges_per_s);
        let cookies = self.cookies.take()?;
        let mut key_exchanges = std::mem::take(&mut self.key_exchanges);
        let answer = self.with_context(now, host, |ctx| {
            let id = ctx.next_ike();
            let key_exchanges = &mut key_exchanges;
            let cookies = &cookies;
            let mut gate = Gate { cookies, cookie_required, retention_ms, key_exchanges, limits };
            ike_sa_init::answer(ctx, &mut gate, id, message, octets, (local, remote))
        });
        self.cookies = Some(cookies);
        self.key_exchanges = key_exchanges;
        Some(answer)
    }

    /// Half-open IKE SAs that there may be.
    fn half_open_room(&self) -> u32 {
        let settings = &self.configuration.settings;
        match settings.init_limit_half_open {
            0 => settings.max_ike_sas,
            limit => limit.min(settings.max_ike_sas),
        }
    }

    /// How long a half-open IKE SA that is made now is kept: shorter when there are many, so
    /// that who goes silent after a valid cookie does not fill the table (RFC 8019 section 4.2).
    fn half_open_retention_ms(&self) -> u64 {
        let whole = self.configuration.settings.half_open_timeout_ms;
        let crowded = self.half_open > self.half_open_room() / CROWDED_PART;
        if crowded { whole / CROWDED_RETENTION_PART } else { whole }
    }

    /// The very same request again: the same answer, unless cookies have come to be required
    /// since, of which its first copy had none.
    fn repeated_init(
        &mut self,
        now: Now,
        host: &mut dyn Host,
        id: IkeId,
        (parsed, octets): (&Datagram, &[u8]),
        local: SocketAddr,
        remote: SocketAddr,
    ) {
        let required = self.cookie_required(now, remote.ip());
        self.rotate_cookies(now, host);
        let Some(State::HalfOpen(state)) = self.sas.get_mut(&id) else { return };
        let mut answer = state.handshake.init_response.clone();
        if !state.verified
            && required
            && let Some(cookies) = &self.cookies
        {
            let spi_i = parsed.header.spi_i;
            let claim = Claim { address: remote.ip(), spi_i, nonce: &state.handshake.ni };
            let cookie = cookies.make(&claim).to_vec();
            // The peer signs its last request. It may get the answer to the first one, and go on
            // before the one with the cookie is here.
            let with_cookie = ike_sa_init::with_cookie(octets, &cookie);
            state.handshake.init_request_before = Some(with_cookie);
            let cookie = Notify::new(NotifyType::COOKIE, cookie);
            answer = ike_sa_init::stateless(&parsed.header, cookie);
        }
        self.actions.push_back(Action::Send { local, remote, octets: answer });
    }

    /// The request of a half-open SA, now with a cookie: it goes on with that SA.
    fn joins_half_open(
        &mut self,
        parsed: &Datagram,
        octets: &[u8],
        digest: [u8; 32],
        remote: SocketAddr,
    ) -> Option<IkeId> {
        let cookie = notify(&parsed.clear, NotifyType::COOKIE)?;
        let spi_i = parsed.header.spi_i;
        let id = self.half_open_by_spi.get(&(remote.ip(), spi_i)).copied()?;
        let Some(State::HalfOpen(state)) = self.sas.get_mut(&id) else { return None };
        let claim = Claim { address: remote.ip(), spi_i, nonce: &state.handshake.ni };
        let shown = self.cookies.as_ref().is_some_and(|own| own.verify(&claim, &cookie.data));
        if !shown || !state.take_with_cookie(&parsed.clear, octets) {
            return None;
        }
        self.by_init.insert(digest, id);
        if let Some((_, digests, _)) = self.half_open_from.get_mut(&id) {
            digests.push(digest);
        }
        Some(id)
    }

    /// Whether an address has to prove that it receives. More half-open IKE SAs than
    /// `block_threshold` are a reason for that, too, and none to lock the address out: there
    /// may be a NAT with thousands behind it.
    fn cookie_required(&mut self, now: Now, address: IpAddr) -> bool {
        let settings = &self.configuration.settings;
        let here = self.half_open_by_address.get(&address).copied().unwrap_or(0);
        let over = |count: u32, threshold: u32| threshold > 0 && count >= threshold;
        let strained = settings.init_key_exchanges_per_s / STRAINED_PART;
        let cookies = settings.cookie_threshold > 0;
        over(self.half_open, settings.cookie_threshold)
            || over(here, settings.cookie_threshold_ip)
            || over(here, settings.block_threshold)
            || (cookies && over(self.key_exchanges.spent(now.monotonic), strained))
    }

    fn rotate_cookies(&mut self, now: Now, host: &mut dyn Host) {
        let mut secret = [0; 32];
        match &mut self.cookies {
            Some(cookies) if now.monotonic.since(self.cookies_since) >= COOKIE_SECRET_MS => {
                host.random().fill(&mut secret);
                cookies.rotate(secret);
                self.cookies_since = now.monotonic;
            }
            Some(_) => {}
            None => {
                host.random().fill(&mut secret);
                self.cookies = Some(Cookies::new(secret));
                self.cookies_since = now.monotonic;
            }
        }
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
            let hint = header.flags.response
                && remote == core.remote
                && notify(&parsed.clear, NotifyType::INVALID_IKE_SPI).is_some();
            if hint {
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

/// What a repetition of a first message has in common with it: all octets and where it is from.
fn init_digest(octets: &[u8], remote: SocketAddr) -> [u8; 32] {
    sha256(&[octets, remote.to_string().as_bytes()])
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
