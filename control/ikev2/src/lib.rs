//! The IKEv2 protocol core, without any IO.
#![forbid(unsafe_code)]

pub mod wire;
