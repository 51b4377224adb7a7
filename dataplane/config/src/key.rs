//! Keys: where they come from, and how they are kept.
//!
//! Never in the file itself and never in an argument: a file that only its owner can read,
//! or an environment variable. Read only by who asks, so that the packet daemon, which reads
//! the same configuration, never has them from here.

use crate::error::{ConfigError, Place};
use std::fmt;
use std::fs::OpenOptions;
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::PathBuf;
use zeroize::{Zeroize as _, Zeroizing};

/// Secret octets: wiped on drop, never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// Takes the octets over.
    #[must_use]
    pub fn new(octets: Vec<u8>) -> Self {
        Self(Zeroizing::new(octets))
    }

    /// The octets.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(redacted)")
    }
}

/// Where a key is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyOrigin {
    /// In a file, its path complete.
    File(PathBuf),
    /// In an environment variable.
    Environment(String),
}

/// Where a key is and where the configuration says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeySource {
    /// Where the key is.
    pub origin: KeyOrigin,
    /// The configuration's line, for errors.
    pub place: Place,
    /// Octets expected, salt included.
    pub len: usize,
}

/// No key is longer as text, 36 octets are 72 digits; a file of secrets holds some thousand.
const FILE_MAX: u64 = 1 << 20;

impl KeySource {
    /// Reads and checks the key.
    ///
    /// # Errors
    /// The file is not a regular file, belongs to somebody else or is open to others; the
    /// text is neither hexadecimal nor `0s` and base64; the length is not the algorithm's;
    /// the key is all zeros.
    pub fn load(&self) -> Result<Secret, ConfigError> {
        let text = read_private(&self.origin, &self.place)?;
        let octets = decode(&text).ok_or_else(|| {
            self.place.error("the key is not readable", "hexadecimal digits, 0x…, or 0s and base64")
        })?;
        let key = Secret(octets);
        if key.expose().len() != self.len {
            let found = key.expose().len();
            let what = format!("the key has {found} octets");
            return Err(self.place.error(what, format!("{} octets, key and salt", self.len)));
        }
        if key.expose().iter().all(|octet| *octet == 0) {
            return Err(self.place.error("the key is all zeros", "random octets"));
        }
        Ok(key)
    }
}

/// The text of a private file or of a variable.
pub(crate) fn read_private(
    origin: &KeyOrigin,
    place: &Place,
) -> Result<Zeroizing<Vec<u8>>, ConfigError> {
    match origin {
        KeyOrigin::File(path) => read_private_file(path).map_err(|what| {
            let allowed = "a regular file of root or the daemon's user, mode 0600 or 0400";
            place.error(format!("{}: {what}", path.display()), allowed)
        }),
        KeyOrigin::Environment(name) => {
            let value = std::env::var(name).map(Zeroizing::new);
            let value = value
                .map_err(|_| place.error(format!("environment variable {name} is not set"), ""))?;
            Ok(Zeroizing::new(value.as_bytes().to_vec()))
        }
    }
}

/// A secret's text: `0x` and hexadecimal digits, `0s` and base64, or the octets themselves.
pub(crate) fn secret_octets(text: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    if text.starts_with(b"0x") || text.starts_with(b"0s") {
        decode(text)
    } else {
        Some(Zeroizing::new(text.to_vec()))
    }
}

/// Reads a file of secrets, such as a private key: a regular file of root's or our own that
/// nobody else may read, of at most a MiB.
///
/// # Errors
/// What is wrong with it, in words that go after its name.
pub fn read_private_file(path: &std::path::Path) -> Result<Zeroizing<Vec<u8>>, String> {
    // Opening a FIFO must not wait for a writer.
    let opened = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path);
    let file = opened.map_err(|error| error.to_string())?;
    // Asked of the open file, so that what is checked is what is read.
    let metadata = file.metadata().map_err(|error| error.to_string())?;
    if !metadata.is_file() {
        return Err("not a regular file".to_owned());
    }
    if metadata.mode() & 0o077 != 0 {
        let mode = metadata.mode() & 0o777;
        return Err(format!("mode {mode:04o} lets others in"));
    }
    let own = std::fs::metadata("/proc/self").map_err(|error| error.to_string())?.uid();
    if metadata.uid() != 0 && metadata.uid() != own {
        return Err(format!("belongs to user {}", metadata.uid()));
    }
    // Room for all of it at once: growing would leave copies behind.
    let most = metadata.len().min(FILE_MAX) + 1;
    let mut text = Zeroizing::new(Vec::with_capacity(most as usize));
    file.take(most).read_to_end(&mut text).map_err(|error| error.to_string())?;
    if text.len() as u64 > FILE_MAX {
        return Err("longer than any key".to_owned());
    }
    Ok(text)
}

/// `0x` and hexadecimal, bare hexadecimal, or `0s` and base64; white space around it is ignored.
fn decode(text: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let text = text.trim_ascii();
    if let Some(base64) = text.strip_prefix(b"0s") {
        return decode_base64(base64);
    }
    let digits = text.strip_prefix(b"0x").unwrap_or(text);
    let mut octets = Zeroizing::new(Vec::with_capacity(digits.len() / 2));
    let (pairs, rest) = digits.as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    for [high, low] in pairs {
        octets.push((hex_digit(*high)? << 4) | hex_digit(*low)?);
    }
    Some(octets)
}

fn hex_digit(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

/// RFC 4648 section 4, padding optional.
fn decode_base64(text: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let text = text.trim_ascii();
    let unpadded = text.strip_suffix(b"==").or_else(|| text.strip_suffix(b"=")).unwrap_or(text);
    let mut octets = Zeroizing::new(Vec::with_capacity(unpadded.len()));
    let (mut bits, mut count) = (0_u32, 0_u32);
    for character in unpadded {
        let value = match character {
            b'A'..=b'Z' => character - b'A',
            b'a'..=b'z' => character - b'a' + 26,
            b'0'..=b'9' => character - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = (bits << 6) | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            octets.push((bits >> count) as u8);
            bits &= (1 << count) - 1;
        }
    }
    // What is left over must be fewer than six bits, all zero.
    let whole = count < 6 && bits == 0;
    bits.zeroize();
    whole.then_some(octets)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    fn source(path: &Path) -> KeySource {
        let place = Place { file: "f".into(), line: 1, column: 2, key: "k".into() };
        KeySource { origin: KeyOrigin::File(path.to_owned()), place, len: 4 }
    }

    #[test]
    fn texts() {
        let hex = |text: &str| decode(text.as_bytes()).map(|octets| octets.to_vec());
        assert_eq!(hex("0x00fF10a0\n"), Some(vec![0, 255, 16, 160]));
        assert_eq!(hex("00ff10a0"), Some(vec![0, 255, 16, 160]));
        assert_eq!(hex("0sAP8QoA=="), Some(vec![0, 255, 16, 160]));
        assert_eq!(hex("0sAP8QoA"), Some(vec![0, 255, 16, 160]));
        for bad in ["0x0", "zz", "0sA", "0sAP8Qo", "0s*", "0sAP8QoB", "00 ff"] {
            assert_eq!(hex(bad), None, "{bad}");
        }
    }

    #[test]
    fn cfg_04_key_files() {
        let directory = std::env::temp_dir().join(format!("xswan-keys-{}", std::process::id()));
        std::fs::create_dir_all(&directory).expect("made");
        let file = directory.join("key");
        let refused = |path: &Path, word: &str| {
            let text = source(path).load().expect_err(word).to_string();
            assert!(text.starts_with("f:1:2: k: ") && text.contains(word), "{text}");
            assert!(!text.contains('\n'));
        };
        let write = |content: &str, mode: u32| {
            let _old = std::fs::remove_file(&file);
            std::fs::write(&file, content).expect("written");
            std::fs::set_permissions(&file, PermissionsExt::from_mode(mode)).expect("mode");
        };
        refused(&file, "No such file");
        refused(&directory, "not a regular file");
        write("01020304", 0o600);
        assert_eq!(source(&file).load().expect("good").expose(), [1, 2, 3, 4]);
        write("01020304", 0o400);
        source(&file).load().expect("good");
        for mode in [0o640, 0o604, 0o620, 0o602, 0o610, 0o644] {
            write("01020304", mode);
            refused(&file, "lets others in");
        }
        write("010203", 0o600);
        refused(&file, "3 octets");
        write("00000000", 0o600);
        refused(&file, "all zeros");
        write("secret!!", 0o600);
        let text = source(&file).load().expect_err("not hex").to_string();
        assert!(!text.contains("secret"), "{text}");
        write(&"0".repeat((1 << 20) + 1), 0o600);
        refused(&file, "longer than any key");
        let fifo = directory.join("fifo");
        let made = std::process::Command::new("mkfifo").arg(&fifo).status().expect("mkfifo runs");
        assert!(made.success());
        refused(&fifo, "not a regular file");
        write("01020304", 0o600);
        // Only root can give a file away.
        if std::os::unix::fs::chown(&file, Some(12_345), None).is_ok() {
            refused(&file, "belongs to user 12345");
        }
        std::fs::remove_dir_all(&directory).expect("removed");
    }

    #[test]
    fn secrets_are_not_printed() {
        let secret = Secret::new(b"hunter2".to_vec());
        assert_eq!(format!("{secret:?}"), "Secret(redacted)");
    }
}
