//! Where an IP packet goes next, from a snapshot of the kernel's tables.
//!
//! The snapshot ([`Fib`]) is built outside the packet path from routes and neighbours
//! and read here without locks. Overlapping prefixes are flattened when it is built
//! into sorted, disjoint ranges, so that a look-up is one binary search whatever the
//! number of prefix lengths, with the same cost for IPv4 and IPv6.

use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering};
use xswan_wire::DropReason;
use xswan_wire::layers::Addresses;

use crate::inbound::L2_ROOM;

/// Longest layer-2 header that is written: Ethernet and two VLAN tags.
pub const L2_MAX: usize = 22;

/// An Ethernet header ready to be copied in front of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct L2Header {
    bytes: [u8; L2_MAX],
    len: u8,
}

impl L2Header {
    /// Destination, source, outer to inner VLAN tags (protocol, tag control information), EtherType.
    ///
    /// More than two tags cannot be expressed; the rest is ignored.
    #[must_use]
    pub fn new(
        destination: [u8; 6],
        source: [u8; 6],
        tags: &[(u16, u16)],
        ether_type: u16,
    ) -> Self {
        let mut bytes = [0; L2_MAX];
        let mut len = 0_usize;
        let mut put = |part: &[u8]| {
            if let Some(place) = bytes.get_mut(len..len.saturating_add(part.len())) {
                place.copy_from_slice(part);
                len = len.saturating_add(part.len());
            }
        };
        put(&destination);
        put(&source);
        for (protocol, control) in tags.iter().take(2) {
            put(&protocol.to_be_bytes());
            put(&control.to_be_bytes());
        }
        put(&ether_type.to_be_bytes());
        Self { bytes, len: u8::try_from(len).unwrap_or(0) }
    }

    /// The header's octets.
    #[inline(always)]
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or(&[])
    }

    /// The header's octets if there are no tags.
    #[inline(always)]
    pub(crate) fn untagged(&self) -> Option<&[u8; L2_ROOM]> {
        self.as_bytes().as_array()
    }

    /// Writes the header to the front of a frame whose packet follows later: what is behind the
    /// header is written over, too. Nothing is written if there is no room for the longest.
    #[inline(always)]
    pub(crate) fn write_ahead(&self, room: &mut [u8]) {
        if let Some(front) = room.first_chunk_mut::<L2_MAX>() {
            *front = self.bytes;
        }
    }

    /// Length in bytes: 14, 18 or 22.
    #[inline(always)]
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len as usize
    }

    /// Never true: a header has at least 14 bytes. Here because `len` is.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// What the tables say of one destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextHop {
    /// Out of an attached port, neighbour known.
    Port {
        /// Position of the port in the worker's list.
        port: u16,
        /// Link MTU in bytes, IP header included.
        mtu: u16,
        /// What goes in front of the packet.
        header: L2Header,
    },
    /// The gateway itself: the kernel takes the packet through the TUN device.
    Local,
    /// The kernel must forward it: neighbour unresolved, or a device that is not attached.
    Kernel {
        /// Link MTU in bytes of the device the kernel would use, IP header included.
        mtu: u16,
    },
    /// A route that says no, a broadcast address, a multicast group.
    Drop(DropReason),
}

/// An address of either family as the number that ranges are sorted by.
pub trait Address: Copy + Ord {
    /// Bits of the family.
    const BITS: u32;
    /// First address of the prefix this one lies in.
    #[must_use]
    fn first(self, length: u32) -> Self;
    /// Last address of the prefix this one lies in.
    #[must_use]
    fn last(self, length: u32) -> Self;
    /// The next address, or `None` after the last of the family.
    fn next(self) -> Option<Self>;
    /// The lowest address.
    const ZERO: Self;
}

macro_rules! address {
    ($number:ty) => {
        impl Address for $number {
            const BITS: u32 = <$number>::BITS;
            const ZERO: Self = 0;
            fn first(self, length: u32) -> Self {
                self & !host_mask!($number, length)
            }
            fn last(self, length: u32) -> Self {
                self | host_mask!($number, length)
            }
            fn next(self) -> Option<Self> {
                self.checked_add(1)
            }
        }
    };
}
macro_rules! host_mask {
    ($number:ty, $length:expr) => {
        <$number>::MAX.checked_shr($length).unwrap_or(0)
    };
}
address!(u32);
address!(u128);

/// Disjoint ranges in order: each begins where its key says and ends before the next key.
#[derive(Clone, Debug)]
pub struct Ranges<K> {
    starts: Vec<K>,
    values: Vec<Option<u32>>,
}

impl<K> Default for Ranges<K> {
    fn default() -> Self {
        Self { starts: Vec::new(), values: Vec::new() }
    }
}

impl<K: Address> Ranges<K> {
    /// Flattens prefixes; of two for the same address the longer wins, of two equal the later.
    #[must_use]
    pub fn from_prefixes(prefixes: &[(K, u32, u32)]) -> Self {
        let mut sorted: Vec<_> = prefixes
            .iter()
            .enumerate()
            .map(|(order, &(address, length, value))| {
                let length = length.min(K::BITS);
                (address.first(length), length, order, value)
            })
            .collect();
        sorted.sort_unstable_by_key(|&(start, length, order, _)| (start, length, order));
        let mut ranges = Self::default();
        // Prefixes nest or are apart, so those that are open form a stack.
        let mut open: Vec<(K, u32)> = Vec::new();
        for (start, length, _, value) in sorted {
            ranges.close_before(&mut open, Some(start));
            ranges.begin(start, Some(value));
            open.push((start.last(length), value));
        }
        ranges.close_before(&mut open, None);
        ranges
    }

    /// Ends every open prefix that ends before `limit`, going back to the one around it.
    fn close_before(&mut self, open: &mut Vec<(K, u32)>, limit: Option<K>) {
        while let Some(&(end, _)) = open.last() {
            if limit.is_some_and(|limit| end >= limit) {
                return;
            }
            open.pop();
            if let Some(after) = end.next() {
                // An outer prefix that ends at the same address is closed in the next round
                // and overwrites this start.
                self.begin(after, open.last().map(|&(_, value)| value));
            }
        }
    }

    fn begin(&mut self, start: K, value: Option<u32>) {
        if self.starts.last() == Some(&start) {
            if let Some(last) = self.values.last_mut() {
                *last = value;
            }
            return;
        }
        self.starts.push(start);
        self.values.push(value);
    }

    /// The value of the longest prefix around `address`.
    #[inline]
    #[must_use]
    pub fn lookup(&self, address: K) -> Option<u32> {
        let after = self.starts.partition_point(|&start| start <= address);
        self.values.get(after.checked_sub(1)?).copied().flatten()
    }
}

/// One route for the builder of a [`Fib`]; addresses as numbers.
#[derive(Clone, Copy, Debug)]
pub struct Prefix {
    /// The address, IPv4 in the low 32 bits.
    pub address: u128,
    /// Significant bits of its family.
    pub length: u32,
    /// IPv6 if true.
    pub v6: bool,
    /// Where it leads.
    pub hop: NextHop,
}

/// Addresses of our own on a port, for ICMP errors: IPv4, IPv6.
pub type Sources = (Option<[u8; 4]>, Option<[u8; 16]>);

/// A snapshot of the kernel's forwarding tables.
#[derive(Clone, Debug, Default)]
pub struct Fib {
    v4: Ranges<u32>,
    v6: Ranges<u128>,
    hops: Vec<NextHop>,
    sources: Vec<Sources>,
    edition: u32,
}

/// Position of the answer for addresses that are never forwarded.
const MARTIAN: u32 = 0;
/// Position of the answer where no route leads.
const NO_ROUTE: u32 = 1;
static NO_ROUTE_HOP: NextHop = NextHop::Drop(DropReason::NoRoute);

impl Fib {
    /// Builds the snapshot. `sources[port]` are the addresses that ICMP errors come from.
    #[must_use]
    pub fn new(prefixes: &[Prefix], sources: Vec<Sources>) -> Self {
        static EDITIONS: AtomicU32 = AtomicU32::new(1);
        let mut hops = Vec::with_capacity(prefixes.len().saturating_add(2));
        hops.extend([NextHop::Drop(DropReason::Martian), NO_ROUTE_HOP]);
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for prefix in prefixes {
            let index = u32::try_from(hops.len()).unwrap_or(u32::MAX);
            hops.push(prefix.hop);
            if prefix.v6 {
                v6.push((prefix.address, prefix.length, index));
            } else {
                v4.push((prefix.address as u32, prefix.length, index));
            }
        }
        let (v4, v6) = (Ranges::from_prefixes(&v4), Ranges::from_prefixes(&v6));
        Self { v4, v6, hops, sources, edition: EDITIONS.fetch_add(1, Ordering::Relaxed) }
    }

    /// Differs from that of any other snapshot of this process, empty ones apart.
    #[inline(always)]
    pub(crate) const fn edition(&self) -> u32 {
        self.edition
    }

    /// The next hop of a packet with these addresses.
    #[inline]
    #[must_use]
    pub fn lookup(&self, addresses: &Addresses) -> &NextHop {
        self.hop(self.position(addresses))
    }

    /// What a position means.
    #[inline(always)]
    pub(crate) fn hop(&self, position: u32) -> &NextHop {
        self.hops.get(position as usize).unwrap_or(&NO_ROUTE_HOP)
    }

    /// Where the answer for these addresses is kept.
    #[inline]
    pub(crate) fn position(&self, addresses: &Addresses) -> u32 {
        match addresses {
            Addresses::V4 { destination, .. } => self.position4(*destination),
            Addresses::V6 { destination, .. } => self.position6(*destination),
        }
    }

    fn position4(&self, destination: [u8; 4]) -> u32 {
        if destination[0] >= 224 || destination[0] == 127 || destination[0] == 0 {
            return MARTIAN;
        }
        self.v4.lookup(u32::from_be_bytes(destination)).unwrap_or(NO_ROUTE)
    }

    fn position6(&self, destination: [u8; 16]) -> u32 {
        let number = u128::from_be_bytes(destination);
        // Multicast, unspecified, loopback and link-local are not forwarded (RFC 4291 section 2.5, 2.7).
        if destination[0] == 0xff || number <= 1 || (number >> 118) == 0x3fa {
            return MARTIAN;
        }
        self.v6.lookup(number).unwrap_or(NO_ROUTE)
    }

    /// The next hop of an IPv4 destination.
    #[must_use]
    pub fn lookup4(&self, destination: [u8; 4]) -> NextHop {
        *self.hop(self.position4(destination))
    }

    /// The next hop of an IPv6 destination.
    #[must_use]
    pub fn lookup6(&self, destination: [u8; 16]) -> NextHop {
        *self.hop(self.position6(destination))
    }

    /// Our IPv4 address for an error about a packet that came in on `port`.
    #[must_use]
    pub fn source4(&self, port: u16) -> Option<[u8; 4]> {
        let own = self.sources.get(usize::from(port)).and_then(|source| source.0);
        own.or_else(|| self.sources.iter().find_map(|source| source.0))
    }

    /// Our IPv6 address for an error about a packet that came in on `port`.
    #[must_use]
    pub fn source6(&self, port: u16) -> Option<[u8; 16]> {
        let own = self.sources.get(usize::from(port)).and_then(|source| source.1);
        own.or_else(|| self.sources.iter().find_map(|source| source.1))
    }
}

#[cfg(test)]
mod tests {
    use super::{Fib, L2Header, NextHop, Prefix, Ranges};
    use alloc::vec;
    use alloc::vec::Vec;
    use proptest::prelude::*;
    use xswan_wire::DropReason;

    #[test]
    fn header_with_tags_is_in_wire_order() {
        let header = L2Header::new([1; 6], [2; 6], &[(0x88a8, 5), (0x8100, 6)], 0x0800);
        assert_eq!(header.len(), 22);
        assert_eq!(&header.as_bytes()[12..], &[0x88, 0xa8, 0, 5, 0x81, 0, 0, 6, 8, 0]);
    }

    #[test]
    fn default_route_and_end_of_family() {
        let ranges = Ranges::<u32>::from_prefixes(&[(0, 0, 1), (0xffff_ff00, 24, 2)]);
        assert_eq!(ranges.lookup(5), Some(1));
        assert_eq!(ranges.lookup(u32::MAX), Some(2));
        assert_eq!(Ranges::<u32>::from_prefixes(&[]).lookup(0), None);
    }

    #[test]
    fn special_addresses_are_martians() {
        let hop = NextHop::Kernel { mtu: 1500 };
        let fib = Fib::new(
            &[
                Prefix { address: 0, length: 0, v6: false, hop },
                Prefix { address: 0, length: 0, v6: true, hop },
            ],
            vec![],
        );
        for address in [[224, 0, 0, 1], [255; 4], [127, 0, 0, 1], [0; 4]] {
            assert_eq!(fib.lookup4(address), NextHop::Drop(DropReason::Martian));
        }
        let mut link_local = [0; 16];
        link_local[..2].copy_from_slice(&[0xfe, 0x80]);
        assert_eq!(fib.lookup6(link_local), NextHop::Drop(DropReason::Martian));
        assert_eq!(fib.lookup4([192, 0, 2, 1]), hop);
    }

    /// The slow answer: walk all prefixes, keep the longest, of equals the last.
    fn longest(prefixes: &[(u32, u32, u32)], address: u32) -> Option<u32> {
        let mut best: Option<(u32, u32)> = None;
        for &(prefix, length, value) in prefixes {
            let mask = if length == 0 { 0 } else { u32::MAX << (32 - length) };
            if prefix & mask == address & mask && best.is_none_or(|(seen, _)| length >= seen) {
                best = Some((length, value));
            }
        }
        best.map(|(_, value)| value)
    }

    proptest! {
        #[test]
        fn ranges_equal_the_slow_answer(
            raw in proptest::collection::vec((any::<u32>(), 0_u32..=32), 0..40),
            near in proptest::collection::vec((0_usize..40, -2_i64..=2), 1..40),
        ) {
            // Few distinct high bits, so that prefixes do nest.
            let prefixes: Vec<_> = raw.iter().enumerate()
                .map(|(value, &(address, length))| (address & 0xc0ff_00c3, length, value as u32))
                .collect();
            let ranges = Ranges::from_prefixes(&prefixes);
            for &(index, offset) in &near {
                if let Some(&(address, length, _)) = prefixes.get(index) {
                    for edge in [super::Address::first(address, length), super::Address::last(address, length)] {
                        let probe = (i64::from(edge) + offset).rem_euclid(1 << 32) as u32;
                        prop_assert_eq!(ranges.lookup(probe), longest(&prefixes, probe));
                    }
                }
            }
        }
    }
}
