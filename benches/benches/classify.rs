//! The steering decision on the host: what the XDP program does for each kind of frame.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::collections::BTreeMap;
use std::hint::black_box;
use std::net::IpAddr;
use xswan_benches::measure::{self, cycles_per_packet, ticks};
use xswan_steer::abi::{
    PREFIX_REMOTE, PortValue, PrefixValue, ROLE_INNER, ROLE_OUTER, STEER_VERSION, SteerConfig,
};
use xswan_steer::tables::v4_mapped;
use xswan_steer::{Tables, classify};
use xswan_testkit::packet;

/// Tables as small as a map look-up allows, so that the decision itself is what is measured.
struct Flat {
    spis: BTreeMap<[u8; 4], u32>,
}

impl Tables for Flat {
    fn config(&self) -> Option<SteerConfig> {
        let spi_key = [1, 2, 3, 4];
        Some(SteerConfig { version: STEER_VERSION, workers: 4, member: 0, static_spis: 0, spi_key })
    }

    fn is_outer(&self, address: &[u8; 16]) -> bool {
        *address == v4_mapped([192, 0, 2, 2])
    }

    fn static_spi(&self, spi: [u8; 4]) -> Option<u32> {
        self.spis.get(&spi).copied()
    }

    fn prefix4(&self, address: [u8; 4]) -> Option<PrefixValue> {
        (address[..2] == [10, 2]).then_some(PrefixValue { flags: PREFIX_REMOTE, worker: 1 })
    }

    fn prefix6(&self, _address: [u8; 16]) -> Option<PrefixValue> {
        None
    }
}

fn frames() -> Vec<(&'static str, Vec<u8>)> {
    let ours = IpAddr::from([192, 0, 2, 2]);
    let peer = IpAddr::from([192, 0, 2, 1]);
    let esp = packet::ip(peer, ours, 50, &[0x5a; 100]);
    let in_udp = packet::udp((peer, 4500), (ours, 4500), &[0x5a; 100]);
    let far = IpAddr::from([10, 2, 0, 1]);
    let clear = packet::udp((IpAddr::from([10, 1, 0, 1]), 5), (far, 6), &[0x5a; 100]);
    let other = packet::tcp((peer, 5), (ours, 22), &[0x5a; 100]);
    let tagged = packet::frame([2; 6], [4; 6], &[(0x88a8, 5), (0x8100, 6)], &esp);
    let frame = |packet: &[u8]| packet::frame([2; 6], [4; 6], &[], packet);
    vec![
        ("esp", frame(&esp)),
        ("esp in udp", frame(&in_udp)),
        ("clear, protected", frame(&clear)),
        ("passed to the kernel", frame(&other)),
        ("esp, two tags", tagged),
    ]
}

fn bench(criterion: &mut Criterion) {
    let tables = Flat { spis: BTreeMap::new() };
    let port = Some(PortValue { index: 0, roles: ROLE_OUTER | ROLE_INNER });
    let mut group = criterion.benchmark_group("classify");
    group.throughput(Throughput::Elements(1));
    for (name, frame) in frames() {
        let one = || classify(black_box(&frame[..]), frame.len(), port, &tables);
        cycles_per_packet(&format!("classify/{name}"), 64, || {
            ticks(|| (0..64).for_each(|_| _ = black_box(one())))
        });
        group.bench_function(name, |bencher| bencher.iter(one));
    }
    group.finish();
}

criterion_group!(name = benches; config = measure::criterion(); targets = bench);
criterion_main!(benches);
