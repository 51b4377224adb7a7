//! A gateway of two, as the tests see it: an engine with its tables, and bursts into it.
//!
//! ```text
//! 10.1/16, fd01::/16 ── left 192.0.2.1, fd00::1 ══ 192.0.2.2, fd00::2 right ── 10.2/16, fd02::/16
//! ```

use std::net::{IpAddr, Ipv6Addr};

use xswan_aead::{Algorithm, Backend, Key};
use xswan_esp::replay::{ReplayWindow, words_for};
use xswan_esp::sa::{InboundConfig, InboundSa, OutboundConfig, OutboundSa};
use xswan_esp::selector::{AddressRange, Family, Selector};
use xswan_esp::sequence::{SequenceSpace, Unleased};
use xswan_pipeline::engine::{CachedHop, Engine, EngineConfig, Env, Inbound, Outbound};
use xswan_pipeline::forward::{Fib, L2Header, NextHop, Prefix};
use xswan_pipeline::spd::{Action, Policy, SaHandle, Spd};
use xswan_pipeline::table::SpiReader;
use xswan_steer::abi::{ROLE_INNER, ROLE_OUTER};
use xswan_steer::spi::{SpiKey, SpiParts};
use xswan_testkit::esp_builder::EspBuilder;
use xswan_testkit::packet;
use xswan_wire::DropReason;
use xswan_wire::layers::Addresses;

use crate::rings::{Buffer, Rings};

/// The port to the other gateway.
pub const OUTER: u16 = 0;
/// The port to the hosts.
pub const INNER: u16 = 1;
/// The slot of the tunnel that both sides have from the start.
pub const SLOT: u32 = 1;
/// Its child.
pub const CHILD: u32 = 7;
pub const SALT: [u8; 4] = *b"salt";
/// MTU of every link.
pub const MTU: u16 = 1500;

pub type TestEngine = Engine<Key, Vec<u64>, Unleased, Buffer>;

/// Which of the two: 1 on the left, 2 on the right.
pub type Side = u8;
pub const LEFT: Side = 1;
pub const RIGHT: Side = 2;

pub struct Gateway {
    pub side: Side,
    pub engine: TestEngine,
    pub rings: Rings,
    pub fib: Fib,
    pub spd: Spd,
    pub now_ms: u64,
}

impl Gateway {
    /// With the tunnel in [`SLOT`] between the networks of both families.
    pub fn new(side: Side) -> Self {
        Self::with(side, |_| ())
    }

    /// As [`Gateway::new`] with another engine configuration.
    pub fn with(side: Side, change: impl FnOnce(&mut EngineConfig)) -> Self {
        let mut config = EngineConfig {
            spis: SpiReader { key: SPI_KEY, member: side, worker: 0, workers: 2 },
            slots: 16,
            roles: vec![ROLE_OUTER, ROLE_INNER],
            icmp_per_second: 10,
            nest_limit: 1,
            fragment: true,
        };
        change(&mut config);
        let mut this = Self {
            side,
            engine: Engine::new(config),
            rings: Rings::new(1024),
            fib: fib(side, &[]),
            spd: Spd::new(networks(side, protect(SLOT))),
            now_ms: 1_000_000,
        };
        this.put_inbound(SLOT, CHILD, &inbound_config(side, SLOT));
        this.put_outbound(SLOT, CHILD, &outbound_config(side, SLOT));
        this
    }

    pub fn put_inbound(&mut self, slot: u32, child: u32, config: &InboundConfig) {
        let sa = inbound_sa(config, 64, false, self.now_ms);
        self.engine.inbound.put(slot as usize, Some(Box::new(Inbound { sa, child })));
    }

    pub fn put_outbound(&mut self, slot: u32, child: u32, config: &OutboundConfig) {
        let space = SequenceSpace::new(false, u64::MAX, Unleased);
        let cipher = key(Backend::RustCrypto, config.spi);
        let sa = OutboundSa::new(config, cipher, space, self.now_ms).unwrap();
        let entry =
            Outbound { sa, child, path_mtu: u16::MAX, learned_ms: None, hop: CachedHop::default() };
        self.engine.outbound.put(slot as usize, Some(Box::new(entry)));
    }

    /// One burst into a port; afterwards every packet and every buffer is accounted for.
    pub fn receive<B: AsRef<[u8]>>(&mut self, port: u16, frames: &[B]) {
        let burst: Vec<_> =
            frames.iter().map(|frame| (port, self.rings.received(frame.as_ref(), false))).collect();
        self.process(burst);
    }

    pub fn process(&mut self, burst: Vec<(u16, Buffer)>) {
        let env = Env { fib: &self.fib, spd: &self.spd, now_ms: self.now_ms };
        self.engine.process(&env, &mut self.rings, burst.into_iter());
        self.check_ledgers();
    }

    /// A packet of the gateway's own.
    pub fn originate(&mut self, packet: &[u8]) {
        let env = Env { fib: &self.fib, spd: &self.spd, now_ms: self.now_ms };
        self.engine.originate(&env, &mut self.rings, packet);
        self.check_ledgers();
    }

    /// A packet that the kernel sent into the TUN device; every worker gets it.
    pub fn inject(&mut self, packet: &[u8]) {
        let env = Env { fib: &self.fib, spd: &self.spd, now_ms: self.now_ms };
        self.engine.inject(&env, &mut self.rings, packet);
        self.check_ledgers();
    }

    /// Held packets go if they can.
    pub fn release(&mut self) {
        let env = Env { fib: &self.fib, spd: &self.spd, now_ms: self.now_ms };
        self.engine.release_held(&env, &mut self.rings);
        self.check_ledgers();
    }

    #[track_caller]
    pub fn check_ledgers(&self) {
        assert_eq!(self.engine.residual(), 0, "packets: {:?}", self.engine.totals);
        assert!(self.rings.balanced(), "a buffer is missing");
    }

    pub fn drops(&self, reason: DropReason) -> u64 {
        self.engine.drops[reason.index()]
    }

    pub fn all_drops(&self) -> u64 {
        self.engine.drops.iter().sum()
    }

    /// Asserts that these drops were counted and no others.
    #[track_caller]
    pub fn assert_drops(&self, expected: &[(DropReason, u64)]) {
        let counted: Vec<_> = DropReason::ALL
            .iter()
            .filter(|reason| self.drops(**reason) != 0)
            .map(|&reason| (reason, self.drops(reason)))
            .collect();
        let mut expected: Vec<_> = expected.iter().copied().filter(|&(_, n)| n != 0).collect();
        expected.sort();
        assert_eq!(counted, expected);
    }

    /// The IP packets that left by a port since the last question, layer-2 header off.
    #[track_caller]
    pub fn packets_out(&mut self, port: u16) -> Vec<Vec<u8>> {
        let frames = self.rings.take_sent(port);
        frames.into_iter().map(|frame| strip(self.side, port, &frame)).collect()
    }
}

/// The IP packet in a frame that must have the port's untagged header.
#[track_caller]
fn strip(side: Side, port: u16, frame: &[u8]) -> Vec<u8> {
    let packet = frame[14..].to_vec();
    let ether_type: u16 = if packet[0] >> 4 == 6 { 0x86dd } else { 0x0800 };
    assert_eq!(frame[..14], *header(side, port, &[], ether_type).as_bytes());
    packet
}

pub const SPI_KEY: SpiKey = SpiKey([1, 2, 3, 4]);

/// The SPI of an inbound SA of a side; each side is a member of its own.
pub fn spi(side: Side, slot: u32) -> u32 {
    SPI_KEY.seal(SpiParts { member: side, worker: 0, slot }).expect("not reserved")
}

/// The SPI of a slot of a worker on the right.
pub fn spi_of(worker: u8, slot: u32) -> u32 {
    SPI_KEY.seal(SpiParts { member: RIGHT, worker, slot }).expect("not reserved")
}

/// The octets of the key of the SA with this SPI.
pub fn key_octets(spi: u32) -> [u8; 16] {
    let mut octets = *b"sixteen octets k";
    octets[..4].copy_from_slice(&spi.to_be_bytes());
    octets
}

pub fn key(backend: Backend, spi: u32) -> Key {
    Key::new(backend, Algorithm::Aes128Gcm16, &key_octets(spi)).unwrap()
}

pub fn inbound_sa(
    config: &InboundConfig,
    window: u32,
    esn: bool,
    now_ms: u64,
) -> InboundSa<Key, Vec<u64>> {
    let replay = ReplayWindow::new(window, esn, vec![0; words_for(window)]).unwrap();
    InboundSa::new(config, key(Backend::RustCrypto, config.spi), replay, now_ms).unwrap()
}

const fn other(side: Side) -> Side {
    3 - side
}

pub fn outer_v4(from: Side) -> Addresses {
    Addresses::V4 { source: [192, 0, 2, from], destination: [192, 0, 2, other(from)] }
}

pub fn outer_v6(from: Side) -> Addresses {
    Addresses::V6 { source: outer6(from), destination: outer6(other(from)) }
}

fn outer6(side: Side) -> [u8; 16] {
    Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, side.into()).octets()
}

pub fn inbound_config(side: Side, slot: u32) -> InboundConfig {
    InboundConfig::tunnel(spi(side, slot), SALT, outer_v4(other(side)))
}

pub fn outbound_config(side: Side, slot: u32) -> OutboundConfig {
    OutboundConfig::tunnel(spi(other(side), slot), SALT, outer_v4(side))
}

/// A host behind a gateway.
pub fn host4(side: Side, number: u8) -> IpAddr {
    IpAddr::from([10, side, 0, number])
}

/// A host behind a gateway.
pub fn host6(side: Side, number: u16) -> IpAddr {
    Ipv6Addr::new(0xfd00 + u16::from(side), 0, 0, 0, 0, 0, 0, number).into()
}

/// The gateway's own address on its hosts' network.
pub fn inner4(side: Side) -> [u8; 4] {
    [10, side, 0, 254]
}

pub fn inner6(side: Side) -> [u8; 16] {
    Ipv6Addr::new(0xfd00 + u16::from(side), 0, 0, 0, 0, 0, 0, 254).octets()
}

pub fn header(side: Side, port: u16, tags: &[(u16, u16)], ether_type: u16) -> L2Header {
    let mac = |who: u8| [2, 0, 0, side, port.to_be_bytes()[1], who];
    L2Header::new(mac(2), mac(1), tags, ether_type)
}

pub fn hop4(side: Side, port: u16, mtu: u16) -> NextHop {
    NextHop::Port { port, mtu, header: header(side, port, &[], 0x0800) }
}

pub fn hop6(side: Side, port: u16, mtu: u16) -> NextHop {
    NextHop::Port { port, mtu, header: header(side, port, &[], 0x86dd) }
}

pub fn prefix4(address: [u8; 4], length: u32, hop: NextHop) -> Prefix {
    Prefix { address: u32::from_be_bytes(address).into(), length, v6: false, hop }
}

pub fn prefix6(address: [u8; 16], length: u32, hop: NextHop) -> Prefix {
    Prefix { address: u128::from_be_bytes(address), length, v6: true, hop }
}

/// Routes of a side; `more` win over its own of the same length.
pub fn fib(side: Side, more: &[Prefix]) -> Fib {
    let (outer_hop, inner_hop) = (hop4(side, OUTER, MTU), hop4(side, INNER, MTU));
    let mut net6 = inner6(side);
    net6[15] = 0;
    let mut prefixes = vec![
        prefix4([0; 4], 0, outer_hop),
        prefix4([192, 0, 2, side], 32, NextHop::Local),
        // A second address of ours on the outside.
        prefix4([192, 0, 2, 10 + side], 32, NextHop::Local),
        prefix4([10, side, 0, 0], 16, inner_hop),
        prefix4(inner4(side), 32, NextHop::Local),
        prefix6([0; 16], 0, hop6(side, OUTER, MTU)),
        prefix6(outer6(side), 128, NextHop::Local),
        prefix6(net6, 64, hop6(side, INNER, MTU)),
        prefix6(inner6(side), 128, NextHop::Local),
    ];
    prefixes.extend_from_slice(more);
    let sources = vec![
        (Some([192, 0, 2, side]), Some(outer6(side))),
        (Some(inner4(side)), Some(inner6(side))),
    ];
    Fib::new(&prefixes, sources)
}

pub const fn protect(slot: u32) -> Action {
    Action::Protect(Some(SaHandle { slot, worker: 0 }))
}

/// Policies for the two networks of a side and the two of the other.
pub fn networks(side: Side, action: Action) -> Vec<Policy> {
    let net4 = |side| AddressRange::v4_prefix([10, side, 0, 0], 16);
    let net6 = |side| AddressRange::v6_prefix(inner6(side), 64);
    let row = |from, to| policy(Selector::addresses(from, to), action);
    vec![row(net4(side), net4(other(side))), row(net6(side), net6(other(side)))]
}

/// Policies for everything.
pub fn everything(action: Action) -> Vec<Policy> {
    let row = |family| {
        policy(Selector::addresses(AddressRange::any(family), AddressRange::any(family)), action)
    };
    vec![row(Family::V4), row(Family::V6)]
}

pub const fn policy(selector: Selector, action: Action) -> Policy {
    Policy { selector, action, child: CHILD, icmp: false, hold: false }
}

/// A frame as it arrives at a side's port.
pub fn frame(packet: &[u8]) -> Vec<u8> {
    packet::frame([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 9], &[], packet)
}

/// A UDP packet of `payload` bytes from a host behind `from` to one behind the other side.
pub fn inner_packet4(from: Side, payload: usize) -> Vec<u8> {
    let (source, destination) = (host4(from, 1), host4(other(from), 1));
    packet::udp((source, 5000), (destination, 6000), &pattern(payload))
}

pub fn inner_packet6(from: Side, payload: usize) -> Vec<u8> {
    let (source, destination) = (host6(from, 1), host6(other(from), 1));
    packet::udp((source, 5000), (destination, 6000), &pattern(payload))
}

/// Bytes that are not often found by chance.
pub fn pattern(len: usize) -> Vec<u8> {
    let mut noise = packet::Noise::new(0x5eed_0001);
    let mut bytes = vec![0; len];
    noise.fill(&mut bytes);
    bytes
}

/// ESP to the right side's tunnel.
pub fn esp(sequence: u64, inner: &[u8]) -> EspBuilder {
    esp_to(spi(RIGHT, SLOT), sequence, inner)
}

/// ESP with an SPI of the right side's.
pub fn esp_to(spi: u32, sequence: u64, inner: &[u8]) -> EspBuilder {
    let mut builder = EspBuilder::new(spi, &key_octets(spi), SALT, sequence, inner);
    builder.next_header = if inner.first().is_some_and(|first| first >> 4 == 6) { 41 } else { 4 };
    builder
}

/// The frame of a builder's packet.
#[track_caller]
pub fn built(builder: &EspBuilder) -> Vec<u8> {
    frame(&builder.build().expect("a recipe that has a packet"))
}

/// One hop less and the IPv4 checksum made anew, computed here.
pub fn one_hop_on(packet: &[u8]) -> Vec<u8> {
    let mut packet = packet.to_vec();
    if packet[0] >> 4 == 6 {
        packet[7] -= 1;
        return packet;
    }
    packet[8] -= 1;
    packet[10..12].fill(0);
    let header_len = usize::from(packet[0] & 15) * 4;
    let sum = packet::checksum(&[&packet[..header_len]]);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet
}

/// What goes to a side's own hosts goes in clear.
pub fn bypass_home(side: Side) -> Vec<Policy> {
    let home = AddressRange::v4_prefix([10, side, 0, 0], 16);
    vec![policy(Selector::addresses(AddressRange::any(Family::V4), home), Action::Bypass)]
}
