//! The config half of an outbound SA: everything a worker needs to seal its packets.

use crate::algorithm::{Algorithm, Encap, Key, Lifetimes, Mode, codec};
use crate::inbound::STATE_PRESENT;
use crate::record::{self, Body};
use std::net::IpAddr;

/// What becomes of the don't-fragment bit of the outer IPv4 header (RFC 4301 section 8.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum DfPolicy {
    /// As in the inner header; set over IPv6.
    #[default]
    Copy = 0,
    /// Set.
    Set = 1,
    /// Clear.
    Clear = 2,
}

/// What becomes of the DSCP of the outer header (RFC 4301 section 5.1.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DscpPolicy {
    /// Copied from the inner header.
    Copy,
    /// This one, 0 to 63.
    Fixed(u8),
}

/// An outbound SA.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboundConfig {
    /// Security parameters index, host order, 256 or above.
    pub spi: u32,
    /// The worker that owns the SA.
    pub worker: u16,
    /// Cipher.
    pub algorithm: Algorithm,
    /// Keying material.
    pub key: Key,
    /// Extended sequence numbers (RFC 4303 section 2.2.1).
    pub esn: bool,
    /// Tunnel or transport.
    pub mode: Mode,
    /// Our outer address.
    pub local: IpAddr,
    /// The peer's outer address.
    pub remote: IpAddr,
    /// UDP encapsulation.
    pub encap: Option<Encap>,
    /// Don't-fragment policy.
    pub df: DfPolicy,
    /// DSCP policy.
    pub dscp: DscpPolicy,
    /// Copy the inner ECN field out (RFC 6040 section 4.1, normal mode); Not-ECT otherwise.
    pub copy_ecn: bool,
    /// Time to live, or hop limit, of the outer header.
    pub ttl: u8,
    /// Inner packets are padded to this many octets (RFC 4303 section 2.7); 0 is none.
    pub tfc_padding: u16,
    /// Path MTU to the peer in octets of the outer packet; 0 is to be learned.
    pub path_mtu: u16,
    /// Added to the sequence number to make the IV; see [`crate::outbound`]. Of keys that are
    /// negotiated, and so never come back, 0.
    pub iv_base: u64,
    /// Number of the child, the same in its policies.
    pub child: u32,
    /// When it ends.
    pub lifetimes: Lifetimes,
}

/// Code of [`DscpPolicy::Copy`]; fixed values are below 64.
const DSCP_COPY: u8 = 255;

impl OutboundConfig {
    pub(crate) fn to_body(&self) -> Body {
        let ([local0, local1], local_family) = codec::address_to_words(self.local);
        let ([remote0, remote1], remote_family) = codec::address_to_words(self.remote);
        let encap = self.encap.unwrap_or(Encap { local_port: 0, remote_port: 0 });
        let key_len = self.key.as_bytes().len() as u8;
        let flags = u8::from(self.esn)
            | (u8::from(self.copy_ecn) << 1)
            | (u8::from(self.encap.is_some()) << 2);
        let dscp = match self.dscp {
            DscpPolicy::Copy => DSCP_COPY,
            DscpPolicy::Fixed(dscp) => dscp & 63,
        };
        let families = local_family | (remote_family << 4);
        let kind = codec::pack8([
            self.algorithm as u8,
            self.mode as u8,
            families,
            key_len,
            flags,
            self.df as u8,
            dscp,
            self.ttl,
        ]);
        let front = [
            codec::pack32(STATE_PRESENT, self.spi),
            kind,
            codec::pack16(encap.local_port, encap.remote_port, self.worker, self.tfc_padding),
            codec::pack32(self.child, u32::from(self.path_mtu)),
            self.iv_base,
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
        let [state, kind, ports, child, iv_base, local0, local1, remote0, remote1] = front;
        let (_, spi) = codec::unpack32(state);
        let [algorithm, mode, families, key_len, flags, df, dscp, ttl] = kind.to_le_bytes();
        let [local_port, remote_port, worker, tfc_padding] = codec::unpack16(ports);
        let (child, path_mtu) = codec::unpack32(child);
        let algorithm = Algorithm::from_code(algorithm).ok_or("algorithm")?;
        let key = record::key_in(body, key_len)
            .filter(|key| key.as_bytes().len() == algorithm.key_len())
            .ok_or("key")?;
        let dscp = match dscp {
            DSCP_COPY => DscpPolicy::Copy,
            0..64 => DscpPolicy::Fixed(dscp),
            _ => return Err("dscp"),
        };
        let df = match df {
            0 => DfPolicy::Copy,
            1 => DfPolicy::Set,
            2 => DfPolicy::Clear,
            _ => return Err("df"),
        };
        Ok(Self {
            spi,
            worker,
            algorithm,
            key,
            esn: flags & 1 == 1,
            mode: codec::mode(mode).ok_or("mode")?,
            local: codec::address_from_words([local0, local1], families & 15).ok_or("local")?,
            remote: codec::address_from_words([remote0, remote1], families >> 4).ok_or("remote")?,
            encap: (flags & 4 == 4).then_some(Encap { local_port, remote_port }),
            df,
            dscp,
            copy_ecn: flags & 2 == 2,
            ttl,
            tfc_padding,
            path_mtu: u16::try_from(path_mtu).map_err(|_| "path_mtu")?,
            iv_base,
            child,
            lifetimes: codec::lifetimes_from_words(lifetimes),
        })
    }
}
