//! What happens to a burst of frames, in the order in which it happens.
//!
//! Sans-IO: received bytes, transmit buffers, tables and the time come in as arguments;
//! what is to be sent, handed to another worker or given to the kernel goes out through
//! [`sink::Sink`]. The same code runs on AF_XDP frames in a worker and on plain vectors in a
//! test. It neither allocates nor reads a clock; tables are swapped in between bursts.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod engine;
mod flow_cache;
pub mod forward;
pub mod fragment;
pub mod held;
mod inbound;
pub mod limit;
mod onward;
mod originate;
mod outbound;
mod selector_index;
pub mod sink;
pub mod spd;
pub mod stage;
pub mod table;
mod trap;
