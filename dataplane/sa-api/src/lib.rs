//! The shared maps: the contract between `xswan-control` and `xswan-dataplane`.
//!
//! Everything that must outlive a process lies in BPF maps pinned under
//! `<bpf_dir>/<instance>/`, mode 0600 in a directory of mode 0700. Either daemon may start
//! first; [`SharedMaps::open_or_create`] makes what is missing and refuses what has another
//! version or geometry. The maps are mapped into both processes, so nothing here costs a
//! system call once they are open.
//!
//! | map | written by | read by | module |
//! |---|---|---|---|
//! | `xswan_header` | whoever comes first | both | [`header`] |
//! | `sa_in`, `sa_out`, config half | control | workers | [`inbound`], [`outbound`] |
//! | `sa_in`, `sa_out`, live half | owning worker | both | [`live`] |
//! | `policy` | control | workers | [`policy`] |
//! | `doorbell` | control | dataplane's main thread | [`ring`] |
//! | `events` | each worker, its own ring | control | [`event`] |
//! | `replay` | owning worker | nobody else | [`replay`] |
//! | `steer_*` | control | XDP program | [`steering`] |
//!
//! Shared memory is input: the other side may be an older binary, or may have been killed
//! half-way through a write. Every value read is checked or masked, nothing read can make
//! this crate panic, and a half-written record is told apart ([`Read::Torn`]).
//!
//! # Life of a slot
//!
//! A slot is *free* when its record is empty and the worker's `applied_generation` equals the
//! record's generation. Control publishes into a free slot, or again into the slot that
//! already holds the same SA (same SPI and key) to change its parameters; then the live half,
//! and with it the sequence lease and the replay window, goes on. After
//! [`SharedMaps::retire_inbound`] or [`SharedMaps::retire_outbound`] the key is gone from the
//! record at once and the slot is free again when the worker has acknowledged. A record that
//! is published again with a key that the slot held before keeps its lease and its replay
//! window: removing a static SA and adding it again repeats no nonce and accepts no replay.

mod algorithm;
pub mod event;
pub mod header;
pub mod inbound;
pub mod live;
pub mod lock;
mod mapping;
mod maps;
mod open;
pub mod outbound;
#[cfg(test)]
mod pinned_tests;
pub mod policy;
mod publish;
mod record;
pub mod replay;
pub mod ring;
pub mod steering;
mod sys;

pub use algorithm::{Algorithm, Encap, KEY_MAX, Key, KeyLength, Lifetimes, Limit, Mode};
pub use event::{Direction, Event, EventReceiver, EventSender, TriggeringPacket};
pub use header::{Geometry, LAYOUT_VERSION};
pub use inbound::{InboundConfig, InboundFlags};
pub use live::{InCounters, InLive, OutCounters, OutLive};
pub use lock::{InstanceLock, LockError, Role};
pub use maps::{SharedMaps, SlotState};
pub use open::OpenError;
pub use outbound::{DfPolicy, DscpPolicy, OutboundConfig};
pub use policy::{AddressRange, PolicyAction, PolicyRow, PortRange, Torn};
pub use publish::PublishError;
pub use record::Read;
pub use replay::{ClaimError, ReplayWords, replay_words_for};
pub use ring::{DoorbellReceiver, DoorbellSender, Ring};
pub use steering::{SteerMaps, SteerPrefix};

/// Milliseconds since boot, suspend included: the clock of every time in the maps.
#[must_use]
pub fn clock_ms() -> u64 {
    sys::boot_time_ms()
}

/// For a process that holds keys: no core dumps, and no tracing by others of the same user.
/// Before the first key is read.
///
/// # Errors
/// The kernel's.
pub fn disable_core_dumps() -> std::io::Result<()> {
    sys::disable_core_dumps()
}
