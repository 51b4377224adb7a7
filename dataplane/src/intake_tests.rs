//! A worker takes SAs in small numbers, whatever waits for it.

use std::collections::BTreeMap;

use rtrb::RingBuffer;
use xswan_pipeline::engine::{Engine, EngineConfig};
use xswan_pipeline::table::SpiReader;
use xswan_sa_api::{Direction, Geometry, SharedMaps};
use xswan_steer::spi::SpiKey;

use super::{COMMANDS_AT_ONCE, Intake, Taken};
use crate::worker::{Command, Retired, WorkerEngine};

const SLOTS: u32 = 64;

fn engine() -> WorkerEngine {
    Engine::new(EngineConfig {
        spis: SpiReader { key: SpiKey([1; 4]), member: 0, worker: 0, workers: 1 },
        slots: SLOTS as usize,
        roles: Vec::new(),
        icmp_per_second: 0,
        nest_limit: 0,
        fragment: false,
    })
}

struct Rig {
    engine: WorkerEngine,
    intake: Intake,
    inbox: rtrb::Producer<Command>,
    outbox: rtrb::Consumer<Retired>,
    spis: BTreeMap<u32, u32>,
    maps: SharedMaps,
}

impl Rig {
    fn new(room: usize) -> Self {
        let geometry =
            Geometry { sa_slots: SLOTS, policies: 1, replay_words: 8, workers: 1, member: 0 };
        let maps = SharedMaps::in_memory(&geometry).unwrap();
        let (inbox, commands) = RingBuffer::new(1000);
        let (retired, outbox) = RingBuffer::new(room);
        let intake = Intake {
            inbox: commands,
            outbox: retired,
            inbound_live: maps.inbound_lives(),
            outbound_live: maps.outbound_lives(),
        };
        Self { engine: engine(), intake, inbox, outbox, spis: BTreeMap::new(), maps }
    }

    fn remove(&mut self, slot: u32, generation: u64) {
        let command = Command::Inbound { slot, generation, sa: None, update: false };
        assert!(self.inbox.push(command).is_ok());
    }

    fn take(&mut self) -> Taken {
        let spis = &mut self.spis;
        self.intake.take(&mut self.engine, 1, &mut |direction, slot, spi| {
            assert_eq!(direction, Direction::Inbound);
            spis.insert(slot, spi);
        })
    }
}

#[test]
fn no_more_than_a_few_between_two_bursts() {
    let mut rig = Rig::new(1000);
    (0..1000).for_each(|command| rig.remove(command % SLOTS, u64::from(command) + 1));
    let mut sizes = Vec::new();
    loop {
        let taken = rig.take();
        if taken.commands == 0 {
            break;
        }
        sizes.push(taken.commands);
        while rig.outbox.pop().is_ok() {}
    }
    assert_eq!(sizes.iter().sum::<usize>(), 1000);
    assert!(sizes.iter().all(|size| *size <= COMMANDS_AT_ONCE), "{sizes:?}");
    assert_eq!(rig.spis.len(), SLOTS as usize);
    let applied = rig.maps.inbound_live(0).unwrap().applied_generation();
    assert_eq!(applied, 961, "the last one of slot 0");
}

#[test]
fn what_cannot_be_given_back_is_not_taken() {
    let mut rig = Rig::new(8);
    (0..20).for_each(|command| rig.remove(command, 1));
    assert_eq!(rig.take(), Taken { commands: 7, stop: false });
    assert_eq!(rig.take(), Taken::default());
    assert!(rig.outbox.pop().is_ok());
    assert_eq!(rig.take().commands, 1);
    while rig.outbox.pop().is_ok() {}
    assert!(rig.inbox.push(Command::Stop).is_ok());
    assert_eq!(rig.take().commands, 7);
    while rig.outbox.pop().is_ok() {}
    assert_eq!(rig.take(), Taken { commands: 6, stop: true });
}
