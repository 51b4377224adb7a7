//! The kernel back-end, over xsk-rs.
//!
//! [`XskUmem`] is the packet memory, [`open_all`] and [`XskUmem::open_queue`] open queues
//! on it, [`XskSocket`] and [`XskRings`] are what workers hold. Two rules of the kernel
//! show through: the first queue on a UMEM settles zero-copy or copy for all of them, and
//! a closed queue is let go a little later than the call returns.
//!
//! No XDP program is loaded here; the sockets' descriptors go into a socket map elsewhere.

mod error;
mod open;
mod rings;
mod sys;
mod umem;

pub use error::OpenError;
pub use open::{BusyPoll, ClosedQueue, Granted, Mode, Opened, OpenedQueue, QueueRequest, open_all};
pub use rings::{XskRings, XskSocket};
pub use umem::{HugePages, Pages, UmemConfig, XskUmem};
