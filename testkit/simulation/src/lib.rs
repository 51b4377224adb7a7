//! IKEv2 cores joined by a simulated network, under a simulated clock.
//!
//! Everything is a function of the seed: entropy, delays, losses, copies, and the order in which
//! things happen. So a run that fails is run again with its seed and fails again.
//!
//! ```text
//! Gateway (Engine, SPIs, dataplane in a map) ◀── Network (delay, loss, copies, NAT) ──▶ Gateway
//! ```
//! [`peer::Peer`] has the keys of one side and no machine: it says whatever a test makes it say.
//! [`Clients`] puts the same core on real sockets, for what needs another program at the other end.
#![forbid(unsafe_code)]
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "messages are searched for what concerns the one who searches"
)]
#![expect(clippy::expect_used, reason = "only tests link it, and it fails as they do")]

mod clients;
pub mod gateway;
mod network;
pub mod peer;
pub mod policies;
mod seeded;

pub use clients::{Clients, Tally};
pub use gateway::{Gateway, InstalledChild};
pub use network::{Disturbance, Network, Traffic};
pub use seeded::Seeded;
