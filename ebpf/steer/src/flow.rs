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
