//! What each worker has counted, readable by the main thread at any time.
//!
//! One writer, the worker, with relaxed stores once a loop; readers add up.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crossbeam::utils::CachePadded;
use xswan_pipeline::stage::{Stage, StageTotals};
use xswan_wire::DropReason;

macro_rules! counters {
    ($(#[$of:meta])* $totals:ident, $shared:ident: $( $(#[$doc:meta])* $name:ident, )*) => {
        $(#[$of])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct $totals {
            $( $(#[$doc])* pub $name: u64, )*
        }

        /// The same in memory that others read.
        #[derive(Debug, Default)]
        struct $shared {
            $( $name: AtomicU64, )*
        }

        impl $shared {
            fn store(&self, totals: &$totals) {
                $( self.$name.store(totals.$name, Relaxed); )*
            }

            fn load(&self) -> $totals {
                $totals { $( $name: self.$name.load(Relaxed), )* }
            }
        }
    };
}

counters! {
    /// What one worker's socket has seen of one queue: its own counters and the kernel's
    /// (`XDP_STATISTICS`), the latter some hundred milliseconds old.
    QueueTotals, SharedQueue:
    /// Frames received.
    received,
    /// Descriptors that were not ours to have; a frame each that was not processed.
    refused,
    /// Frames sent.
    sent,
    /// Frames that the kernel dropped because there was none to receive into, or it was too short.
    rx_dropped,
    /// Frames that the kernel dropped because the receive ring was full.
    rx_ring_full,
    /// Times that the kernel found the fill ring empty; counted for the queue, not the socket.
    fill_ring_empty,
    /// Entries of the fill ring that the kernel refused.
    rx_invalid,
    /// Entries of the transmit ring that the kernel refused.
    tx_invalid,
}

counters! {
    /// One worker's totals since it started.
    Totals, Shared:
    /// Frames taken from receive rings.
    received,
    /// Packets forwarded out of a port.
    forwarded,
    /// Frames handed to another worker that owns their SA.
    handed_off,
    /// Frames taken over from another worker.
    taken_over,
    /// Packets given to the kernel's slow path.
    punted,
    /// Packets made here: ICMP errors and the further fragments of cut packets.
    originated,
    /// Receive bursts that were not empty.
    bursts,
    /// Loops in all.
    loops,
    /// Time stamp counter cycles spent in loops that had packets.
    busy_cycles,
    /// Packets received over several frames and put together.
    gathered,
    /// Packets sent over several frames.
    scattered,
    /// Transmit ring full or kernel busy, retried in a later loop.
    tx_retries,
    /// Wake-ups of the kernel's transmit side.
    tx_wakeups,
    /// Descriptors from the kernel that were not ours to have.
    frame_violations,
    /// Packets sealed.
    sealed,
    /// Packets opened.
    opened,
    /// Free frames in this worker's hands.
    frames_free,
    /// Queues whose completions have stopped for longer than the deadline.
    tx_stalls,
}

/// One worker's counters on cache lines of their own.
#[derive(Debug)]
pub struct WorkerCounters {
    shared: CachePadded<Shared>,
    /// By queue, in the order of ports.
    queues: Box<[SharedQueue]>,
    drops: CachePadded<[AtomicU64; DropReason::COUNT]>,
    /// Ticks and packets of each stage.
    stages: CachePadded<[[AtomicU64; 2]; Stage::COUNT]>,
    /// Time stamp counter at the last loop, for the watchdog.
    heartbeat: CachePadded<AtomicU64>,
}

impl Default for WorkerCounters {
    fn default() -> Self {
        Self::new(0)
    }
}

impl WorkerCounters {
    /// Zeros, for a worker with this many sockets.
    #[must_use]
    pub fn new(queues: usize) -> Self {
        Self {
            shared: CachePadded::default(),
            queues: (0..queues).map(|_| SharedQueue::default()).collect(),
            drops: CachePadded::new(std::array::from_fn(|_| AtomicU64::new(0))),
            stages: CachePadded::default(),
            heartbeat: CachePadded::default(),
        }
    }

    /// Publishes what the sockets have seen, in the order of queues; called by the worker alone.
    pub fn publish_queues(&self, queues: impl Iterator<Item = QueueTotals>) {
        for (shared, totals) in self.queues.iter().zip(queues) {
            shared.store(&totals);
        }
    }

    /// Publishes what the passes over bursts have cost; called by the worker alone.
    pub fn publish_stages(&self, stages: &[StageTotals; Stage::COUNT]) {
        for ([ticks, packets], totals) in self.stages.iter().zip(stages) {
            ticks.store(totals.ticks, Relaxed);
            packets.store(totals.packets, Relaxed);
        }
    }

    /// What the passes over bursts have cost, in the order of [`Stage::ALL`].
    pub fn stages(&self) -> impl Iterator<Item = (Stage, StageTotals)> + '_ {
        let load = |[ticks, packets]: &[AtomicU64; 2]| StageTotals {
            ticks: ticks.load(Relaxed),
            packets: packets.load(Relaxed),
        };
        Stage::ALL.into_iter().zip(self.stages.iter().map(load))
    }

    /// What the sockets have seen, in the order of queues.
    pub fn queues(&self) -> impl Iterator<Item = QueueTotals> + '_ {
        self.queues.iter().map(SharedQueue::load)
    }

    /// Publishes; called by the worker alone.
    pub fn publish(&self, totals: &Totals, drops: &[u64; DropReason::COUNT]) {
        self.shared.store(totals);
        for (shared, count) in self.drops.iter().zip(drops) {
            shared.store(*count, Relaxed);
        }
        self.heartbeat.fetch_add(1, Relaxed);
    }

    /// The totals now.
    #[must_use]
    pub fn totals(&self) -> Totals {
        self.shared.load()
    }

    /// The drops by reason now.
    #[must_use]
    pub fn drops(&self) -> [u64; DropReason::COUNT] {
        std::array::from_fn(|index| self.drops.get(index).map_or(0, |count| count.load(Relaxed)))
    }

    /// Grows as long as the worker lives.
    #[must_use]
    pub fn heartbeat(&self) -> u64 {
        self.heartbeat.load(Relaxed)
    }
}
