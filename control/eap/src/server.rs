//! The server's half of the conversation: identity, then one method, then the end.
//!
//! ```text
//! start ──▶ Identity ──▶ Method (its own states) ──▶ Finished
//!   └──────────(not asked)──▲
//! ```
//!
//! A response has to carry the identifier of the last request; whatever else arrives ends the
//! conversation with EAP-Failure. The identity a peer states is a claim, nothing more: who was
//! authenticated is in [`Peer`].

use xswan_ike_crypto::{Random, Secret};

use crate::mschapv2::{self, Password};
use crate::packet::{self, Body, Packet};
use crate::reason::Reason;
use crate::{MAX_IDENTITY_BYTES, MAX_ROUNDS, tls};

/// How the server goes about it.
#[derive(Debug)]
pub struct ServerConfig {
    /// The one method offered.
    pub method: ServerMethod,
    /// Whether to ask for an EAP identity first (`eap_id = %any` in swanctl's words).
    pub ask_identity: bool,
    /// What the peer claims to be already (IDi); replaced by the answer if it is asked.
    pub identity: Vec<u8>,
}

/// Method and what it needs.
#[derive(Debug)]
pub enum ServerMethod {
    /// MSCHAPv2; passwords come from [`ServerHost::password`].
    MschapV2 {
        /// Name in the challenge. Clients show it or ignore it; must not be empty on the wire,
        /// so an empty one is sent as `xswan`. Cut at 255 octets.
        server_name: String,
    },
    /// EAP-TLS with a client certificate.
    Tls {
        /// Own certificate and whose certificates are trusted.
        credential: tls::ServerCredential,
        /// The time certificates are judged by, seconds since 1970.
        now_unix_s: u64,
        /// Largest EAP packet sent, octets; see [`tls::DEFAULT_FRAGMENT_BYTES`].
        fragment_bytes: usize,
    },
}

/// What the server asks its surroundings.
pub trait ServerHost: Random {
    /// The password of `user`, the name exactly as the client sent it. For `DOMAIN\user` the
    /// name without the domain is asked for next.
    fn password(&self, user: &str) -> Option<Password>;
}

/// Who was authenticated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Peer {
    /// This user knows the password: the name under which it was found.
    User(String),
    /// Somebody with the key of a certificate that chains to an anchor. That the certificate is
    /// `claimed_identity`'s, or anyone's in particular, has NOT been checked: the caller must.
    Certificate {
        /// DER as presented, end entity first; never empty.
        chain: Vec<Vec<u8>>,
        /// The EAP identity, or IDi if none was asked for. A claim.
        claimed_identity: Vec<u8>,
    },
}

/// What to do after a packet.
#[derive(Debug)]
pub enum ServerStep {
    /// Send this packet and wait for the next.
    Send(Vec<u8>),
    /// Send `packet` (EAP-Success); the method succeeded.
    Success {
        /// EAP-Success.
        packet: Vec<u8>,
        /// Key for the AUTH payloads (RFC 7296 §2.16): 64 octets.
        msk: Secret,
        /// Whom the method has authenticated.
        peer: Peer,
    },
    /// Send `packet` (EAP-Failure), then nothing more.
    Failure {
        /// EAP-Failure.
        packet: Vec<u8>,
        /// For the log.
        reason: Reason,
    },
}

/// What a method of the server says to a response.
pub(crate) enum Turn {
    /// Type-data of the next request.
    Send(Vec<u8>),
    /// Authenticated.
    Done { msk: Secret, peer: Proof },
    /// Over.
    Failed(Reason),
}

/// What the method proved, before the claimed identity is put beside it.
pub(crate) enum Proof {
    User(String),
    Certificate(Vec<Vec<u8>>),
}

/// One conversation. Drop it when it has ended.
#[derive(Debug)]
pub struct Server {
    method: ServerMethod,
    ask_identity: bool,
    identity: Vec<u8>,
    identifier: u8,
    rounds: u32,
    state: State,
    /// The last packet taken and what was said to it.
    answered: Option<(Vec<u8>, Vec<u8>)>,
}

#[derive(Debug)]
enum State {
    Unstarted,
    Identity,
    Method(Running),
    Finished,
}

#[derive(Debug)]
enum Running {
    MschapV2(mschapv2::Server),
    Tls(Box<tls::Server>),
}

impl Server {
    /// A conversation that has not begun.
    #[must_use]
    pub fn new(config: ServerConfig) -> Self {
        let ServerConfig { method, ask_identity, identity } = config;
        Self {
            method,
            ask_identity,
            identity,
            identifier: 0,
            rounds: 0,
            state: State::Unstarted,
            answered: None,
        }
    }

    /// The first packet to send. Call once; a second call begins anew.
    ///
    /// # Errors
    /// The TLS stack refuses its settings.
    pub fn start(&mut self, random: &mut dyn Random) -> Result<Vec<u8>, Reason> {
        let mut first = [0];
        random.fill(&mut first);
        [self.identifier] = first;
        self.rounds = 0;
        self.answered = None;
        if self.ask_identity {
            self.state = State::Identity;
            return Ok(packet::request(self.identifier, packet::TYPE_IDENTITY, &[]));
        }
        self.start_method(random)
    }

    /// What the peer is said to be: its EAP identity once it has answered, IDi before. A claim.
    #[must_use]
    pub fn claimed_identity(&self) -> &[u8] {
        &self.identity
    }

    /// Takes the peer's next packet.
    pub fn handle(&mut self, octets: &[u8], host: &mut dyn ServerHost) -> ServerStep {
        if let Some((taken, said)) = &self.answered
            && taken == octets
        {
            return ServerStep::Send(said.clone());
        }
        match self.turn(octets, host) {
            Ok(step) => {
                if let ServerStep::Send(said) | ServerStep::Success { packet: said, .. } = &step {
                    self.answered = Some((octets.to_vec(), said.clone()));
                }
                step
            }
            Err(reason) => {
                let said = packet::failure(self.identifier);
                if !matches!(self.state, State::Finished) {
                    self.answered = Some((octets.to_vec(), said.clone()));
                }
                self.state = State::Finished;
                ServerStep::Failure { packet: said, reason }
            }
        }
    }

    fn turn(&mut self, octets: &[u8], host: &mut dyn ServerHost) -> Result<ServerStep, Reason> {
        self.rounds += 1;
        if self.rounds > MAX_ROUNDS {
            return Err(Reason::TooManyRounds);
        }
        let packet = Packet::parse(octets)?;
        let Body::Response { kind, data } = packet.body else {
            return Err(Reason::UnexpectedCode(packet.code()));
        };
        if packet.identifier != self.identifier {
            return Err(Reason::UnexpectedIdentifier);
        }
        match &mut self.state {
            State::Unstarted | State::Finished => Err(Reason::Finished),
            State::Identity => {
                if kind != packet::TYPE_IDENTITY {
                    return Err(Reason::UnexpectedType(kind));
                }
                if data.len() > MAX_IDENTITY_BYTES {
                    return Err(Reason::TooLarge);
                }
                self.identity = data.to_vec();
                self.identifier = self.identifier.wrapping_add(1);
                self.start_method(host).map(ServerStep::Send)
            }
            State::Method(running) => {
                if packet::is_nak(kind, data) && running.is_fresh() {
                    return Err(Reason::MethodRefused);
                }
                if kind != running.kind() {
                    return Err(Reason::UnexpectedType(kind));
                }
                let turn = running.handle(data, host);
                self.take_turn(kind, turn)
            }
        }
    }

    fn take_turn(&mut self, kind: u8, turn: Turn) -> Result<ServerStep, Reason> {
        match turn {
            Turn::Send(data) => {
                self.identifier = self.identifier.wrapping_add(1);
                Ok(ServerStep::Send(packet::request(self.identifier, kind, &data)))
            }
            Turn::Done { msk, peer } => {
                self.state = State::Finished;
                let peer = match peer {
                    Proof::User(name) => Peer::User(name),
                    Proof::Certificate(chain) => {
                        Peer::Certificate { chain, claimed_identity: self.identity.clone() }
                    }
                };
                Ok(ServerStep::Success { packet: packet::success(self.identifier), msk, peer })
            }
            Turn::Failed(reason) => Err(reason),
        }
    }

    /// Begins the method; the request with the current identifier.
    fn start_method(&mut self, random: &mut (impl Random + ?Sized)) -> Result<Vec<u8>, Reason> {
        let (running, data) = match &self.method {
            ServerMethod::MschapV2 { server_name } => {
                let mut challenge = [0; mschapv2::CHALLENGE_BYTES];
                random.fill(&mut challenge);
                let (server, data) =
                    mschapv2::Server::start(challenge, self.identifier, server_name);
                (Running::MschapV2(server), data)
            }
            ServerMethod::Tls { credential, now_unix_s, fragment_bytes } => {
                let (server, data) = tls::Server::start(credential, *now_unix_s, *fragment_bytes)?;
                (Running::Tls(Box::new(server)), data)
            }
        };
        let request = packet::request(self.identifier, running.kind(), &data);
        self.state = State::Method(running);
        Ok(request)
    }
}

impl Running {
    fn kind(&self) -> u8 {
        match self {
            Self::MschapV2(_) => packet::TYPE_MSCHAPV2,
            Self::Tls(_) => packet::TYPE_TLS,
        }
    }

    /// Whether the peer has not yet answered in the method: only then may it decline.
    fn is_fresh(&self) -> bool {
        match self {
            Self::MschapV2(server) => server.is_fresh(),
            Self::Tls(server) => server.is_fresh(),
        }
    }

    fn handle(&mut self, data: &[u8], host: &mut dyn ServerHost) -> Turn {
        match self {
            Self::MschapV2(server) => server.handle(data, host),
            Self::Tls(server) => server.handle(data),
        }
    }
}
