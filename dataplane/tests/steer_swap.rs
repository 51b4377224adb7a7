//! The steering program swapped for a new one while frames pass: nobody notices.
//!
//! Needs root; says that it was skipped elsewhere.

use std::path::PathBuf;
use std::time::Duration;
use xswan_dataplane::steering::Steering;
use xswan_sa_api::SteerMaps;
use xswan_steer::abi::{PortValue, ROLE_OUTER};
use xswan_testkit::failure::{Failure, Outcome};
use xswan_testkit::netns::{Namespace, serial, veth};
use xswan_testkit::process::wait_for;
use xswan_testkit::require_privileges;
use xswan_testkit::traffic::Stream;

/// Times that the program is swapped.
const SWAPS: usize = 100;
const PORT: u16 = 9012;
const LIMIT: Duration = Duration::from_secs(20);

/// A directory on bpffs, removed with its pins.
struct Pins(PathBuf);

impl Pins {
    fn create() -> Outcome<Self> {
        xswan_testkit::gateway::mount_bpffs()?;
        let name = format!("xswan-swap-{}-{}", std::process::id(), serial());
        let path = PathBuf::from("/sys/fs/bpf").join(name);
        std::fs::create_dir(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn program_id(space: &Namespace) -> Outcome<u64> {
    let text = space.ip("-j -d link show dev eth0")?;
    let answer: serde_json::Value = serde_json::from_str(&text)?;
    let id = answer.pointer("/0/xdp/prog/id").and_then(serde_json::Value::as_u64);
    id.ok_or_else(|| Failure::new("no program is attached"))
}

fn index(space: &Namespace) -> Outcome<u32> {
    let text = space.ip("-j link show dev eth0")?;
    let answer: serde_json::Value = serde_json::from_str(&text)?;
    let index = answer.pointer("/0/ifindex").and_then(serde_json::Value::as_u64);
    index.and_then(|index| u32::try_from(index).ok()).ok_or_else(|| Failure::new("no device"))
}

#[test]
fn str_08_a_hundred_swaps_under_load_lose_no_frame() -> Outcome<()> {
    require_privileges!("str_08_a_hundred_swaps_under_load_lose_no_frame");
    let (left, right) = (Namespace::create("l")?, Namespace::create("r")?);
    veth((&left, "eth0"), (&right, "eth0"))?;
    left.address("eth0", "192.0.2.1/24")?;
    right.address("eth0", "192.0.2.2/24")?;
    let pins = Pins::create()?;
    // Control's maps come first, as in the daemon; empty they let everything pass.
    let _maps = SteerMaps::open_or_create(&pins.0).map_err(|error| error.to_string())?;
    let index = index(&right)?;
    let attach = || -> Result<Steering, String> {
        let mut steering = Steering::load(&pins.0).map_err(|error| error.to_string())?;
        let port = PortValue { index: 0, roles: ROLE_OUTER };
        steering.set_port(index, port).map_err(|error| error.to_string())?;
        steering.attach("eth0", index, false, false).map_err(|error| error.to_string())?;
        Ok(steering)
    };
    let mut steering = right.enter(attach)??;
    left.run("ping -c1 -W2 192.0.2.2")?;
    let address = "192.0.2.2".parse().map_err(|_| "an address")?;
    let stream = Stream::start(&left, (&right, address, PORT), Duration::from_micros(200), 200)?;
    let mut last = program_id(&right)?;
    for _ in 0..SWAPS {
        // As after a crash: the old instance is gone, its link and program are still there.
        drop(steering);
        steering = right.enter(attach)??;
        let now = program_id(&right)?;
        assert_ne!(now, last, "the program is still the old one");
        last = now;
        let goal = stream.arrived() + 5;
        wait_for("frames behind the swap", LIMIT, || Ok(stream.arrived() >= goal))?;
    }
    let report = stream.stop()?;
    assert_eq!((report.sent - report.arrived, report.duplicates), (0, 0), "{report:?}");
    // It did see them: every frame of the load was let through by the program.
    let passed: u64 = steering.statistics().iter().sum();
    assert!(passed >= report.sent, "the program saw {passed} of {report:?}");
    steering.detach();
    wait_for("the kernel to let go", LIMIT, || Ok(program_id(&right).is_err()))
}
