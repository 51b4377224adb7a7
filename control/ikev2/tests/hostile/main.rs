//! What a hostile peer can do to one core: floods without a proof, messages with the right keys
//! and the wrong content, and handshakes that were tampered with.
#![expect(clippy::expect_used, reason = "a test stops at the first surprise")]
#![expect(clippy::wildcard_enum_match_arm, reason = "a message is searched for some payloads")]

mod budgets;
mod flood;
mod grammar;
mod handshakes;
mod mutation;
mod outage;

use std::sync::Arc;
use xswan_ikev2::policy::{Configuration, ConnectionPolicy};
use xswan_simulation::peer::Duel;
use xswan_simulation::{Gateway, policies};

/// A gateway alone, which writes every message to its log: that may not fail either (IKE-17).
fn gateway(
    number: usize,
    connection: impl Fn(&mut ConnectionPolicy),
    configuration: impl Fn(&mut Configuration),
) -> Duel {
    let mut policy = policies::connection(number);
    connection(&mut policy);
    let mut whole = policies::configuration(policy);
    whole.settings.trace_messages = true;
    configuration(&mut whole);
    Duel::new(Gateway::new(policies::ADDRESSES[number], Arc::new(whole), 11))
}

/// A number from the environment.
fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}
