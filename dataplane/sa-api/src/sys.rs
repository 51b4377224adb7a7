//! The system calls: bpf(2) and mmap(2), one function each, errors as `io::Error`.
//!
//! Safe to call with any argument: what the kernel reads or writes is always a buffer
//! whose length this module knows, and a wrong map or size is the kernel's error to give.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

const BPF_MAP_CREATE: libc::c_int = 0;
const BPF_MAP_LOOKUP_ELEM: libc::c_int = 1;
const BPF_MAP_UPDATE_ELEM: libc::c_int = 2;
const BPF_MAP_DELETE_ELEM: libc::c_int = 3;
const BPF_MAP_GET_NEXT_KEY: libc::c_int = 4;
const BPF_OBJ_PIN: libc::c_int = 6;
const BPF_OBJ_GET: libc::c_int = 7;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_int = 15;

/// `BPF_FS_MAGIC` of linux/magic.h.
const BPF_FS_MAGIC: u32 = 0xcafe_4a11;

/// `enum bpf_map_type` of linux/bpf.h, those used here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum MapType {
    Hash = 1,
    Array = 2,
    LpmTrie = 11,
}

/// `BPF_F_NO_PREALLOC`: an LPM trie insists on it.
pub(crate) const NO_PREALLOC: u32 = 1;
/// `BPF_F_MMAPABLE`.
pub(crate) const MMAPABLE: u32 = 1 << 10;

/// What a map is; also what the kernel says of an existing one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MapShape {
    pub(crate) kind: u32,
    pub(crate) key_size: u32,
    pub(crate) value_size: u32,
    pub(crate) max_entries: u32,
    pub(crate) flags: u32,
}

/// Head of `union bpf_attr` for `BPF_MAP_CREATE`.
#[repr(C)]
struct CreateAttr {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    map_flags: u32,
    inner_map_fd: u32,
    numa_node: u32,
    map_name: [u8; 16],
}

/// Head of `union bpf_attr` for the element commands.
#[repr(C)]
struct ElementAttr {
    map_fd: u32,
    padding: u32,
    key: u64,
    value_or_next: u64,
    flags: u64,
}

/// Head of `union bpf_attr` for `BPF_OBJ_PIN` and `BPF_OBJ_GET`.
#[repr(C)]
struct ObjectAttr {
    pathname: u64,
    bpf_fd: u32,
    file_flags: u32,
}

/// Head of `union bpf_attr` for `BPF_OBJ_GET_INFO_BY_FD`.
#[repr(C)]
struct InfoAttr {
    bpf_fd: u32,
    info_len: u32,
    info: u64,
}

/// Head of `struct bpf_map_info`.
#[repr(C)]
#[derive(Default)]
struct MapInfo {
    kind: u32,
    id: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    map_flags: u32,
    name: [u8; 16],
}

const _: () = assert!(size_of::<CreateAttr>() == 44);
const _: () = assert!(size_of::<ElementAttr>() == 32);
const _: () = assert!(size_of::<ObjectAttr>() == 16);
const _: () = assert!(size_of::<InfoAttr>() == 16);
const _: () = assert!(size_of::<MapInfo>() == 40);

fn bpf<A>(command: libc::c_int, attr: &mut A) -> io::Result<libc::c_long> {
    // SAFETY: `attr` is a live, initialised prefix of union bpf_attr and its length goes with
    // it; the pointers inside were taken by the callers below from buffers that outlive the call.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of::<A>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn owned(fd: libc::c_long) -> io::Result<OwnedFd> {
    let fd = libc::c_int::try_from(fd).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
    // SAFETY: the kernel has just given this descriptor to us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn raw(fd: BorrowedFd<'_>) -> u32 {
    u32::try_from(fd.as_raw_fd()).unwrap_or(u32::MAX)
}

fn address<T>(bytes: &[T]) -> u64 {
    bytes.as_ptr().addr() as u64
}

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes())
        .map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))
}

/// Creates a map; the name is cut to 15 bytes.
pub(crate) fn create(name: &str, shape: &MapShape) -> io::Result<OwnedFd> {
    let mut map_name = [0_u8; 16];
    for (to, from) in map_name.iter_mut().take(15).zip(name.bytes()) {
        *to = from;
    }
    let mut attr = CreateAttr {
        map_type: shape.kind,
        key_size: shape.key_size,
        value_size: shape.value_size,
        max_entries: shape.max_entries,
        map_flags: shape.flags,
        inner_map_fd: 0,
        numa_node: 0,
        map_name,
    };
    owned(bpf(BPF_MAP_CREATE, &mut attr)?)
}

/// Pins a map under a path that must not exist yet.
pub(crate) fn pin(map: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = c_path(path)?;
    let mut attr =
        ObjectAttr { pathname: address(path.as_bytes_with_nul()), bpf_fd: raw(map), file_flags: 0 };
    bpf(BPF_OBJ_PIN, &mut attr).map(drop)
}

/// Opens a pinned map for reading and writing.
pub(crate) fn open_pinned(path: &Path) -> io::Result<OwnedFd> {
    let path = c_path(path)?;
    let mut attr =
        ObjectAttr { pathname: address(path.as_bytes_with_nul()), bpf_fd: 0, file_flags: 0 };
    owned(bpf(BPF_OBJ_GET, &mut attr)?)
}

/// What the kernel says the map is.
pub(crate) fn shape_of(map: BorrowedFd<'_>) -> io::Result<MapShape> {
    let mut info = [MapInfo::default()];
    let mut attr = InfoAttr {
        bpf_fd: raw(map),
        info_len: size_of::<MapInfo>() as u32,
        info: info.as_mut_ptr().expose_provenance() as u64,
    };
    bpf(BPF_OBJ_GET_INFO_BY_FD, &mut attr)?;
    let [info] = info;
    Ok(MapShape {
        kind: info.kind,
        key_size: info.key_size,
        value_size: info.value_size,
        max_entries: info.max_entries,
        flags: info.map_flags,
    })
}

/// A map of which this process knows key and value size, so that no buffer can be short.
#[derive(Debug)]
pub(crate) struct ElementMap {
    map: OwnedFd,
    shape: MapShape,
}

impl ElementMap {
    /// Takes the map and asks the kernel for its sizes.
    pub(crate) fn new(map: OwnedFd) -> io::Result<Self> {
        use std::os::fd::AsFd;
        let shape = shape_of(map.as_fd())?;
        Ok(Self { map, shape })
    }

    fn check(&self, key: &[u8], value: Option<&[u8]>) -> io::Result<()> {
        let value_fits = value.is_none_or(|value| value.len() == self.shape.value_size as usize);
        if key.len() == self.shape.key_size as usize && value_fits {
            Ok(())
        } else {
            Err(io::Error::from(io::ErrorKind::InvalidInput))
        }
    }

    fn element(&self, key: &[u8], value_or_next: u64) -> ElementAttr {
        use std::os::fd::AsFd;
        let map_fd = raw(self.map.as_fd());
        ElementAttr { map_fd, padding: 0, key: address(key), value_or_next, flags: 0 }
    }

    /// Writes an element, new or not.
    pub(crate) fn update(&self, key: &[u8], value: &[u8]) -> io::Result<()> {
        self.check(key, Some(value))?;
        let mut attr = self.element(key, address(value));
        bpf(BPF_MAP_UPDATE_ELEM, &mut attr).map(drop)
    }

    /// Reads an element into `value`; false if there is none.
    pub(crate) fn lookup(&self, key: &[u8], value: &mut [u8]) -> io::Result<bool> {
        self.check(key, Some(value))?;
        let mut attr = self.element(key, value.as_mut_ptr().expose_provenance() as u64);
        absent_is_false(bpf(BPF_MAP_LOOKUP_ELEM, &mut attr))
    }

    /// Deletes an element; false if there was none.
    pub(crate) fn delete(&self, key: &[u8]) -> io::Result<bool> {
        self.check(key, None)?;
        let mut attr = self.element(key, 0);
        absent_is_false(bpf(BPF_MAP_DELETE_ELEM, &mut attr))
    }

    /// Every key there is; concurrent changes may repeat or miss one.
    pub(crate) fn keys(&self) -> io::Result<Vec<Vec<u8>>> {
        let mut keys: Vec<Vec<u8>> = Vec::new();
        // A hash map that changes under the walk may start over: bounded by twice its size.
        for _ in 0..=self.shape.max_entries.saturating_mul(2) {
            let mut next = vec![0_u8; self.shape.key_size as usize];
            let next_address = next.as_mut_ptr().expose_provenance() as u64;
            let mut attr = match keys.last() {
                Some(key) => self.element(key, next_address),
                None => ElementAttr { key: 0, ..self.element(&[], next_address) },
            };
            if !absent_is_false(bpf(BPF_MAP_GET_NEXT_KEY, &mut attr))? {
                break;
            }
            keys.push(next);
        }
        Ok(keys)
    }
}

fn absent_is_false(result: io::Result<libc::c_long>) -> io::Result<bool> {
    match result {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether the path lies on a BPF file system.
pub(crate) fn is_bpf_fs(path: &Path) -> io::Result<bool> {
    let path = c_path(path)?;
    let mut stat = std::mem::MaybeUninit::<libc::statfs>::zeroed();
    // SAFETY: the path is NUL-terminated and `stat` is as large as the call fills.
    let result = unsafe { libc::statfs(path.as_ptr(), stat.as_mut_ptr()) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: all-zero bytes are a valid statfs, and the call has filled it.
    let stat = unsafe { stat.assume_init() };
    // The field's type differs between architectures; the magic has 32 bits.
    Ok(stat.f_type as u32 == BPF_FS_MAGIC)
}

/// A shared mapping of whole 64-bit words, unmapped on drop.
#[derive(Debug)]
pub(crate) struct Region {
    start: NonNull<AtomicU64>,
    words: usize,
}

// SAFETY: the memory is only reached as atomics (or through `Region::exclusive`, whose caller
// answers for exclusiveness), and it belongs to no thread.
unsafe impl Send for Region {}
// SAFETY: as above: `&Region` gives out `&[AtomicU64]` only.
unsafe impl Sync for Region {}

impl Region {
    /// Maps the first `words` words of a `BPF_F_MMAPABLE` array.
    pub(crate) fn of_map(map: BorrowedFd<'_>, words: usize) -> io::Result<Self> {
        Self::map(words, libc::MAP_SHARED, map.as_raw_fd())
    }

    /// Zeroed memory shared with nobody but children of fork.
    pub(crate) fn anonymous(words: usize) -> io::Result<Self> {
        Self::map(words, libc::MAP_SHARED | libc::MAP_ANONYMOUS, -1)
    }

    fn map(words: usize, flags: libc::c_int, fd: libc::c_int) -> io::Result<Self> {
        let invalid = || io::Error::from(io::ErrorKind::InvalidInput);
        let bytes = words.checked_mul(8).filter(|bytes| *bytes > 0).ok_or_else(invalid)?;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice disturbs nothing; the
        // arguments are checked by the kernel.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), bytes, protection, flags, fd, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        // mmap never returns null unless asked to.
        let start = NonNull::new(start.cast::<AtomicU64>()).ok_or_else(invalid)?;
        Ok(Self { start, words })
    }

    /// All words.
    pub(crate) fn words(&self) -> &[AtomicU64] {
        // SAFETY: `start` is page-aligned and maps `words` words, readable and writable until
        // drop; any bytes are valid atomics; other processes change them as atomics change.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.words) }
    }

    /// Words as plain memory, `None` if out of range.
    ///
    /// # Safety
    /// For as long as the slice is used nobody else in this process may reach these words,
    /// and the region must live.
    pub(crate) unsafe fn exclusive(&self, offset: usize, len: usize) -> Option<NonNull<[u64]>> {
        if offset.checked_add(len)? > self.words {
            return None;
        }
        // SAFETY: `offset` is within the mapping, checked above.
        let start = unsafe { self.start.add(offset) };
        Some(NonNull::slice_from_raw_parts(start.cast::<u64>(), len))
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: mapped by `map` with this length; no slice outlives the region.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.words * 8) };
    }
}

/// Milliseconds of `CLOCK_BOOTTIME`.
pub(crate) fn boot_time_ms() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a live timespec; the clock exists on every kernel that has AF_XDP.
    unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut time) };
    (time.tv_sec as u64).wrapping_mul(1000).wrapping_add(time.tv_nsec as u64 / 1_000_000)
}

/// Fills the buffer with random octets from the kernel.
pub(crate) fn random(buffer: &mut [u8]) -> io::Result<()> {
    // SAFETY: pointer and length are those of a live, writable buffer.
    let got = unsafe { libc::getrandom(buffer.as_mut_ptr().cast(), buffer.len(), 0) };
    if usize::try_from(got) == Ok(buffer.len()) { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// No core dumps, and no other process of the same user may read this one's memory.
pub(crate) fn disable_core_dumps() -> io::Result<()> {
    // SAFETY: takes numbers only.
    let undumpable = unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) };
    let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `none` is a live rlimit that the call only reads.
    let limited = unsafe { libc::setrlimit(libc::RLIMIT_CORE, &raw const none) };
    if undumpable == 0 && limited == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
