//! The cipher alone with each back-end: a packet's seal and open when all else is free, one SA and
//! 1024 in turn.
#![expect(clippy::unwrap_used, reason = "without its set-up there is nothing to measure")]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use xswan_aead::Backend;
use xswan_aead::{Algorithm, Form, Key, KeyError};
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
/// Packets a step: each key of the larger set comes round in sixteen steps.
const STEP: usize = 64;

/// Who ciphers: a back-end, or one form of our own.
#[derive(Clone, Copy)]
enum By {
    Backend(Backend),
    Form(Form),
}

impl By {
    fn all() -> Vec<Self> {
        let forms = Form::ALL.into_iter().filter(|form| form.is_usable()).map(Self::Form);
        forms.chain([Self::Backend(Backend::AwsLc), Self::Backend(Backend::RustCrypto)]).collect()
    }

    fn key(self, algorithm: Algorithm, slot: usize) -> Result<Key, KeyError> {
        let mut octets = [7; 32];
        octets[..8].copy_from_slice(&(slot as u64).to_be_bytes());
        let key = &octets[..algorithm.key_len()];
        match self {
            Self::Backend(backend) => Key::new(backend, algorithm, key),
            Self::Form(form) => Key::in_form(form, algorithm, key),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Backend(backend) => backend.name(),
            Self::Form(form) => form.name(),
        }
    }
}

fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("cipher");
    group.throughput(Throughput::Elements(1));
    for (by, algorithm, len, keys) in cases() {
        let inner =
            Ipv4::new([10, 1, 0, 1].into(), [10, 2, 0, 1].into(), 59).packet(&vec![0x5a; len - 20]);
        let config = OutboundConfig::tunnel(0x1001, [1; 4], ADDRESSES);
        let keys: Vec<Key> = (0..keys).map(|slot| by.key(algorithm, slot).unwrap()).collect();
        let space = SequenceSpace::new(false, u64::MAX, Unleased);
        let mut out = OutboundSa::new(&config, &keys[0], space, 0).unwrap();
        let config = InboundConfig::tunnel(0x1001, [1; 4], ADDRESSES);
        let window = ReplayWindow::new(0, false, vec![0; words_for(0)]).unwrap();
        let into = InboundSa::new(&config, &keys[0], window, 0).unwrap();

        let mut sealed = vec![0; len + 100];
        let job = encap::prepare(&mut out, &inner, u16::MAX, 0, &mut sealed).unwrap();
        let trailer = sealed.clone();
        let mut turn = (0..keys.len()).cycle();
        let mut seal = || {
            let key = &keys[turn.next().unwrap_or(0)];
            encap::seal(key, &job, black_box(&inner), &mut sealed).unwrap()
        };
        let name =
            |what| format!("{what}/{}/{}/{} SAs/{len}", by.name(), algorithm.name(), keys.len());
        cycles_per_packet(&format!("cipher/{}", name("seal")), STEP as u64, || {
            ticks(|| (0..STEP).for_each(|_| _ = black_box(seal())))
        });
        group.bench_function(name("seal"), |bencher| bencher.iter(&mut seal));

        // One packet for each key, as many as a step has.
        let packets: Vec<Vec<u8>> = keys
            .iter()
            .map(|key| {
                let mut packet = trailer.clone();
                let total = encap::seal(key, &job, &inner, &mut packet).unwrap();
                packet.truncate(total);
                packet
            })
            .collect();
        let outer = Outer::parse(&packets[0]).unwrap();
        let job = decap::prepare(&into, &outer, &packets[0], 0).unwrap();
        let mut plain = vec![0; job.out_len()];
        let mut turn = (0..keys.len()).cycle();
        let mut open = || {
            let at = turn.next().unwrap_or(0);
            decap::open(&keys[at], &job, black_box(&packets[at]), &mut plain).unwrap()
        };
        cycles_per_packet(&format!("cipher/{}", name("open")), STEP as u64, || {
            ticks(|| (0..STEP).for_each(|_| _ = black_box(open())))
        });
        group.bench_function(name("open"), |bencher| bencher.iter(&mut open));
    }
    group.finish();
}

fn cases() -> Vec<(By, Algorithm, usize, usize)> {
    let mut cases = Vec::new();
    for len in [64, 128, 256, 512, 1408, 8960] {
        for by in By::all() {
            cases.push((by, Algorithm::Aes128Gcm16, len, 1));
        }
    }
    for by in By::all() {
        for len in [64, 1408] {
            cases.push((by, Algorithm::Aes256Gcm16, len, 1));
            cases.push((by, Algorithm::Aes128Gcm16, len, 1024));
        }
    }
    for backend in [Backend::AwsLc, Backend::RustCrypto] {
        cases.push((By::Backend(backend), Algorithm::ChaCha20Poly1305, 1408, 1));
    }
    cases
}

criterion_group!(name = benches; config = measure::criterion(); targets = bench);
criterion_main!(benches);
