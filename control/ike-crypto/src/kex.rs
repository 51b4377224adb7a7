//! Key exchange: one interface to Diffie-Hellman and to KEMs (RFC 7296 section 1.2, RFC 5903,
//! RFC 8031, RFC 6989, RFC 9370).
//!
//! ```text
//! initiator                                   responder
//! KeyExchange::generate ──── public ────────▶ respond
//! KeyExchange::finish   ◀─── public ───────── │
//!         └── Secret                          └── Secret
//! ```
//!
//! Everything a peer sends is checked before it is used: its length first, then that it is an
//! element of the group that gives nothing away. The result has the length RFC 7296 demands,
//! leading zeros kept.

mod ecp;
mod kem;
mod modp;

use std::fmt;

use crate::group::Group;
use crate::random::Random;
use crate::secret::Secret;

/// Why a key exchange failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeError {
    /// Key Exchange Data of a length the method does not have.
    Length {
        /// The method.
        group: Group,
        /// Octets the method has.
        expected: usize,
        /// Octets there were.
        actual: usize,
    },
    /// Not an element of the group, or one that makes the secret predictable.
    Value {
        /// The method.
        group: Group,
    },
    /// The cryptographic library failed without the peer's doing.
    Backend,
}

impl fmt::Display for KeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length { group, expected, actual } => {
                write!(f, "{group} has {expected} octets of key exchange data, not {actual}")
            }
            Self::Value { group } => write!(f, "key exchange data is not a valid {group} value"),
            Self::Backend => f.write_str("the key exchange failed"),
        }
    }
}

impl std::error::Error for KeError {}

/// The initiator's half of a key exchange: its private value.
///
/// Wiped when dropped. A failed [`KeyExchange::finish`] leaves it usable, so that a forged
/// answer does not spoil the exchange; it must not be used for a second one that succeeds.
pub struct KeyExchange {
    group: Group,
    private: Private,
}

enum Private {
    Modp(modp::PrivateValue),
    Curve(ecp::PrivateValue),
    Kem(kem::PrivateValue),
}

impl KeyExchange {
    /// A private value from `random` (ML-KEM: from the back-end) and the octets to send.
    ///
    /// # Errors
    ///
    /// [`KeError::Backend`].
    pub fn generate(group: Group, random: &mut dyn Random) -> Result<(Self, Vec<u8>), KeError> {
        let (private, public) = match group {
            Group::Modp2048 | Group::Modp3072 | Group::Modp4096 => {
                let (private, public) = modp::generate(group, random)?;
                (Private::Modp(private), public)
            }
            Group::EcpP256 | Group::EcpP384 | Group::EcpP521 | Group::Curve25519 => {
                let (private, public) = ecp::generate(group, random)?;
                (Private::Curve(private), public)
            }
            Group::MlKem512 | Group::MlKem768 | Group::MlKem1024 => {
                let (private, public) = kem::generate(group)?;
                (Private::Kem(private), public)
            }
        };
        Ok((Self { group, private }, public))
    }

    /// The method.
    #[must_use]
    pub const fn group(&self) -> Group {
        self.group
    }

    /// The shared secret, from what the responder sent.
    ///
    /// # Errors
    ///
    /// [`KeError::Length`] or [`KeError::Value`] for what the peer sent, [`KeError::Backend`].
    pub fn finish(&self, peer: &[u8]) -> Result<Secret, KeError> {
        check_len(self.group, self.group.response_len(), peer)?;
        self.agree(peer)
    }

    /// Length already checked.
    fn agree(&self, peer: &[u8]) -> Result<Secret, KeError> {
        match &self.private {
            Private::Modp(private) => modp::agree(self.group, private, peer),
            Private::Curve(private) => ecp::agree(self.group, private, peer),
            Private::Kem(private) => kem::open(private, peer),
        }
    }
}

impl fmt::Debug for KeyExchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyExchange").field("group", &self.group).finish_non_exhaustive()
    }
}

/// The responder's whole part: from what the initiator sent, the octets to answer with and the
/// shared secret. Randomness as in [`KeyExchange::generate`].
///
/// # Errors
///
/// [`KeError::Length`] or [`KeError::Value`] for what the peer sent, [`KeError::Backend`].
pub fn respond(
    group: Group,
    peer: &[u8],
    random: &mut dyn Random,
) -> Result<(Vec<u8>, Secret), KeError> {
    check_len(group, group.request_len(), peer)?;
    if group.is_kem() {
        return kem::seal(group, peer);
    }
    let (exchange, public) = KeyExchange::generate(group, random)?;
    let secret = exchange.agree(peer)?;
    Ok((public, secret))
}

const fn check_len(group: Group, expected: usize, peer: &[u8]) -> Result<(), KeError> {
    if peer.len() == expected {
        Ok(())
    } else {
        Err(KeError::Length { group, expected, actual: peer.len() })
    }
}

#[cfg(test)]
mod tests;
