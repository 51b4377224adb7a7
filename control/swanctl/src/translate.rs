//! From what swanctl.conf says to our TOML.
//!
//! Every key goes over or into a note; one that the configuration does not know goes over,
//! too, so that it is refused there with the line it has here.

use crate::Note;
use crate::keys::{
    AUTHORITY, CERTIFICATE, CHILD, CONNECTION, Keys, Kind, POOL, ROUND, SECRET, SHUNT,
};
use crate::tree::{Spot, Tree, Value};
use crate::writer::{Writer, string};
use std::net::IpAddr;
use xswan_config::ConfigError;

/// Least replay window but none.
const WINDOW_MIN: u64 = 64;

pub(crate) struct Translation {
    pub(crate) writer: Writer,
    pub(crate) notes: Vec<Note>,
    /// Files that have secrets in them.
    pub(crate) secret_files: Vec<String>,
}

/// `yes` or `no` in the spellings of settings files.
fn flag(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "yes" | "true" | "enabled" | "1" => Some(true),
        "no" | "false" | "disabled" | "0" => Some(false),
        _ => None,
    }
}

fn list(text: &str) -> String {
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    let quoted: Vec<_> = parts.map(|part| string(part).to_string()).collect();
    format!("[{}]", quoted.join(", "))
}

fn is_off(text: &str) -> bool {
    flag(text) == Some(false) || matches!(text, "" | "none" | "auto" | "000000")
}

/// A network with bits past its length set: the network, and the text without them.
fn without_host_bits(part: &str) -> Option<String> {
    let (network, qualifier) = match part.find('[') {
        Some(bracket) => part.split_at(bracket),
        None => (part, ""),
    };
    let (address, length) = network.trim().split_once('/')?;
    let (address, length) = (address.parse::<IpAddr>().ok()?, length.parse::<u32>().ok()?);
    let masked: IpAddr = match address {
        IpAddr::V4(v4) => {
            let host = 32_u32.checked_sub(length)?;
            let mask = u32::MAX.checked_shl(host).unwrap_or(0);
            std::net::Ipv4Addr::from(u32::from(v4) & mask).into()
        }
        IpAddr::V6(v6) => {
            let host = 128_u32.checked_sub(length)?;
            let mask = u128::MAX.checked_shl(host).unwrap_or(0);
            std::net::Ipv6Addr::from(u128::from(v6) & mask).into()
        }
    };
    (masked != address).then(|| format!("{masked}/{length}{qualifier}"))
}

impl Translation {
    pub(crate) fn new() -> Self {
        Self { writer: Writer::default(), notes: Vec::new(), secret_files: Vec::new() }
    }

    pub(crate) fn note(&mut self, spot: &Spot, what: impl Into<String>) {
        let what: String = what.into();
        self.notes.push(Note {
            file: spot.file.to_string(),
            line: spot.line,
            what: what.replace(char::is_control, "?"),
        });
    }

    /// Everything that swanctl reads.
    pub(crate) fn all(&mut self, tree: &Tree, referenced: &[String]) -> Result<(), ConfigError> {
        for (name, value) in &tree.values {
            self.note(&value.spot, format!("{name}: is in no section and not read"));
        }
        for (name, section) in &tree.sections {
            match name.as_str() {
                "connections" => self.each(section, Self::connection)?,
                "pools" => {
                    self.each(section, |own, name, pool| own.plain(&["pools", name], pool, POOL))?
                }
                "authorities" => self.each(section, |own, name, authority| {
                    own.plain(&["authorities", name], authority, AUTHORITY)
                })?,
                "secrets" => self.each(section, Self::secret)?,
                name if referenced.iter().any(|known| known == name) => {}
                name => self.note(&section.spot, format!("section {name:?} is not read")),
            }
        }
        Ok(())
    }

    fn each(
        &mut self,
        section: &Tree,
        mut translate: impl FnMut(&mut Self, &str, &Tree) -> Result<(), ConfigError>,
    ) -> Result<(), ConfigError> {
        if let Some((name, value)) = section.values.iter().find(|(_, value)| !value.text.is_empty())
        {
            return Err(value.spot.error(name, "is not within a named section"));
        }
        section.sections.iter().try_for_each(|(name, inner)| translate(self, name, inner))
    }

    /// A section of keys alone.
    fn plain(&mut self, path: &[&str], section: &Tree, keys: Keys) -> Result<(), ConfigError> {
        self.writer.table(&section.spot, path);
        for (name, value) in &section.values {
            self.value(name, value, keys);
        }
        no_sections(path, section)
    }

    fn connection(&mut self, name: &str, section: &Tree) -> Result<(), ConfigError> {
        let path = ["connections", name];
        self.writer.table(&section.spot, &path);
        if section.text("version").is_none() {
            // It makes the connection a negotiated one, whatever else it says.
            self.writer.value(&section.spot, "version", "2");
        }
        for (name, value) in &section.values {
            self.value(name, value, CONNECTION);
        }
        for (part, inner) in &section.sections {
            if part == "children" {
                self.each(inner, |own, child, tree| own.child(name, child, tree))?;
            } else if part.starts_with("local") || part.starts_with("remote") {
                self.round(name, part, inner)?;
            } else {
                return Err(inner.spot.error(&path.join("."), format!("unknown section {part:?}")));
            }
        }
        Ok(())
    }

    fn round(&mut self, connection: &str, name: &str, section: &Tree) -> Result<(), ConfigError> {
        let path = ["connections", connection, name];
        self.writer.table(&section.spot, &path);
        for (name, value) in &section.values {
            self.value(name, value, ROUND);
        }
        for (part, inner) in &section.sections {
            if part.starts_with("cert") || part.starts_with("cacert") {
                self.plain(&["connections", connection, name, part], inner, CERTIFICATE)?;
            } else {
                return Err(inner.spot.error(&path.join("."), format!("unknown section {part:?}")));
            }
        }
        Ok(())
    }

    fn child(&mut self, connection: &str, name: &str, section: &Tree) -> Result<(), ConfigError> {
        let path = ["connections", connection, "children", name];
        no_sections(&path, section)?;
        let shunt = matches!(section.text("mode"), Some("pass" | "drop"));
        let started = section.text("start_action").is_some_and(|action| !is_off(action));
        if shunt && !started {
            // swanctl installs it only when told to.
            let what = "has no start_action: the policy is never installed and left out";
            self.note(&section.spot, format!("{}: {what}", path.join(".")));
            return Ok(());
        }
        self.writer.table(&section.spot, &path);
        for (name, value) in &section.values {
            if !shunt || SHUNT.contains(&name.as_str()) {
                self.value(name, value, CHILD);
            } else if name != "start_action" && !value.text.is_empty() {
                self.note(&value.spot, format!("{name}: means nothing where nothing is protected"));
            }
        }
        Ok(())
    }

    fn secret(&mut self, name: &str, section: &Tree) -> Result<(), ConfigError> {
        if name.starts_with("xauth") {
            self.note(&section.spot, format!("secrets.{name}: XAuth is IKEv1's, left out"));
            return Ok(());
        }
        if let Some((_, value)) = section.values.iter().find(|(key, _)| key == "secret") {
            let file = value.spot.file.to_string();
            if !self.secret_files.contains(&file) {
                self.secret_files.push(file);
            }
        }
        self.plain(&["secrets", name], section, SECRET)
    }

    fn value(&mut self, name: &str, value: &Value, keys: Keys) {
        let text = value.text.as_str();
        if text.is_empty() {
            return;
        }
        let kind = keys.iter().find(|(known, _)| *known == name).map(|(_, kind)| *kind);
        let written = match kind.unwrap_or(Kind::Text) {
            Kind::Flag => match flag(text) {
                Some(on) => on.to_string().into(),
                None => string(text),
            },
            Kind::Number => match text.parse::<u64>() {
                Ok(number) => number.to_string().into(),
                Err(_) => string(text),
            },
            Kind::Text => string(text),
            Kind::List => list(text).into(),
            Kind::Selectors => self.selectors(name, value).into(),
            Kind::CopyDf => match flag(text) {
                Some(true) => string("copy"),
                Some(false) => string("clear"),
                None => string(text),
            },
            Kind::ReplayWindow => self.replay_window(value).into(),
            Kind::Version => self.version(value).into(),
            Kind::Note(why) => {
                if !is_off(text) {
                    self.note(&value.spot, format!("{name} = {text}: left out: {why}"));
                }
                return;
            }
        };
        self.writer.value(&value.spot, name, &written);
    }

    fn selectors(&mut self, name: &str, value: &Value) -> String {
        let mut parts = Vec::new();
        for part in value.text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            match without_host_bits(part) {
                None => parts.push(part.to_owned()),
                Some(masked) => {
                    self.note(&value.spot, format!("{name}: {part} is read as {masked}"));
                    parts.push(masked);
                }
            }
        }
        list(&parts.join(","))
    }

    fn replay_window(&mut self, value: &Value) -> String {
        match value.text.parse::<u64>() {
            Ok(window) if (1..WINDOW_MIN).contains(&window) => {
                let what = format!("replay_window = {window} is read as {WINDOW_MIN}");
                self.note(&value.spot, what);
                WINDOW_MIN.to_string()
            }
            Ok(window) => window.to_string(),
            Err(_) => string(&value.text).to_string(),
        }
    }

    fn version(&mut self, value: &Value) -> String {
        match value.text.as_str() {
            "0" => {
                self.note(&value.spot, "version = 0 is read as 2: IKEv1 is not spoken");
                "2".to_owned()
            }
            text => {
                text.parse::<u64>().map_or_else(|_| string(text).to_string(), |n| n.to_string())
            }
        }
    }
}

fn no_sections(path: &[&str], section: &Tree) -> Result<(), ConfigError> {
    match section.sections.first() {
        None => Ok(()),
        Some((name, inner)) => {
            Err(inner.spot.error(&path.join("."), format!("unknown section {name:?}")))
        }
    }
}
