//! A start that is refused: one line that says what mends it, and nothing left attached.
//!
//! Needs root and the built daemons; run by `cargo xtask test --only start`.

use std::path::Path;
use std::process::Command;
use std::time::Duration;
use xswan_testkit::failure::Outcome;
use xswan_testkit::gateway::{Gateway, GatewayConfig, binary};
use xswan_testkit::netns::{self, Namespace};
use xswan_testkit::process::{Daemon, ScratchDirectory, wait_for};
use xswan_testkit::require_privileges;
use xswan_testkit::topology::{CLIENT_V4, Outer, Topology, tunnel};

const END_LIMIT: Duration = Duration::from_secs(30);
const SETTLE_LIMIT: Duration = Duration::from_secs(20);
/// The program of somebody else: lets everything pass.
const FOREIGN_PROGRAM: &str = "__attribute__((section(\"xdp\"), used)) \
    int pass_all(void *context) { return 2; }\n";

fn config_of_a() -> Outcome<GatewayConfig> {
    let [config, _] = tunnel(Outer::V4, false, "aes128gcm16-esn")?;
    Ok(config)
}

/// Waits for the refusal; what it said, without the name of the program in front.
fn refusal(daemon: &mut Daemon) -> Outcome<String> {
    let status = daemon.wait(END_LIMIT)?;
    let log = daemon.log();
    assert_eq!(status.code(), Some(1), "{log}");
    let said: Vec<&str> =
        log.lines().filter_map(|line| line.strip_prefix("xswan-dataplane: ")).collect();
    assert_eq!(said.len(), 1, "one line: {log}");
    assert!(log.ends_with(&format!("{}\n", said[0])), "the last line: {log}");
    assert!(!log.contains("panicked"), "{log}");
    Ok(said[0].to_owned())
}

/// No program on a device, and no device of ours left.
fn assert_nothing_left(space: &Namespace) -> Outcome<()> {
    let links = space.ip("-d link show")?;
    assert!(!links.contains("xdp"), "something is attached: {links}");
    assert!(!links.contains("tun "), "a TUN device is left: {links}");
    Ok(())
}

/// What the dataplane says to a configuration that it must not start with.
fn refusal_of(
    topology: &Topology,
    config: GatewayConfig,
    edit: impl FnOnce(&str) -> String,
) -> Outcome<String> {
    let [space, _] = &topology.gateways;
    let mut gateway = Gateway::prepare(space, config)?;
    let text = edit(&std::fs::read_to_string(gateway.file())?);
    std::fs::write(gateway.file(), text)?;
    gateway.start_dataplane()?;
    let said = refusal(gateway.dataplane()?)?;
    assert_nothing_left(space)?;
    Ok(said)
}

fn assert_names(said: &str, words: &[&str]) {
    for word in words {
        assert!(said.contains(word), "no {word:?} in: {said}");
    }
}

#[test]
fn a_configuration_that_the_machine_cannot_give_is_refused_in_one_line() -> Outcome<()> {
    require_privileges!("a_configuration_that_the_machine_cannot_give_is_refused_in_one_line");
    let topology = Topology::create()?;
    let same = |text: &str| text.to_owned();

    let mut config = config_of_a()?;
    config.devices[0].0 = "eth7".to_owned();
    assert_names(&refusal_of(&topology, config, same)?, &["eth7", "device", "ip link"]);

    let mut config = config_of_a()?;
    config.workers = "61".to_owned();
    assert_names(&refusal_of(&topology, config, same)?, &["cores.workers", "61"]);

    let mut config = config_of_a()?;
    config.main_core = 62;
    assert_names(&refusal_of(&topology, config, same)?, &["cores.main", "62"]);

    let with_queues =
        |text: &str| text.replacen("role = \"outer\"", "role = \"outer\"\nqueues = \"0,5\"", 1);
    let said = refusal_of(&topology, config_of_a()?, with_queues)?;
    assert_names(&said, &["eth0", "queue", "5"]);

    let broken = |text: &str| text.replacen("[cores]", "[cores]\nwurkers = 1", 1);
    let said = refusal_of(&topology, config_of_a()?, broken)?;
    assert_names(&said, &["xswan.toml:7:1", "wurkers"]);

    let torn = |text: &str| text.replacen("main = 0", "main = ", 1);
    let said = refusal_of(&topology, config_of_a()?, torn)?;
    assert_names(&said, &["xswan.toml:7:"]);
    Ok(())
}

#[test]
fn xsk_09_an_mtu_past_the_longest_packet_is_refused_with_the_line_that_mends_it() -> Outcome<()> {
    require_privileges!("xsk_09_an_mtu_past_the_longest_packet_is_refused_with_the_line");
    let topology = Topology::create()?;
    let [space, _] = &topology.gateways;
    space.ip("link set dev eth1 mtu 12000")?;
    let said = refusal_of(&topology, config_of_a()?, str::to_owned)?;
    let line = "link set dev eth1 mtu 10218";
    assert_names(&said, &["eth1", "12000", line]);
    // What the line proposes helps, though it is more than a frame holds.
    space.ip(line)?;
    Gateway::start(space, config_of_a()?)?;
    Ok(())
}

fn load_foreign_program(space: &Namespace, scratch: &Path) -> Outcome<()> {
    let (source, object) = (scratch.join("foreign.c"), scratch.join("foreign.o"));
    std::fs::write(&source, FOREIGN_PROGRAM)?;
    let mut compiler = Command::new("clang");
    compiler.args(["-O2", "-target", "bpf", "-c"]).arg(&source).arg("-o").arg(&object);
    netns::run(&mut compiler)?;
    space.ip(&format!("link set dev eth0 xdpdrv obj {} sec xdp", object.display()))?;
    Ok(())
}

fn program_id(space: &Namespace, device: &str) -> Outcome<Option<u64>> {
    let text = space.ip(&format!("-j -d link show dev {device}"))?;
    let answer: serde_json::Value = serde_json::from_str(&text)?;
    Ok(answer.pointer("/0/xdp/prog/id").and_then(serde_json::Value::as_u64))
}

#[test]
fn str_12_a_foreign_program_on_the_device_is_left_alone() -> Outcome<()> {
    require_privileges!("str_12_a_foreign_program_on_the_device_is_left_alone");
    let topology = Topology::create()?;
    let [space, _] = &topology.gateways;
    let scratch = ScratchDirectory::create("foreign")?;
    load_foreign_program(space, scratch.path())?;
    let theirs = program_id(space, "eth0")?;
    assert!(theirs.is_some(), "the foreign program is not attached");
    let mut gateway = Gateway::prepare(space, config_of_a()?)?;
    gateway.start_control()?;
    gateway.start_dataplane()?;
    let said = refusal(gateway.dataplane()?)?;
    assert_names(&said, &["eth0", "another XDP program", "ip link set dev eth0"]);
    assert_eq!(program_id(space, "eth0")?, theirs, "theirs is not what it was");
    assert_eq!(program_id(space, "eth1")?, None, "ours is left on the other device");
    // What the line proposes helps.
    space.ip("link set dev eth0 xdp off")?;
    gateway.start_dataplane()?;
    gateway.wait_healthy()
}

#[test]
fn without_rights_the_start_says_which_are_missing() -> Outcome<()> {
    require_privileges!("without_rights_the_start_says_which_are_missing");
    let topology = Topology::create()?;
    let [space, _] = &topology.gateways;
    let gateway = Gateway::prepare(space, config_of_a()?)?;
    let program = binary("xswan-dataplane")?;
    let mut bare = space.command("setpriv");
    bare.args(["--bounding-set=-all", "--inh-caps=-all", "--"]).arg(&program);
    bare.arg("--config").arg(gateway.file());
    let mut daemon = Daemon::spawn_command(bare, "bare", gateway.directory())?;
    assert_names(&refusal(&mut daemon)?, &["CAP_BPF", "CAP_NET_ADMIN"]);
    assert_nothing_left(space)?;

    let mut nobody = space.command("setpriv");
    nobody.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"]).arg(&program);
    nobody.arg("--config").arg(gateway.file());
    let mut daemon = Daemon::spawn_command(nobody, "nobody", gateway.directory())?;
    assert_names(&refusal(&mut daemon)?, &["xswan.toml", "ermission denied"]);
    assert_nothing_left(space)
}

#[test]
fn detach_takes_a_dead_instance_off_its_devices_and_refuses_a_living_one() -> Outcome<()> {
    require_privileges!("detach_takes_a_dead_instance_off_its_devices_and_refuses_a_living_one");
    let topology = Topology::create()?;
    let [space, _] = &topology.gateways;
    let mut gateway = Gateway::start(space, config_of_a()?)?;
    let file = gateway.file().display().to_string();
    let detach = || {
        let mut command = space.command(binary("xswan-dataplane")?);
        netns::run(command.args(["--config", &file, "--detach"]))
    };
    let living = detach().err().map(|failure| failure.to_string()).unwrap_or_default();
    assert_names(&living, &["is running", "stop it first"]);
    assert!(program_id(space, "eth0")?.is_some(), "a living instance was detached");

    gateway.dataplane()?.kill()?;
    for device in ["eth0", "eth1"] {
        assert!(program_id(space, device)?.is_some(), "{device}: not kept closed");
    }
    let ping = || topology.clients[0].run(&format!("ping -c1 -W1 {}", CLIENT_V4[1]));
    assert!(ping().is_err(), "in clear without a dataplane");
    detach()?;
    // A second time there is nothing to do, which is no error.
    detach()?;
    wait_for("the kernel to let go", SETTLE_LIMIT, || {
        Ok(program_id(space, "eth0")?.is_none() && program_id(space, "eth1")?.is_none())
    })?;
    // The operator has opened the gate himself: the kernel forwards as if we had never been.
    ping()?;
    gateway.start_dataplane()?;
    gateway.wait_healthy()?;
    assert!(program_id(space, "eth0")?.is_some());
    Ok(())
}

#[test]
fn a_device_taken_out_of_the_file_is_let_go_by_the_next_start() -> Outcome<()> {
    require_privileges!("a_device_taken_out_of_the_file_is_let_go_by_the_next_start");
    let topology = Topology::create()?;
    let [space, _] = &topology.gateways;
    let mut gateway = Gateway::start(space, config_of_a()?)?;
    gateway.dataplane()?.kill()?;
    gateway.config.devices.retain(|(name, _)| name != "eth1");
    gateway.write_config()?;
    gateway.start_dataplane()?;
    wait_for("the kernel to let go", SETTLE_LIMIT, || Ok(program_id(space, "eth1")?.is_none()))?;
    assert!(program_id(space, "eth0")?.is_some());
    Ok(())
}

#[test]
fn terminated_it_stays_closed_and_shut_down_it_is_open() -> Outcome<()> {
    require_privileges!("terminated_it_stays_closed_and_shut_down_it_is_open");
    let topology = Topology::create()?;
    let [space, _] = &topology.gateways;
    let mut gateway = Gateway::start(space, config_of_a()?)?;
    assert!(gateway.dataplane()?.terminate(END_LIMIT)?.success());
    assert!(program_id(space, "eth0")?.is_some(), "a terminated gateway is open");
    gateway.start_dataplane()?;
    gateway.wait_healthy()?;
    gateway.show(&["shutdown", "dataplane"])?;
    assert!(gateway.dataplane()?.wait(END_LIMIT)?.success());
    wait_for("the kernel to let go", SETTLE_LIMIT, || Ok(program_id(space, "eth0")?.is_none()))?;
    let help = gateway.show(&["shutdown", "--help"])?;
    assert_names(&help, &["steering program", "SIGTERM"]);
    Ok(())
}
