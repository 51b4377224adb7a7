//! SAs, inner packets and the builder's recipe for them.

use std::net::IpAddr;

use xswan_aead::{Algorithm, Backend, Key};
use xswan_esp::decap::{self, Checked};
use xswan_esp::replay::{ReplayWindow, words_for};
use xswan_esp::sa::{InboundConfig, InboundSa, Mode, OutboundConfig, OutboundSa, UdpPorts};
use xswan_esp::selector::{AddressRange, Family, Selector};
use xswan_esp::sequence::{SequenceSpace, Unleased};
use xswan_testkit::esp_builder::EspBuilder;
use xswan_wire::DropReason;
use xswan_wire::layers::Addresses;

pub const SPI: u32 = 0x1234_abcd;
pub const KEY: [u8; 16] = *b"sixteen octets k";
pub const SALT: [u8; 4] = *b"salt";
pub const PORTS: UdpPorts = UdpPorts { local: 4500, remote: 61_000 };

pub type Inbound = InboundSa<Key, Vec<u64>>;
pub type Outbound = OutboundSa<Key, Unleased>;

pub fn outer_v4() -> Addresses {
    Addresses::V4 { source: [192, 0, 2, 1], destination: [192, 0, 2, 2] }
}

pub fn outer_v6() -> Addresses {
    let mut source = [0x20; 16];
    source[15] = 1;
    let mut destination = source;
    destination[15] = 2;
    Addresses::V6 { source, destination }
}

pub fn ip(addresses: &Addresses) -> (IpAddr, IpAddr) {
    match *addresses {
        Addresses::V4 { source, destination } => (source.into(), destination.into()),
        Addresses::V6 { source, destination } => (source.into(), destination.into()),
    }
}

pub fn key() -> Key {
    Key::new(Backend::RustCrypto, Algorithm::Aes128Gcm16, &KEY).unwrap()
}

pub fn window(size: u32, esn: bool) -> ReplayWindow<Vec<u64>> {
    ReplayWindow::new(size, esn, vec![0; words_for(size)]).unwrap()
}

pub fn inbound_of(config: &InboundConfig, esn: bool) -> Inbound {
    InboundSa::new(config, key(), window(64, esn), 0).unwrap()
}

pub fn inbound() -> Inbound {
    inbound_of(&InboundConfig::tunnel(SPI, SALT, outer_v4()), false)
}

pub fn outbound_of(config: &OutboundConfig, esn: bool) -> Outbound {
    OutboundSa::new(config, key(), SequenceSpace::new(esn, u64::MAX, Unleased), 0).unwrap()
}

/// A sender and the receiver that fits it.
pub fn pair(addresses: Addresses, mode: Mode, udp: bool, esn: bool) -> (Outbound, Inbound) {
    let mut out = OutboundConfig::tunnel(SPI, SALT, addresses);
    let mut into = InboundConfig::tunnel(SPI, SALT, addresses);
    (out.mode, into.mode) = (mode, mode);
    if udp {
        // What the sender calls local is remote to the receiver.
        out.encap = Some(UdpPorts { local: PORTS.remote, remote: PORTS.local });
        into.encap = Some(PORTS);
    }
    (outbound_of(&out, esn), inbound_of(&into, esn))
}

/// An IPv4 UDP packet of exactly `len` bytes, 28 at least, from 10.1.0.1 to 10.2.0.1.
pub fn inner_v4(len: usize) -> Vec<u8> {
    let mut packet = vec![0x45, 0];
    packet.extend_from_slice(&u16::try_from(len).unwrap().to_be_bytes());
    packet.extend_from_slice(&[0x11, 0x22, 0, 0, 64, 17, 0, 0, 10, 1, 0, 1, 10, 2, 0, 1]);
    let sum = xswan_wire::checksum::Sum::new().bytes(&packet).finish();
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    fill_udp(packet, len)
}

/// An IPv6 UDP packet of exactly `len` bytes, 48 at least, from fd01::1 to fd02::1.
pub fn inner_v6(len: usize) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0x12, 0x34];
    packet.extend_from_slice(&u16::try_from(len - 40).unwrap().to_be_bytes());
    packet.extend_from_slice(&[17, 64]);
    for net in [1, 2] {
        let mut address = [0; 16];
        (address[0], address[1], address[15]) = (0xfd, net, 1);
        packet.extend_from_slice(&address);
    }
    fill_udp(packet, len)
}

fn fill_udp(mut packet: Vec<u8>, len: usize) -> Vec<u8> {
    let udp_len = u16::try_from(len - packet.len()).unwrap();
    for value in [5000, 6000, udp_len, 0] {
        packet.extend_from_slice(&u16::to_be_bytes(value));
    }
    let mut value = 7_u8;
    packet.resize_with(len, || {
        value = value.wrapping_mul(5).wrapping_add(31);
        value
    });
    packet
}

pub fn any() -> [Selector; 2] {
    [Family::V4, Family::V6]
        .map(|family| Selector::addresses(AddressRange::any(family), AddressRange::any(family)))
}

pub fn recipe(sequence: u64, payload: &[u8]) -> EspBuilder {
    EspBuilder::new(SPI, &KEY, SALT, sequence, payload)
}

/// All stages with selectors that take everything; the inner packet's bytes.
pub fn receive(sa: &mut Inbound, packet: &[u8]) -> Result<Vec<u8>, DropReason> {
    receive_checked(sa, packet).map(|(_, inner)| inner)
}

pub fn receive_checked(sa: &mut Inbound, packet: &[u8]) -> Result<(Checked, Vec<u8>), DropReason> {
    let mut out = vec![0xa5; packet.len()];
    let checked = decap::decap(sa, packet, &any(), 1, &mut out)?;
    out.truncate(checked.len());
    Ok((checked, out))
}
