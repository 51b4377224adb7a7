//! The IKEv2 protocol core (RFC 7296), without any IO.
//!
//! ```text
//! Input ──▶ Engine ──▶ Action          one at a time, time and entropy given with each
//! ```
//! [`Engine::handle`] takes a datagram, a deadline, a command or news of the dataplane;
//! [`Engine::next_action`] gives what is to be done about it: datagrams, Child SAs, addresses,
//! answers. Sockets, clocks, files and the dataplane are the daemon's.
//!
//! `engine` finds the IKE SA, `state` is its machine with a struct for each state, `exchange`
//! has a file for each exchange, `child` makes Child SAs, `auth` is the only place where a proof
//! of identity is made or believed, and `wire` knows the octets.
#![forbid(unsafe_code)]
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "messages and states are searched for what concerns the one who searches"
)]

pub mod action;
mod auth;
mod child;
mod clock;
pub mod cookie;
mod engine;
mod established;
pub mod event;
mod exchange;
pub mod fragmentation;
mod host;
pub mod input;
mod liveness;
mod message_id;
mod mobike;
pub mod nat;
pub mod policy;
pub mod pool;
pub mod proposal;
mod protect;
mod rekey;
mod sa;
pub mod settings;
pub mod snapshot;
mod state;
mod statistics;
pub mod traffic_selector;
pub mod view;
pub mod wire;

pub use action::Action;
pub use clock::{Millis, Now};
pub use engine::{Engine, TIMER_BATCH};
pub use host::Host;
pub use input::{ChildId, IkeId, Input, RequestId, Target};
pub use statistics::Statistics;
