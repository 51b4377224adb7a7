//! The config half of an inbound SA: everything a worker needs to open its packets.

use crate::algorithm::{Algorithm, Encap, Key, Lifetimes, Mode, codec};
use crate::record::{self, Body};
use std::net::IpAddr;

/// Policies of an inbound SA that are yes or no.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InboundFlags {
    /// Extended sequence numbers (RFC 4303 section 2.2.1).
    pub esn: bool,
    /// Refuse padding that is not 1, 2, 3 (RFC 4303 section 2.4).
    pub check_padding: bool,
    /// Combine the outer ECN field into the inner one (RFC 6040 section 4.2); otherwise the
    /// inner one stays as it is.
    pub copy_ecn: bool,
    /// Copy the outer DSCP into the inner header (RFC 2983 section 3).
    pub copy_dscp: bool,
    /// Accept any source address: the peer is behind a NAT or moves.
    pub any_source: bool,
    /// Let inner ICMP errors through whose addresses are outside the selectors.
    pub icmp: bool,
    /// Accept packets in UDP and raw ones alike (RFC 7296 section 2.23 lets a peer choose).
    pub any_encap: bool,
}

/// An inbound SA.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InboundConfig {
    /// Security parameters index, host order, 256 or above.
    pub spi: u32,
    /// The worker that owns the SA.
    pub worker: u16,
    /// Cipher.
    pub algorithm: Algorithm,
    /// Keying material.
    pub key: Key,
    /// Tunnel or transport.
    pub mode: Mode,
    /// Our outer address.
    pub local: IpAddr,
    /// The peer's outer address.
    pub remote: IpAddr,
    /// Expect UDP encapsulation.
    pub encap: Option<Encap>,
    /// Replay window in packets; 0 is off.
    pub replay_window: u32,
    /// First word of the replay state in the arena.
    pub replay_offset: u32,
    /// Words of the replay state.
    pub replay_len: u32,
    /// Number of the child, the same in its policies.
    pub child: u32,
    /// Yes-or-no policies.
    pub flags: InboundFlags,
    /// When it ends.
    pub lifetimes: Lifetimes,
}

/// State word of a record: nothing, an SA, or what is left of one.
pub(crate) const STATE_EMPTY: u32 = 0;
pub(crate) const STATE_PRESENT: u32 = 1;
pub(crate) const STATE_RETIRED: u32 = 2;

/// Replay range of a body, of a present or retired SA.
pub(crate) fn replay_range(body: &Body) -> (u32, u32) {
    let [_, _, _, _, replay, ..] = body;
    codec::unpack32(*replay)
}

/// The owner in a body of either direction, of an SA present or retired.
pub(crate) fn worker_of(body: &Body) -> u16 {
    let [_, _, ports, ..] = body;
    let [_, _, worker, _] = codec::unpack16(*ports);
    worker
}

/// State and SPI of a body of either direction.
pub(crate) fn state_of(body: &Body) -> (u32, u32) {
    let [state, ..] = body;
    codec::unpack32(*state)
}

impl InboundFlags {
    fn to_bits(self) -> u8 {
        let flags = [
            self.esn,
            self.check_padding,
            self.copy_ecn,
            self.copy_dscp,
            self.any_source,
            self.icmp,
            self.any_encap,
        ];
        flags
            .into_iter()
            .enumerate()
            .fold(0, |bits, (position, set)| bits | (u8::from(set) << position))
    }

    fn from_bits(bits: u8) -> Self {
        let bit = |position: u8| bits >> position & 1 == 1;
        Self {
            esn: bit(0),
            check_padding: bit(1),
            copy_ecn: bit(2),
            copy_dscp: bit(3),
            any_source: bit(4),
            icmp: bit(5),
            any_encap: bit(6),
        }
    }
}

impl InboundConfig {
    pub(crate) fn to_body(&self) -> Body {
        let ([local0, local1], local_family) = codec::address_to_words(self.local);
        let ([remote0, remote1], remote_family) = codec::address_to_words(self.remote);
        let encap = self.encap.unwrap_or(Encap { local_port: 0, remote_port: 0 });
        let key_len = self.key.as_bytes().len() as u8;
        let kind = codec::pack8([
            self.algorithm as u8,
            self.mode as u8,
            local_family,
            remote_family,
            key_len,
            self.flags.to_bits(),
            u8::from(self.encap.is_some()),
            0,
        ]);
        let front = [
            codec::pack32(STATE_PRESENT, self.spi),
            kind,
            codec::pack16(encap.local_port, encap.remote_port, self.worker, 0),
            codec::pack32(self.child, self.replay_window),
            codec::pack32(self.replay_offset, self.replay_len),
            local0,
            local1,
            remote0,
            remote1,
        ];
        record::body(front, codec::lifetimes_to_words(&self.lifetimes), &self.key)
    }

    /// Reads a body whose state is "present"; the field that makes no sense otherwise.
    pub(crate) fn from_body(body: &Body) -> Result<Self, &'static str> {
        let (front, lifetimes) = record::parts(body);
        let [state, kind, ports, child, replay, local0, local1, remote0, remote1] = front;
        let (_, spi) = codec::unpack32(state);
        let [algorithm, mode, local_family, remote_family, key_len, flags, encap, _] =
            kind.to_le_bytes();
        let [local_port, remote_port, worker, _] = codec::unpack16(ports);
        let (child, replay_window) = codec::unpack32(child);
        let (replay_offset, replay_len) = codec::unpack32(replay);
        let algorithm = Algorithm::from_code(algorithm).ok_or("algorithm")?;
        let key = record::key_in(body, key_len)
            .filter(|key| key.as_bytes().len() == algorithm.key_len())
            .ok_or("key")?;
        Ok(Self {
            spi,
            worker,
            algorithm,
            key,
            mode: codec::mode(mode).ok_or("mode")?,
            local: codec::address_from_words([local0, local1], local_family).ok_or("local")?,
            remote: codec::address_from_words([remote0, remote1], remote_family).ok_or("remote")?,
            encap: (encap == 1).then_some(Encap { local_port, remote_port }),
            replay_window,
            replay_offset,
            replay_len,
            child,
            flags: InboundFlags::from_bits(flags),
            lifetimes: codec::lifetimes_from_words(lifetimes),
        })
    }
}
