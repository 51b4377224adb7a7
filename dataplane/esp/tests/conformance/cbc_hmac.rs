//! AES-CBC with HMAC-SHA2 in ESP: lengths, padding, IVs, extended numbers.

use std::collections::BTreeSet;

use xswan_aead::{AesKeyLen, Algorithm, Backend, Hmac, Key};
use xswan_esp::decap;
use xswan_esp::encap;
use xswan_esp::replay::{ReplayWindow, words_for};
use xswan_esp::sa::{InboundConfig, InboundSa, Mode, OutboundConfig, OutboundSa, UdpPorts};
use xswan_esp::sequence::{SequenceSpace, Unleased};
use xswan_wire::DropReason;
use xswan_wire::layers::Addresses;

use crate::fixture::{
    Inbound, Outbound, PORTS, SPI, inner_v4, inner_v6, outer_v4, outer_v6, receive,
};

fn cbc() -> impl Iterator<Item = Algorithm> {
    Algorithm::ALL.into_iter().filter(|algorithm| !Algorithm::AEADS.contains(algorithm))
}

fn key(algorithm: Algorithm) -> Key {
    let octets: Vec<u8> = (1..=algorithm.key_len() as u8).collect();
    Key::new(Backend::default(), algorithm, &octets).unwrap()
}

fn icv_len(algorithm: Algorithm) -> usize {
    let Algorithm::AesCbcHmac { hmac, .. } = algorithm else { panic!("{algorithm:?}") };
    hmac.icv_len()
}

fn pair(
    algorithm: Algorithm,
    addresses: Addresses,
    mode: Mode,
    udp: bool,
    first: Option<u64>,
) -> (Outbound, Inbound) {
    let mut out = OutboundConfig::tunnel(SPI, [0; 4], addresses);
    let mut into = InboundConfig::tunnel(SPI, [0; 4], addresses);
    (out.mode, into.mode) = (mode, mode);
    if udp {
        out.encap = Some(UdpPorts { local: PORTS.remote, remote: PORTS.local });
        into.encap = Some(PORTS);
    }
    let (esn, first) = (first.is_some(), first.unwrap_or(0));
    let numbers = SequenceSpace::resume(esn, u64::MAX, first, Unleased);
    let from = OutboundSa::new(&out, key(algorithm), numbers, 0).unwrap();
    // A receiver that has followed, so that it knows the high half.
    let to = InboundSa::new(&into, key(algorithm), followed(first, esn), 0).unwrap();
    (from, to)
}

fn followed(top: u64, esn: bool) -> ReplayWindow<Vec<u64>> {
    let mut words = vec![0; words_for(64)];
    if let Some(target) = words.get_mut(1) {
        // An advance cut short: everything up to there counts as received.
        *target = top;
    }
    ReplayWindow::adopt(64, esn, words).unwrap()
}

fn send(sa: &mut Outbound, inner: &[u8]) -> Vec<u8> {
    let mut out = vec![0xa5; inner.len() + sa.overhead(inner.len())];
    let len = encap::encap(sa, inner, 1, &mut out).unwrap();
    assert_eq!(len, out.len(), "the overhead that was promised");
    out
}

#[test]
fn every_length_comes_back() {
    for algorithm in cbc() {
        for (addresses, udp) in
            [(outer_v4(), false), (outer_v4(), true), (outer_v6(), false), (outer_v6(), true)]
        {
            for first in [None, Some((1 << 32) - 40)] {
                let (mut from, mut to) = pair(algorithm, addresses, Mode::Tunnel, udp, first);
                let outer = if addresses == outer_v4() { 20 } else { 40 } + if udp { 8 } else { 0 };
                for len in 48..112 {
                    for inner in [inner_v4(len), inner_v6(len)] {
                        let packet = send(&mut from, &inner);
                        let text = packet.len() - outer - 8 - 16 - icv_len(algorithm);
                        assert!(text.is_multiple_of(16) && text < len + 2 + 16, "{len} {text}");
                        assert_eq!(receive(&mut to, &packet), Ok(inner));
                    }
                }
            }
        }
    }
}

#[test]
fn transport_mode_too() {
    let algorithm = Algorithm::cbc(AesKeyLen::Bits128, Hmac::Sha512);
    let (mut from, mut to) = pair(algorithm, outer_v4(), Mode::Transport, true, None);
    for len in 28..100 {
        let mut inner = inner_v4(len);
        inner[12..20].copy_from_slice(&[192, 0, 2, 1, 192, 0, 2, 2]);
        inner[10..12].fill(0);
        let sum = xswan_wire::checksum::Sum::new().bytes(&inner[..20]).finish();
        inner[10..12].copy_from_slice(&sum.to_be_bytes());
        let packet = send(&mut from, &inner);
        assert_eq!(receive(&mut to, &packet), Ok(inner));
    }
}

/// The MTU of the SA is exact: one octet more does not fit.
#[test]
fn mtu_is_exact_for_every_algorithm() {
    for algorithm in cbc() {
        for path_mtu in 1280..1340 {
            let (mut from, _) = pair(algorithm, outer_v4(), Mode::Tunnel, true, None);
            let largest = usize::from(from.max_inner(path_mtu));
            let mut out = vec![0; 2000];
            let fits = encap::prepare(&mut from, &inner_v4(largest), path_mtu, 1, &mut out);
            assert!(fits.unwrap().total_len() <= usize::from(path_mtu));
            let more = encap::prepare(&mut from, &inner_v4(largest + 1), path_mtu, 1, &mut out);
            assert_eq!(more.err(), Some(DropReason::TooBig), "{algorithm:?} {path_mtu}");
        }
    }
    let (sa, _) = pair(
        Algorithm::cbc(AesKeyLen::Bits256, Hmac::Sha256),
        outer_v4(),
        Mode::Tunnel,
        false,
        None,
    );
    assert_eq!(sa.max_inner(1500), 1438);
}

/// In transport mode the blocks begin behind a header of any length.
#[test]
fn mtu_of_transport_mode_holds_for_any_header() {
    let algorithm = Algorithm::cbc(AesKeyLen::Bits128, Hmac::Sha256);
    for path_mtu in 1280..1300 {
        for options in 0..=10 {
            let (mut from, _) = pair(algorithm, outer_v4(), Mode::Transport, false, None);
            let mut inner = inner_v4(usize::from(from.max_inner(path_mtu)) - options * 4);
            inner.splice(20..20, vec![1; options * 4]);
            inner[0] = 0x45 + options as u8;
            let len = (inner.len() as u16).to_be_bytes();
            inner[2..4].copy_from_slice(&len);
            inner[12..20].copy_from_slice(&[192, 0, 2, 1, 192, 0, 2, 2]);
            let mut out = vec![0; 2000];
            let fits = encap::prepare(&mut from, &inner, path_mtu, 1, &mut out);
            assert!(fits.is_ok(), "{path_mtu} {options} {fits:?}");
        }
    }
}

/// No IV twice, neither of one SA nor of one that starts again under the same key; and none
/// that the next can be told from.
#[test]
fn ivs_do_not_repeat() {
    let algorithm = Algorithm::cbc(AesKeyLen::Bits128, Hmac::Sha256);
    let mut seen = BTreeSet::new();
    for _ in 0..4 {
        let (mut from, _) = pair(algorithm, outer_v4(), Mode::Tunnel, false, None);
        for _ in 0..1000 {
            let packet = send(&mut from, &inner_v4(60));
            assert!(seen.insert(packet[28..44].to_vec()), "an IV twice");
        }
    }
    // A counter would leave most octets as they were.
    for position in 0..16 {
        let values: BTreeSet<_> = seen.iter().map(|iv| iv[position]).collect();
        assert!(values.len() > 200, "octet {position} has {} values", values.len());
    }
}

#[test]
fn aut_every_bit_of_a_packet_counts() {
    for first in [None, Some(7 << 32)] {
        let algorithm = Algorithm::cbc(AesKeyLen::Bits192, Hmac::Sha384);
        let (mut from, mut to) = pair(algorithm, outer_v4(), Mode::Tunnel, false, first);
        let top = to.replay().top();
        let inner = inner_v4(61);
        let packet = send(&mut from, &inner);
        for bit in 20 * 8..packet.len() * 8 {
            let mut mutant = packet.clone();
            mutant[bit / 8] ^= 1 << (bit % 8);
            assert!(receive(&mut to, &mutant).is_err(), "bit {bit}");
        }
        assert_eq!(to.replay().top(), top, "the window moved for a forgery");
        assert_eq!(receive(&mut to, &packet), Ok(inner));
        assert_eq!(receive(&mut to, &packet), Err(DropReason::ReplayDuplicate));
    }
}

/// Lengths that no sender makes: too short for IV and ICV, or no whole blocks. None reaches
/// the cipher, none is a panic.
#[test]
fn lengths_that_lie_are_runts() {
    for algorithm in cbc() {
        let (mut from, mut to) = pair(algorithm, outer_v4(), Mode::Tunnel, false, None);
        let packet = send(&mut from, &inner_v4(100));
        let mut out = vec![0; 2000];
        for len in 0..packet.len() {
            let mut cut = packet[..len].to_vec();
            if len >= 20 {
                cut[2..4].copy_from_slice(&(len as u16).to_be_bytes());
                cut[10..12].fill(0);
                let sum = xswan_wire::checksum::Sum::new().bytes(&cut[..20]).finish();
                cut[10..12].copy_from_slice(&sum.to_be_bytes());
            }
            let refused = decap::decap(&mut to, &cut, &crate::fixture::any(), 1, &mut out).err();
            let text = len as i64 - 20 - 8 - 16 - icv_len(algorithm) as i64;
            match refused {
                Some(DropReason::AuthFail) => assert!(text > 0 && text % 16 == 0, "{len}"),
                Some(DropReason::Runt) => assert!(text <= 0 || text % 16 != 0, "{len}"),
                other => assert!(len < 20 + 8, "{len} {other:?}"),
            }
        }
    }
}
