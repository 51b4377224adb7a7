//! The IKEv2 protocol core, without any IO.
#![forbid(unsafe_code)]

pub mod cookie;
pub mod fragmentation;
pub mod nat;
pub mod wire;
