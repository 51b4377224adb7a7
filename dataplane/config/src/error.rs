//! What is wrong, where, and what would be right: one line.

use std::fmt;

/// An error in the configuration, printed as `file:line:column: key: what; allowed: values`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The file as it was named.
    pub file: String,
    /// Line, from 1; 0 if the error has no place in the file.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// The key with its sections, dotted; empty if the error is the file's.
    pub key: String,
    /// What is wrong.
    pub what: String,
    /// What would be right; may be empty.
    pub allowed: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        if !self.key.is_empty() {
            write!(f, ": {}", self.key)?;
        }
        write!(f, ": {}", self.what)?;
        if !self.allowed.is_empty() {
            write!(f, "; allowed: {}", self.allowed)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

/// A place in the file, kept with values whose check comes later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file as it was named.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// The key with its sections, dotted.
    pub key: String,
}

impl Place {
    /// One line about something that is allowed but may not be meant.
    #[must_use]
    pub fn warning(&self, what: &str) -> String {
        let text = format!("{}:{}: {}: {what}", self.file, self.line, self.key);
        text.replace(char::is_control, "?")
    }

    /// An error at this place.
    #[must_use]
    pub fn error(&self, what: impl Into<String>, allowed: impl Into<String>) -> ConfigError {
        // One line whatever the value quoted in it holds.
        let single_line = |text: String| text.replace(char::is_control, "?");
        ConfigError {
            file: self.file.clone(),
            line: self.line,
            column: self.column,
            key: single_line(self.key.clone()),
            what: single_line(what.into()),
            allowed: single_line(allowed.into()),
        }
    }
}
