//! From one configuration to another, on maps in memory, with a worker that does as told.

#![expect(clippy::expect_used, reason = "the helpers of a test fail it")]

use std::collections::BTreeMap;
use std::path::PathBuf;
use xswan_config::Config;
use xswan_control::install::{Installed, Report, reconcile};
use xswan_control::wanted::{Wanted, geometry};
use xswan_sa_api::{PolicyAction, Read, SharedMaps, SlotState, SteerPrefix};
use xswan_steer::abi::{PREFIX_LOCAL, PREFIX_REMOTE, PrefixValue, WORKER_BY_FLOW};

struct Keys(PathBuf);

impl Keys {
    /// A directory with the key files 1 to 9.
    fn new(name: &str) -> Self {
        use std::os::unix::fs::PermissionsExt;
        let path = std::env::temp_dir().join(format!("xswan-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("made");
        for key in 1..10 {
            let file = path.join(key.to_string());
            std::fs::write(&file, format!("{key:02x}").repeat(20)).expect("written");
            std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).expect("mode");
        }
        Self(path)
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        let _gone = std::fs::remove_dir_all(&self.0);
    }
}

/// A tunnel to 10.`net`.0.0/16.
fn tunnel(net: u8, key_in: u8, key_out: u8, worker: u8, more: &str) -> String {
    format!(
        "[connections.c{net}]\nlocal_addrs = \"192.0.2.1\"\nremote_addrs = \"192.0.2.{net}\"\n\
         [connections.c{net}.children.lan]\nlocal_ts = \"10.1.0.0/16\"\n\
         remote_ts = \"10.{net}.0.0/16\"\nesp_proposals = \"aes128gcm16-esn\"\n{more}\n\
         [connections.c{net}.children.lan.static]\nspi_in = {}\nspi_out = 8193\n\
         key_in_file = \"{key_in}\"\nkey_out_file = \"{key_out}\"\nworker = {worker}\n",
        4096 + u32::from(net)
    )
}

struct Bench {
    keys: Keys,
    maps: SharedMaps,
}

const HEAD: &str = "[cores]\nworkers = \"1-2\"\n[dataplane]\nsa_slots = 8\nreplay_words = 400\n";

impl Bench {
    fn new(name: &str) -> Self {
        let config = Config::parse("x", HEAD, "/".as_ref()).expect("good");
        let maps = SharedMaps::in_memory(&geometry(&config)).expect("memory");
        Self { keys: Keys::new(name), maps }
    }

    fn wanted(&self, text: &str) -> Result<Wanted, String> {
        let config = Config::parse("x", &format!("{HEAD}{text}"), &self.keys.0)
            .map_err(|error| error.to_string())?;
        let keys = config.load_keys().map_err(|error| error.to_string())?;
        Wanted::new(&config, &keys)
    }

    fn apply(&self, text: &str) -> (Installed, Report) {
        let wanted = self.wanted(text).expect("good");
        let doorbell = self.maps.doorbell_sender().expect("there");
        reconcile(&self.maps, &doorbell, &wanted, || Ok(())).expect("applied")
    }

    /// What every worker does in the end: acknowledge.
    fn acknowledge(&self) {
        for slot in 0..8 {
            let generation = match self.maps.read_inbound(slot) {
                Read::Empty { generation } | Read::Present { generation, .. } => generation,
                Read::Torn | Read::Invalid { .. } => continue,
            };
            self.maps.inbound_live(slot).expect("slot").acknowledge(generation);
            let generation = match self.maps.read_outbound(slot) {
                Read::Empty { generation } | Read::Present { generation, .. } => generation,
                Read::Torn | Read::Invalid { .. } => continue,
            };
            self.maps.outbound_live(slot).expect("slot").acknowledge(generation);
        }
    }

    fn rings(&self) -> usize {
        let mut doorbell = self.maps.doorbell_receiver().expect("there");
        std::iter::from_fn(|| doorbell.poll()).count()
    }
}

fn report(untouched: u32, updated: u32, installed: u32, retired: u32, waiting: u32) -> Report {
    Report { untouched, updated, installed, retired, waiting }
}

#[test]
fn ctl_02_what_is_as_wanted_is_not_touched() {
    let bench = Bench::new("untouched");
    let text = tunnel(2, 1, 2, 0, "") + &tunnel(3, 3, 4, 1, "");
    assert_eq!(bench.apply(&text).1, report(0, 0, 4, 0, 0));
    assert_eq!(bench.rings(), 5);
    let before: Vec<_> = (0..8).map(|slot| bench.maps.read_inbound(slot)).collect();
    let generation = bench.maps.policies_generation();
    // A control that starts again knows nothing but the configuration and the maps.
    assert_eq!(bench.apply(&text).1, report(4, 0, 0, 0, 0));
    assert_eq!(bench.rings(), 0);
    assert_eq!(before, (0..8).map(|slot| bench.maps.read_inbound(slot)).collect::<Vec<_>>());
    assert_eq!(bench.maps.policies_generation(), generation);
}

#[test]
fn a_changed_parameter_is_changed_in_place() {
    let bench = Bench::new("in-place");
    let (installed, _) = bench.apply(&tunnel(2, 1, 2, 0, ""));
    let slot = *installed.outbound.values().next().expect("one");
    bench.maps.outbound_live(slot).expect("slot").publish_lease(9000);
    let (after, done) = bench.apply(&tunnel(2, 1, 2, 0, "ttl = 7"));
    assert_eq!((done, &after.outbound), (report(1, 1, 0, 0, 0), &installed.outbound));
    assert_eq!(bench.maps.outbound_live(slot).expect("slot").lease(), 9000);
    assert!(
        matches!(bench.maps.read_outbound(slot), Read::Present { config, .. } if config.ttl == 7)
    );
}

#[test]
fn another_key_or_worker_waits_until_the_old_sa_is_let_go_of() {
    let bench = Bench::new("key");
    bench.apply(&tunnel(2, 1, 2, 0, ""));
    bench.acknowledge();
    let new_key = tunnel(2, 3, 2, 0, "");
    // The SPI of packets to us is the same: two SAs at once could be mixed up.
    assert_eq!(bench.apply(&new_key).1, report(1, 0, 0, 1, 1));
    assert_eq!(bench.apply(&new_key).1, report(1, 0, 0, 0, 1));
    bench.acknowledge();
    assert_eq!(bench.apply(&new_key).1, report(1, 0, 1, 0, 0));
    bench.acknowledge();
    let (installed, _) = bench.apply(&new_key);
    let slot = *installed.outbound.values().next().expect("one");
    bench.maps.outbound_live(slot).expect("slot").publish_lease(777);
    let moved = tunnel(2, 3, 2, 1, "");
    assert_eq!(bench.apply(&moved).1, report(0, 0, 0, 2, 2));
    bench.acknowledge();
    let (installed, done) = bench.apply(&moved);
    assert_eq!(done, report(0, 0, 2, 0, 0));
    let slot = *installed.outbound.values().next().expect("one");
    assert_eq!(bench.maps.outbound_live(slot).expect("slot").lease(), 777);
}

#[test]
fn a_tunnel_that_comes_back_repeats_no_number() {
    let bench = Bench::new("back");
    let text = tunnel(2, 1, 2, 0, "");
    let (installed, _) = bench.apply(&text);
    let slot = *installed.outbound.values().next().expect("one");
    bench.acknowledge();
    bench.maps.outbound_live(slot).expect("slot").publish_lease(5000);
    assert_eq!(bench.apply("").1, report(0, 0, 0, 2, 0));
    bench.acknowledge();
    bench.apply(&tunnel(3, 3, 4, 0, ""));
    bench.acknowledge();
    let (installed, _) = bench.apply(&(text + &tunnel(3, 3, 4, 0, "")));
    let leases: Vec<_> = installed
        .outbound
        .values()
        .map(|slot| bench.maps.outbound_live(*slot).expect("slot").lease())
        .collect();
    assert!(leases.contains(&5000) && leases.contains(&0), "{leases:?}");
}

#[test]
fn cfg_06_policies_follow_the_sas() {
    let bench = Bench::new("policies");
    let pass = "[connections.c2.children.ssh]\nmode = \"pass\"\nlocal_ts = \"10.1.0.0/16\"\n\
                remote_ts = \"10.2.0.0/16[tcp/22]\"\n";
    let (installed, _) = bench.apply(&(tunnel(2, 1, 2, 0, "priority = 1") + pass));
    let (_, rows) = bench.maps.read_policies().expect("whole");
    let slot = installed.outbound.values().next().copied();
    let shown: Vec<_> = rows.iter().map(|row| (row.action, row.outbound_slot)).collect();
    assert_eq!(shown, [(PolicyAction::Bypass, None), (PolicyAction::Protect, slot)]);
    // While the SA is exchanged the policy stands and has no SA: dropped, not passed.
    bench.apply(&(tunnel(2, 1, 2, 1, "priority = 1") + pass));
    let (_, rows) = bench.maps.read_policies().expect("whole");
    assert_eq!((rows[1].action, rows[1].outbound_slot), (PolicyAction::Protect, None));
    let slot = slot.expect("was installed");
    assert_eq!(bench.maps.outbound_state(slot), Some(SlotState::Draining));
}

#[test]
fn the_arena_is_cleared_of_memories_when_it_is_full() {
    let bench = Bench::new("arena");
    for net in 2..40 {
        let text = tunnel(net, 1 + net % 8, 9, 0, "");
        bench.apply(&text);
        bench.acknowledge();
        let (_, done) = bench.apply(&text);
        assert_eq!(done.waiting, 0, "tunnel {net}");
        bench.acknowledge();
    }
}

#[test]
fn too_much_is_refused_before_anything_is_touched() {
    let bench = Bench::new("too-much");
    let error = bench.wanted(&tunnel(2, 1, 2, 0, "replay_window = 65536")).expect_err("arena");
    assert!(error.contains("replay words") && error.contains("400"), "{error}");
    let error = bench.wanted(&tunnel(2, 1, 1, 0, "")).expect_err("one key");
    assert!(error.contains("same key"), "{error}");
    assert_eq!(bench.rings(), 0);
}

#[test]
fn prefixes_take_over_what_is_around_them() {
    let bench = Bench::new("prefixes");
    let text = tunnel(2, 1, 2, 1, "") + &tunnel(3, 3, 4, 0, "");
    let nested = text
        .replace("remote_ts = \"10.2.0.0/16\"", "remote_ts = \"10.0.0.0/8\"\npriority = 9")
        .replace(
            "remote_ts = \"10.3.0.0/16\"",
            "remote_ts = [\"10.3.0.0/16\", \"10.1.0.0-10.1.255.255\"]",
        );
    let wanted = bench.wanted(&nested).expect("good");
    let value = |address: &str, length| {
        let address = address.parse().expect("address");
        wanted.prefixes.get(&SteerPrefix { address, length }).copied()
    };
    let both = PREFIX_REMOTE | PREFIX_LOCAL;
    assert_eq!(value("10.0.0.0", 8), Some(PrefixValue { flags: PREFIX_REMOTE, worker: 1 }));
    assert_eq!(value("10.3.0.0", 16), Some(PrefixValue { flags: PREFIX_REMOTE, worker: 0 }));
    assert_eq!(value("10.1.0.0", 16), Some(PrefixValue { flags: both, worker: 0 }));
    assert_eq!(wanted.spis, BTreeMap::from([(4098, 1), (4099, 0)]));
    let shared = text.replace("10.3.0.0/16", "10.2.0.0/16").replacen(
        "esp_proposals",
        "priority = 1\nesp_proposals",
        1,
    );
    let wanted = bench.wanted(&shared).expect("good");
    let prefix = SteerPrefix { address: "10.2.0.0".parse().expect("address"), length: 16 };
    assert_eq!(wanted.prefixes[&prefix].worker, WORKER_BY_FLOW);
}
