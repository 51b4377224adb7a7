//! Seal and open of one packet with each back-end: what is left when all else is free.
#![expect(clippy::unwrap_used, reason = "without its set-up there is nothing to measure")]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use xswan_aead::{Algorithm, Backend, Key};
use xswan_benches::measure::{self, cycles_per_packet, ticks};
use xswan_esp::decap;
use xswan_esp::encap;
use xswan_esp::outer::Outer;
use xswan_esp::replay::{ReplayWindow, words_for};
use xswan_esp::sa::{InboundConfig, InboundSa, OutboundConfig, OutboundSa};
use xswan_esp::sequence::{SequenceSpace, Unleased};
use xswan_testkit::packet::Ipv4;
use xswan_wire::layers::Addresses;

const ADDRESSES: Addresses = Addresses::V4 { source: [192, 0, 2, 1], destination: [192, 0, 2, 2] };

fn key(backend: Backend, algorithm: Algorithm) -> Key {
    Key::new(backend, algorithm, &[7; 32][..algorithm.key_len()]).unwrap()
}

fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("cipher");
    group.throughput(Throughput::Elements(1));
    for (backend, algorithm, len) in cases() {
        let inner =
            Ipv4::new([10, 1, 0, 1].into(), [10, 2, 0, 1].into(), 59).packet(&vec![0x5a; len - 20]);
        let config = OutboundConfig::tunnel(0x1001, [1; 4], ADDRESSES);
        let space = SequenceSpace::new(false, u64::MAX, Unleased);
        let mut out = OutboundSa::new(&config, key(backend, algorithm), space, 0).unwrap();
        let config = InboundConfig::tunnel(0x1001, [1; 4], ADDRESSES);
        let window = ReplayWindow::new(0, false, vec![0; words_for(0)]).unwrap();
        let into = InboundSa::new(&config, key(backend, algorithm), window, 0).unwrap();

        let mut sealed = vec![0; len + 100];
        let job = encap::prepare(&mut out, &inner, u16::MAX, 0, &mut sealed).unwrap();
        let trailer = sealed.clone();
        let mut seal = || encap::seal(out.cipher(), &job, black_box(&inner), &mut sealed).unwrap();
        let name = |what| format!("{what}/{}/{}/{len}", backend.name(), algorithm.name());
        cycles_per_packet(&format!("cipher/{}", name("seal")), 64, || {
            ticks(|| (0..64).for_each(|_| _ = black_box(seal())))
        });
        group.bench_function(name("seal"), |bencher| bencher.iter(&mut seal));

        sealed.copy_from_slice(&trailer);
        let total = encap::seal(out.cipher(), &job, &inner, &mut sealed).unwrap();
        let packet = &sealed[..total];
        let outer = Outer::parse(packet).unwrap();
        let job = decap::prepare(&into, &outer, packet, 0).unwrap();
        let mut plain = vec![0; job.out_len()];
        let mut open = || decap::open(into.cipher(), &job, black_box(packet), &mut plain).unwrap();
        cycles_per_packet(&format!("cipher/{}", name("open")), 64, || {
            ticks(|| (0..64).for_each(|_| _ = black_box(open())))
        });
        group.bench_function(name("open"), |bencher| bencher.iter(&mut open));
    }
    group.finish();
}

fn cases() -> Vec<(Backend, Algorithm, usize)> {
    let mut cases = Vec::new();
    for backend in Backend::ALL {
        for len in [64, 512, 1408] {
            cases.push((backend, Algorithm::Aes128Gcm16, len));
        }
        cases.push((backend, Algorithm::Aes256Gcm16, 1408));
        cases.push((backend, Algorithm::ChaCha20Poly1305, 1408));
    }
    cases
}

criterion_group!(name = benches; config = measure::criterion(); targets = bench);
criterion_main!(benches);
