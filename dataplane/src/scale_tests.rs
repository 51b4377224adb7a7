//! A million SAs through the shared records, the main thread and a worker, without a NIC.

use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;
use rtrb::RingBuffer;
use xswan_aead::Backend;
use xswan_pipeline::engine::{Engine, EngineConfig};
use xswan_pipeline::spd::Spd;
use xswan_pipeline::table::{Owner, SpiReader};
use xswan_sa_api::{
    Algorithm, DoorbellSender, Geometry, InboundConfig, Key, OutboundConfig, Ring, SharedMaps,
    replay_words_for,
};
use xswan_steer::spi::SpiParts;

use super::{Sadb, WorkerLink};
use super::{inbound, outbound};
use crate::intake::{COMMANDS, COMMANDS_AT_ONCE, Intake};
use crate::worker::{ReadyInbound, ReadyOutbound, WorkerEngine};

/// Packets of the windows.
const WINDOW: u32 = 64;
/// Octets of a record in either table.
const RECORD: usize = 320;

/// The whole path but rings and packets.
struct Path {
    maps: Arc<SharedMaps>,
    doorbell: DoorbellSender,
    sadb: Sadb,
    engine: WorkerEngine,
    intake: Intake,
    /// Commands that one look of the worker into its ring took at most.
    most: usize,
}

impl Path {
    fn new(slots: u32) -> Self {
        let replay_words = slots * replay_words_for(WINDOW);
        let geometry =
            Geometry { sa_slots: slots, policies: 8, replay_words, workers: 1, member: 0 };
        let maps = Arc::new(SharedMaps::in_memory(&geometry).unwrap());
        let (inbox, commands) = RingBuffer::new(COMMANDS);
        let (retired, outbox) = RingBuffer::new(COMMANDS);
        let spd = Arc::new(ArcSwap::from_pointee(Spd::default()));
        let links = vec![WorkerLink { inbox, outbox, bell: None }];
        let sadb = Sadb::new(Arc::clone(&maps), links, Backend::Native, spd).unwrap();
        let spis = SpiReader { key: maps.spi_key(), member: 0, worker: 0, workers: 1 };
        let engine = Engine::new(EngineConfig {
            spis,
            slots: slots as usize,
            roles: Vec::new(),
            icmp_per_second: 0,
            nest_limit: 0,
            fragment: false,
        });
        let intake = Intake {
            inbox: commands,
            outbox: retired,
            inbound_live: maps.inbound_lives(),
            outbound_live: maps.outbound_lives(),
        };
        let doorbell = maps.doorbell_sender().unwrap();
        Self { maps, doorbell, sadb, engine, intake, most: 0 }
    }

    /// Until nothing is under way.
    fn settle(&mut self) {
        loop {
            self.sadb.poll();
            let mut any = false;
            loop {
                let taken = self.intake.take(&mut self.engine, 1, &mut |_, _, _| {});
                self.most = self.most.max(taken.commands);
                any |= taken.commands > 0;
                if taken.commands == 0 {
                    break;
                }
            }
            if !any && self.sadb.is_complete() {
                return;
            }
        }
    }

    fn spi(&self, slot: u32) -> Option<u32> {
        self.maps.spi_key().seal(SpiParts { member: 0, worker: 0, slot })
    }

    fn install(&self, slot: u32, fill: u8) {
        let Some(spi) = self.spi(slot) else { return };
        let key = Key::new(&[fill; 20]).unwrap();
        let algorithm = Algorithm::Aes128Gcm16;
        let replay_offset = slot * replay_words_for(WINDOW);
        let config = InboundConfig {
            algorithm,
            key: key.clone(),
            replay_offset,
            child: slot,
            ..inbound(spi, 1)
        };
        self.maps.publish_inbound(slot, &config).unwrap();
        self.doorbell.ring(Ring::Inbound(slot));
        let config = OutboundConfig { algorithm, key, child: slot, ..outbound(slot, 1) };
        self.maps.publish_outbound(slot, &config).unwrap();
        self.doorbell.ring(Ring::Outbound(slot));
    }

    fn remove(&self, slot: u32) {
        self.maps.retire_inbound(slot);
        self.doorbell.ring(Ring::Inbound(slot));
        self.maps.retire_outbound(slot);
        self.doorbell.ring(Ring::Outbound(slot));
    }

    /// Inbound SAs that are found by their SPI, and outbound ones by their slot.
    fn found(&self, slots: u32) -> (u32, u32) {
        let reader = SpiReader { key: self.maps.spi_key(), member: 0, worker: 0, workers: 1 };
        let mut found = (0, 0);
        for slot in 0..slots {
            let Some(spi) = self.spi(slot) else { continue };
            let Owner::Here(at) = reader.owner(spi, &self.engine.static_spis) else { continue };
            let inbound = self.engine.inbound.at(at).is_some_and(|sa| sa.sa.spi() == spi);
            found.0 += u32::from(inbound);
            found.1 += u32::from(self.engine.outbound.at(slot as usize).is_some());
        }
        found
    }
}

/// Octets of memory of this process.
fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = text.split_whitespace().nth(1).and_then(|pages| pages.parse::<usize>().ok());
    pages.unwrap_or(0) * 4096
}

/// A hundred thousand, or as many as `XSWAN_SCALE_SAS` says, up to 2^20: in, found, rekeyed, out.
#[test]
fn many_sas_come_are_found_are_replaced_and_go() {
    let wanted = std::env::var("XSWAN_SCALE_SAS").ok().and_then(|count| count.parse().ok());
    let count: u32 = wanted.unwrap_or(100_000).min(1 << 20);
    let mut path = Path::new(count);
    let sealed = (0..count).filter(|slot| path.spi(*slot).is_some()).count() as u32;
    let mut memory = resident();
    let begun = Instant::now();
    let mut step = |what: &str, path: &mut Path, act: &dyn Fn(&Path, u32)| {
        let at = Instant::now();
        (0..count).for_each(|slot| act(path, slot));
        path.settle();
        let (now, took) = (resident(), at.elapsed().as_secs_f64());
        let change = (now as f64 - memory as f64) / f64::from(sealed) / 2.0;
        let rate = f64::from(2 * sealed) / took;
        println!("{what}: {count} pairs, {rate:.0} SAs/s, memory {now} ({change:+.0} for each SA)");
        memory = now;
    };
    step("install", &mut path, &|path, slot| path.install(slot, 7));
    assert_eq!(path.found(count), (sealed, sealed));
    assert_eq!(path.sadb.count(), (sealed as usize, sealed as usize));
    step("remove for another", &mut path, &|path, slot| path.remove(slot));
    assert_eq!(path.found(count), (0, 0));
    step("install the successor", &mut path, &|path, slot| path.install(slot, 8));
    assert_eq!(path.found(count), (sealed, sealed));
    step("change in place", &mut path, &|path, slot| path.install(slot, 8));
    assert_eq!(path.found(count), (sealed, sealed));
    step("remove", &mut path, &|path, slot| path.remove(slot));
    assert_eq!(path.found(count), (0, 0));
    assert_eq!(path.sadb.count(), (0, 0));
    assert!((0..count).all(|slot| path.maps.inbound_is_free(slot)));
    assert!((0..count).all(|slot| path.maps.outbound_is_free(slot)));
    assert!(path.most <= COMMANDS_AT_ONCE);
    println!("all in {:?}", begun.elapsed());
}

/// What an SA takes, hot and cold together, with one worker, the smallest window and the largest
/// of our own keys.
#[test]
fn what_an_sa_takes_is_accounted_for() {
    /// Octets of round keys and hash powers, which lie apart.
    const KEY_RECORD: usize = 448;
    let replay = replay_words_for(WINDOW) as usize * 8;
    let slot = size_of::<usize>() + size_of::<u32>();
    let main = 16;
    let rows = [
        ("inbound", size_of::<ReadyInbound>(), replay, 0),
        // The peer by slot, by SPI and, if no other SA has it, itself.
        ("outbound", size_of::<ReadyOutbound>(), 0, 8 + 16 + 28 + 50),
    ];
    for (name, worker, replay, peer) in rows {
        let all = RECORD + replay + worker + KEY_RECORD + slot + main + peer;
        println!(
            "{name}: record {RECORD}, window {replay}, worker's {worker}, key {KEY_RECORD}, \
             slot {slot}, main thread's {}, together {all}",
            main + peer
        );
        assert!(all <= 1280, "{name}: {all}");
    }
}
