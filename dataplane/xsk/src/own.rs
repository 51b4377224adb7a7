//! Rings on the kernel's own layout, worked without a binding.
//!
//! [`OwnUmem`] is the packet memory, [`OwnSocket`] and [`OwnRings`] are what workers hold.
//! Below them: `ring` knows producer, consumer and entries of one ring wherever it lies,
//! `map` where the kernel puts it.
//!
//! Against the binding: ring functions are inlined and touch the shared words once a batch,
//! a descriptor is the kernel's 16 bytes, and a frame is sent from where its data starts.

mod map;
pub mod ring;
mod rings;
mod umem;

pub use rings::{OwnRings, OwnSocket};
pub use umem::OwnUmem;
