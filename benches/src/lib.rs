//! What the benches share: buffers, two gateways, a pinned core, cycles a packet.
//!
//! For measurements only; nothing that is shipped links it.

pub mod frames;
pub mod gateways;
pub mod measure;
