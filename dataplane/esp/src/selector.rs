//! Traffic selectors (RFC 4301 section 4.4.1.1, RFC 7296 section 3.13) and what they select on.
//!
//! The policy applies them before `encap`; the same SA's selectors, reversed, are
//! applied to what `decap` found inside (RFC 4301 section 5.2 step 4).

use xswan_wire::brief::Brief;
use xswan_wire::layers::{self, Addresses, ICMP, ICMPV6, IpLayer, SCTP, TCP, UDP, UDP_LITE};
use xswan_wire::{Bytes, DropReason};

/// Protocol number of DCCP.
const DCCP: u8 = 33;
/// Protocol number of the IPv6 mobility header.
const MOBILITY: u8 = 135;

/// IP version of a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// IPv4; addresses are the low 32 bits of a `u128`.
    V4,
    /// IPv6.
    V6,
}

/// A range of addresses of one family, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressRange {
    /// Family of both ends.
    pub family: Family,
    /// Lowest address.
    pub first: u128,
    /// Highest address.
    pub last: u128,
}

impl AddressRange {
    /// All of a family.
    #[must_use]
    pub const fn any(family: Family) -> Self {
        let last = match family {
            Family::V4 => 0xffff_ffff,
            Family::V6 => u128::MAX,
        };
        Self { family, first: 0, last }
    }

    /// The addresses of an IPv4 prefix; a length above 32 is 32.
    #[must_use]
    pub const fn v4_prefix(address: [u8; 4], length: u8) -> Self {
        let host = match 0xffff_ffff_u32.checked_shr(length as u32) {
            Some(bits) => bits,
            None => 0,
        };
        let address = u32::from_be_bytes(address);
        let (first, last) = ((address & !host) as u128, (address | host) as u128);
        Self { family: Family::V4, first, last }
    }

    /// The addresses of an IPv6 prefix; a length above 128 is 128.
    #[must_use]
    pub const fn v6_prefix(address: [u8; 16], length: u8) -> Self {
        let host = match u128::MAX.checked_shr(length as u32) {
            Some(bits) => bits,
            None => 0,
        };
        let address = u128::from_be_bytes(address);
        Self { family: Family::V6, first: address & !host, last: address | host }
    }

    #[inline(always)]
    const fn contains(&self, address: u128) -> bool {
        self.first <= address && address <= self.last
    }
}

/// A range of ports, both ends included; for ICMP of `type * 256 + code`
/// (RFC 7296 section 3.13.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortRange {
    /// Lowest port.
    pub first: u16,
    /// Highest port.
    pub last: u16,
}

impl PortRange {
    /// Any port, and packets whose ports cannot be seen.
    pub const ANY: Self = Self { first: 0, last: u16::MAX };
    /// Only packets whose ports cannot be seen (RFC 7296 section 3.13.1: start above end).
    pub const OPAQUE: Self = Self { first: u16::MAX, last: 0 };

    /// One port.
    #[must_use]
    pub const fn one(port: u16) -> Self {
        Self { first: port, last: port }
    }

    #[inline(always)]
    const fn matches(self, port: Option<u16>) -> bool {
        match port {
            Some(port) => self.first <= port && port <= self.last,
            None => (self.first == 0 && self.last == u16::MAX) || self.first > self.last,
        }
    }
}

/// That selectors were asked whether an SA may carry a flow, and one of them said yes.
///
/// Only [`crate::decap::Inner::check`] makes one. It may be kept with the flow and the selectors
/// that it was said of, for the flow's next packet ([`crate::decap::Inner::known`]).
#[derive(Clone, Copy, Debug)]
pub struct Entitled(());

impl Entitled {
    /// Asks the selectors.
    #[inline]
    pub(crate) fn ask<'a>(
        selectors: impl IntoIterator<Item = &'a Selector>,
        flow: &Flow,
    ) -> Option<Self> {
        selectors.into_iter().any(|selector| selector.matches(flow)).then_some(Self(()))
    }
}

/// The five-tuple of a packet, as far as it can be seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Version, source and destination.
    pub addresses: Addresses,
    /// The upper protocol.
    pub protocol: u8,
    /// Source and destination port; ICMP type and code twice; `None` where there are none
    /// or they are not to be seen, as in every fragment.
    pub ports: Option<(u16, u16)>,
    /// Whether the packet is a fragment, the first one included.
    pub is_fragment: bool,
}

impl Flow {
    /// The way back.
    #[must_use]
    pub const fn reversed(&self) -> Self {
        let addresses = match self.addresses {
            Addresses::V4 { source, destination } => {
                Addresses::V4 { source: destination, destination: source }
            }
            Addresses::V6 { source, destination } => {
                Addresses::V6 { source: destination, destination: source }
            }
        };
        let ports = match self.ports {
            Some((source, destination)) => Some((destination, source)),
            None => None,
        };
        Self { addresses, ports, ..*self }
    }

    /// Reads the five-tuple of an IP packet.
    ///
    /// # Errors
    /// [`DropReason::Malformed`] if it is no well-formed IP packet.
    pub fn parse(packet: &[u8]) -> Result<Self, DropReason> {
        let layers =
            layers::parse_packet(packet, packet.len()).map_err(|_shape| DropReason::Malformed)?;
        Ok(Self::of(&layers.ip, packet.get(..layers.l3_end()).unwrap_or(packet)))
    }

    /// The five-tuple of a packet in a frame whose shape is known; `None` if it is another frame's.
    #[inline]
    #[must_use]
    pub fn of_frame(brief: &Brief, frame: &[u8]) -> Option<Self> {
        let (protocol, is_fragment) = (brief.protocol, brief.is_fragment());
        let ports = ports(protocol, is_fragment, brief.header_len(), brief.packet(frame));
        Some(Self { addresses: brief.addresses(frame)?, protocol, ports, is_fragment })
    }

    /// The five-tuple where the layers are known; `packet` starts at the IP header and ends
    /// with the IP packet.
    #[inline]
    #[must_use]
    pub fn of(ip: &IpLayer, packet: &[u8]) -> Self {
        let ports = ports(ip.protocol, ip.is_fragment, usize::from(ip.header_len), packet);
        Self { addresses: ip.addresses, protocol: ip.protocol, ports, is_fragment: ip.is_fragment }
    }
}

/// Ports of a [`Flow`] whose upper protocol starts at `offset` of `packet`.
#[inline(always)]
#[must_use]
pub fn ports(protocol: u8, is_fragment: bool, offset: usize, packet: &[u8]) -> Option<(u16, u16)> {
    if is_fragment {
        return None;
    }
    // Nearly all there is, before the others.
    if protocol == UDP || protocol == TCP {
        let [s0, s1, d0, d1] = packet.read(offset)?;
        return Some((u16::from_be_bytes([s0, s1]), u16::from_be_bytes([d0, d1])));
    }
    other_ports(protocol, offset, packet)
}

fn other_ports(protocol: u8, offset: usize, packet: &[u8]) -> Option<(u16, u16)> {
    match protocol {
        UDP_LITE | SCTP | DCCP => {
            let [s0, s1, d0, d1] = packet.read(offset)?;
            Some((u16::from_be_bytes([s0, s1]), u16::from_be_bytes([d0, d1])))
        }
        ICMP | ICMPV6 => {
            let kind = packet.read_u16(offset)?;
            Some((kind, kind))
        }
        MOBILITY => {
            let kind = u16::from(packet.read_u8(offset.checked_add(2)?)?) << 8;
            Some((kind, kind))
        }
        _ => None,
    }
}

/// One traffic selector pair, in the direction of the packets it is applied to.
///
/// ```
/// use xswan_esp::selector::{AddressRange, Family, Flow, PortRange, Selector};
/// let near = AddressRange::v4_prefix([10, 1, 0, 0], 16);
/// let selector = Selector::addresses(near, AddressRange::any(Family::V4));
/// let packet = [0x45, 0, 0, 20, 0, 0, 0, 0, 64, 59, 0, 0, 10, 1, 2, 3, 10, 9, 9, 9];
/// let flow = Flow::parse(&packet)?;
/// assert!(selector.matches(&flow));
/// assert!(!selector.reversed().matches(&flow));
/// # Ok::<(), xswan_wire::DropReason>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Selector {
    /// Source addresses.
    pub source: AddressRange,
    /// Destination addresses.
    pub destination: AddressRange,
    /// Upper protocol; 0 is any.
    pub protocol: u8,
    /// Source ports.
    pub source_ports: PortRange,
    /// Destination ports.
    pub destination_ports: PortRange,
}

impl Selector {
    /// Any protocol and any port between two ranges.
    #[must_use]
    pub const fn addresses(source: AddressRange, destination: AddressRange) -> Self {
        let (source_ports, destination_ports) = (PortRange::ANY, PortRange::ANY);
        Self { source, destination, protocol: 0, source_ports, destination_ports }
    }

    /// Whether the flow is selected. Without ports only "any" and "opaque" match.
    #[inline]
    #[must_use]
    pub fn matches(&self, flow: &Flow) -> bool {
        let (family, source, destination) = match flow.addresses {
            Addresses::V4 { source, destination } => (
                Family::V4,
                u128::from(u32::from_be_bytes(source)),
                u128::from(u32::from_be_bytes(destination)),
            ),
            Addresses::V6 { source, destination } => {
                (Family::V6, u128::from_be_bytes(source), u128::from_be_bytes(destination))
            }
        };
        self.source.family == family
            && self.destination.family == family
            && self.source.contains(source)
            && self.destination.contains(destination)
            && (self.protocol == 0 || self.protocol == flow.protocol)
            && self.ports_match(flow)
    }

    #[inline]
    fn ports_match(&self, flow: &Flow) -> bool {
        let (source, destination) = match flow.ports {
            Some((source, destination)) => (Some(source), Some(destination)),
            None => (None, None),
        };
        // ICMP and mobility have one value: the other side's range may be opaque.
        let single = matches!(flow.protocol, ICMP | ICMPV6 | MOBILITY);
        let opaque = |range: &PortRange| single && range.first > range.last;
        (self.source_ports.matches(source) || opaque(&self.source_ports))
            && (self.destination_ports.matches(destination) || opaque(&self.destination_ports))
    }

    /// Whether it says anything about ports, so that a fragment cannot be judged.
    #[inline]
    #[must_use]
    pub fn selects_ports(&self) -> bool {
        self.source_ports != PortRange::ANY || self.destination_ports != PortRange::ANY
    }

    /// The same for the way back.
    #[must_use]
    pub const fn reversed(&self) -> Self {
        Self {
            source: self.destination,
            destination: self.source,
            protocol: self.protocol,
            source_ports: self.destination_ports,
            destination_ports: self.source_ports,
        }
    }
}
