//! The security policy database as workers read it: ordered, first match decides.
//!
//! A snapshot like the forwarding tables: built outside the packet path, swapped in
//! between bursts (RFC 4301 section 4.4.1).

use alloc::vec::Vec;
use xswan_esp::selector::{AddressRange, Family, Flow, PortRange, Selector};
use xswan_wire::DropReason;
use xswan_wire::ipv6::{DESTINATION_OPTIONS, HOP_BY_HOP, ROUTING};
use xswan_wire::layers::{self, Addresses};

use crate::candidates::Candidates;

/// Which outbound SA protects a policy's traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SaHandle {
    /// Slot in the outbound table.
    pub slot: u32,
    /// Worker that owns the SA.
    pub worker: u32,
}

/// What a policy does with traffic it selects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Through this SA; without one, traffic is held or dropped and an acquire is due.
    Protect(Option<SaHandle>),
    /// Past IPsec, in clear.
    Bypass,
    /// Not at all.
    Discard,
}

/// One policy: local side is the selector's source.
#[derive(Clone, Debug)]
pub struct Policy {
    /// What it selects, in the outbound direction.
    pub selector: Selector,
    /// What happens then.
    pub action: Action,
    /// The child configuration it comes from; inbound SAs of the same child accept its reverse.
    pub child: u32,
    /// Inner ICMP errors from outside the selector are allowed through.
    pub icmp: bool,
    /// While there is no SA, packets are held for it ([`crate::held`]).
    pub hold: bool,
}

/// The ordered policies and, by child, what its inbound SAs may carry.
#[derive(Clone, Debug, Default)]
pub struct Spd {
    rows: Vec<Policy>,
    /// By destination, the remote side: for what leaves.
    by_remote: Candidates,
    /// By source, the local side: for what came in clear.
    by_local: Candidates,
    inbound: Vec<(u32, Selector)>,
}

impl Spd {
    /// Takes the policies in their order.
    #[must_use]
    pub fn new(rows: Vec<Policy>) -> Self {
        let protected = || rows.iter().filter(|row| matches!(row.action, Action::Protect(_)));
        let mut inbound: Vec<_> =
            protected().map(|row| (row.child, row.selector.reversed())).collect();
        let admitting = protected().filter(|row| row.icmp);
        inbound.extend(
            admitting.flat_map(|row| icmp_errors(&row.selector).map(|error| (row.child, error))),
        );
        inbound.sort_by_key(|&(child, _)| child);
        let by_remote = Candidates::new(rows.iter().map(|row| row.selector.destination));
        let by_local = Candidates::new(rows.iter().map(|row| row.selector.source));
        Self { rows, by_remote, by_local, inbound }
    }

    /// The policy for a packet that leaves the protected side.
    ///
    /// # Errors
    /// [`DropReason::InnerFragment`] for a fragment that a policy might select by its ports,
    /// which cannot be seen: the next policy might let out in clear what this one protects
    /// (RFC 4301 section 7).
    #[inline]
    pub fn outbound(&self, flow: &Flow) -> Result<Option<&Policy>, DropReason> {
        self.first(&self.by_remote, flow, |row| row.selector)
    }

    /// The policy for a packet that arrived in clear from the untrusted side.
    ///
    /// # Errors
    /// As [`Spd::outbound`].
    pub fn inbound_clear(&self, flow: &Flow) -> Result<Option<&Policy>, DropReason> {
        self.first(&self.by_local, flow, |row| row.selector.reversed())
    }

    /// The first row that selects the flow, of those around its destination.
    #[inline]
    fn first(
        &self,
        candidates: &Candidates,
        flow: &Flow,
        selector: impl Fn(&Policy) -> Selector,
    ) -> Result<Option<&Policy>, DropReason> {
        let listed = match flow.addresses {
            Addresses::V4 { destination, .. } => {
                candidates.of(Family::V4, u32::from_be_bytes(destination).into())
            }
            Addresses::V6 { destination, .. } => {
                candidates.of(Family::V6, u128::from_be_bytes(destination))
            }
        };
        match listed {
            Some(listed) => {
                let rows = listed.iter().filter_map(|&row| self.rows.get(row as usize));
                first(rows, flow, selector)
            }
            None => first(self.rows.iter(), flow, selector),
        }
    }

    /// What an SA of `child` may carry, in the direction of received packets
    /// (RFC 4301 section 5.2, step 4).
    #[inline]
    pub fn inbound_selectors(&self, child: u32) -> impl Iterator<Item = &Selector> {
        let first = self.inbound.partition_point(|&(of, _)| of < child);
        self.inbound
            .iter()
            .skip(first)
            .take_while(move |&&(of, _)| of == child)
            .map(|(_, selector)| selector)
    }

    /// The rows, for display.
    #[must_use]
    pub fn rows(&self) -> &[Policy] {
        &self.rows
    }
}

/// The first of some rows that selects the flow.
#[inline]
fn first<'r>(
    rows: impl Iterator<Item = &'r Policy>,
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

/// Whether a fragment would match if what it hides were known.
fn might_match(selector: &Selector, flow: &Flow) -> bool {
    // A later IPv6 fragment may name an extension header instead of the protocol.
    let hides_protocol = matches!(flow.protocol, HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS);
    let protocol = if hides_protocol { 0 } else { selector.protocol };
    let anything =
        Selector { protocol, ..Selector::addresses(selector.source, selector.destination) };
    anything.matches(flow)
}

/// ICMP errors from anywhere to the local side: routers on the far side that report on the
/// tunnel's traffic are not inside its selectors, the hosts they report to are.
fn icmp_errors(outbound: &Selector) -> impl Iterator<Item = Selector> {
    let destination = outbound.source;
    // Unreachable; time exceeded and parameter problem; all of ICMPv6's errors.
    let (protocol, kinds): (_, &[(u16, u16)]) = match destination.family {
        Family::V4 => (layers::ICMP, &[(3, 3), (11, 12)]),
        Family::V6 => (layers::ICMPV6, &[(1, 4)]),
    };
    kinds.iter().map(move |&(first, last)| {
        let ports = PortRange { first: first << 8, last: (last << 8) | 0xff };
        Selector {
            protocol,
            source_ports: ports,
            destination_ports: ports,
            ..Selector::addresses(AddressRange::any(destination.family), destination)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::{Action, Policy, Spd, first};
    use alloc::vec::Vec;
    use proptest::prelude::*;
    use xswan_esp::selector::{AddressRange, Flow, PortRange, Selector};
    use xswan_wire::layers::Addresses;

    fn row((child, net, length, protocol, port): (u32, u8, u8, u8, u16)) -> Policy {
        let range = |low: u8| AddressRange::v4_prefix([10, net, 0, low], length);
        let ports = if port == 0 { PortRange::ANY } else { PortRange::one(port) };
        let selector = Selector {
            protocol,
            destination_ports: ports,
            ..Selector::addresses(range(child as u8), range(net))
        };
        Policy { selector, action: Action::Discard, child, icmp: false, hold: false }
    }

    proptest! {
        #[test]
        fn the_index_answers_as_the_list_does(
            raw in proptest::collection::vec((0_u8..4, 14_u8..=32, 0_u8..3, 0_u16..3), 0..60),
            probes in proptest::collection::vec((0_u8..5, any::<u8>(), 0_u8..3, 0_u16..3, any::<bool>()), 1..60),
        ) {
            let rows: Vec<_> = (0..).zip(&raw)
                .map(|(child, &(net, length, protocol, port))| row((child, net, length, protocol, port)))
                .collect();
            let spd = Spd::new(rows.clone());
            for &(net, low, protocol, port, is_fragment) in &probes {
                let destination = [10, net, 0, low];
                let addresses = Addresses::V4 { source: [10, net, 0, low / 2], destination };
                let ports = (!is_fragment).then_some((port, port));
                let flow = Flow { addresses, protocol, ports, is_fragment };
                let child = |found: Option<&Policy>| found.map(|row| row.child);
                prop_assert_eq!(
                    spd.outbound(&flow).map(child),
                    first(rows.iter(), &flow, |row| row.selector).map(child)
                );
                prop_assert_eq!(
                    spd.inbound_clear(&flow).map(child),
                    first(rows.iter(), &flow, |row| row.selector.reversed()).map(child)
                );
            }
        }
    }
}
