//! TOML, a line at a time, each with the line it comes from.

use crate::tree::Spot;
use std::fmt::Write as _;
use xswan_config::Origin;
use zeroize::Zeroizing;

/// A text that grows.
#[derive(Default)]
pub(crate) struct Writer {
    pub(crate) text: Zeroizing<String>,
    pub(crate) origins: Vec<Origin>,
}

/// A key as TOML wants it.
pub(crate) fn key(name: &str) -> Zeroizing<String> {
    let bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !name.is_empty() && name.chars().all(bare) {
        Zeroizing::new(name.to_owned())
    } else {
        string(name)
    }
}

/// A basic string.
pub(crate) fn string(text: &str) -> Zeroizing<String> {
    // Every character may take six; growing would leave copies of secrets behind.
    let mut out = Zeroizing::new(String::with_capacity(text.len() * 6 + 2));
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if c.is_control() => {
                // Writing to a string does not fail.
                let _infallible = write!(out, "\\u{:04X}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

impl Writer {
    pub(crate) fn line(&mut self, spot: &Spot, line: &str) {
        self.push(Origin { file: spot.file.to_string(), line: spot.line }, line);
    }

    pub(crate) fn push(&mut self, origin: Origin, line: &str) {
        let needed = self.text.len() + line.len() + 1;
        if needed > self.text.capacity() {
            // By hand, so that the old copy is wiped.
            let mut larger = Zeroizing::new(String::with_capacity(needed * 2));
            larger.push_str(&self.text);
            self.text = larger;
        }
        self.text.push_str(line);
        self.text.push('\n');
        self.origins.push(origin);
    }

    /// The header of a table; an empty line before it.
    pub(crate) fn table(&mut self, spot: &Spot, path: &[&str]) {
        let path: Vec<_> = path.iter().map(|name| key(name).to_string()).collect();
        self.line(spot, "");
        self.line(spot, &format!("[{}]", path.join(".")));
    }

    pub(crate) fn value(&mut self, spot: &Spot, name: &str, value: &str) {
        let line = Zeroizing::new(format!("{} = {value}", *key(name)));
        self.line(spot, &line);
    }
}
