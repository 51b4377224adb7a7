//! Messages under SK_e and SK_a: sealed into SK or, if too large, SKF payloads, and opened
//! (RFC 7296 section 3.14, RFC 5282, RFC 7383).

use crate::fragmentation::{Overhead, split};
use crate::message_id::Datagrams;
use crate::wire::{
    EncryptedKind, Header, Payload, PayloadType, emit_chain, protected_prefix,
};
use xswan_ike_crypto::{Random, SkCipher};

/// The largest datagram that a message may fill unfragmented.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ceiling {
    /// Octets of the IP datagram.
    pub(crate) octets: u16,
    /// IPv6 rather than IPv4.
    pub(crate) ipv6: bool,
    /// With the non-ESP marker.
    pub(crate) marker: bool,
}

/// Seals payloads under a header. Without a ceiling, or if they fit, into one datagram.
pub(crate) fn seal(
    cipher: &mut SkCipher,
    header: &Header,
    payloads: &[Payload],
    ceiling: Option<Ceiling>,
    random: &mut dyn Random,
) -> Datagrams {
    let (first, plaintext) = emit_chain(payloads);
    let pieces = match ceiling {
        None => Vec::new(),
        Some(ceiling) => {
            let overhead = Overhead { ipv6: ceiling.ipv6, marker: ceiling.marker, cipher };
            split(&plaintext, ceiling.octets, &overhead)
        }
    };
    if pieces.len() < 2 {
        return vec![seal_one(cipher, header, EncryptedKind::Sk, first, &plaintext, random)];
    }
    let total = pieces.len() as u16;
    (1_u16..)
        .zip(pieces)
        .map(|(number, piece)| {
            // The type of the first payload stands in the first fragment only.
            let first = if number == 1 { first } else { PayloadType::NONE };
            let kind = EncryptedKind::Skf { number, total };
            seal_one(cipher, header, kind, first, piece, random)
        })
        .collect()
}

fn seal_one(
    cipher: &mut SkCipher,
    header: &Header,
    kind: EncryptedKind,
    first: PayloadType,
    plaintext: &[u8],
    random: &mut dyn Random,
) -> Vec<u8> {
    let mut octets = protected_prefix(header, kind, first, cipher.body_len(plaintext.len()));
    let body = cipher.seal(&octets, plaintext, random);
    octets.extend_from_slice(&body);
    octets
}
