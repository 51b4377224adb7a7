//! The client's half of the conversation.
//!
//! Answers identity and notification requests, declines methods it has no credentials for
//! (Nak), goes through one method, and believes EAP-Success only once that method has finished
//! on this side too (AUT-06).

use std::fmt;

use xswan_ike_crypto::{Random, Secret};

use crate::mschapv2::{self, Password};
use crate::packet::{self, Body, Packet};
use crate::reason::Reason;
use crate::{MAX_IDENTITY_BYTES, MAX_ROUNDS, tls};

/// Who the client is, and what it can prove it with. A method is acceptable if there is a
/// credential for it.
#[derive(Debug)]
pub struct ClientConfig {
    /// EAP identity, and the user name of MSCHAPv2 (`DOMAIN\user` is allowed).
    pub identity: Vec<u8>,
    /// For MSCHAPv2.
    pub password: Option<Password>,
    /// For TLS.
    pub tls: Option<ClientTls>,
}

/// What EAP-TLS needs.
#[derive(Debug)]
pub struct ClientTls {
    /// Own certificate and whose certificates are trusted.
    pub credential: tls::ClientCredential,
    /// The time certificates are judged by, seconds since 1970.
    pub now_unix_s: u64,
    /// Largest EAP packet sent, octets; see [`tls::DEFAULT_FRAGMENT_BYTES`].
    pub fragment_bytes: usize,
}

/// Why a client cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientConfigError {
    /// The identity is longer than [`MAX_IDENTITY_BYTES`].
    IdentityTooLong,
    /// There is no credential, so no method.
    NoCredential,
}

impl fmt::Display for ClientConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::IdentityTooLong => {
                write!(f, "EAP identity longer than {MAX_IDENTITY_BYTES} octets")
            }
            Self::NoCredential => f.write_str("no password and no certificate for EAP"),
        }
    }
}

impl std::error::Error for ClientConfigError {}

/// What to do after a packet.
#[derive(Debug)]
pub enum ClientStep {
    /// Send this packet and wait for the next.
    Send(Vec<u8>),
    /// The method succeeded on both sides.
    Success {
        /// Key for the AUTH payloads (RFC 7296 §2.16): 64 octets.
        msk: Secret,
        /// The server's TLS certificates, DER, end entity first; empty for MSCHAPv2. They chain
        /// to an anchor; that they are the wanted server's is the caller's to check.
        chain: Vec<Vec<u8>>,
    },
    /// It failed; nothing to send.
    Failure {
        /// For the log.
        reason: Reason,
    },
}

/// What a method of the client says to a request.
pub(crate) enum Turn {
    /// Type-data of the response.
    Send(Vec<u8>),
    /// Over.
    Failed(Reason),
}

/// What a finished method has to show.
pub(crate) struct Finished {
    pub(crate) msk: Secret,
    pub(crate) chain: Vec<Vec<u8>>,
}

/// One conversation. Drop it when it has ended.
#[derive(Debug)]
pub struct Client {
    config: ClientConfig,
    rounds: u32,
    state: State,
    /// The last packet taken and what was said to it.
    answered: Option<(Vec<u8>, Vec<u8>)>,
}

#[derive(Debug)]
enum State {
    Idle,
    Method(Running),
    Over,
}

#[derive(Debug)]
enum Running {
    MschapV2(mschapv2::Client),
    Tls(Box<tls::Client>),
}

impl Client {
    /// A conversation that has not begun.
    ///
    /// # Errors
    /// The identity is too long, or nothing can be proved.
    pub fn new(config: ClientConfig) -> Result<Self, ClientConfigError> {
        if config.identity.len() > MAX_IDENTITY_BYTES {
            return Err(ClientConfigError::IdentityTooLong);
        }
        if config.password.is_none() && config.tls.is_none() {
            return Err(ClientConfigError::NoCredential);
        }
        Ok(Self { config, rounds: 0, state: State::Idle, answered: None })
    }

    /// Takes the server's next packet.
    pub fn handle(&mut self, octets: &[u8], random: &mut dyn Random) -> ClientStep {
        if let Some((taken, said)) = &self.answered
            && taken == octets
        {
            return ClientStep::Send(said.clone());
        }
        let step = self.turn(octets, random);
        match &step {
            Ok(ClientStep::Send(said)) => self.answered = Some((octets.to_vec(), said.clone())),
            Ok(ClientStep::Success { .. } | ClientStep::Failure { .. }) | Err(_) => {
                self.state = State::Over;
                self.answered = None;
            }
        }
        step.unwrap_or_else(|reason| ClientStep::Failure { reason })
    }

    fn turn(&mut self, octets: &[u8], random: &mut dyn Random) -> Result<ClientStep, Reason> {
        self.rounds += 1;
        if self.rounds > MAX_ROUNDS {
            return Err(Reason::TooManyRounds);
        }
        let packet = Packet::parse(octets)?;
        if matches!(self.state, State::Over) {
            return Err(Reason::Finished);
        }
        match packet.body {
            Body::Request { kind, data } => self
                .respond(kind, data, random)
                .map(|(kind, data)| packet::response(packet.identifier, kind, &data))
                .map(ClientStep::Send),
            Body::Response { .. } => Err(Reason::UnexpectedCode(packet.code())),
            // The identifier is not compared: implementations disagree about it (RFC 3748
            // §4.2), and IKE has bound the packet to its exchange already.
            Body::Success => match self.state.finish()? {
                Some(Finished { msk, chain }) => Ok(ClientStep::Success { msk, chain }),
                None => Err(Reason::EarlySuccess),
            },
            Body::Failure => Err(self.state.failure()),
        }
    }

    /// Type and type-data of the response.
    fn respond(
        &mut self,
        kind: u8,
        data: &[u8],
        random: &mut dyn Random,
    ) -> Result<(u8, Vec<u8>), Reason> {
        match (kind, &mut self.state) {
            (packet::TYPE_NOTIFICATION, _) => return Ok((packet::TYPE_NOTIFICATION, Vec::new())),
            (packet::TYPE_IDENTITY, State::Idle) => {
                return Ok((packet::TYPE_IDENTITY, self.config.identity.clone()));
            }
            (packet::TYPE_NAK, _) => return Err(Reason::UnexpectedType(kind)),
            (_, State::Idle) => match self.begin(kind, random)? {
                Some(running) => self.state = State::Method(running),
                None => return Ok((packet::TYPE_NAK, self.acceptable())),
            },
            (_, State::Method(_) | State::Over) => {}
        }
        let turn = match (kind, &mut self.state) {
            (packet::TYPE_MSCHAPV2, State::Method(Running::MschapV2(method))) => {
                method.handle(data)
            }
            (packet::TYPE_TLS, State::Method(Running::Tls(method))) => method.handle(data),
            _ => return Err(Reason::UnexpectedType(kind)),
        };
        match turn {
            Turn::Send(data) => Ok((kind, data)),
            Turn::Failed(reason) => Err(reason),
        }
    }

    /// The method `kind`, if there is a credential for it.
    fn begin(&self, kind: u8, random: &mut dyn Random) -> Result<Option<Running>, Reason> {
        match (kind, &self.config) {
            (packet::TYPE_MSCHAPV2, ClientConfig { password: Some(password), identity, .. }) => {
                let mut challenge = [0; mschapv2::CHALLENGE_BYTES];
                random.fill(&mut challenge);
                let method = mschapv2::Client::new(password.clone(), identity.clone(), challenge);
                Ok(Some(Running::MschapV2(method)))
            }
            (packet::TYPE_TLS, ClientConfig { tls: Some(tls), .. }) => {
                let method = tls::Client::new(&tls.credential, tls.now_unix_s, tls.fragment_bytes)?;
                Ok(Some(Running::Tls(Box::new(method))))
            }
            _ => Ok(None),
        }
    }

    /// Type-data of a Nak (RFC 3748 §5.3.1): the types wanted instead.
    fn acceptable(&self) -> Vec<u8> {
        let password = self.config.password.as_ref().map(|_| packet::TYPE_MSCHAPV2);
        let tls = self.config.tls.as_ref().map(|_| packet::TYPE_TLS);
        tls.into_iter().chain(password).collect()
    }
}

impl State {
    /// What the method has to show, if it has finished.
    fn finish(&mut self) -> Result<Option<Finished>, Reason> {
        match self {
            Self::Method(Running::MschapV2(method)) => Ok(method.finish()),
            Self::Method(Running::Tls(method)) => method.finish(),
            Self::Idle | Self::Over => Ok(None),
        }
    }

    /// Why the server says EAP-Failure: this side may know better.
    fn failure(&mut self) -> Reason {
        match self {
            Self::Method(Running::Tls(method)) => method.failure(),
            Self::Method(Running::MschapV2(method)) => method.failure(),
            Self::Idle | Self::Over => Reason::PeerFailed,
        }
    }
}
