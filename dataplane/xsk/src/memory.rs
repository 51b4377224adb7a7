//! A kernel in memory: the same traits, with the other side in the hands of a test.
//!
//! The rings behave as the kernel's do: a frame received takes a chunk from the fill ring,
//! a frame to be sent waits until the kernel is woken, a full completion ring holds
//! sending up. [`MemoryWire`] is the kernel's side: it injects frames, takes what was
//! sent, and can be told to misbehave ([`Faults`]).

use std::collections::VecDeque;
use std::io;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::frame::{Frame, FrameBatch, FrameStock};
use crate::region::{DATA_OFFSET, Descriptor, Redeem, Region, State};
use crate::socket::{
    Gauge, KernelStatistics, Outstanding, QueueRings, QueueSocket, RingCounters, RingSizes,
    SocketCounters, Wake,
};
use crate::umem::{ChunkSize, MAX_WORKERS, Umem};

/// How the kernel misbehaves. All off by default.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// Frames are sent but never show up in the completion ring.
    pub swallow_completions: bool,
    /// Every wake-up fails with this error number and nothing is sent.
    pub wake_error: Option<i32>,
    /// This many wake-ups are lost: they look good and nothing happens.
    pub lost_wakes: u32,
    /// The fill ring is not looked at: every injected frame finds it empty.
    pub fill_starved: bool,
    /// What is sent is completed at once and not kept; for benches.
    pub discard_transmitted: bool,
}

/// Why a frame could not be injected; the kernel would have dropped it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InjectError {
    /// No chunk in the fill ring.
    FillEmpty,
    /// No place in the socket's rx ring.
    RxFull,
    /// Longer than a chunk, or not in one piece where it should be.
    TooLong,
    /// No such worker.
    NoSocket,
}

/// A descriptor as a hostile kernel may write it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawDescriptor {
    /// Address from the start of the UMEM.
    pub address: u64,
    /// Length in bytes.
    pub len: u32,
    /// `XDP_PKT_CONTD`: the packet goes on in the next descriptor.
    pub more: bool,
}

#[derive(Default)]
struct SocketSide {
    rx: VecDeque<Descriptor>,
    tx: VecDeque<Descriptor>,
    statistics: KernelStatistics,
}

struct QueueSide {
    sizes: RingSizes,
    fill: VecDeque<u64>,
    completion: VecDeque<u64>,
    sockets: Vec<SocketSide>,
    transmitted: Vec<Vec<u8>>,
    faults: Faults,
    fill_empty: u64,
}

impl QueueSide {
    /// Sends what the sockets have queued, as far as the completion ring has room.
    fn transmit(&mut self, region: &Region) {
        for socket in &mut self.sockets {
            while let Some(descriptor) = socket.tx.front() {
                let full = self.completion.len() >= self.sizes.completion as usize;
                if full && !self.faults.swallow_completions {
                    return;
                }
                let len = descriptor.len as usize;
                if !self.faults.discard_transmitted {
                    let copy = region.read_sent(descriptor.address, len, <[u8]>::to_vec);
                    self.transmitted.extend(copy);
                }
                if !self.faults.swallow_completions {
                    self.completion.push_back(descriptor.address);
                }
                socket.tx.pop_front();
            }
        }
    }

    fn wake(&mut self, region: &Region) -> Wake {
        match self.faults.wake_error {
            Some(libc::EAGAIN | libc::EBUSY | libc::ENOBUFS) => return Wake::Busy,
            Some(libc::ENETDOWN | libc::ENXIO | libc::ENODEV) => return Wake::Down,
            Some(other) => return Wake::Failed(other),
            None => {}
        }
        if self.faults.lost_wakes > 0 {
            self.faults.lost_wakes -= 1;
        } else {
            self.transmit(region);
        }
        Wake::Done
    }
}

type Shared = Arc<Mutex<QueueSide>>;

fn lock(side: &Shared) -> MutexGuard<'_, QueueSide> {
    side.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The UMEM and the place where queues are opened.
#[derive(Debug)]
pub struct MemoryKernel {
    umem: Umem,
    next_tag: AtomicU16,
}

impl MemoryKernel {
    /// A UMEM of `workers` homes (at least 1, at most [`MAX_WORKERS`]), and each home's
    /// free frames.
    #[must_use]
    pub fn new(
        workers: usize,
        frames_per_worker: u32,
        chunk: ChunkSize,
    ) -> (Self, Vec<FrameStock>) {
        let workers = workers.clamp(1, MAX_WORKERS) as u8;
        let region = Region::on_heap(chunk.shift(), frames_per_worker, workers);
        let (umem, stocks) = Umem::new(region, workers);
        (Self { umem, next_tag: AtomicU16::new(1) }, stocks)
    }

    /// The UMEM.
    #[must_use]
    pub const fn umem(&self) -> &Umem {
        &self.umem
    }

    /// Opens a queue with a socket for each of `workers`.
    #[must_use]
    pub fn open_queue(&self, workers: usize, sizes: RingSizes) -> MemoryQueue {
        let tag = self.next_tag.fetch_add(1, Ordering::Relaxed);
        let side = Arc::new(Mutex::new(QueueSide {
            sizes,
            fill: VecDeque::with_capacity(sizes.fill as usize),
            completion: VecDeque::with_capacity(sizes.completion as usize),
            sockets: (0..workers).map(|_| SocketSide::new(sizes)).collect(),
            transmitted: Vec::new(),
            faults: Faults::default(),
            fill_empty: 0,
        }));
        let gauges: Vec<Arc<Gauge>> = (0..workers).map(|_| Arc::default()).collect();
        let sockets = gauges.iter().enumerate().map(|(worker, gauge)| MemorySocket {
            umem: self.umem.clone(),
            side: side.clone(),
            tag,
            worker,
            unsent: false,
            gauge: gauge.clone(),
            counters: SocketCounters::default(),
        });
        MemoryQueue {
            sockets: sockets.collect(),
            wire: MemoryWire { umem: self.umem.clone(), side: side.clone() },
            rings: MemoryRings {
                umem: self.umem.clone(),
                side: side.clone(),
                tag,
                gauges,
                counters: RingCounters::default(),
            },
        }
    }

    /// Closes a queue and takes back the frames the kernel had; this kernel lets go at once.
    ///
    /// # Errors
    /// Rings and sockets as they were, unless they are those of one queue, all of them.
    pub fn close_queue(
        &self,
        rings: MemoryRings,
        sockets: Vec<MemorySocket>,
        give: impl FnMut(Frame),
    ) -> Result<(), Box<(MemoryRings, Vec<MemorySocket>)>> {
        let all = sockets.len() == rings.gauges.len();
        if !all || sockets.iter().any(|socket| socket.tag != rings.tag) {
            return Err(Box::new((rings, sockets)));
        }
        {
            let mut side = lock(&rings.side);
            side.fill.clear();
            side.completion.clear();
            side.sockets.clear();
        }
        // SAFETY: the sockets are consumed here and the kernel's side has forgotten every
        // descriptor, so no ring can yield these frames again.
        unsafe { self.umem.reclaim_queue(rings.tag, give) };
        Ok(())
    }
}

impl SocketSide {
    fn new(sizes: RingSizes) -> Self {
        Self {
            rx: VecDeque::with_capacity(sizes.rx as usize),
            tx: VecDeque::with_capacity(sizes.tx as usize),
            statistics: KernelStatistics::default(),
        }
    }
}

/// A queue just opened: hand its parts to the workers.
#[derive(Debug)]
pub struct MemoryQueue {
    /// One socket for each worker, in the order of workers.
    pub sockets: Vec<MemorySocket>,
    /// Fill and completion ring, for the queue's own worker.
    pub rings: MemoryRings,
    /// The other side.
    pub wire: MemoryWire,
}

/// One worker's socket.
pub struct MemorySocket {
    umem: Umem,
    side: Shared,
    tag: u16,
    worker: usize,
    unsent: bool,
    gauge: Arc<Gauge>,
    counters: SocketCounters,
}

impl QueueSocket for MemorySocket {
    fn rx(&mut self, out: &mut FrameBatch) -> usize {
        let mut side = lock(&self.side);
        let Some(socket) = side.sockets.get_mut(self.worker) else { return 0 };
        let mut n = 0;
        while out.room() > 0 {
            let Some(descriptor) = socket.rx.pop_front() else { break };
            match self.umem.region().redeem(descriptor, State::Filled, self.tag) {
                Ok(frame) => n += usize::from(out.push(frame).is_ok()),
                Err(how) => {
                    self.counters.umem_ownership_violation += 1;
                    self.counters.discarded += u64::from(how == Redeem::Lost);
                }
            }
        }
        self.counters.received += n as u64;
        self.gauge.publish(&self.counters);
        n
    }

    fn tx(&mut self, frames: &mut FrameBatch) -> usize {
        let mut side = lock(&self.side);
        let places = side.sizes.tx as usize;
        let Some(socket) = side.sockets.get_mut(self.worker) else { return 0 };
        let n = frames.len().min(places.saturating_sub(socket.tx.len()));
        for mut frame in frames.drain_front(n) {
            if !frame.is_sendable() {
                frame.align();
            }
            let (address, len) = (frame.address(), frame.len() as u32);
            socket.tx.push_back(Descriptor { address, len, more: frame.is_multi_buffer() });
            self.umem.region().surrender(frame, State::Sent, self.tag);
        }
        self.unsent |= n > 0;
        self.counters.sent += n as u64;
        self.counters.tx_full += frames.len() as u64;
        self.gauge.publish(&self.counters);
        n
    }

    fn wake_tx(&mut self) -> Wake {
        if !self.unsent {
            return Wake::Idle;
        }
        self.kick_tx()
    }

    fn kick_tx(&mut self) -> Wake {
        let wake = lock(&self.side).wake(self.umem.region());
        self.counters.wakes += 1;
        match wake {
            Wake::Done | Wake::Idle => self.unsent = false,
            Wake::Busy => self.counters.wakes_refused += 1,
            Wake::Down | Wake::Failed(_) => {}
        }
        wake
    }

    fn pending_tx(&mut self) -> usize {
        lock(&self.side).sockets.get(self.worker).map_or(0, |socket| socket.tx.len())
    }

    fn fd(&self) -> Option<RawFd> {
        None
    }

    fn statistics(&self) -> io::Result<KernelStatistics> {
        let side = lock(&self.side);
        let mut statistics =
            side.sockets.get(self.worker).map(|socket| socket.statistics).unwrap_or_default();
        statistics.rx_fill_ring_empty_descs = side.fill_empty;
        Ok(statistics)
    }

    fn counters(&self) -> SocketCounters {
        self.counters
    }
}

/// Fill and completion ring.
pub struct MemoryRings {
    umem: Umem,
    side: Shared,
    tag: u16,
    gauges: Vec<Arc<Gauge>>,
    counters: RingCounters,
}

impl QueueRings for MemoryRings {
    fn fill(&mut self, frames: &mut FrameBatch) -> usize {
        let mut side = lock(&self.side);
        let n = frames.len().min((side.sizes.fill as usize).saturating_sub(side.fill.len()));
        for frame in frames.drain_front(n) {
            side.fill.push_back(frame.address());
            self.umem.region().surrender(frame, State::Filled, self.tag);
        }
        self.counters.filled += n as u64;
        self.counters.fill_full += frames.len() as u64;
        n
    }

    fn fill_room(&mut self) -> usize {
        let side = lock(&self.side);
        (side.sizes.fill as usize).saturating_sub(side.fill.len())
    }

    fn complete(&mut self, out: &mut FrameBatch) -> usize {
        let mut side = lock(&self.side);
        let mut n = 0;
        while out.room() > 0 {
            let Some(address) = side.completion.pop_front() else { break };
            let descriptor = Descriptor { address, len: 0, more: false };
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

    fn wake_fill(&mut self) -> Wake {
        Wake::Idle
    }

    fn outstanding(&self) -> Outstanding {
        Gauge::outstanding(&self.gauges, &self.counters)
    }

    fn counters(&self) -> RingCounters {
        self.counters
    }
}

/// The kernel's side of a queue.
#[derive(Clone)]
pub struct MemoryWire {
    umem: Umem,
    side: Shared,
}

impl MemoryWire {
    /// A frame arrives for `worker`'s socket.
    ///
    /// # Errors
    /// [`InjectError`] where the kernel would have dropped it; counted as it counts.
    pub fn inject(&self, worker: usize, bytes: &[u8]) -> Result<(), InjectError> {
        self.inject_chain(worker, &[bytes])
    }

    /// A frame over several buffers arrives, all or nothing.
    ///
    /// # Errors
    /// As [`MemoryWire::inject`].
    pub fn inject_chain(&self, worker: usize, pieces: &[&[u8]]) -> Result<(), InjectError> {
        let side = &mut *lock(&self.side);
        let socket = side.sockets.get_mut(worker).ok_or(InjectError::NoSocket)?;
        if pieces.iter().any(|piece| piece.len() > self.umem.longest_frame()) {
            socket.statistics.rx_dropped += 1;
            return Err(InjectError::TooLong);
        }
        if side.faults.fill_starved || side.fill.len() < pieces.len() {
            side.fill_empty += 1;
            return Err(InjectError::FillEmpty);
        }
        if socket.rx.len() + pieces.len() > side.sizes.rx as usize {
            socket.statistics.rx_ring_full += 1;
            return Err(InjectError::RxFull);
        }
        for (at, piece) in pieces.iter().enumerate() {
            let Some(filled) = side.fill.pop_front() else { break };
            let mask = self.umem.frame_size() as u64 - 1;
            let address = (filled & !mask) + u64::from(DATA_OFFSET);
            self.umem.region().write_filled(address, piece);
            let (len, more) = (piece.len() as u32, at + 1 < pieces.len());
            socket.rx.push_back(Descriptor { address, len, more });
        }
        Ok(())
    }

    /// What has been sent since the last call, oldest first.
    #[must_use]
    pub fn take_transmitted(&self) -> Vec<Vec<u8>> {
        std::mem::take(&mut lock(&self.side).transmitted)
    }

    /// The driver sends by itself what is in the tx rings, without being woken.
    pub fn transmit(&self) {
        lock(&self.side).transmit(self.umem.region());
    }

    /// Changes how the kernel misbehaves.
    pub fn faults(&self, change: impl FnOnce(&mut Faults)) {
        change(&mut lock(&self.side).faults);
    }

    /// Writes a descriptor into `worker`'s rx ring as it stands.
    pub fn push_rx(&self, worker: usize, raw: RawDescriptor) {
        let descriptor = Descriptor { address: raw.address, len: raw.len, more: raw.more };
        if let Some(socket) = lock(&self.side).sockets.get_mut(worker) {
            socket.rx.push_back(descriptor);
        }
    }

    /// Writes an address into the completion ring as it stands.
    pub fn push_completion(&self, address: u64) {
        lock(&self.side).completion.push_back(address);
    }

    /// Takes the next address from the fill ring, as a kernel about to receive does.
    #[must_use]
    pub fn take_fill(&self) -> Option<u64> {
        lock(&self.side).fill.pop_front()
    }

    /// Entries in the fill ring.
    #[must_use]
    pub fn fill_len(&self) -> usize {
        lock(&self.side).fill.len()
    }
}

macro_rules! debug_as_name {
    ($($name:ident),*) => {$(
        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($name)).finish_non_exhaustive()
            }
        }
    )*};
}
debug_as_name!(MemorySocket, MemoryRings, MemoryWire);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_goes_round() {
        let (kernel, mut stocks) = MemoryKernel::new(2, 16, ChunkSize::Bytes2048);
        let MemoryQueue { mut sockets, mut rings, wire } =
            kernel.open_queue(2, RingSizes::default());
        let mut batch = FrameBatch::new();
        assert_eq!(stocks[0].take_into(&mut batch, 4), 4);
        assert_eq!(rings.fill(&mut batch), 4);
        wire.inject(1, b"hello").unwrap();
        assert_eq!(sockets[1].rx(&mut batch), 1);
        let mut frame = batch.pop().unwrap();
        assert_eq!((frame.bytes(), frame.home()), (&b"hello"[..], 0));
        frame.chunk_mut()[..3].copy_from_slice(b"bye");
        frame.set_len(3).unwrap();
        batch.push(frame).unwrap();
        assert_eq!(sockets[1].tx(&mut batch), 1);
        assert_eq!(sockets[1].wake_tx(), Wake::Done);
        assert_eq!(wire.take_transmitted(), [b"bye"]);
        assert_eq!(rings.complete(&mut batch), 1);
        assert_eq!(rings.outstanding(), Outstanding { rx: 3, tx: 0 });
        assert_eq!(stocks[1].give_all(&mut batch), 0, "not at home there");
        assert_eq!(stocks[0].give_all(&mut batch), 1);
        assert_eq!(kernel.umem().census().held, 29);
        assert_eq!(kernel.umem().lost(), 0);
    }
}
