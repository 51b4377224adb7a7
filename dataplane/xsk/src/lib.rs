//! AF_XDP: frame tokens, rings and sockets behind one trait.
//!
//! One UMEM is shared by every device, queue and worker. Each (device, queue) has one
//! socket a worker, and those sockets share the queue's fill and completion ring. The
//! crate knows frames and rings; what is in a frame is not its business.
//!
//! ```text
//!            FrameStock (free) ──take──▶ Frame ──fill──▶ fill ring ─┐
//!                 ▲                       ▲ │                       ▼ kernel
//!                 └────────give───────────┘ └──tx──▶ tx ring ─▶ completion ring
//!                                         ▲                         │
//!                                         └──── rx, complete ───────┘
//! ```
//!
//! * A [`Frame`] is an affine token: whoever holds it owns the chunk, alone. It is not
//!   `Clone`; it leaves by [`QueueSocket::tx`] or [`QueueRings::fill`] and comes back by
//!   [`QueueSocket::rx`] or [`QueueRings::complete`].
//! * Every frame has a home, the worker whose [`FrameStock`] it belongs to
//!   ([`Frame::home`]). A worker that gets another's frame hands it back.
//! * A frame is in exactly one place. [`Ledger`] adds the places up; [`Umem::census`]
//!   counts them anew from the frames themselves.
//! * What the kernel puts into a ring is checked in release builds too: an address that was not
//!   given out, given out twice, or a length past the chunk is counted and discarded.
//!
//! Two ways to the kernel, behind [`Backend`]: [`own`] works the rings itself, [`xsk`] leaves
//! it to a binding. [`memory`] has the kernel played by the test.
//!
//! No XDP program is loaded here; the sockets' descriptors go into a socket map elsewhere.

mod cycles;
mod error;
pub mod frame;
pub mod ledger;
pub mod memory;
pub mod open;
pub mod own;
mod region;
pub mod socket;
pub mod stall;
mod sys;
pub mod umem;
mod wait;
pub mod xsk;

pub use cycles::{cycles, prefetch};
pub use error::OpenError;
pub use frame::{Frame, FrameBatch, FrameStock, TooLong};
pub use ledger::Ledger;
pub use open::{
    Backend, BusyPoll, ClosedQueue, Granted, HugePages, Mode, Opened, OpenedQueue, Opening, Pages,
    QueueRequest, UmemConfig, open_all,
};
pub use socket::{
    KernelStatistics, Outstanding, QueueRings, QueueSocket, RingCounters, RingSizes,
    SocketCounters, Wake,
};
pub use stall::StallWatch;
pub use umem::{Census, ChunkSize, MAX_WORKERS, Umem};
pub use wait::{Bell, Waiter};
