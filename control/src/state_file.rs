//! What must survive the daemon, in one encrypted file (design: state survives a kill -9).
//!
//! ```text
//! magic 8 | nonce 12 | AES-256-GCM(version 1, length implied, octets) | tag 16
//! ```
//! The key is in a file of its own beside it, made at the first start; both are of mode 0600 and
//! replaced as a whole (write, rename), so a kill leaves the old file or the new one. The disk is
//! not waited for: after a reboot the tunnels that this is about are gone.
//! Only the owner reads either; the encryption is for what leaves the machine without the key:
//! backups, core dumps of other programs, a disk that is taken out while the run directory is in
//! memory.
//!
//! Guarantees: what is loaded is what was saved by this machine, in this version, complete; or it
//! is an error that says which of these it is not, and nothing of it is used.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::rand::fill;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

const MAGIC: &[u8; 8] = b"xswanst1";
const KEY_LEN: usize = 32;
/// Larger than any state of 10^5 IKE SAs.
const MAX_OCTETS: u64 = 512 << 20;

/// The file and its key.
#[derive(Debug)]
pub struct StateFile {
    path: PathBuf,
    key_path: PathBuf,
}

fn describe(path: &Path, error: &io::Error) -> String {
    format!("{}: {error}", path.display())
}

fn read_private(path: &Path, most: u64) -> Result<Option<Zeroizing<Vec<u8>>>, String> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(describe(path, &error)),
    };
    let metadata = file.metadata().map_err(|error| describe(path, &error))?;
    if metadata.mode() & 0o077 != 0 {
        return Err(format!("{}: open to others than its owner", path.display()));
    }
    if metadata.len() > most {
        return Err(format!("{}: {} octets are too many", path.display(), metadata.len()));
    }
    let mut octets = Zeroizing::new(Vec::with_capacity(metadata.len() as usize));
    file.read_to_end(&mut octets).map_err(|error| describe(path, &error))?;
    Ok(Some(octets))
}

fn write_private(path: &Path, octets: &[u8]) -> Result<(), String> {
    let temporary = path.with_extension("new");
    let result = (|| {
        // A leftover of a crash may have another owner's mode.
        match std::fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(octets)?;
        std::fs::rename(&temporary, path)
    })();
    result.map_err(|error: io::Error| describe(path, &error))
}

impl StateFile {
    /// The state of a daemon whose run directory this is. Nothing is read or written yet.
    #[must_use]
    pub fn in_directory(directory: &Path) -> Self {
        Self { path: directory.join("ike.state"), key_path: directory.join("ike.state.key") }
    }

    fn key(&self, create: bool) -> Result<Option<LessSafeKey>, String> {
        let octets = match read_private(&self.key_path, KEY_LEN as u64)? {
            Some(octets) if octets.len() == KEY_LEN => octets,
            Some(_) => return Err(format!("{}: damaged", self.key_path.display())),
            None if create => {
                let mut octets = Zeroizing::new(vec![0; KEY_LEN]);
                fill(&mut octets).map_err(|_| "no random numbers".to_owned())?;
                write_private(&self.key_path, &octets)?;
                octets
            }
            None => return Ok(None),
        };
        let key = UnboundKey::new(&AES_256_GCM, &octets).map_err(|_| "no key".to_owned())?;
        Ok(Some(LessSafeKey::new(key)))
    }

    /// What was saved last; `None` if nothing was.
    ///
    /// # Errors
    /// One line: damaged, of another machine or version, or not readable.
    pub fn load(&self) -> Result<Option<Zeroizing<Vec<u8>>>, String> {
        let Some(mut octets) = read_private(&self.path, MAX_OCTETS)? else { return Ok(None) };
        let wrong = |what: &str| format!("{}: {what}", self.path.display());
        let (head, _) = octets.split_at_checked(MAGIC.len()).ok_or_else(|| wrong("truncated"))?;
        if head != MAGIC {
            return Err(wrong("not of this version"));
        }
        let key = self.key(false)?.ok_or_else(|| wrong("its key is gone"))?;
        let nonce: [u8; NONCE_LEN] = octets
            .get(MAGIC.len()..MAGIC.len() + NONCE_LEN)
            .and_then(|nonce| nonce.try_into().ok())
            .ok_or_else(|| wrong("truncated"))?;
        let sealed = octets.get_mut(MAGIC.len() + NONCE_LEN..).unwrap_or_default();
        let nonce = Nonce::assume_unique_for_key(nonce);
        let opened = key
            .open_in_place(nonce, Aad::from(MAGIC), sealed)
            .map_err(|_| wrong("damaged, or of another machine"))?;
        Ok(Some(Zeroizing::new(opened.to_vec())))
    }

    /// Replaces what was saved.
    ///
    /// # Errors
    /// One line; the state before is still there.
    pub fn save(&self, octets: &[u8]) -> Result<(), String> {
        let key = self.key(true)?.ok_or("no key")?;
        let mut nonce = [0; NONCE_LEN];
        fill(&mut nonce).map_err(|_| "no random numbers".to_owned())?;
        let mut file = Vec::with_capacity(MAGIC.len() + NONCE_LEN + octets.len() + 16);
        file.extend_from_slice(MAGIC);
        file.extend_from_slice(&nonce);
        let mut sealed = Zeroizing::new(octets.to_vec());
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tag = key
            .seal_in_place_separate_tag(nonce, Aad::from(MAGIC), &mut sealed)
            .map_err(|_| "cannot encrypt".to_owned())?;
        file.extend_from_slice(&sealed);
        file.extend_from_slice(tag.as_ref());
        write_private(&self.path, &file)
    }

    /// Forgets everything.
    ///
    /// # Errors
    /// One line.
    pub fn remove(&self) -> Result<(), String> {
        for path in [&self.path, &self.key_path] {
            match std::fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(describe(path, &error));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("xswan-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&path).expect("a directory");
            Self(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn what_is_saved_is_loaded_and_only_the_owner_can() {
        let scratch = Scratch::new("state-owner");
        let state = StateFile::in_directory(&scratch.0);
        assert_eq!(state.load(), Ok(None));
        for octets in [&b"one"[..], &[], &[7; 100_000]] {
            state.save(octets).expect("saved");
            let loaded = state.load().expect("whole").expect("there");
            assert_eq!(loaded.as_slice(), octets);
        }
        for file in std::fs::read_dir(&scratch.0).expect("a directory") {
            let mode = file.expect("an entry").metadata().expect("metadata").permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        let raw = std::fs::read(scratch.0.join("ike.state")).expect("readable");
        assert!(!raw.windows(16).any(|part| part == [7; 16]));
        state.remove().expect("removed");
        assert_eq!(state.load(), Ok(None));
    }

    #[test]
    fn ctl_05_damage_of_every_kind_is_refused() {
        let scratch = Scratch::new("state-damage");
        let state = StateFile::in_directory(&scratch.0);
        state.save(b"tunnels").expect("saved");
        let path = scratch.0.join("ike.state");
        let whole = std::fs::read(&path).expect("readable");
        for length in 0..whole.len() {
            std::fs::write(&path, whole.get(..length).unwrap_or_default()).expect("written");
            assert!(state.load().is_err(), "truncated to {length}");
        }
        for position in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[position] ^= 1;
            std::fs::write(&path, &damaged).expect("written");
            assert!(state.load().is_err(), "bit of octet {position}");
        }
        std::fs::write(&path, &whole).expect("written");
        std::fs::write(scratch.0.join("ike.state.key"), [9; KEY_LEN]).expect("written");
        assert!(state.load().is_err(), "another machine's key");
        std::fs::remove_file(scratch.0.join("ike.state.key")).expect("removed");
        assert!(state.load().is_err(), "no key");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).expect("mode");
        assert!(state.load().expect_err("open").contains("open to others"));
    }

    #[test]
    fn ctl_06_a_failed_save_leaves_the_old_state() {
        let scratch = Scratch::new("state-full");
        let state = StateFile::in_directory(&scratch.0);
        state.save(b"old").expect("saved");
        // A directory in the way of the temporary file: what a full disk does, without one.
        let blocked = scratch.0.join("ike.new");
        std::fs::create_dir(&blocked).expect("a directory");
        assert!(state.save(b"new").is_err());
        assert_eq!(state.load().expect("whole").expect("there").as_slice(), b"old");
    }
}
