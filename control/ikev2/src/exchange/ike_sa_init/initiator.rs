//! The initiator's side of IKE_SA_INIT.

use super::*;
/// We sent IKE_SA_INIT.
#[derive(Debug)]
pub(crate) struct InitRequested {
    pub(crate) id: IkeId,
    pub(crate) connection: Arc<ConnectionPolicy>,
    pub(crate) local: SocketAddr,
    pub(crate) remote: SocketAddr,
    pub(crate) spi_i: u64,
    pub(crate) goal: Goal,
    nonce: Vec<u8>,
    group: u16,
    key_exchange: KeyExchange,
    public: Vec<u8>,
    cookie: Option<Vec<u8>>,
    request: Vec<u8>,
    requests: Requests,
    restarts: u32,
    tries: u32,
    /// The last answer that was no use, for the log.
    last_error: Option<String>,
}

fn first_key_exchange(connection: &ConnectionPolicy) -> Option<u16> {
    let transforms = connection.proposals.iter().flat_map(|proposal| &proposal.transforms);
    transforms.filter(|item| item.kind == kind::KE).map(|item| item.id).next()
}

fn allows_key_exchange(connection: &ConnectionPolicy, group: u16) -> bool {
    let mut transforms = connection.proposals.iter().flat_map(|proposal| &proposal.transforms);
    transforms.any(|item| item.kind == kind::KE && item.id == group)
}

fn has_additional(connection: &ConnectionPolicy) -> bool {
    let kinds = kind::ADDKE1..=kind::ADDKE7;
    let mut transforms = connection.proposals.iter().flat_map(|proposal| &proposal.transforms);
    transforms.any(|item| kinds.contains(&item.kind))
}

/// Where an initiator sends from and to.
fn endpoints(
    ctx: &mut Context<'_>,
    connection: &ConnectionPolicy,
) -> Result<(SocketAddr, SocketAddr), String> {
    let remotes = connection.remote_addresses.iter().filter_map(AddressPattern::single);
    for remote in remotes {
        let mut own = connection.local_addresses.iter().filter_map(AddressPattern::single);
        let local = own
            .find(|local| local.is_ipv4() == remote.is_ipv4())
            .or_else(|| ctx.host.local_address(remote));
        if let Some(local) = local {
            let local = SocketAddr::new(local, connection.local_port);
            return Ok((local, SocketAddr::new(remote, connection.remote_port)));
        }
    }
    Err(format!("{}: remote_addrs has no address to start with", connection.name))
}

/// Starts an IKE SA.
///
/// # Errors
/// One line: nothing was sent.
pub(crate) fn initiate(
    ctx: &mut Context<'_>,
    id: IkeId,
    connection: Arc<ConnectionPolicy>,
    goal: Goal,
) -> Result<InitRequested, String> {
    let (local, remote) = endpoints(ctx, &connection)?;
    let group = first_key_exchange(&connection).ok_or("no key exchange is configured")?;
    let (key_exchange, public) = generate(ctx, group)?;
    let nonce = ctx.random_octets(NONCE_LEN);
    let spi_i = ctx.ike_spi();
    let mut state = InitRequested {
        id,
        connection,
        local,
        remote,
        spi_i,
        goal,
        nonce,
        group,
        key_exchange,
        public,
        cookie: None,
        request: Vec::new(),
        requests: Requests::default(),
        restarts: 0,
        tries: 1,
        last_error: None,
    };
    let name = state.connection.name.clone();
    state.event(ctx, Level::Info, "initiating", format!("initiating IKE_SA {name} to {remote}"));
    state.transmit(ctx);
    Ok(state)
}

fn generate(ctx: &mut Context<'_>, group: u16) -> Result<(KeyExchange, Vec<u8>), String> {
    let method = Group::from_transform_id(group)
        .ok_or_else(|| format!("key exchange method {group} is not known"))?;
    KeyExchange::generate(method, ctx.random()).map_err(|error| error.to_string())
}

impl InitRequested {
    fn event(&self, ctx: &mut Context<'_>, level: Level, name: &'static str, text: String) {
        ctx.act(crate::action::Action::Event(Event {
            level,
            name,
            connection: Some(self.connection.name.clone()),
            ike: Some(self.id),
            child: None,
            remote: Some(self.remote),
            text,
        }));
    }

    fn payloads(&self) -> Vec<Payload> {
        let mut payloads = Vec::new();
        // The cookie goes first (section 2.6).
        if let Some(cookie) = &self.cookie {
            payloads.push(Payload::Notify(Notify::new(NotifyType::COOKIE, cookie.clone())));
        }
        let offer = proposal::offer(&self.connection.proposals, protocol::IKE, &[], false);
        payloads.push(Payload::Sa(SecurityAssociation { proposals: offer }));
        let data = self.public.clone();
        payloads.push(Payload::Ke(KeyExchangeData { method: self.group, data }));
        payloads.push(Payload::Nonce(Nonce(self.nonce.clone())));
        let addresses = (self.local, self.remote);
        payloads.extend(nat_detection(&self.connection, (self.spi_i, 0), addresses));
        payloads.extend(features(&self.connection));
        if has_additional(&self.connection) {
            payloads.push(status(NotifyType::INTERMEDIATE_EXCHANGE_SUPPORTED));
        }
        if self.connection.ppk_id.is_some() {
            payloads.push(status(NotifyType::USE_PPK));
        }
        // Behind everything else, and as long as what an answer adds to a request: a peer that
        // sends no more than it got can answer completely at once.
        payloads.push(Payload::Vendor(VendorId(vendor_id())));
        payloads
    }

    /// Sends the request as it is now, as a new message.
    fn transmit(&mut self, ctx: &mut Context<'_>) {
        let flags = Flags { initiator: true, version: false, response: false };
        let header = Header::new(self.spi_i, 0, ExchangeType::IKE_SA_INIT, flags, 0);
        let payloads = self.payloads();
        let message = Message { header, payloads };
        if ctx.settings().trace_messages {
            self.event(ctx, Level::Debug, "message", format!("generating {message}"));
        }
        self.request = emit(&message);
        self.requests.start_over();
        let datagrams = vec![self.request.clone()];
        ctx.send(self.local, self.remote, &datagrams);
        let now = ctx.millis();
        self.requests.sent(datagrams, &ctx.configuration.settings, now);
    }

    /// When the request is repeated.
    pub(crate) fn deadline(&self) -> Option<Millis> {
        self.requests.deadline()
    }

    /// Repeats the request, starts over, or gives up.
    pub(crate) fn timer(mut self: Box<Self>, ctx: &mut Context<'_>) -> State {
        match self.requests.poll(&ctx.configuration.settings, ctx.now.monotonic) {
            Due::Nothing => State::InitRequested(self),
            Due::Retransmit(datagrams) => {
                ctx.statistics.retransmitted_requests += 1;
                ctx.send(self.local, self.remote, &datagrams);
                State::InitRequested(self)
            }
            Due::Dead => {
                let endless = self.connection.keying_tries == 0;
                let waited_for = self.goal.request.is_some() || !self.goal.waiting.is_empty();
                if self.last_error.is_none()
                    && !waited_for
                    && (endless || self.tries < self.connection.keying_tries)
                {
                    self.tries += 1;
                    let text = format!("peer not responding, trying again ({})", self.tries);
                    self.event(ctx, Level::Warning, "initiating", text);
                    self.transmit(ctx);
                    return State::InitRequested(self);
                }
                let why = self.last_error.take().unwrap_or_else(|| "peer not responding".into());
                self.abandon(ctx, &why);
                State::Closed
            }
        }
    }

    /// Gives up, and tells who waits.
    pub(crate) fn abandon(self: Box<Self>, ctx: &mut Context<'_>, why: &str) {
        let text = format!("establishing IKE_SA failed: {why}");
        self.event(ctx, Level::Warning, "ike-failed", text);
        fail(ctx, &self.connection, self.goal, why);
    }

    /// An answer to the request, in clear.
    pub(crate) fn answer(
        mut self: Box<Self>,
        ctx: &mut Context<'_>,
        message: Message,
        octets: Vec<u8>,
        endpoints: (SocketAddr, SocketAddr),
    ) -> State {
        if ctx.settings().trace_messages {
            self.event(ctx, Level::Debug, "message", format!("parsed {message}"));
        }
        if first_unknown_critical(&message.payloads).is_some() {
            return State::InitRequested(self);
        }
        if let Some(again) = self.restart(ctx, &message) {
            if again {
                self.restarts += 1;
                self.transmit(ctx);
            }
            return State::InitRequested(self);
        }
        let error = message.payloads.iter().find_map(|payload| match payload {
            Payload::Notify(notify) if notify.kind.is_error() => Some(notify.kind),
            _ => None,
        });
        if let Some(kind) = error {
            let text = format!("the peer refuses IKE_SA_INIT: {kind}");
            self.event(ctx, Level::Warning, "ike-refused", text.clone());
            self.last_error = Some(text);
            return self.refused(ctx, kind);
        }
        match self.keys(ctx, &message, octets, endpoints) {
            Ok((core, handshake, goal)) => {
                if handshake.additional.is_empty() {
                    ike_auth::start(ctx, core, handshake, goal)
                } else {
                    ike_intermediate::start(ctx, core, handshake, goal)
                }
            }
            Err((state, why)) => {
                let mut state = state;
                state.event(ctx, Level::Warning, "ike-refused", why.clone());
                state.last_error = Some(why);
                State::InitRequested(state)
            }
        }
    }

    /// A refusal may be forged, but an operator who waits wants to hear it, and with nothing
    /// else to try there is no use in repeating the request that was refused.
    fn refused(self: Box<Self>, ctx: &mut Context<'_>, kind: NotifyType) -> State {
        if kind == NotifyType::NO_PROPOSAL_CHOSEN && self.requests.transmissions() > 1 {
            let why = format!("the peer refuses IKE_SA_INIT: {kind}");
            self.abandon(ctx, &why);
            return State::Closed;
        }
        State::InitRequested(self)
    }

    /// A cookie, or another key exchange. `Some(false)`: more of it than an honest peer wants.
    fn restart(&mut self, ctx: &mut Context<'_>, message: &Message) -> Option<bool> {
        let allowed = self.restarts < MAX_RESTARTS;
        if let Some(cookie) = notify(&message.payloads, NotifyType::COOKIE) {
            let usable = (1..=64).contains(&cookie.data.len());
            if allowed && usable {
                self.cookie = Some(cookie.data.clone());
            }
            return Some(allowed && usable);
        }
        let wanted = notify(&message.payloads, NotifyType::INVALID_KE_PAYLOAD)?;
        let group = <[u8; 2]>::try_from(wanted.data.as_slice()).ok().map(u16::from_be_bytes);
        let group = group
            .filter(|group| *group != self.group && allows_key_exchange(&self.connection, *group));
        let Some(group) = group.filter(|_| allowed) else { return Some(false) };
        let Ok((key_exchange, public)) = generate(ctx, group) else { return Some(false) };
        (self.group, self.key_exchange, self.public) = (group, key_exchange, public);
        Some(true)
    }

    fn keys(
        mut self: Box<Self>,
        ctx: &mut Context<'_>,
        message: &Message,
        octets: Vec<u8>,
        (local, remote): (SocketAddr, SocketAddr),
    ) -> Result<(SaCore, Handshake, Goal), (Box<Self>, String)> {
        let parsed = InitPayloads::read(&message.payloads);
        let Some(parsed) = parsed.filter(|_| message.header.spi_r != 0) else {
            return Err((self, "the answer is incomplete".into()));
        };
        let policies = &self.connection.proposals;
        let choice = proposal::check_answer(parsed.sa, policies, protocol::IKE, false);
        let suite = choice.as_ref().and_then(suite_of);
        let (Some(choice), Some(suite)) = (choice, suite) else {
            return Err((self, "the peer chose what was not offered".into()));
        };
        if parsed.ke.method != self.group || choice.id(kind::KE) != self.group {
            return Err((self, "the peer answered with another key exchange".into()));
        }
        if parsed.nonce == self.nonce {
            return Err((self, "the peer sent our own nonce back".into()));
        }
        let additional = choice.additional_key_exchanges();
        let features = peer_features(&message.payloads);
        if !additional.is_empty() && !features.intermediate {
            return Err((self, "additional key exchanges without IKE_INTERMEDIATE".into()));
        }
        let shared = match self.key_exchange.finish(&parsed.ke.data) {
            Ok(shared) => shared,
            Err(error) => return Err((self, format!("the peer's key exchange: {error}"))),
        };
        let spis = (self.spi_i, message.header.spi_r);
        let seed = Skeyseed::initial(suite.prf(), &self.nonce, parsed.nonce, &shared);
        let keys = IkeKeys::derive(seed, &suite, (&self.nonce, parsed.nonce), spis);
        let Ok(keys) = keys else { return Err((self, "the keys cannot be derived".into())) };
        let nat = nat_found(&message.payloads, spis, local, remote);
        let (mut local, mut remote) = (local, remote);
        // With MOBIKE always: a NAT may come later (RFC 4555 section 3.3).
        let mobile = crate::mobike::is_offered(&self.connection);
        let float = nat.known && (nat.local || nat.remote || mobile);
        if float || self.connection.encap {
            local.set_port(if local.port() == IKE_PORT { NAT_PORT } else { local.port() });
            remote.set_port(if remote.port() == IKE_PORT { NAT_PORT } else { remote.port() });
        }
        let parts = CoreParts { id: self.id, initiator: true, spis, local, remote, nat, features };
        let handshake = Handshake {
            init_request: std::mem::take(&mut self.request),
            init_request_before: None,
            init_response: octets,
            ni: self.nonce.clone(),
            nr: parsed.nonce.to_vec(),
            int_auth_i: Vec::new(),
            int_auth_r: Vec::new(),
            additional: additional.clone(),
            candidates: Vec::new(),
            authorities: parsed.authorities,
            ppk: parts.features.ppk && self.connection.ppk_id.is_some(),
            auth_message_id: 1,
        };
        let connection = Arc::clone(&self.connection);
        match new_core(ctx, connection, parts, suite, keys, additional) {
            Some(core) => Ok((core, handshake, self.goal)),
            None => Err((self, "the ciphers cannot be made".into())),
        }
    }
}
