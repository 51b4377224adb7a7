//! Keys stay where they belong, and so does the right to command the daemons.
//!
//! Needs root and the built daemons; run by `cargo xtask test --only secrets`.

use std::collections::BTreeSet;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use xswan_testkit::failure::Outcome;
use xswan_testkit::gateway::{Gateway, binary};
use xswan_testkit::process::{Daemon, wait_for};
use xswan_testkit::topology::{CLIENT_V4, Outer, Topology, tunnel};
use xswan_testkit::{netns, require_privileges};

const SETTLE_LIMIT: Duration = Duration::from_secs(20);
/// What is searched for is a quarter of a key at least: a part of it is a leak as well.
const PART_BYTES: usize = 8;
const NOBODY: &str = "65534";

fn octets(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> =
        hex.chars().filter_map(|digit| digit.to_digit(16)).map(|digit| digit as u8).collect();
    digits.chunks(2).map(|pair| pair.iter().fold(0, |octet, digit| octet << 4 | digit)).collect()
}

fn base64(octets: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in octets.chunks_exact(3) {
        let bits = group.iter().fold(0_usize, |bits, octet| bits << 8 | usize::from(*octet));
        text.extend([18, 12, 6, 0].map(|shift| char::from(ALPHABET[bits >> shift & 63])));
    }
    text
}

/// Every form in which a key could show: raw, hexadecimal, base64, as Rust prints bytes.
fn forms(hex: &str) -> Vec<Vec<u8>> {
    let key = octets(hex);
    let mut forms = Vec::new();
    // Base64 depends on where it starts: three ways to begin.
    for skip in 0..3 {
        forms.push(base64(&key[skip..][..PART_BYTES + 1]).into_bytes());
    }
    for part in key.chunks_exact(PART_BYTES) {
        let lower: String = part.iter().map(|octet| format!("{octet:02x}")).collect();
        let debug = format!("{part:?}");
        forms.push(part.to_vec());
        forms.push(lower.to_uppercase().into_bytes());
        forms.push(lower.into_bytes());
        forms.push(format!("{part:02x?}").trim_matches(['[', ']']).as_bytes().to_vec());
        forms.push(debug.trim_matches(['[', ']']).as_bytes().to_vec());
    }
    forms
}

fn finds(place: &str, text: &[u8], forms: &[Vec<u8>]) {
    for form in forms {
        let found = text.windows(form.len()).any(|window| window == form);
        assert!(!found, "key material in {place}");
    }
}

/// A daemon that says everything it can say.
fn talkative(gateway: &Gateway<'_>, name: &str) -> Outcome<Daemon> {
    let mut command = gateway.namespace().command("env");
    command.arg("RUST_LOG=trace").arg(binary(name)?).arg("--config").arg(gateway.file());
    Daemon::spawn_command(command, name, gateway.directory())
}

fn files_below(directory: &Path, files: &mut Vec<PathBuf>) -> Outcome<()> {
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() { files_below(&path, files)? } else { files.push(path) }
    }
    Ok(())
}

#[test]
fn prv_05_keys_are_in_no_log_answer_command_line_or_environment() -> Outcome<()> {
    require_privileges!("prv_05_keys_are_in_no_log_answer_command_line_or_environment");
    let topology = Topology::create()?;
    let [config_a, config_b] = tunnel(Outer::V4, false, "aes256gcm16-esn")?;
    let keys: Vec<_> = config_a.connections.iter().filter_map(|end| end.sa.as_ref()).collect();
    let forms: Vec<Vec<u8>> = keys
        .iter()
        .flat_map(|sa| [&sa.key_in, &sa.key_out])
        .flat_map(|key| forms(key.hex()))
        .collect();
    assert!(forms.len() >= 40, "{} forms", forms.len());
    let [space_a, space_b] = &topology.gateways;
    let mut gateway = Gateway::prepare(space_a, config_a)?;
    let _peer = Gateway::start(space_b, config_b)?;
    let daemons = [talkative(&gateway, "xswan-control")?, talkative(&gateway, "xswan-dataplane")?];
    gateway.wait_healthy()?;
    wait_for("an answer", SETTLE_LIMIT, || {
        topology.clients[0].run(&format!("ping -c1 -W1 {}", CLIENT_V4[1])).map(|_| true)
    })?;
    for command in ["status", "list-sas", "list-policies", "runtime", "drops", "reload"] {
        finds(command, gateway.show(&[command])?.as_bytes(), &forms);
        finds(command, gateway.query(&[command])?.to_string().as_bytes(), &forms);
    }
    let file = gateway.file().display().to_string();
    finds("check-config", gateway.show(&["check-config", &file])?.as_bytes(), &forms);
    // A key that is wrong is not repeated in the complaint.
    let key_file = gateway.directory().join("keys/net-in.hex");
    let key = std::fs::read_to_string(&key_file)?;
    std::fs::write(&key_file, format!("{key}zz"))?;
    let complaint = gateway.query(&["reload"]).err().map(|failure| failure.to_string());
    let complaint = complaint.ok_or("a key with two letters too many was taken")?;
    finds("a complaint about a key", complaint.as_bytes(), &forms);
    std::fs::write(&key_file, key)?;
    for pid in daemons.each_ref().map(Daemon::pid) {
        for name in ["cmdline", "environ", "comm", "maps", "status"] {
            let place = format!("/proc/{pid}/{name}");
            finds(&place, &std::fs::read(&place)?, &forms);
        }
    }
    let mut files = Vec::new();
    files_below(gateway.directory(), &mut files)?;
    let logs = files.iter().filter(|path| path.extension().is_some_and(|end| end == "log"));
    assert_eq!(logs.count(), 2);
    let mut searched = 0;
    for path in
        files.iter().filter(|path| path.is_file() && path.extension() != Some("hex".as_ref()))
    {
        finds(&path.display().to_string(), &std::fs::read(path)?, &forms);
        searched += 1;
    }
    assert!(searched >= 3, "{files:?}");
    // The search finds what is there.
    let hex = std::fs::read(&key_file)?;
    assert!(forms.iter().any(|form| hex.windows(form.len()).any(|window| window == form)));
    Ok(())
}

#[test]
fn prv_06_no_core_dump_and_no_look_into_memory() -> Outcome<()> {
    require_privileges!("prv_06_no_core_dump_and_no_look_into_memory");
    let topology = Topology::create()?;
    let [config, _] = tunnel(Outer::V4, false, "aes128gcm16-esn")?;
    let mut gateway = Gateway::start(&topology.gateways[0], config)?;
    for pid in [gateway.dataplane()?.pid(), gateway.control()?.pid()] {
        let limits = std::fs::read_to_string(format!("/proc/{pid}/limits"))?;
        let core = limits.lines().find(|line| line.starts_with("Max core file size"));
        let words: Vec<&str> = core.unwrap_or_default().split_whitespace().collect();
        assert_eq!(words.get(4..6), Some(&["0", "0"][..]), "{core:?}");
        // A process that must not be dumped belongs to root in /proc, whoever it runs as, and
        // nobody without CAP_SYS_PTRACE may look: the kernel refuses even its own user.
        let memory = format!("/proc/{pid}/mem");
        assert_eq!(std::fs::metadata(&memory)?.uid(), 0);
        let mut look = topology.gateways[0].command("setpriv");
        look.args(["--bounding-set=-all", "--inh-caps=-all", "--", "head", "-c1"]);
        let refused = netns::run(look.arg(format!("/proc/{pid}/environ")));
        let refused = refused.err().map(|failure| failure.to_string()).unwrap_or_default();
        assert!(
            refused.contains("ermission denied"),
            "process {pid} can be looked into: {refused}"
        );
    }
    // Ended as by a fault, nothing is left: neither in the directory nor where it ran.
    let before: BTreeSet<_> = cores(gateway.directory())?;
    for is_dataplane in [true, false] {
        let daemon = if is_dataplane { gateway.dataplane()? } else { gateway.control()? };
        daemon.signal(libc::SIGABRT)?;
        let status = daemon.wait(SETTLE_LIMIT)?;
        assert_eq!(status.signal(), Some(libc::SIGABRT));
        assert!(!status.core_dumped(), "a core was dumped");
    }
    assert_eq!(cores(gateway.directory())?, before);
    Ok(())
}

/// Files whose name begins as that of a core dump, where one would be.
fn cores(directory: &Path) -> Outcome<BTreeSet<PathBuf>> {
    let mut found = BTreeSet::new();
    for place in [directory, Path::new(".")] {
        for entry in std::fs::read_dir(place)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name.starts_with("core") && path.is_file() {
                found.insert(path);
            }
        }
    }
    Ok(found)
}

#[test]
fn prv_09_another_user_commands_nothing() -> Outcome<()> {
    require_privileges!("prv_09_another_user_commands_nothing");
    let topology = Topology::create()?;
    let [config, _] = tunnel(Outer::V4, false, "aes128gcm16-esn")?;
    let mut gateway = Gateway::start(&topology.gateways[0], config)?;
    let instance = gateway.config.instance.clone();
    let run_dir = gateway.directory().to_owned();
    let ask = |command: &str| {
        let mut program = topology.gateways[0].command("setpriv");
        program.args([&format!("--reuid={NOBODY}"), &format!("--regid={NOBODY}")]);
        program.args(["--clear-groups", "--"]).arg(binary("xswan")?);
        program.args(["--run-dir", &run_dir.display().to_string(), "--instance", &instance]);
        netns::run(program.arg(command))
    };
    let sockets: Vec<PathBuf> = {
        let mut files = Vec::new();
        files_below(&run_dir, &mut files)?;
        files.into_iter().filter(|path| path.extension().is_some_and(|end| end == "sock")).collect()
    };
    assert_eq!(sockets.len(), 2, "{sockets:?}");
    for socket in &sockets {
        assert_eq!(std::fs::metadata(socket)?.mode() & 0o777, 0o600);
    }
    let refusals = |expected: &str| -> Outcome<()> {
        for command in ["list-sas", "drops", "reload", "shutdown"] {
            let said = ask(command).err().map(|failure| failure.to_string()).unwrap_or_default();
            assert!(said.contains(expected), "{command}: {said:?}");
        }
        Ok(())
    };
    refusals("ermission denied")?;
    // Even if an operator opens the way: the daemons ask the kernel who is calling.
    let mut opened: BTreeSet<PathBuf> = sockets.iter().cloned().collect();
    let above = sockets.iter().flat_map(|socket| socket.ancestors().skip(1));
    opened.extend(above.filter(|path| path.starts_with(&run_dir)).map(Path::to_owned));
    for path in &opened {
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o777))?;
    }
    for command in ["list-sas", "drops", "reload", "shutdown"] {
        assert!(ask(command).is_err(), "{command} was obeyed");
    }
    assert!(gateway.dataplane()?.is_running()? && gateway.control()?.is_running()?);
    // And root is still heard.
    gateway.query(&["reload"])?;
    gateway.wait_healthy()
}
