//! To whom outbound SAs send: by slot, by SPI, and each peer once.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

/// No peer.
const NONE: u32 = u32::MAX;

/// One peer, whatever the number of SAs to it.
#[derive(Clone, Copy, Debug)]
struct Peer {
    address: IpAddr,
    slots: u32,
}

/// Peers of outbound SAs.
#[derive(Debug)]
pub struct Peers {
    /// By slot, the peer's place in `all` and the SPI.
    of_slot: Vec<(u32, u32)>,
    all: Vec<Option<Peer>>,
    vacant: Vec<u32>,
    by_address: HashMap<IpAddr, u32>,
    /// SPI and slot: peers choose them, so several may be the same.
    by_spi: BTreeSet<(u32, u32)>,
}

impl Peers {
    /// None, in so many slots.
    #[must_use]
    pub fn new(slots: usize) -> Self {
        Self {
            of_slot: vec![(NONE, 0); slots],
            all: Vec::new(),
            vacant: Vec::new(),
            by_address: HashMap::new(),
            by_spi: BTreeSet::new(),
        }
    }

    /// The slot sends to this peer under this SPI from now on, or to nobody.
    pub fn set(&mut self, slot: u32, peer: Option<(IpAddr, u32)>) {
        self.clear(slot);
        let Some((address, spi)) = peer else { return };
        if slot as usize >= self.of_slot.len() {
            return;
        }
        let place = self.enter(address);
        if let Some(of) = self.of_slot.get_mut(slot as usize) {
            *of = (place, spi);
            self.by_spi.insert((spi, slot));
        }
    }

    fn enter(&mut self, address: IpAddr) -> u32 {
        if let Some(place) = self.by_address.get(&address) {
            if let Some(Some(peer)) = self.all.get_mut(*place as usize) {
                peer.slots = peer.slots.saturating_add(1);
            }
            return *place;
        }
        let new = Some(Peer { address, slots: 1 });
        let place = match self.vacant.pop() {
            Some(place) => place,
            None => {
                self.all.push(None);
                u32::try_from(self.all.len().saturating_sub(1)).unwrap_or(NONE)
            }
        };
        if let Some(at) = self.all.get_mut(place as usize) {
            *at = new;
        }
        self.by_address.insert(address, place);
        place
    }

    fn clear(&mut self, slot: u32) {
        let Some(of) = self.of_slot.get_mut(slot as usize) else { return };
        let (place, spi) = std::mem::replace(of, (NONE, 0));
        let Some(at) = self.all.get_mut(place as usize) else { return };
        self.by_spi.remove(&(spi, slot));
        let Some(peer) = at else { return };
        peer.slots = peer.slots.saturating_sub(1);
        if peer.slots == 0 {
            self.by_address.remove(&peer.address);
            *at = None;
            self.vacant.push(place);
        }
    }

    /// The slot that sends to this peer under this SPI.
    #[must_use]
    pub fn find(&self, address: IpAddr, spi: u32) -> Option<u32> {
        let place = *self.by_address.get(&address)?;
        let slots = self.by_spi.range((spi, 0)..=(spi, u32::MAX)).map(|(_, slot)| *slot);
        let is_to = |slot: &u32| self.of_slot.get(*slot as usize).is_some_and(|of| of.0 == place);
        slots.into_iter().find(is_to)
    }

    /// Every peer, once.
    pub fn iter(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.all.iter().flatten().map(|peer| peer.address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn address(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    proptest! {
        #[test]
        fn peers_are_those_of_the_slots(
            steps in proptest::collection::vec((0_u32..9, proptest::option::of((0_u8..4, 0_u32..3))), 0..100),
        ) {
            let mut peers = Peers::new(8);
            let mut model = [None; 8];
            for (slot, peer) in steps {
                let peer = peer.map(|(last, spi)| (address(last), spi));
                peers.set(slot, peer);
                if let Some(place) = model.get_mut(slot as usize) {
                    *place = peer;
                }
                let mut distinct: Vec<_> = peers.iter().collect();
                distinct.sort();
                let expected: BTreeSet<_> = model.iter().flatten().map(|(at, _)| *at).collect();
                prop_assert_eq!(distinct, expected.into_iter().collect::<Vec<_>>());
                for (last, spi) in (0..4).flat_map(|last| (0..3).map(move |spi| (last, spi))) {
                    let found = model.iter().position(|at| *at == Some((address(last), spi)));
                    let found = found.map(|slot| slot as u32);
                    prop_assert_eq!(peers.find(address(last), spi), found);
                }
            }
        }
    }
}
