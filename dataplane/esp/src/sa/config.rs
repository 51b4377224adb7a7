//! What an SA is made of, as its owner writes it down.

use core::fmt;

use xswan_wire::layers::Addresses;

use crate::ecn::{DfEncap, DscpDecap, DscpEncap, EcnDecap, EcnEncap};
use crate::lifetime::Limit;

/// What is protected (RFC 4303 section 3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// A whole IP packet, under a new IP header.
    #[default]
    Tunnel,
    /// What follows the packet's own IP header.
    Transport,
}

/// Ports of UDP encapsulation (RFC 3948).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UdpPorts {
    /// Ours, usually 4500.
    pub local: u16,
    /// The peer's, as its NAT shows it.
    pub remote: u16,
}

/// Traffic flow confidentiality: padding after the inner packet (RFC 4303 section 2.7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tfc {
    /// None.
    #[default]
    Off,
    /// Inner packets shorter than this many bytes are made this long, as far as the MTU allows.
    PadTo(u16),
}

/// A configuration that makes no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigError {
    /// SPIs 0 to 255 are reserved (RFC 4303 section 2.1).
    ReservedSpi(u32),
    /// A fixed DSCP above 63.
    Dscp(u8),
    /// Padding after the payload needs a payload that tells its own length: tunnel mode.
    TfcInTransportMode,
    /// A time to live of 0.
    Ttl,
    /// UDP port 0.
    Port,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ReservedSpi(spi) => write!(f, "SPI {spi:#x} is reserved, the lowest is 0x100"),
            Self::Dscp(value) => write!(f, "DSCP {value} is above 63"),
            Self::TfcInTransportMode => f.write_str("TFC padding needs tunnel mode"),
            Self::Ttl => f.write_str("an outer time to live of 0 reaches nobody"),
            Self::Port => f.write_str("UDP port 0 cannot be used for encapsulation"),
        }
    }
}

impl core::error::Error for ConfigError {}

/// Everything about an outbound SA but its key and its numbers.
#[derive(Clone, Debug)]
pub struct OutboundConfig {
    /// The peer's SPI.
    pub spi: u32,
    /// The four octets of salt at the end of the keying material (RFC 4106 section 8.1).
    pub salt: [u8; 4],
    /// Tunnel or transport mode.
    pub mode: Mode,
    /// Outer source (ours) and destination (the peer's).
    pub addresses: Addresses,
    /// UDP encapsulation, if any.
    pub encap: Option<UdpPorts>,
    /// Whether to compute the UDP checksum over IPv6 (over IPv4 it is always 0).
    pub udp_checksum: bool,
    /// Outer DSCP.
    pub dscp: DscpEncap,
    /// Outer ECN.
    pub ecn: EcnEncap,
    /// Outer don't-fragment flag, IPv4.
    pub df: DfEncap,
    /// Outer time to live or hop limit.
    pub ttl: u8,
    /// Outer flow label, IPv6.
    pub flow_label: u32,
    /// Padding after the inner packet.
    pub tfc: Tfc,
    /// Added to the sequence number, modulo 2^64, to make the IV. 0 unless the key may have
    /// been used before with sequence numbers from 1 on, as a manual key may.
    pub iv_base: u64,
    /// Limits that ask for a rekey.
    pub soft: Limit,
    /// Limits that end the SA.
    pub hard: Limit,
}

impl OutboundConfig {
    /// Tunnel mode, raw ESP, everything else at its default.
    #[must_use]
    pub fn tunnel(spi: u32, salt: [u8; 4], addresses: Addresses) -> Self {
        Self {
            spi,
            salt,
            mode: Mode::Tunnel,
            addresses,
            encap: None,
            udp_checksum: true,
            dscp: DscpEncap::default(),
            ecn: EcnEncap::default(),
            df: DfEncap::default(),
            ttl: DEFAULT_TTL,
            flow_label: 0,
            tfc: Tfc::Off,
            iv_base: 0,
            soft: Limit::NONE,
            hard: Limit::NONE,
        }
    }
}

/// Outer time to live unless configured (the IANA's recommended default).
pub const DEFAULT_TTL: u8 = 64;

/// From whom an inbound packet is taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PeerAddress {
    /// Only from the SA's address and port.
    #[default]
    Exact,
    /// From anywhere if the ICV matches; a new address is reported, not learned.
    AnyAuthenticated,
}

/// Which encapsulation an inbound packet may have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EncapPolicy {
    /// The SA's.
    #[default]
    Exact,
    /// Raw or in UDP (RFC 3948 section 4 leaves it to the receiver).
    Either,
}

/// Everything about an inbound SA but its key and its window.
#[derive(Clone, Debug)]
pub struct InboundConfig {
    /// Our SPI.
    pub spi: u32,
    /// The four octets of salt at the end of the keying material (RFC 4106 section 8.1).
    pub salt: [u8; 4],
    /// Tunnel or transport mode.
    pub mode: Mode,
    /// Outer source (the peer's) and destination (ours), as in a received packet.
    pub addresses: Addresses,
    /// UDP encapsulation, if any.
    pub encap: Option<UdpPorts>,
    /// Whether packets may come from another source.
    pub peer_address: PeerAddress,
    /// Whether packets may come in another encapsulation.
    pub encap_policy: EncapPolicy,
    /// Whether pad bytes must be 1, 2, 3… (RFC 4303 section 2.4: should be inspected).
    pub check_padding: bool,
    /// Inner DSCP after decapsulation.
    pub dscp: DscpDecap,
    /// Inner ECN after decapsulation.
    pub ecn: EcnDecap,
    /// Limits that ask for a rekey.
    pub soft: Limit,
    /// Limits that end the SA.
    pub hard: Limit,
}

impl InboundConfig {
    /// Tunnel mode, raw ESP, the strictest checks.
    #[must_use]
    pub fn tunnel(spi: u32, salt: [u8; 4], addresses: Addresses) -> Self {
        Self {
            spi,
            salt,
            mode: Mode::Tunnel,
            addresses,
            encap: None,
            peer_address: PeerAddress::Exact,
            encap_policy: EncapPolicy::Exact,
            check_padding: true,
            dscp: DscpDecap::Keep,
            ecn: EcnDecap::Combine,
            soft: Limit::NONE,
            hard: Limit::NONE,
        }
    }
}
