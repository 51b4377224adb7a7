//! Everything the core asks for. The shell does it, in order.

use crate::input::{ChildId, IkeId, RequestId};
use crate::wire::TrafficSelector;
use std::net::{IpAddr, SocketAddr};
use xswan_ike_crypto::Secret;

/// One action.
#[derive(Debug)]
pub enum Action {
    /// Send a datagram; if either port is not 500, with the non-ESP marker before it.
    Send {
        /// From.
        local: SocketAddr,
        /// To.
        remote: SocketAddr,
        /// The IKE message.
        octets: Vec<u8>,
    },
    /// Send a NAT keepalive, one octet 0xFF (RFC 3948 section 2.3).
    Keepalive {
        /// From.
        local: SocketAddr,
        /// To.
        remote: SocketAddr,
    },
    /// Install a Child SA: inbound at once; outbound too if [`ChildInstall::outbound`].
    InstallChild(Box<ChildInstall>),
    /// From now on traffic leaves through this Child SA instead of the one it replaces.
    SwitchOutbound {
        /// The new one.
        child: ChildId,
    },
    /// A Child SA is gone in both directions.
    RemoveChild {
        /// Which.
        child: ChildId,
        /// Why; the shell's policies stay or go with it.
        reason: RemoveReason,
    },
    /// The outer addresses of a Child SA, in place, without losing a packet.
    MoveChild {
        /// Which.
        child: ChildId,
        /// Ours.
        local: SocketAddr,
        /// The peer's.
        remote: SocketAddr,
        /// Whether ESP goes in UDP.
        encap: bool,
    },
    /// We were given an inner address (RFC 7296 section 2.19).
    AddVirtualIp {
        /// By which IKE SA.
        ike: IkeId,
        /// The address.
        address: IpAddr,
        /// Name servers that came with it.
        dns: Vec<IpAddr>,
    },
    /// The inner address is not ours any more.
    RemoveVirtualIp {
        /// By which IKE SA.
        ike: IkeId,
        /// The address.
        address: IpAddr,
    },
    /// An operator's question is answered.
    Done {
        /// Which.
        request: RequestId,
        /// How it ended: how many SAs were concerned, or one line.
        result: Result<u32, String>,
    },
    /// Something worth telling; see [`crate::event::Event`].
    Event(crate::event::Event),
}

/// Why a Child SA goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RemoveReason {
    /// Another one has taken its place.
    Rekeyed,
    /// One side closed it, or its IKE SA.
    Deleted,
    /// Its lifetime ended.
    Expired,
    /// It was never used: the other one of two survives, or its exchange failed.
    Redundant,
}

/// ESP in tunnel or transport mode (RFC 4301 section 3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChildMode {
    /// Whole packets.
    Tunnel,
    /// Payloads.
    Transport,
}

/// The ESP transforms of a Child SA, as IANA numbers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EspSuite {
    /// Transform type 1.
    pub encryption: u16,
    /// Key length in bits; 0 where the cipher has only one.
    pub key_bits: u16,
    /// Transform type 3; 0 for AEAD.
    pub integrity: u16,
    /// Extended sequence numbers (transform type 5).
    pub esn: bool,
}

/// One Child SA to be installed.
#[derive(Clone, Debug)]
pub struct ChildInstall {
    /// Its number.
    pub child: ChildId,
    /// Its IKE SA.
    pub ike: IkeId,
    /// Name of the connection.
    pub connection: String,
    /// Name of the child in it.
    pub name: String,
    /// The Child SA whose place it takes, policies and all.
    pub replaces: Option<ChildId>,
    /// Install the outbound SA too, and send through it.
    pub outbound: bool,
    /// Mode.
    pub mode: ChildMode,
    /// Cipher.
    pub suite: EspSuite,
    /// Our SPI.
    pub spi_in: u32,
    /// The peer's SPI.
    pub spi_out: u32,
    /// Encryption key (with salt, for AEAD) and then integrity key of what arrives.
    pub key_in: Secret,
    /// Likewise of what leaves.
    pub key_out: Secret,
    /// Our outer address and the port of encapsulated packets.
    pub local: SocketAddr,
    /// The peer's.
    pub remote: SocketAddr,
    /// ESP in UDP.
    pub encap: bool,
    /// The peer is behind a NAT: accept packets from another address and say so.
    pub any_source: bool,
    /// The peer wants no padding beyond what ESP needs (N(ESP_TFC_PADDING_NOT_SUPPORTED)).
    pub no_tfc: bool,
    /// Traffic on our side.
    pub local_ts: Vec<TrafficSelector>,
    /// Traffic on the peer's side.
    pub remote_ts: Vec<TrafficSelector>,
}
