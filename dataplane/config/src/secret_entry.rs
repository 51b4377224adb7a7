//! `[secrets.KIND…]`: preshared keys, passwords and private keys, apart from connections.
//!
//! They may stand in this file, if it is its owner's alone, in a file of their own
//! (`secrets_file`), or in a file or variable each (`secret_file`, `secret_env`). What stands
//! elsewhere is read by [`Config::load_secrets`](crate::Config::load_secrets) only.

use crate::error::{ConfigError, Place};
use crate::key::{KeyOrigin, Secret, read_private, secret_octets};
use crate::reader::{Item, Section};
use std::fmt;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// What a secret is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecretKind {
    /// Preshared key of IKE (RFC 7296 section 2.15).
    Ike,
    /// Password of EAP.
    Eap,
    /// NT hash of a password, 16 octets, for EAP-MSCHAPv2.
    Ntlm,
    /// Post-quantum preshared key (RFC 8784).
    Ppk,
}

/// Where a secret is.
#[derive(Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// In the configuration.
    Inline(Secret),
    /// Elsewhere.
    Outside(KeyOrigin),
}

impl fmt::Debug for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inline(_) => f.write_str("Inline(redacted)"),
            Self::Outside(origin) => write!(f, "Outside({origin:?})"),
        }
    }
}

/// A secret and whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretEntry {
    /// Name of the section, such as `ike-gwa`.
    pub name: String,
    /// What it is for.
    pub kind: SecretKind,
    /// Identities that it belongs to, in swanctl's notation; none: anybody's.
    pub ids: Vec<String>,
    /// Where it is.
    pub source: SecretSource,
    /// Where it begins.
    pub place: Place,
}

/// A secret that has been read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadedSecret {
    /// Name of the section.
    pub name: String,
    /// What it is for.
    pub kind: SecretKind,
    /// Identities that it belongs to; none: anybody's.
    pub ids: Vec<String>,
    /// The octets.
    pub secret: Secret,
    /// Where the configuration has it.
    pub place: Place,
}

/// A private key file named by a section; those in the directories need none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrivateKeyFile {
    /// Name of the section.
    pub name: String,
    /// The file.
    pub path: PathBuf,
    /// Where it begins.
    pub place: Place,
}

const NOTATION: &str = "text, 0x and hexadecimal digits, or 0s and base64";

impl SecretEntry {
    /// Reads the secret.
    ///
    /// # Errors
    /// The file is not a regular file, belongs to somebody else or is open to others; the
    /// variable is not set; the notation is broken; the secret is empty.
    pub fn load(&self) -> Result<LoadedSecret, ConfigError> {
        let secret = match &self.source {
            SecretSource::Inline(secret) => secret.clone(),
            SecretSource::Outside(origin) => {
                let text = read_private(origin, &self.place)?;
                let line = text.strip_suffix(b"\n").unwrap_or(&text);
                let line = line.strip_suffix(b"\r").unwrap_or(line);
                checked(line, self.kind).map_err(|what| self.place.error(what, NOTATION))?
            }
        };
        let (name, ids, place) = (self.name.clone(), self.ids.clone(), self.place.clone());
        Ok(LoadedSecret { name, kind: self.kind, ids, secret, place })
    }
}

fn checked(text: &[u8], kind: SecretKind) -> Result<Secret, String> {
    let octets = secret_octets(text).ok_or("is not readable")?;
    match (kind, octets.len()) {
        (_, 0) => Err("is empty".to_owned()),
        (SecretKind::Ntlm, length) if length != 16 => Err(format!("has {length} octets, not 16")),
        // RFC 8784 section 6 wants 256 bits; less gives no post-quantum security.
        (SecretKind::Ppk, length) if length < 16 => Err(format!("has {length} octets, not 32")),
        _ => Ok(Secret::new(octets.to_vec())),
    }
}

/// Every key that begins with `id`: one identity each, or a list.
fn ids(section: &Section<'_>) -> Result<Vec<String>, ConfigError> {
    let mut ids = Vec::new();
    for item in section.keys_with_prefix("id") {
        for item in item.one_or_more("an identity or a list of them")? {
            ids.push(item.text()?.to_owned());
        }
    }
    Ok(ids)
}

fn source(
    section: &Section<'_>,
    kind: SecretKind,
    directory: &Path,
) -> Result<SecretSource, ConfigError> {
    let inline = section.find("secret");
    let file = section.find("secret_file");
    let variable = section.find("secret_env");
    match (inline, file, variable) {
        (Some(item), None, None) => {
            let text = item.text()?;
            let secret = checked(text.as_bytes(), kind).map_err(|what| item.error(what, NOTATION));
            Ok(SecretSource::Inline(secret?))
        }
        (None, Some(item), None) => {
            Ok(SecretSource::Outside(KeyOrigin::File(directory.join(item.path()?))))
        }
        (None, None, Some(item)) => {
            let name = item.text()?;
            if name.is_empty() || name.contains(['=', '\0']) {
                return Err(item.error("is no variable", "the name of an environment variable"));
            }
            Ok(SecretSource::Outside(KeyOrigin::Environment(name.to_owned())))
        }
        _ => {
            let what = "exactly one of secret, secret_file and secret_env is needed";
            Err(section.place_of("secret").error(what, ""))
        }
    }
}

/// The secrets and private keys of a file.
#[derive(Debug, Default)]
pub(crate) struct Secrets {
    pub(crate) entries: Vec<SecretEntry>,
    pub(crate) keys: Vec<PrivateKeyFile>,
}

fn private_key(name: &str, item: &Item<'_>, folder: &Path) -> Result<PrivateKeyFile, ConfigError> {
    let section = item.section()?;
    let file = section.require("file")?;
    let path = folder.join(file.path()?);
    if let Some(secret) = section.find("secret") {
        return Err(secret.error(
            "is not supported: encrypted private keys cannot be read",
            "an unencrypted key file that only its owner can read",
        ));
    }
    section.finish()?;
    Ok(PrivateKeyFile { name: name.to_owned(), path, place: item.place() })
}

const KINDS: [(&str, SecretKind); 4] = [
    ("ike", SecretKind::Ike),
    ("eap", SecretKind::Eap),
    ("ntlm", SecretKind::Ntlm),
    ("ppk", SecretKind::Ppk),
];

const KEYS: [&str; 4] = ["private", "rsa", "ecdsa", "pkcs8"];

const SYNTAX: &str = "names that begin with ike, eap, ntlm, ppk, private, rsa, ecdsa, pkcs8";

/// `secret_file` is relative to `directory`, private keys to the folders of `credentials`.
pub(crate) fn read_secrets(
    section: &Section<'_>,
    directory: &Path,
    credentials: &Path,
) -> Result<Secrets, ConfigError> {
    let mut secrets = Secrets::default();
    for (name, item) in section.named() {
        if let Some(folder) = KEYS.iter().find(|prefix| name.starts_with(**prefix)) {
            secrets.keys.push(private_key(&name, &item, &credentials.join(folder))?);
            continue;
        }
        let Some((_, kind)) = KINDS.iter().find(|(prefix, _)| name.starts_with(prefix)) else {
            let what = ["xauth", "pkcs12", "token"].iter().find(|word| name.starts_with(**word));
            let what = match what {
                Some(word) => format!("is not supported: there is no {word} here"),
                None => "unknown kind of secret".to_owned(),
            };
            return Err(item.error(what, SYNTAX));
        };
        let inner = item.section()?;
        let entry = SecretEntry {
            name: name.clone(),
            kind: *kind,
            ids: ids(&inner)?,
            source: source(&inner, *kind, directory)?,
            place: item.place(),
        };
        inner.finish()?;
        if entry.kind == SecretKind::Ppk && entry.ids.is_empty() {
            return Err(item.error("has no id", "id = the PPK's identity"));
        }
        secrets.entries.push(entry);
    }
    Ok(secrets)
}

/// The text of `secrets_file`, which must be its owner's alone.
pub(crate) fn secrets_text(path: &Path, place: &Place) -> Result<Zeroizing<Vec<u8>>, ConfigError> {
    read_private(&KeyOrigin::File(path.to_owned()), place)
}
