//! Sockets and memory from the kernel, each error with its number.

use std::io;
use std::mem::{size_of, zeroed};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::AtomicU32;

use crate::own::ring::{Consumer, Entry, Layout, Producer};
use crate::sys;

/// Memory mapped, to be unmapped when it is dropped.
pub(super) struct Mapping {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: a pointer that is used only to unmap; who reaches the memory is ruled elsewhere.
unsafe impl Send for Mapping {}

impl Mapping {
    /// Memory of our own, filled with zeros; `huge` takes huge pages of the default size.
    pub(super) fn anonymous(len: usize, huge: bool) -> io::Result<Self> {
        let huge = if huge { libc::MAP_HUGETLB } else { 0 };
        Self::map(len, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_POPULATE | huge, -1, 0)
    }

    fn map(len: usize, flags: i32, fd: RawFd, offset: libc::off_t) -> io::Result<Self> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping at a place that the kernel chooses.
        let address = unsafe { libc::mmap(ptr::null_mut(), len, protection, flags, fd, offset) };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(address.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { base, len })
    }

    pub(super) const fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// A place in the mapping for a `T`.
    fn place<T>(&self, offset: u64, count: usize) -> io::Result<NonNull<T>> {
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        let end = size_of::<T>().checked_mul(count).and_then(|len| len.checked_add(offset));
        let aligned = offset.is_multiple_of(align_of::<T>());
        if end.is_none_or(|end| end > self.len) || !aligned {
            return Err(io::Error::other("the kernel's ring is laid out in an unknown way"));
        }
        // SAFETY: within the mapping.
        Ok(unsafe { self.base.add(offset) }.cast())
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped in `map` with this length, unmapped only here.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.len) };
    }
}

/// A ring's side together with its memory.
pub(super) struct Mapped<Side> {
    pub(super) side: Side,
    /// After the side, which points into it.
    _memory: Mapping,
}

/// Which of a socket's four rings.
#[derive(Clone, Copy, Debug)]
pub(super) enum Which {
    Rx,
    Tx,
    Fill,
    Completion,
}

impl Which {
    const fn option(self) -> libc::c_int {
        match self {
            Self::Rx => libc::XDP_RX_RING,
            Self::Tx => libc::XDP_TX_RING,
            Self::Fill => libc::XDP_UMEM_FILL_RING,
            Self::Completion => libc::XDP_UMEM_COMPLETION_RING,
        }
    }

    const fn page_offset(self) -> libc::off_t {
        match self {
            Self::Rx => libc::XDP_PGOFF_RX_RING,
            Self::Tx => libc::XDP_PGOFF_TX_RING,
            Self::Fill => libc::XDP_UMEM_PGOFF_FILL_RING as libc::off_t,
            Self::Completion => libc::XDP_UMEM_PGOFF_COMPLETION_RING as libc::off_t,
        }
    }
}

/// Makes one of the socket's rings, of `size` entries, and takes its producing side.
pub(super) fn producer<T: Entry>(
    fd: RawFd,
    which: Which,
    size: u32,
) -> io::Result<Mapped<Producer<T>>> {
    let (memory, layout) = ring(fd, which, size)?;
    // SAFETY: the kernel's ring, mapped as long as `memory`, made above and taken once.
    Ok(Mapped { side: unsafe { Producer::new(layout) }, _memory: memory })
}

/// As [`producer`], the consuming side.
pub(super) fn consumer<T: Entry>(
    fd: RawFd,
    which: Which,
    size: u32,
) -> io::Result<Mapped<Consumer<T>>> {
    let (memory, layout) = ring(fd, which, size)?;
    // SAFETY: as in `producer`.
    Ok(Mapped { side: unsafe { Consumer::new(layout) }, _memory: memory })
}

fn ring<T: Entry>(fd: RawFd, which: Which, size: u32) -> io::Result<(Mapping, Layout<T>)> {
    sys::set(fd, libc::SOL_XDP, which.option(), &size)?;
    let offsets = offsets(fd)?;
    let at = match which {
        Which::Rx => offsets.rx,
        Which::Tx => offsets.tx,
        Which::Fill => offsets.fr,
        Which::Completion => offsets.cr,
    };
    let len = usize::try_from(at.desc).unwrap_or(usize::MAX);
    let len = len.saturating_add((size as usize).saturating_mul(size_of::<T>()));
    let flags = libc::MAP_SHARED | libc::MAP_POPULATE;
    let memory = Mapping::map(len, flags, fd, which.page_offset())?;
    let layout = Layout {
        producer: memory.place::<AtomicU32>(at.producer, 1)?,
        consumer: memory.place::<AtomicU32>(at.consumer, 1)?,
        flags: memory.place::<AtomicU32>(at.flags, 1)?,
        entries: memory.place::<T>(at.desc, size as usize)?,
        size,
    };
    Ok((memory, layout))
}

fn offsets(fd: RawFd) -> io::Result<libc::xdp_mmap_offsets> {
    // SAFETY: all zero is a valid value of these integers.
    let mut offsets: libc::xdp_mmap_offsets = unsafe { zeroed() };
    let mut len = size_of::<libc::xdp_mmap_offsets>() as libc::socklen_t;
    let value = ptr::from_mut(&mut offsets).cast();
    // SAFETY: pointer and length are those of `offsets`.
    let status =
        unsafe { libc::getsockopt(fd, libc::SOL_XDP, libc::XDP_MMAP_OFFSETS, value, &mut len) };
    if status < 0 {
        return Err(io::Error::last_os_error());
    }
    if len as usize != size_of::<libc::xdp_mmap_offsets>() {
        return Err(io::Error::other("the kernel is older than Linux 5.4"));
    }
    Ok(offsets)
}

/// Binds the socket to a queue. With `shared`, it takes memory, mode and flags from that
/// socket, and its rings too if the queue is the same.
pub(super) fn bind(
    socket: &OwnedFd,
    (device, queue): (u32, u32),
    flags: u16,
    shared: Option<RawFd>,
) -> io::Result<()> {
    let address = libc::sockaddr_xdp {
        sxdp_family: libc::AF_XDP as u16,
        sxdp_flags: if shared.is_some() { libc::XDP_SHARED_UMEM } else { flags },
        sxdp_ifindex: device,
        sxdp_queue_id: queue,
        sxdp_shared_umem_fd: shared.map_or(0, |fd| fd as u32),
    };
    let len = size_of::<libc::sockaddr_xdp>() as libc::socklen_t;
    let pointer = ptr::from_ref(&address).cast();
    // SAFETY: pointer and length are those of `address`, which outlives the call.
    let status = unsafe { libc::bind(socket.as_raw_fd(), pointer, len) };
    if status < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
