//! What the tables said of flows seen lately.
//!
//! Policy and route of a flow are the same for each of its packets as long as the tables are, so
//! the answer is kept: which row selects the flow, where its destination leads, and for what
//! came out of a tunnel that its child may carry it. One line of cache for each place, four places
//! for each flow, nearly always in the first: what finds no place is asked again, which costs time
//! and nothing else. Places depend on a secret of the instance, so that nobody outside can choose flows that
//! meet. Actions are not kept: they are read from the policy itself, so that a rekeying leaves
//! all entries good.

use alloc::boxed::Box;
use alloc::vec::Vec;

use xswan_esp::selector::{self, Entitled};
use xswan_wire::Bytes;
use xswan_wire::brief::Brief;

/// No row selects the flow.
pub(crate) const NO_ROW: u32 = u32::MAX;

/// Places for each SA. With fewer, flows push each other out: with one, each third finds no place
/// though there are as many places as flows.
const PLACES_PER_SA: usize = 4;
/// Places at least: flows of a small gateway.
const MIN_PLACES: usize = 1 << 12;
/// Places at most: 128 MiB a worker.
const MAX_PLACES: usize = 1 << 21;
/// Places that are looked at for a flow, a power of two.
const GROUP: usize = 4;

const IS_V6: u64 = 1;
const IS_FRAGMENT: u64 = 2;
const HAS_PORTS: u64 = 4;
const FROM_TUNNEL: u64 = 8;
/// In every key, and in no empty place.
const IS_KEY: u64 = 128;

/// A flow, and the child whose SA it came out of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FlowKey {
    addresses: [u64; 4],
    rest: u64,
    child: u32,
}

impl FlowKey {
    /// Of a clear packet in a frame.
    #[inline(always)]
    pub(crate) fn outbound(brief: &Brief, frame: &[u8]) -> Self {
        Self::with(brief, frame, rest(brief, frame), 0)
    }

    /// Of a packet that came out of an SA of a child.
    #[inline(always)]
    pub(crate) fn inbound(brief: &Brief, frame: &[u8], child: u32) -> Self {
        Self::with(brief, frame, rest(brief, frame) | FROM_TUNNEL, child)
    }

    /// Addresses as they lie in the packet, one load or four, beside what is known.
    #[inline(always)]
    pub(crate) fn with(brief: &Brief, frame: &[u8], rest: u64, child: u32) -> Self {
        let packet = brief.packet(frame);
        let word = |at: usize| u64::from_ne_bytes(packet.read(at).unwrap_or_default());
        if brief.is_v4() {
            return Self { addresses: [word(12), 0, 0, 0], rest, child };
        }
        Self { addresses: [word(8), word(16), word(24), word(32)], rest, child }
    }

    /// Everything but addresses and child.
    #[inline(always)]
    pub(crate) const fn rest(&self) -> u64 {
        self.rest
    }

    #[inline(always)]
    fn hash(&self, secret: u64) -> u64 {
        const ODD: [u64; 3] = [0x9e37_79b9_7f4a_7c15, 0xc2b2_ae3d_27d4_eb4f, 0x1656_67b1_9e37_79f9];
        let [a, b, c, d] = self.addresses;
        let mut sum = (a ^ secret).wrapping_mul(ODD[0]);
        if self.rest & IS_V6 != 0 {
            sum = (sum ^ (sum >> 32) ^ b).wrapping_mul(ODD[1]);
            sum = (sum ^ (sum >> 32) ^ c).wrapping_mul(ODD[2]);
            sum = (sum ^ (sum >> 32) ^ d).wrapping_mul(ODD[0]);
        }
        let rest = self.rest ^ u64::from(self.child).rotate_left(17);
        sum = (sum ^ (sum >> 32) ^ rest).wrapping_mul(ODD[1]);
        sum ^ (sum >> 32)
    }
}

#[inline(always)]
fn rest(brief: &Brief, frame: &[u8]) -> u64 {
    let (protocol, is_fragment) = (brief.protocol, brief.is_fragment());
    let packet = brief.packet(frame);
    let ports = match selector::ports(protocol, is_fragment, brief.header_len(), packet) {
        Some((source, destination)) => {
            u64::from(source) << 48 | u64::from(destination) << 32 | HAS_PORTS
        }
        None => 0,
    };
    let fragment = if is_fragment { IS_FRAGMENT } else { 0 };
    let version = if brief.is_v4() { 0 } else { IS_V6 };
    ports | fragment | version | u64::from(protocol) << 8 | IS_KEY
}

/// What the tables say of a flow.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known {
    /// The row of the policy that selects it in the outbound direction, or [`NO_ROW`].
    pub(crate) row: u32,
    /// Where the destination leads: a position in the forwarding table.
    pub(crate) hop: u32,
    /// That it leads to ourselves.
    pub(crate) is_local: bool,
    /// That its child may carry it, for a flow out of a tunnel.
    pub(crate) entitled: Option<Entitled>,
}

/// Which tables an answer came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Editions {
    pub(crate) fib: u32,
    pub(crate) spd: u32,
}

#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
struct Place {
    addresses: [u64; 4],
    rest: u64,
    child: u32,
    editions: Editions,
    row: u32,
    hop: u32,
    is_local: bool,
    entitled: Option<Entitled>,
}

impl Place {
    const EMPTY: Self = Self {
        addresses: [0; 4],
        rest: 0,
        child: 0,
        editions: Editions { fib: 0, spd: 0 },
        row: NO_ROW,
        hop: 0,
        is_local: false,
        entitled: None,
    };

    /// Without a branch for each field: as a rule all are equal.
    #[inline(always)]
    fn is(&self, key: &FlowKey, editions: Editions) -> bool {
        let [a, b, c, d] = self.addresses;
        let [e, f, g, h] = key.addresses;
        let numbers = u64::from(
            (self.child ^ key.child)
                | (self.editions.fib ^ editions.fib)
                | (self.editions.spd ^ editions.spd),
        );
        (a ^ e) | (b ^ f) | (c ^ g) | (d ^ h) | (self.rest ^ key.rest) | numbers == 0
    }
}

// One packet, one line.
const _: () = assert!(size_of::<Place>() == 64);

/// The places.
pub(crate) struct FlowCache {
    places: Box<[Place]>,
    secret: u64,
    /// Who goes when a group is full.
    turn: usize,
}

impl FlowCache {
    /// For about as many flows as there may be SAs; all memory it will ever need.
    pub(crate) fn new(sas: usize, secret: u64) -> Self {
        let wanted = sas.saturating_mul(PLACES_PER_SA).clamp(MIN_PLACES, MAX_PLACES);
        let count = wanted.next_power_of_two();
        let mut places = Vec::new();
        places.resize(count, Place::EMPTY);
        Self { places: places.into_boxed_slice(), secret, turn: 0 }
    }

    /// Where the flow's answer is, if anywhere.
    #[inline(always)]
    pub(crate) fn place(&self, key: &FlowKey) -> u32 {
        key.hash(self.secret) as u32
    }

    #[inline(always)]
    fn index(&self, place: u32) -> usize {
        place as usize & self.places.len().wrapping_sub(1)
    }

    /// The lines to be asked for ahead of [`FlowCache::find`]: nearly always it is one of two.
    #[inline(always)]
    pub(crate) fn lines(&self, place: u32) -> [Option<&impl Sized>; 2] {
        let first = self.index(place);
        [self.places.get(first), self.places.get(first ^ 1)]
    }

    /// What these tables have said of the flow, if it is still known.
    #[inline(always)]
    pub(crate) fn find(&self, key: &FlowKey, place: u32, editions: Editions) -> Option<Known> {
        let first = self.index(place);
        for step in 0..GROUP {
            let found = self.places.get(first ^ step)?;
            if found.is(key, editions) {
                let Place { row, hop, is_local, entitled, .. } = *found;
                return Some(Known { row, hop, is_local, entitled });
            }
        }
        None
    }

    /// Keeps what these tables say, in the first place of the group that is not good any more, or
    /// else in any.
    pub(crate) fn keep(&mut self, key: FlowKey, place: u32, editions: Editions, known: Known) {
        let first = self.index(place);
        let is_free = |at: &usize| {
            let place = self.places.get(*at);
            place.is_some_and(|place| {
                place.rest == 0 || place.editions != editions || place.is(&key, editions)
            })
        };
        let any = first ^ (self.turn % GROUP);
        let at = (0..GROUP).map(|step| first ^ step).find(is_free).unwrap_or(any);
        self.turn = self.turn.wrapping_add(1);
        if let Some(place) = self.places.get_mut(at) {
            let FlowKey { addresses, rest, child } = key;
            let Known { row, hop, is_local, entitled } = known;
            *place = Place { addresses, rest, child, editions, row, hop, is_local, entitled };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Editions, FlowCache, FlowKey, Known, NO_ROW};
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::vec::Vec;
    use xswan_wire::brief::Brief;

    /// IPv4 from `a` to 7, or IPv6, with these octets behind the header.
    fn packet(a: u8, v6: bool, protocol: u8, fragment: bool, payload: [u8; 4]) -> Vec<u8> {
        let mut packet = if v6 {
            let mut header = std::vec![0x60, 0, 0, 0, 0, 4, protocol, 64];
            header.extend([a; 16]);
            header.extend([7; 16]);
            header
        } else {
            let more = if fragment { 0x20 } else { 0 };
            std::vec![0x45, 0, 0, 24, 0, 0, more, 0, 64, protocol, 0, 0, a, a, a, a, 7, 7, 7, 7]
        };
        packet.extend(payload);
        packet
    }

    fn key(packet: &[u8], tunnel: Option<u32>) -> FlowKey {
        let brief = Brief::of_packet(packet).unwrap();
        match tunnel {
            Some(child) => FlowKey::inbound(&brief, packet, child),
            None => FlowKey::outbound(&brief, packet),
        }
    }

    #[test]
    fn everything_that_tells_flows_apart_is_in_the_key() {
        let base = packet(1, false, 17, false, [0; 4]);
        let first = key(&base, None);
        for other in [
            packet(2, false, 17, false, [0; 4]),
            packet(1, true, 17, false, [0; 4]),
            packet(1, false, 17, false, [0, 0, 0, 1]),
            packet(1, false, 17, false, [0, 1, 0, 0]),
            packet(1, false, 59, false, [0; 4]),
            packet(1, false, 6, false, [0; 4]),
            packet(1, false, 17, true, [0; 4]),
        ] {
            assert_ne!(first, key(&other, None), "{other:?}");
        }
        assert_ne!(first, key(&base, Some(0)));
        assert_ne!(key(&base, Some(0)), key(&base, Some(1)));
        let other_id = packet(1, false, 59, false, [1, 2, 3, 4]);
        assert_eq!(key(&other_id, None), key(&packet(1, false, 59, false, [0; 4]), None));
    }

    #[test]
    fn other_tables_know_nothing() {
        let mut cache = FlowCache::new(0, 5);
        let key = key(&packet(1, false, 59, false, [0; 4]), None);
        let (place, editions) = (cache.place(&key), Editions { fib: 0, spd: 0 });
        assert!(cache.find(&key, place, editions).is_none(), "an empty place is no answer");
        cache.keep(key, place, editions, Known { row: 3, hop: 4, is_local: false, entitled: None });
        assert_eq!(cache.find(&key, place, editions).map(|known| known.row), Some(3));
        for other in [Editions { fib: 1, spd: 0 }, Editions { fib: 0, spd: 1 }] {
            assert!(cache.find(&key, place, other).is_none());
        }
    }

    proptest! {
        /// What is found is what was kept last for that very flow.
        #[test]
        fn never_another_flows_answer(steps in proptest::collection::vec(
            (0_u8..40, any::<bool>(), 0_u32..3, any::<bool>()), 0..400)) {
            let mut cache = FlowCache::new(0, 99);
            let mut model = BTreeMap::new();
            let editions = Editions { fib: 1, spd: 1 };
            for (row, (a, v6, child, keep)) in (0..NO_ROW).zip(steps) {
                let key = key(&packet(a, v6, 59, false, [0; 4]), Some(child));
                let place = cache.place(&key);
                if keep {
                    let known = Known { row, hop: 0, is_local: false, entitled: None };
                    cache.keep(key, place, editions, known);
                    model.insert((a, v6, child), row);
                } else if let Some(known) = cache.find(&key, place, editions) {
                    prop_assert_eq!(Some(&known.row), model.get(&(a, v6, child)));
                }
            }
        }
    }
}
