//! Two workers, one device, a kernel in memory: every frame comes home.

use std::collections::VecDeque;
use std::sync::Arc;

use rtrb::RingBuffer;
use xswan_pipeline::sink::Sink;
use xswan_sa_api::Direction;
use xswan_xsk::memory::{MemoryKernel, MemoryRings, MemorySocket, MemoryWire};
use xswan_xsk::socket::RingSizes;
use xswan_xsk::{Bell, ChunkSize, StallWatch};

use super::{Io, IoParts, Neighbour, Queue, SlowPathRings};
use crate::buffer::Buffer;
use crate::kernel::slow_path::Punt;

const FRAMES: u32 = 64;
const SIZES: RingSizes = RingSizes { fill: 32, completion: 64, rx: 32, tx: 32 };
/// Small, so that it runs full and frames are stranded.
const NEIGHBOUR_RING: usize = 4;

type MemoryIo = Io<MemorySocket, MemoryRings>;

struct Bench {
    kernel: MemoryKernel,
    workers: Vec<MemoryIo>,
    wires: Vec<MemoryWire>,
    /// The slow path's ends, by worker.
    slow: Vec<(rtrb::Consumer<Punt>, rtrb::Producer<Buffer>)>,
}

fn bell() -> Arc<Bell> {
    Arc::new(Bell::new().expect("a descriptor"))
}

/// Rings from worker 0 to 1 and back, as the two see them.
fn neighbours() -> [Vec<Option<Neighbour>>; 2] {
    let (to_1, from_0) = RingBuffer::new(NEIGHBOUR_RING);
    let (to_0, from_1) = RingBuffer::new(NEIGHBOUR_RING);
    let (home_1, returned_1) = RingBuffer::new(NEIGHBOUR_RING);
    let (home_0, returned_0) = RingBuffer::new(NEIGHBOUR_RING);
    let between = |hand_off, home, taken_over, returned| Neighbour {
        hand_off,
        home,
        taken_over,
        returned,
        bell: bell(),
    };
    let at_0 = between(to_1, home_1, from_1, returned_0);
    let at_1 = between(to_0, home_0, from_0, returned_1);
    [vec![None, Some(at_0)], vec![Some(at_1), None]]
}

impl Bench {
    /// Queue `q` belongs to worker `q mod 2`.
    fn new(queues: usize) -> Self {
        Self::with_jumbos(queues, 0)
    }

    fn with_jumbos(queues: usize, jumbos: usize) -> Self {
        let (kernel, stocks) = MemoryKernel::new(2, FRAMES, ChunkSize::Bytes2048);
        let mut dealt: [Vec<Queue<MemorySocket, MemoryRings>>; 2] = [Vec::new(), Vec::new()];
        let mut wires = Vec::new();
        for number in 0..queues {
            let queue = kernel.open_queue(2, SIZES);
            wires.push(queue.wire);
            let mut rings = Some(queue.rings);
            for (worker, socket) in queue.sockets.into_iter().enumerate() {
                let rings = if number % 2 == worker { rings.take() } else { None };
                let watch = StallWatch::default();
                dealt[worker].push(Queue { port: 0, socket, rings, fill_target: 16, watch });
            }
        }
        let mut slow = Vec::new();
        let mut workers = Vec::new();
        for (worker, ((stock, queues), neighbours)) in
            stocks.into_iter().zip(dealt).zip(neighbours()).enumerate()
        {
            let (punts, punted) = RingBuffer::new(8);
            let (back, returned) = RingBuffer::new(16);
            slow.push((punted, back));
            let own = queues.iter().position(|queue| queue.rings.is_some()).unwrap_or(0);
            workers.push(Io::new(IoParts {
                worker,
                queues,
                exits: vec![own],
                stock,
                neighbours,
                slow_path: SlowPathRings { punts, returned, bell: bell() },
                events: None,
                slots: 1,
                burst: 64,
                jumbos,
            }));
        }
        Self { kernel, workers, wires, slow }
    }

    fn receive(&mut self, worker: usize) -> Vec<Buffer> {
        let mut received = Vec::new();
        for queue in 0..self.workers[worker].queue_count() {
            self.workers[worker].receive(queue, &mut received);
        }
        received
    }

    /// Lets everything under way arrive.
    fn settle(&mut self) {
        for _ in 0..64 {
            for wire in &self.wires {
                wire.transmit();
                let _on_the_wire = wire.take_transmitted();
            }
            for (punted, back) in &mut self.slow {
                while let Ok(punt) = punted.pop() {
                    back.push(punt.frame).expect("as long as the ring of punts, twice");
                }
            }
            for worker in &mut self.workers {
                worker.settle(true);
            }
        }
    }

    /// All frames are free at home or on a fill ring of their home.
    #[track_caller]
    fn assert_home(&mut self) {
        self.settle();
        let census = self.kernel.umem().census();
        assert_eq!((census.lost, census.tx), (0, 0), "{census:?}");
        assert_eq!(census.held + census.rx, u64::from(FRAMES) * 2, "{census:?}");
        let free: u64 = self.workers.iter().map(|worker| worker.stock.len() as u64).sum();
        assert_eq!(free, census.held, "frames that nobody has: {census:?}");
        assert!(self.workers.iter().all(|worker| worker.stranded.is_empty()));
    }
}

#[test]
fn a_frame_received_by_another_worker_goes_home() {
    let mut bench = Bench::new(2);
    for round in 0..100 {
        // Queue 0 is worker 0's; the program steers to worker 1.
        bench.wires[0].inject(1, &[round; 100]).expect("room");
        let mut frames = bench.receive(1);
        let frame = frames.pop().expect("received");
        assert_eq!((frame.home(), frame.bytes()), (0, &[round; 100][..]));
        bench.workers[1].recycle(frame);
        if round % 10 == 0 {
            bench.assert_home();
        }
    }
    bench.assert_home();
}

#[test]
fn str_04_a_frame_handed_over_is_in_order_and_the_ring_has_an_end() {
    let mut bench = Bench::new(2);
    for number in 0..6 {
        bench.wires[0].inject(0, &[number; 60]).expect("room");
    }
    let mut refused = 0;
    for frame in bench.receive(0) {
        if let Some(frame) = bench.workers[0].hand_off(1, 7, frame) {
            refused += 1;
            bench.workers[0].recycle(frame);
        }
    }
    assert_eq!(refused, 6 - NEIGHBOUR_RING);
    let mut order = Vec::new();
    while let Some(taken) = bench.workers[1].take_over() {
        assert_eq!(taken.port, 7);
        order.push(taken.frame.bytes()[0]);
        bench.workers[1].recycle(taken.frame);
    }
    assert_eq!(order, [0, 1, 2, 3]);
    bench.assert_home();
}

#[test]
fn what_a_worker_sends_by_anothers_queue_comes_back_to_it() {
    // One queue, worker 0's: worker 1 sends by it and has no completion ring.
    let mut bench = Bench::new(1);
    for round in 0..50 {
        let mut frame = bench.workers[1].take().expect("a free frame");
        MemoryIo::room_mut(&mut frame)[..64].fill(round);
        assert!(bench.workers[1].send(0, frame, 64).is_none());
        bench.workers[1].settle(true);
    }
    bench.assert_home();
}

#[test]
fn xsk_03_a_full_transmit_ring_holds_back_and_then_refuses() {
    let mut bench = Bench::new(2);
    bench.wires[0].faults(|faults| faults.wake_error = Some(11));
    let (mut sent, mut refused) = (0, 0);
    while let Some(frame) = bench.workers[0].take() {
        match bench.workers[0].send(0, frame, 60) {
            None => sent += 1,
            Some(frame) => {
                refused += 1;
                bench.workers[0].recycle(frame);
                break;
            }
        }
        bench.workers[0].settle(true);
    }
    // All free frames fit the ring and the list behind it; none is lost when the kernel wakes.
    assert_eq!((sent, refused), (FRAMES as usize - 16, 0));
    bench.wires[0].faults(|faults| faults.wake_error = None);
    bench.assert_home();
}

#[test]
fn any_order_of_steps_loses_no_frame() {
    let mut bench = Bench::new(2);
    let mut in_hand: [VecDeque<Buffer>; 2] = [VecDeque::new(), VecDeque::new()];
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    for _ in 0..100_000 {
        let worker = random(2) as usize;
        match random(8) {
            0 | 1 => {
                let _full = bench.wires[random(2) as usize].inject(worker, &[1; 80]);
            }
            2 => {
                let frames = bench.receive(worker);
                in_hand[worker].extend(frames);
            }
            3 => {
                if let Some(frame) = in_hand[worker].pop_front() {
                    bench.workers[worker].recycle(frame);
                }
            }
            4 => {
                if let Some(frame) = in_hand[worker].pop_front()
                    && let Some(frame) = bench.workers[worker].hand_off(1 - worker as u32, 0, frame)
                {
                    bench.workers[worker].recycle(frame);
                }
            }
            5 => {
                if let Some(taken) = bench.workers[worker].take_over() {
                    in_hand[worker].push_back(taken.frame);
                }
            }
            6 => {
                if let Some(frame) = bench.workers[worker].take()
                    && let Some(frame) = if random(4) == 0 {
                        bench.workers[worker].punt(frame, 14, 40)
                    } else {
                        bench.workers[worker].send(0, frame, 60)
                    }
                {
                    bench.workers[worker].recycle(frame);
                }
            }
            _ => bench.workers[worker].settle(random(2) == 0),
        }
    }
    for (worker, in_hand) in in_hand.into_iter().enumerate() {
        while let Some(taken) = bench.workers[worker].take_over() {
            bench.workers[worker].recycle(taken.frame);
        }
        for frame in bench.receive(worker).into_iter().chain(in_hand) {
            bench.workers[worker].recycle(frame);
        }
    }
    let totals = |pick: fn(&MemoryIo) -> u64| bench.workers.iter().map(pick).sum::<u64>();
    assert!(totals(|io| io.totals.received) > 10_000 && totals(|io| io.totals.taken_over) > 1_000);
    bench.assert_home();
}

/// What a chunk holds in these tests.
const CHUNK: usize = 2048 - 256;

fn pieces_of(packet: &[u8]) -> Vec<&[u8]> {
    packet.chunks(CHUNK).collect()
}

#[test]
fn a_packet_over_several_chunks_goes_through_in_one_piece() {
    let mut bench = Bench::with_jumbos(2, 4);
    for (round, len) in
        [CHUNK + 1, 2 * CHUNK - 1, 2 * CHUNK, 2 * CHUNK + 1, 5 * CHUNK].into_iter().enumerate()
    {
        let packet: Vec<u8> = (0..len).map(|at| (at * 7 + round) as u8).collect();
        bench.wires[0].inject_chain(0, &pieces_of(&packet)).expect("room");
        bench.wires[0].inject(0, b"a short one").expect("room");
        let mut received = bench.receive(0);
        assert_eq!(received.len(), 2);
        let (short, long) = (received.pop().expect("short"), received.pop().expect("long"));
        assert_eq!((long.bytes(), short.bytes()), (&packet[..], &b"a short one"[..]));
        assert!(!long.is_multi_buffer());
        bench.workers[0].recycle(short);

        let mut out = bench.workers[0].take_for(len).expect("a long buffer");
        out.room_mut()[..len].copy_from_slice(&packet);
        bench.workers[0].recycle(long);
        assert!(bench.workers[0].send(0, out, len).is_none());
        bench.workers[0].settle(true);
        assert_eq!(bench.wires[0].take_transmitted().concat(), packet, "{len}");
        bench.assert_home();
        assert_eq!(bench.workers[0].jumbos.free(), 4);
    }
    let totals = bench.workers[0].totals;
    assert_eq!((totals.gathered, totals.scattered), (5, 5));
}

#[test]
fn pieces_that_come_apart_are_one_packet_all_the_same() {
    let mut bench = Bench::with_jumbos(1, 1);
    let packet = vec![7; 3 * CHUNK];
    bench.workers[0].received = xswan_xsk::FrameBatch::with_capacity(2);
    bench.wires[0].inject_chain(0, &pieces_of(&packet)).expect("room");
    assert!(bench.receive(0).is_empty());
    let whole = bench.receive(0).pop().expect("the rest");
    assert_eq!(whole.bytes(), packet);
    bench.workers[0].recycle(whole);
    bench.assert_home();
}

#[test]
fn a_packet_for_which_there_is_no_long_buffer_is_dropped_once() {
    let mut bench = Bench::with_jumbos(1, 1);
    let packet = vec![7; 3 * CHUNK];
    for _ in 0..2 {
        bench.wires[0].inject_chain(0, &pieces_of(&packet)).expect("room");
    }
    let received = bench.receive(0);
    assert_eq!(received.len(), 2);
    assert_eq!(received[0].bytes(), packet);
    assert!(received[1].is_multi_buffer(), "which the engine counts and drops");
    assert!(bench.workers[0].take_for(5000).is_none());
    for buffer in received {
        bench.workers[0].recycle(buffer);
    }
    // Without long buffers every part of a packet is dropped for what it is.
    bench.assert_home();
    let mut bench = Bench::new(1);
    bench.wires[0].inject_chain(0, &pieces_of(&packet)).expect("room");
    for buffer in bench.receive(0) {
        bench.workers[0].recycle(buffer);
    }
    bench.assert_home();
}

#[test]
fn a_long_packet_without_room_for_all_of_it_is_not_sent_in_part() {
    let mut bench = Bench::with_jumbos(2, 2);
    let out = bench.workers[0].take_for(5 * CHUNK).expect("a long buffer");
    let mut taken = Vec::new();
    while bench.workers[0].stock.len() > 4 {
        taken.extend(bench.workers[0].take());
    }
    let back = bench.workers[0].send(0, out, 5 * CHUNK).expect("no chunks");
    assert!(bench.wires[0].take_transmitted().is_empty());
    bench.workers[0].recycle(back);
    for buffer in taken {
        bench.workers[0].recycle(buffer);
    }
    bench.assert_home();
    // Of another worker: it goes home by the ring that frames go by.
    let foreign = bench.workers[1].take_for(5 * CHUNK).expect("a long buffer");
    bench.workers[0].recycle(foreign);
    assert_eq!(bench.workers[1].jumbos.free(), 1);
    bench.assert_home();
    assert_eq!(bench.workers[1].jumbos.free(), 2);
}

#[test]
fn a_slot_has_an_sa_from_its_first_spi_to_its_last() {
    let mut bench = Bench::new(1);
    let io = &mut bench.workers[0];
    assert!(!io.has_sa(0) && !io.has_sa(1));
    io.note_spi(Direction::Inbound, 0, 0x1001);
    io.note_spi(Direction::Outbound, 0, 0x2001);
    io.note_spi(Direction::Inbound, 0, 0);
    assert!(io.has_sa(0));
    io.note_spi(Direction::Outbound, 0, 0);
    assert!(!io.has_sa(0));
}
