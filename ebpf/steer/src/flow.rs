//! Spreading: which worker takes a flow or an SPI that nobody in particular owns.
//!
//! All packets of one five-tuple go to one worker, and all fragments between two hosts go
//! to one worker, so nothing that belongs together is reordered. The hash is not keyed:
//! a sender who picks his ports can pick his worker, as with any hash in a NIC.

use xswan_wire::Bytes;
use xswan_wire::layers::{Addresses, Layers};

/// A hash being computed over 32-bit words.
#[derive(Clone, Copy)]
struct Hash(u32);

impl Hash {
    #[inline(always)]
    const fn word(self, word: u32) -> Self {
        let mixed = (self.0 ^ word).wrapping_mul(0x9e37_79b1);
        Self(mixed ^ (mixed >> 15))
    }

    #[inline(always)]
    const fn address4(self, [a, b, c, d]: [u8; 4]) -> Self {
        self.word(u32::from_be_bytes([a, b, c, d]))
    }

    #[inline(always)]
    const fn address6(self, address: [u8; 16]) -> Self {
        let bits = u128::from_be_bytes(address);
        self.word((bits >> 96) as u32)
            .word((bits >> 64) as u32)
            .word((bits >> 32) as u32)
            .word(bits as u32)
    }

    #[inline(always)]
    const fn finish(self) -> u32 {
        let mixed = self.0.wrapping_mul(0x85eb_ca77);
        mixed ^ (mixed >> 13)
    }
}

/// Hash of the five-tuple; of source and destination only if the packet is a fragment,
/// because the later fragments have neither ports nor, in IPv6, always the protocol.
#[inline(always)]
#[must_use]
pub fn hash<B: Bytes + ?Sized>(frame: &B, layers: &Layers) -> u32 {
    let hash = match layers.ip.addresses {
        Addresses::V4 { source, destination } => Hash(4).address4(source).address4(destination),
        Addresses::V6 { source, destination } => Hash(6).address6(source).address6(destination),
    };
    if layers.ip.is_fragment {
        return hash.finish();
    }
    let (from, to) = layers.ports(frame).unwrap_or((0, 0));
    let ports = (u32::from(from) << 16) | u32::from(to);
    hash.word(u32::from(layers.ip.protocol)).word(ports).finish()
}

/// Hash of an SPI that says nothing of its owner.
#[inline(always)]
#[must_use]
pub fn hash_spi(spi: u32) -> u32 {
    Hash(50).word(spi).finish()
}

/// The worker for a hash: below `workers`, or 0 if there are none.
#[inline(always)]
#[must_use]
pub const fn spread(hash: u32, workers: u32) -> u32 {
    if workers == 0 { 0 } else { hash % workers }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;
    use xswan_wire::layers;

    fn packet(fragment: u16, port: u16) -> Vec<u8> {
        let [f0, f1] = fragment.to_be_bytes();
        let [p0, p1] = port.to_be_bytes();
        let mut packet = std::vec![0x45, 0, 0, 28, 0, 0, f0, f1, 9, 17, 0, 0];
        packet.extend_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2, p0, p1, 0, 80, 0, 8, 0, 0]);
        packet
    }

    fn hash_of(packet: &[u8]) -> u32 {
        hash(packet, &layers::parse_packet(packet, packet.len()).unwrap())
    }

    #[test]
    fn fragments_stick_together_and_flows_do_not() {
        let first = hash_of(&packet(0x2000, 1000));
        for port in 0..100 {
            assert_eq!(hash_of(&packet(0x2000, port)), first);
            assert_eq!(hash_of(&packet(0x0007, port)), first);
        }
        assert_ne!(hash_of(&packet(0, 1)), hash_of(&packet(0, 2)));
    }

    #[test]
    fn flows_and_spis_are_spread_evenly() {
        let (mut flows, mut spis) = ([0_u32; 4], [0_u32; 4]);
        for number in 0..8000_u16 {
            flows[spread(hash_of(&packet(0, number)), 4) as usize] += 1;
            spis[spread(hash_spi(0x1000 + u32::from(number)), 4) as usize] += 1;
        }
        for count in flows.into_iter().chain(spis) {
            assert!((1800..2200).contains(&count), "{flows:?} {spis:?}");
        }
    }

    #[test]
    fn no_workers_is_worker_zero() {
        assert_eq!(spread(7, 0), 0);
    }
}
