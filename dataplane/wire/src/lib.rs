//! Packet headers, one format a file, read the same way in the kernel and in userspace.
//!
//! Everything here is a pure function of bytes: nothing allocates, nothing panics,
//! nothing trusts a length field before it has been compared with what is there.
//! [`layers::parse`] is the one decoder of a frame's outer shape; the XDP program, the
//! workers, the fuzz targets and the benches all run it.
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

pub mod brief;
pub mod checksum;
pub mod cursor;
pub mod drop_reason;
pub mod esp;
pub mod ethernet;
pub mod icmp;
pub mod ipv4;
pub mod ipv6;
pub mod layers;
pub mod udp;

pub use cursor::Bytes;
pub use drop_reason::DropReason;
