//! Why octets are not an IKEv2 message, or a message cannot be put into octets.

use super::PayloadType;
use core::fmt;

/// What is wrong, and in which payload.
///
/// The state machine decides what the peer is told: [`WireError::MajorVersion`] is answered with
/// INVALID_MAJOR_VERSION (RFC 7296 section 2.5), what was authenticated and is wrong with
/// INVALID_SYNTAX (section 3.10.1); everything else about the header is dropped in silence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WireError {
    /// Fewer octets than a header has.
    Short,
    /// The length in the header is not that of the datagram, or is above the limit.
    Length,
    /// Major version that is not 2: a well-formed message of another protocol (section 2.5).
    MajorVersion(u8),
    /// The initiator's SPI is zero (section 3.1).
    ZeroInitiatorSpi,
    /// The responder's SPI is zero in an exchange that has an SA (section 3.1).
    ZeroResponderSpi,
    /// The responder's SPI is set in a request that starts an SA (section 3.1).
    UnexpectedResponderSpi,
    /// A payload's length is below that of its header or reaches past the end of the chain.
    PayloadLength(PayloadType),
    /// More payloads than [`super::MAX_PAYLOADS`]; the first one too many.
    TooManyPayloads(PayloadType),
    /// Octets behind the last payload of the chain.
    TrailingOctets,
    /// A payload type of IKEv1 (1 to 32), which IKEv2 never uses (section 3.2).
    Ikev1Payload(PayloadType),
    /// An SK or SKF payload inside another, or where everything has to be in clear.
    ProtectionNested(PayloadType),
    /// Octets behind an SK or SKF payload, which must be the last (section 3.14).
    ProtectionNotLast(PayloadType),
    /// Fragment number zero or above the total, or a total of zero (RFC 7383 section 2.5).
    FragmentNumber,
    /// What a payload holds contradicts itself or its format.
    Malformed(PayloadType),
    /// A list inside a payload is longer than its limit.
    TooMany(PayloadType),
    /// To be sent, but longer than its length field can say.
    TooLong(PayloadType),
}

impl WireError {
    /// The payload that is to blame; `None` if it is the message as a whole.
    #[must_use]
    pub const fn payload(self) -> Option<PayloadType> {
        match self {
            Self::PayloadLength(kind)
            | Self::TooManyPayloads(kind)
            | Self::Ikev1Payload(kind)
            | Self::ProtectionNested(kind)
            | Self::ProtectionNotLast(kind)
            | Self::Malformed(kind)
            | Self::TooMany(kind)
            | Self::TooLong(kind) => Some(kind),
            Self::FragmentNumber => Some(PayloadType::SKF),
            Self::Short
            | Self::Length
            | Self::MajorVersion(_)
            | Self::ZeroInitiatorSpi
            | Self::ZeroResponderSpi
            | Self::UnexpectedResponderSpi
            | Self::TrailingOctets => None,
        }
    }

    /// Whether the header itself is unusable: there is nobody who could be answered.
    #[must_use]
    pub const fn is_header(self) -> bool {
        matches!(
            self,
            Self::Short
                | Self::Length
                | Self::MajorVersion(_)
                | Self::ZeroInitiatorSpi
                | Self::ZeroResponderSpi
                | Self::UnexpectedResponderSpi
        )
    }
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Short => f.write_str("shorter than an IKE header"),
            Self::Length => f.write_str("length in the header is not that of the datagram"),
            Self::MajorVersion(major) => write!(f, "major version {major}"),
            Self::ZeroInitiatorSpi => f.write_str("initiator SPI is zero"),
            Self::ZeroResponderSpi => f.write_str("responder SPI is zero"),
            Self::UnexpectedResponderSpi => f.write_str("responder SPI in a first request"),
            Self::PayloadLength(kind) => write!(f, "length of payload {kind} is wrong"),
            Self::TooManyPayloads(kind) => write!(f, "too many payloads, at {kind}"),
            Self::TrailingOctets => f.write_str("octets behind the last payload"),
            Self::Ikev1Payload(kind) => write!(f, "IKEv1 payload {kind}"),
            Self::ProtectionNested(kind) => write!(f, "payload {kind} where it may not be"),
            Self::ProtectionNotLast(kind) => write!(f, "payload {kind} is not the last"),
            Self::FragmentNumber => f.write_str("fragment number outside the total"),
            Self::Malformed(kind) => write!(f, "payload {kind} is malformed"),
            Self::TooMany(kind) => write!(f, "list in payload {kind} is too long"),
            Self::TooLong(kind) => write!(f, "payload {kind} is too long to send"),
        }
    }
}

impl core::error::Error for WireError {}
