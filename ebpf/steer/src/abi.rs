//! The steering maps as bytes: what `control` and `xswan-dataplane` write and the XDP program reads.
//!
//! | map | type | key → value | written by |
//! |---|---|---|---|
//! | `steer_config` | ARRAY\[1\] | 0 → [`SteerConfig`] | control |
//! | `steer_outer` | HASH | address, 16 bytes, IPv4 as v4-mapped → u32, always 1 | control |
//! | `steer_spis` | HASH | SPI, 4 bytes, network order → u32 worker | control |
//! | `steer_prefix4`, `steer_prefix6` | LPM_TRIE | [`Prefix4`], [`Prefix6`] → [`PrefixValue`] | control |
//! | `steer_ports` | HASH | u32 ifindex → [`PortValue`] | dataplane |
//! | `xsks` | XSKMAP | [`socket_index`] → socket | dataplane |
//! | `steer_stats` | PERCPU_ARRAY | [`crate::verdict`] counter → u64 | XDP |

/// Version of every layout in this file; first word of [`SteerConfig`].
pub const STEER_VERSION: u32 = 1;
/// Ports (attached devices) at most.
pub const MAX_PORTS: u32 = 8;
/// Receive queues a port at most.
pub const MAX_QUEUES: u32 = 64;
/// Workers at most: the socket map has a place for each on every queue.
pub const MAX_WORKERS: u32 = 64;
/// Entries of the socket map.
pub const MAX_SOCKETS: u32 = MAX_PORTS * MAX_QUEUES * MAX_WORKERS;
/// Local outer addresses at most.
pub const MAX_OUTER: u32 = 256;
/// Inbound SPIs that were given from outside, not drawn by us, at most.
pub const MAX_STATIC_SPIS: u32 = 65_536;
/// Protected inner prefixes of each family at most.
pub const MAX_PREFIXES: u32 = 131_072;

/// What the whole program depends on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct SteerConfig {
    /// [`STEER_VERSION`]; 0 means control has not been here yet, and all is passed to the kernel.
    pub version: u32,
    /// Number of workers, 1 to [`MAX_WORKERS`].
    pub workers: u32,
    /// This member's number in the cluster, 0 to 15.
    pub member: u32,
    /// Entries in `steer_spis`; 0 spares the look-up.
    pub static_spis: u32,
    /// Key of the SPI permutation.
    pub spi_key: [u32; 4],
}

/// The port serves the untrusted side: ESP, UDP 4500.
pub const ROLE_OUTER: u32 = 1;
/// The port serves the protected side: clear packets for protected prefixes.
pub const ROLE_INNER: u32 = 2;

/// One attached device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct PortValue {
    /// Position in the socket map, below [`MAX_PORTS`].
    pub index: u32,
    /// [`ROLE_OUTER`], [`ROLE_INNER`] or both.
    pub roles: u32,
}

/// The prefix is the far side of a policy: clear packets to it are sealed.
pub const PREFIX_REMOTE: u16 = 1;
/// The prefix is the near side of a policy: clear packets to it from the untrusted side are suspect.
pub const PREFIX_LOCAL: u16 = 2;
/// No single worker owns the prefix: spread by flow.
pub const WORKER_BY_FLOW: u16 = u16::MAX;

/// What the longest matching prefix says. All zero: left to the kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct PrefixValue {
    /// [`PREFIX_REMOTE`], [`PREFIX_LOCAL`], both, or 0 for an exception left to the kernel.
    pub flags: u16,
    /// The worker that owns the outbound SA, or [`WORKER_BY_FLOW`].
    pub worker: u16,
}

/// Key of `steer_prefix4`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Prefix4 {
    /// Significant bits, 0 to 32, in host order as the kernel wants it.
    pub length: u32,
    /// Network order.
    pub address: [u8; 4],
}

/// Key of `steer_prefix6`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Prefix6 {
    /// Significant bits, 0 to 128, in host order as the kernel wants it.
    pub length: u32,
    /// Network order.
    pub address: [u8; 16],
}

/// Place of a socket in `xsks`; every argument below its maximum.
#[inline(always)]
#[must_use]
pub const fn socket_index(port: u32, queue: u32, worker: u32) -> u32 {
    (port * MAX_QUEUES + queue) * MAX_WORKERS + worker
}

const _: () = assert!(size_of::<SteerConfig>() == 32);
const _: () = assert!(size_of::<PortValue>() == 8);
const _: () = assert!(size_of::<PrefixValue>() == 4);
const _: () = assert!(size_of::<Prefix4>() == 8);
const _: () = assert!(size_of::<Prefix6>() == 20);
