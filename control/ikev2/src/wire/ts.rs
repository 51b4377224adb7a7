//! The Traffic Selector payloads (RFC 7296 section 3.13).
//!
//! ```text
//! number of selectors 8 | reserved 24
//! selector: type 8 | IP protocol 8 | length 16
//!           first port 16 | last port 16
//!           first address, last address
//! ```

use super::reader::{Reader, length8, with_length};
use super::{PayloadType, WireError};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Selectors of one payload at most: as many as the count can say.
pub const MAX_SELECTORS: usize = 255;
const IPV4_ADDR_RANGE: u8 = 7;
const IPV6_ADDR_RANGE: u8 = 8;
/// Octets of a selector before the addresses, or before what an unknown type has.
const HEADER_LEN: usize = 4;

/// A range of addresses of one family, of ports, and one protocol or any.
///
/// Ranges may be the wrong way round: see [`TrafficSelector::is_valid`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TrafficSelector {
    /// IP protocol; 0 for any.
    pub protocol: u8,
    /// Lowest port; for ICMP type and code, high octet and low octet.
    pub first_port: u16,
    /// Highest port.
    pub last_port: u16,
    /// Lowest address.
    pub first: IpAddr,
    /// Highest address, of the same family.
    pub last: IpAddr,
}

impl TrafficSelector {
    /// Every protocol and port between two addresses.
    #[must_use]
    pub const fn addresses(first: IpAddr, last: IpAddr) -> Self {
        Self { protocol: 0, first_port: 0, last_port: u16::MAX, first, last }
    }

    /// Whether it stands for packets whose ports cannot be seen (section 3.13.1).
    #[must_use]
    pub const fn is_opaque(&self) -> bool {
        self.first_port == u16::MAX && self.last_port == 0
    }

    /// Whether it stands for every port.
    #[must_use]
    pub const fn is_any_port(&self) -> bool {
        self.first_port == 0 && self.last_port == u16::MAX
    }

    /// Whether something can match: both ranges the right way round, or OPAQUE ports.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        self.first.is_ipv4() == self.last.is_ipv4()
            && self.first <= self.last
            && (self.first_port <= self.last_port || self.is_opaque())
    }
}

/// A selector of a type nobody here knows, to be ignored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownSelector {
    /// TS type.
    pub kind: u8,
    /// The octet that is the IP protocol in known types.
    pub protocol: u8,
    /// What follows the length.
    pub body: Vec<u8>,
}

/// The payload.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrafficSelectors {
    /// The selectors, in the order of the payload. The first of them may be the packet that
    /// is the reason for the SA (section 2.9).
    pub selectors: Vec<TrafficSelector>,
    /// Those of unknown types. Sent behind the others.
    pub unknown: Vec<UnknownSelector>,
}

impl From<Vec<TrafficSelector>> for TrafficSelectors {
    fn from(selectors: Vec<TrafficSelector>) -> Self {
        Self { selectors, unknown: Vec::new() }
    }
}

impl TrafficSelectors {
    pub(super) fn parse(payload: PayloadType, body: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(payload, body);
        let [count, _, _, _] = reader.array()?;
        let mut this = Self::default();
        for _ in 0..count {
            let [kind, protocol] = reader.array()?;
            let length = reader.u16()?;
            let mut selector = reader.substructure(length, HEADER_LEN)?;
            if matches!(kind, IPV4_ADDR_RANGE | IPV6_ADDR_RANGE) {
                this.selectors.push(range(kind, protocol, &mut selector)?);
            } else {
                let body = selector.rest().to_vec();
                this.unknown.push(UnknownSelector { kind, protocol, body });
            }
        }
        reader.finish()?;
        Ok(this)
    }

    pub(super) fn emit(&self, payload: PayloadType, out: &mut Vec<u8>) -> Result<(), WireError> {
        let count = length8(self.selectors.len() + self.unknown.len(), payload)?;
        out.extend_from_slice(&[count, 0, 0, 0]);
        for selector in &self.selectors {
            with_length(out, 2, payload, |out| {
                let kind = if selector.first.is_ipv4() { IPV4_ADDR_RANGE } else { IPV6_ADDR_RANGE };
                out.extend_from_slice(&[kind, selector.protocol, 0, 0]);
                out.extend_from_slice(&selector.first_port.to_be_bytes());
                out.extend_from_slice(&selector.last_port.to_be_bytes());
                match (selector.first, selector.last) {
                    (IpAddr::V4(first), IpAddr::V4(last)) => {
                        out.extend_from_slice(&first.octets());
                        out.extend_from_slice(&last.octets());
                    }
                    (IpAddr::V6(first), IpAddr::V6(last)) => {
                        out.extend_from_slice(&first.octets());
                        out.extend_from_slice(&last.octets());
                    }
                    (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => {
                        return Err(WireError::Malformed(payload));
                    }
                }
                Ok(())
            })?;
        }
        for selector in &self.unknown {
            with_length(out, 2, payload, |out| {
                out.extend_from_slice(&[selector.kind, selector.protocol, 0, 0]);
                out.extend_from_slice(&selector.body);
                Ok(())
            })?;
        }
        Ok(())
    }
}

fn range(kind: u8, protocol: u8, reader: &mut Reader<'_>) -> Result<TrafficSelector, WireError> {
    let (first_port, last_port) = (reader.u16()?, reader.u16()?);
    let (first, last) = if kind == IPV4_ADDR_RANGE {
        let mut address = || reader.array::<4>().map(|octets| IpAddr::V4(Ipv4Addr::from(octets)));
        (address()?, address()?)
    } else {
        let mut address = || reader.array::<16>().map(|octets| IpAddr::V6(Ipv6Addr::from(octets)));
        (address()?, address()?)
    };
    reader.finish()?;
    Ok(TrafficSelector { protocol, first_port, last_port, first, last })
}
