//! Frames with the verdict expected of each, and the tables the verdicts rest on.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use xswan_steer::Tables;
use xswan_steer::abi::{
    PREFIX_LOCAL, PREFIX_REMOTE, Prefix4, Prefix6, PrefixValue, ROLE_INNER, ROLE_OUTER,
    STEER_VERSION, SteerConfig, WORKER_BY_FLOW,
};
use xswan_steer::spi::{SpiKey, SpiParts};
use xswan_steer::tables::v4_mapped;
use xswan_wire::{ethernet, ipv4, ipv6, udp};

pub const WORKERS: u32 = 4;
pub const MEMBER: u8 = 2;
pub const KEY: [u32; 4] = [0x0123_4567, 0x89ab_cdef, 0xdead_beef, 0x0bad_cafe];

const OUTER4: [u8; 4] = [203, 0, 113, 1];
const OUTER6: [u8; 16] = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1).octets();
const PEER4: [u8; 4] = [198, 51, 100, 7];
const PEER6: [u8; 16] = Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 7).octets();
const STATIC_SPI: u32 = 0x0000_9999;
const STALE_SPI: u32 = 0x0000_9998;

/// The steering tables as plain collections.
#[derive(Clone, Default)]
pub struct World {
    pub config: SteerConfig,
    pub outer: Vec<[u8; 16]>,
    pub spis: BTreeMap<[u8; 4], u32>,
    pub prefixes4: Vec<(Prefix4, PrefixValue)>,
    pub prefixes6: Vec<(Prefix6, PrefixValue)>,
}

impl World {
    /// Two outer addresses, four workers, a prefix of each sort.
    pub fn new() -> Self {
        let value = |flags, worker| PrefixValue { flags, worker };
        let prefix4 = |address: [u8; 4], length, value| (Prefix4 { length, address }, value);
        let prefix6 = |last, value| {
            let address = Ipv6Addr::new(0x2001, 0xdb8, last, 0, 0, 0, 0, 0).octets();
            (Prefix6 { length: 48, address }, value)
        };
        let both = PREFIX_REMOTE | PREFIX_LOCAL;
        Self {
            config: SteerConfig {
                version: STEER_VERSION,
                workers: WORKERS,
                member: u32::from(MEMBER),
                static_spis: 2,
                spi_key: KEY,
            },
            outer: vec![v4_mapped(OUTER4), OUTER6],
            spis: [(STATIC_SPI.to_be_bytes(), 3), (STALE_SPI.to_be_bytes(), 9)].into(),
            prefixes4: vec![
                prefix4([10, 1, 0, 0], 16, value(PREFIX_REMOTE, 1)),
                prefix4([10, 1, 9, 0], 24, value(0, 0)),
                prefix4([10, 2, 0, 0], 16, value(PREFIX_LOCAL, WORKER_BY_FLOW)),
                prefix4([10, 3, 0, 0], 16, value(both, WORKER_BY_FLOW)),
                prefix4([10, 4, 0, 0], 16, value(PREFIX_REMOTE, 9)),
            ],
            prefixes6: vec![
                prefix6(0xa, value(PREFIX_REMOTE, WORKER_BY_FLOW)),
                prefix6(0xb, value(PREFIX_LOCAL, 2)),
            ],
        }
    }
}

fn covers(prefix: &[u8], length: u32, address: &[u8]) -> bool {
    let bit = |bytes: &[u8], at: u32| bytes[at as usize / 8] >> (7 - at % 8) & 1;
    (0..length).all(|at| bit(prefix, at) == bit(address, at))
}

impl Tables for World {
    fn config(&self) -> Option<SteerConfig> {
        Some(self.config)
    }

    fn is_outer(&self, address: &[u8; 16]) -> bool {
        self.outer.contains(address)
    }

    fn static_spi(&self, spi: [u8; 4]) -> Option<u32> {
        self.spis.get(&spi).copied()
    }

    fn prefix4(&self, address: [u8; 4]) -> Option<PrefixValue> {
        let found = self.prefixes4.iter().filter(|(p, _)| covers(&p.address, p.length, &address));
        found.max_by_key(|(prefix, _)| prefix.length).map(|(_, value)| *value)
    }

    fn prefix6(&self, address: [u8; 16]) -> Option<PrefixValue> {
        let found = self.prefixes6.iter().filter(|(p, _)| covers(&p.address, p.length, &address));
        found.max_by_key(|(prefix, _)| prefix.length).map(|(_, value)| *value)
    }
}

/// A frame and what is to become of it.
pub struct Case {
    pub name: &'static str,
    /// Roles of the port it comes in on; 0 if the port is not known.
    pub roles: u32,
    pub frame: Vec<u8>,
    /// Name of the verdict's counter.
    pub expected: &'static str,
    /// The worker, where a table or an SPI names one.
    pub worker: Option<u32>,
}

pub fn spi_of(worker: u8, slot: u32) -> u32 {
    SpiKey(KEY).seal(SpiParts { member: MEMBER, worker, slot }).unwrap()
}

fn ethernet(ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let repr = ethernet::Repr {
        destination: [2, 0, 0, 0, 0, 1],
        source: [2, 0, 0, 0, 0, 2],
        tags: ethernet::Tags::NONE,
        ethertype,
    };
    let mut frame = vec![0; repr.emitted_len()];
    repr.emit(&mut frame).unwrap();
    frame.extend_from_slice(payload);
    frame
}

/// The frame with one VLAN tag more.
pub fn tagged(frame: &[u8], tpid: u16) -> Vec<u8> {
    let mut tagged = frame[..12].to_vec();
    tagged.extend_from_slice(&tpid.to_be_bytes());
    tagged.extend_from_slice(&[0x20, 100]);
    tagged.extend_from_slice(&frame[12..]);
    tagged
}

fn v4(protocol: u8, destination: [u8; 4], payload: &[u8]) -> Vec<u8> {
    v4_fragment(protocol, destination, 0, payload)
}

fn v4_fragment(protocol: u8, destination: [u8; 4], fragment: u16, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0; 20];
    let repr = ipv4::Repr {
        source: PEER4,
        destination,
        total_len: u16::try_from(20 + payload.len()).unwrap(),
        identification: 7,
        dont_fragment: false,
        traffic_class: 0,
        ttl: 64,
        protocol,
    };
    repr.emit(&mut packet).unwrap();
    packet[6..8].copy_from_slice(&fragment.to_be_bytes());
    packet.extend_from_slice(payload);
    ethernet(ethernet::IPV4, &packet)
}

/// With eight bytes of options.
fn v4_options(protocol: u8, destination: [u8; 4], payload: &[u8]) -> Vec<u8> {
    let with_options = [&[1; 8], payload].concat();
    let mut frame = v4(protocol, destination, &with_options);
    frame[14] = 0x47;
    frame
}

fn v6(next_header: u8, destination: [u8; 16], payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0; 40];
    let repr = ipv6::Repr {
        source: PEER6,
        destination,
        payload_len: u16::try_from(payload.len()).unwrap(),
        next_header,
        hop_limit: 64,
        traffic_class: 0,
        flow_label: 0,
    };
    repr.emit(&mut packet).unwrap();
    packet.extend_from_slice(payload);
    ethernet(ethernet::IPV6, &packet)
}

fn udp(source_port: u16, destination_port: u16, payload: &[u8]) -> Vec<u8> {
    let len = u16::try_from(8 + payload.len()).unwrap();
    let mut datagram = vec![0; 8];
    udp::Repr { source_port, destination_port, len }.emit(&mut datagram).unwrap();
    datagram.extend_from_slice(payload);
    datagram
}

fn esp(spi: u32, len: usize) -> Vec<u8> {
    let mut packet = spi.to_be_bytes().to_vec();
    packet.resize(len, 0x5e);
    packet
}

/// Extension headers: each 8 bytes, the last one announcing `next`.
fn extensions(kinds: &[u8], next: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for index in 0..kinds.len() {
        let following = kinds.get(index + 1).copied().unwrap_or(next);
        bytes.extend_from_slice(&[following, 0, 0, 0, 0, 0, 0, 0]);
    }
    bytes.extend_from_slice(payload);
    bytes
}

fn fragment6(next: u8, field: u16, payload: &[u8]) -> Vec<u8> {
    let [f0, f1] = field.to_be_bytes();
    [&[next, 0, f0, f1, 0, 0, 0, 1], payload].concat()
}

fn inner6(last: u16) -> [u8; 16] {
    Ipv6Addr::new(0x2001, 0xdb8, last, 0, 0, 0, 0, 5).octets()
}

const INNER: u32 = ROLE_INNER;
const OUTER: u32 = ROLE_OUTER;
const BOTH: u32 = ROLE_INNER | ROLE_OUTER;

type Row = (&'static str, u32, Vec<u8>, &'static str, Option<u32>);

/// Every case.
pub fn cases() -> Vec<Case> {
    let rows = [esp_rows(), wrapped_rows(), esp_in_udp_rows(), clear_rows(), odd_rows()].concat();
    let case =
        |(name, roles, frame, expected, worker)| Case { name, roles, frame, expected, worker };
    rows.into_iter().map(case).collect()
}

fn esp_rows() -> Vec<Row> {
    let ours = |worker| esp(spi_of(worker, 77), 64);
    let foreign = SpiKey(KEY).seal(SpiParts { member: 5, worker: 1, slot: 1 }).unwrap();
    vec![
        ("esp to worker 0", OUTER, v4(50, OUTER4, &ours(0)), "steer_esp", Some(0)),
        ("esp to worker 2", BOTH, v4(50, OUTER4, &ours(2)), "steer_esp", Some(2)),
        ("esp over ipv6", OUTER, v6(50, OUTER6, &ours(3)), "steer_esp", Some(3)),
        ("esp, static spi", OUTER, v4(50, OUTER4, &esp(STATIC_SPI, 40)), "steer_esp", Some(3)),
        ("esp, its worker is gone", OUTER, v4(50, OUTER4, &esp(STALE_SPI, 40)), "no_worker", None),
        ("esp of a worker too many", OUTER, v4(50, OUTER4, &ours(200)), "steer_esp", None),
        ("esp of another member", OUTER, v4(50, OUTER4, &esp(foreign, 40)), "steer_esp", None),
        ("esp, reserved spi", OUTER, v4(50, OUTER4, &esp(255, 40)), "steer_esp", None),
        ("esp, spi zero", OUTER, v4(50, OUTER4, &esp(0, 40)), "steer_esp", None),
        ("esp of seven bytes", OUTER, v4(50, OUTER4, &ours(1)[..7]), "runt", None),
        ("esp of eight bytes", OUTER, v4(50, OUTER4, &ours(1)[..8]), "steer_esp", Some(1)),
        ("esp of nothing", OUTER, v4(50, OUTER4, &[]), "runt", None),
        ("esp, first fragment", OUTER, v4_fragment(50, OUTER4, 0x2000, &ours(1)), "fragment", None),
        ("esp, later fragment", OUTER, v4_fragment(50, OUTER4, 3, &ours(1)), "fragment", None),
        (
            "esp, later ipv6 fragment",
            OUTER,
            v6(44, OUTER6, &fragment6(50, 8, &ours(1))),
            "fragment",
            None,
        ),
        ("esp on the inner port", INNER, v4(50, OUTER4, &ours(1)), "pass_foreign_esp", None),
        ("esp for somebody else", BOTH, v4(50, PEER4, &ours(1)), "pass_foreign_esp", None),
        ("esp through the tunnel", INNER, v4(50, [10, 1, 0, 1], &ours(3)), "steer_clear", Some(1)),
        ("esp on an unknown port", 0, v4(50, OUTER4, &ours(1)), "no_worker", None),
    ]
}

/// With more around it than Ethernet and a bare IP header.
fn wrapped_rows() -> Vec<Row> {
    let ours = esp(spi_of(1, 77), 64);
    let plain = v4(50, OUTER4, &ours);
    let once = tagged(&plain, ethernet::VLAN);
    let twice = tagged(&once, ethernet::SERVICE_VLAN);
    let thrice = tagged(&twice, ethernet::OLD_SERVICE_VLAN);
    let extended = v6(0, OUTER6, &extensions(&[0, 60, 43], 50, &ours));
    let most = v6(0, OUTER6, &extensions(&[0, 60, 43, 60, 44, 60, 43, 60], 50, &ours));
    let atomic = v6(44, OUTER6, &fragment6(50, 0, &ours));
    let long = v4(50, OUTER4, &esp(spi_of(1, 77), 9000));
    vec![
        ("esp behind options", OUTER, v4_options(50, OUTER4, &ours), "steer_esp", Some(1)),
        ("esp behind extensions", OUTER, extended, "steer_esp", Some(1)),
        ("esp behind eight extensions", OUTER, most, "steer_esp", Some(1)),
        ("esp in an atomic fragment", OUTER, atomic, "steer_esp", Some(1)),
        ("esp in a tag", OUTER, once, "steer_esp", Some(1)),
        ("esp in two tags", OUTER, twice, "steer_esp", Some(1)),
        ("esp in three tags", OUTER, thrice, "pass_malformed", None),
        ("esp over several buffers", OUTER, long, "steer_esp", Some(1)),
    ]
}

fn esp_in_udp_rows() -> Vec<Row> {
    let on = |port, payload: &[u8]| v4(17, OUTER4, &udp(4500, port, payload));
    let ours = esp(spi_of(2, 5), 64);
    let ike = [&[0; 4], &[0x1e; 28][..]].concat();
    vec![
        ("esp in udp", OUTER, on(4500, &ours), "steer_esp_udp", Some(2)),
        (
            "esp in udp over ipv6",
            OUTER,
            v6(17, OUTER6, &udp(9, 4500, &ours)),
            "steer_esp_udp",
            Some(2),
        ),
        ("esp in udp, static spi", OUTER, on(4500, &esp(STATIC_SPI, 40)), "steer_esp_udp", Some(3)),
        (
            "esp in udp behind options",
            OUTER,
            v4_options(17, OUTER4, &udp(9, 4500, &ours)),
            "steer_esp_udp",
            Some(2),
        ),
        ("ike on 4500", OUTER, on(4500, &ike), "pass_ike", None),
        ("ike on 4500 over ipv6", OUTER, v6(17, OUTER6, &udp(9, 4500, &ike)), "pass_ike", None),
        ("the marker alone", OUTER, on(4500, &[0; 4]), "pass_ike", None),
        ("three zeros", OUTER, on(4500, &[0; 3]), "runt", None),
        ("nothing on 4500", OUTER, on(4500, &[]), "runt", None),
        ("keepalive", OUTER, on(4500, &[0xff]), "keepalive", None),
        ("not quite a keepalive", OUTER, on(4500, &[0xfe]), "runt", None),
        ("two keepalives", OUTER, on(4500, &[0xff; 2]), "runt", None),
        ("spi and no sequence number", OUTER, on(4500, &ours[..7]), "runt", None),
        ("half a udp header", OUTER, v4(17, OUTER4, &[0x11, 0x94, 0x11, 0x94]), "runt", None),
        ("ike on 500", OUTER, on(500, &ike[4..]), "pass_ike", None),
        ("ike on 500 with a marker", OUTER, on(500, &ike), "pass_ike", None),
        ("ike on 500, inner port", INNER, on(500, &ike[4..]), "pass_ike", None),
        (
            "ike, first fragment",
            OUTER,
            v4_fragment(17, OUTER4, 0x2000, &udp(9, 4500, &ike)),
            "pass_fragment",
            None,
        ),
        (
            "later fragment that looks like esp",
            OUTER,
            v4_fragment(17, OUTER4, 5, &udp(9, 4500, &ours)),
            "pass_fragment",
            None,
        ),
        ("from 4500 to elsewhere", OUTER, on(9, &ours), "pass_other", None),
        ("4500 of somebody else", OUTER, v4(17, PEER4, &udp(9, 4500, &ours)), "pass_other", None),
        ("esp in udp on the inner port", INNER, on(4500, &ours), "pass_other", None),
        ("ike before anything is attached", 0, on(500, &ike), "pass_ike", None),
    ]
}

fn clear_rows() -> Vec<Row> {
    let to = |address| v4(17, address, &udp(1000, 2000, &[0x5e; 40]));
    let to6 = |last| v6(17, inner6(last), &udp(1000, 2000, &[0x5e; 40]));
    vec![
        ("to the far side", INNER, to([10, 1, 2, 3]), "steer_clear", Some(1)),
        ("to the far side, both roles", BOTH, to([10, 1, 2, 3]), "steer_clear", Some(1)),
        ("to the far side from outside", OUTER, to([10, 1, 2, 3]), "pass_other", None),
        ("to the exception in it", INNER, to([10, 1, 9, 3]), "pass_other", None),
        ("to the near side from outside", OUTER, to([10, 2, 2, 3]), "steer_clear", None),
        ("to the near side from inside", INNER, to([10, 2, 2, 3]), "pass_other", None),
        ("to both sides", INNER, to([10, 3, 2, 3]), "steer_clear", None),
        ("to both sides from outside", OUTER, to([10, 3, 2, 3]), "steer_clear", None),
        ("to a worker that is gone", INNER, to([10, 4, 0, 1]), "no_worker", None),
        ("to the far side on an unknown port", 0, to([10, 1, 2, 3]), "no_worker", None),
        ("ipv6 to the far side", INNER, to6(0xa), "steer_clear", None),
        ("ipv6 to the near side", OUTER, to6(0xb), "steer_clear", Some(2)),
        ("ipv6 elsewhere", BOTH, to6(0xc), "pass_other", None),
        ("ping through the tunnel", INNER, v4(1, [10, 1, 0, 1], &[8; 16]), "steer_clear", Some(1)),
        ("tcp to both sides", BOTH, v4(6, [10, 3, 0, 1], &[0x77; 40]), "steer_clear", None),
        (
            "a fragment to both sides",
            BOTH,
            v4_fragment(17, [10, 3, 0, 1], 9, &[0x77; 40]),
            "steer_clear",
            None,
        ),
        (
            "ike of hosts behind us",
            INNER,
            v4(17, [10, 1, 0, 1], &udp(500, 500, &[1; 40])),
            "steer_clear",
            Some(1),
        ),
        (
            "nine extensions to the far side",
            INNER,
            v6(60, inner6(0xa), &extensions(&[60; 9], 17, &[0; 20])),
            "bad_ext",
            None,
        ),
        (
            "hop-by-hop out of order",
            INNER,
            v6(60, inner6(0xa), &extensions(&[60, 0], 17, &[0; 20])),
            "bad_ext",
            None,
        ),
        (
            "nine extensions elsewhere",
            INNER,
            v6(60, inner6(0xc), &extensions(&[60; 9], 17, &[0; 20])),
            "pass_malformed",
            None,
        ),
        (
            "nine extensions in a tag",
            INNER,
            tagged(&v6(60, inner6(0xa), &extensions(&[60; 9], 17, &[0; 20])), ethernet::VLAN),
            "bad_ext",
            None,
        ),
    ]
}

fn odd_rows() -> Vec<Row> {
    let multicast = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00, 1).octets();
    let mut long = v4(50, OUTER4, &esp(spi_of(1, 1), 40));
    long[17] += 1;
    let mut short_header = long.clone();
    short_header[14] = 0x44;
    let mut version = v4(50, OUTER4, &esp(spi_of(1, 1), 40));
    version[14] = 0x65;
    let mut padded = v4(17, OUTER4, &udp(9, 4500, &[0xff]));
    padded.resize(60, 0);
    vec![
        ("arp", BOTH, ethernet(ethernet::ARP, &[0; 46]), "pass_arp", None),
        ("lldp", BOTH, ethernet(0x88cc, &[0; 46]), "pass_other", None),
        (
            "arp in a tag",
            BOTH,
            tagged(&ethernet(ethernet::ARP, &[0; 46]), ethernet::VLAN),
            "pass_other",
            None,
        ),
        ("nothing but addresses", BOTH, ethernet(ethernet::IPV4, &[]), "pass_malformed", None),
        ("neighbour solicitation", BOTH, v6(58, multicast, &[135; 32]), "pass_icmp", None),
        ("ping to us", BOTH, v4(1, OUTER4, &[8; 32]), "pass_icmp", None),
        ("ssh to us", BOTH, v4(6, OUTER4, &[0x16; 32]), "pass_other", None),
        (
            "multicast",
            BOTH,
            v4(17, Ipv4Addr::new(224, 0, 0, 5).octets(), &[0; 32]),
            "pass_other",
            None,
        ),
        ("longer than the frame", OUTER, long, "pass_malformed", None),
        ("ihl of four", OUTER, short_header, "pass_malformed", None),
        ("version six in ipv4", OUTER, version, "pass_malformed", None),
        ("keepalive with padding", OUTER, padded, "keepalive", None),
    ]
}
