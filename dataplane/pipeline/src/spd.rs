//! The security policy database as workers read it: ordered, first match decides.
//!
//! A snapshot like the forwarding tables: built outside the packet path, swapped in
//! between bursts (RFC 4301 section 4.4.1).

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering};
use xswan_esp::selector::{AddressRange, Family, Flow, PortRange, Selector};
use xswan_wire::DropReason;
use xswan_wire::ipv6::{DESTINATION_OPTIONS, HOP_BY_HOP, ROUTING};
use xswan_wire::layers;

use crate::selector_index::{Purpose, SelectorIndex};

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
    /// Action and child by row: what a packet needs of a policy, close together.
    actions: Vec<(Action, u32)>,
    lookup: Arc<Lookup>,
}

/// What depends on the selectors alone, and is shared by editions that differ in actions.
#[derive(Debug, Default)]
struct Lookup {
    packets: SelectorIndex,
    /// `None` if no row selects by more than addresses: then fragments are packets like others.
    fragments: Option<SelectorIndex>,
    /// Children in order, each with the place of its first selector in `inbound`.
    children: Vec<(u32, u32)>,
    inbound: Vec<Selector>,
    edition: u32,
}

impl Lookup {
    fn new(rows: &[Policy]) -> Self {
        let selectors: Vec<_> = rows.iter().map(|row| row.selector).collect();
        let by_more = |one: &Selector| one.protocol != 0 || one.selects_ports();
        let fragments = selectors.iter().any(by_more);
        let fragments = fragments.then(|| SelectorIndex::new(&selectors, Purpose::Fragments));
        let packets = SelectorIndex::new(&selectors, Purpose::WholePackets);

        let protected = || rows.iter().filter(|row| matches!(row.action, Action::Protect(_)));
        let mut inbound: Vec<_> =
            protected().map(|row| (row.child, row.selector.reversed())).collect();
        let admitting = protected().filter(|row| row.icmp);
        inbound.extend(
            admitting.flat_map(|row| icmp_errors(&row.selector).map(|error| (row.child, error))),
        );
        inbound.sort_by_key(|&(child, _)| child);
        let mut children: Vec<(u32, u32)> = Vec::new();
        for (place, &(child, _)) in (0..).zip(&inbound) {
            if children.last().is_none_or(|&(last, _)| last != child) {
                children.push((child, place));
            }
        }
        let inbound = inbound.into_iter().map(|(_, selector)| selector).collect();
        static EDITIONS: AtomicU32 = AtomicU32::new(1);
        let edition = EDITIONS.fetch_add(1, Ordering::Relaxed);
        Self { packets, fragments, children, inbound, edition }
    }

    /// Whether rows that follow each other may share what was made for the first.
    fn serves(old: &[Policy], new: &[Policy]) -> bool {
        let alike = |(old, new): (&Policy, &Policy)| {
            let protects = |row: &Policy| matches!(row.action, Action::Protect(_));
            (old.selector, old.child, old.icmp, protects(old))
                == (new.selector, new.child, new.icmp, protects(new))
        };
        old.len() == new.len() && old.iter().zip(new).all(alike)
    }
}

impl Spd {
    /// Takes the policies in their order.
    #[must_use]
    pub fn new(rows: Vec<Policy>) -> Self {
        let lookup = Arc::new(Lookup::new(&rows));
        Self::with(rows, lookup)
    }

    fn with(rows: Vec<Policy>, lookup: Arc<Lookup>) -> Self {
        let actions = rows.iter().map(|row| (row.action, row.child)).collect();
        Self { rows, actions, lookup }
    }

    /// The edition after this one. Where it differs in nothing but the SAs that protect, as
    /// after a rekeying, what was made to look up is used again.
    #[must_use]
    pub fn next_edition(&self, rows: Vec<Policy>) -> Self {
        if Lookup::serves(&self.rows, &rows) {
            return Self::with(rows, Arc::clone(&self.lookup));
        }
        Self::new(rows)
    }

    /// The policy for a packet that leaves the protected side.
    ///
    /// # Errors
    /// [`DropReason::InnerFragment`] for a fragment that a policy might select by its ports,
    /// which cannot be seen: the next policy might let out in clear what this one protects
    /// (RFC 4301 section 7).
    #[inline]
    pub fn outbound(&self, flow: &Flow) -> Result<Option<&Policy>, DropReason> {
        Ok(self.outbound_row(flow)?.and_then(|row| self.rows.get(row as usize)))
    }

    /// As [`Spd::outbound`], the row's number.
    pub(crate) fn outbound_row(&self, flow: &Flow) -> Result<Option<u32>, DropReason> {
        let row = |row: u32| self.rows.get(row as usize);
        match &self.lookup.fragments {
            Some(index) if flow.is_fragment => {
                let possible = |at| row(at).is_some_and(|row| might_match(&row.selector, flow));
                let Some(first) = index.first(flow, possible) else { return Ok(None) };
                match row(first) {
                    Some(row) if row.selector.matches(flow) => Ok(Some(first)),
                    Some(_) => Err(DropReason::InnerFragment),
                    None => Ok(None),
                }
            }
            Some(_) | None => {
                let matches = |at| row(at).is_some_and(|row| row.selector.matches(flow));
                Ok(self.lookup.packets.first(flow, matches))
            }
        }
    }

    /// Action and child of a row; `None` for no row.
    #[inline(always)]
    pub(crate) fn action(&self, row: u32) -> Option<(Action, u32)> {
        self.actions.get(row as usize).copied()
    }

    /// Differs from that of any other edition that selects otherwise, empty ones apart.
    #[inline(always)]
    pub(crate) fn edition(&self) -> u32 {
        self.lookup.edition
    }

    /// The policy for a packet that arrived in clear from the untrusted side.
    ///
    /// # Errors
    /// As [`Spd::outbound`].
    pub fn inbound_clear(&self, flow: &Flow) -> Result<Option<&Policy>, DropReason> {
        self.outbound(&flow.reversed())
    }

    /// What an SA of `child` may carry, in the direction of received packets
    /// (RFC 4301 section 5.2, step 4).
    #[inline]
    pub fn inbound_selectors(&self, child: u32) -> impl Iterator<Item = &Selector> {
        let children = &self.lookup.children;
        let first = children.partition_point(|&(of, _)| of < child);
        let begin = children.get(first).filter(|(of, _)| *of == child).map(|(_, begin)| *begin);
        let end = children.get(first.saturating_add(1)).map(|(_, end)| *end as usize);
        let all = &self.lookup.inbound;
        let own = begin.and_then(|begin| all.get(begin as usize..end.unwrap_or(all.len())));
        own.unwrap_or_default().iter()
    }

    /// The rows, for display.
    #[must_use]
    pub fn rows(&self) -> &[Policy] {
        &self.rows
    }

    /// Octets of memory that look-ups need beside the rows.
    #[must_use]
    pub fn index_memory(&self) -> usize {
        let fragments = self.lookup.fragments.as_ref().map_or(0, SelectorIndex::memory);
        self.lookup.packets.memory().saturating_add(fragments)
    }
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
#[path = "spd_tests.rs"]
mod tests;
