//! A worker's rings and frames, and the pipeline's way to them.
//!
//! Frames go home: each belongs to one worker's part of the UMEM, and wherever it is when
//! it is done with (received by another, sent by another, read by the slow path), it goes
//! back over a ring to the worker that may put it on a fill ring again. No frame is ever
//! waited for: what a full ring does not take stays in a list that is tried again.

use std::sync::Arc;

use rtrb::{Consumer, Producer};
use xswan_sa_api::{Direction, EventSender};
use xswan_xsk::socket::KernelStatistics;
use xswan_xsk::{Bell, FrameBatch, FrameStock, QueueRings, QueueSocket, StallWatch, Waiter, Wake};

use crate::buffer::{Added, Buffer, JumboPool, Partial};
use crate::counters::{QueueTotals, Totals};
use crate::kernel::slow_path::Punt;

/// Frames that may wait for a transmit ring, for each port.
///
/// A burst and its fragments fit; a ring that stays full fills it within a few bursts, and
/// then packets are dropped and counted instead of waiting longer and longer.
const TX_WAITING: usize = 512;
/// Loops between two looks at completions and fill rings of a queue that is quiet.
const QUIET_LOOPS: u64 = 16;
/// Time between two looks at the kernel's own counters: one system call a socket.
const KERNEL_COUNTERS_MS: u64 = 256;

/// A received frame on its way to the worker that owns its SA.
#[derive(Debug)]
pub struct HandedOff {
    /// The port it came in on.
    pub port: u16,
    /// The frame.
    pub frame: Buffer,
}

/// What a worker has of one queue.
pub struct Queue<S, R> {
    /// Position of the port.
    pub port: u16,
    /// This worker's socket.
    pub socket: S,
    /// Fill and completion ring, at the queue's own worker.
    pub rings: Option<R>,
    /// Frames that should be on the fill ring, in flight or received.
    pub fill_target: u64,
    /// Notices completions that stop coming.
    pub watch: StallWatch,
}

/// The rings between one worker and another.
pub struct Neighbour {
    /// Frames of SAs that the other owns.
    pub hand_off: Producer<HandedOff>,
    /// Frames that belong to the other.
    pub home: Producer<Buffer>,
    /// Frames of SAs that we own.
    pub taken_over: Consumer<HandedOff>,
    /// Our own frames, coming home.
    pub returned: Consumer<Buffer>,
    /// Wakes the other.
    pub bell: Arc<Bell>,
}

/// The rings between a worker and the slow path.
pub struct SlowPathRings {
    /// Packets for the kernel.
    pub punts: Producer<Punt>,
    /// Their frames, coming home.
    pub returned: Consumer<Buffer>,
    /// Wakes the slow path.
    pub bell: Arc<Bell>,
}

/// Rings, frames and the way out of one worker.
pub struct Io<S, R> {
    worker: usize,
    queues: Vec<Queue<S, R>>,
    /// Which queue each port's packets leave by, and what waits for it.
    exits: Vec<(usize, FrameBatch)>,
    stock: FrameStock,
    /// By worker; `None` at our own place.
    neighbours: Vec<Option<Neighbour>>,
    slow_path: SlowPathRings,
    events: Option<EventSender>,
    /// Frames of others whose ring home was full.
    stranded: Vec<Buffer>,
    batch: FrameBatch,
    /// What one look at a receive ring brings; as long as a burst.
    received: FrameBatch,
    jumbos: JumboPool,
    /// By queue: the packet whose last piece has not come yet.
    partial: Vec<Partial>,
    transmitted: bool,
    /// Something has been pushed to a neighbour since its bell was last rung.
    called: bool,
    /// The same of the slow path.
    punted: bool,
    loops: u64,
    looked_ms: Option<u64>,
    /// What the kernel has counted, and whether completions have stopped, by queue.
    kernel: Vec<(KernelStatistics, bool)>,
    /// What a chunk holds, in bytes.
    chunk_room: usize,
    /// What this side has counted.
    pub totals: Totals,
    /// SPIs by slot for events: inbound, outbound.
    spis: [Vec<u32>; 2],
}

/// What [`Io::new`] needs.
pub struct IoParts<S, R> {
    /// This worker's number.
    pub worker: usize,
    /// Its sockets.
    pub queues: Vec<Queue<S, R>>,
    /// For each port the queue that packets leave by, as a position in `queues`.
    pub exits: Vec<usize>,
    /// Its free frames.
    pub stock: FrameStock,
    /// By worker; `None` at its own place.
    pub neighbours: Vec<Option<Neighbour>>,
    /// The slow path.
    pub slow_path: SlowPathRings,
    /// The ring of events.
    pub events: Option<EventSender>,
    /// Slots in each SA table.
    pub slots: usize,
    /// Packets taken at once.
    pub burst: usize,
    /// Long buffers; 0 unless packets over several chunks are taken.
    pub jumbos: usize,
}

impl<S: QueueSocket, R: QueueRings> Io<S, R> {
    /// Takes everything over and fills the fill rings.
    #[must_use]
    pub fn new(parts: IoParts<S, R>) -> Self {
        let exits = parts.exits.iter();
        let mut stock = parts.stock;
        let chunk_room = room_of_a_chunk(&mut stock);
        let partial = parts.queues.iter().map(|_| Partial::default()).collect();
        let mut io = Self {
            worker: parts.worker,
            exits: exits.map(|&queue| (queue, FrameBatch::with_capacity(TX_WAITING))).collect(),
            kernel: vec![Default::default(); parts.queues.len()],
            queues: parts.queues,
            stock,
            neighbours: parts.neighbours,
            slow_path: parts.slow_path,
            events: parts.events,
            stranded: Vec::new(),
            batch: FrameBatch::new(),
            received: FrameBatch::with_capacity(parts.burst),
            jumbos: JumboPool::new(parts.worker, parts.jumbos),
            partial,
            transmitted: false,
            called: false,
            punted: false,
            loops: 0,
            looked_ms: None,
            chunk_room,
            totals: Totals::default(),
            spis: [vec![0; parts.slots], vec![0; parts.slots]],
        };
        for index in 0..io.queues.len() {
            io.refill(index);
        }
        io
    }

    /// Remembers an SPI for the events of its slot.
    pub fn note_spi(&mut self, direction: Direction, slot: u32, spi: u32) {
        let table = match direction {
            Direction::Inbound => 0,
            Direction::Outbound => 1,
        };
        if let Some(place) = self.spis.get_mut(table).and_then(|t| t.get_mut(slot as usize)) {
            *place = spi;
        }
    }

    /// Whether an SA of either direction is in a slot; told from a table much denser than theirs.
    #[must_use]
    pub fn has_sa(&self, slot: usize) -> bool {
        self.spis.iter().any(|table| table.get(slot).is_some_and(|&spi| spi != 0))
    }

    /// Takes what has arrived on the queue at `index`, a burst at most: its port and how many
    /// frames it was.
    #[inline]
    pub fn receive(&mut self, index: usize, out: &mut Vec<Buffer>) -> (u16, usize) {
        let Some(queue) = self.queues.get_mut(index) else { return (0, 0) };
        let port = queue.port;
        let count = queue.socket.rx(&mut self.received);
        self.totals.received = self.totals.received.wrapping_add(count as u64);
        if self.jumbos.is_used() {
            self.gather(index, out);
        } else {
            out.extend(self.received.drain().map(Buffer::Chunk));
        }
        (port, count)
    }

    /// Packets over several frames become one buffer each. Of one that cannot be gathered the
    /// last frame goes on, marked as the part that it is, and is dropped for that.
    fn gather(&mut self, index: usize, out: &mut Vec<Buffer>) {
        let mut received = std::mem::replace(&mut self.received, FrameBatch::with_capacity(0));
        for mut frame in received.drain() {
            let Some(partial) = self.partial.get_mut(index) else { break };
            if !partial.is_begun() && !frame.is_multi_buffer() {
                out.push(Buffer::Chunk(frame));
                continue;
            }
            match partial.add(&mut self.jumbos, frame.bytes(), frame.is_multi_buffer()) {
                Added::More => self.send_home(Buffer::Chunk(frame)),
                Added::Whole(jumbo) => {
                    self.totals.gathered = self.totals.gathered.wrapping_add(1);
                    out.push(Buffer::Jumbo(jumbo));
                    self.send_home(Buffer::Chunk(frame));
                }
                Added::Refused => {
                    frame.set_multi_buffer(true);
                    out.push(Buffer::Chunk(frame));
                }
            }
        }
        self.received = received;
    }

    /// This worker's number.
    #[must_use]
    pub const fn worker(&self) -> usize {
        self.worker
    }

    /// How many queues there are.
    #[must_use]
    pub fn queue_count(&self) -> usize {
        self.queues.len()
    }

    /// What to wait for when there is nothing to do, beside our own bell.
    #[must_use]
    pub fn waiter(&self, bell: Arc<Bell>) -> Waiter {
        Waiter::new(bell, self.queues.iter().filter_map(|queue| queue.socket.fd()))
    }

    /// Before a sleep: brings home and refills what a quiet loop may have put off. Whether
    /// something is under way that no socket and no bell will tell of, so that the sleep has to
    /// be short.
    pub fn rest(&mut self) -> bool {
        self.settle(true);
        let waits = |(_, waiting): &(usize, FrameBatch)| !waiting.is_empty();
        let unsent = |queue: &mut Queue<S, R>| {
            let outstanding = queue.rings.as_ref().map_or(0, |rings| rings.outstanding().tx);
            outstanding > 0 || queue.socket.pending_tx() > 0
        };
        !self.stranded.is_empty()
            || self.exits.iter().any(waits)
            || self.queues.iter_mut().any(unsent)
    }

    /// Whether no other thread has pushed anything for us.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        let quiet = |n: &Neighbour| n.taken_over.is_empty() && n.returned.is_empty();
        self.neighbours.iter().flatten().all(quiet) && self.slow_path.returned.is_empty()
    }

    /// Takes one frame that another worker has handed to us.
    pub fn take_over(&mut self) -> Option<HandedOff> {
        let taken = self
            .neighbours
            .iter_mut()
            .flatten()
            .find_map(|neighbour| neighbour.taken_over.pop().ok());
        if taken.is_some() {
            self.totals.taken_over = self.totals.taken_over.wrapping_add(1);
        }
        taken
    }

    /// After each loop: what is to be sent goes to the rings, what was sent comes back, and
    /// the fill rings are kept full. `busy` if the loop had packets.
    pub fn settle(&mut self, busy: bool) {
        self.loops = self.loops.wrapping_add(1);
        if self.transmitted {
            self.flush();
        }
        if busy || self.loops.is_multiple_of(QUIET_LOOPS) {
            self.come_home();
            for index in 0..self.queues.len() {
                self.reap(index);
                self.refill(index);
            }
        }
        self.call();
    }

    /// Those who have something from us wake up.
    fn call(&mut self) {
        if std::mem::take(&mut self.called) {
            self.neighbours.iter().flatten().for_each(|neighbour| neighbour.bell.ring());
        }
        if std::mem::take(&mut self.punted) {
            self.slow_path.bell.ring();
        }
    }

    fn flush(&mut self) {
        self.transmitted = false;
        for (queue, waiting) in &mut self.exits {
            let Some(queue) = self.queues.get_mut(*queue) else { continue };
            if !waiting.is_empty() {
                queue.socket.tx(waiting);
            }
            // A kernel that says "not now" is asked again in the next loop.
            let again = queue.socket.wake_tx() == Wake::Busy;
            if !waiting.is_empty() {
                self.totals.tx_retries = self.totals.tx_retries.wrapping_add(1);
            }
            self.transmitted |= again || !waiting.is_empty();
        }
    }

    /// Completions of a queue of ours go home.
    fn reap(&mut self, index: usize) {
        let Some(queue) = self.queues.get_mut(index) else { return };
        let Some(rings) = &mut queue.rings else { return };
        rings.complete(&mut self.batch);
        while let Some(frame) = self.batch.pop() {
            self.send_home(Buffer::Chunk(frame));
        }
    }

    /// Keeps the fill ring of a queue of ours at its target.
    fn refill(&mut self, index: usize) {
        let Some(queue) = self.queues.get_mut(index) else { return };
        let Some(rings) = &mut queue.rings else { return };
        let with_kernel = rings.outstanding().rx;
        let missing = usize::try_from(queue.fill_target.saturating_sub(with_kernel)).unwrap_or(0);
        let count = missing.min(rings.fill_room());
        if count == 0 {
            return;
        }
        self.stock.take_into(&mut self.batch, count);
        rings.fill(&mut self.batch);
        self.stock.give_all(&mut self.batch);
        let _ = rings.wake_fill();
    }

    #[inline]
    fn send_home(&mut self, buffer: Buffer) {
        let home = buffer.home();
        if home == self.worker {
            return self.keep(buffer);
        }
        self.called = true;
        let refused = match self.neighbours.get_mut(home).and_then(Option::as_mut) {
            Some(neighbour) => neighbour.home.push(buffer).err().map(|rtrb::PushError::Full(b)| b),
            None => Some(buffer),
        };
        self.stranded.extend(refused);
    }

    /// A buffer of ours is free again.
    #[inline]
    fn keep(&mut self, buffer: Buffer) {
        match buffer {
            Buffer::Chunk(frame) => {
                // Its home is this stock, so it is taken.
                if let Err(frame) = self.stock.give(frame) {
                    self.stranded.push(Buffer::Chunk(frame));
                }
            }
            Buffer::Jumbo(jumbo) => self.jumbos.give(jumbo),
        }
    }

    /// Our buffers come home from others, and stranded ones of theirs try again.
    fn come_home(&mut self) {
        for place in 0..self.neighbours.len() {
            while let Some(Some(neighbour)) = self.neighbours.get_mut(place)
                && let Ok(buffer) = neighbour.returned.pop()
            {
                self.keep(buffer);
            }
        }
        while let Ok(buffer) = self.slow_path.returned.pop() {
            self.send_home(buffer);
        }
        for _ in 0..self.stranded.len() {
            let Some(buffer) = self.stranded.pop() else { break };
            let before = self.stranded.len();
            self.send_home(buffer);
            if self.stranded.len() > before {
                break;
            }
        }
    }

    /// On a schedule, traffic or not: wake-ups that may have been lost, queues that stall.
    pub fn housekeep(&mut self, now_ms: u64) {
        let mut stalls = 0;
        let due = |at| now_ms.saturating_sub(at) >= KERNEL_COUNTERS_MS;
        let look = self.looked_ms.is_none_or(due);
        if look {
            self.looked_ms = Some(now_ms);
        }
        for (queue, (statistics, stalled)) in self.queues.iter_mut().zip(&mut self.kernel) {
            if queue.socket.pending_tx() > 0 {
                let _ = queue.socket.kick_tx();
            }
            if let Some(rings) = &mut queue.rings {
                let _ = rings.wake_fill();
                let completed = rings.counters().completed;
                let now = queue.watch.needs_rebuild(rings.outstanding().tx, completed, now_ms);
                if now && !*stalled {
                    tracing::warn!(port = queue.port, "a queue's completions have stopped");
                }
                *stalled = now;
            }
            stalls += queue.watch.stalls();
            // A socket whose device is gone keeps its last numbers.
            if look && let Ok(counted) = queue.socket.statistics() {
                *statistics = counted;
            }
        }
        self.totals.tx_stalls = stalls;
        self.totals.frames_free = self.stock.len() as u64;
        let violations = |queue: &Queue<S, R>| {
            let rings = queue.rings.as_ref().map_or(0, |r| r.counters().umem_ownership_violation);
            queue.socket.counters().umem_ownership_violation + rings
        };
        self.totals.frame_violations = self.queues.iter().map(violations).sum();
        self.totals.tx_wakeups = self.queues.iter().map(|q| q.socket.counters().wakes).sum();
    }

    /// What each socket has seen, in the order of queues.
    pub fn queue_totals(&self) -> impl Iterator<Item = QueueTotals> + '_ {
        self.queues.iter().zip(&self.kernel).map(|(queue, (kernel, _))| {
            let own = queue.socket.counters();
            QueueTotals {
                received: own.received,
                refused: own.umem_ownership_violation,
                sent: own.sent,
                rx_dropped: kernel.rx_dropped,
                rx_ring_full: kernel.rx_ring_full,
                fill_ring_empty: kernel.rx_fill_ring_empty_descs,
                rx_invalid: kernel.rx_invalid_descs,
                tx_invalid: kernel.tx_invalid_descs,
            }
        })
    }
}

/// How much a chunk holds; all of a stock's are alike.
fn room_of_a_chunk(stock: &mut FrameStock) -> usize {
    let Some(frame) = stock.take() else { return 0 };
    let room = frame.capacity();
    // It has just been taken from there.
    let _ = stock.give(frame);
    room
}

mod sink;
#[cfg(test)]
mod tests;
