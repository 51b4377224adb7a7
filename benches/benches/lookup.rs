//! Look-ups before the cipher: SPI to SA, policy, next hop, and the replay window.
#![expect(clippy::unwrap_used, reason = "without its set-up there is nothing to measure")]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use std::time::{Duration, Instant};
use xswan_benches::gateways::{self, WINDOW};
use xswan_benches::measure::{self, cycles_per_packet, ticks};
use xswan_esp::aead::{Aad, Aead, Forged, Nonce};
use xswan_esp::decap;
use xswan_esp::outer::Outer;
use xswan_esp::proof::Authenticated;
use xswan_esp::replay::{ReplayWindow, words_for};
use xswan_esp::sa::{InboundConfig, InboundSa};
use xswan_esp::selector::{AddressRange, Flow, Selector};
use xswan_pipeline::spd::{Action, Policy, Spd};
use xswan_pipeline::table::{Owner, Slots, StaticSpis};
use xswan_testkit::packet::{self, Noise};
use xswan_wire::layers::Addresses;

const BATCH: usize = 256;

fn sa_lookup(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("sa_lookup");
    group.throughput(Throughput::Elements(1));
    for (count, from_outside) in [(1, false), (1024, false), (65_536, false), (65_536, true)] {
        let mut slots = Slots::new(count as usize);
        let mut statics = StaticSpis::default();
        let mut spis = Vec::new();
        for slot in 0..count {
            let Some(spi) = gateways::spi(slot) else { continue };
            slots.put(slot as usize, Some(Box::new([spi; 80])));
            spis.push(spi);
            if from_outside {
                statics.insert(spi, 0, slot);
            }
        }
        // In an order that no prefetcher guesses.
        let mut noise = Noise::new(5);
        for index in 0..spis.len() {
            let other = noise.below(spis.len());
            spis.swap(index, other);
        }
        let reader = gateways::reader();
        let find = |spi: u32| match reader.owner(spi, &statics) {
            Owner::Here(slot) => slots.at(slot).is_some_and(|sa| sa[0] == spi),
            Owner::Worker(_) | Owner::Unknown => false,
        };
        let name = format!("{count} SAs{}", if from_outside { ", SPIs from outside" } else { "" });
        let mut at = 0;
        let mut next = || {
            at = (at + 1) % spis.len();
            assert!(black_box(find(spis[at])));
        };
        cycles_per_packet(&format!("sa_lookup/{name}"), 64, || {
            ticks(|| (0..64).for_each(|_| next()))
        });
        group.bench_function(&name, |bencher| bencher.iter(&mut next));
    }
    group.finish();
}

fn policy(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("policy");
    group.throughput(Throughput::Elements(1));
    for count in [10_u32, 1000, 100_000] {
        let near = AddressRange::v4_prefix([10, 1, 0, 0], 16);
        let far = |row: u32| (0x0a02_0000 + row).to_be_bytes();
        let rows = (0..count).map(|row| Policy {
            selector: Selector::addresses(near, AddressRange::v4_prefix(far(row), 32)),
            action: Action::Discard,
            child: row,
            icmp: false,
            hold: false,
        });
        let spd = Spd::new(rows.collect());
        let mut row = 0;
        let mut next = || {
            row = (row + 769) % count;
            let addresses = Addresses::V4 { source: [10, 1, 0, 1], destination: far(row) };
            let flow = Flow { addresses, protocol: 17, ports: Some((1, 2)), is_fragment: false };
            let found = spd.outbound(black_box(&flow)).ok().flatten();
            assert_eq!(found.map(|policy| policy.child), Some(row));
        };
        let name = format!("{count} policies");
        cycles_per_packet(&format!("policy/{name}"), 64, || ticks(|| (0..64).for_each(|_| next())));
        group.bench_function(&name, |bencher| bencher.iter(&mut next));
    }
    group.finish();
}

/// Says yes to everything: what is measured is what comes after the cipher.
struct Credulous;

impl Aead for Credulous {
    fn seal(&self, _: &Nonce, _: &Aad, _: &[u8], _: &mut [u8]) {}

    fn open(&self, _: &Nonce, _: &Aad, _: &[u8], _: &mut [u8]) -> Result<(), Forged> {
        Ok(())
    }
}

/// Makes proofs for numbers from `first` on.
fn proofs(sa: &InboundSa<Credulous, Vec<u64>>, first: u64) -> Vec<(u32, Authenticated)> {
    let (from, to) = ([192, 0, 2, 1].into(), [192, 0, 2, 2].into());
    let mut out = [0; 200];
    (first..first + BATCH as u64)
        .map(|sequence| {
            let low = sequence as u32;
            let mut esp = [0; 100];
            esp[..4].copy_from_slice(&sa.spi().to_be_bytes());
            esp[4..8].copy_from_slice(&low.to_be_bytes());
            let packet = packet::ip(from, to, 50, &esp);
            let outer = Outer::parse(&packet).unwrap();
            let job = decap::prepare(sa, &outer, &packet, 0).unwrap();
            (low, decap::open(&Credulous, &job, &packet, &mut out).unwrap())
        })
        .collect()
}

fn replay(criterion: &mut Criterion) {
    let addresses = Addresses::V4 { source: [192, 0, 2, 1], destination: [192, 0, 2, 2] };
    let config = InboundConfig::tunnel(0x1001, [0; 4], addresses);
    let off = ReplayWindow::new(0, false, vec![0; words_for(0)]).unwrap();
    let sa = InboundSa::new(&config, Credulous, off, 0).unwrap();
    let mut group = criterion.benchmark_group("replay");
    group.throughput(Throughput::Elements(BATCH as u64));
    for (name, reordered) in [("in order", false), ("reversed in eights", true)] {
        let mut first = 1;
        let mut window = ReplayWindow::new(WINDOW, false, vec![0; words_for(WINDOW)]).unwrap();
        let mut batch = || {
            let mut batch = proofs(&sa, first);
            first += BATCH as u64;
            if first > 1 << 31 {
                first = 1;
                window = ReplayWindow::new(WINDOW, false, vec![0; words_for(WINDOW)]).unwrap();
            }
            if reordered {
                batch.chunks_mut(8).for_each(<[_]>::reverse);
            }
            let begun = (Instant::now(), xswan_xsk::cycles());
            for (low, proof) in &batch {
                let candidate = window.check(black_box(*low)).unwrap();
                window.commit(candidate, proof).unwrap();
            }
            (begun.0.elapsed(), xswan_xsk::cycles() - begun.1)
        };
        cycles_per_packet(&format!("replay/{name}"), BATCH as u64, || batch().1);
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|rounds| (0..rounds).map(|_| batch().0).sum::<Duration>());
        });
    }
    group.finish();
}

criterion_group!(name = benches; config = measure::criterion(); targets = sa_lookup, policy, replay);
criterion_main!(benches);
