//! The packet daemon: AF_XDP sockets, pinned workers, a mirror of the kernel's tables.
//!
//! The shell around the sans-IO crates below it. [`start`] builds everything, [`daemon`] is
//! the main thread afterwards, [`worker`] is what each pinned thread runs over its
//! [`io`]; [`sadb`] carries SAs from the shared maps to them, [`steering`] the program
//! that brings them packets, [`kernel`] what Linux knows of routes and neighbours.
#![forbid(unsafe_code)]

pub mod answers;
pub mod buffer;
pub mod counters;
pub mod daemon;
pub mod intake;
pub mod io;
pub mod kernel;
pub mod peers;
pub mod privilege;
pub mod ready;
pub mod replay_state;
pub mod rings;
pub mod sadb;
pub mod start;
pub mod steering;
pub mod topology;
pub mod worker;
