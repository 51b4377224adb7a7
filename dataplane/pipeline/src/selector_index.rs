//! Which of an ordered list of selectors is the first to match, without asking them all.
//!
//! Selectors are boxes of five dimensions: both addresses, protocol, both ports. One dimension
//! is cut where any range begins or ends; a piece leads to the chain of ranges around it, each
//! with the selectors that have it. Prefixes lie within each other or apart, so each selector
//! is in one place and a chain is no longer than a prefix; ranges that overlap otherwise are
//! cut as a segment tree does, and a chain has the logarithm of their number. Where more than
//! a few selectors share a range, the next dimension divides them, and so on: a look-up costs
//! a product of logarithms in those dimensions alone in which selectors overlap, which is
//! one of them where peers have networks of their own.
//!
//! The index only leaves out what cannot match: every candidate is compared in full, and the
//! order of the list decides. What an earlier selector with the same ranges hides is left out
//! when the index is made. Memory is bounded: ranges that are no prefixes and overlap in several
//! dimensions at once may be asked one by one in the end (`PLACES_PER_ROW`).

use alloc::vec::Vec;
use xswan_esp::selector::{Family, Flow};
use xswan_wire::layers::Addresses;

mod build;

pub(crate) use build::Purpose;

/// No node, no row.
const NONE: u32 = u32::MAX;

/// What is divided by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dimension {
    Destination,
    Source,
    Protocol,
    DestinationPort,
    SourcePort,
}

/// Coordinate of packets whose ports cannot be seen: above all ports.
const NO_PORT: u32 = 0x1_0000;

/// A packet's place. Addresses of IPv4 are the low 32 bits.
struct Point {
    destination: u128,
    source: u128,
    protocol: u32,
    destination_port: u32,
    source_port: u32,
}

impl Point {
    fn of(flow: &Flow) -> (Family, Self) {
        let (family, source, destination) = match flow.addresses {
            Addresses::V4 { source, destination } => (
                Family::V4,
                u32::from_be_bytes(source).into(),
                u32::from_be_bytes(destination).into(),
            ),
            Addresses::V6 { source, destination } => {
                (Family::V6, u128::from_be_bytes(source), u128::from_be_bytes(destination))
            }
        };
        let (source_port, destination_port) =
            flow.ports.map_or((NO_PORT, NO_PORT), |(from, to)| (from.into(), to.into()));
        let protocol = flow.protocol.into();
        (family, Self { destination, source, protocol, destination_port, source_port })
    }

    #[inline(always)]
    const fn wide(&self, dimension: Dimension) -> u128 {
        match dimension {
            Dimension::Destination => self.destination,
            Dimension::Source => self.source,
            Dimension::Protocol => self.protocol as u128,
            Dimension::DestinationPort => self.destination_port as u128,
            Dimension::SourcePort => self.source_port as u128,
        }
    }
}

/// Selectors that a node or the root leads to.
#[derive(Clone, Copy, Debug)]
enum Content {
    /// These rows, in order: where they are in `rows`.
    List { begin: u32, end: u32 },
    /// A division by another dimension.
    Tree(u32),
}

/// One range with the selectors that have it.
#[derive(Clone, Copy, Debug)]
struct Node {
    /// The next range around it, or [`NONE`].
    parent: u32,
    /// The first of its rows.
    first_row: u32,
    content: Content,
}

/// The pieces of one dimension, in `narrow` or `wide`.
#[derive(Clone, Copy, Debug)]
struct Tree {
    dimension: Dimension,
    is_wide: bool,
    begin: u32,
    end: u32,
}

/// Pieces: where each begins, and the innermost node around it.
#[derive(Clone, Debug, Default)]
struct Pieces<T> {
    starts: Vec<T>,
    nodes: Vec<u32>,
}

impl<T: Ord + Copy> Pieces<T> {
    #[inline]
    fn node_at(&self, tree: &Tree, coordinate: T) -> u32 {
        let (begin, end) = (tree.begin as usize, tree.end as usize);
        let starts = self.starts.get(begin..end).unwrap_or_default();
        let after = starts.partition_point(|start| *start <= coordinate);
        match after.checked_sub(1) {
            Some(piece) => self.nodes.get(begin.wrapping_add(piece)).copied().unwrap_or(NONE),
            None => NONE,
        }
    }
}

/// The index of one list, both families.
#[derive(Clone, Debug)]
pub(crate) struct SelectorIndex {
    v4: Content,
    v6: Content,
    trees: Vec<Tree>,
    nodes: Vec<Node>,
    narrow: Pieces<u32>,
    wide: Pieces<u128>,
    rows: Vec<u32>,
}

impl Default for SelectorIndex {
    fn default() -> Self {
        let nothing = Content::List { begin: 0, end: 0 };
        Self {
            v4: nothing,
            v6: nothing,
            trees: Vec::new(),
            nodes: Vec::new(),
            narrow: Pieces::default(),
            wide: Pieces::default(),
            rows: Vec::new(),
        }
    }
}

impl SelectorIndex {
    /// The first row around the flow that `accept` takes; `accept` is asked with rows that may
    /// match, few of them, in no order.
    #[inline]
    pub(crate) fn first(&self, flow: &Flow, accept: impl Fn(u32) -> bool) -> Option<u32> {
        let (family, point) = Point::of(flow);
        let root = match family {
            Family::V4 => self.v4,
            Family::V6 => self.v6,
        };
        let mut best = NONE;
        self.search(root, &point, &mut best, &accept);
        (best != NONE).then_some(best)
    }

    /// Lowers `best` to the first row of `content` that is accepted, if that is before it.
    fn search(
        &self,
        content: Content,
        point: &Point,
        best: &mut u32,
        accept: &impl Fn(u32) -> bool,
    ) {
        match content {
            Content::List { begin, end } => {
                let rows = self.rows.get(begin as usize..end as usize).unwrap_or_default();
                let before = rows.iter().take_while(|row| **row < *best);
                if let Some(row) = before.copied().find(|row| accept(*row)) {
                    *best = row;
                }
            }
            Content::Tree(tree) => {
                let Some(tree) = self.trees.get(tree as usize) else { return };
                let mut at = self.innermost(tree, point);
                while let Some(node) = self.nodes.get(at as usize) {
                    if node.first_row < *best {
                        self.search(node.content, point, best, accept);
                    }
                    at = node.parent;
                }
            }
        }
    }

    #[inline]
    fn innermost(&self, tree: &Tree, point: &Point) -> u32 {
        let coordinate = point.wide(tree.dimension);
        if tree.is_wide {
            return self.wide.node_at(tree, coordinate);
        }
        u32::try_from(coordinate).map_or(NONE, |narrow| self.narrow.node_at(tree, narrow))
    }

    /// Octets of memory.
    pub(crate) fn memory(&self) -> usize {
        size_of_val(self.trees.as_slice())
            .saturating_add(size_of_val(self.nodes.as_slice()))
            .saturating_add(size_of_val(self.narrow.starts.as_slice()))
            .saturating_add(size_of_val(self.narrow.nodes.as_slice()))
            .saturating_add(size_of_val(self.wide.starts.as_slice()))
            .saturating_add(size_of_val(self.wide.nodes.as_slice()))
            .saturating_add(size_of_val(self.rows.as_slice()))
    }
}

#[cfg(test)]
#[path = "selector_index_tests.rs"]
mod tests;
