//! Against scapy 2.5, an independent reader in Python: the same payloads with the same contents.
//!
//! Left out is what scapy 2.5 cannot read: addresses of the wrong size as identities, an SPI in a
//! Notify that is not the last payload, unknown attributes and selectors, and what is no
//! certificate or CRL under their encodings.

use super::strategies::message;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use std::fmt::Write as _;
use std::io::Write as _;
use std::net::IpAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use xswan_ikev2::wire::{
    Identification, Message, Payload, SecurityAssociation, TrafficSelectors, Transform, emit_chain,
};

/// The distribution's own, which has scapy.
const PYTHON: &str = "/usr/bin/python3";
const MESSAGES: usize = 400;

fn hex(octets: &[u8]) -> String {
    octets.iter().fold(String::new(), |mut text, octet| {
        write!(text, "{octet:02x}").unwrap();
        text
    })
}

fn scapy_reads(payload: &Payload, last: bool) -> bool {
    match payload {
        Payload::IdI(id) | Payload::IdR(id) => match id.kind {
            Identification::IPV4_ADDR => id.data.len() == 4,
            Identification::IPV6_ADDR => id.data.len() == 16,
            _ => true,
        },
        Payload::Cert(cert) => cert.encoding != 4 && cert.encoding != 7,
        Payload::Notify(notify) => last || notify.spi.is_empty(),
        Payload::TsI(selectors) | Payload::TsR(selectors) => selectors.unknown.is_empty(),
        Payload::Sa(sa) => {
            let mut transforms = sa.proposals.iter().flat_map(|proposal| &proposal.transforms);
            transforms.all(Transform::is_usable)
        }
        _ => true,
    }
}

fn show_proposals(sa: &SecurityAssociation) -> String {
    let mut text = String::new();
    for proposal in &sa.proposals {
        let show = |transform: &Transform| {
            let bits = transform.key_bits.map_or("-".to_owned(), |bits| bits.to_string());
            format!("{},{},{bits}", transform.kind, transform.id)
        };
        let transforms: Vec<_> = proposal.transforms.iter().map(show).collect();
        let (number, protocol) = (proposal.number, proposal.protocol);
        let (spi, transforms) = (hex(&proposal.spi), transforms.join(";"));
        write!(text, "{number},{protocol},{spi}[{transforms}]").unwrap();
    }
    text
}

fn show_selectors(selectors: &TrafficSelectors) -> String {
    let address = |address: IpAddr| match address {
        IpAddr::V4(address) => hex(&address.octets()),
        IpAddr::V6(address) => hex(&address.octets()),
    };
    let shown: Vec<_> = selectors
        .selectors
        .iter()
        .map(|one| {
            let (first, last) = (address(one.first), address(one.last));
            format!("{},{},{},{first},{last}", one.protocol, one.first_port, one.last_port)
        })
        .collect();
    shown.join(";")
}

/// As the script writes it.
fn show_payload(payload: &Payload) -> String {
    match payload {
        Payload::Sa(sa) => show_proposals(sa),
        Payload::Ke(ke) => format!("{},{}", ke.method, hex(&ke.data)),
        Payload::IdI(id) | Payload::IdR(id) => format!("{},{}", id.kind, hex(&id.data)),
        Payload::Cert(cert) => format!("{},{}", cert.encoding, hex(&cert.data)),
        Payload::CertReq(request) => format!("{},{}", request.encoding, hex(&request.authorities)),
        Payload::Auth(auth) => format!("{},{}", auth.method, hex(&auth.data)),
        Payload::Nonce(nonce) => hex(&nonce.0),
        Payload::Notify(notify) => {
            let (spi, data) = (hex(&notify.spi), hex(&notify.data));
            format!("{},{spi},{},{data}", notify.protocol, notify.kind.0)
        }
        Payload::Delete(_) => {
            let (_, chain) = emit_chain(std::slice::from_ref(payload)).unwrap();
            hex(&chain[4..])
        }
        Payload::Vendor(vendor) => hex(&vendor.0),
        Payload::TsI(selectors) | Payload::TsR(selectors) => show_selectors(selectors),
        Payload::Cp(cp) => {
            let shown: Vec<_> = cp
                .attributes
                .iter()
                .map(|attribute| format!("{},{}", attribute.kind.0, hex(&attribute.value)))
                .collect();
            format!("{},{}", cp.kind.0, shown.join(";"))
        }
        Payload::Eap(message) => hex(message.as_bytes()),
        Payload::Unknown { body, .. } => hex(body),
    }
}

fn show(message: &Message) -> String {
    let header = message.header;
    let flags = header.emit()[19];
    let mut text = format!("{} {flags} {}", header.exchange.0, header.message_id);
    for payload in &message.payloads {
        write!(text, " | {}:{}", payload.kind().0, show_payload(payload)).unwrap();
    }
    text
}

/// What scapy says to messages in hex, line by line; `None` if there is no scapy here.
fn ask_scapy(messages: String) -> Option<String> {
    let probe = Command::new(PYTHON).args(["-c", "import scapy"]).stderr(Stdio::null()).status();
    if !probe.is_ok_and(|status| status.success()) {
        return None;
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testkit/scapy/ike_payloads.py");
    let mut child = Command::new(PYTHON)
        .arg("-B")
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || input.write_all(messages.as_bytes()));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(output.status.success());
    Some(String::from_utf8(output.stdout).unwrap())
}

/// A random message without what scapy cannot read.
fn draw(runner: &mut TestRunner) -> Message {
    let mut message = message().new_tree(runner).unwrap().current();
    let count = message.payloads.len();
    let mut index = 0;
    message.payloads.retain(|payload| {
        index += 1;
        scapy_reads(payload, index == count)
    });
    message
}

#[test]
fn scapy_reads_the_same_payloads() {
    let mut runner = TestRunner::default();
    let messages: Vec<Message> = (0..MESSAGES).map(|_| draw(&mut runner)).collect();
    let sent: Vec<String> =
        messages.iter().map(|message| hex(&message.emit().unwrap()) + "\n").collect();
    let Some(answer) = ask_scapy(sent.concat()) else {
        println!("skipped: scapy_reads_the_same_payloads: no scapy for {PYTHON}");
        return;
    };
    assert_eq!(answer.lines().count(), messages.len());
    for ((message, sent), line) in messages.iter().zip(&sent).zip(answer.lines()) {
        assert_eq!(line, show(message), "{sent}");
    }
}
