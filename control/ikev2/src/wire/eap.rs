//! The EAP payload: one EAP packet (RFC 7296 section 3.16, RFC 3748 section 4).
//!
//! ```text
//! code 8 | identifier 8 | length 16, all of it
//! type 8, in requests and responses
//! data
//! ```

use super::{PayloadType, WireError};
use core::fmt;

/// Shortest packet in bytes: that of success and failure.
const HEADER_LEN: usize = 4;
const EXPANDED: u8 = 254;

/// An EAP packet whose length field is right; what its type says is not looked at.
#[derive(Clone, PartialEq, Eq)]
pub struct EapMessage(Vec<u8>);

impl EapMessage {
    /// Code of a request.
    pub const REQUEST: u8 = 1;
    /// Code of a response.
    pub const RESPONSE: u8 = 2;
    /// Code of success.
    pub const SUCCESS: u8 = 3;
    /// Code of failure.
    pub const FAILURE: u8 = 4;

    /// Takes a packet to be sent.
    ///
    /// # Errors
    /// [`WireError::Malformed`] if its length field or the length for its code is wrong.
    pub fn new(packet: Vec<u8>) -> Result<Self, WireError> {
        let malformed = WireError::Malformed(PayloadType::EAP);
        let &[code, _, high, low] = packet.first_chunk::<HEADER_LEN>().ok_or(malformed)?;
        let length_is_right = match code {
            Self::REQUEST | Self::RESPONSE => packet.len() > HEADER_LEN,
            Self::SUCCESS | Self::FAILURE => packet.len() == HEADER_LEN,
            _ => true,
        };
        if !length_is_right || usize::from(u16::from_be_bytes([high, low])) != packet.len() {
            return Err(malformed);
        }
        Ok(Self(packet))
    }

    pub(super) fn parse(body: &[u8]) -> Result<Self, WireError> {
        Self::new(body.to_vec())
    }

    /// The packet.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The code, see the constants.
    #[must_use]
    pub fn code(&self) -> u8 {
        self.0.first().copied().unwrap_or_default()
    }

    /// The type of a request or response.
    #[must_use]
    pub fn method(&self) -> Option<u8> {
        let has_type = matches!(self.code(), Self::REQUEST | Self::RESPONSE);
        self.0.get(HEADER_LEN).copied().filter(|_kind| has_type)
    }

    /// Vendor and vendor's type of an expanded type (RFC 3748 section 5.7).
    fn expanded(&self) -> Option<(u32, u32)> {
        let (_, rest) = self.0.split_first_chunk::<HEADER_LEN>()?;
        let (&[kind, v2, v1, v0, t3, t2, t1, t0], _) = rest.split_first_chunk()?;
        (kind == EXPANDED)
            .then_some((u32::from_be_bytes([0, v2, v1, v0]), u32::from_be_bytes([t3, t2, t1, t0])))
    }
}

/// The contents may be a password or a challenge to guess one from.
impl fmt::Debug for EapMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EapMessage({self}, {} octets)", self.0.len())
    }
}

/// As the log shows it: `REQ/ID`.
impl fmt::Display for EapMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.code() {
            Self::REQUEST => f.write_str("REQ")?,
            Self::RESPONSE => f.write_str("RES")?,
            Self::SUCCESS => return f.write_str("SUCC"),
            Self::FAILURE => return f.write_str("FAIL"),
            code => return write!(f, "({code})"),
        }
        match (self.method(), self.expanded()) {
            (None, _) => Ok(()),
            (Some(_), Some((vendor, kind))) => write!(f, "/{kind}-{vendor}"),
            (Some(kind), None) => match method_name(kind) {
                Some(name) => write!(f, "/{name}"),
                None => write!(f, "/({kind})"),
            },
        }
    }
}

/// Names of the EAP registry's method types.
const fn method_name(kind: u8) -> Option<&'static str> {
    Some(match kind {
        1 => "ID",
        2 => "NTF",
        3 => "NAK",
        4 => "MD5",
        5 => "OTP",
        6 => "GTC",
        13 => "TLS",
        18 => "SIM",
        21 => "TTLS",
        23 => "AKA",
        25 => "PEAP",
        26 => "MSCHAPV2",
        33 => "MSTLV",
        38 => "TNC",
        50 => "AKA'",
        54 => "PT",
        EXPANDED => "EXP",
        255 => "XP",
        _ => return None,
    })
}
