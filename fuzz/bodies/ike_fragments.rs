//! Fragments of IKEv2 messages, each sealed with the right keys, in any order: requests and
//! responses mixed, numbers and totals that do not fit each other, whole messages between them.
//!
//! ```text
//! state 8 | step …     step: what 8 | fragment 8 | total 8 | length 8 | octets
//! ```

use std::sync::Arc;
use xswan_ikev2::Input;
use xswan_ikev2::input::Target;
use xswan_ikev2::wire::{ExchangeType, PayloadType, Protection};
use xswan_simulation::peer::Duel;
use xswan_simulation::{Gateway, policies};

/// Steps of one run.
const MAX_STEPS: usize = 200;
/// The seed of everybody's entropy.
const SEED: u64 = 5;

fn gateway(number: usize) -> Duel {
    let whole = policies::configuration(policies::connection(number));
    Duel::new(Gateway::new(policies::ADDRESSES[number], Arc::new(whole), SEED))
}

/// The core in the state of a number, and the Message IDs of the peer's next request and of the
/// core's outstanding one.
fn reach(state: u8) -> (Duel, u32, u32) {
    match state % 3 {
        0 => (gateway(1).half_open(SEED), 1, 0),
        1 => {
            let mut duel = gateway(0);
            duel.auth_requested(SEED);
            (duel, 0, 1)
        }
        _ => {
            let mut duel = gateway(1).established(SEED);
            let target = Target::Child { connection: None, child: "net".into() };
            duel.input(Input::Rekey { target, reauthenticate: false, request: None });
            (duel, 2, 0)
        }
    }
}

/// The whole sequence.
pub fn run(bytes: &[u8]) {
    let Some((&state, mut rest)) = bytes.split_first() else { return };
    let (mut duel, mut next, outstanding) = reach(state);
    for _ in 0..MAX_STEPS {
        let Some((&[what, fragment, total, length], tail)) = rest.split_first_chunk() else {
            break;
        };
        let (content, tail) = tail.split_at(usize::from(length).min(tail.len()));
        rest = tail;
        let response = what & 1 != 0;
        let id = if response { outstanding } else { next } + u32::from(what & 8 != 0);
        let exchange = [ExchangeType::CREATE_CHILD_SA, ExchangeType::INFORMATIONAL];
        let exchange = exchange[usize::from(what & 2 != 0)];
        let (fragment, total) = (u16::from(fragment.max(1)), u16::from(total));
        let protection = if what & 4 != 0 {
            Protection::Sk
        } else {
            Protection::Skf { fragment, total: total.max(fragment) }
        };
        let Some(peer) = duel.peer.as_mut() else { break };
        let first = PayloadType(33 + (what >> 4));
        let octets = peer.seal(exchange, id, response, (first, content), protection);
        for octets in duel.tell(octets) {
            let Some(message) = duel.peer.as_ref().and_then(|peer| peer.open(&octets)) else {
                continue;
            };
            if message.header.flags.response {
                next = next.max(message.header.message_id + 1);
            }
        }
    }
    duel.end();
    assert!(duel.gateway.spis().is_empty(), "SPIs are left");
    assert_eq!(duel.gateway.engine.ike_sas(duel.now).count(), 0);
}
