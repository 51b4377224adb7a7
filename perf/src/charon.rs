//! strongSwan's charon as a responder, set up for speed as its authors advise for many peers:
//! no log, a large hash table of IKE SAs, no limits on half-open ones, no routes.
//!
//! The kernel here has no ESP. So the kernel's interface (`kernel-netlink`, what a gateway
//! runs) is loaded with a small library before it that turns the kernel's refusals into
//! success: charon does all its own work and the system calls, and the kernel's work for its
//! SAs is left out. `kernel-libipsec` would make charon count the cipher's set-up of a second
//! packet path that nobody uses for speed.

use std::path::Path;
use std::process::Command;
use std::time::Duration;
use xswan_testkit::failure::Outcome;
use xswan_testkit::netns::{self, Namespace};
use xswan_testkit::process::{Daemon, ScratchDirectory, wait_for};

const PROGRAM: &str = "/usr/sbin/charon-systemd";
const START_LIMIT: Duration = Duration::from_secs(30);

/// A running charon.
pub struct Charon {
    daemon: Daemon,
    _directory: ScratchDirectory,
}

/// Its release, for the record.
pub fn version() -> String {
    let said = Command::new(PROGRAM).arg("--version").output();
    let text = said.map(|said| String::from_utf8_lossy(&said.stdout).into_owned());
    text.unwrap_or_default().split_whitespace().last().unwrap_or("unknown").to_owned()
}

impl Charon {
    /// Starts it in a namespace and loads the connection.
    pub fn start(namespace: &Namespace, own_address: &str, secret: &str) -> Outcome<Self> {
        let directory = ScratchDirectory::create("charon")?;
        let path = directory.path();
        let shim = path.join("fakekernel.so");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../xtask/lab/tools/fakekernel.c");
        let mut compiler = Command::new("cc");
        netns::run(compiler.args(["-O2", "-shared", "-fPIC", "-o"]).arg(&shim).arg(source))?;
        let socket = path.join("vici");
        let configuration = path.join("strongswan.conf");
        std::fs::write(&configuration, strongswan_conf(&socket))?;
        std::fs::write(path.join("swanctl.conf"), swanctl_conf(own_address, secret))?;
        let mut command = namespace.command(PROGRAM);
        command.env("STRONGSWAN_CONF", &configuration).env("LD_PRELOAD", &shim);
        let daemon = Daemon::spawn_command(command, "charon", path)?;
        wait_for("charon's socket", START_LIMIT, || Ok(socket.exists()))?;
        let file = path.join("swanctl.conf");
        let mut load = Command::new("swanctl");
        load.args(["--load-all", "--file"]).arg(file);
        load.env("STRONGSWAN_CONF", &configuration).env("SWANCTL_DIR", path);
        netns::run(&mut load)?;
        Ok(Self { daemon, _directory: directory })
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.daemon.pid()
    }
}

fn strongswan_conf(socket: &Path) -> String {
    let socket = socket.display();
    format!(
        "charon-systemd {{\n\
         load = random nonce openssl aesni hmac sha1 sha2 kdf drbg curve25519 vici kernel-netlink socket-default\n\
         ikesa_table_size = 4096\n\
         ikesa_table_segments = 4\n\
         dos_protection = no\n\
         cookie_threshold = 0\n\
         block_threshold = 0\n\
         init_limit_half_open = 0\n\
         install_routes = no\n\
         install_virtual_ip = no\n\
         journal {{\n default = -1\n }}\n\
         syslog {{\n daemon {{\n default = -1\n }}\n auth {{\n default = -1\n }}\n }}\n\
         plugins {{\n vici {{\n socket = unix://{socket}\n }}\n }}\n\
         }}\n\
         swanctl {{\n socket = unix://{socket}\n }}\n"
    )
}

fn swanctl_conf(own_address: &str, secret: &str) -> String {
    format!(
        "connections {{\n clients {{\n version = 2\n local_addrs = {own_address}\n\
         remote_addrs = %any\n proposals = aes128gcm16-prfsha256-x25519\n unique = never\n\
         mobike = no\n local {{\n auth = psk\n id = gwb.test\n }}\n\
         remote {{\n auth = psk\n id = %any\n }}\n\
         children {{\n net {{\n local_ts = 10.2.0.0/16\n remote_ts = 10.1.0.0/16\n\
         esp_proposals = aes128gcm16-x25519-esn-noesn\n }}\n }}\n }}\n }}\n\
         secrets {{\n ike {{\n secret = \"{secret}\"\n }}\n }}\n"
    )
}
