//! One control and one dataplane per instance: the guard of every "single writer" here.
//!
//! An advisory lock on a file, held by the open descriptor: it is gone with the process,
//! however it ends, and never stale.

use std::fmt;
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// Which daemon this process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// `xswan-control`: writes config halves, policies, steering.
    Control,
    /// `xswan-dataplane`: writes live halves and replay windows.
    Dataplane,
}

impl Role {
    /// The word in file names and messages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Control => "control",
            Self::Dataplane => "dataplane",
        }
    }
}

/// The right to be the one of its role; given up on drop.
#[derive(Debug)]
pub struct InstanceLock {
    _file: File,
}

/// Why the lock cannot be had.
#[derive(Debug)]
pub enum LockError {
    /// Another process has it.
    Held {
        /// The lock file.
        path: PathBuf,
        /// The role.
        role: Role,
        /// What that process wrote of itself: its process id.
        holder: String,
    },
    /// The file cannot be made or locked.
    Io {
        /// The lock file.
        path: PathBuf,
        /// The kernel's reason.
        error: io::Error,
    },
}

impl fmt::Display for LockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Held { path, role, holder } => write!(
                f,
                "{}: another {} of this instance is running (process {holder}); stop it first",
                path.display(),
                role.name()
            ),
            Self::Io { path, error } => write!(f, "{}: {error}", path.display()),
        }
    }
}

impl std::error::Error for LockError {}

impl InstanceLock {
    /// Takes the lock of a role in `<run_dir>/<instance>`, making the directory if need be.
    ///
    /// # Errors
    /// [`LockError::Held`] if another process has the role.
    pub fn acquire(directory: &Path, role: Role) -> Result<Self, LockError> {
        let path = directory.join(format!("{}.lock", role.name()));
        let io = |error| LockError::Io { path: path.clone(), error };
        DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(io)?;
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(io)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // Only for the message: unreadable is as good as empty.
                let _unread = file.take(20).read_to_string(&mut holder);
                let holder = holder.trim().to_owned();
                return Err(LockError::Held { path, role, holder });
            }
            Err(TryLockError::Error(error)) => return Err(io(error)),
        }
        file.set_len(0).map_err(io)?;
        file.rewind().map_err(io)?;
        writeln!(file, "{}", std::process::id()).map_err(io)?;
        Ok(Self { _file: file })
    }

    /// Whether some process has the role at this moment.
    #[must_use]
    pub fn is_held(directory: &Path, role: Role) -> bool {
        let path = directory.join(format!("{}.lock", role.name()));
        let Ok(file) = File::open(path) else { return false };
        matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))
    }
}
