//! Each form of our own kernel against both libraries: random packets, every length, and nothing
//! read or written that is not the packet's.

use xswan_esp::aead::TAG_LEN;

use crate::vectors::By;
use crate::{Algorithm, Backend, Form, Key};

/// Octets of guard on either side of an output.
const GUARD: usize = 64;
const AES: [Algorithm; 3] =
    [Algorithm::Aes128Gcm16, Algorithm::Aes192Gcm16, Algorithm::Aes256Gcm16];

/// xorshift64*.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: usize) -> usize {
        ((self.next() >> 32) as usize) % bound
    }

    fn fill(&mut self, octets: &mut [u8]) {
        octets
            .chunks_mut(8)
            .for_each(|to| to.copy_from_slice(&self.next().to_le_bytes()[..to.len()]));
    }
}

fn forms() -> impl Iterator<Item = Form> {
    Form::ALL.into_iter().filter(|form| form.is_usable())
}

/// An output of its own between guards, at any alignment.
struct Guarded {
    octets: Vec<u8>,
    from: usize,
    len: usize,
}

impl Guarded {
    fn new(len: usize, shift: usize) -> Self {
        Self { octets: vec![0xa5; len + 2 * GUARD + shift], from: GUARD + shift, len }
    }

    fn room(&mut self) -> &mut [u8] {
        &mut self.octets[self.from..self.from + self.len]
    }

    fn done(&self) -> &[u8] {
        let (front, rest) = self.octets.split_at(self.from);
        let (done, back) = rest.split_at(self.len);
        assert!(front.iter().chain(back).all(|octet| *octet == 0xa5), "written outside");
        done
    }
}

/// One key in every form, and with both libraries.
struct Keys {
    forms: Vec<(Form, Key)>,
    libraries: [Key; 2],
}

impl Keys {
    fn new(algorithm: Algorithm, octets: &[u8]) -> Self {
        let octets = &octets[..algorithm.key_len()];
        let library = |backend| By::Backend(backend).key(algorithm, octets);
        Self {
            forms: forms().map(|form| (form, By::Form(form).key(algorithm, octets))).collect(),
            libraries: [library(Backend::AwsLc), library(Backend::RustCrypto)],
        }
    }

    /// Seals with all, opens in every form, and once more after one bit was turned.
    fn check(&self, random: &mut Random, nonce: &[u8; 12], aad: &[u8], plain: &[u8]) {
        let expected = self.libraries.each_ref().map(|key| {
            let mut sealed = vec![0; plain.len() + TAG_LEN];
            key.seal_octets(nonce, aad, plain, &mut sealed);
            sealed
        });
        assert_eq!(expected[0], expected[1]);
        let sealed = &expected[0];
        let mut forged = sealed.clone();
        let bit = random.below(8 * forged.len());
        forged[bit / 8] ^= 1 << (bit % 8);
        for (form, key) in &self.forms {
            let trailer_len = random.below(plain.len().min(40) + 1);
            let source = &plain[..plain.len() - trailer_len];
            let mut out = Guarded::new(sealed.len(), random.below(64));
            out.room()[source.len()..plain.len()].copy_from_slice(&plain[source.len()..]);
            key.seal_octets(nonce, aad, source, out.room());
            assert!(out.done() == sealed, "{form:?} seals {} {trailer_len}", plain.len());

            let mut out = Guarded::new(plain.len(), random.below(64));
            assert!(key.open_octets(nonce, aad, sealed, out.room()).is_ok(), "{form:?}");
            assert!(out.done() == plain, "{form:?} opens {}", plain.len());

            let mut out = Guarded::new(plain.len(), random.below(64));
            assert!(key.open_octets(nonce, aad, &forged, out.room()).is_err(), "{form:?}");
            assert!(out.done().iter().all(|octet| *octet == 0), "{form:?} {}", plain.len());
        }
    }
}

/// As many packets as `XSWAN_AEAD_RUNS` says, a million otherwise.
#[test]
fn random_packets_against_both_libraries() {
    let runs = std::env::var("XSWAN_AEAD_RUNS").map_or(1_000_000, |runs| runs.parse().unwrap());
    std::thread::scope(|scope| {
        for seed in [0x9e37_79b9_7f4a_7c15, 0xd1b5_4a32_d192_ed03] {
            scope.spawn(move || random_packets(seed, runs / 2));
        }
    });
}

fn random_packets(seed: u64, runs: u64) {
    let mut random = Random(seed);
    let mut pool = vec![0; 1 << 16];
    random.fill(&mut pool);
    let mut keys = Vec::new();
    for run in 0..runs {
        if run % 1024 == 0 {
            let mut octets = [0; 32];
            random.fill(&mut octets);
            keys = AES.map(|algorithm| Keys::new(algorithm, &octets)).into();
        }
        let longest = [64, 300, 300, 1500][random.below(4)];
        let longest = if random.below(64) == 0 { 9100 } else { longest };
        let len = random.below(longest + 1);
        let from = random.below(pool.len() - len);
        let aad_from = random.below(pool.len() - 12);
        let aad = &pool[aad_from..aad_from + [8, 12][random.below(2)]];
        let mut nonce = [0; 12];
        random.fill(&mut nonce);
        let plain = &pool[from..from + len];
        keys[random.below(3)].check(&mut random, &nonce, aad, plain);
    }
}

#[test]
fn every_length_up_to_9100() {
    let mut random = Random(7);
    let mut pool = vec![0; 9100];
    random.fill(&mut pool);
    let keys = AES.map(|algorithm| Keys::new(algorithm, &pool));
    for len in 0..=pool.len() {
        let nonce = std::array::from_fn(|at| (len >> at) as u8);
        keys[len % 3].check(&mut random, &nonce, &pool[..[8, 12][len % 2]], &pool[..len]);
        if len <= 2048 {
            keys[(len + 1) % 3].check(&mut random, &nonce, &pool[..8], &pool[..len]);
            keys[(len + 2) % 3].check(&mut random, &nonce, &pool[..12], &pool[..len]);
        }
    }
}

#[test]
fn the_counter_carries_beyond_its_last_octet() {
    let mut random = Random(8);
    let mut pool = vec![0; 1 << 16];
    random.fill(&mut pool);
    let keys = AES.map(|algorithm| Keys::new(algorithm, &pool));
    for len in [4063, 4064, 4065, 4096, 8191, 65_519, 65_520, 65_535, 65_536] {
        for keys in &keys {
            keys.check(&mut random, &[0xff; 12], &pool[..8], &pool[..len]);
        }
    }
}

#[test]
fn additional_data_of_any_length() {
    let mut random = Random(9);
    let mut pool = vec![0; 1024];
    random.fill(&mut pool);
    let keys = AES.map(|algorithm| Keys::new(algorithm, &pool));
    for aad_len in 0..200 {
        keys[aad_len % 3].check(&mut random, &[3; 12], &pool[..aad_len], &pool[..7 * aad_len / 2]);
    }
}

#[test]
fn every_bit_of_a_packet_counts_in_every_form() {
    for form in forms() {
        let key = By::Form(form).key(Algorithm::Aes128Gcm16, &[7; 16]);
        for len in [0, 1, 15, 16, 17, 63, 130, 250, 300] {
            let mut sealed = vec![0x33; len + TAG_LEN];
            key.seal_octets(&[1; 12], &[2; 8], &[], &mut sealed);
            for bit in 0..8 * sealed.len() {
                sealed[bit / 8] ^= 1 << (bit % 8);
                let mut out = vec![0xa5; len];
                assert!(key.open_octets(&[1; 12], &[2; 8], &sealed, &mut out).is_err());
                assert!(out.iter().all(|octet| *octet == 0), "{form:?} {len} {bit}");
                sealed[bit / 8] ^= 1 << (bit % 8);
            }
            let mut out = vec![0xa5; len];
            assert!(key.open_octets(&[0; 12], &[2; 8], &sealed, &mut out).is_err());
            assert!(key.open_octets(&[1; 12], &[3; 8], &sealed, &mut out).is_err());
            assert!(key.open_octets(&[1; 12], &[2; 8], &sealed, &mut out).is_ok());
            assert!(out.iter().all(|octet| *octet == 0x33));
        }
    }
}

#[test]
fn lengths_that_do_not_fit_are_refused() {
    for form in forms() {
        let key = By::Form(form).key(Algorithm::Aes256Gcm16, &[7; 32]);
        // Too little room for the source: nothing in clear.
        let mut out = [0xa5; 40];
        key.seal_octets(&[1; 12], &[2; 8], &[9; 25], &mut out);
        assert_eq!(out, [0; 40]);
        let mut out = [0xa5; 15];
        key.seal_octets(&[1; 12], &[2; 8], &[], &mut out);
        assert_eq!(out, [0; 15]);
        let mut out = [0xa5; 24];
        assert!(key.open_octets(&[1; 12], &[2; 8], &[9; 41], &mut out).is_err());
        assert_eq!(out, [0; 24]);
        assert!(key.open_octets(&[1; 12], &[2; 8], &[9; 15], &mut []).is_err());
    }
}

#[test]
fn a_form_is_shown_and_its_key_is_not() {
    assert_eq!(Backend::fastest() == Backend::Native, Form::detect().is_some());
    for form in forms() {
        let key = Key::in_form(form, Algorithm::Aes128Gcm16, &[0xa5; 16]).unwrap();
        assert_eq!(key.form(), Some(form));
        let printed = format!("{key:?}");
        assert!(printed.contains("native") && !printed.contains("165"), "{printed}");
        assert!(Key::in_form(form, Algorithm::Aes128Gcm16, &[0; 16]).is_err());
        assert!(Key::in_form(form, Algorithm::Aes128Gcm16, &[1; 24]).is_err());
        assert!(Key::in_form(form, Algorithm::ChaCha20Poly1305, &[1; 32]).is_err());
        assert!(Backend::Native.description().starts_with("native "));
    }
}
