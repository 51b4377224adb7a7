//! The client of EAP-MSCHAPv2.

use xswan_ike_crypto::{Secret, constant_time_eq};
use zeroize::Zeroizing;

use super::CHALLENGE_BYTES;
use super::derive::{AUTHENTICATOR_BYTES, Exchange, Password, Proofs};
use super::message::{
    Challenge, OP_CHALLENGE, OP_FAILURE, OP_SUCCESS, Response, parse_failure, parse_success,
};
use crate::client::{Finished, Turn};
use crate::packet::TYPE_MSCHAPV2;
use crate::reason::Reason;

/// Where it stands.
#[derive(Debug)]
pub(crate) struct Client {
    password: Password,
    user: Vec<u8>,
    peer_challenge: [u8; CHALLENGE_BYTES],
    state: State,
}

enum State {
    /// Waiting for the challenge.
    Fresh,
    /// Response sent; what the server has to show.
    Responded { authenticator: Zeroizing<[u8; AUTHENTICATOR_BYTES]>, msk: Secret },
    /// The server has shown it.
    Proved { msk: Secret },
    /// Failure received.
    Refused(u32),
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Fresh => "Fresh",
            Self::Responded { .. } => "Responded",
            Self::Proved { .. } => "Proved",
            Self::Refused(_) => "Refused",
        })
    }
}

impl Client {
    /// With a fresh challenge of its own.
    pub(crate) fn new(
        password: Password,
        user: Vec<u8>,
        peer_challenge: [u8; CHALLENGE_BYTES],
    ) -> Self {
        Self { password, user, peer_challenge, state: State::Fresh }
    }

    /// Takes the type-data of a request.
    pub(crate) fn handle(&mut self, data: &[u8]) -> Turn {
        let Some(op) = data.first() else {
            return Turn::Failed(Reason::Malformed("MSCHAPv2 without op code"));
        };
        let turn = match (&self.state, *op) {
            (State::Fresh, OP_CHALLENGE) => self.respond(data),
            (State::Responded { authenticator, msk }, OP_SUCCESS) => match parse_success(data) {
                Ok(shown) if constant_time_eq(&shown, &authenticator[..]) => {
                    self.state = State::Proved { msk: msk.clone() };
                    Ok(vec![OP_SUCCESS])
                }
                Ok(_) => Err(Reason::ServerNotAuthentic),
                Err(reason) => Err(reason),
            },
            // One password, one try: a server that would take another is told it is over.
            (State::Responded { .. }, OP_FAILURE) => parse_failure(data).map(|code| {
                self.state = State::Refused(code);
                vec![OP_FAILURE]
            }),
            _ => Err(Reason::UnexpectedType(TYPE_MSCHAPV2)),
        };
        turn.map_or_else(Turn::Failed, Turn::Send)
    }

    fn respond(&mut self, data: &[u8]) -> Result<Vec<u8>, Reason> {
        let Challenge { id, challenge } = Challenge::parse(data)?;
        let exchange = Exchange {
            authenticator_challenge: &challenge,
            peer_challenge: &self.peer_challenge,
            user: &self.user,
        };
        let Proofs { nt_response, authenticator, msk } = Proofs::derive(&self.password, &exchange);
        let response = Response {
            id,
            peer_challenge: self.peer_challenge,
            nt_response: *nt_response,
            name: &self.user,
        };
        self.state = State::Responded { authenticator, msk };
        Ok(response.emit())
    }

    /// The key, once the server has proved itself.
    pub(crate) fn finish(&mut self) -> Option<Finished> {
        match &self.state {
            State::Proved { msk } => Some(Finished { msk: msk.clone(), chain: Vec::new() }),
            State::Fresh | State::Responded { .. } | State::Refused(_) => None,
        }
    }

    /// What EAP-Failure means now.
    pub(crate) fn failure(&self) -> Reason {
        match self.state {
            State::Refused(code) => Reason::PasswordRefused(code),
            State::Fresh | State::Responded { .. } | State::Proved { .. } => Reason::PeerFailed,
        }
    }
}
