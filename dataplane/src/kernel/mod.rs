//! What the gateway takes from the Linux it runs on, and gives back to it.
//!
//! Routes and neighbours come over netlink ([`mirror`]) and become a snapshot for the
//! workers ([`snapshot`]); packets that only the kernel can finish go through a TUN
//! device ([`slow_path`]).

pub mod mirror;
pub mod path_mtu;
pub mod slow_path;
pub mod snapshot;
