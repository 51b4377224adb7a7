//! The Nonce payload (RFC 7296 section 3.9).

use super::{PayloadType, WireError};

/// A nonce: 16 to 256 octets when received; not checked when sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nonce(pub Vec<u8>);

impl Nonce {
    /// Shortest nonce in bytes.
    pub const MIN_LEN: usize = 16;
    /// Longest nonce in bytes.
    pub const MAX_LEN: usize = 256;

    pub(super) fn parse(body: &[u8]) -> Result<Self, WireError> {
        if (Self::MIN_LEN..=Self::MAX_LEN).contains(&body.len()) {
            Ok(Self(body.to_vec()))
        } else {
            Err(WireError::Malformed(PayloadType::NONCE))
        }
    }
}
