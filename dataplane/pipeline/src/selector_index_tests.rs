//! The index against asking every row.

use super::{Purpose, SelectorIndex};
use alloc::vec::Vec;
use proptest::prelude::*;
use xswan_esp::selector::{AddressRange, Family, Flow, PortRange, Selector};
use xswan_wire::layers::Addresses;

fn flow(source: u8, destination: u8, protocol: u8, ports: Option<(u16, u16)>) -> Flow {
    let addresses =
        Addresses::V4 { source: [10, 0, 0, source], destination: [10, 0, 0, destination] };
    Flow { addresses, protocol, ports, is_fragment: false }
}

fn range(first: u8, last: u8) -> AddressRange {
    let of = |last| u128::from(u32::from_be_bytes([10, 0, 0, last]));
    AddressRange { family: Family::V4, first: of(first), last: of(last) }
}

fn linear(selectors: &[Selector], flow: &Flow) -> Option<u32> {
    selectors.iter().position(|one| one.matches(flow)).map(|row| row as u32)
}

fn indexed(index: &SelectorIndex, selectors: &[Selector], flow: &Flow) -> Option<u32> {
    index.first(flow, |row| selectors[row as usize].matches(flow))
}

/// Ranges within each other in both addresses, the inner first: nothing hides anything, and no
/// dimension divides well.
#[test]
fn nested_in_every_dimension() {
    let selectors: Vec<_> = (0..100)
        .map(|n| Selector::addresses(range(100 - n, 100 + n), range(100 - n, 100 + n)))
        .collect();
    let index = SelectorIndex::new(&selectors, Purpose::WholePackets);
    for source in 0..=255 {
        for destination in 0..=255 {
            let flow = flow(source, destination, 6, Some((1, 2)));
            assert_eq!(indexed(&index, &selectors, &flow), linear(&selectors, &flow));
        }
    }
}

#[test]
fn what_is_hidden_is_left_out() {
    let one = Selector::addresses(range(1, 9), range(1, 9));
    let index = SelectorIndex::new(&[one; 10_000], Purpose::WholePackets);
    assert_eq!(index.rows, [0]);
    let other = Selector { destination_ports: PortRange::OPAQUE, ..one };
    let selectors: Vec<_> = core::iter::repeat_n([other, one], 5000).flatten().collect();
    let index = SelectorIndex::new(&selectors, Purpose::WholePackets);
    assert_eq!(index.rows, [0, 1], "opaque ports are not any ports");
}

#[test]
fn the_ends_of_a_family() {
    for family in [Family::V4, Family::V6] {
        let any = AddressRange::any(family);
        let last = AddressRange { first: any.last, ..any };
        let mut selectors = Vec::new();
        for port in 0..20 {
            let destination_ports = PortRange::one(u16::MAX - port);
            selectors.push(Selector { destination_ports, ..Selector::addresses(any, last) });
            selectors.push(Selector { destination_ports, ..Selector::addresses(last, any) });
        }
        let index = SelectorIndex::new(&selectors, Purpose::WholePackets);
        for (from, to) in [(0, 0), (0, 255), (255, 0), (255, 255)] {
            let addresses = match family {
                Family::V4 => Addresses::V4 { source: [from; 4], destination: [to; 4] },
                Family::V6 => Addresses::V6 { source: [from; 16], destination: [to; 16] },
            };
            for port in (0..30).map(|port| u16::MAX - port) {
                let ports = Some((0, port));
                let flow = Flow { addresses, protocol: 17, ports, is_fragment: false };
                assert_eq!(indexed(&index, &selectors, &flow), linear(&selectors, &flow));
            }
        }
    }
}

fn ports() -> impl Strategy<Value = PortRange> {
    let some =
        (0_u16..6, 0_u16..6).prop_map(|(first, more)| PortRange { first, last: first + more });
    prop_oneof![4 => Just(PortRange::ANY), 1 => Just(PortRange::OPAQUE), 4 => some]
}

fn selector() -> impl Strategy<Value = Selector> {
    // Some end before they begin: those hold nothing.
    let any = (0_u8..60, 0_u8..60).prop_map(|(first, last)| range(first, last));
    let prefix = (0_u8..64, 0_u8..7).prop_map(|(address, bits)| {
        let mask = (1_u8 << bits) - 1;
        range(address & !mask, address | mask)
    });
    let addresses = prop_oneof![any, prefix];
    (
        addresses.clone(),
        addresses,
        prop_oneof![Just(0_u8), Just(6), Just(17), Just(1)],
        ports(),
        ports(),
    )
        .prop_map(|(source, destination, protocol, source_ports, destination_ports)| {
            Selector { source, destination, protocol, source_ports, destination_ports }
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn the_first_row_is_found_whatever_the_rows(
        selectors in proptest::collection::vec(selector(), 0..250),
        probes in proptest::collection::vec(
            (0_u8..70, 0_u8..70, prop_oneof![Just(6_u8), Just(17), Just(1), Just(50)],
             proptest::option::of((0_u16..12, 0_u16..12))),
            1..200,
        ),
    ) {
        let index = SelectorIndex::new(&selectors, Purpose::WholePackets);
        for (source, destination, protocol, ports) in probes {
            let flow = flow(source, destination, protocol, ports);
            prop_assert_eq!(indexed(&index, &selectors, &flow), linear(&selectors, &flow));
        }
    }
}
