//! Maps that are pinned for good, on a BPF file system of the test's own.
//!
//! Without the right to mount one, each test says that it is skipped and why.

use crate::header::{HEADER_LEN, Header, LAYOUT_VERSION};
use crate::open::OpenError;
use crate::steering::SteerPrefix;
use crate::sys::{self, ElementMap, MapShape, MapType};
use crate::{
    Algorithm, Geometry, InboundConfig, InboundFlags, Key, Lifetimes, Mode, Read, Ring, SharedMaps,
    replay_words_for,
};
use std::os::fd::AsFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use xswan_steer::abi::{PREFIX_REMOTE, PrefixValue, STEER_VERSION, SteerConfig};

const GEOMETRY: Geometry =
    Geometry { sa_slots: 16, policies: 8, replay_words: 1000, workers: 2, member: 3 };

/// A BPF file system that is gone when the test ends.
struct BpfFs(PathBuf);

impl BpfFs {
    /// `None`, and a line that says why, without the right to mount.
    fn mount(name: &str) -> Option<Self> {
        let path = std::env::temp_dir().join(format!("xswan-bpf-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("made");
        let mounted = Command::new("mount").args(["-t", "bpf", "bpf"]).arg(&path).output();
        let mounted = mounted.expect("mount runs");
        if mounted.status.success() {
            return Some(Self(path));
        }
        let why = String::from_utf8_lossy(&mounted.stderr).into_owned();
        println!("skipped: {name}: no BPF file system can be mounted: {}", why.trim());
        std::fs::remove_dir(&path).expect("removed");
        None
    }

    fn instance(&self) -> PathBuf {
        self.0.join("xswan").join("gwa")
    }
}

impl Drop for BpfFs {
    fn drop(&mut self) {
        let _unmounted = Command::new("umount").arg(&self.0).status();
        let _removed = std::fs::remove_dir(&self.0);
    }
}

fn open(directory: &Path) -> SharedMaps {
    SharedMaps::open_or_create(directory, &GEOMETRY).expect("opened")
}

fn inbound() -> InboundConfig {
    InboundConfig {
        spi: 0x1001,
        worker: 1,
        algorithm: Algorithm::Aes128Gcm16,
        key: Key::new(&[7; 20]).expect("fits"),
        mode: Mode::Tunnel,
        local: "192.0.2.1".parse().expect("address"),
        remote: "192.0.2.2".parse().expect("address"),
        encap: None,
        replay_window: 1024,
        replay_offset: 0,
        replay_len: replay_words_for(1024),
        child: 1,
        flags: InboundFlags::default(),
        lifetimes: Lifetimes::default(),
    }
}

#[test]
fn maps_are_private_and_found_again() {
    let Some(fs) = BpfFs::mount("found") else { return };
    let first = open(&fs.instance());
    let second = open(&fs.instance());
    assert_eq!(first.spi_key(), second.spi_key());
    assert_ne!(first.spi_key().0, [0; 4]);
    first.publish_inbound(5, &inbound()).expect("free");
    assert_eq!(second.read_inbound(5), Read::Present { generation: 2, config: inbound() });
    let mode = |path: &Path| std::fs::metadata(path).expect("there").permissions().mode() & 0o777;
    assert_eq!(mode(&fs.instance()), 0o700);
    let entries: Vec<_> = std::fs::read_dir(fs.instance()).expect("read").flatten().collect();
    assert_eq!(entries.len(), 12);
    assert!(entries.iter().all(|entry| mode(&entry.path()) == 0o600));
}

#[test]
fn many_creators_at_once_make_one_set_of_maps() {
    let Some(fs) = BpfFs::mount("race") else { return };
    for round in 0..10 {
        let directory = fs.0.join(format!("round{round}"));
        let start = std::sync::Barrier::new(8);
        let opened: Vec<SharedMaps> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| {
                        start.wait();
                        open(&directory)
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
        });
        let [first, rest @ ..] = opened.as_slice() else { return };
        assert!(rest.iter().all(|maps| maps.spi_key() == first.spi_key()));
        first.publish_inbound(1, &inbound()).expect("free");
        assert!(rest.iter().all(|maps| matches!(maps.read_inbound(1), Read::Present { .. })));
    }
}

/// Set in the child that [`a_process_that_is_gone_leaves_everything`] starts.
const CHILD: &str = "XSWAN_TEST_CHILD_DIRECTORY";

#[test]
fn a_process_that_is_gone_leaves_everything() {
    if let Some(directory) = std::env::var_os(CHILD) {
        let maps = open(Path::new(&directory));
        maps.publish_inbound(2, &inbound()).expect("free");
        maps.outbound_live(2).expect("slot").publish_lease(4096);
        maps.claim_replay(8, 4).expect("free").as_mut().fill(77);
        maps.doorbell_sender().expect("there").ring(Ring::Inbound(2));
        // No destructor runs: as if killed.
        std::process::abort();
    }
    let Some(fs) = BpfFs::mount("gone") else { return };
    let child = Command::new(std::env::current_exe().expect("path"))
        .args(["--exact", "pinned_tests::a_process_that_is_gone_leaves_everything"])
        .env(CHILD, fs.instance())
        .output()
        .expect("runs");
    assert!(!child.status.success());
    let maps = open(&fs.instance());
    assert_eq!(maps.read_inbound(2), Read::Present { generation: 2, config: inbound() });
    assert_eq!(maps.outbound_live(2).expect("slot").lease(), 4096);
    assert_eq!(maps.claim_replay(8, 4).expect("free").as_ref(), [77; 4]);
    let mut doorbell = maps.doorbell_receiver().expect("there");
    assert_eq!(doorbell.poll(), Some(Ring::Inbound(2)));
}

#[test]
fn str_10_ctl_07_another_geometry_or_version_is_refused_by_path() {
    let Some(fs) = BpfFs::mount("version") else { return };
    drop(open(&fs.instance()));
    let other = Geometry { sa_slots: 32, ..GEOMETRY };
    let text = SharedMaps::open_or_create(&fs.instance(), &other).expect_err("other").to_string();
    assert!(text.contains("gwa/xswan_header: made with sa_slots = 16"), "{text}");
    assert!(text.contains("wants 32") && text.contains("remove"), "{text}");
    let directory = fs.0.join("newer");
    std::fs::create_dir(&directory).expect("made");
    let shape = MapShape {
        kind: MapType::Array as u32,
        key_size: 4,
        value_size: HEADER_LEN as u32,
        max_entries: 1,
        flags: 0,
    };
    let map = sys::create("xswan_header", &shape).expect("created");
    sys::pin(map.as_fd(), &directory.join("xswan_header")).expect("pinned");
    let elements = ElementMap::new(map).expect("shape");
    let opened = || SharedMaps::open_or_create(&directory, &GEOMETRY).expect_err("refused");
    assert!(opened().to_string().contains("unknown header"));
    let header = Header { version: LAYOUT_VERSION + 1, geometry: GEOMETRY, spi_key: [1; 4] };
    elements.update(&0_u32.to_ne_bytes(), &header.to_bytes()).expect("written");
    let found = format!("layout version = {}", LAYOUT_VERSION + 1);
    assert!(opened().to_string().contains(&found), "{}", opened());
    // Nothing was made beside it.
    assert_eq!(std::fs::read_dir(&directory).expect("read").count(), 1);
}

#[test]
fn str_10_a_map_of_another_shape_is_refused_by_path() {
    let Some(fs) = BpfFs::mount("shape") else { return };
    drop(open(&fs.instance()));
    let path = fs.instance().join("steer_spis");
    std::fs::remove_file(&path).expect("unpinned");
    let shape = MapShape {
        kind: MapType::Hash as u32,
        key_size: 8,
        value_size: 4,
        max_entries: 4,
        flags: 0,
    };
    let map = sys::create("steer_spis", &shape).expect("created");
    sys::pin(map.as_fd(), &path).expect("pinned");
    let error = SharedMaps::open_or_create(&fs.instance(), &GEOMETRY).expect_err("refused");
    assert!(matches!(&error, OpenError::Mismatch { path: named, .. } if *named == path), "{error}");
}

#[test]
fn str_11_no_or_read_only_bpf_file_system() {
    let missing = std::env::temp_dir().join("xswan-no-such-directory/gwa");
    let error = SharedMaps::open_or_create(&missing, &GEOMETRY).expect_err("not bpffs");
    assert!(error.to_string().contains("mount -t bpf bpf /sys/fs/bpf"), "{error}");
    assert!(!missing.exists());
    let Some(fs) = BpfFs::mount("readonly") else { return };
    let remounted = Command::new("mount").args(["-o", "remount,ro"]).arg(&fs.0).status();
    assert!(remounted.expect("mount runs").success());
    let error = SharedMaps::open_or_create(&fs.instance(), &GEOMETRY).expect_err("read-only");
    assert!(error.to_string().contains("remount"), "{error}");
}

#[test]
fn steering_maps_hold_what_is_written() {
    let Some(fs) = BpfFs::mount("steer") else { return };
    let maps = open(&fs.instance());
    let steer = maps.steering().expect("pinned");
    assert_eq!(steer.config().expect("read"), SteerConfig::default());
    let config = SteerConfig {
        version: STEER_VERSION,
        workers: 2,
        member: 3,
        static_spis: 1,
        spi_key: maps.spi_key().0,
    };
    steer.set_config(&config).expect("written");
    assert_eq!(steer.config().expect("read"), config);
    let address = "192.0.2.1".parse().expect("address");
    steer.add_outer(address).expect("added");
    steer.add_outer("2001:db8::1".parse().expect("address")).expect("added");
    assert_eq!(steer.outers().expect("read").len(), 2);
    assert!(steer.remove_outer(address).expect("removed"));
    assert!(!steer.remove_outer(address).expect("not there"));
    steer.set_spi(0x1001, 1).expect("added");
    assert_eq!(steer.spis().expect("read"), [(0x1001, 1)]);
    assert!(steer.remove_spi(0x1001).expect("removed"));
    let value = PrefixValue { flags: PREFIX_REMOTE, worker: 1 };
    for (address, length) in [("10.2.0.0", 16), ("2001:db8:2::", 48), ("0.0.0.0", 0)] {
        let prefix = SteerPrefix { address: address.parse().expect("address"), length };
        steer.set_prefix(prefix, value).expect("added");
        assert!(steer.prefixes().expect("read").contains(&(prefix, value)));
    }
    let prefix = SteerPrefix { address: "10.2.0.0".parse().expect("address"), length: 16 };
    assert!(steer.remove_prefix(prefix).expect("removed"));
    assert_eq!(steer.prefixes().expect("read").len(), 2);
    let wrong = SteerPrefix { length: 33, ..prefix };
    assert!(steer.set_prefix(wrong, value).is_err());
}
