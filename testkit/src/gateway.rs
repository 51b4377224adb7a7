//! One xswan gateway as a test sees it: a configuration, key files, two daemons, one command.
//!
//! [`GatewayConfig`] writes the TOML file the daemons read; [`Gateway`] starts them inside a
//! namespace, asks them over `xswan --json`, kills and restarts them. What they leave on
//! bpffs and in the run directory is removed on drop.

use crate::failure::{Failure, Outcome};
use crate::netns::{self, Namespace};
use crate::process::{Daemon, ScratchDirectory, wait_for};
use serde_json::Value;
use std::fmt::Write as _;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where bpffs is mounted.
const BPFFS: &str = "/sys/fs/bpf";
/// How long a daemon may take to be healthy on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(60);
/// How long a daemon may take to end when asked to.
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// One inbound and one outbound SA with keys from files.
#[derive(Clone, Debug)]
pub struct StaticSa {
    /// SPI of what arrives here.
    pub spi_in: u32,
    /// SPI of what leaves from here.
    pub spi_out: u32,
    /// Key and salt of what arrives, hexadecimal.
    pub key_in: Key,
    /// Key and salt of what leaves, hexadecimal.
    pub key_out: Key,
}

/// Key material of one SA, key then salt; not printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Key(String);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(..)")
    }
}

impl Key {
    /// Draws `length` random octets from the kernel.
    ///
    /// # Errors
    /// No random numbers to be had.
    pub fn random(length: usize) -> Outcome<Self> {
        use std::io::Read;
        let mut octets = vec![0; length];
        std::fs::File::open("/dev/urandom")?.read_exact(&mut octets)?;
        let mut hex = String::with_capacity(2 * length);
        for octet in octets {
            let _ = write!(hex, "{octet:02x}");
        }
        Ok(Self(hex))
    }

    /// The octets as hexadecimal digits, for a key file or an independent peer.
    #[must_use]
    pub fn hex(&self) -> &str {
        &self.0
    }
}

/// Octets of key and salt that an `esp_proposals` word asks for.
///
/// # Errors
/// A word that is not one of ours.
pub fn key_length(proposal: &str) -> Outcome<usize> {
    let cipher = proposal.strip_suffix("-noesn").or_else(|| proposal.strip_suffix("-esn"));
    match cipher.unwrap_or(proposal) {
        "aes128gcm16" => Ok(20),
        "aes192gcm16" => Ok(28),
        "aes256gcm16" | "chacha20poly1305" => Ok(36),
        "aes256-sha256" => Ok(32 + 32),
        "aes192-sha384" => Ok(24 + 48),
        "aes128-sha512" => Ok(16 + 64),
        other => Err(Failure::new(format!("no such proposal: {other}"))),
    }
}

/// One connection with one child, both of the same name.
#[derive(Clone, Debug)]
pub struct Connection {
    /// Name of the connection, of its child and of its key files.
    pub name: String,
    /// Tunnel address here.
    pub local_address: String,
    /// Tunnel address there.
    pub remote_address: String,
    /// Whether ESP is put into UDP.
    pub encap: bool,
    /// `mode` of the child.
    pub mode: String,
    /// `local_ts`.
    pub local_ts: Vec<String>,
    /// `remote_ts`.
    pub remote_ts: Vec<String>,
    /// The proposal, for example `aes256gcm16-esn`.
    pub proposal: String,
    /// The keys; without them nothing is installed.
    pub sa: Option<StaticSa>,
    /// Further lines of the child's table, for example `replay_window = 64`.
    pub child_lines: Vec<String>,
}

impl Connection {
    /// A tunnel between two addresses: AES-128-GCM with ESN, no selectors and no keys yet.
    #[must_use]
    pub fn new(name: &str, local_address: &str, remote_address: &str) -> Self {
        Self {
            name: name.to_owned(),
            local_address: local_address.to_owned(),
            remote_address: remote_address.to_owned(),
            encap: false,
            mode: "tunnel".to_owned(),
            local_ts: Vec::new(),
            remote_ts: Vec::new(),
            proposal: "aes128gcm16-esn".to_owned(),
            sa: None,
            child_lines: Vec::new(),
        }
    }

    fn write_toml(&self, text: &mut String) -> std::fmt::Result {
        let name = &self.name;
        writeln!(text, "\n[connections.{name}]\nlocal_addrs = {:?}", self.local_address)?;
        writeln!(text, "remote_addrs = {:?}\nencap = {}", self.remote_address, self.encap)?;
        writeln!(text, "\n[connections.{name}.children.{name}]\nmode = {:?}", self.mode)?;
        writeln!(text, "local_ts = {:?}\nremote_ts = {:?}", self.local_ts, self.remote_ts)?;
        writeln!(text, "esp_proposals = [{:?}]", self.proposal)?;
        for line in &self.child_lines {
            writeln!(text, "{line}")?;
        }
        let Some(sa) = &self.sa else { return Ok(()) };
        writeln!(text, "\n[connections.{name}.children.{name}.static]")?;
        writeln!(text, "spi_in = {:#010x}\nspi_out = {:#010x}", sa.spi_in, sa.spi_out)?;
        writeln!(text, "key_in_file = \"keys/{name}-in.hex\"")?;
        writeln!(text, "key_out_file = \"keys/{name}-out.hex\"")
    }
}

/// The configuration of a gateway.
#[derive(Clone, Debug)]
pub struct GatewayConfig {
    /// `instance.name`; also names the run directory and the pins.
    pub instance: String,
    /// `cores.main`.
    pub main_core: usize,
    /// `cores.workers`, a core list.
    pub workers: String,
    /// `dataplane.wait`: `busy` or `sleep`.
    pub wait: String,
    /// Further lines of the `[dataplane]` table.
    pub dataplane_lines: Vec<String>,
    /// Devices and their roles.
    pub devices: Vec<(String, String)>,
    /// `device.mode` of all of them.
    pub mode: String,
    /// The tunnels, in the order of their policies.
    pub connections: Vec<Connection>,
    /// Anything else, appended as it is.
    pub appendix: String,
    /// What the daemons find in their environment beside what is there.
    pub environment: Vec<(String, String)>,
}

impl GatewayConfig {
    /// A gateway called `instance`: `eth0` is outside, `eth1` inside, at most two workers
    /// that sleep when idle, no connections yet.
    #[must_use]
    pub fn new(instance: &str) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            instance: instance.to_owned(),
            main_core: 0,
            workers: if cores == 1 { "0".to_owned() } else { format!("0-{}", cores.min(2) - 1) },
            wait: "sleep".to_owned(),
            dataplane_lines: Vec::new(),
            devices: vec![("eth0".into(), "outer".into()), ("eth1".into(), "inner".into())],
            mode: "auto".to_owned(),
            connections: Vec::new(),
            appendix: String::new(),
            environment: Vec::new(),
        }
    }

    /// The text of the file; `directory` holds the sockets, pins go below bpffs.
    #[must_use]
    pub fn to_toml(&self, directory: &Path) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = self.write_toml(&mut text, directory);
        text
    }

    fn write_toml(&self, text: &mut String, directory: &Path) -> std::fmt::Result {
        writeln!(text, "[instance]\nname = {:?}", self.instance)?;
        writeln!(text, "run_dir = {:?}", directory.display().to_string())?;
        writeln!(text, "bpf_dir = {:?}", bpf_directory())?;
        writeln!(text, "\n[cores]\nmain = {}\nworkers = {:?}", self.main_core, self.workers)?;
        writeln!(text, "\n[dataplane]\nwait = {:?}\nhuge_pages = \"off\"", self.wait)?;
        for line in &self.dataplane_lines {
            writeln!(text, "{line}")?;
        }
        for (name, role) in &self.devices {
            writeln!(text, "\n[[device]]\nname = {name:?}\nrole = {role:?}")?;
            writeln!(text, "mode = {:?}", self.mode)?;
        }
        for connection in &self.connections {
            connection.write_toml(text)?;
        }
        writeln!(text, "{}", self.appendix)
    }

    /// Writes the file and the keys (mode 0600) into `directory`; returns the file's path.
    ///
    /// # Errors
    /// What the file system said.
    pub fn write(&self, directory: &Path) -> Outcome<PathBuf> {
        let keys = directory.join("keys");
        std::fs::create_dir_all(&keys)?;
        for Connection { name, sa, .. } in &self.connections {
            let Some(sa) = sa else { continue };
            write_private(&keys.join(format!("{name}-in.hex")), sa.key_in.hex())?;
            write_private(&keys.join(format!("{name}-out.hex")), sa.key_out.hex())?;
        }
        let path = directory.join("xswan.toml");
        write_private(&path, &self.to_toml(directory))?;
        Ok(path)
    }
}

fn write_private(path: &Path, text: &str) -> Outcome<()> {
    use std::io::Write;
    let mut options = std::fs::File::options();
    options.create(true).write(true).truncate(true).mode(0o600);
    options.open(path)?.write_all(text.as_bytes())?;
    Ok(())
}

/// Where the pins of this process's gateways go.
#[must_use]
pub fn bpf_directory() -> String {
    format!("{BPFFS}/xswan-test-{}", std::process::id())
}

/// Mounts bpffs if nobody has.
///
/// # Errors
/// It cannot be mounted.
pub fn mount_bpffs() -> Outcome<()> {
    let mounts = std::fs::read_to_string("/proc/self/mounts")?;
    if mounts.lines().any(|line| line.split(' ').nth(1) == Some(BPFFS)) {
        return Ok(());
    }
    match netns::run(std::process::Command::new("mount").args(["-t", "bpf", "bpf", BPFFS])) {
        Ok(_) => Ok(()),
        // Two tests may have tried at once.
        Err(failure) => {
            let mounts = std::fs::read_to_string("/proc/self/mounts")?;
            let mounted = mounts.lines().any(|line| line.split(' ').nth(1) == Some(BPFFS));
            if mounted { Ok(()) } else { Err(failure) }
        }
    }
}

/// The built program called `name`, from `XSWAN_BIN_DIR` or beside this test's target folder.
///
/// # Errors
/// It has not been built; the text says how to.
pub fn binary(name: &str) -> Outcome<PathBuf> {
    let mut folders: Vec<PathBuf> = Vec::new();
    if let Some(folder) = std::env::var_os("XSWAN_BIN_DIR") {
        folders.push(folder.into());
    } else if let Ok(own) = std::env::current_exe() {
        // target/<profile>/deps/<test> or target/<profile>/<binary>
        for ancestor in own.ancestors().skip(1).take(3) {
            folders.push(ancestor.join("release"));
            folders.push(ancestor.to_path_buf());
        }
    }
    folders.iter().map(|folder| folder.join(name)).find(|path| path.is_file()).ok_or_else(|| {
        Failure::new(format!("{name} has not been built: run `cargo build --release` first"))
    })
}

/// A gateway in a namespace.
#[derive(Debug)]
pub struct Gateway<'a> {
    /// The configuration as last written; change it and call [`Gateway::write_config`].
    pub config: GatewayConfig,
    namespace: &'a Namespace,
    directory: ScratchDirectory,
    file: PathBuf,
    dataplane: Option<Daemon>,
    control: Option<Daemon>,
}

impl<'a> Gateway<'a> {
    /// Writes the configuration; starts nothing yet.
    ///
    /// # Errors
    /// No bpffs, or what the file system said.
    pub fn prepare(namespace: &'a Namespace, config: GatewayConfig) -> Outcome<Self> {
        mount_bpffs()?;
        let directory = ScratchDirectory::create(&config.instance)?;
        let file = config.write(directory.path())?;
        Ok(Self { config, namespace, directory, file, dataplane: None, control: None })
    }

    /// Prepares, starts both daemons and waits until they are healthy.
    ///
    /// # Errors
    /// Whatever kept it from being healthy, with the ends of both logs.
    pub fn start(namespace: &'a Namespace, config: GatewayConfig) -> Outcome<Self> {
        let mut gateway = Self::prepare(namespace, config)?;
        gateway.start_control()?;
        gateway.start_dataplane()?;
        gateway.wait_healthy()?;
        Ok(gateway)
    }

    /// The namespace it lives in.
    #[must_use]
    pub fn namespace(&self) -> &'a Namespace {
        self.namespace
    }

    /// The configuration file.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The directory of the configuration, the sockets and the logs.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Writes [`Gateway::config`] again, for a reload.
    ///
    /// # Errors
    /// What the file system said.
    pub fn write_config(&mut self) -> Outcome<()> {
        self.file = self.config.write(self.directory.path())?;
        Ok(())
    }

    /// Starts `xswan-dataplane`.
    ///
    /// # Errors
    /// Not built, or it cannot be started.
    pub fn start_dataplane(&mut self) -> Outcome<()> {
        self.dataplane = Some(self.spawn("xswan-dataplane")?);
        Ok(())
    }

    /// Starts `xswan-control`.
    ///
    /// # Errors
    /// Not built, or it cannot be started.
    pub fn start_control(&mut self) -> Outcome<()> {
        self.control = Some(self.spawn("xswan-control")?);
        Ok(())
    }

    fn spawn(&self, program: &str) -> Outcome<Daemon> {
        let file = self.file.display().to_string();
        let arguments = ["--config".to_owned(), file];
        let path = binary(program)?;
        let mut command = self.namespace.command(path);
        command.args(arguments).envs(self.config.environment.iter().cloned());
        Daemon::spawn_command(command, program, self.directory.path())
    }

    /// The packet daemon, if it has been started.
    pub fn dataplane(&mut self) -> Outcome<&mut Daemon> {
        self.dataplane.as_mut().ok_or_else(|| Failure::new("xswan-dataplane is not started"))
    }

    /// The key daemon, if it has been started.
    pub fn control(&mut self) -> Outcome<&mut Daemon> {
        self.control.as_mut().ok_or_else(|| Failure::new("xswan-control is not started"))
    }

    /// Waits until `xswan status` says that both daemons are well.
    ///
    /// # Errors
    /// One has ended or is still not well, with the ends of both logs.
    pub fn wait_healthy(&mut self) -> Outcome<()> {
        let mut dead = None;
        let waited = wait_for("a healthy status", START_LIMIT, || {
            for daemon in [&mut self.dataplane, &mut self.control].into_iter().flatten() {
                if !daemon.is_running()? {
                    dead = Some("a daemon ended at start");
                    return Ok(true);
                }
            }
            let file = self.file.display().to_string();
            let program = binary("xswan")?;
            netns::run(self.namespace.command(program).args(["--config", &file, "status"]))?;
            Ok(true)
        });
        match (waited, dead) {
            (Ok(()), None) => Ok(()),
            (Err(failure), _) => Err(self.with_logs(&failure.to_string())),
            (Ok(()), Some(what)) => Err(self.with_logs(what)),
        }
    }

    /// Asks both daemons to end, and insists after a while.
    ///
    /// # Errors
    /// The kernel refuses to end them.
    pub fn stop(&mut self) -> Outcome<()> {
        for daemon in [&mut self.control, &mut self.dataplane].into_iter().flatten() {
            if daemon.is_running()? && daemon.terminate(STOP_LIMIT).is_err() {
                daemon.kill()?;
            }
        }
        Ok(())
    }

    fn with_logs(&self, what: &str) -> Failure {
        let mut text = format!("{}: {what}", self.config.instance);
        for daemon in [&self.dataplane, &self.control].into_iter().flatten() {
            let _ = write!(text, "\n--- log ---\n{}", daemon.log_tail());
        }
        Failure::new(text)
    }

    /// What `xswan <arguments>` prints for people.
    ///
    /// # Errors
    /// It exits with an error; the text is what it said.
    pub fn show(&self, arguments: &[&str]) -> Outcome<String> {
        let file = self.file.display().to_string();
        let mut command = self.namespace.command(binary("xswan")?);
        netns::run(command.args(["--config", &file]).args(arguments))
    }

    /// What `xswan --json <arguments>` answers.
    ///
    /// # Errors
    /// It exits with an error, or the answer is not JSON.
    pub fn query(&self, arguments: &[&str]) -> Outcome<Value> {
        let file = self.file.display().to_string();
        let mut command = self.namespace.command(binary("xswan")?);
        let text = netns::run(command.args(["--config", &file, "--json"]).args(arguments))?;
        Ok(serde_json::from_str(&text)?)
    }

    /// The counter called `name` in `xswan drops`, workers' and steering's alike; 0 if absent.
    ///
    /// # Errors
    /// The daemon cannot be asked.
    pub fn drops(&self, name: &str) -> Outcome<u64> {
        let answer = self.query(&["drops"])?;
        let rows = ["reasons", "steer"].iter().filter_map(|list| answer[list].as_array()).flatten();
        Ok(rows
            .filter(|row| row["name"].as_str() == Some(name))
            .filter_map(|row| row["count"].as_u64())
            .sum())
    }
}

impl Drop for Gateway<'_> {
    fn drop(&mut self) {
        self.control = None;
        self.dataplane = None;
        let pins = Path::new(&bpf_directory()).join(&self.config.instance);
        // Pins outlive the daemons on purpose; here they would only fill the machine.
        let _ = std::fs::remove_dir_all(pins);
        let _ = std::fs::remove_dir(bpf_directory());
    }
}

#[cfg(test)]
mod tests {
    use super::{Connection, GatewayConfig, Key, StaticSa, key_length};
    use crate::failure::Outcome;
    use crate::process::ScratchDirectory;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn key_files_are_private_and_keys_do_not_print() -> Outcome<()> {
        let scratch = ScratchDirectory::create("gateway")?;
        let mut config = GatewayConfig::new("gwa");
        let mut connection = Connection::new("net", "192.0.2.1", "192.0.2.2");
        let key = Key::random(key_length(&connection.proposal)?)?;
        assert_eq!(key.hex().len(), 40);
        connection.sa = Some(StaticSa {
            spi_in: 0x1001,
            spi_out: 0x2001,
            key_in: key.clone(),
            key_out: Key::random(20)?,
        });
        config.connections.push(connection);
        let file = config.write(scratch.path())?;
        for path in [file.clone(), scratch.path().join("keys/net-in.hex")] {
            assert_eq!(std::fs::metadata(path)?.permissions().mode() & 0o777, 0o600);
        }
        let text = std::fs::read_to_string(file)?;
        assert!(text.contains("spi_in = 0x00001001") && !text.contains(key.hex()));
        assert!(!format!("{config:?}").contains(key.hex()));
        Ok(())
    }
}
