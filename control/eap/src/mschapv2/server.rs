//! The server of EAP-MSCHAPv2: one challenge, one try.

use xswan_ike_crypto::{Secret, constant_time_eq};

use super::CHALLENGE_BYTES;
use super::derive::{Exchange, Password, Proofs, without_domain};
use super::message::{
    Challenge, OP_FAILURE, OP_RESPONSE, OP_SUCCESS, Response, emit_failure, emit_success,
};
use crate::packet::TYPE_MSCHAPV2;
use crate::reason::Reason;
use crate::server::{Proof, ServerHost, Turn};

/// What is sent as a name when there is none: clients refuse an empty one.
const DEFAULT_NAME: &[u8] = b"xswan";
/// Longest name sent, octets.
const NAME_MAX_BYTES: usize = 255;

/// Where it stands.
#[derive(Debug)]
pub(crate) struct Server {
    challenge: [u8; CHALLENGE_BYTES],
    id: u8,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Challenge sent.
    Challenged,
    /// Success sent: the client has proved itself and must still accept our proof.
    Proved { msk: Secret, user: String },
    /// Failure sent: whatever comes now, it is over.
    Refused,
}

impl Server {
    /// With a fresh challenge: the server, and the type-data of its first request.
    pub(crate) fn start(challenge: [u8; CHALLENGE_BYTES], id: u8, name: &str) -> (Self, Vec<u8>) {
        let name = name.as_bytes();
        let name = if name.is_empty() { DEFAULT_NAME } else { name };
        let data = Challenge { id, challenge }.emit(name.get(..NAME_MAX_BYTES).unwrap_or(name));
        (Self { challenge, id, state: State::Challenged }, data)
    }

    /// Whether the client has not answered yet.
    pub(crate) fn is_fresh(&self) -> bool {
        matches!(self.state, State::Challenged)
    }

    /// Takes the type-data of a response.
    pub(crate) fn handle(&mut self, data: &[u8], host: &mut dyn ServerHost) -> Turn {
        match (&self.state, data.first()) {
            (State::Refused, _) => Turn::Failed(Reason::Credentials),
            (State::Challenged, Some(&OP_RESPONSE)) => match Response::parse(data) {
                Ok(response) => self.judge(&response, host),
                Err(reason) => Turn::Failed(reason),
            },
            (State::Proved { msk, user }, Some(&OP_SUCCESS)) => {
                Turn::Done { msk: msk.clone(), peer: Proof::User(user.clone()) }
            }
            (State::Proved { .. }, Some(&OP_FAILURE)) => Turn::Failed(Reason::PeerFailed),
            (State::Challenged | State::Proved { .. }, Some(_)) => {
                Turn::Failed(Reason::UnexpectedType(TYPE_MSCHAPV2))
            }
            (State::Challenged | State::Proved { .. }, None) => {
                Turn::Failed(Reason::Malformed("MSCHAPv2 without op code"))
            }
        }
    }

    /// The same work and the same words whether the user or the password is wrong.
    fn judge(&mut self, response: &Response<'_>, host: &mut dyn ServerHost) -> Turn {
        let found = look_up(response.name, host);
        let known = found.is_some();
        let (user, password) =
            found.unwrap_or_else(|| (String::new(), Password::nobodys(&self.challenge)));
        let exchange = Exchange {
            authenticator_challenge: &self.challenge,
            peer_challenge: &response.peer_challenge,
            user: response.name,
        };
        let proofs = Proofs::derive(&password, &exchange);
        let proved = constant_time_eq(&proofs.nt_response[..], &response.nt_response);
        if proved && known {
            self.state = State::Proved { msk: proofs.msk, user };
            return Turn::Send(emit_success(self.id, &proofs.authenticator));
        }
        self.state = State::Refused;
        let mut unused = [0; CHALLENGE_BYTES];
        host.fill(&mut unused);
        Turn::Send(emit_failure(self.id, &unused))
    }
}

/// The user's password and the name it is kept under: the whole name, else without its domain.
fn look_up(name: &[u8], host: &dyn ServerHost) -> Option<(String, Password)> {
    let find = |name: &[u8]| {
        let name = std::str::from_utf8(name).ok()?;
        host.password(name).map(|password| (name.to_owned(), password))
    };
    let bare = without_domain(name);
    let second = (bare.len() < name.len()).then_some(bare);
    find(name).or_else(|| second.and_then(find))
}
