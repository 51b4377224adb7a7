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
//! | `doorbell` | control, cleared by its reader | dataplane's main thread | [`doorbell`] |
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
//!
//! A slot that is [free](SharedMaps::inbound_is_free) is safe to publish another SA into, at
//! once: the worker acknowledges a removal between two bursts, after the last packet of the old
//! SA was dealt with, and the new one starts with counters, lease and window of its own. What
//! control must not forget is the peer: an inbound SPI that was drawn for worker and slot is the
//! same number again in the same slot, so packets of the old SA that are still on their way
//! arrive under it and fail their integrity check, and a peer may take a late "delete" for one
//! of the new SA. Take the slot that has been free for longest.
//!
//! # One child, rekeyed
//!
//! Any number of inbound SAs of one child are open at the same time, told apart by their SPIs;
//! all may carry what the child's policies select. Outbound, the policies name the one slot
//! that is used. So a successor (RFC 7296 section 2.8) takes over in this order:
//!
//! 1. [`SharedMaps::publish_inbound`] the new inbound SA into a slot of its own, and wait for
//!    [`SharedMaps::inbound_applied`] before the peer is told its SPI: it may send at once.
//! 2. When the peer has answered (or, as responder, when the first packet arrives on the new
//!    inbound SA or the peer deletes the old one): [`SharedMaps::publish_outbound`] the new
//!    outbound SA, then [`SharedMaps::publish_policies`] with its slot in every row of the
//!    child. The rows change in one edition: each packet goes by the old or by the new SA.
//! 3. [`SharedMaps::retire_outbound`] the old one, when [`SharedMaps::policies_applied`] has
//!    reached the generation of the edition.
//! 4. [`SharedMaps::retire_inbound`] the old one some seconds after the peer has deleted its
//!    outbound half: what it had sent by then is still under way.
//!
//! The dataplane keeps this order by itself as far as it sees it: an edition waits for the SAs
//! that it names, and a removal waits for the edition. Ring the doorbell after every step.
//!
//! # Many children of one connection
//!
//! A child number is whatever control gives: every peer of a road warrior connection has its
//! own, with its own rows (to its virtual address alone) and its own steering prefix. Rows of
//! all children are published together, first match decides; adding or removing some changes
//! nothing for packets of the others. To add: SAs, rows, then the steering prefix, before which
//! clear packets still go to the kernel. To remove: prefix, rows, SAs.
//!
//! # A peer that moves
//!
//! [`Event::Moved`] tells where an authenticated packet came from. Control publishes the inbound
//! *and* the outbound record again with the new address and port in the same slots: SPI and key
//! say that they are the same SAs, so counters, window and lease go on, and no packet is lost
//! nor any number repeated. The same for our own address (`local`), which must also be in the
//! steering map of outer addresses, added before the records change and removed after both are
//! [applied](SharedMaps::outbound_applied). The outer family may change too. A worker owns an
//! SA for good: `worker` must stay as it is.
//!
//! # When an SA was used last
//!
//! [`InCounters::last_used_ms`] and [`OutCounters::last_used_ms`] are on the clock of
//! [`clock_ms`], 0 until the first packet, and survive a restart of the dataplane. They are
//! published within [`COUNTERS_PERIOD_MS`] of the packet: for dead peer detection (RFC 7296
//! section 2.4), NAT keepalives (RFC 3948 section 4) and inactivity time-outs.

mod algorithm;
pub mod doorbell;
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
mod ring;
pub mod steering;
mod sys;

pub use algorithm::{Algorithm, Encap, KEY_MAX, Key, KeyLength, Lifetimes, Limit, Mode};
pub use doorbell::{DoorbellReceiver, DoorbellSender, Ring};
pub use event::{Direction, Event, EventReceiver, EventSender, TriggeringPacket};
pub use header::{Geometry, LAYOUT_VERSION};
pub use inbound::{InboundConfig, InboundFlags};
pub use live::{InCounters, InLive, InLives, OutCounters, OutLive, OutLives};
pub use lock::{InstanceLock, LockError, Role};
pub use maps::{SharedMaps, SlotState};
pub use open::OpenError;
pub use outbound::{DfPolicy, DscpPolicy, OutboundConfig};
pub use policy::{AddressRange, PolicyAction, PolicyRow, PortRange, Torn};
pub use publish::PublishError;
pub use record::Read;
pub use replay::{ClaimError, ReplayWords, replay_words_for};
pub use steering::{SteerMaps, SteerPrefix};

/// Counters of a record are at most this much behind the worker, in milliseconds: with 2^20
/// slots a round takes that long, with a thousand a few milliseconds.
pub const COUNTERS_PERIOD_MS: u64 = 5000;

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
