//! The security policy database as workers read it: ordered, first match decides.
//!
//! A snapshot like the forwarding tables: built outside the packet path, swapped in
//! between bursts (RFC 4301 section 4.4.1).

use alloc::vec::Vec;
use xswan_esp::selector::{AddressRange, Family, Flow, PortRange, Selector};
use xswan_wire::layers;

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
    /// Through this SA; without one, traffic is dropped and an acquire is due.
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
}

/// The ordered policies and, by child, what its inbound SAs may carry.
#[derive(Clone, Debug, Default)]
pub struct Spd {
    rows: Vec<Policy>,
    inbound: Vec<(u32, Selector)>,
}

impl Spd {
    /// Takes the policies in their order.
    #[must_use]
    pub fn new(rows: Vec<Policy>) -> Self {
        let mut inbound: Vec<_> = rows
            .iter()
            .filter(|row| matches!(row.action, Action::Protect(_)))
            .map(|row| (row.child, row.selector.reversed()))
            .collect();
        let admitting = rows.iter().filter(|row| row.icmp);
        inbound.extend(admitting.flat_map(|row| icmp_errors().map(|selector| (row.child, selector))));
        inbound.sort_by_key(|&(child, _)| child);
        Self { rows, inbound }
    }

    /// The policy for a packet that leaves the protected side.
    #[inline]
    #[must_use]
    pub fn outbound(&self, flow: &Flow) -> Option<&Policy> {
        self.rows.iter().find(|row| row.selector.matches(flow))
    }

    /// The policy for a packet that arrived in clear from the untrusted side.
    #[must_use]
    pub fn inbound_clear(&self, flow: &Flow) -> Option<&Policy> {
        self.rows.iter().find(|row| row.selector.reversed().matches(flow))
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

/// ICMP errors of either family, from anywhere to anywhere: routers on the far side that
/// report on the tunnel's traffic are not inside its selectors.
fn icmp_errors() -> impl Iterator<Item = Selector> {
    let of = |family, protocol, kinds: core::ops::RangeInclusive<u16>| {
        let ports = PortRange { first: kinds.start() << 8, last: (kinds.end() << 8) | 0xff };
        let any = AddressRange::any(family);
        Selector {
            protocol,
            source_ports: ports,
            destination_ports: ports,
            ..Selector::addresses(any, any)
        }
    };
    [
        of(Family::V4, layers::ICMP, 3..=3),
        of(Family::V4, layers::ICMP, 11..=12),
        of(Family::V6, layers::ICMPV6, 1..=4),
    ]
    .into_iter()
}
