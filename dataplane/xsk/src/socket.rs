//! The seam: what a worker may ask of a socket, and what a queue's owner may ask of its
//! rings.
//!
//! None of these calls allocates or blocks. Frames move by batches; those that a ring
//! had no room for stay with the caller.

use std::io;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::frame::FrameBatch;

/// What came of a wake-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake {
    /// The kernel needs none; no system call was made.
    Idle,
    /// The kernel has been woken.
    Done,
    /// The kernel said "not now" (`EAGAIN`, `EBUSY`, `ENOBUFS`) as often as it was asked.
    /// Try again in the next round; [`crate::StallWatch`] says when to stop trying.
    Busy,
    /// The device is down or gone (`ENETDOWN`, `ENXIO`, `ENODEV`).
    Down,
    /// Another error, by its number.
    Failed(i32),
}

/// What a socket has done since it was opened. Plain numbers, owned by its worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SocketCounters {
    /// Frames received.
    pub received: u64,
    /// Frames put on the tx ring.
    pub sent: u64,
    /// Frames that [`QueueSocket::tx`] left with the caller because the ring was full.
    pub tx_full: u64,
    /// Descriptors refused: never given out, given out twice, or longer than a chunk.
    pub umem_ownership_violation: u64,
    /// Frames set aside as lost because their descriptor was refused.
    pub discarded: u64,
    /// Wake-ups made.
    pub wakes: u64,
    /// Wake-ups that the kernel answered with "not now".
    pub wakes_refused: u64,
}

/// What a queue's rings have done since they were opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RingCounters {
    /// Frames put on the fill ring.
    pub filled: u64,
    /// Frames that [`QueueRings::fill`] left with the caller because the ring was full.
    pub fill_full: u64,
    /// Frames taken from the completion ring.
    pub completed: u64,
    /// Addresses refused: never sent, or completed twice.
    pub umem_ownership_violation: u64,
    /// Frames set aside as lost because their address was refused.
    pub discarded: u64,
    /// Wake-ups made.
    pub wakes: u64,
}

/// Frames of a queue that the kernel has, over the sockets of all workers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outstanding {
    /// Filled and not yet received.
    pub rx: u64,
    /// Sent and not yet completed.
    pub tx: u64,
}

/// Entries of the rings of one queue; each a power of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingSizes {
    /// Fill ring, one a queue.
    pub fill: u32,
    /// Completion ring, one a queue.
    pub completion: u32,
    /// Rx ring, one a socket.
    pub rx: u32,
    /// Tx ring, one a socket.
    pub tx: u32,
}

impl Default for RingSizes {
    /// The kernel's customary 2048 each: some 2 ms of traffic at a million packets a
    /// second. Smaller loses bursts, larger is latency and cache misses.
    fn default() -> Self {
        Self { fill: 2048, completion: 2048, rx: 2048, tx: 2048 }
    }
}

/// A socket's running totals, written by its worker and read by the queue's owner.
///
/// Alone on its cache line: a plain store a batch, no read-modify-write.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(crate) struct Gauge {
    received: AtomicU64,
    sent: AtomicU64,
}

impl Gauge {
    #[inline(always)]
    pub(crate) fn publish(&self, counters: &SocketCounters) {
        self.received.store(counters.received + counters.discarded, Ordering::Relaxed);
        self.sent.store(counters.sent, Ordering::Relaxed);
    }

    /// What the kernel has of a queue whose sockets have these gauges.
    pub(crate) fn outstanding(gauges: &[Arc<Gauge>], rings: &RingCounters) -> Outstanding {
        let mut outstanding = Outstanding { rx: rings.filled, tx: 0 };
        for gauge in gauges {
            let received = gauge.received.load(Ordering::Relaxed);
            outstanding.rx = outstanding.rx.saturating_sub(received);
            outstanding.tx += gauge.sent.load(Ordering::Relaxed);
        }
        outstanding.tx = outstanding.tx.saturating_sub(rings.completed + rings.discarded);
        outstanding
    }
}

/// The kernel's own counters of a socket (`XDP_STATISTICS`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KernelStatistics {
    /// Dropped for other reasons than a full rx ring.
    pub rx_dropped: u64,
    /// Fill ring entries that the kernel refused.
    pub rx_invalid_descs: u64,
    /// Tx ring entries that the kernel refused.
    pub tx_invalid_descs: u64,
    /// Dropped because the rx ring was full.
    pub rx_ring_full: u64,
    /// Times the fill ring was found empty; the counter is the queue's, not the socket's.
    pub rx_fill_ring_empty_descs: u64,
    /// Times the tx ring was found empty.
    pub tx_ring_empty_descs: u64,
}

/// One worker's socket on one queue of one device.
pub trait QueueSocket: Send {
    /// Appends received frames to `out`, at most as many as it has room for; the number.
    fn rx(&mut self, out: &mut FrameBatch) -> usize;

    /// Puts the frames on the tx ring, first to last, and out of the batch; the number.
    ///
    /// What did not fit stays in the batch, in order. The kernel may have to be woken
    /// afterwards ([`QueueSocket::wake_tx`]).
    fn tx(&mut self, frames: &mut FrameBatch) -> usize;

    /// Wakes the kernel if there is something to send and it wants to be woken.
    fn wake_tx(&mut self) -> Wake;

    /// Wakes the kernel whatever it says: for housekeeping, in case a wake-up was lost.
    fn kick_tx(&mut self) -> Wake;

    /// Frames on the tx ring that the kernel has not taken.
    fn pending_tx(&mut self) -> usize;

    /// For the socket map; valid as long as the socket. `None` from a back-end without one.
    fn fd(&self) -> Option<RawFd>;

    /// The kernel's counters.
    ///
    /// # Errors
    /// What the system call says.
    fn statistics(&self) -> io::Result<KernelStatistics>;

    /// Our counters.
    fn counters(&self) -> SocketCounters;
}

/// Fill and completion ring of one queue; in the hands of the queue's own worker only.
pub trait QueueRings: Send {
    /// Puts the frames on the fill ring and out of the batch; the number.
    ///
    /// What did not fit stays in the batch.
    fn fill(&mut self, frames: &mut FrameBatch) -> usize;

    /// Free places in the fill ring.
    fn fill_room(&mut self) -> usize;

    /// Appends frames that have been sent to `out`, at most as many as it has room for;
    /// the number. They may have been sent by any worker: see [`crate::Frame::home`].
    fn complete(&mut self, out: &mut FrameBatch) -> usize;

    /// Wakes the kernel for receiving if it wants to be woken, or always when the queue
    /// is busy-polled.
    fn wake_fill(&mut self) -> Wake;

    /// Frames that the kernel has.
    fn outstanding(&self) -> Outstanding;

    /// Our counters.
    fn counters(&self) -> RingCounters;
}
