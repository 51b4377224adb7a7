//! Rings by the binding xsk-rs.
//!
//! [`XskUmem`] is the packet memory, [`XskSocket`] and [`XskRings`] are what workers hold.
//! The binding always points the kernel to the socket it opened first, so a descriptor has to
//! be kept that names a socket of the queue in question: the anchor.

mod open;
mod rings;
mod umem;

pub use rings::{XskRings, XskSocket};
pub use umem::XskUmem;
