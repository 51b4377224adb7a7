//! The Delete payload (RFC 7296 section 3.11).
//!
//! ```text
//! protocol 8 | SPI size 8 | number of SPIs 16
//! SPIs
//! ```

use super::reader::{Reader, length16};
use super::sa::protocol;
use super::{PayloadType, WireError};

/// SPIs of one payload at most.
pub const MAX_DELETE_SPIS: usize = 4096;
const SPI_LEN: u8 = 4;

/// SAs that are gone: the IKE SA itself, or Child SAs by the SPIs the sender receives on.
///
/// An SPI may be there twice or belong to nobody; acting on it must not mind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delete {
    /// Protocol ID: IKE, AH or ESP, see [`protocol`].
    pub protocol: u8,
    /// The SPIs; none for IKE.
    pub spis: Vec<u32>,
}

impl Delete {
    /// Of the IKE SA that carries it.
    #[must_use]
    pub const fn ike_sa() -> Self {
        Self { protocol: protocol::IKE, spis: Vec::new() }
    }

    /// Of Child SAs that speak ESP.
    #[must_use]
    pub const fn esp(spis: Vec<u32>) -> Self {
        Self { protocol: protocol::ESP, spis }
    }

    pub(super) fn parse(body: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(PayloadType::DELETE, body);
        let [protocol, spi_size] = reader.array()?;
        let count = usize::from(reader.u16()?);
        let ike = protocol == protocol::IKE;
        let spi_size_is_right = match spi_size {
            0 => count == 0,
            SPI_LEN => !ike,
            _ => false,
        };
        if !spi_size_is_right {
            return Err(reader.malformed());
        }
        if count > MAX_DELETE_SPIS {
            return Err(reader.too_many());
        }
        let mut spis = Vec::new();
        while spis.len() < count {
            spis.push(reader.u32()?);
        }
        reader.finish()?;
        Ok(Self { protocol, spis })
    }

    pub(super) fn emit(&self, out: &mut Vec<u8>) -> Result<(), WireError> {
        let ike = self.protocol == protocol::IKE;
        if self.spis.len() > MAX_DELETE_SPIS {
            return Err(WireError::TooMany(PayloadType::DELETE));
        }
        if ike && !self.spis.is_empty() {
            return Err(WireError::Malformed(PayloadType::DELETE));
        }
        out.extend_from_slice(&[self.protocol, if ike { 0 } else { SPI_LEN }]);
        out.extend_from_slice(&length16(self.spis.len(), PayloadType::DELETE)?);
        for spi in &self.spis {
            out.extend_from_slice(&spi.to_be_bytes());
        }
        Ok(())
    }
}
