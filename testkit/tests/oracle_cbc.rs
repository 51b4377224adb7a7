//! AES-CBC with HMAC-SHA2 against scapy and python3-cryptography, packet by packet.
//!
//! Needs python3-scapy, no privileges.
#![expect(clippy::expect_used, reason = "a test stops at the first surprise")]

use serde_json::{Value, json};
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use xswan_aead::{Algorithm, Backend, Key};
use xswan_esp::decap;
use xswan_esp::encap;
use xswan_esp::replay::{ReplayWindow, words_for};
use xswan_esp::sa::{InboundConfig, InboundSa, OutboundConfig, OutboundSa, UdpPorts};
use xswan_esp::selector::{AddressRange, Family, Selector};
use xswan_esp::sequence::{SequenceSpace, Unleased};
use xswan_wire::layers::Addresses;

const PYTHON: &str = "/usr/bin/python3";
const SPI: u32 = 0x0102_0304;
/// Packets in each direction and for each form of SA.
const PACKETS: usize = 40;

/// One SA in each form: algorithm, extended numbers, UDP, outer family.
struct Form {
    algorithm: Algorithm,
    key: Vec<u8>,
    esn: bool,
    encap: bool,
    v6: bool,
}

impl Form {
    fn all() -> Vec<Self> {
        let cbc = |algorithm: &Algorithm| !Algorithm::AEADS.contains(algorithm);
        let forms = Algorithm::ALL.into_iter().filter(cbc).flat_map(|algorithm| {
            (0..8_u8).map(move |bits| {
                let octet = |n: usize| (n as u8).wrapping_mul(29).wrapping_add(bits + 1);
                let key = (0..algorithm.key_len()).map(octet).collect();
                let (esn, encap, v6) = (bits & 1 != 0, bits & 2 != 0, bits & 4 != 0);
                Self { algorithm, key, esn, encap, v6 }
            })
        });
        forms.collect()
    }

    fn ports(&self) -> Option<UdpPorts> {
        self.encap.then_some(UdpPorts { local: 4500, remote: 4500 })
    }

    fn addresses(&self) -> Addresses {
        if self.v6 {
            let address = |last| {
                let mut octets = [0; 16];
                (octets[0], octets[1], octets[15]) = (0xfd, 9, last);
                octets
            };
            Addresses::V6 { source: address(1), destination: address(2) }
        } else {
            Addresses::V4 { source: [192, 0, 2, 1], destination: [192, 0, 2, 2] }
        }
    }

    fn job(&self, packet: &[u8], sequence: u64) -> Value {
        let hex =
            |octets: &[u8]| octets.iter().map(|octet| format!("{octet:02x}")).collect::<String>();
        let (source, destination) =
            if self.v6 { ("fd09::1", "fd09::2") } else { ("192.0.2.1", "192.0.2.2") };
        json!({
            "sa": {
                "algorithm": self.algorithm.name(), "key": hex(&self.key), "spi": SPI,
                "esn": self.esn, "encap": self.encap, "source": source, "destination": destination,
            },
            "sequence": sequence, "packet": hex(packet),
        })
    }

    fn cipher(&self) -> Key {
        Key::new(Backend::default(), self.algorithm, &self.key).expect("a key")
    }
}

/// An IPv4 packet of so many octets.
fn inner(len: usize) -> Vec<u8> {
    let mut packet = vec![0x45, 0, (len >> 8) as u8, len as u8];
    packet.extend([0, 1, 0, 0, 64, 200, 0, 0, 10, 1, 0, 1, 10, 2, 0, 1]);
    let sum = xswan_wire::checksum::Sum::new().bytes(&packet).finish();
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet.extend((20..len).map(|n| (n as u8).wrapping_mul(73)));
    packet
}

fn octets(line: &Value) -> Vec<u8> {
    let text = line["packet"].as_str();
    assert!(text.is_some(), "{line}");
    let text = text.unwrap_or_default();
    let octet = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).expect("hexadecimal");
    (0..text.len()).step_by(2).map(octet).collect()
}

fn peer(mode: &str, jobs: &[Value]) -> Vec<Value> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scapy/peer.py");
    let mut child = Command::new(PYTHON)
        .arg(script)
        .arg(mode)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3 runs");
    let mut input = child.stdin.take().expect("piped");
    let text: String = jobs.iter().map(|job| format!("{job}\n")).collect();
    let writer = std::thread::spawn(move || input.write_all(text.as_bytes()));
    let output = child.wait_with_output().expect("it ends");
    writer.join().expect("joined").expect("written");
    assert!(output.status.success(), "python3-scapy and python3-cryptography are needed");
    let lines = output.stdout.split(|octet| *octet == b'\n').filter(|line| !line.is_empty());
    lines.map(|line| serde_json::from_slice(line).expect("JSON")).collect()
}

#[test]
fn the_peer_opens_what_is_sealed_here() {
    let (mut jobs, mut expected) = (Vec::new(), Vec::new());
    for form in Form::all() {
        let config = OutboundConfig {
            encap: form.ports(),
            ..OutboundConfig::tunnel(SPI, [0; 4], form.addresses())
        };
        let numbers = SequenceSpace::new(form.esn, u64::MAX, Unleased);
        let mut sa = OutboundSa::new(&config, form.cipher(), numbers, 0).expect("an SA");
        for step in 0..PACKETS {
            let inner = inner(20 + step * 7);
            let mut out = vec![0; 2000];
            let len = encap::encap(&mut sa, &inner, 1, &mut out).expect("sealed");
            jobs.push(form.job(&out[..len], 0));
            expected.push(inner);
        }
    }
    let opened = peer("decrypt", &jobs);
    assert_eq!(opened.len(), expected.len());
    for ((line, inner), job) in opened.iter().zip(&expected).zip(&jobs) {
        assert_eq!(octets(line), *inner, "{}", job["sa"]);
    }
}

/// Extended numbers across the end of the low half, but for 0, which scapy takes for "none".
fn sequence(form: &Form, step: usize) -> u64 {
    let first = if form.esn { (3_u64 << 32) - 20 } else { 1 };
    let number = first + step as u64;
    if form.esn && number >= 3 << 32 { number + 1 } else { number }
}

#[test]
fn what_the_peer_seals_is_opened_here() {
    let mut jobs = Vec::new();
    let forms = Form::all();
    for form in &forms {
        jobs.extend((0..PACKETS).map(|step| form.job(&inner(20 + step * 7), sequence(form, step))));
    }
    let sealed = peer("encrypt", &jobs);
    assert_eq!(sealed.len(), jobs.len());
    let any = AddressRange::any(Family::V4);
    let selectors = [Selector::addresses(any, any)];
    for (form, lines) in forms.iter().zip(sealed.chunks(PACKETS)) {
        let config = InboundConfig {
            encap: form.ports(),
            ..InboundConfig::tunnel(SPI, [0; 4], form.addresses())
        };
        let mut words = vec![0; words_for(64)];
        words[1] = sequence(form, 0) - 1;
        let window = ReplayWindow::adopt(64, form.esn, words).expect("a window");
        let mut sa = InboundSa::new(&config, form.cipher(), window, 0).expect("an SA");
        for (step, line) in lines.iter().enumerate() {
            let packet = octets(line);
            let mut out = vec![0; packet.len()];
            let checked = decap::decap(&mut sa, &packet, &selectors, 1, &mut out)
                .unwrap_or_else(|reason| panic!("{reason:?}: {}", form.job(&[], 0)));
            assert_eq!(out[..checked.len()], inner(20 + step * 7));
        }
    }
}
