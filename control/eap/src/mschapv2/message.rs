//! The messages of EAP-MSCHAPv2, below the EAP type.
//!
//! ```text
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |    OpCode     |  MS-CHAPv2-ID |           MS-Length           |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |  Value-Size   |  Value ...    |  Name ...      Challenge, Response
//! |  Message ...                                   Success, Failure of the server
//! ```
//!
//! MS-Length counts from the op code; the client's Success and Failure are the op code alone,
//! though some send the whole header.

use super::CHALLENGE_BYTES;
use super::derive::{AUTHENTICATOR_BYTES, NT_RESPONSE_BYTES};
use crate::MAX_IDENTITY_BYTES;
use crate::reason::Reason;

pub(super) const OP_CHALLENGE: u8 = 1;
pub(super) const OP_RESPONSE: u8 = 2;
pub(super) const OP_SUCCESS: u8 = 3;
pub(super) const OP_FAILURE: u8 = 4;

const HEADER_BYTES: usize = 4;
/// Peer challenge, reserved, NT response, flags.
const RESPONSE_VALUE_BYTES: usize = CHALLENGE_BYTES + 8 + NT_RESPONSE_BYTES + 1;
/// `ERROR_AUTHENTICATION_FAILURE`, RFC 2759 §6.
const AUTHENTICATION_FAILURE: u32 = 691;

/// Challenge, as far as it matters. The server's name does not.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Challenge {
    pub(super) id: u8,
    pub(super) challenge: [u8; CHALLENGE_BYTES],
}

impl Challenge {
    pub(super) fn emit(&self, name: &[u8]) -> Vec<u8> {
        let value_size = CHALLENGE_BYTES as u8;
        message(OP_CHALLENGE, self.id, &[&[value_size], &self.challenge, name])
    }

    pub(super) fn parse(data: &[u8]) -> Result<Self, Reason> {
        let (id, body) = split(data)?;
        let Some((&[size], rest)) = body.split_first_chunk() else {
            return Err(Reason::Malformed("MSCHAPv2 challenge"));
        };
        let Some((challenge, _name)) = rest.split_first_chunk() else {
            return Err(Reason::Malformed("MSCHAPv2 challenge"));
        };
        if usize::from(size) != CHALLENGE_BYTES {
            return Err(Reason::Malformed("MSCHAPv2 challenge size"));
        }
        Ok(Self { id, challenge: *challenge })
    }
}

/// Response.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Response<'a> {
    pub(super) id: u8,
    pub(super) peer_challenge: [u8; CHALLENGE_BYTES],
    pub(super) nt_response: [u8; NT_RESPONSE_BYTES],
    pub(super) name: &'a [u8],
}

impl<'a> Response<'a> {
    pub(super) fn emit(&self) -> Vec<u8> {
        let value_size = RESPONSE_VALUE_BYTES as u8;
        let parts: [&[u8]; 6] =
            [&[value_size], &self.peer_challenge, &[0; 8], &self.nt_response, &[0], self.name];
        message(OP_RESPONSE, self.id, &parts)
    }

    pub(super) fn parse(data: &'a [u8]) -> Result<Self, Reason> {
        const SHORT: Reason = Reason::Malformed("MSCHAPv2 response");
        let (id, body) = split(data)?;
        let (&[size], rest) = body.split_first_chunk().ok_or(SHORT)?;
        if usize::from(size) != RESPONSE_VALUE_BYTES {
            return Err(Reason::Malformed("MSCHAPv2 response size"));
        }
        let (peer_challenge, rest) = rest.split_first_chunk().ok_or(SHORT)?;
        let (_reserved, rest) = rest.split_first_chunk::<8>().ok_or(SHORT)?;
        let (nt_response, rest) = rest.split_first_chunk().ok_or(SHORT)?;
        let (&[_flags], name) = rest.split_first_chunk().ok_or(SHORT)?;
        if name.len() > MAX_IDENTITY_BYTES {
            return Err(Reason::TooLarge);
        }
        Ok(Self { id, peer_challenge: *peer_challenge, nt_response: *nt_response, name })
    }
}

/// The server's Success: `S=` and its proof in hexadecimal.
pub(super) fn emit_success(id: u8, authenticator: &[u8; AUTHENTICATOR_BYTES]) -> Vec<u8> {
    let mut text = String::with_capacity(2 + 2 * AUTHENTICATOR_BYTES);
    text.push_str("S=");
    push_hex(&mut text, authenticator);
    text.push_str(" M=Welcome");
    message(OP_SUCCESS, id, &[text.as_bytes()])
}

/// The server's proof out of its Success.
pub(super) fn parse_success(data: &[u8]) -> Result<[u8; AUTHENTICATOR_BYTES], Reason> {
    let (_id, text) = split(data)?;
    let field = field(text, b"S=").ok_or(Reason::Malformed("MSCHAPv2 success without S="))?;
    from_hex(field).ok_or(Reason::Malformed("MSCHAPv2 authenticator response"))
}

/// The server's Failure: wrong credentials, and no second try (R=0).
///
/// A second try would cost a round for every guess and gain a client nothing: it may begin
/// another IKE SA. `challenge` is drawn for the purpose and not used.
pub(super) fn emit_failure(id: u8, challenge: &[u8; CHALLENGE_BYTES]) -> Vec<u8> {
    let mut text = format!("E={AUTHENTICATION_FAILURE} R=0 C=");
    push_hex(&mut text, challenge);
    text.push_str(" V=3 M=Authentication failed");
    message(OP_FAILURE, id, &[text.as_bytes()])
}

/// The error code out of the server's Failure; 0 if it gives none that can be read.
pub(super) fn parse_failure(data: &[u8]) -> Result<u32, Reason> {
    let (_id, text) = split(data)?;
    let code = field(text, b"E=").and_then(|code| std::str::from_utf8(code).ok());
    Ok(code.and_then(|code| code.parse().ok()).unwrap_or(0))
}

/// Checks MS-Length; identifier and what follows the header.
fn split(data: &[u8]) -> Result<(u8, &[u8]), Reason> {
    let Some((&[_op, id, high, low], body)) = data.split_first_chunk::<HEADER_BYTES>() else {
        return Err(Reason::Malformed("MSCHAPv2 header"));
    };
    if usize::from(u16::from_be_bytes([high, low])) != data.len() {
        return Err(Reason::Malformed("MSCHAPv2 length field"));
    }
    Ok((id, body))
}

fn message(op: u8, id: u8, parts: &[&[u8]]) -> Vec<u8> {
    let len = HEADER_BYTES + parts.iter().map(|part| part.len()).sum::<usize>();
    let field = u16::try_from(len).unwrap_or(u16::MAX);
    let mut out = Vec::with_capacity(len);
    out.extend_from_slice(&[op, id]);
    out.extend_from_slice(&field.to_be_bytes());
    parts.iter().for_each(|part| out.extend_from_slice(part));
    out
}

/// The value of the first word that begins with `key`. Some end their text with a NUL.
fn field<'a>(text: &'a [u8], key: &[u8]) -> Option<&'a [u8]> {
    text.split(|octet| matches!(octet, b' ' | 0)).find_map(|word| word.strip_prefix(key))
}

fn push_hex(text: &mut String, octets: &[u8]) {
    for octet in octets {
        for nibble in [octet >> 4, octet & 0xf] {
            let digit = char::from_digit(u32::from(nibble), 16).unwrap_or('0');
            text.push(digit.to_ascii_uppercase());
        }
    }
}

/// Exactly `N` octets of hexadecimal, of either case.
fn from_hex<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    if text.len() != 2 * N {
        return None;
    }
    let mut out = [0; N];
    for (out, pair) in out.iter_mut().zip(text.chunks_exact(2)) {
        for digit in pair {
            *out = *out << 4 | u8::try_from(char::from(*digit).to_digit(16)?).ok()?;
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_round_trip() {
        let challenge = Challenge { id: 5, challenge: [7; 16] };
        assert_eq!(Challenge::parse(&challenge.emit(b"gateway")).unwrap(), challenge);
        let response = Response {
            id: 6,
            peer_challenge: [8; 16],
            nt_response: [9; 24],
            name: b"DOMAIN\\alice",
        };
        assert_eq!(Response::parse(&response.emit()).unwrap(), response);
        assert_eq!(parse_success(&emit_success(1, &[0xa5; 20])).unwrap(), [0xa5; 20]);
        assert_eq!(parse_failure(&emit_failure(1, &[0x5a; 16])).unwrap(), 691);
    }

    #[test]
    fn ike_21_inner_lengths_lie() {
        let response =
            Response { id: 6, peer_challenge: [8; 16], nt_response: [9; 24], name: b"a" }.emit();
        for len in 0..response.len() {
            assert!(Response::parse(&response[..len]).is_err());
        }
        for (at, value) in [(3, 0), (3, 0xff), (2, 1), (4, 48), (4, 50), (4, 0), (4, 0xff)] {
            let mut octets = response.clone();
            octets[at] = value;
            assert!(Response::parse(&octets).is_err(), "octet {at} = {value}");
        }
        let challenge = Challenge { id: 5, challenge: [7; 16] }.emit(b"");
        assert!(Challenge::parse(&challenge).is_ok());
        for len in 0..challenge.len() {
            assert!(Challenge::parse(&challenge[..len]).is_err());
        }
        let long = Response {
            id: 6,
            peer_challenge: [8; 16],
            nt_response: [9; 24],
            name: &[b'a'; MAX_IDENTITY_BYTES + 1],
        };
        assert_eq!(Response::parse(&long.emit()), Err(Reason::TooLarge));
    }

    #[test]
    fn texts_of_others() {
        let parse = |text: &[u8]| parse_success(&message(OP_SUCCESS, 1, &[text]));
        let proof = b"407a5589115FD0D6209F510FE9C04566932CDA56";
        let mut expected = [0; 20];
        expected.copy_from_slice(&from_hex::<20>(proof).unwrap());
        assert_eq!(parse(&[b"S=", &proof[..]].concat()).unwrap(), expected);
        assert_eq!(parse(&[b"S=", &proof[..], b" M=OK\0"].concat()).unwrap(), expected);
        assert_eq!(parse(&[b"M=x S=", &proof[..], b"\0"].concat()).unwrap(), expected);
        assert!(parse(b"M=OK").is_err());
        assert!(parse(b"S=40").is_err());
        assert!(parse(&[b"S=", &[b'g'; 40][..]].concat()).is_err());
        let code = |text: &[u8]| parse_failure(&message(OP_FAILURE, 1, &[text])).unwrap();
        assert_eq!(code(b"E=0000000648 R=1 C=00 V=3"), 648);
        assert_eq!(code(b"E=99999999999"), 0);
        assert_eq!(code(b""), 0);
    }
}
