//! The IKE header (RFC 7296 section 3.1).
//!
//! ```text
//! initiator SPI 64
//! responder SPI 64
//! next payload 8 | major 4 | minor 4 | exchange 8 | flags 8
//! message ID 32
//! length 32, the header included
//! ```

use super::code_point::code_points;
use super::{MAX_DATAGRAM_BYTES, PayloadType, WireError};

/// Length of the header in bytes.
pub const HEADER_LEN: usize = 28;
/// The only major version spoken here.
const MAJOR_VERSION: u8 = 2;
const FLAG_INITIATOR: u8 = 0x08;
const FLAG_VERSION: u8 = 0x10;
const FLAG_RESPONSE: u8 = 0x20;

code_points! {
    /// Which exchange a message belongs to (RFC 7296 section 3.1).
    ExchangeType(u8) {
        34 IKE_SA_INIT "IKE_SA_INIT" "RFC 7296 section 1.2.";
        35 IKE_AUTH "IKE_AUTH" "RFC 7296 section 1.2.";
        36 CREATE_CHILD_SA "CREATE_CHILD_SA" "RFC 7296 section 1.3.";
        37 INFORMATIONAL "INFORMATIONAL" "RFC 7296 section 1.4.";
        38 IKE_SESSION_RESUME "IKE_SESSION_RESUME" "RFC 5723 section 4.3.";
        43 IKE_INTERMEDIATE "IKE_INTERMEDIATE" "RFC 9242 section 3.";
        44 IKE_FOLLOWUP_KE "IKE_FOLLOWUP_KE" "RFC 9370 section 2.2.4.";
    }
}

impl ExchangeType {
    /// Whether its request comes before there is a responder's SPI.
    #[must_use]
    pub const fn starts_an_sa(self) -> bool {
        matches!(self, Self::IKE_SA_INIT | Self::IKE_SESSION_RESUME)
    }
}

/// Version of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    /// Major version; 2.
    pub major: u8,
    /// Minor version; sent as 0, ignored on receipt (section 2.5).
    pub minor: u8,
}

impl Version {
    /// What is sent: 2.0.
    pub const IKEV2: Self = Self { major: MAJOR_VERSION, minor: 0 };
}

/// The flags that mean something; the reserved ones are not kept (section 3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// Sent by the original initiator of the IKE SA.
    pub initiator: bool,
    /// The sender could speak a higher major version; sent as 0, ignored on receipt.
    pub version: bool,
    /// A response, not a request.
    pub response: bool,
}

impl Flags {
    /// Of a request by the original initiator.
    pub const INITIATOR_REQUEST: Self = Self { initiator: true, version: false, response: false };

    const fn from_octet(octet: u8) -> Self {
        Self {
            initiator: octet & FLAG_INITIATOR != 0,
            version: octet & FLAG_VERSION != 0,
            response: octet & FLAG_RESPONSE != 0,
        }
    }

    fn octet(self) -> u8 {
        let bit = |set, mask| if set { mask } else { 0 };
        bit(self.initiator, FLAG_INITIATOR)
            | bit(self.version, FLAG_VERSION)
            | bit(self.response, FLAG_RESPONSE)
    }
}

/// The header in native terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// SPI of the initiator, never zero.
    pub spi_i: u64,
    /// SPI of the responder; zero in the first request and its stateless answers.
    pub spi_r: u64,
    /// Type of the first payload. Set on emission.
    pub first: PayloadType,
    /// Version of the protocol.
    pub version: Version,
    /// Exchange.
    pub exchange: ExchangeType,
    /// Flags.
    pub flags: Flags,
    /// Message ID.
    pub message_id: u32,
    /// Length of the message in bytes, header included. Set on emission.
    pub length: u32,
}

impl Header {
    /// A header to be sent; first payload and length are filled in on emission.
    #[must_use]
    pub const fn new(
        spi_i: u64,
        spi_r: u64,
        exchange: ExchangeType,
        flags: Flags,
        message_id: u32,
    ) -> Self {
        let version = Version::IKEV2;
        let first = PayloadType::NONE;
        Self { spi_i, spi_r, first, version, exchange, flags, message_id, length: 0 }
    }

    /// The fields at the front of `bytes`, nothing checked: enough to answer a message of
    /// another major version.
    ///
    /// # Errors
    /// [`WireError::Short`].
    pub fn read(bytes: &[u8]) -> Result<Self, WireError> {
        let short = WireError::Short;
        let (&spi_i, rest) = bytes.split_first_chunk().ok_or(short)?;
        let (&spi_r, rest) = rest.split_first_chunk().ok_or(short)?;
        let (&[first, version, exchange, flags], rest) = rest.split_first_chunk().ok_or(short)?;
        let (&message_id, rest) = rest.split_first_chunk().ok_or(short)?;
        let (&length, _) = rest.split_first_chunk().ok_or(short)?;
        Ok(Self {
            spi_i: u64::from_be_bytes(spi_i),
            spi_r: u64::from_be_bytes(spi_r),
            first: PayloadType(first),
            version: Version { major: version >> 4, minor: version & 0x0f },
            exchange: ExchangeType(exchange),
            flags: Flags::from_octet(flags),
            message_id: u32::from_be_bytes(message_id),
            length: u32::from_be_bytes(length),
        })
    }

    /// The header of the message that is exactly `datagram`, without a non-ESP marker.
    ///
    /// The version is looked at first: what the rest of another version means is not known.
    /// The one-way INVALID_SPI of RFC 7296 section 1.5 may have a zero initiator SPI; it is
    /// refused too, since nothing may be done on its word.
    ///
    /// # Errors
    /// Those for which [`WireError::is_header`] holds.
    pub fn parse(datagram: &[u8]) -> Result<Self, WireError> {
        let header = Self::read(datagram)?;
        if header.version.major != MAJOR_VERSION {
            return Err(WireError::MajorVersion(header.version.major));
        }
        if u32::try_from(datagram.len()) != Ok(header.length) || datagram.len() > MAX_DATAGRAM_BYTES
        {
            return Err(WireError::Length);
        }
        if header.spi_i == 0 {
            return Err(WireError::ZeroInitiatorSpi);
        }
        if header.exchange.starts_an_sa() {
            if header.spi_r != 0 && !header.flags.response {
                return Err(WireError::UnexpectedResponderSpi);
            }
        } else if header.spi_r == 0 {
            return Err(WireError::ZeroResponderSpi);
        }
        Ok(header)
    }

    /// The octets.
    #[must_use]
    pub fn emit(&self) -> [u8; HEADER_LEN] {
        let mut out = [0; HEADER_LEN];
        let version = (self.version.major << 4) | (self.version.minor & 0x0f);
        let types = [self.first.0, version, self.exchange.0, self.flags.octet()];
        out[..8].copy_from_slice(&self.spi_i.to_be_bytes());
        out[8..16].copy_from_slice(&self.spi_r.to_be_bytes());
        out[16..20].copy_from_slice(&types);
        out[20..24].copy_from_slice(&self.message_id.to_be_bytes());
        out[24..].copy_from_slice(&self.length.to_be_bytes());
        out
    }
}
