//! Fragments of TLS flights, RFC 5216 §2.1.5 and §3.1.
//!
//! ```text
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |     Flags     |  TLS Message Length (four octets, if L)       |
//! |               |  TLS Data ...
//! Flags: L (0x80) length included, M (0x40) more fragments, S (0x20) start
//! ```
//!
//! A length is announced, never believed: memory grows with what arrives, and the sum must be
//! what was announced.

use super::{MAX_MESSAGE_BYTES, MIN_FRAGMENT_BYTES};
use crate::reason::Reason;

const FLAG_LENGTH: u8 = 0x80;
const FLAG_MORE: u8 = 0x40;
const FLAG_START: u8 = 0x20;

/// EAP header, type and flags.
const OVERHEAD_BYTES: usize = 6;
const LENGTH_BYTES: usize = 4;

/// Type-data of the Start request.
pub(super) const START: [u8; 1] = [FLAG_START];
/// Type-data of an acknowledgement.
pub(super) const ACKNOWLEDGEMENT: [u8; 1] = [0];

/// What the type-data of a packet meant.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Received {
    /// Begin.
    Start,
    /// Nothing: the next fragment is wanted, or the end is agreed to.
    Acknowledgement,
    /// A fragment with more to come: to be acknowledged.
    Fragment,
    /// A flight, complete.
    Message(Vec<u8>),
}

/// Fragments received so far.
#[derive(Debug, Default)]
pub(super) struct Reassembly {
    octets: Vec<u8>,
    announced: Option<usize>,
}

impl Reassembly {
    /// Takes the type-data of a packet.
    pub(super) fn receive(&mut self, data: &[u8]) -> Result<Received, Reason> {
        let Some((&flags, rest)) = data.split_first() else {
            return Err(Reason::Malformed("EAP-TLS without flags"));
        };
        if flags & FLAG_START != 0 {
            return Ok(Received::Start);
        }
        let rest = self.announce(flags, rest)?;
        if rest.is_empty() {
            // Empty, yet more to come or some already there: it would never end.
            return match (flags & FLAG_MORE, self.octets.is_empty(), self.announced) {
                (0, true, None) => Ok(Received::Acknowledgement),
                _ => Err(Reason::Malformed("empty EAP-TLS fragment")),
            };
        }
        let sum = self.octets.len() + rest.len();
        if sum > MAX_MESSAGE_BYTES {
            return Err(Reason::TooLarge);
        }
        if self.announced.is_some_and(|announced| sum > announced) {
            return Err(Reason::Malformed("EAP-TLS message longer than announced"));
        }
        self.octets.extend_from_slice(rest);
        if flags & FLAG_MORE != 0 {
            return Ok(Received::Fragment);
        }
        if self.announced.is_some_and(|announced| sum != announced) {
            return Err(Reason::Malformed("EAP-TLS message shorter than announced"));
        }
        let Self { octets, announced: _ } = std::mem::take(self);
        Ok(Received::Message(octets))
    }

    /// Notes the length if there is one; what follows it. Some repeat it in every fragment.
    fn announce<'a>(&mut self, flags: u8, rest: &'a [u8]) -> Result<&'a [u8], Reason> {
        if flags & FLAG_LENGTH == 0 {
            return Ok(rest);
        }
        let Some((length, rest)) = rest.split_first_chunk::<LENGTH_BYTES>() else {
            return Err(Reason::Malformed("EAP-TLS length field"));
        };
        let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
        if length > MAX_MESSAGE_BYTES {
            return Err(Reason::TooLarge);
        }
        if self.announced.is_some_and(|announced| announced != length) {
            return Err(Reason::Malformed("EAP-TLS length changed"));
        }
        if self.announced.is_none() && !self.octets.is_empty() {
            return Err(Reason::Malformed("EAP-TLS length in a later fragment"));
        }
        self.announced = Some(length);
        Ok(rest)
    }

    /// Whether a message has begun and not ended.
    pub(super) fn is_partial(&self) -> bool {
        !self.octets.is_empty()
    }
}

/// A flight on its way out.
#[derive(Debug)]
pub(super) struct Outgoing {
    octets: Vec<u8>,
    sent: usize,
    fragment_bytes: usize,
}

impl Outgoing {
    /// Nothing to send yet; packets of `fragment_bytes` at most.
    pub(super) fn new(fragment_bytes: usize) -> Self {
        let fragment_bytes = fragment_bytes.clamp(MIN_FRAGMENT_BYTES, MAX_MESSAGE_BYTES / 2);
        Self { octets: Vec::new(), sent: 0, fragment_bytes }
    }

    /// Takes a flight to send; the one before has been sent.
    pub(super) fn load(&mut self, octets: Vec<u8>) {
        self.octets = octets;
        self.sent = 0;
    }

    /// Whether all is sent.
    pub(super) fn is_empty(&self) -> bool {
        self.sent >= self.octets.len()
    }

    /// Type-data of the next fragment, if there is one. The length goes with the first of
    /// several.
    pub(super) fn next_fragment(&mut self) -> Option<Vec<u8>> {
        let rest = self.octets.get(self.sent..).filter(|rest| !rest.is_empty())?;
        let room = self.fragment_bytes - OVERHEAD_BYTES;
        let mut data = vec![0];
        let mut flags = 0;
        let taken = if self.sent == 0 && rest.len() > room {
            let length = u32::try_from(rest.len()).unwrap_or(u32::MAX);
            data.extend_from_slice(&length.to_be_bytes());
            flags |= FLAG_LENGTH | FLAG_MORE;
            room - LENGTH_BYTES
        } else if rest.len() > room {
            flags |= FLAG_MORE;
            room
        } else {
            rest.len()
        };
        data.extend(rest.iter().take(taken));
        if let Some(first) = data.first_mut() {
            *first = flags;
        }
        self.sent += taken;
        Some(data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fragments_come_together_again() {
        for len in [1usize, 57, 58, 59, 60, 112, 5000, MAX_MESSAGE_BYTES] {
            let message: Vec<u8> = (0..len).map(|index| index as u8).collect();
            let mut outgoing = Outgoing::new(0);
            let mut incoming = Reassembly::default();
            outgoing.load(message.clone());
            let mut got = None;
            while let Some(data) = outgoing.next_fragment() {
                assert!(data.len() + 5 <= MIN_FRAGMENT_BYTES);
                assert!(got.is_none());
                match incoming.receive(&data).unwrap() {
                    Received::Fragment => assert!(incoming.is_partial()),
                    Received::Message(octets) => got = Some(octets),
                    other @ (Received::Start | Received::Acknowledgement) => panic!("{other:?}"),
                }
            }
            assert!(outgoing.is_empty() && !incoming.is_partial());
            assert_eq!(got.unwrap(), message);
        }
    }

    #[test]
    fn flags_and_empty_packets() {
        let receive = |data: &[u8]| Reassembly::default().receive(data);
        assert_eq!(receive(&START), Ok(Received::Start));
        assert_eq!(receive(&ACKNOWLEDGEMENT), Ok(Received::Acknowledgement));
        assert_eq!(receive(&[0, 1]), Ok(Received::Message(vec![1])));
        assert_eq!(receive(&[FLAG_LENGTH, 0, 0, 0, 1, 9]), Ok(Received::Message(vec![9])));
        assert!(receive(&[]).is_err());
    }

    #[test]
    fn ike_21_eap_tls_lengths_lie() {
        let receive = |data: &[u8]| Reassembly::default().receive(data);
        assert!(receive(&[FLAG_LENGTH]).is_err());
        assert!(receive(&[FLAG_LENGTH, 0, 0, 0]).is_err());
        assert!(receive(&[FLAG_LENGTH, 0, 0, 0, 0]).is_err());
        assert!(receive(&[FLAG_LENGTH, 0, 0, 0, 2, 9]).is_err());
        assert!(receive(&[FLAG_LENGTH, 0, 0, 0, 1, 9, 9]).is_err());
        assert_eq!(receive(&[FLAG_LENGTH, 0xff, 0xff, 0xff, 0xff, 9]), Err(Reason::TooLarge));
        assert!(receive(&[FLAG_MORE]).is_err());
        let mut later = Reassembly::default();
        assert_eq!(later.receive(&[FLAG_MORE, 1]), Ok(Received::Fragment));
        assert!(later.receive(&[FLAG_LENGTH, 0, 0, 0, 2, 9]).is_err());
        let mut changed = Reassembly::default();
        let first = [FLAG_MORE | FLAG_LENGTH, 0, 0, 0, 9, 1];
        assert_eq!(changed.receive(&first), Ok(Received::Fragment));
        assert!(changed.receive(&[FLAG_MORE]).is_err());
        assert!(changed.receive(&[FLAG_MORE | FLAG_LENGTH, 0, 0, 0, 8, 1]).is_err());
    }

    #[test]
    fn ike_20_no_more_than_64_kib_without_a_length() {
        let mut incoming = Reassembly::default();
        let fragment = [&[FLAG_MORE][..], &[7; 1024]].concat();
        for _ in 0..64 {
            assert_eq!(incoming.receive(&fragment), Ok(Received::Fragment));
        }
        assert_eq!(incoming.receive(&fragment), Err(Reason::TooLarge));
    }
}
