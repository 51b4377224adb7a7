//! Conservation of frames under every fault the kernel in memory can play.
#![expect(clippy::unwrap_used, reason = "what a test builds on has to be there")]

use proptest::prelude::*;
use xswan_xsk::memory::{
    InjectError, MemoryKernel, MemoryQueue, MemoryRings, MemorySocket, MemoryWire, RawDescriptor,
};
use xswan_xsk::{
    ChunkSize, FrameBatch, FrameStock, Ledger, QueueRings, QueueSocket, RingSizes, StallWatch, Wake,
};

const FRAMES: u32 = 64;
const WORKERS: usize = 2;

struct Bench {
    kernel: MemoryKernel,
    stocks: Vec<FrameStock>,
    sockets: Vec<MemorySocket>,
    rings: MemoryRings,
    wire: MemoryWire,
}

fn bench_with(sizes: RingSizes) -> Bench {
    let (kernel, stocks) = MemoryKernel::new(WORKERS, FRAMES, ChunkSize::Bytes2048);
    let MemoryQueue { sockets, rings, wire } = kernel.open_queue(WORKERS, sizes);
    Bench { kernel, stocks, sockets, rings, wire }
}

fn bench() -> Bench {
    bench_with(RingSizes { fill: 32, completion: 32, rx: 8, tx: 8 })
}

impl Bench {
    fn ledger(&self, held: u64) -> Ledger {
        let mut ledger = Ledger { worker: held, ..Ledger::default() };
        ledger.free = self.stocks.iter().map(|stock| stock.len() as u64).sum();
        ledger.lost = self.kernel.umem().census().lost;
        ledger.add_queue(self.rings.outstanding());
        ledger
    }

    #[track_caller]
    fn assert_conserved(&self, held: u64) {
        let ledger = self.ledger(held);
        let census = self.kernel.umem().census();
        assert_eq!(ledger.residual(self.kernel.umem().frames()), 0, "{ledger:?} {census:?}");
        assert_eq!(census.rx, ledger.rx);
        assert_eq!(census.tx, ledger.tx);
        assert_eq!(census.held, ledger.free + ledger.worker);
    }

    fn fill(&mut self, n: usize) -> usize {
        let mut batch = FrameBatch::new();
        self.stocks[0].take_into(&mut batch, n);
        let filled = self.rings.fill(&mut batch);
        self.stocks[0].give_all(&mut batch);
        filled
    }

    fn send(&mut self, worker: usize, n: usize) -> usize {
        let mut batch = FrameBatch::new();
        self.stocks[worker].take_into(&mut batch, n);
        for frame in batch.iter_mut() {
            frame.chunk_mut()[..4].copy_from_slice(b"data");
            frame.set_len(4).unwrap();
        }
        let sent = self.sockets[worker].tx(&mut batch);
        self.stocks[worker].give_all(&mut batch);
        sent
    }

    fn go_home(&mut self, batch: &mut FrameBatch) {
        for stock in &mut self.stocks {
            stock.give_all(batch);
        }
        assert!(batch.is_empty());
    }

    fn receive(&mut self, worker: usize) -> usize {
        let mut batch = FrameBatch::new();
        let n = self.sockets[worker].rx(&mut batch);
        self.go_home(&mut batch);
        n
    }

    fn complete(&mut self) -> usize {
        let mut batch = FrameBatch::new();
        let n = self.rings.complete(&mut batch);
        self.go_home(&mut batch);
        n
    }
}

#[test]
fn xsk_01_fill_ring_starved_recovers_without_a_reset() {
    let mut bench = bench();
    assert_eq!(bench.wire.inject(0, b"x"), Err(InjectError::FillEmpty));
    assert_eq!(bench.sockets[0].statistics().unwrap().rx_fill_ring_empty_descs, 1);
    assert_eq!(bench.fill(8), 8);
    bench.wire.faults(|faults| faults.fill_starved = true);
    assert_eq!(bench.wire.inject(1, b"x"), Err(InjectError::FillEmpty));
    bench.wire.faults(|faults| faults.fill_starved = false);
    for _ in 0..8 {
        bench.wire.inject(1, b"x").unwrap();
    }
    assert_eq!(bench.wire.inject(1, b"x"), Err(InjectError::FillEmpty));
    assert_eq!(bench.sockets[1].statistics().unwrap().rx_fill_ring_empty_descs, 3);
    assert_eq!(bench.receive(1), 8);
    bench.assert_conserved(0);
}

#[test]
fn xsk_02_rx_ring_full_is_counted_exactly() {
    let mut bench = bench();
    assert_eq!(bench.fill(32), 32);
    let lost = (0..20).filter(|_| bench.wire.inject(0, b"x") == Err(InjectError::RxFull)).count();
    assert_eq!(lost, 12);
    assert_eq!(bench.sockets[0].statistics().unwrap().rx_ring_full, 12);
    assert_eq!(bench.sockets[1].statistics().unwrap().rx_ring_full, 0);
    bench.assert_conserved(0);
    assert_eq!(bench.receive(0), 8);
    bench.assert_conserved(0);
}

#[test]
fn xsk_03_a_lost_wake_up_is_mended_by_the_next_kick() {
    let mut bench = bench();
    bench.wire.faults(|faults| faults.lost_wakes = 1);
    assert_eq!(bench.send(0, 4), 4);
    assert_eq!(bench.sockets[0].wake_tx(), Wake::Done);
    assert!(bench.wire.take_transmitted().is_empty(), "the wake-up was lost");
    assert_eq!(bench.sockets[0].wake_tx(), Wake::Idle, "and nothing says so");
    assert_eq!(bench.sockets[0].kick_tx(), Wake::Done);
    assert_eq!(bench.wire.take_transmitted().len(), 4);
    assert_eq!(bench.complete(), 4);
    bench.assert_conserved(0);
}

#[test]
fn xsk_04_refused_wake_ups_are_bounded_and_reception_goes_on() {
    for error in [libc::EAGAIN, libc::EBUSY, libc::ENOBUFS] {
        let mut bench = bench();
        let mut watch = StallWatch::default();
        bench.wire.faults(|faults| faults.wake_error = Some(error));
        bench.fill(8);
        assert_eq!(bench.send(1, 12), 8, "the ring's size");
        assert_eq!(bench.sockets[1].counters().tx_full, 4);
        let mut stalled_at = None;
        for now_ms in 0..200 {
            assert_eq!(bench.sockets[1].wake_tx(), Wake::Busy);
            bench.wire.inject(1, b"still received").unwrap();
            assert_eq!(bench.receive(1), 1);
            bench.fill(1);
            let (tx, completed) = (bench.rings.outstanding().tx, bench.rings.counters().completed);
            if watch.needs_rebuild(tx, completed, now_ms) {
                stalled_at.get_or_insert(now_ms);
            }
        }
        assert_eq!(bench.sockets[1].counters().wakes_refused, 200);
        assert_eq!(stalled_at, Some(StallWatch::DEADLINE_MS + 1));
        assert!(watch.stalls() > 0);
        bench.wire.faults(|faults| faults.wake_error = None);
        assert_eq!(bench.sockets[1].wake_tx(), Wake::Done);
        assert_eq!(bench.complete(), 8);
        let (tx, completed) = (bench.rings.outstanding().tx, bench.rings.counters().completed);
        assert!(!watch.needs_rebuild(tx, completed, 300));
        bench.assert_conserved(0);
    }
}

#[test]
fn xsk_04_a_device_that_is_down_says_so() {
    let mut bench = bench();
    bench.send(0, 1);
    bench.wire.faults(|faults| faults.wake_error = Some(libc::ENETDOWN));
    assert_eq!(bench.sockets[0].wake_tx(), Wake::Down);
    bench.wire.faults(|faults| faults.wake_error = Some(libc::EPERM));
    assert_eq!(bench.sockets[0].wake_tx(), Wake::Failed(libc::EPERM));
}

#[test]
fn xsk_05_missing_completions_are_reclaimed_by_a_rebuild() {
    let mut bench = bench();
    let mut watch = StallWatch::default();
    bench.wire.faults(|faults| faults.swallow_completions = true);
    bench.fill(16);
    for worker in 0..WORKERS {
        assert_eq!(bench.send(worker, 5), 5);
        assert_eq!(bench.sockets[worker].wake_tx(), Wake::Done);
    }
    assert_eq!(bench.complete(), 0);
    assert!(!watch.needs_rebuild(bench.rings.outstanding().tx, 0, 1_000));
    assert!(!watch.needs_rebuild(bench.rings.outstanding().tx, 0, 1_100));
    assert!(watch.needs_rebuild(bench.rings.outstanding().tx, 0, 1_101));
    bench.assert_conserved(0);

    let Bench { kernel, mut stocks, sockets, rings, wire: _ } = bench;
    let mut one = sockets;
    let other = one.split_off(1);
    let (rings, mut one) =
        *kernel.close_queue(rings, one, |_| unreachable!("not all sockets are here")).unwrap_err();
    one.extend(other);
    let mut back = 0;
    kernel
        .close_queue(rings, one, |frame| {
            back += 1;
            let home = frame.home();
            stocks[home].give(frame).unwrap();
        })
        .unwrap();
    assert_eq!(back, 26);
    let reopened = kernel.open_queue(WORKERS, RingSizes::default());
    assert_eq!(stocks.iter().map(FrameStock::len).sum::<usize>(), kernel.umem().frames() as usize);
    assert_eq!(kernel.umem().census().held, u64::from(kernel.umem().frames()));
    assert_eq!(kernel.umem().lost(), 0);
    drop(reopened);
}

#[test]
fn xsk_06_descriptors_that_were_not_given_out_are_discarded() {
    let mut bench = bench();
    assert_eq!(bench.fill(8), 8);
    let given = bench.wire.take_fill().unwrap();
    let beyond = u64::from(bench.kernel.umem().frames()) * 2048;
    let bad = [
        (beyond, 60),
        (u64::MAX, 60),
        (40 * 2048 + 256, 60), // free, never filled
        (given, 4096),         // longer than the chunk
        (given, 60),           // and now not ours either
    ];
    for (address, len) in bad {
        bench.wire.push_rx(0, RawDescriptor { address, len, more: false });
    }
    assert_eq!(bench.receive(0), 0);
    assert_eq!(bench.sockets[0].counters().umem_ownership_violation, 5);
    assert_eq!(bench.kernel.umem().violations(), 5);
    bench.assert_conserved(0);

    let given = bench.wire.take_fill().unwrap();
    for _ in 0..3 {
        bench.wire.push_rx(1, RawDescriptor { address: given, len: 60, more: false });
    }
    assert_eq!(bench.receive(1), 1, "once, however often it is shown");
    assert_eq!(bench.sockets[1].counters().umem_ownership_violation, 2);

    bench.send(0, 1);
    let filled = bench.wire.take_fill().unwrap();
    bench.wire.push_completion(filled);
    bench.wire.push_completion(u64::MAX);
    bench.wire.transmit();
    bench.wire.push_completion(0);
    assert_eq!(bench.complete(), 1);
    assert_eq!(bench.rings.counters().umem_ownership_violation, 3);
    bench.assert_conserved(0);

    let mut found = FrameBatch::new();
    bench.kernel.umem().reclaim_lost(|frame| found.push(frame).unwrap());
    assert_eq!(found.len(), 1);
    bench.go_home(&mut found);
    bench.assert_conserved(0);
}

#[test]
fn xsk_06_a_dropped_token_is_counted_and_can_be_had_back() {
    let mut bench = bench();
    drop(bench.stocks[1].take());
    assert_eq!((bench.kernel.umem().lost(), bench.kernel.umem().census().lost), (1, 1));
    bench.assert_conserved(0);
    let stock = &mut bench.stocks[1];
    bench.kernel.umem().reclaim_lost(|frame| stock.give(frame).unwrap());
    assert_eq!(bench.stocks[1].len(), FRAMES as usize);
    bench.assert_conserved(0);
}

#[test]
fn a_token_may_outlive_its_umem() {
    let (kernel, mut stocks) = MemoryKernel::new(1, 4, ChunkSize::Bytes4096);
    let mut frame = stocks[0].take().unwrap();
    drop((kernel, stocks));
    frame.chunk_mut().fill(7);
    assert_eq!(frame.set_len(3840), Ok(()));
    assert!(frame.set_len(3841).is_err());
    assert!(frame.set_len(usize::MAX).is_err());
    assert!(frame.bytes().iter().all(|&byte| byte == 7));
}

#[test]
fn xsk_16_transmission_without_reception_goes_on() {
    let mut bench = bench();
    for round in 0..1_000 {
        assert_eq!(bench.send(0, 8), 8, "round {round}");
        assert_eq!(bench.sockets[0].wake_tx(), Wake::Done);
        assert_eq!(bench.complete(), 8);
    }
    assert_eq!(bench.sockets[0].counters().received, 0);
    assert_eq!(bench.wire.take_transmitted().len(), 8_000);
    bench.assert_conserved(0);
}

#[test]
fn xsk_18_a_sending_queue_can_keep_its_fill_ring_full() {
    let mut bench = bench();
    assert_eq!(bench.fill(64), 32, "all the room, before the first frame is sent");
    assert_eq!(bench.rings.fill_room(), 0);
    assert_eq!(bench.rings.counters().fill_full, 32);
    assert_eq!(bench.send(0, 8), 8);
    bench.sockets[0].wake_tx();
    assert_eq!(bench.complete(), 8);
    assert_eq!(bench.wire.fill_len(), 32);
    bench.assert_conserved(0);
}

#[test]
fn a_packet_over_several_buffers_keeps_its_order_and_marks() {
    let mut bench = bench();
    bench.fill(4);
    bench.wire.inject_chain(0, &[b"one", b"two", b"three"]).unwrap();
    bench.wire.inject(0, b"four").unwrap();
    assert_eq!(bench.wire.inject_chain(0, &[b"five", b"six"]), Err(InjectError::FillEmpty));
    let mut batch = FrameBatch::new();
    assert_eq!(bench.sockets[0].rx(&mut batch), 4);
    let seen: Vec<_> =
        batch.iter().map(|frame| (frame.bytes().to_vec(), frame.is_multi_buffer())).collect();
    let expected: [(&[u8], bool); 4] =
        [(b"one", true), (b"two", true), (b"three", false), (b"four", false)];
    assert_eq!(seen, expected.map(|(bytes, more)| (bytes.to_vec(), more)));
    bench.go_home(&mut batch);
}

/// Every way out of a worker other than forwarding, a million times in all.
#[test]
fn xsk_19_early_drops_leak_no_frame() {
    let mut bench = bench_with(RingSizes { fill: 64, completion: 64, rx: 64, tx: 16 });
    bench.wire.faults(|faults| faults.discard_transmitted = true);
    let mut batch = FrameBatch::new();
    let mut out = FrameBatch::with_capacity(64);
    let mut dropped = 0_u64;
    while dropped < 1_000_000 {
        bench.fill(32);
        for n in 0..24 {
            let _ = bench.wire.inject(n % 2, b"some packet");
        }
        for worker in 0..WORKERS {
            bench.sockets[worker].rx(&mut batch);
        }
        for (n, frame) in batch.drain().enumerate() {
            // Dropped before anything, for want of a free frame, after sealing, or on a
            // full tx ring: the batch goes on or the frame goes home.
            match n % 3 {
                0 => bench.stocks[frame.home()].give(frame).unwrap(),
                1 => out.push(frame).unwrap(),
                _ => {
                    if let Some(mut fresh) = bench.stocks[1].take() {
                        fresh.set_len(40).unwrap();
                        bench.stocks[1].give(fresh).unwrap();
                    }
                    bench.stocks[frame.home()].give(frame).unwrap();
                }
            }
            dropped += 1;
        }
        bench.sockets[1].tx(&mut out);
        bench.go_home(&mut out);
        bench.sockets[1].wake_tx();
        bench.complete();
    }
    bench.assert_conserved(0);
    assert_eq!((bench.kernel.umem().lost(), bench.kernel.umem().violations()), (0, 0));
}

#[derive(Clone, Debug)]
enum Step {
    Fill(usize),
    Send(usize, usize),
    Inject(usize),
    Receive(usize),
    Complete,
    Wake(usize),
    Rx(usize, RawDescriptor),
    Completion(u64),
    StealFill,
    Reclaim,
}

fn address() -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => (0..u64::from(FRAMES) * 3, 0..2048_u64).prop_map(|(n, offset)| n * 2048 + offset),
        1 => any::<u64>(),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let worker = 0..WORKERS;
    let raw = (address(), prop_oneof![0..3000_u32, any::<u32>()], any::<bool>())
        .prop_map(|(address, len, more)| RawDescriptor { address, len, more });
    prop_oneof![
        (1..20_usize).prop_map(Step::Fill),
        (worker.clone(), 1..20_usize).prop_map(|(worker, n)| Step::Send(worker, n)),
        worker.clone().prop_map(Step::Inject),
        worker.clone().prop_map(Step::Receive),
        Just(Step::Complete),
        worker.clone().prop_map(Step::Wake),
        (worker, raw).prop_map(|(worker, raw)| Step::Rx(worker, raw)),
        address().prop_map(Step::Completion),
        Just(Step::StealFill),
        Just(Step::Reclaim),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever stands in the rings: no second token, no byte outside a chunk, no frame
    /// unaccounted for.
    #[test]
    fn xsk_20_hostile_rings_conserve_frames(steps in prop::collection::vec(step(), 1..200)) {
        let mut bench = bench();
        for step in steps {
            match step {
                Step::Fill(n) => { bench.fill(n); }
                Step::Send(worker, n) => { bench.send(worker, n); }
                Step::Inject(worker) => { let _ = bench.wire.inject(worker, b"packet"); }
                Step::Receive(worker) => {
                    let mut batch = FrameBatch::new();
                    bench.sockets[worker].rx(&mut batch);
                    let mut numbers: Vec<_> = batch.iter().map(|frame| frame.number()).collect();
                    numbers.sort_unstable();
                    numbers.dedup();
                    prop_assert_eq!(numbers.len(), batch.len());
                    for frame in batch.iter_mut() {
                        prop_assert!(frame.len() <= 2048);
                        frame.bytes_mut().fill(0xaa);
                    }
                    bench.go_home(&mut batch);
                }
                Step::Complete => { bench.complete(); }
                Step::Wake(worker) => { bench.sockets[worker].wake_tx(); }
                Step::Rx(worker, raw) => bench.wire.push_rx(worker, raw),
                Step::Completion(address) => bench.wire.push_completion(address),
                Step::StealFill => { let _ = bench.wire.take_fill(); }
                Step::Reclaim => {
                    let mut found = FrameBatch::new();
                    bench.kernel.umem().reclaim_lost(|frame| found.push(frame).unwrap());
                    bench.go_home(&mut found);
                }
            }
            bench.assert_conserved(0);
        }
    }
}
