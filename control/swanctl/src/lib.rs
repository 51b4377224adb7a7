//! A swanctl directory read as xswan's configuration.
//!
//! `swanctl.conf` with its includes and inherited sections becomes TOML, line by line, and is
//! read by `xswan-config`: there is one set of rules. Errors name the file and line of the
//! original. What cannot be honoured is a [`Note`] if the gateway is no less safe without it,
//! an error otherwise; nothing is dropped silently. Certificates and keys stay where they are,
//! in the directory's `x509`, `x509ca`, `x509crl`, `private`, `rsa`, `ecdsa`, `pkcs8` and
//! `pubkey`.
#![forbid(unsafe_code)]

mod glob;
mod keys;
mod parse;
mod translate;
mod tree;
mod writer;

use parse::{Reading, read_file, read_text};
use std::fmt;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use translate::Translation;
use tree::{Spot, Tree};
use xswan_config::{Config, ConfigError, Origin};
use zeroize::Zeroizing;

/// Something that is not honoured or not meant as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// The file as it was named.
    pub file: String,
    /// Line, from 1; 0 if the note has no place in the file.
    pub line: usize,
    /// What about it.
    pub what: String,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.file, self.what),
            line => write!(f, "{}:{line}: {}", self.file, self.what),
        }
    }
}

/// A translated directory. Its text holds secrets: wiped on drop, never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Imported {
    /// `credentials_directory`, connections, pools, secrets and authorities as TOML.
    pub toml: Zeroizing<String>,
    /// Where each line of the text comes from.
    pub origins: Vec<Origin>,
    /// What is to be said about it.
    pub notes: Vec<Note>,
    /// Whether there are secrets in the text.
    pub has_secrets: bool,
}

impl fmt::Debug for Imported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Imported({} lines redacted, {:?})", self.origins.len(), self.notes)
    }
}

/// What TOML has to have around a translation to be checked.
const LEAST_BASE: &str = "[cores]\nworkers = 0\n";

/// Folders of swanctl's that nothing here reads.
const UNREAD: [(&str, &str); 5] = [
    ("x509aa", "attribute authorities mean nothing here"),
    ("x509ac", "attribute certificates mean nothing here"),
    ("x509ocsp", "OCSP responders are not asked"),
    ("bliss", "BLISS is not supported"),
    ("pkcs12", "PKCS#12 containers are not supported: take the keys out of them"),
];

fn translate(tree: &Tree, reading: Reading, directory: &Path) -> Result<Imported, ConfigError> {
    let mut referenced = Vec::new();
    tree.referenced(&mut referenced);
    let tree = tree.inherited()?;
    let mut translation = Translation::new();
    for (spot, what) in reading.notes {
        translation.note(&spot, what);
    }
    let whole = Spot { file: tree.spot.file.clone(), line: 0 };
    let directory = directory.display().to_string();
    translation.writer.value(&whole, "credentials_directory", &writer::string(&directory));
    translation.all(&tree, &referenced)?;
    let Translation { writer, mut notes, secret_files } = translation;
    for file in &secret_files {
        let open = std::fs::metadata(file).is_ok_and(|metadata| metadata.mode() & 0o077 != 0);
        if open {
            let what = "has secrets in it and lets others in: make its mode 0600".to_owned();
            notes.push(Note { file: file.clone(), line: 0, what });
        }
    }
    let has_secrets = !secret_files.is_empty();
    let imported = Imported { toml: writer.text, origins: writer.origins, notes, has_secrets };
    Ok(imported)
}

fn unread_folders(directory: &Path, notes: &mut Vec<Note>) {
    for (name, why) in UNREAD {
        let folder = directory.join(name);
        let filled = std::fs::read_dir(&folder).is_ok_and(|mut files| files.next().is_some());
        if filled {
            let what = format!("is not read: {why}");
            notes.push(Note { file: folder.display().to_string(), line: 0, what });
        }
    }
}

/// Translates a directory, or a settings file beside which the folders are.
///
/// # Errors
/// The first thing that is wrong or cannot be done without, with the place in the original.
pub fn to_toml(dir: &Path) -> Result<Imported, ConfigError> {
    let file = if dir.is_dir() { dir.join("swanctl.conf") } else { dir.to_owned() };
    let mut reading = Reading::default();
    let tree = read_file(&file, &mut reading)?;
    let directory = file.parent().unwrap_or(Path::new("."));
    let directory = std::path::absolute(directory)
        .map_err(|error| tree.spot.error("", format!("{}: {error}", directory.display())))?;
    let mut imported = translate(&tree, reading, &directory)?;
    unread_folders(&directory, &mut imported.notes);
    check(&imported)?;
    Ok(imported)
}

/// Translates a text; `file` is its name in errors, includes are relative to `directory`.
///
/// # Errors
/// The first thing that is wrong or cannot be done without.
pub fn text_to_toml(file: &str, text: &str, directory: &Path) -> Result<Imported, ConfigError> {
    let mut reading = Reading::default();
    let tree = read_text(file, text, directory, &mut reading)?;
    let imported = translate(&tree, reading, directory)?;
    check(&imported)?;
    Ok(imported)
}

/// Whether the configuration takes the translation.
fn check(imported: &Imported) -> Result<(), ConfigError> {
    let (text, origins) = combine(imported, "base", LEAST_BASE);
    Config::parse_translated("base", &text, &origins, Path::new("/")).map(drop)
}

/// The base between the translation's first line, which is no table's, and the rest.
fn combine(imported: &Imported, name: &str, base: &str) -> (Zeroizing<String>, Vec<Origin>) {
    let (first, rest) = imported.toml.split_once('\n').unwrap_or((&imported.toml, ""));
    let (first_origin, rest_origins) = imported.origins.split_at(imported.origins.len().min(1));
    let room = imported.toml.len() + base.len() + 2;
    let mut text = Zeroizing::new(String::with_capacity(room));
    for part in [first, "\n", base, "\n", rest] {
        text.push_str(part);
    }
    let lines = base.matches('\n').count() + 1;
    let own = (1..=lines).map(|line| Origin { file: name.to_owned(), line });
    let origins = first_origin.iter().cloned().chain(own).chain(rest_origins.iter().cloned());
    (text, origins.collect())
}

/// A base file must leave to the directory what the directory says.
fn check_base(config: &Config, dir: &Path) -> Result<(), ConfigError> {
    let places = [
        config.connections.first().map(|connection| &connection.place),
        config.pools.first().map(|pool| &pool.place),
        config.secrets.first().map(|secret| &secret.place),
        config.private_keys.first().map(|key| &key.place),
        config.authorities.first().map(|authority| &authority.place),
    ];
    match places.into_iter().flatten().next() {
        None => Ok(()),
        Some(place) => {
            Err(place.error(format!("such sections are taken from {}", dir.display()), ""))
        }
    }
}

/// A configuration whose connections, pools, secrets and authorities come from a swanctl
/// directory and everything else from a TOML file.
///
/// # Errors
/// The first thing that is wrong in either.
pub fn load(dir: &Path, base_toml: &Path) -> Result<(Config, Vec<Note>), ConfigError> {
    let (text, origins, notes) = merged(dir, base_toml)?;
    let name = base_toml.display().to_string();
    let parent = base_toml.parent().filter(|parent| !parent.as_os_str().is_empty());
    let directory = std::path::absolute(parent.unwrap_or(Path::new(".")))
        .unwrap_or_else(|_| PathBuf::from("/"));
    let config = Config::parse_translated(&name, &text, &origins, &directory)?;
    Ok((config, notes))
}

/// The TOML that [`load`] reads, as a text of its own.
///
/// # Errors
/// The first thing that is wrong in either.
pub fn merged_toml(
    dir: &Path,
    base_toml: &Path,
) -> Result<(Zeroizing<String>, Vec<Note>), ConfigError> {
    load(dir, base_toml)?;
    merged(dir, base_toml).map(|(text, _, notes)| (text, notes))
}

type Merged = (Zeroizing<String>, Vec<Origin>, Vec<Note>);

fn merged(dir: &Path, base_toml: &Path) -> Result<Merged, ConfigError> {
    check_base(&Config::load(base_toml)?, dir)?;
    let name = base_toml.display().to_string();
    let base = std::fs::read_to_string(base_toml).map(Zeroizing::new);
    let base = base.map_err(|error| {
        Spot { file: name.as_str().into(), line: 0 }.error("", error.to_string())
    })?;
    let imported = to_toml(dir)?;
    let (text, origins) = combine(&imported, &name, &base);
    Ok((text, origins, imported.notes))
}
