//! Certificates and keys in swanctl's folders, and `[authorities.NAME]`.

use crate::Config;
use crate::error::{ConfigError, Place};
use crate::reader::{Item, Section};
use std::io;
use std::path::{Path, PathBuf};

/// A certification authority named by a section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority {
    /// Name.
    pub name: String,
    /// Its certificate.
    pub cacert: PathBuf,
    /// Where it begins.
    pub place: Place,
}

/// Files by the folder that they are in, in the order of their names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CredentialFiles {
    /// End entity certificates (`x509`).
    pub certificates: Vec<PathBuf>,
    /// CA certificates (`x509ca`, and those of `[authorities]`).
    pub authorities: Vec<PathBuf>,
    /// Revocation lists (`x509crl`).
    pub revocation_lists: Vec<PathBuf>,
    /// Private keys (`private`, `rsa`, `ecdsa`, `pkcs8`, and those of `[secrets]`).
    pub private_keys: Vec<PathBuf>,
    /// Raw public keys (`pubkey`).
    pub public_keys: Vec<PathBuf>,
}

/// More files than this in one folder are a mistake.
const FILES_MAX: usize = 10_000;

/// The regular files of a folder by name; a folder that is not there has none.
fn folder(directory: &Path, name: &str, files: &mut Vec<PathBuf>) -> io::Result<()> {
    let entries = match std::fs::read_dir(directory.join(name)) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        // Links are followed: certificates are often kept elsewhere.
        if !hidden && std::fs::metadata(&path).is_ok_and(|metadata| metadata.is_file()) {
            found.push(path);
        }
        if found.len() > FILES_MAX {
            return Err(io::Error::other(format!("more than {FILES_MAX} files")));
        }
    }
    found.sort();
    files.extend(found);
    Ok(())
}

impl Config {
    /// The credential files that there are now, in the folders and by name.
    ///
    /// # Errors
    /// A folder that is there cannot be read.
    pub fn credential_files(&self) -> Result<CredentialFiles, ConfigError> {
        let directory = &self.credentials_directory;
        let mut files = CredentialFiles::default();
        let lists = [
            ("x509", &mut files.certificates),
            ("x509ca", &mut files.authorities),
            ("x509crl", &mut files.revocation_lists),
            ("pubkey", &mut files.public_keys),
        ];
        let failed = |name: &str, error: io::Error| ConfigError {
            file: directory.join(name).display().to_string(),
            line: 0,
            column: 0,
            key: String::new(),
            what: error.to_string(),
            allowed: String::new(),
        };
        for (name, list) in lists {
            folder(directory, name, list).map_err(|error| failed(name, error))?;
        }
        for name in ["private", "rsa", "ecdsa", "pkcs8"] {
            folder(directory, name, &mut files.private_keys)
                .map_err(|error| failed(name, error))?;
        }
        let named = self.private_keys.iter().map(|key| &key.path);
        add_missing(&mut files.private_keys, named);
        let named = self.authorities.iter().map(|authority| &authority.cacert);
        add_missing(&mut files.authorities, named);
        Ok(files)
    }
}

fn add_missing<'a>(files: &mut Vec<PathBuf>, named: impl Iterator<Item = &'a PathBuf>) {
    for path in named {
        if !files.contains(path) {
            files.push(path.clone());
        }
    }
}

fn read_authority(
    name: &str,
    item: &Item<'_>,
    directory: &Path,
    warnings: &mut Vec<String>,
) -> Result<Authority, ConfigError> {
    let section = item.section()?;
    let cacert = match (section.find("cacert"), section.find("file")) {
        (Some(cacert), None) => directory.join("x509ca").join(cacert.path()?),
        (None, Some(file)) => directory.join(file.path()?),
        _ => return Err(item.error("exactly one of cacert and file is needed", "a certificate")),
    };
    for key in ["crl_uris", "ocsp_uris", "cert_uri_base"] {
        if let Some(item) = section.find_quietly(key) {
            warnings.push(item.place().warning("nothing is fetched: put lists into x509crl"));
        }
    }
    section.finish()?;
    Ok(Authority { name: name.to_owned(), cacert, place: item.place() })
}

pub(crate) fn read_authorities(
    section: &Section<'_>,
    directory: &Path,
    warnings: &mut Vec<String>,
) -> Result<Vec<Authority>, ConfigError> {
    let named = section.named();
    named.iter().map(|(name, item)| read_authority(name, item, directory, warnings)).collect()
}
