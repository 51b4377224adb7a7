//! What a frame costs to cross the rings, over rings of our own and over the binding's.
//!
//! First with the kernel's side played: the rings of a bound socket are mapped a second time,
//! and descriptors are moved from fill to rx and from tx to completion there, outside of the
//! measured time. Then with the kernel's own side, over a veth pair. The two back-ends take
//! turns; medians of the rounds. Needs root, and is best pinned to a quiet core.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "what a bench builds on has to be there, and it prints what it found"
)]

#[path = "../tests/kernel/namespace.rs"]
mod namespace;
mod played;
#[path = "../tests/kernel/program.rs"]
mod program;

use std::time::Instant;

use played::PlayedKernel;
use program::Program;
use xswan_xsk::{
    Backend, FrameBatch, FrameStock, Mode, Opened, QueueRequest, QueueRings, QueueSocket,
    UmemConfig, cycles, open_all,
};

const BATCH: usize = 64;
const ROUNDS: usize = 20_000;
const PASSES: usize = 5;

fn open<B: Backend>(device: &str) -> Opened<B> {
    let request =
        QueueRequest { device: device.to_owned(), queue: 0, mode: Mode::Copy, busy_poll: None };
    open_all(UmemConfig::default(), &[request]).unwrap()
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Ticks a frame: rx and fill, tx and completion.
fn played<B: Backend>() -> [f64; 2] {
    let mut opened = open::<B>("xk0");
    let queue = &mut opened.queues[0];
    let socket = &mut queue.sockets[0];
    let stock = &mut opened.stocks[0];
    let mut kernel = PlayedKernel::of(socket.fd().unwrap());
    let mut batch = FrameBatch::new();
    for _ in 0..2048 / BATCH {
        stock.take_into(&mut batch, BATCH);
        assert_eq!(queue.rings.fill(&mut batch), BATCH);
    }
    let (mut receive, mut transmit) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        kernel.receive(BATCH, 64);
        let begun = cycles();
        assert_eq!(socket.rx(&mut batch), BATCH);
        let received = cycles();
        assert_eq!(socket.tx(&mut batch), BATCH);
        let sent = cycles();
        kernel.transmit(BATCH);
        let woken = cycles();
        assert_eq!(queue.rings.complete(&mut batch), BATCH);
        let completed = cycles();
        stock.give_all(&mut batch);
        stock.take_into(&mut batch, BATCH);
        let taken = cycles();
        assert_eq!(queue.rings.fill(&mut batch), BATCH);
        let filled = cycles();
        receive.push((received - begun + filled - taken) as f64 / BATCH as f64);
        transmit.push((sent - received + completed - woken) as f64 / BATCH as f64);
    }
    [median(&mut receive), median(&mut transmit)]
}

fn thread_time_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a live `timespec`.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

fn send_one_batch<B: Backend>(opened: &mut Opened<B>, batch: &mut FrameBatch) {
    let stock: &mut FrameStock = &mut opened.stocks[0];
    let queue = &mut opened.queues[0];
    stock.take_into(batch, BATCH);
    for frame in batch.iter_mut() {
        let room = frame.chunk_mut();
        room[..14].copy_from_slice(&[2, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 1, 0x88, 0xb5]);
        frame.set_len(64).unwrap();
    }
    queue.sockets[0].tx(batch);
    let _ = queue.sockets[0].wake_tx();
    queue.rings.complete(batch);
    stock.give_all(batch);
}

/// Nanoseconds of processor time for a frame of 64 bytes over a veth pair, sending and
/// receiving together on this thread; frames received of those sent.
fn over_veth<B: Backend>() -> (f64, f64) {
    let mut near = open::<B>("xk0");
    let mut far = open::<B>("xk1");
    // SAFETY: a terminated string.
    let index = unsafe { libc::if_nametoindex(c"xk1".as_ptr()) };
    let program = Program::attach(index).unwrap();
    let queue = &mut far.queues[0];
    program.set(0, queue.sockets[0].fd().unwrap()).unwrap();
    let mut batch = FrameBatch::new();
    for _ in 0..2048 / BATCH {
        far.stocks[0].take_into(&mut batch, BATCH);
        assert_eq!(queue.rings.fill(&mut batch), BATCH);
    }
    let (mut sent, mut received) = (0_usize, 0_usize);
    let (begun, wall) = (thread_time_ns(), Instant::now());
    while wall.elapsed().as_millis() < 500 {
        for _ in 0..16 {
            send_one_batch(&mut near, &mut batch);
            sent += BATCH;
            let queue = &mut far.queues[0];
            received += queue.sockets[0].rx(&mut batch);
            queue.rings.fill(&mut batch);
            far.stocks[0].give_all(&mut batch);
        }
    }
    let spent = thread_time_ns() - begun;
    (spent as f64 / sent as f64, received as f64 / sent as f64)
}

fn report<B: Backend>(name: &str) {
    let [receive, transmit] = played::<B>();
    let (veth, share) = over_veth::<B>();
    println!(
        "{name:>8}: rx+fill {receive:5.1}  tx+completion {transmit:5.1} ticks/frame   \
         veth 64 B {veth:6.0} ns/frame ({:.1} % received)",
        share * 100.0
    );
}

fn main() {
    namespace::within(|_| {
        for _ in 0..PASSES {
            report::<xswan_xsk::own::OwnUmem>("own");
            report::<xswan_xsk::xsk::XskUmem>("xsk-rs");
        }
    });
}
