//! The operator's configuration: one TOML file for both daemons, typed and validated.
//!
//! Words are swanctl's where swanctl has one. Every key is known or refused; every error is
//! one line with file, line, column, key and what would be right ([`ConfigError`]). Reading
//! the file reads no key material: [`Config::load_keys`] does, and only `xswan-control` and
//! the checker call it.
//!
//! ```
//! let text = r#"
//! [cores]
//! workers = "1-3"
//! [[device]]
//! name = "eth0"
//! role = "both"
//! [connections.net]
//! local_addrs = "192.0.2.1"
//! remote_addrs = "192.0.2.2"
//! [connections.net.children.lan]
//! mode = "pass"
//! local_ts = "10.1.0.0/16"
//! remote_ts = "10.2.0.0/16[tcp/22]"
//! "#;
//! let config = xswan_config::Config::parse("xswan.toml", text, "/etc/xswan".as_ref()).unwrap();
//! assert_eq!(config.cores.workers, [1, 2, 3]);
//! let typo = text.replace("local_ts", "local_tz");
//! let error = xswan_config::Config::parse("xswan.toml", &typo, "/etc".as_ref()).unwrap_err();
//! assert!(error.to_string().starts_with(
//!     "xswan.toml:12:1: connections.net.children.lan.local_tz: unknown key; allowed: mode, "
//! ));
//! ```
#![forbid(unsafe_code)]

mod check;
mod connection;
mod cores;
mod error;
mod instance;
mod key;
mod reader;
mod traffic_selector;

pub use check::Keys;
pub use connection::{
    Child, ChildMode, Connection, CopyDf, CopyDscp, EspAlgorithm, EspProposal, Lifetime, StaticSa,
};
pub use cores::{allowed_cores, parse_list};
pub use error::{ConfigError, Place};
pub use instance::{
    AeadBackend, Cores, Dataplane, Device, DeviceMode, DeviceRole, Fragmentation, HugePages,
    Instance, Wait,
};
pub use key::{KeyOrigin, KeySource, Secret};
pub use traffic_selector::TrafficSelector;

use reader::{Section, Source};
use std::io::Read as _;
use std::path::Path;
use toml::de::DeTable;

/// Longest file read, in octets: room for some ten thousand tunnels.
const FILE_MAX: u64 = 16 << 20;

/// The configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Names and places.
    pub instance: Instance,
    /// Which thread runs where.
    pub cores: Cores,
    /// The packet daemon.
    pub dataplane: Dataplane,
    /// Network devices, in the order of the file.
    pub devices: Vec<Device>,
    /// Peers, in the order of the file.
    pub connections: Vec<Connection>,
    /// What is allowed but may not be meant.
    pub warnings: Vec<String>,
}

impl Config {
    /// Reads a file. Key files are named relative to its directory.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let file = path.display().to_string();
        let failed = |what: String| ConfigError {
            file: file.clone(),
            line: 0,
            column: 0,
            key: String::new(),
            what,
            allowed: String::new(),
        };
        let mut text = String::new();
        let opened = std::fs::File::open(path).map_err(|error| failed(error.to_string()))?;
        let read = opened.take(FILE_MAX + 1).read_to_string(&mut text);
        let octets = read.map_err(|error| failed(error.to_string()))?;
        if octets as u64 > FILE_MAX {
            return Err(failed(format!("is longer than {FILE_MAX} octets")));
        }
        // A bare file name has the empty directory for its parent.
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let directory = std::path::absolute(parent.unwrap_or(Path::new(".")))
            .map_err(|error| failed(error.to_string()))?;
        Self::parse(&file, &text, &directory)
    }

    /// Reads a text; `file` is its name in errors, key files are relative to `directory`.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn parse(file: &str, text: &str, directory: &Path) -> Result<Self, ConfigError> {
        let source = Source { file, text };
        let table = DeTable::parse(text).map_err(|error| {
            let span = error.span().unwrap_or(0..0);
            source.place(&span, "").error(error.message(), "TOML")
        })?;
        let root = Section::root(source, table.get_ref());
        let mut warnings = Vec::new();
        let instance = instance::read_instance(root.section("instance")?)?;
        let cores = instance::read_cores(root.section("cores")?, &mut warnings)?;
        let dataplane = instance::read_dataplane(root.section("dataplane")?)?;
        let devices = instance::read_devices(root.find("device"))?;
        let connections = root.section("connections")?;
        let connections = connection::read_connections(&connections, directory)?;
        root.finish()?;
        let config = Self { instance, cores, dataplane, devices, connections, warnings };
        config.check()?;
        Ok(config)
    }

    /// Directory of sockets and locks: `<run_dir>/<name>`.
    #[must_use]
    pub fn run_directory(&self) -> std::path::PathBuf {
        self.instance.run_dir.join(&self.instance.name)
    }

    /// Directory of pinned maps: `<bpf_dir>/<name>`.
    #[must_use]
    pub fn bpf_directory(&self) -> std::path::PathBuf {
        self.instance.bpf_dir.join(&self.instance.name)
    }

    /// All children with their connection, in the order in which their policies apply:
    /// lower `priority` first, then the order of the file.
    #[must_use]
    pub fn children_in_order(&self) -> Vec<(&Connection, &Child)> {
        let mut children: Vec<_> = self
            .connections
            .iter()
            .flat_map(|connection| connection.children.iter().map(move |child| (connection, child)))
            .collect();
        // Stable: the order of the file decides between equals.
        children.sort_by_key(|(_, child)| child.priority);
        children
    }
}
