//! The responder's side of IKE_SA_INIT: no state before the peer's address is proved, if there
//! is need for that.

use super::*;
use crate::engine::budget::{self, Budget, Limits};
use xswan_ike_crypto::Group;

/// We answered IKE_SA_INIT.
#[derive(Debug)]
pub(crate) struct HalfOpen {
    pub(crate) core: SaCore,
    pub(crate) handshake: Handshake,
    /// When it is forgotten.
    pub(crate) until: Millis,
    /// The peer has shown a cookie.
    pub(crate) verified: bool,
}

impl HalfOpen {
    /// The peer repeats its request with the cookie that we asked for after we had answered the
    /// one without: it may take either answer, and both are the same. Which of its requests it
    /// signs depends on which answer came first, so both are kept.
    ///
    /// False: this is another request.
    pub(crate) fn take_with_cookie(&mut self, payloads: &[Payload], octets: &[u8]) -> bool {
        let without_cookie = |payloads: &[Payload]| -> Vec<Payload> {
            let cookie = |payload: &&Payload| !matches!(payload, Payload::Notify(notify) if notify.kind == NotifyType::COOKIE);
            payloads.iter().filter(cookie).cloned().collect()
        };
        let Ok(before) = Message::parse(&self.handshake.init_request) else { return false };
        if without_cookie(&before.payloads) != without_cookie(payloads) {
            return false;
        }
        let before = std::mem::replace(&mut self.handshake.init_request, octets.to_vec());
        self.handshake.init_request_before = Some(before);
        self.verified = true;
        true
    }

    /// The peer's next request: IKE_INTERMEDIATE or IKE_AUTH.
    pub(crate) fn request(mut self: Box<Self>, ctx: &mut Context<'_>, inbound: Inbound) -> State {
        match inbound.header.exchange {
            ExchangeType::IKE_INTERMEDIATE if !self.handshake.additional.is_empty() => {
                match ike_intermediate::answer(ctx, &mut self.core, &mut self.handshake, &inbound) {
                    Ok(()) => State::HalfOpen(self),
                    Err(()) => State::Closed,
                }
            }
            ExchangeType::IKE_AUTH if self.handshake.additional.is_empty() => {
                ike_auth::answer_first(ctx, *self, inbound)
            }
            _ => State::HalfOpen(self),
        }
    }

    /// The time at which it is forgotten.
    pub(crate) fn deadline(&self) -> Option<Millis> {
        Some(self.until)
    }

    /// Forgets it if it is time.
    pub(crate) fn timer(self: Box<Self>, ctx: &mut Context<'_>) -> State {
        if self.until > ctx.millis() {
            return State::HalfOpen(self);
        }
        let text = "deleting half open IKE_SA after timeout";
        self.core.event(ctx, Level::Info, "ike-half-open-timeout", text);
        State::Closed
    }
}

/// What becomes of a request for a new IKE SA.
pub(crate) enum Answer {
    /// An IKE SA, and what was sent for it.
    HalfOpen(Box<HalfOpen>),
    /// An answer without state by which the handshake goes on.
    Stateless(Vec<u8>),
    /// An error, without state.
    Refusal(Vec<u8>),
    /// Nothing is said: there were too many key exchanges in this second.
    Busy,
    /// Nothing is said.
    Silence,
}

/// How careful we are right now.
#[derive(Debug)]
pub(crate) struct Gate<'a> {
    pub(crate) cookies: &'a Cookies,
    /// A cookie must be shown.
    pub(crate) cookie_required: bool,
    /// How long a half-open IKE SA is kept.
    pub(crate) retention_ms: u64,
    /// What key exchanges have cost in this second.
    pub(crate) key_exchanges: &'a mut Budget,
    pub(crate) limits: Limits,
}

/// What the key exchanges of a choice cost us, those of IKE_INTERMEDIATE included.
pub(crate) fn cost(suite: &Suite, additional: &[u16]) -> u32 {
    let groups = additional.iter().filter_map(|id| Group::from_transform_id(*id));
    let costs = groups.chain([suite.group()]).map(budget::cost);
    costs.fold(0, u32::saturating_add)
}

/// Answers a request for a new IKE SA. The stateless checks come first, the expensive key
/// exchange last.
pub(crate) fn answer(
    ctx: &mut Context<'_>,
    gate: &mut Gate<'_>,
    id: IkeId,
    message: &Message,
    octets: &[u8],
    (local, remote): (SocketAddr, SocketAddr),
) -> Answer {
    let stateless = |notify| Answer::Stateless(stateless(&message.header, notify));
    let refusal = |notify| Answer::Refusal(self::stateless(&message.header, notify));
    if let Some(kind) = first_unknown_critical(&message.payloads) {
        let data = vec![kind.0];
        return refusal(Notify::new(NotifyType::UNSUPPORTED_CRITICAL_PAYLOAD, data));
    }
    let Some(parsed) = InitPayloads::read(&message.payloads) else {
        return refusal(Notify::new(NotifyType::INVALID_SYNTAX, Vec::new()));
    };
    let spi_i = message.header.spi_i;
    let claim = Claim { address: remote.ip(), spi_i, nonce: parsed.nonce };
    let verified = match notify(&message.payloads, NotifyType::COOKIE) {
        Some(cookie) => gate.cookies.verify(&claim, &cookie.data),
        None => false,
    };
    if gate.cookie_required && !verified {
        let cookie = gate.cookies.make(&claim).to_vec();
        return stateless(Notify::new(NotifyType::COOKIE, cookie));
    }
    let candidates = candidates(ctx, local.ip(), remote.ip());
    let (connection, choice, suite) = match choose(&candidates, &parsed) {
        Ok(chosen) => chosen,
        Err(why) => {
            refused(ctx, remote, format!("no IKE proposal fits: {why}"));
            return refusal(Notify::new(NotifyType::NO_PROPOSAL_CHOSEN, Vec::new()));
        }
    };
    let group = choice.id(kind::KE);
    if parsed.ke.method != group {
        let data = group.to_be_bytes().to_vec();
        return stateless(Notify::new(NotifyType::INVALID_KE_PAYLOAD, data));
    }
    let cost = cost(&suite, &choice.additional_key_exchanges());
    if !gate.key_exchanges.take(ctx.millis(), remote.ip(), cost, gate.limits) {
        return Answer::Busy;
    }
    let exchanged = xswan_ike_crypto::respond(suite.group(), &parsed.ke.data, ctx.random());
    let (public, shared) = match exchanged {
        Ok(exchanged) => exchanged,
        Err(error) => {
            refused(ctx, remote, format!("the peer's key exchange: {error}"));
            return refusal(Notify::new(NotifyType::INVALID_SYNTAX, Vec::new()));
        }
    };
    let until = ctx.millis().plus(gate.retention_ms);
    let request = Request { id, message, octets, local, remote, verified, until, parsed };
    let chosen = Chosen { connection, choice, suite, public, shared, candidates };
    match respond(ctx, request, chosen) {
        Some((state, cookie_needed)) if !cookie_needed || verified => Answer::HalfOpen(state),
        // The answer would be larger than the request and the address is not proved.
        Some((state, _)) => {
            let claim = Claim { address: remote.ip(), spi_i, nonce: &state.handshake.ni };
            let cookie = gate.cookies.make(&claim).to_vec();
            let cookie = Notify::new(NotifyType::COOKIE, cookie);
            Answer::Stateless(self::stateless(&message.header, cookie))
        }
        None => Answer::Silence,
    }
}

fn refused(ctx: &mut Context<'_>, remote: SocketAddr, text: String) {
    ctx.act(crate::action::Action::Event(Event {
        level: Level::Warning,
        name: "ike-refused",
        connection: None,
        ike: None,
        child: None,
        remote: Some(remote),
        text,
    }));
}

/// An answer that leaves no state: the responder's SPI stays 0.
pub(crate) fn stateless(header: &Header, notify: Notify) -> Vec<u8> {
    let flags = Flags { initiator: false, version: false, response: true };
    let spi_i = header.spi_i;
    let header = Header::new(spi_i, 0, ExchangeType::IKE_SA_INIT, flags, 0);
    emit(&Message { header, payloads: vec![Payload::Notify(notify)] })
}

/// A request as it is sent again with a cookie: N(COOKIE) before everything else, which stays as
/// it was (RFC 7296 section 2.6). Empty if `request` is no message.
pub(crate) fn with_cookie(request: &[u8], cookie: &[u8]) -> Vec<u8> {
    let (Ok(mut header), Some(rest)) = (Header::read(request), request.get(HEADER_LEN..)) else {
        return Vec::new();
    };
    let first = header.first;
    let body = [&[0, 0][..], &NotifyType::COOKIE.0.to_be_bytes(), cookie].concat();
    let payload = u16::try_from(GENERIC_HEADER_LEN + body.len()).unwrap_or(u16::MAX);
    header.first = PayloadType::NOTIFY;
    header.length = header.length.saturating_add(payload.into());
    let generic = [&[first.0, 0][..], &payload.to_be_bytes()].concat();
    [&header.emit()[..], &generic, &body, rest].concat()
}

/// The connections for a pair of addresses, best first, equal ones in the order of the file.
fn candidates(ctx: &Context<'_>, local: IpAddr, remote: IpAddr) -> Vec<Arc<ConnectionPolicy>> {
    let connections = ctx.configuration.connections.iter();
    let mut fitting: Vec<_> = connections
        .filter_map(|connection| connection.fits(local, remote).map(|score| (score, connection)))
        .collect();
    fitting.sort_by_key(|(score, _)| std::cmp::Reverse(*score));
    fitting.into_iter().map(|(_, connection)| Arc::clone(connection)).collect()
}

fn choose(
    candidates: &[Arc<ConnectionPolicy>],
    parsed: &InitPayloads<'_>,
) -> Result<(Arc<ConnectionPolicy>, Choice, Suite), String> {
    let mut why = "no connection for these addresses".to_owned();
    for connection in candidates {
        let preferred = Some(parsed.ke.method);
        let policies = &connection.proposals;
        match proposal::choose(parsed.sa, policies, protocol::IKE, false, preferred) {
            Ok(choice) => match suite_of(&choice) {
                Some(suite) => return Ok((Arc::clone(connection), choice, suite)),
                None => why = "the suite cannot be built".into(),
            },
            Err(missing) => why = missing.to_string(),
        }
    }
    Err(why)
}

struct Request<'a> {
    id: IkeId,
    message: &'a Message,
    octets: &'a [u8],
    local: SocketAddr,
    remote: SocketAddr,
    verified: bool,
    until: Millis,
    parsed: InitPayloads<'a>,
}

struct Chosen {
    connection: Arc<ConnectionPolicy>,
    choice: Choice,
    suite: Suite,
    public: Vec<u8>,
    shared: Secret,
    candidates: Vec<Arc<ConnectionPolicy>>,
}

/// The answer with keys. The second value: it is larger than the request although everything
/// that may be left out was, so the peer's address must be proved first.
fn respond(
    ctx: &mut Context<'_>,
    request: Request<'_>,
    chosen: Chosen,
) -> Option<(Box<HalfOpen>, bool)> {
    let Chosen { connection, choice, suite, public, shared, candidates } = chosen;
    let spis = (request.message.header.spi_i, ctx.ike_spi());
    let ni = request.parsed.nonce.to_vec();
    let features_of_peer = peer_features(&request.message.payloads);
    let additional = choice.additional_key_exchanges();
    if !additional.is_empty() && !features_of_peer.intermediate {
        refused(ctx, request.remote, "additional key exchanges without IKE_INTERMEDIATE".into());
        return None;
    }
    // The request was hashed before there was a responder's SPI.
    let hashed = (spis.0, 0);
    let nat = nat_found(&request.message.payloads, hashed, request.local, request.remote);
    let demanded = candidates.iter().any(|one| one.ppk_required);
    let ppk = features_of_peer.ppk && (demanded || ctx.configuration.secrets.has_ppk());
    let offered = Offered { fragmentation: features_of_peer.fragmentation, nat, ppk };
    let addresses = (request.local, request.remote);
    let payloads = answer_payloads(&connection, (&choice, public), &offered, spis, addresses);
    let flags = Flags { initiator: false, version: false, response: true };
    let header = Header::new(spis.0, spis.1, ExchangeType::IKE_SA_INIT, flags, 0);
    let mut message = Message { header, payloads };
    let budget = if request.verified { usize::MAX } else { request.octets.len() };
    let shortest = Nonce::MIN_LEN.max(suite.prf().key_len() / 2);
    let nr = ctx.random_octets(NONCE_LEN.max(shortest));
    let (nr, too_large) =
        fit(&mut message, optional_payloads(ctx, &connection), nr, shortest, budget);
    let octets = emit(&message);
    let seed = Skeyseed::initial(suite.prf(), &ni, &nr, &shared);
    let keys = IkeKeys::derive(seed, &suite, (&ni, &nr), spis).ok()?;
    let parts = CoreParts {
        id: request.id,
        initiator: false,
        spis,
        local: request.local,
        remote: request.remote,
        nat,
        features: features_of_peer,
    };
    let core = new_core(ctx, connection, parts, suite, keys, additional.clone())?;
    if ctx.settings().trace_messages {
        core.event(ctx, Level::Debug, "message", format!("generating {message}"));
    }
    let handshake = Handshake {
        init_request: request.octets.to_vec(),
        init_request_before: None,
        init_response: octets,
        ni,
        nr,
        int_auth_i: Vec::new(),
        int_auth_r: Vec::new(),
        additional,
        candidates,
        authorities: request.parsed.authorities,
        ppk,
        auth_message_id: 1,
    };
    let (verified, until) = (request.verified, request.until);
    Some((Box::new(HalfOpen { core, handshake, until, verified }), too_large))
}

/// What an answer depends on beside the choice.
struct Offered {
    fragmentation: bool,
    nat: NatFound,
    ppk: bool,
}

/// The payloads that every answer with keys has, but for the nonce.
fn answer_payloads(
    connection: &ConnectionPolicy,
    (choice, public): (&Choice, Vec<u8>),
    offered: &Offered,
    spis: (u64, u64),
    addresses: (SocketAddr, SocketAddr),
) -> Vec<Payload> {
    let proposals = vec![choice.to_proposal(protocol::IKE, Vec::new())];
    let mut payloads = vec![
        Payload::Sa(SecurityAssociation { proposals }),
        Payload::Ke(KeyExchangeData { method: choice.id(kind::KE), data: public }),
    ];
    if offered.nat.known {
        payloads.extend(nat_detection(connection, spis, addresses));
    }
    payloads.extend(features(connection).into_iter().filter(|payload| match payload {
        Payload::Notify(notify) if notify.kind == NotifyType::IKEV2_FRAGMENTATION_SUPPORTED => {
            offered.fragmentation
        }
        _ => true,
    }));
    if !choice.additional_key_exchanges().is_empty() {
        payloads.push(status(NotifyType::INTERMEDIATE_EXCHANGE_SUPPORTED));
    }
    // RFC 8784 section 3: shown by any connection that may turn out to be the peer's.
    if offered.ppk {
        payloads.push(status(NotifyType::USE_PPK));
    }
    payloads
}

/// Puts the nonce and what else there is room for into an answer that must not be larger than
/// `budget`, so that nobody can use us to flood somebody else. Returns the nonce, and whether
/// something is missing that the handshake needs.
fn fit(
    message: &mut Message,
    optional: Vec<Payload>,
    mut nr: Vec<u8>,
    shortest: usize,
    budget: usize,
) -> (Vec<u8>, bool) {
    let place = message.payloads.len().min(2);
    let nonce = |nr: &[u8]| Payload::Nonce(Nonce(nr.to_vec()));
    message.payloads.insert(place, nonce(&nr));
    let bare = message.payloads.len();
    message.payloads.extend(optional.iter().cloned());
    if emit(message).len() > budget {
        nr.truncate(shortest);
        if let Some(payload) = message.payloads.get_mut(place) {
            *payload = nonce(&nr);
        }
    }
    message.payloads.truncate(bare);
    let mut too_large = emit(message).len() > budget;
    for payload in optional {
        let needed = matches!(payload, Payload::CertReq(_));
        message.payloads.push(payload);
        if emit(message).len() > budget {
            message.payloads.pop();
            too_large |= needed;
        }
    }
    (nr, too_large)
}

/// Payloads that an answer may go without, most useful ones first. Without CERTREQ most peers
/// send no certificate.
fn optional_payloads(ctx: &Context<'_>, connection: &ConnectionPolicy) -> Vec<Payload> {
    let mut payloads = Vec::new();
    if connection.send_certificate_request {
        payloads.extend(ike_auth::certificate_request(ctx.configuration, connection));
    }
    if connection.childless != crate::policy::Childless::Never {
        payloads.push(status(NotifyType::CHILDLESS_IKEV2_SUPPORTED));
    }
    payloads.push(status(NotifyType::MULTIPLE_AUTH_SUPPORTED));
    payloads
}
