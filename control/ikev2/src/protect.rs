//! Messages under SK_e and SK_a: sealed into SK or, if too large, SKF payloads
//! (RFC 7296 section 3.14, RFC 5282, RFC 7383).
//!
//! What cannot be sealed (no IV is left, a message beyond 64 KiB) is not sent: the peer sees a
//! loss, and the retransmission timer ends what depends on it.

use crate::fragmentation::{fits, message_room, split};
use crate::message_id::Datagrams;
use crate::wire::{
    Header, Message, Payload, PayloadType, Protection, emit_chain, protected_prefix,
};
use std::net::IpAddr;
use xswan_ike_crypto::{Random, SkCipher};

/// The largest datagram that a message may fill unfragmented.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ceiling {
    /// Octets of the IP datagram.
    pub(crate) octets: u16,
    /// Where the message goes: the length of the IP header depends on the family.
    pub(crate) peer: IpAddr,
    /// With the non-ESP marker.
    pub(crate) marker: bool,
}

/// A message without protection. Empty if it is too long, which ours are not.
pub(crate) fn emit(message: &Message) -> Vec<u8> {
    message.emit().unwrap_or_default()
}

/// Seals payloads under a header. Without a ceiling, or if they fit, into one datagram.
pub(crate) fn seal(
    cipher: &mut SkCipher,
    header: &Header,
    payloads: &[Payload],
    ceiling: Option<Ceiling>,
    random: &mut dyn Random,
) -> Datagrams {
    let Ok((first, plaintext)) = emit_chain(payloads) else { return Vec::new() };
    let pieces = match ceiling {
        None => Vec::new(),
        Some(ceiling) => {
            let room = message_room(ceiling.octets.into(), ceiling.peer, ceiling.marker);
            let body_len = |len| cipher.body_len(len);
            if fits(plaintext.len(), room, body_len) {
                Vec::new()
            } else {
                split(&plaintext, room, body_len).unwrap_or_default()
            }
        }
    };
    if pieces.len() < 2 {
        let sealed = seal_one(cipher, header, Protection::Sk, first, &plaintext, random);
        return sealed.into_iter().collect();
    }
    let total = u16::try_from(pieces.len()).unwrap_or(u16::MAX);
    (1_u16..)
        .zip(pieces)
        .filter_map(|(fragment, piece)| {
            let protection = Protection::Skf { fragment, total };
            seal_one(cipher, header, protection, first, piece, random)
        })
        .collect()
}

fn seal_one(
    cipher: &mut SkCipher,
    header: &Header,
    protection: Protection,
    first: PayloadType,
    plaintext: &[u8],
    random: &mut dyn Random,
) -> Option<Vec<u8>> {
    let body_len = cipher.body_len(plaintext.len());
    let mut octets = protected_prefix(header, protection, first, body_len).ok()?;
    let body = cipher.seal(random, &octets, plaintext).ok()?;
    octets.extend_from_slice(&body);
    Some(octets)
}
