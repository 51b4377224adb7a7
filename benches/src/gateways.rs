//! A sending and a receiving gateway with any number of SAs, and the packets between them.

use std::net::{IpAddr, Ipv4Addr};

use xswan_aead::{Algorithm, Backend, Key};
use xswan_esp::replay::{ReplayWindow, words_for};
use xswan_esp::sa::{InboundConfig, InboundSa, OutboundConfig, OutboundSa};
use xswan_esp::selector::{AddressRange, Selector};
use xswan_esp::sequence::{SequenceSpace, Unleased};
use xswan_pipeline::engine::{CachedHop, Engine, EngineConfig, Env, Inbound, Outbound};
use xswan_pipeline::forward::{Fib, L2Header, NextHop, Prefix};
use xswan_pipeline::spd::{Action, Policy, SaHandle, Spd};
use xswan_pipeline::table::SpiReader;
use xswan_steer::abi::{ROLE_INNER, ROLE_OUTER};
use xswan_steer::spi::{SpiKey, SpiParts};
use xswan_testkit::packet;
use xswan_wire::layers::Addresses;

use crate::frames::{Buffer, Pool};

/// Packets in a burst.
pub const BURST: usize = 64;
/// Packets in the longest burst that anything measures.
pub const LONGEST_BURST: usize = 256;
/// The port to the other gateway.
pub const OUTER: u16 = 0;
/// The port to the hosts.
pub const INNER: u16 = 1;
/// Packets that a replay window spans.
pub const WINDOW: u32 = 1024;

const OUTER_ADDRESSES: Addresses =
    Addresses::V4 { source: [192, 0, 2, 1], destination: [192, 0, 2, 2] };
const SALT: [u8; 4] = *b"salt";

/// An engine over vectors.
pub type BenchEngine = Engine<Key, Vec<u64>, Unleased, Buffer>;

/// A gateway with its tables and buffers.
pub struct Gateway {
    /// The engine.
    pub engine: BenchEngine,
    /// Its buffers.
    pub pool: Pool,
    fib: Fib,
    spd: Spd,
    burst: Vec<(u16, Buffer)>,
}

impl Gateway {
    /// Puts frames into buffers, as a receive ring would.
    pub fn load<'f>(&mut self, port: u16, frames: impl Iterator<Item = &'f [u8]>) {
        self.pool.complete();
        for frame in frames {
            self.burst.extend(self.pool.received(frame).map(|buffer| (port, buffer)));
        }
    }

    /// Processes what was loaded: this is what is measured.
    #[inline(never)]
    pub fn process(&mut self) {
        let env = Env { fib: &self.fib, spd: &self.spd, now_ms: 1 };
        self.engine.process(&env, &mut self.pool, self.burst.drain(..));
    }
}

/// The SPI key of the receiver.
pub const SPI_KEY: SpiKey = SpiKey([1, 2, 3, 4]);

/// The SPI of a slot; a few are reserved and their slots left out.
#[must_use]
pub fn spi(slot: u32) -> Option<u32> {
    SPI_KEY.seal(SpiParts { member: 0, worker: 0, slot })
}

/// How an engine reads SPIs.
#[must_use]
pub const fn reader() -> SpiReader {
    SpiReader { key: SPI_KEY, member: 0, worker: 0, workers: 1 }
}

/// The key of an SA.
///
/// # Panics
/// Never: the octets are not zero and as many as the algorithm wants.
#[must_use]
pub fn key(backend: Backend, slot: u32) -> Key {
    let mut octets = *b"sixteen octets k";
    if let Some(front) = octets.first_chunk_mut::<4>() {
        *front = slot.to_be_bytes();
    }
    match Key::new(backend, Algorithm::Aes128Gcm16, &octets) {
        Ok(key) => key,
        Err(error) => unreachable!("{error}"),
    }
}

/// Sender and receiver with `count` SAs, each under a policy of its own.
#[must_use]
pub fn pair(count: u32, backend: Backend) -> (Gateway, Gateway) {
    let (mut left, mut right) = (gateway(count, false), gateway(count, true));
    for (slot, spi) in (0..count).filter_map(|slot| Some((slot, spi(slot)?))) {
        let config = OutboundConfig::tunnel(spi, SALT, OUTER_ADDRESSES);
        let space = SequenceSpace::new(false, u64::MAX, Unleased);
        if let Ok(sa) = OutboundSa::new(&config, key(backend, slot), space, 0) {
            let entry = Outbound {
                sa,
                child: slot,
                path_mtu: u16::MAX,
                learned_ms: None,
                hop: CachedHop::default(),
            };
            left.engine.outbound.put(slot as usize, Some(Box::new(entry)));
        }
        let config = InboundConfig::tunnel(spi, SALT, OUTER_ADDRESSES);
        let words = vec![0; words_for(WINDOW)];
        let Ok(replay) = ReplayWindow::new(WINDOW, false, words) else { continue };
        if let Ok(sa) = InboundSa::new(&config, key(backend, slot), replay, 0) {
            let entry = Box::new(Inbound { sa, child: slot });
            right.engine.inbound.put(slot as usize, Some(entry));
        }
    }
    (left, right)
}

/// The host behind the receiver that an SA protects: one of 10.2.0.0 to 10.17.255.255.
#[must_use]
pub const fn host(slot: u32) -> [u8; 4] {
    let [_, top, high, low] = slot.to_be_bytes();
    [10, 2 + (top & 15), high, low]
}

fn gateway(count: u32, is_right: bool) -> Gateway {
    let engine = Engine::new(EngineConfig {
        spis: reader(),
        slots: count as usize,
        roles: vec![ROLE_OUTER, ROLE_INNER],
        icmp_per_second: 100,
        nest_limit: 1,
        fragment: true,
    });
    let near = AddressRange::v4_prefix([10, 1, 0, 0], 16);
    let policy = |slot| {
        let far = match count {
            1 => AddressRange::v4_prefix([10, 2, 0, 0], 16),
            _ => AddressRange::v4_prefix(host(slot), 32),
        };
        let selector = Selector::addresses(near, far);
        let selector = if is_right { selector.reversed() } else { selector };
        let action = Action::Protect(Some(SaHandle { slot, worker: 0 }));
        Policy { selector, action, child: slot, icmp: false, hold: false }
    };
    Gateway {
        engine,
        pool: Pool::new(2 * LONGEST_BURST),
        fib: fib(is_right),
        spd: Spd::new((0..count).map(policy).collect()),
        burst: Vec::with_capacity(LONGEST_BURST),
    }
}

fn fib(is_right: bool) -> Fib {
    let header = L2Header::new([2; 6], [4; 6], &[], 0x0800);
    let hop = |port| NextHop::Port { port, mtu: 1500, header };
    let side = if is_right { 2 } else { 1 };
    let prefix = |address: [u8; 4], length, hop| Prefix {
        address: u32::from_be_bytes(address).into(),
        length,
        v6: false,
        hop,
    };
    let prefixes = [
        prefix([0; 4], 0, hop(OUTER)),
        prefix([192, 0, 2, side], 32, NextHop::Local),
        // The receiver has the hosts of all SAs behind it, more than 16 bits can tell apart.
        if is_right {
            prefix([10, 0, 0, 0], 8, hop(INNER))
        } else {
            prefix([10, 1, 0, 0], 16, hop(INNER))
        },
        prefix([10, side, 0, 254], 32, NextHop::Local),
    ];
    Fib::new(&prefixes, vec![(Some([192, 0, 2, side]), None), (Some([10, side, 0, 254]), None)])
}

/// Clear frames whose IP packets have `inner_len` bytes, going through `count` SAs in turn:
/// no two neighbours share one.
#[must_use]
pub fn clear_frames(count: u32, inner_len: usize) -> Vec<Vec<u8>> {
    let source = IpAddr::V4(Ipv4Addr::new(10, 1, 0, 1));
    let mut payload = vec![0; inner_len.saturating_sub(28)];
    packet::Noise::new(7).fill(&mut payload);
    // As many as one round through all SAs takes, in whole bursts.
    let total = (count as usize).next_multiple_of(BURST);
    (0..total)
        .map(|index| {
            let slot = u32::try_from(index).unwrap_or(0) % count;
            let packet = packet::udp((source, 5), (IpAddr::from(host(slot)), 6), &payload);
            packet::frame([4; 6], [6; 6], &[], &packet)
        })
        .collect()
}
