//! A sequence of messages to one IKEv2 core: sealed with the right keys and any content, or in
//! clear and anything; with operators and time between them.
//!
//! ```text
//! state 8 | step …     step: what 8 | more 8 | length 16 | octets
//! ```

use std::collections::BTreeSet;
use std::sync::Arc;
use xswan_ikev2::Input;
use xswan_ikev2::input::Target;
use xswan_ikev2::wire::{ExchangeType, PayloadType, Protection};
use xswan_simulation::peer::Duel;
use xswan_simulation::{Gateway, policies};

/// Steps of one run.
const MAX_STEPS: usize = 24;
/// The seed of everybody's entropy.
const SEED: u64 = 5;

fn gateway(number: usize) -> Duel {
    let whole = policies::configuration(policies::connection(number));
    Duel::new(Gateway::new(policies::ADDRESSES[number], Arc::new(whole), SEED))
}

/// The core in the state of a number, and the Message ID of the peer's next request.
fn reach(state: u8) -> (Duel, u32) {
    let rekey = |target| Input::Rekey { target, reauthenticate: false, request: None };
    match state % 6 {
        0 => (gateway(1).half_open(SEED), 1),
        1 => {
            let mut duel = gateway(0);
            duel.auth_requested(SEED);
            (duel, 0)
        }
        2 => (gateway(1).established(SEED), 2),
        3 => (gateway(0).established_by_gateway(SEED), 0),
        4 => {
            let mut duel = gateway(1).established(SEED);
            duel.input(rekey(Target::Child { connection: None, child: "net".into() }));
            (duel, 2)
        }
        _ => {
            let mut duel = gateway(1).established(SEED);
            duel.input(rekey(Target::Connection("peer".into())));
            (duel, 2)
        }
    }
}

fn exchange(number: u8) -> ExchangeType {
    match number % 8 {
        0 | 1 => ExchangeType::CREATE_CHILD_SA,
        2 => ExchangeType::INFORMATIONAL,
        3 => ExchangeType::IKE_AUTH,
        4 => ExchangeType::IKE_FOLLOWUP_KE,
        5 => ExchangeType::IKE_INTERMEDIATE,
        6 => ExchangeType::IKE_SA_INIT,
        _ => ExchangeType(99),
    }
}

/// One step. `next` follows the Message IDs of the peer's requests that were answered.
fn step(duel: &mut Duel, next: &mut u32, (what, more): (u8, u8), content: &[u8]) {
    let connection = || Target::Connection("peer".into());
    let sent = match what & 7 {
        // A request, or a response to whatever may be outstanding; then the type of the first
        // payload, and the chain.
        0..=4 => {
            let response = what & 7 == 4;
            let id = if response { u32::from(more >> 4) } else { *next };
            let (&first, chain) = content.split_first().unwrap_or((&0, &[]));
            let Some(peer) = duel.peer.as_mut() else { return };
            let inner = (PayloadType(first), chain);
            let octets = peer.seal(exchange(more), id, response, inner, Protection::Sk);
            duel.tell(octets)
        }
        5 => {
            let mut octets = content.to_vec();
            let length = u32::try_from(octets.len()).unwrap_or(u32::MAX);
            if more & 1 == 0
                && let Some(field) = octets.get_mut(24..28)
            {
                field.copy_from_slice(&length.to_be_bytes());
            }
            let sent = duel.tell(octets);
            let left: usize = sent.iter().map(Vec::len).sum();
            assert!(left <= content.len() || duel.peer.is_some());
            sent
        }
        6 => duel.wait(u64::from(more) * 100),
        _ => duel.input(match more % 4 {
            0 => {
                Input::Rekey { target: connection(), reauthenticate: more & 4 != 0, request: None }
            }
            1 => Input::Terminate { target: connection(), force: more & 4 != 0, request: None },
            2 => Input::Rekey {
                target: Target::Child { connection: None, child: "net".into() },
                reauthenticate: false,
                request: None,
            },
            _ => Input::Initiate {
                connection: None,
                child: Some("net".into()),
                packet: None,
                request: None,
            },
        }),
    };
    for octets in sent {
        let Some(message) = duel.peer.as_ref().and_then(|peer| peer.open(&octets)) else {
            continue;
        };
        if message.header.flags.response {
            *next = (*next).max(message.header.message_id.wrapping_add(1));
        }
    }
}

/// What is listed is in the dataplane, and every SPI is accounted for.
fn check(duel: &Duel) {
    let views = duel.gateway.engine.ike_sas(duel.now);
    let children: BTreeSet<u32> =
        views.flat_map(|view| view.children).map(|child| child.spi_in).collect();
    let installed: BTreeSet<u32> =
        duel.gateway.children.values().map(|child| child.install.spi_in).collect();
    assert_eq!(children, installed, "the dataplane has what is listed");
    assert!(installed.is_subset(duel.gateway.spis()));
}

/// It is to end, and nobody answers any more: nothing is left.
fn end(mut duel: Duel) {
    duel.end();
    assert!(duel.gateway.spis().is_empty(), "SPIs are left");
    assert_eq!(duel.gateway.engine.ike_sas(duel.now).count(), 0);
}

/// The whole sequence.
pub fn run(bytes: &[u8]) {
    let Some((&state, mut rest)) = bytes.split_first() else { return };
    let (mut duel, mut next) = reach(state);
    for _ in 0..MAX_STEPS {
        let Some((&[what, more, high, low], tail)) = rest.split_first_chunk() else { break };
        let length = usize::from(u16::from_be_bytes([high, low])).min(tail.len());
        let (content, tail) = tail.split_at(length);
        rest = tail;
        step(&mut duel, &mut next, (what, more), content);
        check(&duel);
    }
    end(duel);
}
