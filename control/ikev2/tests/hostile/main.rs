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

use xswan_ikev2::policy::{Configuration, ConnectionPolicy};
use xswan_simulation::peer::Duel;

/// A gateway alone, which writes every message to its log: that may not fail either (IKE-17).
fn gateway(
    number: usize,
    connection: impl Fn(&mut ConnectionPolicy),
    configuration: impl Fn(&mut Configuration),
) -> Duel {
    Duel::with(number, 11, connection, |whole| {
        whole.settings.trace_messages = true;
        configuration(whole);
    })
}

/// A number from the environment.
fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}
