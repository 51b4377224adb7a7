//! The system calls that both ways to the kernel make, each with its error number.

use std::io;
use std::mem::{size_of, zeroed};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use crate::socket::{KernelStatistics, RingSizes, SocketCounters, Wake};

const XDP_OPTIONS: libc::c_int = 8;
const XDP_OPTIONS_ZEROCOPY: u32 = 1;
/// Packets that one wake-up sends in copy mode at most; kernels before 6.17 have not got this
/// option and send 32.
const XDP_MAX_TX_SKB_BUDGET: libc::c_int = 9;
/// Wake-ups in one call at most: where the kernel sends 32 frames for one and then says
/// `EAGAIN`, this clears a full batch twice. A kernel that makes no progress is asked once.
const WAKES_AT_ONCE: u32 = 16;

/// What makes the kernel look at a socket's tx ring.
pub(crate) fn wake_tx(fd: RawFd) -> Result<(), i32> {
    // SAFETY: a null buffer of length 0 and a null address are valid.
    let sent = unsafe { libc::sendto(fd, ptr::null(), 0, libc::MSG_DONTWAIT, ptr::null(), 0) };
    if sent < 0 { Err(errno()) } else { Ok(()) }
}

/// What makes the kernel look at a queue's fill ring, and what drives a busy-polled queue.
pub(crate) fn wake_rx(fd: RawFd) -> Result<(), i32> {
    let (buffer, address) = (ptr::null_mut(), ptr::null_mut());
    // SAFETY: a null buffer of length 0 and null addresses are valid.
    let got =
        unsafe { libc::recvfrom(fd, buffer, 0, libc::MSG_DONTWAIT, address, ptr::null_mut()) };
    if got < 0 { Err(errno()) } else { Ok(()) }
}

/// Wakes the kernel until it has sent what is on the tx ring, or makes no progress;
/// `pending` is how much is on it.
pub(crate) fn wake_until_sent(
    fd: RawFd,
    counters: &mut SocketCounters,
    mut pending: impl FnMut() -> u32,
) -> Wake {
    for _ in 0..WAKES_AT_ONCE {
        let before = pending();
        counters.wakes += 1;
        let Err(error) = wake_tx(fd) else { return Wake::Done };
        let wake = wake_of(error);
        if wake != Wake::Busy {
            return wake;
        }
        counters.wakes_refused += 1;
        if pending() == before {
            return Wake::Busy;
        }
    }
    Wake::Busy
}

/// Lets one wake-up send up to `packets`. A kernel that has not got the option goes on with its
/// own number.
pub(crate) fn set_tx_budget(fd: RawFd, packets: u32) {
    let _ = set(fd, libc::SOL_XDP, XDP_MAX_TX_SKB_BUDGET, &packets);
}

/// The wake-up's outcome by its error number.
pub(crate) const fn wake_of(error: i32) -> Wake {
    match error {
        libc::EAGAIN | libc::EBUSY | libc::ENOBUFS => Wake::Busy,
        libc::ENETDOWN | libc::ENXIO | libc::ENODEV => Wake::Down,
        other => Wake::Failed(other),
    }
}

/// Sets an integer socket option.
pub(crate) fn set_option(fd: RawFd, level: i32, name: i32, value: i32) -> io::Result<()> {
    set(fd, level, name, &value)
}

pub(crate) fn set<T>(fd: RawFd, level: i32, name: i32, value: &T) -> io::Result<()> {
    let length = size_of::<T>() as libc::socklen_t;
    // SAFETY: pointer and length are those of `value`, which outlives the call.
    let status = unsafe { libc::setsockopt(fd, level, name, ptr::from_ref(value).cast(), length) };
    if status < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Whether a bound socket got zero copy.
pub(crate) fn is_zero_copy(fd: RawFd) -> io::Result<bool> {
    let mut options = 0_u32;
    let mut length = size_of::<u32>() as libc::socklen_t;
    let value = ptr::from_mut(&mut options).cast();
    // SAFETY: pointer and length are those of `options`.
    let status = unsafe { libc::getsockopt(fd, libc::SOL_XDP, XDP_OPTIONS, value, &mut length) };
    if status < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(options & XDP_OPTIONS_ZEROCOPY != 0)
}

/// The kernel's counters of a socket.
pub(crate) fn statistics(fd: RawFd) -> io::Result<KernelStatistics> {
    let mut kernel = [0_u64; 6];
    let mut length = size_of_val(&kernel) as libc::socklen_t;
    let value = kernel.as_mut_ptr().cast();
    // SAFETY: pointer and length are those of `kernel`.
    let status =
        unsafe { libc::getsockopt(fd, libc::SOL_XDP, libc::XDP_STATISTICS, value, &mut length) };
    if status < 0 {
        return Err(io::Error::last_os_error());
    }
    // `struct xdp_statistics`, in its order.
    let [rx_dropped, rx_invalid_descs, tx_invalid_descs, rx_ring_full, fill_empty, tx_empty] =
        kernel;
    Ok(KernelStatistics {
        rx_dropped,
        rx_invalid_descs,
        tx_invalid_descs,
        rx_ring_full,
        rx_fill_ring_empty_descs: fill_empty,
        tx_ring_empty_descs: tx_empty,
    })
}

/// Another name for the same socket.
pub(crate) fn duplicate(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: no pointers.
    let copy = unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 0) };
    if copy < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: just opened, owned by nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

/// The limit on locked memory in bytes; `None` without one.
pub(crate) fn memlock_limit_bytes() -> Option<u64> {
    // SAFETY: all zero is a valid `rlimit`.
    let mut limit: libc::rlimit = unsafe { zeroed() };
    // SAFETY: the pointer is to a live `rlimit`.
    let status = unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &mut limit) };
    (status == 0 && limit.rlim_cur != libc::RLIM_INFINITY).then_some(limit.rlim_cur)
}

/// The device's number, 0 if there is none of this name.
pub(crate) fn device_index(name: &std::ffi::CStr) -> u32 {
    // SAFETY: a terminated string that outlives the call.
    unsafe { libc::if_nametoindex(name.as_ptr()) }
}

/// Whether there is a device of this number here.
pub(crate) fn device_exists(index: u32) -> bool {
    let mut name = [0; libc::IF_NAMESIZE];
    // SAFETY: the buffer is as large as the call demands.
    let found = unsafe { libc::if_indextoname(index, name.as_mut_ptr()) };
    !found.is_null()
}

/// Makes `number` another name of the socket `of`; what it named before is closed.
pub(crate) fn rename(of: RawFd, number: RawFd) -> io::Result<()> {
    // SAFETY: both are descriptors of this process; the caller owns `number`.
    let status = unsafe { libc::dup3(of, number, libc::O_CLOEXEC) };
    if status < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[repr(C)]
struct UmemRegistration {
    address: u64,
    len: u64,
    chunk_size: u32,
    headroom: u32,
    flags: u32,
    tx_metadata_len: u32,
}

/// Registers memory as the UMEM of an unbound socket.
pub(crate) fn register_umem(fd: RawFd, address: u64, len: u64, chunk_size: u32) -> io::Result<()> {
    let registration =
        UmemRegistration { address, len, chunk_size, headroom: 0, flags: 0, tx_metadata_len: 0 };
    set(fd, libc::SOL_XDP, libc::XDP_UMEM_REG, &registration)
}

/// An AF_XDP socket, not bound, in the network namespace of this thread.
pub(crate) fn xdp_socket() -> io::Result<OwnedFd> {
    // SAFETY: no pointers.
    let fd = unsafe { libc::socket(libc::AF_XDP, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: just opened, owned by nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// An unbound socket with the UMEM registered and rx and tx ring made.
pub(crate) fn registered_socket(
    address: u64,
    len: u64,
    chunk_size: u32,
    sizes: RingSizes,
) -> io::Result<OwnedFd> {
    let socket = xdp_socket()?;
    register_umem(socket.as_raw_fd(), address, len, chunk_size)?;
    set(socket.as_raw_fd(), libc::SOL_XDP, libc::XDP_RX_RING, &sizes.rx)?;
    set(socket.as_raw_fd(), libc::SOL_XDP, libc::XDP_TX_RING, &sizes.tx)?;
    Ok(socket)
}

fn errno() -> i32 {
    io::Error::last_os_error().raw_os_error().unwrap_or(0)
}
