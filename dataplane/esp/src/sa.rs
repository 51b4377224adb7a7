//! The two halves of a security association, as a worker holds them.
//!
//! Only what a packet touches is here: names, selectors and events live with their owner.
//! Built from a configuration once, checked then, never re-checked on a packet.

use core::fmt;

use xswan_wire::layers::Addresses;
use xswan_wire::{DropReason, esp, ipv4, ipv6, udp};

use crate::ecn::{DfEncap, DscpDecap, DscpEncap, EcnAnomaly, EcnEncap};
use crate::lifetime::{Expiry, Lifetime, Limit};
use crate::replay::ReplayWindow;
use crate::resync::Resync;
use crate::sequence::{LeaseStore, SequenceSpace};

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
            soft: Limit::NONE,
            hard: Limit::NONE,
        }
    }
}

/// What an SA has counted, beside the bytes and packets of its [`Lifetime`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Counters {
    /// Packets whose ICV did not match.
    pub auth_fail: u64,
    /// Packets refused by the replay window, before or after the cipher.
    pub replay: u64,
    /// Authenticated packets with bad padding, next header or inner lengths.
    pub malformed: u64,
    /// Dummy packets (RFC 4303 section 2.6).
    pub dummy: u64,
    /// Authenticated packets outside the selectors.
    pub selector: u64,
    /// ECN combinations that RFC 6040 calls dangerous, dropped ones included.
    pub ecn: u64,
    /// Packets from another address or in another encapsulation than the SA's.
    pub address: u64,
}

impl Counters {
    /// Counts a drop under what it says about the SA.
    #[inline]
    #[expect(clippy::wildcard_enum_match_arm, reason = "most reasons say nothing of the SA")]
    pub fn note(&mut self, reason: DropReason) {
        let counter = match reason {
            DropReason::AuthFail => &mut self.auth_fail,
            DropReason::ReplayOld | DropReason::ReplayDuplicate | DropReason::ReplayZero => {
                &mut self.replay
            }
            DropReason::BadPadding
            | DropReason::BadNextHeader
            | DropReason::InnerVersion
            | DropReason::InnerLength => &mut self.malformed,
            DropReason::Dummy => &mut self.dummy,
            DropReason::SelectorMismatch => &mut self.selector,
            DropReason::EcnForbidden => &mut self.ecn,
            DropReason::AddressMismatch | DropReason::EncapMismatch => &mut self.address,
            _ => return,
        };
        *counter = counter.saturating_add(1);
    }

    #[inline(always)]
    pub(crate) const fn note_anomaly(&mut self, anomaly: Option<EcnAnomaly>) {
        if anomaly.is_some() {
            self.ecn = self.ecn.saturating_add(1);
        }
    }
}

/// The sending half: `A` the cipher with its key, `L` where sequence leases go.
pub struct OutboundSa<A, L> {
    pub(crate) sequence: SequenceSpace<L>,
    pub(crate) lifetime: Lifetime,
    pub(crate) expiry: Option<Expiry>,
    pub(crate) spi: u32,
    pub(crate) salt: [u8; 4],
    pub(crate) mode: Mode,
    pub(crate) addresses: Addresses,
    pub(crate) encap: Option<UdpPorts>,
    pub(crate) udp_checksum: bool,
    pub(crate) dscp: DscpEncap,
    pub(crate) ecn: EcnEncap,
    pub(crate) df: DfEncap,
    pub(crate) ttl: u8,
    pub(crate) flow_label: u32,
    pub(crate) tfc: Tfc,
    cipher: A,
}

impl<A, L: LeaseStore> OutboundSa<A, L> {
    /// Puts an SA together; `now_ms` is when its time starts.
    ///
    /// # Errors
    /// [`ConfigError`] says which value makes no sense.
    pub fn new(
        config: &OutboundConfig,
        cipher: A,
        sequence: SequenceSpace<L>,
        now_ms: u64,
    ) -> Result<Self, ConfigError> {
        check_common(config.spi, config.encap)?;
        if let DscpEncap::Fixed(value) = config.dscp
            && value > 63
        {
            return Err(ConfigError::Dscp(value));
        }
        if config.ttl == 0 {
            return Err(ConfigError::Ttl);
        }
        if config.mode == Mode::Transport && config.tfc != Tfc::Off {
            return Err(ConfigError::TfcInTransportMode);
        }
        Ok(Self {
            sequence,
            lifetime: Lifetime::new(config.soft, config.hard, now_ms),
            expiry: None,
            spi: config.spi,
            salt: config.salt,
            mode: config.mode,
            addresses: config.addresses,
            encap: config.encap,
            udp_checksum: config.udp_checksum,
            dscp: config.dscp,
            ecn: config.ecn,
            df: config.df,
            ttl: config.ttl,
            flow_label: config.flow_label,
            tfc: config.tfc,
            cipher,
        })
    }

    /// The cipher, for [`crate::encap::seal`].
    #[inline(always)]
    #[must_use]
    pub const fn cipher(&self) -> &A {
        &self.cipher
    }

    /// The peer's SPI.
    #[must_use]
    pub const fn spi(&self) -> u32 {
        self.spi
    }

    /// Tunnel or transport mode.
    #[must_use]
    pub const fn mode(&self) -> Mode {
        self.mode
    }

    /// Outer source and destination: what the next hop is looked up by.
    #[must_use]
    pub const fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// The sequence numbers.
    #[must_use]
    pub const fn sequence(&self) -> &SequenceSpace<L> {
        &self.sequence
    }

    /// Bytes, packets and limits.
    #[must_use]
    pub const fn lifetime(&self) -> &Lifetime {
        &self.lifetime
    }

    /// For counts that a previous owner left ([`Lifetime::resume`]).
    pub const fn lifetime_mut(&mut self) -> &mut Lifetime {
        &mut self.lifetime
    }

    /// The last expiry reached and not taken yet; each is reported once.
    #[inline(always)]
    pub const fn take_expiry(&mut self) -> Option<Expiry> {
        self.expiry.take()
    }

    /// Moves the outer addresses and ports (RFC 4555): numbers and key stay.
    ///
    /// # Errors
    /// [`ConfigError::Port`].
    pub fn relocate(
        &mut self,
        addresses: Addresses,
        encap: Option<UdpPorts>,
    ) -> Result<(), ConfigError> {
        check_common(self.spi, encap)?;
        (self.addresses, self.encap) = (addresses, encap);
        Ok(())
    }

    /// Length in bytes of what goes in front of ESP in tunnel mode.
    #[inline(always)]
    pub(crate) const fn outer_len(&self) -> usize {
        let ip = match self.addresses {
            Addresses::V4 { .. } => ipv4::HEADER_LEN,
            Addresses::V6 { .. } => ipv6::HEADER_LEN,
        };
        ip.saturating_add(self.udp_len())
    }

    /// Length in bytes of the UDP header, or 0.
    #[inline(always)]
    pub(crate) const fn udp_len(&self) -> usize {
        if self.encap.is_some() { udp::HEADER_LEN } else { 0 }
    }
}

/// The receiving half: `A` the cipher with its key, `S` where the replay window's words are.
pub struct InboundSa<A, S> {
    pub(crate) replay: ReplayWindow<S>,
    pub(crate) lifetime: Lifetime,
    pub(crate) expiry: Option<Expiry>,
    /// What has been counted; drops by the caller through [`Counters::note`].
    pub counters: Counters,
    pub(crate) resync: Resync,
    pub(crate) last_seen_ms: u64,
    pub(crate) spi: u32,
    pub(crate) salt: [u8; 4],
    pub(crate) mode: Mode,
    pub(crate) addresses: Addresses,
    pub(crate) encap: Option<UdpPorts>,
    pub(crate) peer_address: PeerAddress,
    pub(crate) encap_policy: EncapPolicy,
    pub(crate) check_padding: bool,
    pub(crate) dscp: DscpDecap,
    cipher: A,
}

impl<A, S: AsRef<[u64]> + AsMut<[u64]>> InboundSa<A, S> {
    /// Puts an SA together; `now_ms` is when its time starts.
    ///
    /// # Errors
    /// [`ConfigError`] says which value makes no sense.
    pub fn new(
        config: &InboundConfig,
        cipher: A,
        replay: ReplayWindow<S>,
        now_ms: u64,
    ) -> Result<Self, ConfigError> {
        check_common(config.spi, config.encap)?;
        Ok(Self {
            replay,
            lifetime: Lifetime::new(config.soft, config.hard, now_ms),
            expiry: None,
            counters: Counters::default(),
            resync: Resync::default(),
            last_seen_ms: now_ms,
            spi: config.spi,
            salt: config.salt,
            mode: config.mode,
            addresses: config.addresses,
            encap: config.encap,
            peer_address: config.peer_address,
            encap_policy: config.encap_policy,
            check_padding: config.check_padding,
            dscp: config.dscp,
            cipher,
        })
    }

    /// The cipher, for [`crate::decap::open`].
    #[inline(always)]
    #[must_use]
    pub const fn cipher(&self) -> &A {
        &self.cipher
    }

    /// Our SPI.
    #[must_use]
    pub const fn spi(&self) -> u32 {
        self.spi
    }

    /// Tunnel or transport mode.
    #[must_use]
    pub const fn mode(&self) -> Mode {
        self.mode
    }

    /// The window.
    #[must_use]
    pub const fn replay(&self) -> &ReplayWindow<S> {
        &self.replay
    }

    /// Bytes, packets and limits.
    #[must_use]
    pub const fn lifetime(&self) -> &Lifetime {
        &self.lifetime
    }

    /// For counts that a previous owner left ([`Lifetime::resume`]).
    pub const fn lifetime_mut(&mut self) -> &mut Lifetime {
        &mut self.lifetime
    }

    /// When the last packet was accepted, or the SA was made, in the caller's milliseconds.
    #[must_use]
    pub const fn last_seen_ms(&self) -> u64 {
        self.last_seen_ms
    }

    /// The last expiry reached and not taken yet; each is reported once.
    #[inline(always)]
    pub const fn take_expiry(&mut self) -> Option<Expiry> {
        self.expiry.take()
    }

    /// Moves the outer addresses and ports (RFC 4555): window and key stay.
    ///
    /// # Errors
    /// [`ConfigError::Port`].
    pub fn relocate(
        &mut self,
        addresses: Addresses,
        encap: Option<UdpPorts>,
    ) -> Result<(), ConfigError> {
        check_common(self.spi, encap)?;
        (self.addresses, self.encap) = (addresses, encap);
        Ok(())
    }
}

fn check_common(spi: u32, encap: Option<UdpPorts>) -> Result<(), ConfigError> {
    if spi < esp::FIRST_SPI {
        return Err(ConfigError::ReservedSpi(spi));
    }
    if encap.is_some_and(|ports| ports.local == 0 || ports.remote == 0) {
        return Err(ConfigError::Port);
    }
    Ok(())
}

impl<A, L> fmt::Debug for OutboundSa<A, L> {
    /// SPI and mode; never the key or the salt.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutboundSa")
            .field("spi", &format_args!("{:#010x}", self.spi))
            .field("mode", &self.mode)
            .finish_non_exhaustive()
    }
}

impl<A, S> fmt::Debug for InboundSa<A, S> {
    /// SPI and mode; never the key or the salt.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InboundSa")
            .field("spi", &format_args!("{:#010x}", self.spi))
            .field("mode", &self.mode)
            .finish_non_exhaustive()
    }
}

// Without cipher and store: what a worker touches stays within five cache lines.
const _: () = assert!(size_of::<OutboundSa<(), ()>>() <= 320);
const _: () = assert!(size_of::<InboundSa<(), [u64; 0]>>() <= 320);
const _: () = assert!(size_of::<Counters>() == 56);
