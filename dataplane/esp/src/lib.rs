//! The ESP protocol (RFC 4303), sans-IO: bytes, time and memory come in as arguments.
//!
//! Generic over the cipher ([`aead::Aead`]) and over where replay state and sequence leases
//! are kept, so that the same code runs over shared maps, in tests and in fuzzers. Nothing
//! here allocates, reads a clock, draws randomness or panics. Both directions come in
//! stages, so that a worker can run a burst through each stage in turn:
//!
//! ```text
//! outbound   encap::prepare ─► encap::seal                          (or encap::encap)
//! inbound    decap::prepare ─► decap::open ─► decap::finish ─► Inner::check (or decap::decap)
//!            replay check      AEAD           replay commit    selectors
//! ```
//!
//! Two proof tokens hold the inbound order: the replay window moves only for an
//! [`proof::Authenticated`], which only `open` makes, and what may be forwarded is a
//! [`decap::Checked`], which only the selector check makes.
#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        clippy::cast_possible_truncation
    )
)]

#[cfg(test)]
extern crate std;

pub mod aead;
pub mod decap;
pub mod ecn;
pub mod encap;
pub mod lifetime;
pub mod outer;
mod outer_template;
pub mod proof;
pub mod replay;
pub mod resync;
pub mod sa;
pub mod selector;
pub mod sequence;

pub use xswan_wire::DropReason;
