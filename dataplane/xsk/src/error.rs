//! Why a UMEM or a queue could not be had, each with what mends it.

use std::fmt;
use std::io;

/// Why a UMEM or a queue could not be opened. [`fmt::Display`] is one line for the operator.
#[derive(Debug)]
pub enum OpenError {
    /// The UMEM is larger than the process may lock.
    MemoryLock {
        /// Bytes wanted.
        needed_bytes: u64,
        /// The limit, `None` if the kernel refused although there is none.
        limit_bytes: Option<u64>,
    },
    /// There is not so much memory.
    Memory {
        /// Bytes wanted.
        needed_bytes: u64,
    },
    /// A number of the UMEM or its rings is out of range; says which.
    Shape(&'static str),
    /// The process lacks a capability.
    Permission,
    /// The kernel was built without AF_XDP.
    Unsupported,
    /// There is no such device.
    NoDevice {
        /// Its name.
        device: String,
    },
    /// The device has no such queue, or its driver refuses a chunk of this size.
    NoQueue {
        /// The device's name.
        device: String,
        /// The queue's number.
        queue: u32,
    },
    /// Another socket has the queue, and kept it all the time.
    QueueBusy {
        /// The device's name.
        device: String,
        /// The queue's number.
        queue: u32,
        /// How long it was tried.
        waited_ms: u64,
    },
    /// The driver has no zero copy, or not for this queue.
    NoZeroCopy {
        /// The device's name.
        device: String,
        /// The queue's number.
        queue: u32,
    },
    /// One UMEM is either zero-copy or copy on every device, and two were asked for.
    ModeConflict {
        /// The device that differs.
        device: String,
    },
    /// Anything else.
    Other {
        /// What was being done.
        doing: String,
        /// What the kernel said.
        error: io::Error,
    },
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MemoryLock { needed_bytes, limit_bytes: Some(limit) } => write!(
                f,
                "the packet memory of {needed_bytes} bytes is over the limit on locked memory \
                 of {limit} bytes: raise it (ulimit -l, LimitMEMLOCK=) or grant CAP_IPC_LOCK"
            ),
            Self::MemoryLock { needed_bytes, limit_bytes: None } => write!(
                f,
                "the kernel will not lock the packet memory of {needed_bytes} bytes: give fewer \
                 frames, or raise the memory limit of the control group"
            ),
            Self::Memory { needed_bytes } => write!(
                f,
                "no memory for {needed_bytes} bytes of packet memory: give fewer frames, or \
                 raise the memory limit of the control group"
            ),
            Self::Shape(what) => f.write_str(what),
            Self::Permission => f.write_str(
                "not permitted to open AF_XDP sockets: run as root or with CAP_NET_RAW, \
                 CAP_NET_ADMIN, CAP_BPF and CAP_IPC_LOCK",
            ),
            Self::Unsupported => {
                f.write_str("this kernel has no AF_XDP: it needs CONFIG_XDP_SOCKETS")
            }
            Self::NoDevice { device } => {
                write!(f, "there is no device {device}: see ip link")
            }
            Self::NoQueue { device, queue } => write!(
                f,
                "{device} has no queue {queue}, or its driver refuses the chunk size: see \
                 ethtool -l {device}"
            ),
            Self::QueueBusy { device, queue, waited_ms } => write!(
                f,
                "queue {queue} of {device} is held by another AF_XDP socket (tried for {waited_ms} \
                 ms): is another instance running? see ss --xdp -p"
            ),
            Self::NoZeroCopy { device, queue } => write!(
                f,
                "{device} has no zero-copy on queue {queue}: set mode = \"auto\" or \"copy\""
            ),
            Self::ModeConflict { device } => write!(
                f,
                "{device} asks for another mode than the devices before it; packet memory is \
                 shared, so all devices are zero-copy or none is: give them the same mode"
            ),
            Self::Other { doing, error } => write!(f, "{doing}: {error}"),
        }
    }
}

impl std::error::Error for OpenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Other { error, .. } => Some(error),
            Self::MemoryLock { .. }
            | Self::Memory { .. }
            | Self::Shape(_)
            | Self::Permission
            | Self::Unsupported
            | Self::NoDevice { .. }
            | Self::NoQueue { .. }
            | Self::QueueBusy { .. }
            | Self::NoZeroCopy { .. }
            | Self::ModeConflict { .. } => None,
        }
    }
}
