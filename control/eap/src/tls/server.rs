//! The server of EAP-TLS.

use super::credential::ServerCredential;
use super::fragment::{ACKNOWLEDGEMENT, START};
use super::session::{Event, Session};
use crate::packet::TYPE_TLS;
use crate::reason::Reason;
use crate::server::{Proof, Turn};

/// The octet by which a server of TLS 1.3 says that its handshake is over (RFC 9190 §2.5).
pub(super) const COMMITMENT: [u8; 1] = [0];

/// Where it stands.
#[derive(Debug)]
pub(crate) struct Server {
    session: Session,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Start sent.
    Fresh,
    /// The client has begun.
    Handshake,
    /// The last flight is out; only its acknowledgement is missing.
    Established,
    /// An alert is out.
    Dying(Reason),
}

impl Server {
    /// The server, and the type-data of its first request.
    pub(crate) fn start(
        credential: &ServerCredential,
        now_unix_s: u64,
        fragment_bytes: usize,
    ) -> Result<(Self, Vec<u8>), Reason> {
        let connection =
            credential.connect(now_unix_s).map_err(|error| Reason::Tls(error.to_string()))?;
        let session = Session::new(connection, fragment_bytes);
        Ok((Self { session, state: State::Fresh }, START.to_vec()))
    }

    /// Whether the client has not answered yet.
    pub(crate) fn is_fresh(&self) -> bool {
        matches!(self.state, State::Fresh)
    }

    /// Takes the type-data of a response.
    pub(crate) fn handle(&mut self, data: &[u8]) -> Turn {
        self.turn(data).unwrap_or_else(Turn::Failed)
    }

    fn turn(&mut self, data: &[u8]) -> Result<Turn, Reason> {
        match self.session.receive(data)? {
            Event::Start => Err(Reason::UnexpectedType(TYPE_TLS)),
            Event::Acknowledged => self.acknowledged(),
            Event::Fragment => {
                self.begin();
                Ok(Turn::Send(ACKNOWLEDGEMENT.to_vec()))
            }
            Event::Flight => {
                self.begin();
                self.answer()
            }
            Event::Refused(reason) => match self.session.next_packet()? {
                Some(alert) => {
                    self.state = State::Dying(reason);
                    Ok(Turn::Send(alert))
                }
                None => Err(reason),
            },
        }
    }

    fn begin(&mut self) {
        if self.is_fresh() {
            self.state = State::Handshake;
        }
    }

    fn acknowledged(&mut self) -> Result<Turn, Reason> {
        if let Some(data) = self.session.next_packet()? {
            return Ok(Turn::Send(data));
        }
        match &self.state {
            State::Fresh | State::Handshake => Err(Reason::UnexpectedType(TYPE_TLS)),
            State::Established => {
                let peer = Proof::Certificate(self.session.peer_chain()?);
                Ok(Turn::Done { msk: self.session.msk()?, peer })
            }
            State::Dying(reason) => Err(reason.clone()),
        }
    }

    /// After a flight of the client.
    fn answer(&mut self) -> Result<Turn, Reason> {
        match &self.state {
            State::Fresh | State::Handshake => {}
            // Nothing but an acknowledgement is in order; an alert would have been refused.
            State::Established => return Err(Reason::UnexpectedType(TYPE_TLS)),
            State::Dying(reason) => return Err(reason.clone()),
        }
        if let Some(is_13) = self.session.established() {
            self.session.read::<0>()?;
            if is_13 {
                self.session.write(&COMMITMENT)?;
            }
            self.state = State::Established;
        }
        // A client that sends its flight in two messages is asked for the second.
        let data = self.session.next_packet()?.unwrap_or_else(|| ACKNOWLEDGEMENT.to_vec());
        Ok(Turn::Send(data))
    }
}
