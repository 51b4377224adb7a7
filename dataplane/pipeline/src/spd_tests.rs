//! The database against a list that is read from its beginning, small and large.

use super::{Action, Policy, SaHandle, Spd, might_match};
use alloc::sync::Arc;
use alloc::vec::Vec;
use proptest::prelude::*;
use std::time::Instant;
use xswan_esp::selector::{AddressRange, Family, Flow, PortRange, Selector};
use xswan_wire::DropReason;
use xswan_wire::layers::Addresses;

/// What the order of the rows means, row by row (RFC 4301 sections 4.4.1 and 7).
fn oracle<'r>(
    rows: &'r [Policy],
    flow: &Flow,
    selector: impl Fn(&Policy) -> Selector,
) -> Result<Option<&'r Policy>, DropReason> {
    for row in rows {
        let selector = selector(row);
        if selector.matches(flow) {
            return Ok(Some(row));
        }
        if flow.is_fragment && might_match(&selector, flow) {
            return Err(DropReason::InnerFragment);
        }
    }
    Ok(None)
}

fn agree(spd: &Spd, flow: &Flow) {
    let child = |found: Option<&Policy>| found.map(|row| row.child);
    let rows = spd.rows();
    assert_eq!(spd.outbound(flow).map(child), oracle(rows, flow, |row| row.selector).map(child));
    assert_eq!(
        spd.inbound_clear(flow).map(child),
        oracle(rows, flow, |row| row.selector.reversed()).map(child)
    );
}

fn policy(selector: Selector, child: u32) -> Policy {
    Policy { selector, action: Action::Discard, child, icmp: false, hold: false }
}

fn row((child, net, length, protocol, port): (u32, u8, u8, u8, u16)) -> Policy {
    let range = |low: u8| AddressRange::v4_prefix([10, net, 0, low], length);
    let ports = if port == 0 { PortRange::ANY } else { PortRange::one(port) };
    let addresses = Selector::addresses(range(child as u8), range(net));
    policy(Selector { protocol, destination_ports: ports, ..addresses }, child)
}

proptest! {
    #[test]
    fn the_index_answers_as_the_list_does(
        raw in proptest::collection::vec((0_u8..4, 14_u8..=32, 0_u8..3, 0_u16..3), 0..120),
        probes in proptest::collection::vec((0_u8..5, any::<u8>(), 0_u8..3, 0_u16..3, any::<bool>()), 1..60),
    ) {
        let rows = (0..).zip(&raw)
            .map(|(child, &(net, length, protocol, port))| row((child, net, length, protocol, port)))
            .collect();
        let spd = Spd::new(rows);
        for &(net, low, protocol, port, is_fragment) in &probes {
            let destination = [10, net, 0, low];
            let addresses = Addresses::V4 { source: [10, net, 0, low / 2], destination };
            let ports = (!is_fragment).then_some((port, port));
            agree(&spd, &Flow { addresses, protocol, ports, is_fragment });
        }
    }
}

/// Numbers that look random and are the same in every run.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) as u32
    }

    fn below(&mut self, end: u32) -> u32 {
        self.next() % end
    }
}

fn v4(first: u32, last: u32) -> AddressRange {
    AddressRange { family: Family::V4, first: first.into(), last: last.into() }
}

fn prefix(numbers: &mut Numbers, shortest: u32) -> AddressRange {
    let host = u32::MAX.checked_shr(shortest + numbers.below(33 - shortest)).unwrap_or(0);
    let address = numbers.next() & 0x0fff_ffff;
    v4(address & !host, address | host)
}

fn ports(numbers: &mut Numbers) -> PortRange {
    match numbers.below(4) {
        0 => PortRange::ANY,
        1 => PortRange::OPAQUE,
        _ => {
            let first = numbers.below(1000) as u16;
            PortRange { first, last: first + numbers.below(1000) as u16 }
        }
    }
}

/// Kinds of lists: what most gateways have first, what an enemy would make last.
const KINDS: [&str; 6] = [
    "a network for each peer",
    "prefixes within each other, protocols, ports",
    "one pair of networks, ranges of ports",
    "many local networks for one remote one",
    "ranges of addresses that overlap as they like",
    "ranges within each other on both sides, the inner first",
];

fn selector(kind: usize, row: u32, rows: u32, numbers: &mut Numbers) -> Selector {
    let any = AddressRange::any(Family::V4);
    match kind {
        0 => Selector::addresses(v4(0x0a00_0000, 0x0aff_ffff), v4(row << 8, (row << 8) | 255)),
        1 => Selector {
            protocol: [0, 1, 6, 17][numbers.below(4) as usize],
            source_ports: ports(numbers),
            destination_ports: ports(numbers),
            ..Selector::addresses(prefix(numbers, 8), prefix(numbers, 8))
        },
        2 => Selector {
            protocol: 6,
            source_ports: ports(numbers),
            destination_ports: ports(numbers),
            ..Selector::addresses(any, any)
        },
        3 => Selector::addresses(prefix(numbers, 20), any),
        4 => {
            let (a, b) = (numbers.next(), numbers.next());
            Selector::addresses(any, v4(a.min(b), a.max(b)))
        }
        _ => {
            let around = v4((rows - row) * 4, (rows + row) * 4);
            Selector::addresses(around, around)
        }
    }
}

fn probe(kind: usize, rows: u32, numbers: &mut Numbers) -> Flow {
    let mut address = || match kind {
        0 => (numbers.below(rows + 10) << 8) | 7,
        5 => numbers.below(rows * 8 + 10),
        _ => numbers.next() & 0x0fff_ffff,
    };
    let (source, destination) = (address().to_be_bytes(), address().to_be_bytes());
    let source = if kind == 0 { [10, 1, 2, 3] } else { source };
    let ports = (numbers.below(2_000) as u16, numbers.below(2_000) as u16);
    let is_fragment = numbers.below(8) == 0;
    Flow {
        addresses: Addresses::V4 { source, destination },
        protocol: [1, 6, 17, 50, 0][numbers.below(5) as usize],
        ports: (!is_fragment && numbers.below(8) != 0).then_some(ports),
        is_fragment,
    }
}

/// A hundred thousand selectors of every kind: right, small, and soon there.
#[test]
fn a_hundred_thousand_selectors_are_looked_up_as_a_list_is() {
    const ROWS: u32 = 100_000;
    for (kind, name) in KINDS.into_iter().enumerate() {
        let mut numbers = Numbers(kind as u64 + 1);
        let rows: Vec<_> =
            (0..ROWS).map(|row| policy(selector(kind, row, ROWS, &mut numbers), row)).collect();
        let begun = Instant::now();
        let spd = Spd::new(rows);
        let memory = spd.index_memory();
        std::println!("{name}: {:?}, {memory} bytes", begun.elapsed());
        assert!(memory <= ROWS as usize * 2048, "{name}: {memory}");
        for _ in 0..60 {
            agree(&spd, &probe(kind, ROWS, &mut numbers));
        }
    }
}

/// How many rows are compared at most, over many look-ups: nothing near the number of rows.
#[test]
fn few_rows_are_compared_whatever_the_list() {
    use crate::selector_index::{Purpose, SelectorIndex};
    use core::cell::Cell;
    const ROWS: u32 = 20_000;
    for (kind, name) in KINDS.into_iter().enumerate() {
        let mut numbers = Numbers(kind as u64 + 9);
        let selectors: Vec<_> =
            (0..ROWS).map(|row| selector(kind, row, ROWS, &mut numbers)).collect();
        let index = SelectorIndex::new(&selectors, Purpose::WholePackets);
        let mut most = 0;
        for _ in 0..20_000 {
            let flow = probe(kind, ROWS, &mut numbers);
            let asked = Cell::new(0);
            index.first(&flow, |row| {
                asked.set(asked.get() + 1);
                selectors[row as usize].matches(&flow)
            });
            most = most.max(asked.get());
        }
        std::println!("{name}: {most} rows compared at most");
        assert!(most <= 400, "{name}: {most} of {ROWS}");
    }
}

#[test]
fn an_edition_with_other_sas_uses_the_index_again() {
    let protect = |slot| Action::Protect(Some(SaHandle { slot, worker: 0 }));
    let rows = |slot| -> Vec<_> {
        let row = |n: u32| {
            let (near, far) = (v4(0, 255), v4(n << 8, (n << 8) | 255));
            Policy { action: protect(slot), ..policy(Selector::addresses(near, far), n) }
        };
        (0..100).map(row).collect()
    };
    let first = Spd::new(rows(1));
    let second = first.next_edition(rows(2));
    assert!(Arc::ptr_eq(&first.lookup, &second.lookup));
    let addresses = Addresses::V4 { source: [0; 4], destination: [0, 0, 9, 9] };
    let flow = Flow { addresses, protocol: 6, ports: Some((1, 1)), is_fragment: false };
    let found = second.outbound(&flow).ok().flatten();
    assert_eq!(found.map(|row| (row.child, row.action)), Some((9, protect(2))));
    assert_eq!(second.inbound_selectors(9).count(), 1);
    assert_eq!(second.inbound_selectors(100).count(), 0);

    for change in [
        |row: &mut Policy| row.child = 1000,
        |row: &mut Policy| row.icmp = true,
        |row: &mut Policy| row.action = Action::Bypass,
        |row: &mut Policy| row.selector.protocol = 6,
    ] {
        let mut rows = rows(1);
        rows.iter_mut().take(1).for_each(change);
        assert!(!Arc::ptr_eq(&first.lookup, &first.next_edition(rows).lookup));
    }
    assert!(!Arc::ptr_eq(&first.lookup, &first.next_edition(Vec::new()).lookup));
}
