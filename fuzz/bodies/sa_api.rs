//! Shared memory that holds anything at all, read by both daemons.

use std::cell::RefCell;
use xswan_sa_api::{Geometry, SharedMaps};

const GEOMETRY: Geometry =
    Geometry { sa_slots: 8, policies: 8, replay_words: 4096, workers: 2, member: 0 };
/// More polls than a ring has entries would mean that it never ends.
const POLLS: usize = 100_000;

thread_local! {
    static MAPS: RefCell<Option<SharedMaps>> = const { RefCell::new(None) };
}

/// Every read ends, with an answer of some kind, and every ring runs dry.
pub fn run(bytes: &[u8]) {
    if bytes.is_empty() {
        return;
    }
    MAPS.with_borrow_mut(|maps| {
        let maps = maps.get_or_insert_with(|| SharedMaps::in_memory(&GEOMETRY).expect("memory"));
        maps.scribble(bytes);
        for slot in 0..=GEOMETRY.sa_slots {
            let _ = maps.read_inbound(slot);
            let _ = maps.read_outbound(slot);
            let _ = (maps.inbound_state(slot), maps.outbound_state(slot));
            let _ = (maps.replay_range(slot), maps.inbound_retired_spi(slot));
            if let Some((offset, length)) = maps.replay_range(slot) {
                drop(maps.claim_replay(offset, length));
            }
        }
        if let Ok((_, rows)) = maps.read_policies() {
            assert!(rows.len() <= 2 * 8);
        }
        if let Some(mut doorbell) = maps.doorbell_receiver() {
            let polls = (0..POLLS).take_while(|_| doorbell.poll().is_some()).count();
            assert!(polls < POLLS, "the doorbell never runs dry");
        }
        for worker in 0..=GEOMETRY.workers {
            let Some(mut events) = maps.event_receiver(worker) else { continue };
            let polls = (0..POLLS).take_while(|_| events.poll().is_some()).count();
            assert!(polls < POLLS, "the events never run dry");
        }
    });
}
