//! Making a Debian or Ubuntu machine ready: packages and bpffs, nothing else.
//!
//! Without root, or elsewhere, it says exactly what is missing and which command mends it.

use crate::shell;
use std::process::Command;

/// Needed to build: the AF_XDP binding compiles libxdp and libbpf.
const BUILD: &[&str] = &[
    "build-essential",
    "clang",
    "libclang-dev",
    "llvm",
    "m4",
    "pkg-config",
    "libelf-dev",
    "zlib1g-dev",
];
/// Needed to run the tests and the demonstration.
const RUN: &[&str] = &[
    "iproute2",
    "iputils-ping",
    "procps",
    "util-linux",
    "mount",
    "ethtool",
    "iperf3",
    "tcpdump",
    "tshark",
    "python3-scapy",
    "python3-cryptography",
    "nftables",
];
/// Needed for the interop lab: strongSwan as the peer, and what the lab is made with.
const INTEROP: &[&str] = &[
    "strongswan-swanctl",
    "charon-systemd",
    "strongswan-libcharon",
    "libcharon-extra-plugins",
    "libcharon-extauth-plugins",
    "libstrongswan-standard-plugins",
    "libstrongswan-extra-plugins",
    "openssl",
    "debootstrap",
];
/// Asked by package scripts whether a daemon may be started.
const POLICY: &str = "/usr/sbin/policy-rc.d";
/// Needed only to rebuild the steering object; not every release has them.
const REBUILD: &[&str] = &["rustc-web", "libstd-rust-web-dev-bpf"];
/// Tools looked for where there is no dpkg.
const TOOLS: &[&str] = &[
    "cc",
    "make",
    "clang",
    "llvm-strip",
    "m4",
    "pkg-config",
    "ip",
    "ping",
    "nsenter",
    "ethtool",
    "iperf3",
    "tcpdump",
    "tshark",
    "nft",
    "openssl",
    "swanctl",
];
const BPFFS: &str = "/sys/fs/bpf";

/// Installs what is missing and mounts bpffs.
///
/// # Errors
/// Something is missing and cannot be installed here.
pub fn run() -> Result<(), String> {
    shell::step("looking at the machine");
    packages()?;
    mount_bpffs()
}

fn packages() -> Result<(), String> {
    if !shell::succeeds(Command::new("dpkg-query").arg("--version")) {
        return tools();
    }
    let required: Vec<&str> =
        BUILD.iter().chain(RUN).chain(INTEROP).copied().filter(|name| !installed(name)).collect();
    let optional: Vec<&str> = REBUILD.iter().copied().filter(|name| !installed(name)).collect();
    if required.is_empty() && optional.is_empty() {
        return Ok(());
    }
    if !shell::is_root() {
        let list = [required.as_slice(), optional.as_slice()].concat().join(" ");
        let command = format!("sudo apt-get install --no-install-recommends {list}");
        if required.is_empty() {
            shell::say(&format!("notice: to rebuild the steering object: {command}"));
            return Ok(());
        }
        return Err(format!("packages are missing; as root, or with sudo, run\n    {command}"));
    }
    shell::step("apt-get update");
    shell::run(apt().args(["-qq", "update"]))?;
    install(&required)?;
    let (known, unknown): (Vec<&str>, Vec<&str>) =
        optional.into_iter().partition(|name| in_archive(name));
    if !unknown.is_empty() {
        let list = unknown.join(" ");
        shell::say(&format!(
            "notice: not in this release, so the steering object cannot be rebuilt here: {list}"
        ));
    }
    install(&known)
}

fn install(names: &[&str]) -> Result<(), String> {
    if names.is_empty() {
        return Ok(());
    }
    shell::step(&format!("apt-get install {}", names.join(" ")));
    let _denied = NoDaemons::begin()?;
    let mut command = apt();
    command.args(["-qq", "install", "--yes", "--no-install-recommends"]).args(names);
    shell::run(&mut command)
        .map_err(|error| format!("{error}; check the network and the package sources, then repeat"))
}

/// While it lives, no package starts a daemon: the lab runs its own, in namespaces of its own.
struct NoDaemons {
    /// Whether there was no policy before; one that was there is left as it is.
    ours: bool,
}

impl NoDaemons {
    fn begin() -> Result<Self, String> {
        use std::io::Write;
        use std::os::unix::fs::OpenOptionsExt;
        let mut options = std::fs::File::options();
        match options.write(true).create_new(true).mode(0o755).open(POLICY) {
            Ok(mut file) => {
                file.write_all(b"#!/bin/sh\nexit 101\n")
                    .map_err(|error| format!("{POLICY}: {error}"))?;
                Ok(Self { ours: true })
            }
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                Ok(Self { ours: false })
            }
            Err(error) => Err(format!("{POLICY}: {error}")),
        }
    }
}

impl Drop for NoDaemons {
    fn drop(&mut self) {
        if self.ours {
            let _ = std::fs::remove_file(POLICY);
        }
    }
}

fn apt() -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive");
    command.args(["-o", "Dpkg::Use-Pty=0", "-o", "DPkg::Lock::Timeout=120"]);
    command
}

fn installed(name: &str) -> bool {
    let mut query = Command::new("dpkg-query");
    query.args(["--show", "--showformat=${db:Status-Status}", name]);
    query.output().is_ok_and(|output| output.stdout == b"installed")
}

fn in_archive(name: &str) -> bool {
    let mut query = Command::new("apt-cache");
    let output = query.args(["--names-only", "search", &format!("^{name}$")]).output();
    output.is_ok_and(|output| !output.stdout.is_empty())
}

fn tools() -> Result<(), String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let there = |tool: &str| {
        std::env::split_paths(&path)
            .chain(["/usr/sbin".into(), "/sbin".into()])
            .any(|folder| folder.join(tool).is_file())
    };
    let missing: Vec<&str> = TOOLS.iter().copied().filter(|tool| !there(tool)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(format!(
        "this is neither Debian nor Ubuntu, so nothing was installed; missing: {}\n\
         Debian calls the packages: {} {}",
        missing.join(" "),
        BUILD.join(" "),
        [RUN, INTEROP].concat().join(" ")
    ))
}

fn mount_bpffs() -> Result<(), String> {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    if mounts.lines().any(|line| line.split(' ').nth(1) == Some(BPFFS)) {
        return Ok(());
    }
    if !shell::is_root() {
        shell::say(&format!("notice: bpffs is not mounted; as root: mount -t bpf bpf {BPFFS}"));
        return Ok(());
    }
    shell::step("mounting bpffs");
    shell::run(Command::new("mount").args(["-t", "bpf", "bpf", BPFFS]))
}
