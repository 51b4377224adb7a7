//! First messages: whether a peer that has proved nothing gets an answer, a cookie, or nothing.

use super::*;

/// Key exchanges of this part of the budget without a proof: everybody has to show a cookie.
const STRAINED_PART: u32 = 4;
/// Half-open IKE SAs of this part of what there is room for: they are kept for a shorter time.
const CROWDED_PART: u32 = 4;
/// By how much shorter.
const CROWDED_RETENTION_PART: u64 = 6;

impl Engine {
    pub(super) fn init_request(
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
}

/// What a repetition of a first message has in common with it: all octets and where it is from.
fn init_digest(octets: &[u8], remote: SocketAddr) -> [u8; 32] {
    sha256(&[octets, remote.to_string().as_bytes()])
}
