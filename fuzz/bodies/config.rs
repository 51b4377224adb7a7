//! Any text as a configuration file.

use std::path::Path;
use xswan_config::Config;

/// Accepted, or refused in one line that begins with the place.
pub fn run(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Err(error) = Config::parse("xswan.toml", &text, Path::new("/nonexistent")) {
        let line = error.to_string();
        assert!(line.starts_with("xswan.toml:"), "{line}");
        assert!(!line.contains('\n'), "{line}");
    }
}
