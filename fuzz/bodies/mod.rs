//! What each fuzz target does with its bytes: a thin call into a library, and what must hold.
//!
//! Included by path from the libFuzzer targets beside this folder and from
//! `testkit/tests/fuzz_replay.rs`, which runs the committed corpora and seeded mutations of
//! them in the ordinary test run.

pub mod certificate;
pub mod classify;
pub mod config;
pub mod decap;
pub mod eap;
pub mod ike_fragments;
pub mod ike_machine;
pub mod ike_message;
pub mod sa_api;
pub mod wire_layers;

/// A target: what it is called, and what it does.
pub type Target = (&'static str, fn(&[u8]));

/// All of them, by the names of their corpus folders.
pub const TARGETS: &[Target] = &[
    ("certificate", certificate::run),
    ("classify", classify::run),
    ("config", config::run),
    ("decap", decap::run),
    ("ike_fragments", ike_fragments::run),
    ("ike_machine", ike_machine::run),
    ("ike_message", ike_message::run),
    ("eap", eap::run),
    ("sa_api", sa_api::run),
    ("wire_layers", wire_layers::run),
];
