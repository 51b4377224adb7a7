//! The daemon itself, on a BPF file system of the test's own: killed, started again, reloaded.

#![expect(clippy::expect_used, reason = "the helpers of a test fail it")]
#![expect(clippy::print_stdout, reason = "a skipped test says why")]

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use xswan_config::Config;
use xswan_control::wanted::geometry;
use xswan_management::{Client, ClientError};
use xswan_sa_api::{Read, SharedMaps};

/// Configuration, keys, sockets and a mounted BPF file system; all gone in the end.
struct Place(PathBuf);

impl Place {
    /// `None`, and a line that says why, without the right to mount.
    fn new(name: &str) -> Option<Self> {
        use std::os::unix::fs::PermissionsExt;
        let path = std::env::temp_dir().join(format!("xswan-daemon-{name}-{}", std::process::id()));
        std::fs::create_dir_all(path.join("bpf")).expect("made");
        let mounted =
            Command::new("mount").args(["-t", "bpf", "bpf"]).arg(path.join("bpf")).output();
        if !mounted.expect("mount runs").status.success() {
            println!("skipped: {name}: no BPF file system can be mounted");
            std::fs::remove_dir_all(&path).expect("removed");
            return None;
        }
        for key in 1..5 {
            let file = path.join(key.to_string());
            std::fs::write(&file, format!("0x{}", format!("{key:02x}").repeat(36)))
                .expect("written");
            std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).expect("mode");
        }
        Some(Self(path))
    }

    fn file(&self) -> PathBuf {
        self.0.join("xswan.toml")
    }

    fn write(&self, tunnels: &[u32]) {
        let directory = self.0.display();
        let mut text = format!(
            "[instance]\nname = \"t\"\nrun_dir = \"{directory}/run\"\nbpf_dir = \"{directory}/bpf\"\n\
             [cores]\nworkers = \"0-1\"\nmain = 0\n[dataplane]\nsa_slots = 16\n"
        );
        for net in tunnels {
            text += &format!(
                "[connections.c{net}]\nlocal_addrs = \"192.0.2.1\"\nremote_addrs = \"192.0.2.{net}\"\n\
                 [connections.c{net}.children.lan]\nlocal_ts = \"10.1.0.0/16\"\n\
                 remote_ts = \"10.{net}.0.0/16\"\n[connections.c{net}.children.lan.static]\n\
                 spi_in = {}\nspi_out = 8193\nkey_in_file = \"{}\"\nkey_out_file = \"{}\"\n",
                4096 + net,
                net * 2 - 3,
                net * 2 - 2
            );
        }
        std::fs::write(self.file(), text).expect("written");
    }

    fn start(&self) -> Daemon<'_> {
        let child = Command::new(env!("CARGO_BIN_EXE_xswan-control"))
            .arg("--config")
            .arg(self.file())
            .stderr(Stdio::null())
            .spawn()
            .expect("started");
        let mut daemon = Daemon { child, place: self };
        let deadline = Instant::now() + Duration::from_secs(30);
        while daemon.ask("status").is_err() {
            let ended = daemon.child.try_wait().expect("waited");
            assert!(ended.is_none() && Instant::now() < deadline, "{ended:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
        daemon
    }

    fn maps(&self) -> SharedMaps {
        let config = Config::load(&self.file()).expect("good");
        SharedMaps::open_or_create(&config.bpf_directory(), &geometry(&config)).expect("opened")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _unmounted = Command::new("umount").arg(self.0.join("bpf")).status();
        let _removed = std::fs::remove_dir_all(&self.0);
    }
}

struct Daemon<'a> {
    child: Child,
    place: &'a Place,
}

impl Daemon<'_> {
    fn ask(&self, command: &str) -> Result<Value, ClientError> {
        let socket = self.place.0.join("run/t/control.sock");
        Client::new(&socket, Duration::from_secs(10)).request(command, Value::Null)
    }

    fn kill(mut self) {
        self.child.kill().expect("killed");
    }
}

impl Drop for Daemon<'_> {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

fn generations(maps: &SharedMaps) -> Vec<u64> {
    (0..16)
        .flat_map(|slot| {
            let inbound = match maps.read_inbound(slot) {
                Read::Present { generation, .. } => generation,
                Read::Empty { .. } | Read::Torn | Read::Invalid { .. } => 0,
            };
            let outbound = match maps.read_outbound(slot) {
                Read::Present { generation, .. } => generation,
                Read::Empty { .. } | Read::Torn | Read::Invalid { .. } => 0,
            };
            [inbound, outbound]
        })
        .collect()
}

#[test]
fn ctl_02_killed_twenty_times_nothing_changes() {
    let Some(place) = Place::new("kill") else { return };
    place.write(&[2, 3]);
    place.start().kill();
    let maps = place.maps();
    let before = (generations(&maps), maps.policies_generation());
    let steer = maps.steering().expect("pinned");
    let steered = |maps: &xswan_sa_api::SteerMaps| {
        let mut prefixes = maps.prefixes().expect("read");
        prefixes.sort_by_key(|(prefix, _)| *prefix);
        let mut spis = maps.spis().expect("read");
        spis.sort_unstable();
        (prefixes, spis, maps.outers().expect("read"), maps.config().expect("read"))
    };
    let steering = steered(steer);
    assert_eq!((steering.0.len(), steering.1.len(), steering.2.len()), (3, 2, 1));
    assert_eq!(before.0.iter().filter(|generation| **generation > 0).count(), 4);
    for _ in 0..20 {
        place.start().kill();
        assert_eq!((generations(&maps), maps.policies_generation()), before);
        assert_eq!(steered(steer), steering);
    }
}

#[test]
fn cfg_02_a_reload_with_an_error_changes_nothing() {
    let Some(place) = Place::new("reload") else { return };
    place.write(&[2]);
    let daemon = place.start();
    let maps = place.maps();
    let before = generations(&maps);
    let good = std::fs::read_to_string(place.file()).expect("read");
    for (old, new, named) in [
        ("lan.static]", "lan.statik]", "unknown key"),
        ("key_in_file = \"1\"", "key_in_file = \"9\"", "No such file"),
        ("key_in_file = \"1\"", "key_in_file = \"2\"", "same key"),
        ("sa_slots = 16", "sa_slots = 17", "needs a restart"),
        ("[cores]", "[cores", "TOML"),
    ] {
        std::fs::write(place.file(), good.replace(old, new)).expect("written");
        match daemon.ask("reload") {
            Err(ClientError::Refused(why)) => assert!(why.contains(named), "{why}"),
            other => panic!("{new}: {other:?}"),
        }
        assert_eq!(generations(&maps), before);
    }
    place.write(&[2, 3]);
    let done = daemon.ask("reload").expect("good");
    assert_eq!((done["added"][0].as_str(), done["installed"].as_u64()), (Some("c3.lan"), Some(2)));
    place.write(&[3]);
    let done = daemon.ask("reload").expect("good");
    assert_eq!((done["removed"][0].as_str(), done["retired"].as_u64()), (Some("c2.lan"), Some(2)));
    let spis = maps.steering().expect("pinned").spis().expect("read");
    assert_eq!(spis.iter().map(|(spi, _)| *spi).collect::<Vec<_>>(), [4099]);
    let sas = daemon.ask("list-sas").expect("listed");
    assert_eq!(sas["static"][0]["in"]["spi"], "0x00001003");
    assert_eq!(sas["static"][0]["state"], "INSTALLING");
    assert!(!sas.to_string().contains("0303"), "a key in the listing");
    let policies = daemon.ask("list-policies").expect("listed");
    assert_eq!(policies["policies"][0]["action"], "protect");
}

fn start_refused(file: &Path) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_xswan-control"))
        .arg("--config")
        .arg(file)
        .output()
        .expect("runs");
    assert_eq!(output.status.code(), Some(1));
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_second_control_is_refused_and_shutdown_leaves_the_tunnels() {
    let Some(place) = Place::new("second") else { return };
    place.write(&[2]);
    let mut daemon = place.start();
    let text = start_refused(&place.file());
    assert!(text.contains("another control of this instance is running"), "{text}");
    let maps = place.maps();
    let before = generations(&maps);
    daemon.ask("shutdown").expect("answered");
    assert!(daemon.child.wait().expect("ended").success());
    assert!(!place.0.join("run/t/control.sock").exists());
    assert_eq!(generations(&maps), before);
    std::fs::write(place.file(), "[cores]\nworker = 1\n").expect("written");
    let text = start_refused(&place.file());
    assert!(text.contains("xswan.toml:1:1: cores.workers: missing"), "{text}");
}
