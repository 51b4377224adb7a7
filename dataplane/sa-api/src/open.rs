//! Opening the pinned maps, or making them: whoever comes first decides, atomically by the
//! pin, and the others take what is there or refuse.

use crate::doorbell::doorbell_words;
use crate::header::{Geometry, HEADER_LEN, Header, LAYOUT_VERSION};
use crate::policy::ROW_WORDS;
use crate::record::RECORD_WORDS;
use crate::ring::RING_WORDS;
use crate::sys::{self, ElementMap, MapShape, MapType};
use std::fmt;
use std::fs::DirBuilder;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use xswan_steer::spi::SLOT_BITS;

/// Why the maps cannot be had.
#[derive(Debug)]
pub enum OpenError {
    /// The directory is not on a BPF file system.
    NotBpfFs {
        /// The directory.
        path: PathBuf,
    },
    /// The directory cannot be made or looked at.
    Directory {
        /// The directory.
        path: PathBuf,
        /// The kernel's reason.
        error: io::Error,
    },
    /// A map cannot be made, pinned, opened or mapped.
    Map {
        /// Where it is pinned.
        path: PathBuf,
        /// The kernel's reason.
        error: io::Error,
    },
    /// The maps that are there have another layout or geometry.
    Mismatch {
        /// Which one.
        path: PathBuf,
        /// What differs.
        difference: String,
    },
    /// The geometry makes no sense.
    Geometry {
        /// Which figure.
        what: &'static str,
    },
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotBpfFs { path } => write!(
                f,
                "{}: not on a BPF file system; mount one: mount -t bpf bpf /sys/fs/bpf",
                path.display()
            ),
            Self::Directory { path, error } | Self::Map { path, error } => {
                write!(f, "{}: {error}{}", path.display(), mend(error))
            }
            Self::Mismatch { path, difference } => {
                let directory = path.parent().unwrap_or(path);
                write!(
                    f,
                    "{}: made with {difference}; stop both daemons and remove {} to start anew",
                    path.display(),
                    directory.display()
                )
            }
            Self::Geometry { what } => write!(f, "{what} is out of range"),
        }
    }
}

impl std::error::Error for OpenError {}

/// The command or right that mends an error of the kernel's.
fn mend(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => "; CAP_BPF and CAP_NET_ADMIN are needed",
        Some(libc::EROFS) => "; remount the BPF file system read-write",
        Some(libc::ENOMEM | libc::ENOSPC) => "; make the maps smaller or give more memory",
        _ => "",
    }
}

/// Opens the pinned map of this name, or makes and pins it; if another process is faster,
/// opens that one's.
pub(crate) fn open_or_create_map(
    directory: &Path,
    name: &str,
    shape: &MapShape,
) -> Result<OwnedFd, OpenError> {
    let path = directory.join(name);
    let failed = |error| OpenError::Map { path: path.clone(), error };
    let map = match sys::open_pinned(&path) {
        Ok(map) => map,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let map = sys::create(name, shape).map_err(failed)?;
            match sys::pin(map.as_fd(), &path) {
                Ok(()) => map,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    sys::open_pinned(&path).map_err(failed)?
                }
                Err(error) => return Err(failed(error)),
            }
        }
        Err(error) => return Err(failed(error)),
    };
    let found = sys::shape_of(map.as_fd()).map_err(failed)?;
    if found == *shape {
        return Ok(map);
    }
    Err(OpenError::Mismatch {
        path,
        difference: format!("{found:?}, this process wants {shape:?}"),
    })
}

pub(crate) fn ensure_directory(directory: &Path) -> Result<(), OpenError> {
    let failed = |error| OpenError::Directory { path: directory.to_owned(), error };
    // The nearest ancestor that exists tells the file system before anything is made.
    let ancestor = directory.ancestors().find(|path| path.exists()).unwrap_or(directory);
    if !sys::is_bpf_fs(ancestor).map_err(failed)? {
        return Err(OpenError::NotBpfFs { path: directory.to_owned() });
    }
    DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed)
}

pub(crate) fn open_header(directory: &Path, geometry: &Geometry) -> Result<Header, OpenError> {
    const NAME: &str = "xswan_header";
    let path = directory.join(NAME);
    let failed = |error| OpenError::Map { path: path.clone(), error };
    let shape = MapShape {
        kind: MapType::Array as u32,
        key_size: 4,
        value_size: HEADER_LEN as u32,
        max_entries: 1,
        flags: 0,
    };
    let index = 0_u32.to_ne_bytes();
    let map = match sys::open_pinned(&path) {
        Ok(map) => map,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let map = sys::create(NAME, &shape).map_err(failed)?;
            // Filled before anyone can see it.
            let header = fresh_header(*geometry).map_err(failed)?;
            let elements = ElementMap::new(map.try_clone().map_err(failed)?).map_err(failed)?;
            elements.update(&index, &header.to_bytes()).map_err(failed)?;
            match sys::pin(map.as_fd(), &path) {
                Ok(()) => map,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    sys::open_pinned(&path).map_err(failed)?
                }
                Err(error) => return Err(failed(error)),
            }
        }
        Err(error) => return Err(failed(error)),
    };
    let mismatch = |difference| OpenError::Mismatch { path: path.clone(), difference };
    if sys::shape_of(map.as_fd()).map_err(failed)? != shape {
        return Err(mismatch("another layout".to_owned()));
    }
    let mut bytes = [0; HEADER_LEN];
    ElementMap::new(map).and_then(|map| map.lookup(&index, &mut bytes)).map_err(failed)?;
    let header =
        Header::from_bytes(&bytes).ok_or_else(|| mismatch("an unknown header".to_owned()))?;
    match header.difference(geometry) {
        None => Ok(header),
        Some(difference) => Err(mismatch(difference.to_string())),
    }
}

pub(crate) fn fresh_header(geometry: Geometry) -> io::Result<Header> {
    let mut random = [0_u8; 16];
    sys::random(&mut random)?;
    let mut spi_key = [0; 4];
    for (word, chunk) in spi_key.iter_mut().zip(random.as_chunks::<4>().0) {
        *word = u32::from_ne_bytes(*chunk);
    }
    Ok(Header { version: LAYOUT_VERSION, geometry, spi_key })
}

/// Name, words of a record, number of records.
pub(crate) type Layout = (&'static str, usize, u32);

pub(crate) fn layouts(geometry: &Geometry) -> [Layout; 6] {
    [
        ("sa_in", RECORD_WORDS, geometry.sa_slots),
        ("sa_out", RECORD_WORDS, geometry.sa_slots),
        ("policy", ROW_WORDS, geometry.policies.saturating_add(1)),
        ("doorbell", doorbell_words(geometry.sa_slots), 1),
        ("events", RING_WORDS, geometry.workers),
        ("replay", 1, geometry.replay_words),
    ]
}

pub(crate) fn check_geometry(geometry: &Geometry) -> Result<(), OpenError> {
    let checks = [
        ("sa_slots", geometry.sa_slots, 1..=1 << SLOT_BITS),
        ("policies", geometry.policies, 1..=1 << 20),
        ("replay_words", geometry.replay_words, 1..=1 << 28),
        ("workers", geometry.workers, 1..=xswan_steer::abi::MAX_WORKERS),
        ("member", geometry.member, 0..=15),
    ];
    match checks.into_iter().find(|(_, value, range)| !range.contains(value)) {
        None => Ok(()),
        Some((what, ..)) => Err(OpenError::Geometry { what }),
    }
}
