//! The EAP packet, RFC 3748 §4.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |     Code      |  Identifier   |            Length             |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |     Type      |  Type-Data ...           (request, response)
//! +-+-+-+-+-+-+-+-+-+-+-+-+-
//! ```
//!
//! Length is that of the whole packet and must be that of the IKE payload: a payload carries
//! exactly one packet, so trailing octets are somebody's mistake or trick.

use crate::reason::Reason;

/// Octets before the type.
const HEADER_BYTES: usize = 4;

/// Request.
pub(crate) const CODE_REQUEST: u8 = 1;
/// Response.
pub(crate) const CODE_RESPONSE: u8 = 2;
/// Success.
pub(crate) const CODE_SUCCESS: u8 = 3;
/// Failure.
pub(crate) const CODE_FAILURE: u8 = 4;

/// Who are you.
pub(crate) const TYPE_IDENTITY: u8 = 1;
/// Text for a human.
pub(crate) const TYPE_NOTIFICATION: u8 = 2;
/// Not this method (responses only).
pub(crate) const TYPE_NAK: u8 = 3;
/// EAP-TLS.
pub(crate) const TYPE_TLS: u8 = 13;
/// MSCHAPv2.
pub(crate) const TYPE_MSCHAPV2: u8 = 26;
/// Expanded types, RFC 3748 §5.7.
pub(crate) const TYPE_EXPANDED: u8 = 254;

/// A packet whose length is what it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Packet<'a> {
    pub(crate) identifier: u8,
    pub(crate) body: Body<'a>,
}

/// What a packet is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Body<'a> {
    Request { kind: u8, data: &'a [u8] },
    Response { kind: u8, data: &'a [u8] },
    Success,
    Failure,
}

impl<'a> Packet<'a> {
    /// Takes `octets` apart.
    pub(crate) fn parse(octets: &'a [u8]) -> Result<Self, Reason> {
        let Some((&[code, identifier, high, low], rest)) = octets.split_first_chunk() else {
            return Err(Reason::Malformed("shorter than its header"));
        };
        if usize::from(u16::from_be_bytes([high, low])) != octets.len() {
            return Err(Reason::Malformed("length field"));
        }
        let body = match (code, rest) {
            (CODE_REQUEST, [kind, data @ ..]) => Body::Request { kind: *kind, data },
            (CODE_RESPONSE, [kind, data @ ..]) => Body::Response { kind: *kind, data },
            (CODE_REQUEST | CODE_RESPONSE, []) => return Err(Reason::Malformed("no type")),
            (CODE_SUCCESS, []) => Body::Success,
            (CODE_FAILURE, []) => Body::Failure,
            (CODE_SUCCESS | CODE_FAILURE, _) => {
                return Err(Reason::Malformed("success or failure with data"));
            }
            _ => return Err(Reason::UnexpectedCode(code)),
        };
        Ok(Self { identifier, body })
    }

    /// The code, for complaints.
    pub(crate) fn code(&self) -> u8 {
        match self.body {
            Body::Request { .. } => CODE_REQUEST,
            Body::Response { .. } => CODE_RESPONSE,
            Body::Success => CODE_SUCCESS,
            Body::Failure => CODE_FAILURE,
        }
    }
}

/// A request of `kind`. `data` is this side's own and far below 64 KiB.
pub(crate) fn request(identifier: u8, kind: u8, data: &[u8]) -> Vec<u8> {
    typed(CODE_REQUEST, identifier, kind, data)
}

/// A response of `kind`. `data` is this side's own and far below 64 KiB.
pub(crate) fn response(identifier: u8, kind: u8, data: &[u8]) -> Vec<u8> {
    typed(CODE_RESPONSE, identifier, kind, data)
}

fn typed(code: u8, identifier: u8, kind: u8, data: &[u8]) -> Vec<u8> {
    let len = HEADER_BYTES + 1 + data.len();
    let field = u16::try_from(len).unwrap_or(u16::MAX);
    let mut out = Vec::with_capacity(len);
    out.extend_from_slice(&[code, identifier]);
    out.extend_from_slice(&field.to_be_bytes());
    out.push(kind);
    out.extend_from_slice(data);
    out
}

/// EAP-Success in answer to the response `identifier` (RFC 3748 §4.2).
pub(crate) fn success(identifier: u8) -> Vec<u8> {
    vec![CODE_SUCCESS, identifier, 0, 4]
}

/// EAP-Failure in answer to the response `identifier` (RFC 3748 §4.2).
pub(crate) fn failure(identifier: u8) -> Vec<u8> {
    vec![CODE_FAILURE, identifier, 0, 4]
}

/// Whether a response says Nak: the legacy one (RFC 3748 §5.3.1), or the expanded one of the
/// IETF's vendor number zero (§5.3.2).
pub(crate) fn is_nak(kind: u8, data: &[u8]) -> bool {
    kind == TYPE_NAK || (kind == TYPE_EXPANDED && data.starts_with(&[0, 0, 0, 0, 0, 0, TYPE_NAK]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_emitted_is_parsed() {
        let octets = request(7, TYPE_IDENTITY, b"who");
        assert_eq!(octets, b"\x01\x07\x00\x08\x01who");
        let packet = Packet::parse(&octets).unwrap();
        assert_eq!(packet.identifier, 7);
        assert_eq!(packet.body, Body::Request { kind: TYPE_IDENTITY, data: b"who" });
        let octets = response(8, TYPE_NAK, &[]);
        let packet = Packet::parse(&octets).unwrap();
        assert_eq!(packet.body, Body::Response { kind: TYPE_NAK, data: &[] });
        assert_eq!(Packet::parse(&success(1)).unwrap().body, Body::Success);
        assert_eq!(Packet::parse(&failure(1)).unwrap().body, Body::Failure);
    }

    #[test]
    fn ike_21_length_of_an_eap_packet_lies() {
        let good = response(1, TYPE_IDENTITY, b"alice");
        for field in 0..=u16::MAX {
            let mut octets = good.clone();
            octets[2..4].copy_from_slice(&field.to_be_bytes());
            assert_eq!(Packet::parse(&octets).is_ok(), usize::from(field) == good.len());
        }
        for len in 0..good.len() {
            assert!(Packet::parse(&good[..len]).is_err());
        }
        assert!(Packet::parse(&[CODE_REQUEST, 0, 0, 4]).is_err());
        assert!(Packet::parse(&[CODE_SUCCESS, 0, 0, 5, 0]).is_err());
    }

    #[test]
    fn codes_are_the_four() {
        for code in 0..=u8::MAX {
            let octets = [code, 9, 0, 4];
            assert_eq!(
                Packet::parse(&octets).is_ok(),
                (CODE_SUCCESS..=CODE_FAILURE).contains(&code)
            );
        }
    }

    #[test]
    fn both_kinds_of_nak() {
        assert!(is_nak(TYPE_NAK, &[TYPE_TLS]));
        assert!(is_nak(TYPE_EXPANDED, &[0, 0, 0, 0, 0, 0, 3, 254, 0, 0, 0]));
        assert!(!is_nak(TYPE_EXPANDED, &[0, 0, 1, 0, 0, 0, 3]));
        assert!(!is_nak(TYPE_EXPANDED, &[]));
    }
}
