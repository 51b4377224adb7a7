//! One pinned thread: receive, process, transmit, and a slot for everything slow.
//!
//! No lock, no allocation and no clock read for a packet; the only system calls are the
//! wake-ups of rings and, when idle and told to, one wait. Tables come as snapshots, SAs as
//! messages over a ring from the main thread, between bursts.

use std::sync::Arc;
use std::time::Instant;

use arc_swap::{ArcSwap, Cache};
use rtrb::Consumer;
use xswan_aead::Key;
use xswan_esp::sequence::LeaseStore;
use xswan_pipeline::engine::{Engine, Env, Inbound, Outbound};
use xswan_pipeline::forward::Fib;
use xswan_pipeline::spd::Spd;
use xswan_sa_api::{InCounters, OutCounters, OutLive};
use xswan_wire::DropReason;
use xswan_xsk::{Bell, QueueRings, QueueSocket, Waiter};

use crate::buffer::Buffer;
use crate::counters::{Totals, WorkerCounters};
use crate::intake::Intake;
use crate::io::Io;
use crate::replay_state::ReplayState;

/// How often the slow slot runs, in milliseconds.
const HOUSEKEEPING_MS: u64 = 1;
/// SAs whose counters are published for each millisecond, so that a million of them do not stall
/// packets.
const PUBLISH_STEP: usize = 256;
/// Milliseconds that are made up for at once after a sleep.
const PUBLISH_SLEPT_MS: u64 = 32;
/// Empty loops before a worker that may sleep does.
const IDLE_LOOPS: u32 = 64;
/// How long it sleeps first, in microseconds; twice as long each time that nothing came.
const FIRST_SLEEP_US: u32 = 500;
/// How long it sleeps at most, in microseconds. Whatever is for it wakes it, so this is how late
/// its counters and the lifetimes of its SAs may be.
const LONGEST_SLEEP_US: u32 = 32_000;
/// How long it sleeps at most while something is under way that nothing wakes it for.
const SHORT_SLEEP_US: u32 = 1000;
/// A learned path MTU is forgotten after this long, in milliseconds (RFC 1191 section 6.3).
const PATH_MTU_AGE_MS: u64 = 600_000;

/// Sequence leases in the shared record.
#[derive(Debug)]
pub struct SharedLease(pub OutLive);

impl LeaseStore for SharedLease {
    fn publish(&mut self, up_to: u64) {
        self.0.publish_lease(up_to);
    }
}

/// The engine as a worker runs it.
pub type WorkerEngine = Engine<Key, ReplayState, SharedLease, Buffer>;
/// An inbound SA ready to use.
pub type ReadyInbound = Inbound<Key, ReplayState>;
/// An outbound SA ready to use.
pub type ReadyOutbound = Outbound<Key, SharedLease>;

/// What the main thread tells a worker.
#[derive(Debug)]
pub enum Command {
    /// Puts an inbound SA into a slot, or takes it out.
    Inbound {
        /// The slot.
        slot: u32,
        /// What to acknowledge.
        generation: u64,
        /// The SA; `None` removes.
        sa: Option<Box<ReadyInbound>>,
        /// The SA that is there goes on in this one: window and counts move over.
        update: bool,
    },
    /// Puts an outbound SA into a slot, or takes it out.
    Outbound {
        /// The slot.
        slot: u32,
        /// What to acknowledge.
        generation: u64,
        /// The SA; `None` removes.
        sa: Option<Box<ReadyOutbound>>,
        /// The SA that is there goes on in this one: numbers and counts move over.
        update: bool,
    },
    /// Where an SPI from outside is, or that it is no more.
    StaticSpi {
        /// The SPI.
        spi: u32,
        /// Worker and slot.
        place: Option<(u32, u32)>,
    },
    /// What a "packet too big" taught about an outbound SA.
    PathMtu {
        /// The slot.
        slot: u32,
        /// The sequence number that was quoted, low half.
        sequence: u32,
        /// The new MTU in bytes, already above the floor.
        mtu: u16,
    },
    /// End the thread.
    Stop,
}

/// What a worker gives back, to be freed where allocation is allowed.
#[derive(Debug)]
pub enum Retired {
    /// An inbound SA, or an empty hand for a slot that was empty.
    Inbound(u32, Option<Box<ReadyInbound>>),
    /// An outbound SA.
    Outbound(u32, Option<Box<ReadyOutbound>>),
    /// A packet that the kernel had sent.
    Packet(Vec<u8>),
}

/// Everything a worker owns.
pub struct Worker<S, R> {
    /// Rings and frames.
    pub io: Io<S, R>,
    /// SAs and counters.
    pub engine: WorkerEngine,
    /// Published counters.
    pub counters: Arc<WorkerCounters>,
    /// Forwarding tables.
    pub fib: Arc<ArcSwap<Fib>>,
    /// Policies.
    pub spd: Arc<ArcSwap<Spd>>,
    /// SAs from the main thread, and back.
    pub intake: Intake,
    /// Packets that the kernel sent into the TUN device; every worker has them all and takes
    /// those of its own SAs, the first one takes those that need none.
    pub injected: Consumer<Vec<u8>>,
    /// Slots in each table.
    pub slots: usize,
    /// Packets taken at once.
    pub burst: usize,
    /// Whether to sleep when there is nothing to do.
    pub sleep: bool,
    /// Whether a queue is busy-polled: then its device may wait for us, and no sleep is long.
    pub busy_poll: bool,
    /// What others wake this worker with.
    pub bell: Arc<Bell>,
}

/// What lives on the worker's stack while it runs.
struct Loop {
    fib: Cache<Arc<ArcSwap<Fib>>, Arc<Fib>>,
    spd: Cache<Arc<ArcSwap<Spd>>, Arc<Spd>>,
    received: Vec<Buffer>,
    clock: Instant,
    clock_base_ms: u64,
    housekept_ms: u64,
    publish_at: usize,
    released_ms: u64,
    waiter: Waiter,
    idle: u32,
    sleep_us: u32,
    loops: u64,
    bursts: u64,
    busy_cycles: u64,
}

impl<S: QueueSocket, R: QueueRings> Worker<S, R> {
    /// Runs until told to stop.
    pub fn run(mut self) {
        let mut state = Loop {
            fib: Cache::new(Arc::clone(&self.fib)),
            spd: Cache::new(Arc::clone(&self.spd)),
            received: Vec::with_capacity(self.burst),
            clock: Instant::now(),
            clock_base_ms: xswan_sa_api::clock_ms(),
            housekept_ms: 0,
            publish_at: 0,
            released_ms: 0,
            waiter: self.io.waiter(Arc::clone(&self.bell)),
            idle: 0,
            sleep_us: FIRST_SLEEP_US,
            loops: 0,
            bursts: 0,
            busy_cycles: 0,
        };
        loop {
            let elapsed = state.clock.elapsed();
            let now_ms =
                state.clock_base_ms + u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
            let busy = self.turn(&mut state, now_ms);
            if now_ms.saturating_sub(state.housekept_ms) >= HOUSEKEEPING_MS {
                self.housekeep(&mut state, now_ms);
            }
            let taken = self.intake.take(&mut self.engine, now_ms, &mut |direction, slot, spi| {
                self.io.note_spi(direction, slot, spi);
            });
            if taken.stop {
                self.publish(&state);
                // The next daemon goes on from what is counted here, limits included.
                return (0..self.slots).for_each(|slot| self.publish_slot(slot, now_ms));
            }
            let busy = busy || taken.commands > 0;
            if busy {
                (state.idle, state.sleep_us) = (0, FIRST_SLEEP_US);
                continue;
            }
            state.idle = state.idle.saturating_add(1);
            if self.sleep && state.idle > IDLE_LOOPS {
                self.rest(&mut state);
            } else {
                std::hint::spin_loop();
            }
        }
    }

    /// Sleeps until something comes, longer each time that nothing did.
    fn rest(&mut self, state: &mut Loop) {
        let longest = match (self.busy_poll, self.io.rest() || self.engine.holds()) {
            (true, _) => FIRST_SLEEP_US,
            (false, true) => SHORT_SLEEP_US,
            (false, false) => LONGEST_SLEEP_US,
        };
        let (io, inbox, injected) = (&self.io, &self.intake.inbox, &self.injected);
        state.waiter.wait(state.sleep_us.min(longest), || {
            io.is_idle() && inbox.is_empty() && injected.is_empty()
        });
        state.sleep_us = (state.sleep_us * 2).min(longest);
    }

    /// One round over all queues; true if there was anything to do.
    fn turn(&mut self, state: &mut Loop, now_ms: u64) -> bool {
        state.loops = state.loops.wrapping_add(1);
        let begun = xswan_xsk::cycles();
        let fib = state.fib.load();
        let spd = state.spd.load();
        let env = Env { fib, spd, now_ms };
        let mut busy = false;
        for index in 0..self.io.queue_count() {
            let (port, count) = self.io.receive(index, &mut state.received);
            if count > 0 {
                busy = true;
                state.bursts = state.bursts.wrapping_add(1);
                let burst = state.received.drain(..).map(|buffer| (port, buffer));
                self.engine.process(&env, &mut self.io, burst);
            }
        }
        for _ in 0..self.burst {
            let Some(taken) = self.io.take_over() else { break };
            busy = true;
            let burst = std::iter::once((taken.port, taken.frame));
            self.engine.process(&env, &mut self.io, burst);
        }
        while let Ok(packet) = self.injected.pop() {
            busy = true;
            self.engine.inject(&env, &mut self.io, &packet);
            let _ = self.intake.outbox.push(Retired::Packet(packet));
        }
        if self.engine.holds() && now_ms != state.released_ms {
            state.released_ms = now_ms;
            self.engine.release_held(&env, &mut self.io);
        }
        self.io.settle(busy);
        if busy {
            let spent = xswan_xsk::cycles().wrapping_sub(begun);
            state.busy_cycles = state.busy_cycles.wrapping_add(spent);
        }
        busy
    }

    /// The slow slot.
    fn housekeep(&mut self, state: &mut Loop, now_ms: u64) {
        let passed_ms = now_ms.saturating_sub(state.housekept_ms).clamp(1, PUBLISH_SLEPT_MS);
        state.housekept_ms = now_ms;
        self.io.housekeep(now_ms);
        self.publish(state);
        self.publish_sas(state, passed_ms as usize * PUBLISH_STEP, now_ms);
    }

    fn publish(&self, state: &Loop) {
        let engine = &self.engine.totals;
        let totals = Totals {
            forwarded: engine.forwarded,
            handed_off: engine.handed_off,
            punted: engine.punted,
            originated: engine.originated,
            sealed: engine.sealed,
            opened: engine.opened,
            bursts: state.bursts,
            loops: state.loops,
            busy_cycles: state.busy_cycles,
            ..self.io.totals
        };
        self.counters.publish_stages(&engine.stages);
        self.counters.publish_queues(self.io.queue_totals());
        self.counters.publish(&totals, &self.engine.drops);
    }

    /// The next few SAs' counters go to the shared records; times are looked at too.
    fn publish_sas(&mut self, state: &mut Loop, count: usize, now_ms: u64) {
        for _ in 0..count.min(self.slots) {
            let slot = state.publish_at;
            state.publish_at = if slot + 1 < self.slots { slot + 1 } else { 0 };
            if !self.io.has_sa(slot) {
                continue;
            }
            self.publish_slot(slot, now_ms);
            self.engine.poll_lifetimes(&mut self.io, slot, now_ms);
        }
    }

    fn publish_slot(&mut self, slot: usize, now_ms: u64) {
        let handle = u32::try_from(slot).unwrap_or(u32::MAX);
        if let Some(entry) = self.engine.inbound.at_mut(slot) {
            self.intake.inbound_live.publish(handle, &inbound_counters(entry));
        }
        if let Some(entry) = self.engine.outbound.at_mut(slot) {
            forget_mtu(entry, now_ms);
            let live = &self.intake.outbound_live;
            let last = live.counters(handle);
            live.publish(handle, &outbound_counters(entry, &last, now_ms));
        }
    }
}

fn forget_mtu(entry: &mut ReadyOutbound, now_ms: u64) {
    if entry.learned_ms.is_some_and(|at| now_ms.saturating_sub(at) > PATH_MTU_AGE_MS) {
        entry.learned_ms = None;
        entry.path_mtu = u16::MAX;
    }
}

fn inbound_counters(entry: &ReadyInbound) -> InCounters {
    let (sa, counted) = (&entry.sa, &entry.sa.counters);
    InCounters {
        packets: sa.lifetime().packets(),
        bytes: sa.lifetime().bytes(),
        // Before the first packet it is when the SA was made.
        last_used_ms: if sa.lifetime().packets() == 0 { 0 } else { sa.last_seen_ms() },
        auth_fail: counted.auth_fail,
        replay: counted.replay,
        lost: sa.replay().lost(),
        other: counted.malformed + counted.selector + counted.address + counted.ecn,
    }
}

fn outbound_counters(entry: &ReadyOutbound, last: &OutCounters, now_ms: u64) -> OutCounters {
    let lifetime = entry.sa.lifetime();
    let used = lifetime.packets() != last.packets;
    OutCounters {
        packets: lifetime.packets(),
        bytes: lifetime.bytes(),
        last_used_ms: if used { now_ms } else { last.last_used_ms },
        drops: 0,
        path_mtu: if entry.path_mtu == u16::MAX { 0 } else { u64::from(entry.path_mtu) },
    }
}

const _: () = assert!(DropReason::COUNT < 256);
