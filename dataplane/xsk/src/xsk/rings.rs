//! The traits over the kernel's rings.
//!
//! Every descriptor that goes in is made from a token, and every one that comes out is
//! checked against the frame's state word before it becomes one.

use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;

use xsk_rs::{CompQueue, FillQueue, FrameDesc, RxQueue, TxQueue};

use crate::frame::{Frame, FrameBatch};
use crate::region::{Descriptor, Redeem, State};
use crate::socket::{
    Gauge, KernelStatistics, Outstanding, QueueRings, QueueSocket, RingCounters, SocketCounters,
    Wake,
};
use crate::sys;
use crate::xsk::umem::XskUmem;

type Scratch = Box<[FrameDesc; FrameBatch::CAPACITY]>;

fn scratch() -> Scratch {
    Box::new([FrameDesc::default(); FrameBatch::CAPACITY])
}

/// One worker's socket on one queue.
pub struct XskSocket {
    pub(super) umem: XskUmem,
    tx: TxQueue,
    rx: RxQueue,
    /// Our own name for the kernel's socket; the binding's may come to name another.
    fd: OwnedFd,
    pub(super) tag: u16,
    busy_poll: bool,
    unsent: bool,
    scratch: Scratch,
    gauge: Arc<Gauge>,
    counters: SocketCounters,
}

impl XskSocket {
    pub(super) fn new(
        umem: XskUmem,
        (tx, rx): (TxQueue, RxQueue),
        tag: u16,
        busy_poll: bool,
    ) -> io::Result<Self> {
        let fd = sys::duplicate(rx.fd().as_raw_fd())?;
        sys::set_tx_budget(fd.as_raw_fd(), umem.config().rings.tx);
        umem.enlist(tag, fd.as_raw_fd(), rx.fd().as_raw_fd());
        Ok(Self {
            umem,
            tx,
            rx,
            fd,
            tag,
            busy_poll,
            unsent: false,
            scratch: scratch(),
            gauge: Arc::default(),
            counters: SocketCounters::default(),
        })
    }

    pub(super) fn gauge(&self) -> Arc<Gauge> {
        self.gauge.clone()
    }

    /// The socket's descriptor; valid as long as the socket.
    #[must_use]
    pub fn raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    fn wake(&mut self) -> Wake {
        let size = self.umem.config().rings.tx;
        let tx = &mut self.tx;
        let pending = || size.saturating_sub(tx.nb_free_exact());
        let wake = sys::wake_until_sent(self.fd.as_raw_fd(), &mut self.counters, pending);
        self.unsent &= wake != Wake::Done;
        wake
    }
}

impl Drop for XskSocket {
    fn drop(&mut self) {
        self.umem.strike_off(self.raw_fd());
    }
}

impl QueueSocket for XskSocket {
    #[inline]
    fn rx(&mut self, out: &mut FrameBatch) -> usize {
        let room = out.room().min(FrameBatch::CAPACITY);
        let places = self.scratch.get_mut(..room).unwrap_or_default();
        // SAFETY: the ring belongs to the UMEM, and what it says of frames is not
        // believed before it is checked below.
        let got = unsafe { self.rx.consume(places) };
        let mut n = 0;
        for desc in self.scratch.iter().take(got) {
            let descriptor = Descriptor {
                address: desc.addr() as u64,
                len: u32::try_from(desc.lengths().data()).unwrap_or(u32::MAX),
                more: desc.has_more_frames(),
            };
            match self.umem.region().redeem(descriptor, State::Filled, self.tag) {
                Ok(frame) => n += usize::from(out.push(frame).is_ok()),
                Err(how) => {
                    self.counters.umem_ownership_violation += 1;
                    self.counters.discarded += u64::from(how == Redeem::Lost);
                }
            }
        }
        if got > 0 {
            self.counters.received += n as u64;
            self.gauge.publish(&self.counters);
        }
        n
    }

    #[inline]
    fn tx(&mut self, frames: &mut FrameBatch) -> usize {
        let want = frames.len().min(FrameBatch::CAPACITY);
        let n = want.min(self.tx.nb_free(want as u32) as usize);
        self.counters.tx_full += (frames.len() - n) as u64;
        if n == 0 {
            return 0;
        }
        for (place, mut frame) in self.scratch.iter_mut().zip(frames.drain_front(n)) {
            if !frame.is_sendable() {
                frame.align();
            }
            *place = self.umem.descriptor(&mut frame);
            // Before the ring: the frame may come back on another worker's thread.
            self.umem.region().surrender(frame, State::Sent, self.tag);
        }
        let batch = self.scratch.get(..n).unwrap_or_default();
        // SAFETY: the frames belong to this UMEM, and their tokens were given up above.
        let accepted = unsafe { self.tx.produce(batch) };
        if accepted != n {
            self.umem.lose(batch);
        }
        self.counters.sent += accepted as u64;
        self.unsent = true;
        self.gauge.publish(&self.counters);
        n
    }

    #[inline]
    fn wake_tx(&mut self) -> Wake {
        if !self.unsent {
            return Wake::Idle;
        }
        if !self.busy_poll && !self.tx.needs_wakeup() {
            self.unsent = false;
            return Wake::Idle;
        }
        self.wake()
    }

    fn kick_tx(&mut self) -> Wake {
        self.wake()
    }

    fn pending_tx(&mut self) -> usize {
        self.umem.config().rings.tx.saturating_sub(self.tx.nb_free_exact()) as usize
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
pub struct XskRings {
    umem: XskUmem,
    fill: FillQueue,
    completion: CompQueue,
    /// Of the queue's first socket.
    fd: OwnedFd,
    pub(super) tag: u16,
    pub(super) place: (u32, u32),
    busy_poll: bool,
    scratch: Scratch,
    pub(super) gauges: Vec<Arc<Gauge>>,
    counters: RingCounters,
}

impl XskRings {
    pub(super) fn new(
        umem: XskUmem,
        (fill, completion): (FillQueue, CompQueue),
        place: (u32, u32),
        sockets: &[XskSocket],
    ) -> Option<Self> {
        let first = sockets.first()?;
        let fd = first.fd.try_clone().ok()?;
        Some(Self {
            umem,
            fill,
            completion,
            fd,
            tag: first.tag,
            place,
            busy_poll: first.busy_poll,
            scratch: scratch(),
            gauges: sockets.iter().map(XskSocket::gauge).collect(),
            counters: RingCounters::default(),
        })
    }
}

impl QueueRings for XskRings {
    #[inline]
    fn fill(&mut self, frames: &mut FrameBatch) -> usize {
        let want = frames.len().min(FrameBatch::CAPACITY);
        let n = want.min(self.fill.nb_free(want as u32) as usize);
        self.counters.fill_full += (frames.len() - n) as u64;
        if n == 0 {
            return 0;
        }
        for (place, frame) in self.scratch.iter_mut().zip(frames.drain_front(n)) {
            *place = self.umem.template(frame.number());
            self.umem.region().surrender(frame, State::Filled, self.tag);
        }
        let batch = self.scratch.get(..n).unwrap_or_default();
        // SAFETY: the frames belong to this UMEM, and their tokens were given up above.
        let accepted = unsafe { self.fill.produce(batch) };
        if accepted != n {
            self.umem.lose(batch);
        }
        self.counters.filled += accepted as u64;
        n
    }

    fn fill_room(&mut self) -> usize {
        self.fill.nb_free_exact() as usize
    }

    #[inline]
    fn complete(&mut self, out: &mut FrameBatch) -> usize {
        let room = out.room().min(FrameBatch::CAPACITY);
        let places = self.scratch.get_mut(..room).unwrap_or_default();
        // SAFETY: the ring belongs to the UMEM, and what it says of frames is not
        // believed before it is checked below.
        let got = unsafe { self.completion.consume(places) };
        let mut n = 0;
        for desc in self.scratch.iter().take(got) {
            let descriptor = Descriptor { address: desc.addr() as u64, len: 0, more: false };
            match self.umem.region().redeem(descriptor, State::Sent, self.tag) {
                Ok(frame) => n += usize::from(out.push(frame).is_ok()),
                Err(how) => {
                    self.counters.umem_ownership_violation += 1;
                    self.counters.discarded += u64::from(how == Redeem::Lost);
                }
            }
        }
        self.counters.completed += n as u64;
        n
    }

    #[inline]
    fn wake_fill(&mut self) -> Wake {
        if !self.busy_poll && !self.fill.needs_wakeup() {
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

impl fmt::Debug for XskSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("XskSocket").field("fd", &self.raw_fd()).finish_non_exhaustive()
    }
}

impl fmt::Debug for XskRings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("XskRings").field("device_and_queue", &self.place).finish_non_exhaustive()
    }
}

/// A descriptor for sending what is in `frame`.
pub(super) fn describe(umem: &xsk_rs::Umem, template: FrameDesc, frame: &mut Frame) -> FrameDesc {
    let mut desc = template;
    // SAFETY: the template is one of this UMEM's own, and the token of its frame is
    // borrowed alone.
    let mut data = unsafe { umem.data_mut(&mut desc) };
    data.cursor().set_pos(frame.len());
    desc.set_options(u32::from(frame.is_multi_buffer()));
    desc
}
