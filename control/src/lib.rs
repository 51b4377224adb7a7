//! `xswan-control`: policies and SAs, from the configuration and from IKEv2, into the shared maps.
//!
//! What ought to be is computed first ([`wanted`]), from the configuration alone. Then it is
//! compared with what is ([`tables`], [`install`], [`steering`]), and only differences are
//! written. A start, a restart after kill -9 and a reload are therefore the same thing, and
//! tunnels that are as wanted are not touched by any of them. What IKEv2 negotiates lies beside
//! that ([`ike`]). [`daemon`] is the shell around it.
#![forbid(unsafe_code)]

pub mod child_policy;
pub mod daemon;
pub mod ike;
pub mod install;
pub mod listing;
pub mod prefixes;
mod reload;
pub mod replay_arena;
pub mod selection;
pub mod spi;
pub mod state_file;
pub mod steering;
pub mod tables;
pub mod virtual_ip;
pub mod wanted;
