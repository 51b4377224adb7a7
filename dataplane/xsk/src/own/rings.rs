//! The traits over rings of our own.
//!
//! Every descriptor that goes in is made from a token, and every one that comes out is
//! checked against the frame's state word before it becomes one.

use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;

use crate::frame::FrameBatch;
use crate::open::Opening;
use crate::own::map::Mapped;
use crate::own::ring::{Consumer, Producer, RingDescriptor};
use crate::own::umem::OwnUmem;
use crate::region::{Descriptor, Redeem, State};
use crate::socket::{
    Gauge, KernelStatistics, Outstanding, QueueRings, QueueSocket, RingCounters, SocketCounters,
    Wake,
};
use crate::sys;

/// The packet goes on in the next descriptor (`XDP_PKT_CONTD`).
const CONTINUED: u32 = 1;

/// A socket's own rings.
pub(super) struct RxAndTx {
    pub(super) rx: Mapped<Consumer<RingDescriptor>>,
    pub(super) tx: Mapped<Producer<RingDescriptor>>,
}

/// The rings of a queue that its sockets share.
pub(super) struct FillAndCompletion {
    pub(super) fill: Mapped<Producer<u64>>,
    pub(super) completion: Mapped<Consumer<u64>>,
}

/// One worker's socket on one queue.
pub struct OwnSocket {
    umem: OwnUmem,
    rings: RxAndTx,
    fd: OwnedFd,
    tag: u16,
    busy_poll: bool,
    /// Something has been sent since the kernel was last woken.
    unsent: bool,
    gauge: Arc<Gauge>,
    counters: SocketCounters,
}

impl OwnSocket {
    pub(super) fn new(
        umem: OwnUmem,
        fd: OwnedFd,
        rings: RxAndTx,
        tag: u16,
        busy_poll: bool,
    ) -> Self {
        Self {
            umem,
            rings,
            fd,
            tag,
            busy_poll,
            unsent: false,
            gauge: Arc::default(),
            counters: SocketCounters::default(),
        }
    }

    /// The socket's descriptor; valid as long as the socket.
    #[must_use]
    pub fn raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    pub(super) const fn tag(&self) -> u16 {
        self.tag
    }

    fn wake(&mut self) -> Wake {
        let fd = self.fd.as_raw_fd();
        let tx = &self.rings.tx.side;
        let wake = sys::wake_until_sent(fd, &mut self.counters, || tx.pending());
        self.unsent &= wake != Wake::Done;
        wake
    }
}

impl Drop for OwnSocket {
    fn drop(&mut self) {
        self.umem.strike_off(self.raw_fd());
    }
}

impl QueueSocket for OwnSocket {
    #[inline]
    fn rx(&mut self, out: &mut FrameBatch) -> usize {
        let rx = &mut self.rings.rx.side;
        let got = rx.available(out.room().min(FrameBatch::CAPACITY) as u32);
        if got == 0 {
            return 0;
        }
        let region = self.umem.region();
        let mut n = 0;
        for _ in 0..got {
            let RingDescriptor { address, len, options } = rx.read();
            let descriptor = Descriptor { address, len, more: options & CONTINUED != 0 };
            match region.redeem(descriptor, State::Filled, self.tag) {
                Ok(frame) => n += usize::from(out.push(frame).is_ok()),
                Err(how) => {
                    self.counters.umem_ownership_violation += 1;
                    self.counters.discarded += u64::from(how == Redeem::Lost);
                }
            }
        }
        rx.release();
        self.counters.received += n as u64;
        self.gauge.publish(&self.counters);
        n
    }

    #[inline]
    fn tx(&mut self, frames: &mut FrameBatch) -> usize {
        let tx = &mut self.rings.tx.side;
        let want = frames.len().min(FrameBatch::CAPACITY);
        let n = want.min(tx.room(want as u32) as usize);
        self.counters.tx_full += (frames.len() - n) as u64;
        if n == 0 {
            return 0;
        }
        let region = self.umem.region();
        for frame in frames.drain_front(n) {
            tx.write(RingDescriptor {
                address: frame.address(),
                len: frame.len() as u32,
                options: if frame.is_multi_buffer() { CONTINUED } else { 0 },
            });
            // Before it is published: the frame may come back on another worker's thread.
            region.surrender(frame, State::Sent, self.tag);
        }
        tx.publish();
        self.counters.sent += n as u64;
        self.unsent = true;
        self.gauge.publish(&self.counters);
        n
    }

    #[inline]
    fn wake_tx(&mut self) -> Wake {
        if !self.unsent {
            return Wake::Idle;
        }
        if !self.busy_poll && !self.rings.tx.side.wants_wakeup() {
            self.unsent = false;
            return Wake::Idle;
        }
        self.wake()
    }

    fn kick_tx(&mut self) -> Wake {
        self.wake()
    }

    fn pending_tx(&mut self) -> usize {
        self.rings.tx.side.pending() as usize
    }

    fn fd(&self) -> Option<RawFd> {
        Some(self.raw_fd())
    }

    fn statistics(&self) -> io::Result<KernelStatistics> {
        sys::statistics(self.raw_fd())
    }

    fn counters(&self) -> SocketCounters {
        self.counters
    }
}

/// Fill and completion ring of one queue.
pub struct OwnRings {
    umem: OwnUmem,
    rings: FillAndCompletion,
    /// Of the queue's first socket.
    fd: OwnedFd,
    opening: Opening,
    busy_poll: bool,
    gauges: Vec<Arc<Gauge>>,
    counters: RingCounters,
}

impl OwnRings {
    pub(super) fn new(
        umem: OwnUmem,
        rings: FillAndCompletion,
        opening: Opening,
        sockets: &[OwnSocket],
    ) -> io::Result<Self> {
        let first = sockets.first().ok_or_else(|| io::Error::other("a queue without sockets"))?;
        Ok(Self {
            umem,
            rings,
            fd: first.fd.try_clone()?,
            opening,
            busy_poll: first.busy_poll,
            gauges: sockets.iter().map(|socket| socket.gauge.clone()).collect(),
            counters: RingCounters::default(),
        })
    }

    pub(super) const fn opening(&self) -> Opening {
        self.opening
    }

    pub(super) const fn socket_count(&self) -> usize {
        self.gauges.len()
    }
}

impl QueueRings for OwnRings {
    #[inline]
    fn fill(&mut self, frames: &mut FrameBatch) -> usize {
        let fill = &mut self.rings.fill.side;
        let want = frames.len().min(FrameBatch::CAPACITY);
        let n = want.min(fill.room(want as u32) as usize);
        self.counters.fill_full += (frames.len() - n) as u64;
        if n == 0 {
            return 0;
        }
        let region = self.umem.region();
        let size = region.frame_size() as u64;
        for frame in frames.drain_front(n) {
            fill.write(u64::from(frame.number()) * size);
            region.surrender(frame, State::Filled, self.opening.tag);
        }
        fill.publish();
        self.counters.filled += n as u64;
        n
    }

    fn fill_room(&mut self) -> usize {
        self.rings.fill.side.room(u32::MAX) as usize
    }

    #[inline]
    fn complete(&mut self, out: &mut FrameBatch) -> usize {
        let completion = &mut self.rings.completion.side;
        let got = completion.available(out.room().min(FrameBatch::CAPACITY) as u32);
        if got == 0 {
            return 0;
        }
        let region = self.umem.region();
        let mut n = 0;
        for _ in 0..got {
            let descriptor = Descriptor { address: completion.read(), len: 0, more: false };
            match region.redeem(descriptor, State::Sent, self.opening.tag) {
                Ok(frame) => n += usize::from(out.push(frame).is_ok()),
                Err(how) => {
                    self.counters.umem_ownership_violation += 1;
                    self.counters.discarded += u64::from(how == Redeem::Lost);
                }
            }
        }
        completion.release();
        self.counters.completed += n as u64;
        n
    }

    #[inline]
    fn wake_fill(&mut self) -> Wake {
        if !self.busy_poll && !self.rings.fill.side.wants_wakeup() {
            return Wake::Idle;
        }
        self.counters.wakes += 1;
        sys::wake_rx(self.fd.as_raw_fd()).map_or_else(sys::wake_of, |()| Wake::Done)
    }

    fn outstanding(&self) -> Outstanding {
        Gauge::outstanding(&self.gauges, &self.counters)
    }

    fn counters(&self) -> RingCounters {
        self.counters
    }
}

impl fmt::Debug for OwnSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnSocket").field("fd", &self.raw_fd()).finish_non_exhaustive()
    }
}

impl fmt::Debug for OwnRings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnRings")
            .field("device_and_queue", &self.opening.place)
            .finish_non_exhaustive()
    }
}
