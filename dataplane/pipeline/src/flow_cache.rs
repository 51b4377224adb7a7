//! What the tables said of flows seen lately.
//!
//! Policy and route of a flow are the same for each of its packets as long as the tables are, so
//! the answer is kept: which row selects the flow, where its destination leads, and for what
//! came out of a tunnel that its child may carry it. One line of cache for each place, one place
//! for each flow: what falls upon another's place is asked again, which costs time and nothing
//! else. Places depend on a secret of the instance, so that nobody outside can choose flows that
//! meet. Actions are not kept: they are read from the policy itself, so that a rekeying leaves
//! all entries good.

use alloc::boxed::Box;
use alloc::vec::Vec;

use xswan_esp::selector::{Entitled, Flow};
use xswan_wire::layers::Addresses;

/// No row selects the flow.
pub(crate) const NO_ROW: u32 = u32::MAX;

/// Places at least: flows of a small gateway.
const MIN_PLACES: usize = 1 << 10;
/// Places at most: 64 MiB a worker.
const MAX_PLACES: usize = 1 << 20;

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
    /// Of a clear packet.
    #[inline(always)]
    pub(crate) fn outbound(flow: &Flow) -> Self {
        Self::new(flow, 0, 0)
    }

    /// Of a packet that came out of an SA of a child.
    #[inline(always)]
    pub(crate) fn inbound(flow: &Flow, child: u32) -> Self {
        Self::new(flow, FROM_TUNNEL, child)
    }

    #[inline(always)]
    fn new(flow: &Flow, direction: u64, child: u32) -> Self {
        let ports = match flow.ports {
            Some((source, destination)) => {
                u64::from(source) << 48 | u64::from(destination) << 32 | HAS_PORTS
            }
            None => 0,
        };
        let fragment = if flow.is_fragment { IS_FRAGMENT } else { 0 };
        let protocol = u64::from(flow.protocol) << 8;
        let rest = ports | fragment | protocol | direction | IS_KEY;
        match flow.addresses {
            Addresses::V4 { source, destination } => {
                let [a, b, c, d] = source;
                let [e, f, g, h] = destination;
                let both = u64::from_ne_bytes([a, b, c, d, e, f, g, h]);
                Self { addresses: [both, 0, 0, 0], rest, child }
            }
            Addresses::V6 { source, destination } => {
                let halves = |octets: [u8; 16]| {
                    let both = u128::from_ne_bytes(octets);
                    [both as u64, (both >> 64) as u64]
                };
                let ([a, b], [c, d]) = (halves(source), halves(destination));
                Self { addresses: [a, b, c, d], rest: rest | IS_V6, child }
            }
        }
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

/// What the tables say of a flow.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known {
    /// The row of the policy that selects it in the outbound direction, or [`NO_ROW`].
    pub(crate) row: u32,
    /// Where the destination leads: a position in the forwarding table.
    pub(crate) hop: u32,
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
}

impl FlowCache {
    /// For about as many flows as there may be SAs; all memory it will ever need.
    pub(crate) fn new(sas: usize, secret: u64) -> Self {
        let count = sas.next_power_of_two().clamp(MIN_PLACES, MAX_PLACES);
        let mut places = Vec::new();
        places.resize(count, Place::EMPTY);
        Self { places: places.into_boxed_slice(), secret }
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

    /// The line to be asked for ahead of [`FlowCache::find`].
    #[inline(always)]
    pub(crate) fn line(&self, place: u32) -> Option<&impl Sized> {
        self.places.get(self.index(place))
    }

    /// What these tables have said of the flow, if it is still known.
    #[inline(always)]
    pub(crate) fn find(&self, key: &FlowKey, place: u32, editions: Editions) -> Option<Known> {
        let found = self.places.get(self.index(place))?;
        let Place { row, hop, entitled, .. } = *found;
        found.is(key, editions).then_some(Known { row, hop, entitled })
    }

    /// Keeps what these tables say.
    #[inline]
    pub(crate) fn keep(&mut self, key: FlowKey, place: u32, editions: Editions, known: Known) {
        let index = self.index(place);
        if let Some(place) = self.places.get_mut(index) {
            let FlowKey { addresses, rest, child } = key;
            let Known { row, hop, entitled } = known;
            *place = Place { addresses, rest, child, editions, row, hop, entitled };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Editions, FlowCache, FlowKey, Known, NO_ROW};
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use xswan_esp::selector::Flow;
    use xswan_wire::layers::Addresses;

    fn flow(a: u8, v6: bool, ports: Option<(u16, u16)>, protocol: u8, is_fragment: bool) -> Flow {
        let addresses = if v6 {
            Addresses::V6 { source: [a; 16], destination: [7; 16] }
        } else {
            Addresses::V4 { source: [a; 4], destination: [7; 4] }
        };
        Flow { addresses, protocol, ports, is_fragment }
    }

    #[test]
    fn everything_that_tells_flows_apart_is_in_the_key() {
        let base = flow(1, false, Some((0, 0)), 17, false);
        let key = FlowKey::outbound(&base);
        for other in [
            flow(2, false, Some((0, 0)), 17, false),
            flow(1, true, Some((0, 0)), 17, false),
            flow(1, false, Some((0, 1)), 17, false),
            flow(1, false, Some((1, 0)), 17, false),
            flow(1, false, None, 17, false),
            flow(1, false, Some((0, 0)), 6, false),
            flow(1, false, Some((0, 0)), 17, true),
            base.reversed(),
        ] {
            assert_ne!(key, FlowKey::outbound(&other), "{other:?}");
        }
        assert_ne!(key, FlowKey::inbound(&base, 0));
        assert_ne!(FlowKey::inbound(&base, 0), FlowKey::inbound(&base, 1));
    }

    #[test]
    fn other_tables_know_nothing() {
        let mut cache = FlowCache::new(0, 5);
        let key = FlowKey::outbound(&flow(1, false, None, 59, false));
        let (place, editions) = (cache.place(&key), Editions { fib: 0, spd: 0 });
        assert!(cache.find(&key, place, editions).is_none(), "an empty place is no answer");
        cache.keep(key, place, editions, Known { row: 3, hop: 4, entitled: None });
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
                let key = FlowKey::inbound(&flow(a, v6, None, 59, false), child);
                let place = cache.place(&key);
                if keep {
                    cache.keep(key, place, editions, Known { row, hop: 0, entitled: None });
                    model.insert((a, v6, child), row);
                } else if let Some(known) = cache.find(&key, place, editions) {
                    prop_assert_eq!(Some(&known.row), model.get(&(a, v6, child)));
                }
            }
        }
    }
}
