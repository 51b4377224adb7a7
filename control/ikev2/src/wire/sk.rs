//! A datagram as it comes: clear payloads, then perhaps one that is encrypted.
//!
//! ```text
//! SK,  RFC 7296 section 3.14:  generic header | IV | ciphertext | ICV
//! SKF, RFC 7383 section 2.5:   generic header | fragment 16 | total 16 | IV | ciphertext | ICV
//! ```
//!
//! Its generic header names the first payload inside it, so nothing can follow. What protects
//! the body is not known here: it may be empty or too short for any cipher.

use super::chain::{GENERIC_HEADER_LEN, Walk, parse_payload};
use super::header::{HEADER_LEN, Header};
use super::{MAX_DATAGRAM_BYTES, Payload, PayloadType, WireError};
use core::ops::Range;

/// Length of fragment number and total in bytes.
const FRAGMENT_FIELDS_LEN: usize = 4;

/// How a message is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protection {
    /// A whole message.
    Sk,
    /// A fragment of a message.
    Skf {
        /// Fragment number, from 1 to `total`.
        fragment: u16,
        /// Into how many fragments the message was split.
        total: u16,
    },
}

impl Protection {
    /// Length in bytes of what comes before the IV when there are no clear payloads: 32 or 36.
    #[must_use]
    pub const fn prefix_len(self) -> usize {
        match self {
            Self::Sk => HEADER_LEN + GENERIC_HEADER_LEN,
            Self::Skf { .. } => HEADER_LEN + GENERIC_HEADER_LEN + FRAGMENT_FIELDS_LEN,
        }
    }

    const fn kind(self) -> PayloadType {
        match self {
            Self::Sk => PayloadType::SK,
            Self::Skf { .. } => PayloadType::SKF,
        }
    }
}

/// The encrypted part of a datagram; ranges are offsets into the datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encrypted {
    /// Whole or fragment.
    pub protection: Protection,
    /// Type of the first payload inside; of a fragment, only the first one's counts.
    pub inner_first: PayloadType,
    /// What is authenticated besides: from the IKE header to the octet before the IV.
    pub aad: Range<usize>,
    /// IV, ciphertext and ICV.
    pub body: Range<usize>,
}

/// A datagram taken apart as far as it goes without keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// The header.
    pub header: Header,
    /// Payloads in clear: all of them, or those before the encrypted one.
    pub clear: Vec<Payload>,
    /// The encrypted payload.
    pub encrypted: Option<Encrypted>,
}

/// Takes a datagram apart; `bytes` are a UDP payload without the non-ESP marker.
///
/// # Errors
/// Any [`WireError`] that can be found without keys.
pub fn parse_datagram(bytes: &[u8]) -> Result<Datagram, WireError> {
    let header = Header::parse(bytes)?;
    let mut walk = Walk::new(header.first, bytes, HEADER_LEN);
    let mut clear = Vec::new();
    while let Some(raw) = walk.step()? {
        if !matches!(raw.kind, PayloadType::SK | PayloadType::SKF) {
            clear.push(parse_payload(&raw, bytes)?);
            continue;
        }
        if walk.position() != bytes.len() {
            return Err(WireError::ProtectionNotLast(raw.kind));
        }
        let (protection, fields) = if raw.kind == PayloadType::SK {
            (Protection::Sk, 0)
        } else {
            (fragment_fields(&bytes[raw.body.clone()])?, FRAGMENT_FIELDS_LEN)
        };
        let start = raw.body.start + fields;
        let encrypted = Encrypted {
            protection,
            inner_first: raw.next,
            aad: 0..start,
            body: start..raw.body.end,
        };
        return Ok(Datagram { header, clear, encrypted: Some(encrypted) });
    }
    Ok(Datagram { header, clear, encrypted: None })
}

fn fragment_fields(body: &[u8]) -> Result<Protection, WireError> {
    let malformed = WireError::Malformed(PayloadType::SKF);
    let &[f1, f0, t1, t0] = body.first_chunk::<FRAGMENT_FIELDS_LEN>().ok_or(malformed)?;
    let (fragment, total) = (u16::from_be_bytes([f1, f0]), u16::from_be_bytes([t1, t0]));
    if fragment == 0 || fragment > total {
        return Err(WireError::FragmentNumber);
    }
    Ok(Protection::Skf { fragment, total })
}

/// The octets before the IV of a protected message, all lengths set for a body (IV,
/// ciphertext, ICV) of `body_len` bytes. They are also the additional authenticated data.
///
/// `inner_first` is written into fragment 1 and whole messages, later fragments have zero.
///
/// # Errors
/// [`WireError::TooLong`] above the largest datagram, [`WireError::FragmentNumber`].
pub fn protected_prefix(
    header: &Header,
    protection: Protection,
    inner_first: PayloadType,
    body_len: usize,
) -> Result<Vec<u8>, WireError> {
    let kind = protection.kind();
    let too_long = WireError::TooLong(kind);
    let prefix_len = protection.prefix_len();
    let length = prefix_len.checked_add(body_len).ok_or(too_long)?;
    if length > MAX_DATAGRAM_BYTES {
        return Err(too_long);
    }
    let payload_length = u16::try_from(length - HEADER_LEN).map_err(|_large| too_long)?;
    let length = u32::try_from(length).map_err(|_large| too_long)?;
    let mut out = Vec::with_capacity(prefix_len + body_len);
    out.extend_from_slice(&Header { first: kind, length, ..*header }.emit());
    let next = match protection {
        Protection::Sk | Protection::Skf { fragment: 1, .. } => inner_first,
        Protection::Skf { .. } => PayloadType::NONE,
    };
    out.extend_from_slice(&[next.0, 0]);
    out.extend_from_slice(&payload_length.to_be_bytes());
    if let Protection::Skf { fragment, total } = protection {
        if fragment == 0 || fragment > total {
            return Err(WireError::FragmentNumber);
        }
        out.extend_from_slice(&fragment.to_be_bytes());
        out.extend_from_slice(&total.to_be_bytes());
    }
    Ok(out)
}
