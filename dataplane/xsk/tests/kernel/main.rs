//! Both ways to the kernel, on a veth pair in a namespace of its own.
//!
//! Every test runs over rings of our own and over the binding's. Needs root; where namespaces cannot be made each test says that it was skipped.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "what a test builds on has to be there; a skipped one says why"
)]

mod multi_buffer;
mod namespace;
mod program;

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use multi_buffer::{
    a_long_packet_goes_over_several_buffers_both_ways,
    a_packet_sent_over_two_buffers_arrives_in_one,
};
use namespace::within;
use program::Program;
use xswan_xsk::open::OpenedOn;
use xswan_xsk::{
    Backend, BusyPoll, FrameBatch, FrameStock, Granted, HugePages, Ledger, Mode, OpenError, Opened,
    OpenedQueue, Pages, QueueRequest, QueueRings, QueueSocket, RingSizes, UmemConfig, Wake,
    open_all,
};

/// Makes a test of each function for each back-end.
macro_rules! over_each_back_end {
    ($($name:ident)*) => {
        mod own {
            $(#[test] fn $name() { super::$name::<xswan_xsk::own::OwnUmem>(); })*
        }
        mod xsk_rs {
            $(#[test] fn $name() { super::$name::<xswan_xsk::xsk::XskUmem>(); })*
        }
    };
}
over_each_back_end! {
    two_queues_and_two_workers_share_a_umem_and_each_frame_finds_its_socket
    xsk_01_an_empty_fill_ring_is_counted_and_filling_it_is_enough
    xsk_02_a_full_rx_ring_is_counted_exactly
    a_packet_sent_over_two_buffers_arrives_in_one
    a_long_packet_goes_over_several_buffers_both_ways
    xsk_05_every_queue_can_be_closed_and_opened_again
    xsk_08_a_device_that_is_not_there_is_named
    xsk_11_a_queue_just_closed_can_be_bound_again
    xsk_11_a_queue_whose_owner_was_killed_can_be_bound_again
    xsk_12_a_second_instance_is_refused_and_the_first_goes_on
    xsk_13_without_zero_copy_it_is_copy_and_says_so
    xsk_14_too_little_lockable_memory_names_the_limit
    xsk_15_without_huge_pages_it_says_why
    xsk_16_sending_without_receiving_goes_on_under_busy_polling
}

const RINGS: RingSizes = RingSizes { fill: 256, completion: 256, rx: 256, tx: 256 };

fn config(workers: usize) -> UmemConfig {
    UmemConfig { workers, frames_per_worker: 512, rings: RINGS, ..UmemConfig::default() }
}

fn request(device: &str, queue: u32, mode: Mode) -> QueueRequest {
    QueueRequest { device: device.to_owned(), queue, mode, busy_poll: None }
}

fn both_queues<B: Backend>(device: &str, workers: usize) -> Opened<B> {
    let requests = [request(device, 0, Mode::Auto), request(device, 1, Mode::Auto)];
    open_all::<B>(config(workers), &requests).unwrap()
}

fn device_index(name: &std::ffi::CStr) -> u32 {
    // SAFETY: a terminated string.
    unsafe { libc::if_nametoindex(name.as_ptr()) }
}

/// A frame of the local experimental EtherType for `worker`, with a number in it.
fn frame_for(worker: u8, number: u32) -> Vec<u8> {
    let mut bytes = vec![2, 0, 0, 0, 0, worker, 2, 0, 0, 0, 1, 0, 0x88, 0xb5];
    bytes.extend(number.to_be_bytes());
    bytes.resize(60 + number as usize % 1000, worker);
    bytes
}

fn send<S: QueueSocket, R>(
    queue: &mut OpenedQueue<S, R>,
    stock: &mut FrameStock,
    worker: usize,
    frames: &[Vec<u8>],
) {
    let mut batch = FrameBatch::new();
    for bytes in frames {
        let mut frame = stock.take().unwrap();
        frame.chunk_mut()[..bytes.len()].copy_from_slice(bytes);
        frame.set_len(bytes.len()).unwrap();
        batch.push(frame).unwrap();
    }
    assert_eq!(queue.sockets[worker].tx(&mut batch), frames.len());
    assert!(matches!(queue.sockets[worker].wake_tx(), Wake::Done | Wake::Idle));
}

/// Asks until it is so, or until much longer than it ever takes.
fn until(mut so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !so() {
        assert!(started.elapsed() < Duration::from_secs(10), "it never came to be");
        std::thread::yield_now();
    }
}

fn take_home(stocks: &mut [FrameStock], batch: &mut FrameBatch) {
    for stock in stocks {
        stock.give_all(batch);
    }
    assert!(batch.is_empty());
}

fn complete_all<S, R: QueueRings>(queue: &mut OpenedQueue<S, R>, stocks: &mut [FrameStock]) {
    until(|| {
        let mut batch = FrameBatch::new();
        queue.rings.complete(&mut batch);
        take_home(stocks, &mut batch);
        queue.rings.outstanding().tx == 0
    });
}

fn assert_conserved<B: Backend>(umem: &B, stocks: &[FrameStock], queues: &[OpenedOn<B>]) {
    let mut ledger = Ledger { lost: umem.umem().census().lost, ..Ledger::default() };
    ledger.free = stocks.iter().map(|stock| stock.len() as u64).sum();
    for queue in queues {
        ledger.add_queue(queue.rings.outstanding());
    }
    assert_eq!(ledger.residual(umem.umem().frames()), 0, "{ledger:?}");
    assert_eq!(umem.umem().census().rx, ledger.rx);
    assert_eq!(umem.umem().violations(), 0);
}

fn two_queues_and_two_workers_share_a_umem_and_each_frame_finds_its_socket<
    B: Backend + Send + Sync + 'static,
>() {
    within(|_| {
        let mut near = both_queues::<B>("xk0", 2);
        let mut far = both_queues::<B>("xk1", 2);
        let program = Program::attach(device_index(c"xk0")).unwrap();
        for (queue, opened) in near.queues.iter().enumerate() {
            for (worker, socket) in opened.sockets.iter().enumerate() {
                program.set((queue * 2 + worker) as u32, socket.fd().unwrap()).unwrap();
            }
        }
        let mut batch = FrameBatch::new();
        for (queue, opened) in near.queues.iter_mut().enumerate() {
            near.stocks[queue].take_into(&mut batch, 128);
            assert_eq!(opened.rings.fill(&mut batch), 128);
        }
        for queue in 0..2 {
            for worker in 0..2_u8 {
                let frames: Vec<_> = (0..50).map(|n| frame_for(worker, n)).collect();
                send(&mut far.queues[queue], &mut far.stocks[0], 0, &frames);
                complete_all(&mut far.queues[queue], &mut far.stocks);
                let socket = &mut near.queues[queue].sockets[usize::from(worker)];
                until(|| {
                    socket.rx(&mut batch);
                    batch.len() >= 50
                });
                for (frame, sent) in batch.iter().zip(&frames) {
                    assert_eq!(frame.bytes(), sent);
                    assert_eq!(frame.home(), queue, "filled by the queue's owner");
                }
                take_home(&mut near.stocks, &mut batch);
            }
        }
        assert_conserved(&near.umem, &near.stocks, &near.queues);
        assert_conserved(&far.umem, &far.stocks, &far.queues);
    });
}

fn xsk_01_an_empty_fill_ring_is_counted_and_filling_it_is_enough<
    B: Backend + Send + Sync + 'static,
>() {
    within(|_| {
        let mut near = both_queues::<B>("xk0", 1);
        let mut far = both_queues::<B>("xk1", 1);
        let program = Program::attach(device_index(c"xk0")).unwrap();
        program.set(0, near.queues[0].sockets[0].fd().unwrap()).unwrap();
        let mut batch = FrameBatch::new();
        near.stocks[0].take_into(&mut batch, 10);
        near.queues[0].rings.fill(&mut batch);
        let frames: Vec<_> = (0..30).map(|n| frame_for(0, n)).collect();
        send(&mut far.queues[0], &mut far.stocks[0], 0, &frames);
        complete_all(&mut far.queues[0], &mut far.stocks);
        let socket = &mut near.queues[0].sockets[0];
        until(|| {
            socket.rx(&mut batch);
            let kernel = socket.statistics().unwrap();
            batch.len() == 10 && kernel.rx_dropped + kernel.rx_fill_ring_empty_descs >= 20
        });
        // Filling it again is all it takes.
        near.queues[0].rings.fill(&mut batch);
        assert!(batch.is_empty());
        send(&mut far.queues[0], &mut far.stocks[0], 0, &frames[..10]);
        complete_all(&mut far.queues[0], &mut far.stocks);
        let socket = &mut near.queues[0].sockets[0];
        until(|| {
            socket.rx(&mut batch);
            batch.len() == 10
        });
        take_home(&mut near.stocks, &mut batch);
        assert_conserved(&near.umem, &near.stocks, &near.queues);
    });
}

fn xsk_02_a_full_rx_ring_is_counted_exactly<B: Backend>() {
    within(|_| {
        let mut near = both_queues::<B>("xk0", 1);
        let mut far = both_queues::<B>("xk1", 1);
        let program = Program::attach(device_index(c"xk0")).unwrap();
        program.set(0, near.queues[0].sockets[0].fd().unwrap()).unwrap();
        let mut batch = FrameBatch::new();
        let frames: Vec<_> = (0..200).map(|n| frame_for(0, n)).collect();
        for round in 1..=2 {
            near.stocks[0].take_into(&mut batch, 200);
            assert_eq!(near.queues[0].rings.fill(&mut batch), 200);
            send(&mut far.queues[0], &mut far.stocks[0], 0, &frames);
            complete_all(&mut far.queues[0], &mut far.stocks);
            // The kernel has taken them off the wire when none is left in the fill ring.
            until(|| near.queues[0].rings.fill_room() >= 256 || round == 2);
        }
        let socket = &mut near.queues[0].sockets[0];
        until(|| socket.statistics().unwrap().rx_ring_full == 400 - 256);
        assert_eq!(socket.rx(&mut batch), 256);
        take_home(&mut near.stocks, &mut batch);
        assert_eq!(near.queues[0].rings.outstanding().rx, 400 - 256, "kept for the next");
        assert_conserved(&near.umem, &near.stocks, &near.queues);
    });
}

fn xsk_05_every_queue_can_be_closed_and_opened_again<B: Backend>() {
    within(|_| {
        let mut opened = both_queues::<B>("xk0", 2);
        let frames = opened.umem.umem().frames() as usize;
        for round in 0..3 {
            // The first queue ever opened too, and last of all with no other beside it.
            for at in [0, 1] {
                let mut queue = opened.queues.remove(at);
                let mut batch = FrameBatch::new();
                opened.stocks[1].take_into(&mut batch, 100);
                assert_eq!(queue.rings.fill(&mut batch), 100);
                send(&mut queue, &mut opened.stocks[0], 1, &[frame_for(0, round)]);
                let closed = opened.umem.close_queue(queue.rings, queue.sockets).unwrap();
                assert!(closed.released().is_ok());
                let again = opened.umem.open_queue(&request("xk0", at as u32, Mode::Auto)).unwrap();
                let stocks = &mut opened.stocks;
                let give = |frame: xswan_xsk::Frame| {
                    let home = frame.home();
                    stocks[home].give(frame).unwrap();
                };
                closed.reclaim::<B>(&again.rings, give).unwrap();
                opened.queues.insert(at, again);
                let free: usize = opened.stocks.iter().map(FrameStock::len).sum();
                assert_eq!(free, frames);
            }
        }
        let second = opened.queues.pop().unwrap();
        let _ = opened.umem.close_queue(second.rings, second.sockets).unwrap();
        let first = opened.queues.pop().unwrap();
        let closed = opened.umem.close_queue(first.rings, first.sockets).unwrap();
        let mut alone = opened.umem.open_queue(&request("xk0", 0, Mode::Auto)).unwrap();
        closed.reclaim::<B>(&alone.rings, |_| ()).unwrap();
        send(&mut alone, &mut opened.stocks[1], 1, &[frame_for(0, 9)]);
        complete_all(&mut alone, &mut opened.stocks);
    });
}

fn xsk_08_a_device_that_is_not_there_is_named<B: Backend>() {
    within(|namespace| {
        let error = open_all::<B>(config(1), &[request("nosuch0", 0, Mode::Auto)]).unwrap_err();
        assert!(matches!(&error, OpenError::NoDevice { device } if device == "nosuch0"));
        assert!(error.to_string().contains("nosuch0"), "{error}");
        let error = open_all::<B>(config(1), &[request("xk0", 7, Mode::Auto)]).unwrap_err();
        assert!(matches!(error, OpenError::NoQueue { queue: 7, .. }), "{error}");

        // A device that goes away under its sockets: told by the wake-up, and the frames
        // can be had back.
        let mut opened = both_queues::<B>("xk0", 2);
        let mut queue = opened.queues.remove(0);
        let mut batch = FrameBatch::new();
        opened.stocks[0].take_into(&mut batch, 64);
        assert_eq!(queue.rings.fill(&mut batch), 64);
        assert!(namespace.ip("link del xk0"));
        assert_eq!(queue.sockets[0].kick_tx(), Wake::Down);
        let closed = opened.umem.close_queue(queue.rings, queue.sockets).unwrap();
        let mut back = 0;
        closed
            .reclaim_gone(|frame| {
                back += 1;
                opened.stocks[0].give(frame).unwrap();
            })
            .unwrap();
        assert_eq!(back, 64);
    });
}

fn xsk_11_a_queue_just_closed_can_be_bound_again<B: Backend>() {
    within(|_| {
        for _ in 0..5 {
            let mut opened = both_queues::<B>("xk0", 2);
            send(&mut opened.queues[0], &mut opened.stocks[0], 0, &[frame_for(0, 1)]);
            for queue in &opened.queues {
                println!("let go after {} ms", queue.waited_ms);
            }
        }
    });
}

/// Runs this same test as a process that opens the queues and kills itself.
fn xsk_11_a_queue_whose_owner_was_killed_can_be_bound_again<B: Backend>() {
    let test = std::thread::current().name().unwrap().to_owned();
    const CRASH: &str = "XSWAN_XSK_TEST_CRASH";
    if std::env::var_os(CRASH).is_some() {
        let mut opened = both_queues::<B>("xk0", 2);
        let frames: Vec<_> = (0..100).map(|n| frame_for(0, n)).collect();
        send(&mut opened.queues[0], &mut opened.stocks[0], 0, &frames);
        // SAFETY: no pointers.
        let own = unsafe { libc::getpid() };
        // SAFETY: no pointers.
        unsafe { libc::kill(own, libc::SIGKILL) };
    }
    within(move |_| {
        for _ in 0..5 {
            let status = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", &test])
                .env(CRASH, "1")
                .stdout(Stdio::null())
                .status()
                .unwrap();
            assert_eq!(status.signal(), Some(libc::SIGKILL));
            let opened = both_queues::<B>("xk0", 2);
            println!("let go after {} ms", opened.queues[0].waited_ms);
        }
    });
}

fn xsk_12_a_second_instance_is_refused_and_the_first_goes_on<B: Backend>() {
    within(|_| {
        let mut first = both_queues::<B>("xk0", 1);
        let error = open_all::<B>(config(1), &[request("xk0", 0, Mode::Copy)]).unwrap_err();
        assert!(
            matches!(&error, OpenError::QueueBusy { device, queue: 0, waited_ms }
                if device == "xk0" && *waited_ms >= 2_000),
            "{error}"
        );
        assert!(error.to_string().contains("another instance"), "{error}");
        let error = first.umem.open_queue(&request("xk0", 0, Mode::Auto)).unwrap_err();
        assert!(matches!(error, OpenError::QueueBusy { .. }), "on its own UMEM: {error}");
        send(&mut first.queues[0], &mut first.stocks[0], 0, &[frame_for(0, 1)]);
        complete_all(&mut first.queues[0], &mut first.stocks);
        assert_conserved(&first.umem, &first.stocks, &first.queues);
    });
}

fn xsk_13_without_zero_copy_it_is_copy_and_says_so<B: Backend>() {
    within(|_| {
        let opened = both_queues::<B>("xk0", 2);
        assert_eq!(opened.umem.granted(), Some(Granted::Copy));
        assert!(opened.fallback.as_ref().unwrap().contains("no zero-copy"));
        drop(opened);
        let error = open_all::<B>(config(1), &[request("xk0", 0, Mode::ZeroCopy)]).unwrap_err();
        assert!(matches!(&error, OpenError::NoZeroCopy { .. }), "{error}");
        assert!(error.to_string().contains("mode = \"auto\""), "{error}");
        let mixed = [request("xk0", 0, Mode::ZeroCopy), request("xk1", 0, Mode::Copy)];
        assert!(matches!(open_all::<B>(config(1), &mixed), Err(OpenError::ModeConflict { .. })));
    });
}

/// Takes CAP_IPC_LOCK from this thread alone.
fn forgo_memory_locking() {
    const VERSION_3: u32 = 0x2008_0522;
    let header = [VERSION_3, 0];
    let mut sets = [0_u32; 6];
    // SAFETY: header and sets are laid out as version 3 wants them.
    let got = unsafe { libc::syscall(libc::SYS_capget, header.as_ptr(), sets.as_mut_ptr()) };
    assert_eq!(got, 0);
    sets[0] &= !(1 << 14);
    // SAFETY: as above.
    let set = unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), sets.as_ptr()) };
    assert_eq!(set, 0);
}

fn xsk_14_too_little_lockable_memory_names_the_limit<B: Backend>() {
    within(|_| {
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: the pointer is to a live `rlimit`.
        assert_eq!(unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &mut limit) }, 0);
        // Bears on this thread only: the others have the capability.
        limit.rlim_cur = limit.rlim_cur.min(1 << 20);
        // SAFETY: as above.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &limit) }, 0);
        forgo_memory_locking();
        let error = B::map(UmemConfig { frames_per_worker: 4096, ..config(1) }).unwrap_err();
        assert!(matches!(&error, OpenError::MemoryLock { needed_bytes: 8_388_608, .. }), "{error}");
        assert!(error.to_string().contains(&limit.rlim_cur.to_string()), "{error}");
        assert!(error.to_string().contains("LimitMEMLOCK"), "{error}");
    });
}

fn xsk_15_without_huge_pages_it_says_why<B: Backend>() {
    within(|_| {
        // Of a size for which this kernel has no huge page to spare, or could not have.
        let (umem, _) = B::map(config(3)).unwrap();
        assert!(matches!(umem.pages(), Pages::Small(why) if !why.is_empty()));
        let off = UmemConfig { huge_pages: HugePages::Off, ..config(1) };
        let (umem, _) = B::map(off).unwrap();
        assert_eq!(umem.pages(), &Pages::Small("switched off".to_owned()));
    });
}

fn xsk_16_sending_without_receiving_goes_on_under_busy_polling<
    B: Backend + Send + Sync + 'static,
>() {
    within(|_| {
        let busy_poll = Some(BusyPoll { time_us: 20, budget: 64 });
        let request = QueueRequest { busy_poll, ..request("xk0", 0, Mode::Auto) };
        let mut opened = open_all::<B>(config(1), &[request]).unwrap();
        for _ in 0..20 {
            let frames: Vec<_> = (0..200).map(|n| frame_for(0, n)).collect();
            send(&mut opened.queues[0], &mut opened.stocks[0], 0, &frames);
            complete_all(&mut opened.queues[0], &mut opened.stocks);
        }
        let counters = opened.queues[0].sockets[0].counters();
        assert_eq!((counters.sent, counters.received), (4_000, 0));
        assert_conserved(&opened.umem, &opened.stocks, &opened.queues);
    });
}
