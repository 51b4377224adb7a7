//! Bursts through the engine, everything but the rings: 64 packets at a time, in memory.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::time::{Duration, Instant};
use xswan_aead::Backend;
use xswan_benches::gateways::{self, BURST, Gateway, INNER, OUTER};
use xswan_benches::measure::{self, cycles_per_packet};

/// Both gateways, and the clear frames that go through them in turn.
struct Path {
    left: Gateway,
    right: Gateway,
    frames: Vec<Vec<u8>>,
    at: usize,
}

/// What one burst took.
struct Took {
    time: Duration,
    ticks: u64,
}

fn timed(gateway: &mut Gateway) -> Took {
    let begun = (Instant::now(), xswan_xsk::cycles());
    gateway.process();
    let ticks = xswan_xsk::cycles().wrapping_sub(begun.1);
    let took = Took { time: begun.0.elapsed(), ticks };
    assert_eq!(gateway.pool.sent.len(), BURST, "every packet came through");
    took
}

impl Path {
    fn new(count: u32, inner_len: usize, backend: Backend) -> Self {
        let (left, right) = gateways::pair(count, backend);
        Self { left, right, frames: gateways::clear_frames(count, inner_len), at: 0 }
    }

    fn outbound(&mut self) -> Took {
        let frames = self.frames.iter().skip(self.at).take(BURST).map(Vec::as_slice);
        self.left.load(INNER, frames);
        self.at = (self.at + BURST) % self.frames.len();
        timed(&mut self.left)
    }

    fn inbound(&mut self) -> Took {
        self.outbound();
        self.right.load(OUTER, self.left.pool.sent.iter().map(|frame| frame.bytes()));
        timed(&mut self.right)
    }
}

fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("burst");
    group.throughput(Throughput::Elements(BURST as u64));
    for backend in Backend::ALL {
        for count in [1, 1024] {
            for len in [64, 512, 1420] {
                let mut path = Path::new(count, len, backend);
                let name = |what| format!("{what}/{}/{count} SAs/{len}", backend.name());
                cycles_per_packet(&name("outbound"), BURST as u64, || path.outbound().ticks);
                group.bench_function(name("outbound"), |bencher| {
                    bencher.iter_custom(|rounds| {
                        (0..rounds).map(|_| path.outbound().time).sum::<Duration>()
                    });
                });
                let mut path = Path::new(count, len, backend);
                cycles_per_packet(&name("inbound"), BURST as u64, || path.inbound().ticks);
                group.bench_function(name("inbound"), |bencher| {
                    bencher.iter_custom(|rounds| {
                        (0..rounds).map(|_| path.inbound().time).sum::<Duration>()
                    });
                });
            }
        }
    }
    group.finish();
}

#[expect(clippy::print_stdout, reason = "tells what a tick is worth")]
fn clock(_: &mut Criterion) {
    println!("core cycles a tick: {:.2}", measure::core_cycles_per_tick());
}

criterion_group!(name = benches; config = measure::criterion(); targets = clock, bench);
criterion_main!(benches);
