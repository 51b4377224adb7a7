//! The client of EAP-TLS.

use super::credential::ClientCredential;
use super::fragment::ACKNOWLEDGEMENT;
use super::server::COMMITMENT;
use super::session::{Event, Session};
use crate::client::{Finished, Turn};
use crate::packet::TYPE_TLS;
use crate::reason::Reason;

/// Where it stands.
#[derive(Debug)]
pub(crate) struct Client {
    session: Session,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Waiting for Start.
    Fresh,
    /// ClientHello sent.
    Handshake,
    /// The server has finished, and will not change its mind.
    Established,
    /// An alert is out.
    Dying(Reason),
}

impl Client {
    pub(crate) fn new(
        credential: &ClientCredential,
        now_unix_s: u64,
        fragment_bytes: usize,
    ) -> Result<Self, Reason> {
        let connection =
            credential.connect(now_unix_s).map_err(|error| Reason::Tls(error.to_string()))?;
        Ok(Self { session: Session::new(connection, fragment_bytes), state: State::Fresh })
    }

    /// Takes the type-data of a request.
    pub(crate) fn handle(&mut self, data: &[u8]) -> Turn {
        self.turn(data).map_or_else(Turn::Failed, Turn::Send)
    }

    fn turn(&mut self, data: &[u8]) -> Result<Vec<u8>, Reason> {
        let event = self.session.receive(data)?;
        let started = !matches!(self.state, State::Fresh);
        match event {
            Event::Start if !started => {
                self.state = State::Handshake;
                self.session.next_packet()?.ok_or(Reason::Tls("nothing to say".to_owned()))
            }
            Event::Acknowledged if started => {
                self.session.next_packet()?.ok_or(Reason::UnexpectedType(TYPE_TLS))
            }
            Event::Fragment if started => Ok(ACKNOWLEDGEMENT.to_vec()),
            Event::Flight if started => self.answer(),
            Event::Refused(reason) if started => self.die(reason),
            Event::Start
            | Event::Acknowledged
            | Event::Fragment
            | Event::Flight
            | Event::Refused(_) => Err(Reason::UnexpectedType(TYPE_TLS)),
        }
    }

    /// After a flight of the server.
    fn answer(&mut self) -> Result<Vec<u8>, Reason> {
        if let State::Dying(reason) = &self.state {
            return Err(reason.clone());
        }
        if let Some(is_13) = self.session.established() {
            let data = self.session.read::<1>()?;
            match (is_13, data.as_slice()) {
                (false, []) => self.state = State::Established,
                (true, octet) if octet == COMMITMENT => self.state = State::Established,
                // Our Finished is on its way; or a ticket came, which nobody uses.
                (true, []) => {}
                _ => return Err(Reason::Malformed("data inside EAP-TLS")),
            }
        }
        Ok(self.session.next_packet()?.unwrap_or_else(|| ACKNOWLEDGEMENT.to_vec()))
    }

    /// Says why in an alert, or takes note of the server's: it has the last word, EAP-Failure
    /// (RFC 5216 §2.1.3).
    fn die(&mut self, reason: Reason) -> Result<Vec<u8>, Reason> {
        if let State::Dying(earlier) = &self.state {
            return Err(earlier.clone());
        }
        self.state = State::Dying(reason);
        Ok(self.session.next_packet()?.unwrap_or_else(|| ACKNOWLEDGEMENT.to_vec()))
    }

    /// What there is to show, if the server has finished.
    pub(crate) fn finish(&mut self) -> Result<Option<Finished>, Reason> {
        if !matches!(self.state, State::Established) || !self.session.all_sent() {
            return Ok(None);
        }
        Ok(Some(Finished { msk: self.session.msk()?, chain: self.session.peer_chain()? }))
    }

    /// What EAP-Failure means now.
    pub(crate) fn failure(&self) -> Reason {
        match &self.state {
            State::Dying(reason) => reason.clone(),
            State::Fresh | State::Handshake | State::Established => Reason::PeerFailed,
        }
    }
}
