//! The two halves of a security association, as a worker holds them.
//!
//! Only what a packet touches is here: names, selectors and events live with their owner.
//! Built from a configuration once, checked then, never re-checked on a packet.

use core::fmt;
use core::net::IpAddr;

use xswan_wire::layers::Addresses;
use xswan_wire::{DropReason, esp, ipv4, ipv6, udp};

use crate::aead::{Aead, Shape};
use crate::ecn::{ClassEncap, DfEncap, DscpDecap, DscpEncap, EcnAnomaly, EcnDecap};
use crate::lifetime::{Expiry, Lifetime};
use crate::outer_template::OuterTemplate;
use crate::replay::ReplayWindow;
use crate::resync::Resync;
use crate::sequence::{LeaseStore, SequenceSpace};

mod config;

pub use config::{
    ConfigError, DEFAULT_TTL, EncapPolicy, InboundConfig, Mode, OutboundConfig, PeerAddress, Tfc,
    UdpPorts,
};

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
///
/// What a packet touches comes first, in as few cache lines as it takes; what is asked once in a
/// while follows.
#[repr(C)]
pub struct OutboundSa<A, L> {
    cipher: A,
    pub(crate) template: OuterTemplate,
    pub(crate) iv_base: u64,
    pub(crate) spi: u32,
    pub(crate) salt: [u8; 4],
    pub(crate) shape: Shape,
    pub(crate) class: ClassEncap,
    pub(crate) df: DfEncap,
    /// Tunnel mode, an AEAD, no TFC padding.
    pub(crate) is_plain: bool,
    pub(crate) expiry: Option<Expiry>,
    pub(crate) udp_checksum: bool,
    pub(crate) encap: Option<UdpPorts>,
    pub(crate) sequence: SequenceSpace<L>,
    /// Its own front is the last that a packet touches.
    pub(crate) lifetime: Lifetime,
    pub(crate) addresses: Addresses,
    pub(crate) tfc: Tfc,
    flow_label: u32,
    pub(crate) mode: Mode,
    ttl: u8,
}

impl<A: Aead, L: LeaseStore> OutboundSa<A, L> {
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
            class: ClassEncap::new(config.ecn, config.dscp),
            df: config.df,
            template: OuterTemplate::new(
                &config.addresses,
                config.encap,
                config.ttl,
                config.flow_label,
            ),
            ttl: config.ttl,
            flow_label: config.flow_label,
            tfc: config.tfc,
            iv_base: config.iv_base,
            shape: cipher.shape(),
            is_plain: config.mode == Mode::Tunnel
                && config.tfc == Tfc::Off
                && cipher.shape() == Shape::AEAD,
            cipher,
        })
    }
}

impl<A, L: LeaseStore> OutboundSa<A, L> {
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
        if self.expiry.is_none() { None } else { self.expiry.take() }
    }

    /// Goes on where `old`, the same SA under other parameters, stops: its sequence numbers and
    /// what it has counted move over. False, with nothing moved, if it is another SA.
    #[must_use]
    pub fn take_over(&mut self, old: &mut Self) -> bool {
        if self.spi != old.spi || self.sequence.esn() != old.sequence.esn() {
            return false;
        }
        core::mem::swap(&mut self.sequence, &mut old.sequence);
        self.lifetime.carry_on(&old.lifetime);
        true
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
        self.template = OuterTemplate::new(&addresses, encap, self.ttl, self.flow_label);
        Ok(())
    }

    /// Length in bytes of what goes in front of ESP in tunnel mode.
    #[inline(always)]
    pub(crate) const fn outer_len(&self) -> usize {
        self.ip_len().saturating_add(self.udp_len())
    }

    /// Length in bytes of an IP header of the SA's family without options.
    #[inline(always)]
    pub(crate) const fn ip_len(&self) -> usize {
        match self.addresses {
            Addresses::V4 { .. } => ipv4::HEADER_LEN,
            Addresses::V6 { .. } => ipv6::HEADER_LEN,
        }
    }

    /// Length in bytes of the UDP header, or 0.
    #[inline(always)]
    pub(crate) const fn udp_len(&self) -> usize {
        if self.encap.is_some() { udp::HEADER_LEN } else { 0 }
    }
}

/// The receiving half: `A` the cipher with its key, `S` where the replay window's words are.
///
/// Ordered as [`OutboundSa`] is.
#[repr(C)]
pub struct InboundSa<A, S> {
    cipher: A,
    pub(crate) replay: ReplayWindow<S>,
    pub(crate) addresses: Addresses,
    pub(crate) encap: Option<UdpPorts>,
    pub(crate) spi: u32,
    pub(crate) salt: [u8; 4],
    pub(crate) shape: Shape,
    pub(crate) mode: Mode,
    pub(crate) peer_address: PeerAddress,
    pub(crate) encap_policy: EncapPolicy,
    pub(crate) check_padding: bool,
    pub(crate) dscp: DscpDecap,
    pub(crate) ecn: EcnDecap,
    pub(crate) expiry: Option<Expiry>,
    pub(crate) resync: Resync,
    pub(crate) last_seen_ms: u64,
    /// Its own front is the last that a packet touches.
    pub(crate) lifetime: Lifetime,
    /// What has been counted; drops by the caller through [`Counters::note`].
    pub counters: Counters,
    roaming: Roaming,
}

impl<A: Aead, S: AsRef<[u64]> + AsMut<[u64]>> InboundSa<A, S> {
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
            roaming: Roaming::default(),
            spi: config.spi,
            salt: config.salt,
            mode: config.mode,
            addresses: config.addresses,
            encap: config.encap,
            peer_address: config.peer_address,
            encap_policy: config.encap_policy,
            check_padding: config.check_padding,
            dscp: config.dscp,
            ecn: config.ecn,
            shape: cipher.shape(),
            cipher,
        })
    }
}

impl<A, S: AsRef<[u64]> + AsMut<[u64]>> InboundSa<A, S> {
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

    /// When a previous owner accepted its last packet.
    pub const fn resume_last_seen(&mut self, last_seen_ms: u64) {
        self.last_seen_ms = last_seen_ms;
    }

    /// Where an accepted packet came from that has [`crate::decap::Checked::moved`], if that is
    /// elsewhere than was reported last; another source
    /// not more often than once in [`MOVED_INTERVAL_MS`], for a peer whose packets take two ways,
    /// the same one again after [`MOVED_AGAIN_MS`].
    pub fn note_source(&mut self, source: Source, now_ms: u64) -> Option<Source> {
        self.roaming.note(source, now_ms)
    }

    /// The last expiry reached and not taken yet; each is reported once.
    #[inline(always)]
    pub const fn take_expiry(&mut self) -> Option<Expiry> {
        if self.expiry.is_none() { None } else { self.expiry.take() }
    }

    /// Goes on where `old`, the same SA under other parameters, stops: its replay window and
    /// what it has counted move over. False, with nothing moved, if it is another SA.
    #[must_use]
    pub fn take_over(&mut self, old: &mut Self) -> bool {
        if self.spi != old.spi || self.replay.esn() != old.replay.esn() {
            return false;
        }
        core::mem::swap(&mut self.replay, &mut old.replay);
        self.lifetime.carry_on(&old.lifetime);
        self.counters = old.counters;
        self.resync = old.resync;
        self.last_seen_ms = old.last_seen_ms;
        true
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

/// Where a peer sends from, as the network between shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    /// Outer source address.
    pub address: IpAddr,
    /// UDP source port; `None` if not encapsulated.
    pub port: Option<u16>,
}

/// Reports of a moved peer are this far apart, in milliseconds.
pub const MOVED_INTERVAL_MS: u64 = 1000;
/// The same source is reported again after this long, in milliseconds: an event can be lost.
pub const MOVED_AGAIN_MS: u64 = 10_000;

/// What was last reported of a peer that moves.
#[derive(Clone, Copy, Debug, Default)]
struct Roaming {
    source: Option<Source>,
    reported_ms: u64,
}

impl Roaming {
    fn note(&mut self, source: Source, now_ms: u64) -> Option<Source> {
        let is_new = match self.source {
            Some(last) => {
                let wait_ms = if last == source { MOVED_AGAIN_MS } else { MOVED_INTERVAL_MS };
                now_ms.saturating_sub(self.reported_ms) >= wait_ms
            }
            None => true,
        };
        if is_new {
            *self = Self { source: Some(source), reported_ms: now_ms };
        }
        is_new.then_some(source)
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

// Beside a cipher of five words, what a packet touches stays within four cache lines, and two words
// are left for the caller's own.
const CIPHER: usize = 40;
const HOT: usize = 256 - 16;
const _: () = {
    let lifetime = core::mem::offset_of!(OutboundSa<[u64; CIPHER / 8], [u64; 2]>, lifetime);
    assert!(lifetime.saturating_add(Lifetime::HOT_LEN) <= HOT);
    let lifetime = core::mem::offset_of!(InboundSa<[u64; CIPHER / 8], [u64; 3]>, lifetime);
    assert!(lifetime.saturating_add(Lifetime::HOT_LEN) <= HOT);
    assert!(size_of::<OutboundSa<(), ()>>() <= 320);
    assert!(size_of::<InboundSa<(), [u64; 0]>>() <= 320);
};
const _: () = assert!(size_of::<Counters>() == 56);
