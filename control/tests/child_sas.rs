//! Negotiated Child SAs beside static ones, on maps in memory, with a worker that does as told.

#![expect(clippy::expect_used, reason = "the helpers of a test fail it")]

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use xswan_config::Config;
use xswan_control::ike::awaited::{Await, is_applied};
use xswan_control::tables::Tables;
use xswan_control::wanted::{Wanted, geometry};
use xswan_ike_crypto::Secret;
use xswan_ikev2::action::{ChildInstall, ChildMode, EspSuite};
use xswan_ikev2::wire::TrafficSelector;
use xswan_ikev2::{ChildId, IkeId};
use xswan_sa_api::{
    Algorithm, Encap, PolicyAction, PolicyRow, Read, Ring, SharedMaps, SteerPrefix,
};
use xswan_steer::abi::{PREFIX_LOCAL, PREFIX_REMOTE};

const HEAD: &str = "[cores]\nworkers = \"1-2\"\n[dataplane]\nsa_slots = 16\nreplay_words = 1000\n";
const NET: &str = "[connections.c]\nlocal_addrs = \"192.0.2.1\"\nremote_addrs = \"192.0.2.2\"\n\
    local.auth = \"psk\"\nremote.auth = \"psk\"\n\
    [connections.c.children.net]\nlocal_ts = \"10.1.0.0/16\"\nremote_ts = \"10.2.0.0/16\"\n\
    esp_proposals = \"aes128gcm16-esn\"\nreplay_window = 128\nrekey_packets = 500\n\
    tfc_padding = 600\n";

struct Bench {
    tables: Tables,
    next: u32,
}

fn load(text: &str) -> (Arc<Config>, Wanted) {
    let config = Config::parse("x", &format!("{HEAD}{text}"), "/".as_ref()).expect("good");
    let wanted = Wanted::new(&config, &[]).expect("fits");
    (Arc::new(config), wanted)
}

fn selector(text: &str) -> TrafficSelector {
    let ts = xswan_config::TrafficSelector::parse(text, IpAddr::from([0, 0, 0, 0])).expect(text);
    let (first, last) = ts.bounds();
    TrafficSelector::addresses(first, last)
}

impl Bench {
    fn new(text: &str) -> Self {
        let (config, wanted) = load(text);
        let maps = SharedMaps::in_memory(&geometry(&config)).expect("memory");
        let mut tables = Tables::new(maps, config, wanted).expect("a doorbell");
        tables.apply().expect("applied");
        Self { tables, next: 0 }
    }

    fn reload(&mut self, text: &str) {
        let (config, wanted) = load(text);
        self.tables.configure(config, wanted);
        self.tables.apply().expect("applied");
    }

    /// What the core asks for, of a fresh SPI.
    fn wanted(&mut self, replaces: Option<u32>, outbound: bool) -> ChildInstall {
        self.next += 1;
        let spi_in = {
            let Tables { child_sas, maps, .. } = &mut self.tables;
            child_sas.reserve_spi(maps).expect("a slot")
        };
        ChildInstall {
            child: ChildId(self.next),
            ike: IkeId(1),
            connection: "c".to_owned(),
            name: "net".to_owned(),
            replaces: replaces.map(ChildId),
            outbound,
            mode: ChildMode::Tunnel,
            suite: EspSuite { encryption: 20, key_bits: 128, integrity: 0, esn: true },
            spi_in,
            spi_out: 0x8000_0000 + self.next,
            key_in: Secret::from_slice(&[self.next as u8; 20]),
            key_out: Secret::from_slice(&[self.next as u8 + 100; 20]),
            local: SocketAddr::from(([192, 0, 2, 1], 4500)),
            remote: SocketAddr::from(([192, 0, 2, 2], 4500)),
            encap: false,
            any_source: false,
            no_tfc: false,
            local_ts: vec![selector("10.1.0.0/16")],
            remote_ts: vec![selector("10.2.0.0/16")],
        }
    }

    fn install(&mut self, replaces: Option<u32>, outbound: bool) -> (u32, Vec<Await>) {
        let install = self.wanted(replaces, outbound);
        let awaited = self.tables.install(&install).expect("installed");
        (self.next, awaited)
    }

    fn rows(&self) -> Vec<PolicyRow> {
        self.tables.maps.read_policies().expect("whole").1
    }

    /// The workers take in, and let go of, everything.
    fn acknowledge(&self) {
        let maps = &self.tables.maps;
        for slot in 0..maps.geometry().sa_slots {
            if let Read::Present { generation, .. } | Read::Empty { generation } =
                maps.read_inbound(slot)
            {
                maps.inbound_live(slot).expect("there").acknowledge(generation);
            }
            if let Read::Present { generation, .. } | Read::Empty { generation } =
                maps.read_outbound(slot)
            {
                maps.outbound_live(slot).expect("there").acknowledge(generation);
            }
        }
        maps.acknowledge_policies(maps.policies_generation());
    }

    fn slots(&self, child: u32) -> (u32, u32) {
        let sa = self.tables.child_sas.child(ChildId(child)).expect("there");
        (sa.slot_in, sa.slot_out)
    }
}

#[test]
fn what_was_negotiated_is_what_is_published() {
    let mut bench = Bench::new(NET);
    assert!(bench.rows().is_empty(), "start_action none: nothing before it is negotiated");
    let (child, awaited) = bench.install(None, true);
    assert!(!is_applied(&bench.tables.maps, &awaited));
    let (slot_in, slot_out) = bench.slots(child);
    let Read::Present { config: inbound, .. } = bench.tables.maps.read_inbound(slot_in) else {
        panic!("published at once")
    };
    assert_eq!(inbound.algorithm, Algorithm::Aes128Gcm16);
    assert_eq!(inbound.key.as_bytes(), [1; 20]);
    assert_eq!((inbound.replay_window, inbound.replay_len > 0), (128, true));
    assert!(inbound.flags.esn && inbound.flags.any_encap && !inbound.flags.any_source);
    assert_eq!(inbound.lifetimes.packets.soft, 500);
    assert_eq!(inbound.lifetimes.time_ms.soft, 0, "times are the core's");
    let Read::Present { config: outbound, .. } = bench.tables.maps.read_outbound(slot_out) else {
        panic!("published at once")
    };
    assert_eq!(outbound.key.as_bytes(), [101; 20]);
    assert_eq!((outbound.iv_base, outbound.worker), (0, inbound.worker));
    assert_eq!((outbound.tfc_padding, outbound.encap), (600, None));
    assert!(bench.rows().is_empty(), "policies come once for a batch");
    bench.tables.flush().expect("changed");
    assert_eq!(bench.tables.flush(), None);
    let [row] = bench.rows()[..] else { panic!("one") };
    assert_eq!((row.action, row.outbound_slot), (PolicyAction::Protect, Some(slot_out)));
    assert_eq!((row.child, row.hold), (inbound.child, false));
    bench.acknowledge();
    assert!(is_applied(&bench.tables.maps, &awaited));
}

#[test]
fn every_suite_has_its_algorithm_and_unknown_ones_are_refused() {
    let mut bench = Bench::new(NET);
    for (encryption, key_bits, integrity, keys, known) in [
        (20, 256, 0, 36, true),
        (28, 0, 0, 36, true),
        (28, 256, 0, 36, true),
        (12, 128, 12, 48, true),
        (12, 256, 14, 96, true),
        (12, 256, 2, 52, false),
        (20, 128, 12, 20, false),
        (20, 256, 0, 20, false),
    ] {
        let mut install = bench.wanted(None, true);
        install.suite = EspSuite { encryption, key_bits, integrity, esn: false };
        install.key_in = Secret::from_slice(&vec![1; keys]);
        install.key_out = Secret::from_slice(&vec![2; keys]);
        let done = bench.tables.install(&install);
        assert_eq!(done.is_ok(), known, "{encryption} {key_bits} {integrity}: {done:?}");
    }
    // What was refused holds no slot: there is room for all the rest.
    let count = bench.tables.child_sas.iter().count();
    for _ in count..15 {
        bench.install(None, true);
    }
}

#[test]
fn a_rekeying_changes_one_slot_and_keeps_the_old_inbound_sa() {
    let mut bench = Bench::new(NET);
    let (old, _) = bench.install(None, true);
    bench.tables.flush().expect("changed");
    bench.acknowledge();
    let (old_in, old_out) = bench.slots(old);
    // The peer's rekeying: inbound only at first.
    let (new, _) = bench.install(Some(old), false);
    bench.tables.flush().expect("changed");
    let rows = bench.rows();
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].outbound_slot, Some(old_out), "not before it is said");
    let (new_in, new_out) = bench.slots(new);
    let child_of = |slot| match bench.tables.maps.read_inbound(slot) {
        Read::Present { config, .. } => config.child,
        Read::Empty { .. } | Read::Torn | Read::Invalid { .. } => panic!("present"),
    };
    assert_eq!(child_of(old_in), child_of(new_in), "one set of policies admits both");
    bench.tables.child_sas.switch_outbound(ChildId(new));
    bench.tables.flush().expect("changed");
    assert_eq!(bench.rows()[0].outbound_slot, Some(new_out));
    assert!(matches!(bench.tables.maps.read_inbound(old_in), Read::Present { .. }));
    bench.tables.remove(ChildId(old), true);
    bench.tables.flush().expect("changed");
    assert_eq!(bench.rows()[0].outbound_slot, Some(new_out));
    assert!(matches!(bench.tables.maps.read_inbound(old_in), Read::Empty { .. }));
    assert!(matches!(bench.tables.maps.read_outbound(old_out), Read::Empty { .. }));
    bench.tables.remove(ChildId(new), true);
    bench.tables.flush().expect("changed");
    assert!(bench.rows().is_empty());
    assert_eq!(bench.tables.child_sas.outers().count(), 0);
}

#[test]
fn what_a_side_has_closed_receives_for_a_moment_longer() {
    let mut bench = Bench::new(NET);
    let (child, _) = bench.install(None, true);
    bench.tables.flush().expect("changed");
    let (slot_in, slot_out) = bench.slots(child);
    bench.tables.remove(ChildId(child), false);
    bench.tables.flush().expect("changed");
    assert!(bench.rows().is_empty(), "nothing is sent any more");
    assert!(matches!(bench.tables.maps.read_outbound(slot_out), Read::Empty { .. }));
    assert!(matches!(bench.tables.maps.read_inbound(slot_in), Read::Present { .. }));
    assert!(bench.tables.child_sas.own_slots().0.contains(&slot_in), "a reload leaves it alone");
    while matches!(bench.tables.maps.read_inbound(slot_in), Read::Present { .. }) {
        std::thread::sleep(std::time::Duration::from_millis(50));
        bench.tables.tick();
    }
    assert!(!bench.tables.child_sas.own_slots().0.contains(&slot_in));
}

#[test]
fn what_nobody_rang_for_is_looked_at_again() {
    let bench = Bench::new(NET);
    let mut receiver = bench.tables.maps.doorbell_receiver().expect("a doorbell");
    while receiver.poll().is_some() {}
    bench.tables.ring_for_everything();
    assert_eq!(receiver.poll(), Some(Ring::Everything));
    assert_eq!(receiver.poll(), None);
}

#[test]
fn of_two_that_replace_each_other_the_newest_sends() {
    let mut bench = Bench::new(NET);
    let (first, _) = bench.install(None, true);
    let (second, _) = bench.install(Some(first), true);
    let (third, _) = bench.install(Some(first), true);
    bench.tables.flush().expect("changed");
    let slot = |bench: &Bench| bench.rows()[0].outbound_slot;
    assert_eq!(slot(&bench), Some(bench.slots(third).1));
    bench.tables.remove(ChildId(third), true);
    bench.tables.flush().expect("changed");
    assert_eq!(slot(&bench), Some(bench.slots(second).1), "a redundant one leaves the other");
}

#[test]
fn a_retired_slot_is_used_again_when_its_worker_has_let_go() {
    let mut bench = Bench::new(NET);
    let drawn = |bench: &mut Bench| {
        let Tables { child_sas, maps, .. } = &mut bench.tables;
        child_sas.reserve_spi(maps)
    };
    let mut children = Vec::new();
    for _ in 0..15 {
        children.push(bench.install(None, true).0);
    }
    while let Some(spi) = drawn(&mut bench) {
        // An SPI below 256 costs a slot; at most one more is free.
        bench.tables.child_sas.release_spi(spi);
        bench.install(None, true);
    }
    bench.tables.flush().expect("changed");
    bench.acknowledge();
    bench.tables.remove(ChildId(children[3]), true);
    bench.tables.flush().expect("changed");
    assert_eq!(drawn(&mut bench), None, "the worker still has it");
    bench.acknowledge();
    let spi = drawn(&mut bench).expect("let go");
    bench.tables.child_sas.release_spi(spi);
    bench.install(None, true);
}

#[test]
fn traps_stand_behind_what_was_negotiated() {
    let mut bench = Bench::new(&format!("{NET}start_action = \"trap\"\n"));
    let [trap] = bench.rows()[..] else { panic!("one") };
    assert_eq!((trap.action, trap.outbound_slot, trap.hold), (PolicyAction::Protect, None, true));
    let (child, _) = bench.install(None, true);
    bench.tables.flush().expect("changed");
    let rows = bench.rows();
    assert_eq!(rows[0].outbound_slot, Some(bench.slots(child).1));
    assert_eq!(rows[1], trap);
    assert_ne!(rows[0].child, trap.child);
    bench.tables.remove(ChildId(child), true);
    bench.tables.flush().expect("changed");
    assert_eq!(bench.rows(), [trap], "what follows traps again");
}

#[test]
fn each_road_warrior_has_its_own_number_and_address() {
    let mut bench = Bench::new(NET);
    let mut numbers = Vec::new();
    for host in 1..=5_u8 {
        let mut install = bench.wanted(None, true);
        install.remote_ts = vec![selector(&format!("10.3.0.{host}"))];
        install.remote = SocketAddr::from(([203, 0, 113, host], 40_000));
        (install.encap, install.any_source) = (true, true);
        bench.tables.install(&install).expect("installed");
        let (slot_in, _) = bench.slots(u32::from(host));
        let Read::Present { config, .. } = bench.tables.maps.read_inbound(slot_in) else {
            panic!("published")
        };
        assert_eq!(config.encap, Some(Encap { local_port: 4500, remote_port: 40_000 }));
        assert!(config.flags.any_source);
        numbers.push(config.child);
    }
    bench.tables.flush().expect("changed");
    let rows = bench.rows();
    assert_eq!(rows.len(), 5);
    for (row, number) in rows.iter().rev().zip(&numbers) {
        assert_eq!(row.child, *number, "the newest first");
    }
    let prefix = |text: &str, length| SteerPrefix { address: text.parse().expect("one"), length };
    let values = bench.tables.prefixes();
    assert_eq!(values[&prefix("10.3.0.4", 32)].flags, PREFIX_REMOTE);
    assert_eq!(values[&prefix("10.1.0.0", 16)].flags, PREFIX_LOCAL);
    bench.tables.remove(ChildId(4), true);
    bench.tables.flush().expect("changed");
    assert_eq!(bench.rows().len(), 4);
    assert!(!bench.tables.prefixes().contains_key(&prefix("10.3.0.4", 32)));
    assert!(bench.tables.prefixes().contains_key(&prefix("10.1.0.0", 16)));
}

#[test]
fn a_move_keeps_slots_and_keys() {
    let mut bench = Bench::new(NET);
    let (child, _) = bench.install(None, true);
    bench.tables.flush().expect("changed");
    let (slot_in, slot_out) = bench.slots(child);
    let local = SocketAddr::from(([192, 0, 2, 9], 4500));
    let remote = SocketAddr::from(([198, 51, 100, 7], 61_000));
    bench.tables.relocate(ChildId(child), (local, remote), true);
    bench.tables.flush().expect("changed");
    let maps = &bench.tables.maps;
    let (Read::Present { config: inbound, .. }, Read::Present { config: outbound, .. }) =
        (maps.read_inbound(slot_in), maps.read_outbound(slot_out))
    else {
        panic!("still there")
    };
    let encap = Some(Encap { local_port: 4500, remote_port: 61_000 });
    assert_eq!((inbound.local, inbound.remote, inbound.encap), (local.ip(), remote.ip(), encap));
    assert_eq!((outbound.local, outbound.remote, outbound.encap), (local.ip(), remote.ip(), encap));
    assert_eq!(inbound.key.as_bytes(), [1; 20]);
    assert_eq!(bench.tables.child_sas.outers().collect::<Vec<_>>(), [local.ip()]);
}

#[test]
fn a_reload_leaves_negotiated_sas_alone() {
    let mut bench = Bench::new(NET);
    let (child, _) = bench.install(None, true);
    bench.tables.flush().expect("changed");
    bench.acknowledge();
    let generation = |bench: &Bench| {
        let (slot_in, slot_out) = bench.slots(child);
        let Read::Present { generation: one, .. } = bench.tables.maps.read_inbound(slot_in) else {
            panic!("there")
        };
        let Read::Present { generation: two, .. } = bench.tables.maps.read_outbound(slot_out)
        else {
            panic!("there")
        };
        (one, two)
    };
    let (before, rows) = (generation(&bench), bench.rows());
    bench.reload(&format!(
        "{NET}[connections.c.children.other]\nmode = \"drop\"\nlocal_ts = \"10.9.0.0/16\"\n\
         remote_ts = \"10.8.0.0/16\"\npriority = 7\n"
    ));
    assert_eq!(generation(&bench), before);
    assert_eq!(bench.rows()[0], rows[0]);
    assert_eq!(bench.rows().len(), 2);
    // Its connection is gone from the file: it goes when the core closes it, not before.
    bench.reload("");
    assert_eq!(generation(&bench), before);
    assert_eq!(bench.rows(), rows);
    // A reserved slot survives, too.
    let spi = {
        let Tables { child_sas, maps, .. } = &mut bench.tables;
        child_sas.reserve_spi(maps).expect("a slot")
    };
    bench.reload(NET);
    let mut install = bench.wanted(Some(child), true);
    bench.tables.child_sas.release_spi(install.spi_in);
    install.spi_in = spi;
    bench.tables.install(&install).expect("installed");
}

#[test]
fn ctl_02_a_successor_adopts_what_is_in_the_maps_and_nothing_else() {
    let mut bench = Bench::new(NET);
    let (old, _) = bench.install(None, true);
    let (new, _) = bench.install(Some(old), true);
    let (gone, _) = bench.install(None, true);
    bench.tables.flush().expect("changed");
    bench.acknowledge();
    let (records, rows) = (bench.tables.child_sas.records(), bench.rows());
    let (gone_in, _) = bench.slots(gone);
    bench.tables.maps.retire_inbound(gone_in);
    // Another daemon over the same maps.
    let (config, wanted) = load(NET);
    let mut tables = Tables::new(bench.tables.maps.clone(), config, wanted).expect("a doorbell");
    let adopted: Vec<bool> = records.iter().map(|one| tables.adopt(one).is_ok()).collect();
    assert_eq!(adopted, [true, true, false]);
    let generation = bench.tables.maps.policies_generation();
    tables.apply().expect("applied");
    assert_eq!(tables.report.retired, 1, "the outbound half of the one that is gone");
    assert_eq!(tables.child_sas.records(), records[..2]);
    // Its rows are gone, the others' as they were.
    let now = tables.maps.read_policies().expect("whole").1;
    assert_eq!(now, rows[1..]);
    assert!(tables.maps.policies_generation() > generation);
    // The same once more: nothing is written.
    let generation = tables.maps.policies_generation();
    let (config, wanted) = load(NET);
    let mut third = Tables::new(tables.maps.clone(), config, wanted).expect("a doorbell");
    for record in &tables.child_sas.records() {
        third.adopt(record).expect("there");
    }
    third.apply().expect("applied");
    assert_eq!(third.report.retired, 0);
    assert_eq!(third.maps.policies_generation(), generation);
    // Nothing that is forged is believed.
    let mut forged = records[0].clone();
    forged.spi_out += 1;
    assert!(third.adopt(&forged).is_err());
    forged = records[0].clone();
    forged.slot_out = 99;
    assert!(third.adopt(&forged).is_err());
    let _ = new;
}

#[test]
fn debug_text_has_no_keys() {
    let mut bench = Bench::new(NET);
    let install = bench.wanted(None, true);
    let text = format!("{install:?}");
    bench.tables.install(&install).expect("installed");
    let all = format!("{text} {:?}", bench.tables);
    assert!(!all.contains("1, 1, 1, 1") && !all.contains("01010101"), "{text}");
}
