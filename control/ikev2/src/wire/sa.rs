//! The Security Association payload: proposals and transforms (RFC 7296 section 3.3).
//!
//! ```text
//! proposal:  more 8 (2, last 0) | reserved 8 | length 16
//!            number 8 | protocol 8 | SPI size 8 | transforms 8
//!            SPI
//! transform: more 8 (3, last 0) | reserved 8 | length 16
//!            type 8 | reserved 8 | ID 16
//! attribute: format 1 | type 15 | value 16, or length 16 and value
//! ```
//!
//! Only framing is judged here. Which numbers follow each other, which types are there and
//! whether a key length makes sense is the business of whoever selects.

use super::reader::{Reader, length8, with_length};
use super::{PayloadType, WireError};

/// Proposals of one payload at most: as many as there are numbers.
pub const MAX_PROPOSALS: usize = 255;
/// Transforms of one payload at most, over all proposals. A proposal's own count ends at 255;
/// this keeps a datagram full of them from becoming many times its size in memory.
pub const MAX_TRANSFORMS: usize = 2048;

const MORE_PROPOSALS: u8 = 2;
const MORE_TRANSFORMS: u8 = 3;
const LAST: u8 = 0;
/// Attribute format bit: a value of 16 bits in place of a length.
const ATTRIBUTE_TV: u16 = 0x8000;
const KEY_LENGTH: u16 = 14;

/// Protocol IDs (section 3.3.1).
pub mod protocol {
    /// No protocol: a notify that concerns no SA.
    pub const NONE: u8 = 0;
    /// IKE.
    pub const IKE: u8 = 1;
    /// AH.
    pub const AH: u8 = 2;
    /// ESP.
    pub const ESP: u8 = 3;
}

/// Transform types (section 3.3.2).
pub mod transform {
    /// Encryption algorithm.
    pub const ENCR: u8 = 1;
    /// Pseudorandom function.
    pub const PRF: u8 = 2;
    /// Integrity algorithm.
    pub const INTEG: u8 = 3;
    /// Key exchange method.
    pub const KE: u8 = 4;
    /// Sequence numbers: 0 for 32 bits, 1 for extended ones (RFC 9827).
    pub const SN: u8 = 5;
    /// First additional key exchange (RFC 9370); the others follow.
    pub const ADDKE1: u8 = 6;
    /// Seventh and last additional key exchange.
    pub const ADDKE7: u8 = 12;
}

/// One algorithm on offer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transform {
    /// Transform type, see [`transform`].
    pub kind: u8,
    /// Transform ID.
    pub id: u16,
    /// Key Length attribute in bits.
    pub key_bits: Option<u16>,
    /// Attributes that were not understood, as octets: any but one Key Length. With any, the
    /// transform may not be chosen (section 3.3.6).
    pub foreign_attributes: Vec<u8>,
}

impl Transform {
    /// A transform without a key length.
    #[must_use]
    pub const fn new(kind: u8, id: u16) -> Self {
        Self { kind, id, key_bits: None, foreign_attributes: Vec::new() }
    }

    /// A transform with a key length in bits.
    #[must_use]
    pub const fn with_key_bits(kind: u8, id: u16, key_bits: u16) -> Self {
        Self { kind, id, key_bits: Some(key_bits), foreign_attributes: Vec::new() }
    }

    /// Whether everything about it was understood.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        self.foreign_attributes.is_empty()
    }

    fn parse(reader: &mut Reader<'_>) -> Result<(u8, Self), WireError> {
        let more = reader.u8()?;
        let _reserved = reader.u8()?;
        let length = reader.u16()?;
        let mut reader = reader.substructure(length, 4)?;
        let mut transform = Self::new(reader.u8()?, 0);
        let _reserved = reader.u8()?;
        transform.id = reader.u16()?;
        while !reader.is_empty() {
            transform.attribute(&mut reader)?;
        }
        Ok((more, transform))
    }

    fn attribute(&mut self, reader: &mut Reader<'_>) -> Result<(), WireError> {
        let (format, value) = (reader.u16()?, reader.u16()?);
        if format == ATTRIBUTE_TV | KEY_LENGTH && self.key_bits.is_none() {
            self.key_bits = Some(value);
            return Ok(());
        }
        self.foreign_attributes.extend_from_slice(&format.to_be_bytes());
        self.foreign_attributes.extend_from_slice(&value.to_be_bytes());
        if format & ATTRIBUTE_TV == 0 {
            self.foreign_attributes.extend_from_slice(reader.take(usize::from(value))?);
        }
        Ok(())
    }

    fn emit(&self, more: u8, out: &mut Vec<u8>) -> Result<(), WireError> {
        with_length(out, 2, PayloadType::SA, |out| {
            out.extend_from_slice(&[more, 0, 0, 0, self.kind, 0]);
            out.extend_from_slice(&self.id.to_be_bytes());
            if let Some(bits) = self.key_bits {
                out.extend_from_slice(&(ATTRIBUTE_TV | KEY_LENGTH).to_be_bytes());
                out.extend_from_slice(&bits.to_be_bytes());
            }
            out.extend_from_slice(&self.foreign_attributes);
            Ok(())
        })
    }
}

/// One proposal: alternatives for every transform type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// Proposal number; the first is 1 and each next one more, an answer repeats it.
    pub number: u8,
    /// Protocol ID, see [`protocol`].
    pub protocol: u8,
    /// The sender's SPI: 0, 4 (AH, ESP) or 8 (IKE rekeying) octets.
    pub spi: Vec<u8>,
    /// The transforms.
    pub transforms: Vec<Transform>,
}

impl Proposal {
    /// The transforms of one type, in order of preference.
    pub fn of_kind(&self, kind: u8) -> impl Iterator<Item = &Transform> {
        self.transforms.iter().filter(move |transform| transform.kind == kind)
    }

    /// Reads one proposal; `budget` is how many transforms the payload may still have.
    fn parse(reader: &mut Reader<'_>, budget: &mut usize) -> Result<(u8, Self), WireError> {
        let more = reader.u8()?;
        let _reserved = reader.u8()?;
        let length = reader.u16()?;
        let mut reader = reader.substructure(length, 4)?;
        let [number, protocol, spi_size, count] = reader.array()?;
        if !matches!(spi_size, 0 | 4 | 8) {
            return Err(reader.malformed());
        }
        let spi = reader.take(usize::from(spi_size))?.to_vec();
        *budget = budget.checked_sub(usize::from(count)).ok_or(reader.too_many())?;
        let mut transforms = Vec::new();
        for left in (0..count).rev() {
            let (more, transform) = Transform::parse(&mut reader)?;
            if more != if left == 0 { LAST } else { MORE_TRANSFORMS } {
                return Err(reader.malformed());
            }
            transforms.push(transform);
        }
        reader.finish()?;
        Ok((more, Self { number, protocol, spi, transforms }))
    }

    fn emit(&self, more: u8, out: &mut Vec<u8>) -> Result<(), WireError> {
        let spi_size = length8(self.spi.len(), PayloadType::SA)?;
        let count = length8(self.transforms.len(), PayloadType::SA)?;
        with_length(out, 2, PayloadType::SA, |out| {
            out.extend_from_slice(&[more, 0, 0, 0]);
            out.extend_from_slice(&[self.number, self.protocol, spi_size, count]);
            out.extend_from_slice(&self.spi);
            for (index, transform) in self.transforms.iter().enumerate() {
                let last = index + 1 == self.transforms.len();
                transform.emit(if last { LAST } else { MORE_TRANSFORMS }, out)?;
            }
            Ok(())
        })
    }
}

/// The payload: proposals in order of preference, or the one that was chosen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SecurityAssociation {
    /// The proposals.
    pub proposals: Vec<Proposal>,
}

impl SecurityAssociation {
    pub(super) fn parse(body: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(PayloadType::SA, body);
        let mut budget = MAX_TRANSFORMS;
        let mut proposals = Vec::new();
        let mut more = !reader.is_empty();
        while more {
            if proposals.len() == MAX_PROPOSALS {
                return Err(reader.too_many());
            }
            let (flag, proposal) = Proposal::parse(&mut reader, &mut budget)?;
            proposals.push(proposal);
            more = match flag {
                LAST => false,
                MORE_PROPOSALS => true,
                _ => return Err(reader.malformed()),
            };
        }
        reader.finish()?;
        Ok(Self { proposals })
    }

    pub(super) fn emit(&self, out: &mut Vec<u8>) -> Result<(), WireError> {
        if self.proposals.len() > MAX_PROPOSALS {
            return Err(WireError::TooMany(PayloadType::SA));
        }
        for (index, proposal) in self.proposals.iter().enumerate() {
            let last = index + 1 == self.proposals.len();
            proposal.emit(if last { LAST } else { MORE_PROPOSALS }, out)?;
        }
        Ok(())
    }
}
