//! Message IDs, windows of one, retransmission (RFC 7296 sections 2.1 to 2.3).
//!
//! ```text
//! our requests:    next, one outstanding with its datagrams and its next transmission
//! peer's requests: next expected, the last answer and a digest of what it answers
//! ```
//! A retransmission is the same octets; so both sides keep datagrams, not messages.

use crate::clock::Millis;
use crate::settings::Settings;
use xswan_ike_crypto::sha256;

/// A message as it went out: one datagram, or its fragments.
pub(crate) type Datagrams = Vec<Vec<u8>>;

/// Our requests.
#[derive(Clone, Debug, Default)]
pub(crate) struct Requests {
    next: u32,
    outstanding: Option<Outstanding>,
}

/// A request that is not answered yet.
#[derive(Clone, Debug)]
struct Outstanding {
    id: u32,
    datagrams: Datagrams,
    transmissions: u32,
    due: Millis,
}

/// What time brings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// Nothing yet.
    Nothing,
    /// Send these again.
    Retransmit(Datagrams),
    /// The peer does not answer.
    Dead,
}

impl Requests {
    /// Requests that go on from a number, after a restart.
    pub(crate) const fn starting_at(next: u32) -> Self {
        Self { next, outstanding: None }
    }

    /// The ID of the next request.
    pub(crate) const fn next_id(&self) -> u32 {
        self.next
    }

    /// Whether a request may be sent.
    pub(crate) const fn is_idle(&self) -> bool {
        self.outstanding.is_none()
    }

    /// Takes note of a request that was sent with [`Self::next_id`].
    pub(crate) fn sent(&mut self, datagrams: Datagrams, settings: &Settings, now: Millis) {
        let wait = settings.retransmit_after(0).unwrap_or_default();
        let (id, due) = (self.next, now.plus(wait));
        self.outstanding = Some(Outstanding { id, datagrams, transmissions: 1, due });
        self.next = self.next.saturating_add(1);
    }

    /// The first message of all may be sent anew, with a cookie or another key exchange,
    /// under the same ID 0 (RFC 7296 section 2.6).
    pub(crate) fn start_over(&mut self) {
        (self.next, self.outstanding) = (0, None);
    }

    /// Whether a response answers the outstanding request.
    pub(crate) fn answers(&self, id: u32) -> bool {
        self.outstanding.as_ref().is_some_and(|outstanding| outstanding.id == id)
    }

    /// The response has been authenticated and accepted.
    pub(crate) fn answered(&mut self) {
        self.outstanding = None;
    }

    /// When something is due.
    pub(crate) fn deadline(&self) -> Option<Millis> {
        self.outstanding.as_ref().map(|outstanding| outstanding.due)
    }

    /// What is due.
    pub(crate) fn poll(&mut self, settings: &Settings, now: Millis) -> Due {
        let Some(outstanding) = self.outstanding.as_mut().filter(|request| request.due <= now)
        else {
            return Due::Nothing;
        };
        let Some(wait) = settings.retransmit_after(outstanding.transmissions) else {
            return Due::Dead;
        };
        outstanding.transmissions += 1;
        outstanding.due = now.plus(wait);
        Due::Retransmit(outstanding.datagrams.clone())
    }

    /// Requests that go on after a restart; one that was outstanding is sent again at once.
    pub(crate) fn resumed(next: u32, outstanding: Option<Datagrams>, now: Millis) -> Self {
        let id = next.saturating_sub(1);
        let resume = |datagrams| Outstanding { id, datagrams, transmissions: 0, due: now };
        Self { next, outstanding: outstanding.map(resume) }
    }

    /// The outstanding request again at once, for example from a new address.
    pub(crate) fn outstanding(&self) -> Option<&Datagrams> {
        self.outstanding.as_ref().map(|outstanding| &outstanding.datagrams)
    }

    /// Transmissions of the outstanding request so far.
    pub(crate) fn transmissions(&self) -> u32 {
        self.outstanding.as_ref().map_or(0, |outstanding| outstanding.transmissions)
    }
}

/// The peer's requests.
#[derive(Clone, Debug, Default)]
pub(crate) struct Responses {
    next: u32,
    last: Option<Answer>,
}

/// The last request and what was answered.
#[derive(Clone, Debug)]
struct Answer {
    id: u32,
    digest: [u8; 32],
    datagrams: Datagrams,
}

/// Where a request stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// The one that is expected.
    New,
    /// The last one again: send the same answer.
    Again(Datagrams),
    /// Neither: dropped.
    Outside,
}

impl Responses {
    /// Requests that go on from a number, after a restart.
    pub(crate) const fn expecting(next: u32) -> Self {
        Self { next, last: None }
    }

    /// The ID of the request that is expected.
    pub(crate) const fn next_id(&self) -> u32 {
        self.next
    }

    /// Requests that go on after a restart: the expected ID, and the last answer with the digest
    /// of its request.
    pub(crate) fn resumed(next: u32, last: Option<([u8; 32], Datagrams)>) -> Self {
        let id = next.saturating_sub(1);
        let last = last.map(|(digest, datagrams)| Answer { id, digest, datagrams });
        Self { next, last }
    }

    /// The last answer with the digest of its request.
    pub(crate) fn last(&self) -> Option<(&[u8; 32], &Datagrams)> {
        self.last.as_ref().map(|answer| (&answer.digest, &answer.datagrams))
    }

    /// Where a request stands. `octets` is the datagram, or the first fragment
    /// (RFC 7383 section 2.6.1): an answer is repeated only to the very same request.
    pub(crate) fn standing(&self, id: u32, octets: &[u8]) -> Standing {
        if id == self.next {
            return Standing::New;
        }
        match &self.last {
            Some(answer) if answer.id == id && answer.digest == sha256(&[octets]) => {
                Standing::Again(answer.datagrams.clone())
            }
            Some(_) | None => Standing::Outside,
        }
    }

    /// Takes note of an answer to the request that was expected.
    pub(crate) fn answered(&mut self, octets: &[u8], datagrams: Datagrams) {
        self.last = Some(Answer { id: self.next, digest: sha256(&[octets]), datagrams });
        self.next = self.next.saturating_add(1);
    }
}
