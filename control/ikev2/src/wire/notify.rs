//! The Notify payload (RFC 7296 section 3.10).
//!
//! ```text
//! protocol 8 | SPI size 8 | type 16
//! SPI
//! data
//! ```

pub use super::notify_type::NotifyType;
use super::reader::{Reader, length8};
use super::{PayloadType, WireError};
use core::fmt;

/// An error or a status. Nothing says yet that the data fits the type.
#[derive(Clone, PartialEq, Eq)]
pub struct Notify {
    /// Protocol ID; sent as 0 without an SPI and then ignored on receipt.
    pub protocol: u8,
    /// SPI of the SA that is meant: 4 octets, or none.
    pub spi: Vec<u8>,
    /// What is notified.
    pub kind: NotifyType,
    /// What the type asks for.
    pub data: Vec<u8>,
}

impl Notify {
    /// About no SA in particular.
    #[must_use]
    pub const fn new(kind: NotifyType, data: Vec<u8>) -> Self {
        Self { protocol: 0, spi: Vec::new(), kind, data }
    }

    /// About a Child SA of `protocol`.
    #[must_use]
    pub fn about(protocol: u8, spi: u32, kind: NotifyType) -> Self {
        Self { protocol, spi: spi.to_be_bytes().to_vec(), kind, data: Vec::new() }
    }

    /// The SPI of the Child SA that is meant; `None` if there is none or it has another size.
    #[must_use]
    pub fn child_spi(&self) -> Option<u32> {
        self.spi.as_slice().try_into().ok().map(u32::from_be_bytes)
    }

    pub(super) fn parse(body: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(PayloadType::NOTIFY, body);
        let [protocol, spi_size] = reader.array()?;
        let kind = NotifyType(reader.u16()?);
        let spi = reader.take(usize::from(spi_size))?.to_vec();
        Ok(Self { protocol, spi, kind, data: reader.rest().to_vec() })
    }

    pub(super) fn emit(&self, out: &mut Vec<u8>) -> Result<(), WireError> {
        out.extend_from_slice(&[self.protocol, length8(self.spi.len(), PayloadType::NOTIFY)?]);
        out.extend_from_slice(&self.kind.0.to_be_bytes());
        out.extend_from_slice(&self.spi);
        out.extend_from_slice(&self.data);
        Ok(())
    }
}

/// The data of a token or ticket lets whoever reads it act in the peer's name.
impl fmt::Debug for Notify {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Notify");
        shown.field("protocol", &self.protocol).field("spi", &self.spi).field("kind", &self.kind);
        if self.kind.is_secret() {
            shown.field("data", &format_args!("{} octets", self.data.len()));
        } else {
            shown.field("data", &self.data);
        }
        shown.finish()
    }
}
