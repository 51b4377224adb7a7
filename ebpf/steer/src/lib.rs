//! The steering decision: which worker takes a frame, or the kernel, or nobody.
//!
//! `no_std` and free of `unsafe`: the same code is compiled to BPF (`../`), where a
//! bounds-checked reader over the packet stands for the slice, and to the host, where it
//! is tested, fuzzed and benchmarked. It decides and does not rewrite.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

pub mod abi;
pub mod classify;
pub mod flow;
pub mod spi;
pub mod tables;
pub mod verdict;

pub use classify::{classify, decide};
pub use tables::Tables;
pub use verdict::{Decision, Kind, PassReason, Verdict, Way};
