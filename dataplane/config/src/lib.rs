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

mod auth_round;
mod check;
mod child;
mod connection;
mod cores;
mod credential_files;
mod duration;
mod error;
mod ike;
mod ike_child;
mod ike_connection;
mod instance;
mod key;
mod pool;
mod proposal;
mod reader;
mod secret_entry;
mod static_sa;
mod traffic_selector;

pub use auth_round::{AuthRound, Revocation};
pub use check::Keys;
pub use child::{Child, ChildMode, CopyDf, CopyDscp, EspAlgorithm, EspProposal, Lifetime};
pub use connection::Connection;
pub use cores::{allowed_cores, parse_list};
pub use credential_files::{Authority, CredentialFiles};
pub use error::{ConfigError, Place};
pub use ike::Ike;
pub use ike_child::{Action, DpdAction, IkeChild};
pub use ike_connection::{
    Childless, IkeConnection, IkeFragmentation, PeerAddress, SendCert, Unique,
};
pub use instance::{
    AeadBackend, Cores, Dataplane, Device, DeviceMode, DeviceRole, Fragmentation, HugePages,
    Instance, Rings, Wait,
};
pub use key::{KeyOrigin, KeySource, Secret, read_private_file};
pub use pool::Pool;
pub use proposal::{Proposal, Transform};
pub use reader::Origin;
pub use secret_entry::{LoadedSecret, PrivateKeyFile, SecretEntry, SecretKind, SecretSource};
pub use static_sa::StaticSa;
pub use traffic_selector::{SelectorPattern, TrafficSelector};

use connection::Directories;
use reader::{Section, Source};
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use toml::de::DeTable;
use zeroize::Zeroizing;

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
    /// The key exchange daemon.
    pub ike: Ike,
    /// Peers, in the order of the file.
    pub connections: Vec<Connection>,
    /// Addresses for peers, in the order of the file.
    pub pools: Vec<Pool>,
    /// Secrets of this file, in its order; [`Config::load_secrets`] knows those elsewhere, too.
    pub secrets: Vec<SecretEntry>,
    /// The file with further secrets and where the configuration names it.
    pub secrets_file: Option<(PathBuf, Place)>,
    /// Private keys named by sections.
    pub private_keys: Vec<PrivateKeyFile>,
    /// Certification authorities named by sections.
    pub authorities: Vec<Authority>,
    /// The directory with swanctl's folders `x509`, `x509ca`, `x509crl`, `private` and so on.
    pub credentials_directory: PathBuf,
    /// What is allowed but may not be meant.
    pub warnings: Vec<String>,
}

impl Config {
    /// Reads a file. Key files are named relative to its directory.
    ///
    /// # Errors
    /// The first thing that is wrong; a file with secrets in it that others may read.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let file = path.display().to_string();
        let (text, mode) = read_text(path)?;
        let config = Self::parse(&file, &text, &directory_of(path)?)?;
        let inline = |entry: &&SecretEntry| matches!(entry.source, SecretSource::Inline(_));
        match config.secrets.iter().find(inline) {
            Some(entry) if mode & 0o077 != 0 => {
                let what = format!("a secret in a file that lets others in (mode {mode:04o})");
                Err(entry.place.error(what, "mode 0600 or 0400, secret_file, or secrets_file"))
            }
            _ => Ok(config),
        }
    }

    /// Reads a text; `file` is its name in errors, key files are relative to `directory`.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn parse(file: &str, text: &str, directory: &Path) -> Result<Self, ConfigError> {
        Self::read(Source { file, text, origins: &[] }, directory)
    }

    /// Reads a text that was translated from other files, each line from where `origins` says;
    /// errors name those.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn parse_translated(
        file: &str,
        text: &str,
        origins: &[Origin],
        directory: &Path,
    ) -> Result<Self, ConfigError> {
        Self::read(Source { file, text, origins }, directory)
    }

    fn read(source: Source<'_>, directory: &Path) -> Result<Self, ConfigError> {
        let table = parse_toml(source)?;
        let root = Section::root(source, table.get_ref());
        let mut warnings = Vec::new();
        let instance = instance::read_instance(root.section("instance")?)?;
        let cores = instance::read_cores(root.section("cores")?, &mut warnings)?;
        let dataplane = instance::read_dataplane(root.section("dataplane")?)?;
        let devices = instance::read_devices(root.find("device"))?;
        let ike = ike::read_ike(root.section("ike")?)?;
        let credentials_directory = match root.find("credentials_directory") {
            None => directory.to_owned(),
            Some(item) => directory.join(item.path()?),
        };
        let directories =
            Directories { configuration: directory, credentials: &credentials_directory };
        let connections = connection::read_connections(&root.section("connections")?, directories)?;
        let pools = pool::read_pools(&root.section("pools")?, &mut warnings)?;
        let secrets = root.section("secrets")?;
        let secrets = secret_entry::read_secrets(&secrets, directory, &credentials_directory)?;
        let secrets_file = match root.find("secrets_file") {
            None => None,
            Some(item) => Some((directory.join(item.path()?), item.place())),
        };
        let authorities = credential_files::read_authorities(
            &root.section("authorities")?,
            &credentials_directory,
            &mut warnings,
        )?;
        root.finish()?;
        let config = Self {
            instance,
            cores,
            dataplane,
            devices,
            ike,
            connections,
            pools,
            secrets: secrets.entries,
            secrets_file,
            private_keys: secrets.keys,
            authorities,
            credentials_directory,
            warnings,
        };
        config.check()?;
        Ok(config)
    }

    /// Reads all secrets: those of the configuration, of `secrets_file`, and of the files and
    /// variables that either names.
    ///
    /// # Errors
    /// The first that cannot be had.
    pub fn load_secrets(&self) -> Result<Vec<LoadedSecret>, ConfigError> {
        let mut loaded =
            self.secrets.iter().map(SecretEntry::load).collect::<Result<Vec<_>, _>>()?;
        let Some((path, place)) = &self.secrets_file else { return Ok(loaded) };
        let octets = secret_entry::secrets_text(path, place)?;
        let text = std::str::from_utf8(&octets)
            .map_err(|_| place.error(format!("{}: is no UTF-8 text", path.display()), "TOML"))?;
        let file = path.display().to_string();
        let source = Source { file: &file, text, origins: &[] };
        let table = parse_toml(source)?;
        let root = Section::root(source, table.get_ref());
        let section = root.section("secrets")?;
        let directory = directory_of(path)?;
        let secrets =
            secret_entry::read_secrets(&section, &directory, &self.credentials_directory)?;
        root.finish()?;
        if let Some(key) = secrets.keys.first() {
            return Err(key.place.error("private keys are named in the configuration itself", ""));
        }
        for entry in &secrets.entries {
            loaded.push(entry.load()?);
        }
        Ok(loaded)
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

fn file_error(path: &Path, what: String) -> ConfigError {
    ConfigError {
        file: path.display().to_string(),
        line: 0,
        column: 0,
        key: String::new(),
        what,
        allowed: String::new(),
    }
}

/// The text of a file and its mode. There may be secrets in it.
fn read_text(path: &Path) -> Result<(Zeroizing<String>, u32), ConfigError> {
    let failed = |error: std::io::Error| file_error(path, error.to_string());
    let opened = std::fs::File::open(path).map_err(failed)?;
    let metadata = opened.metadata().map_err(failed)?;
    // Room for all of it at once: growing would leave copies behind.
    let mut text = Zeroizing::new(String::with_capacity(metadata.len().min(FILE_MAX) as usize + 1));
    let octets = opened.take(FILE_MAX + 1).read_to_string(&mut text).map_err(failed)?;
    if octets as u64 > FILE_MAX {
        return Err(file_error(path, format!("is longer than {FILE_MAX} octets")));
    }
    Ok((text, metadata.mode() & 0o777))
}

fn directory_of(path: &Path) -> Result<PathBuf, ConfigError> {
    // A bare file name has the empty directory for its parent.
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    std::path::absolute(parent.unwrap_or(Path::new(".")))
        .map_err(|error| file_error(path, error.to_string()))
}

fn parse_toml(source: Source<'_>) -> Result<toml::Spanned<DeTable<'_>>, ConfigError> {
    DeTable::parse(source.text).map_err(|error| {
        let span = error.span().unwrap_or(0..0);
        source.place(&span, "").error(error.message(), "TOML")
    })
}
