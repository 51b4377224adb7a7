//! Making the index: which dimension divides best, and pieces with their chains.

use alloc::vec;
use alloc::vec::Vec;
use core::cmp::Reverse;
use xswan_esp::selector::{AddressRange, Family, PortRange, Selector};

use super::{Content, Dimension, NO_PORT, NONE, Node, SelectorIndex, Tree};

/// Up to so many rows asking them all is faster.
const FEW: usize = 8;
/// The longest chain of ranges within each other: the prefixes of IPv6.
const LONGEST_CHAIN: usize = 130;
/// Places that segment trees may take in all, for each row: a range takes as many as twice the
/// logarithm of their number, in each dimension.
const PLACES_PER_ROW: usize = 128;

/// What the index is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Packets that show all that there is to select by.
    WholePackets,
    /// Fragments: their ports are hidden, perhaps the protocol, too.
    Fragments,
}

use Dimension::{Destination, DestinationPort, Protocol, Source, SourcePort};

/// All of them, in the order in which ranks are kept.
const DIMENSIONS: [Dimension; 5] = [Destination, Source, Protocol, DestinationPort, SourcePort];

impl Purpose {
    const fn dimensions(self) -> &'static [Dimension] {
        match self {
            Self::WholePackets => &DIMENSIONS,
            Self::Fragments => &[Destination, Source],
        }
    }

    /// Whether selectors are told apart by this at all.
    const fn distinguishes(self, dimension: Dimension) -> bool {
        match self {
            Self::WholePackets => true,
            Self::Fragments => matches!(dimension, Destination | Source | Protocol),
        }
    }
}

type Range = (u128, u128);

const fn addresses(range: &AddressRange) -> Range {
    (range.first, range.last)
}

/// Where a range of ports may match: any and opaque are for packets without ports, too, and
/// opaque is for ICMP whatever the other side's value is.
const fn ports(range: &PortRange) -> Range {
    if range.first > range.last || (range.first == 0 && range.last == u16::MAX) {
        return (0, NO_PORT as u128);
    }
    (range.first as u128, range.last as u128)
}

const fn range(selector: &Selector, dimension: Dimension) -> Range {
    match dimension {
        Destination => addresses(&selector.destination),
        Source => addresses(&selector.source),
        Protocol if selector.protocol == 0 => (0, 255),
        Protocol => (selector.protocol as u128, selector.protocol as u128),
        DestinationPort => ports(&selector.destination_ports),
        SourcePort => ports(&selector.source_ports),
    }
}

/// Opaque ports lie where any ports do and are not the same.
const fn is_opaque(selector: &Selector, dimension: Dimension) -> bool {
    match dimension {
        DestinationPort => selector.destination_ports.first > selector.destination_ports.last,
        SourcePort => selector.source_ports.first > selector.source_ports.last,
        Destination | Source | Protocol => false,
    }
}

/// The distinct ranges of one dimension in the order in which they are cut, the outer before
/// the inner. A selector's *rank* is its range's place: what is compared and sorted while the
/// index is made is four octets, not thirty-two.
struct Ranks {
    ranges: Vec<(Range, bool)>,
    of_row: Vec<u32>,
}

impl Ranks {
    fn new(selectors: &[Selector], dimension: Dimension) -> Self {
        let key = |&((first, last), opaque): &(Range, bool)| (first, Reverse(last), opaque);
        let of = |one: &Selector| (range(one, dimension), is_opaque(one, dimension));
        let mut ranges: Vec<_> = selectors.iter().map(of).collect();
        ranges.sort_unstable_by_key(key);
        ranges.dedup();
        let rank = |one| {
            let found = of(one);
            number(ranges.partition_point(|other| key(other) < key(&found)))
        };
        let of_row = selectors.iter().map(rank).collect();
        Self { ranges, of_row }
    }

    fn rank(&self, row: u32) -> u32 {
        self.of_row.get(row as usize).copied().unwrap_or(NONE)
    }

    fn range(&self, rank: u32) -> Range {
        self.ranges.get(rank as usize).map_or((1, 0), |(range, _)| *range)
    }

    fn is_opaque(&self, rank: u32) -> bool {
        self.ranges.get(rank as usize).is_some_and(|(_, opaque)| *opaque)
    }
}

/// Whether any packet can match.
fn is_possible(selector: &Selector) -> bool {
    let some = |range: &AddressRange| range.first <= range.last;
    some(&selector.source)
        && some(&selector.destination)
        && selector.source.family == selector.destination.family
}

/// How one dimension divides some rows.
struct Division {
    dimension: Dimension,
    /// Distinct ranges, by where they begin, the outer before the inner.
    ranges: Vec<Range>,
    /// Ranges around one place at most.
    depth: usize,
    /// They lie within each other or apart.
    nested: bool,
}

impl Division {
    fn new(ranks: &Ranks, rows: &[u32], dimension: Dimension) -> Self {
        let mut all: Vec<u32> = rows.iter().map(|row| ranks.rank(*row)).collect();
        all.sort_unstable();
        all.dedup();
        let mut ranges: Vec<Range> = all.into_iter().map(|rank| ranks.range(rank)).collect();
        ranges.dedup();
        let (mut open, mut depth, mut nested) = (Vec::new(), 0, true);
        for &(first, last) in &ranges {
            open.retain(|end| *end >= first);
            nested &= open.iter().all(|end| *end >= last);
            open.push(last);
            depth = depth.max(open.len());
            if depth > LONGEST_CHAIN {
                nested = false;
                break;
            }
        }
        Self { dimension, ranges, depth, nested }
    }

    /// The lower the better; `None` if it divides nothing.
    fn cost(&self) -> Option<(bool, usize)> {
        (self.ranges.len() > 1).then_some((!self.nested, self.depth))
    }
}

/// Pieces of a dimension before they are stored: first coordinate and innermost node.
type Cuts = Vec<(u128, u32)>;

struct Builder {
    /// By dimension.
    ranks: [Ranks; DIMENSIONS.len()],
    index: SelectorIndex,
    purpose: Purpose,
    family: Family,
    places_left: usize,
}

impl SelectorIndex {
    /// Over selectors in their order.
    pub(crate) fn new(selectors: &[Selector], purpose: Purpose) -> Self {
        let places_left = selectors.len().saturating_mul(PLACES_PER_ROW);
        let index = Self::default();
        let family = Family::V4;
        let ranks = DIMENSIONS.map(|dimension| Ranks::new(selectors, dimension));
        let mut builder = Builder { ranks, index, purpose, family, places_left };
        let rows = |family| -> Vec<u32> {
            let of = |(_, one): &(u32, &Selector)| is_possible(one) && one.source.family == family;
            (0_u32..).zip(selectors).filter(of).map(|(row, _)| row).collect()
        };
        let v4 = builder.content(rows(Family::V4), purpose.dimensions());
        builder.family = Family::V6;
        let v6 = builder.content(rows(Family::V6), purpose.dimensions());
        (builder.index.v4, builder.index.v6) = (v4, v6);
        builder.index
    }
}

impl Builder {
    fn ranks(&self, dimension: Dimension) -> &Ranks {
        let [destination, source, protocol, destination_port, source_port] = &self.ranks;
        match dimension {
            Destination => destination,
            Source => source,
            Protocol => protocol,
            DestinationPort => destination_port,
            SourcePort => source_port,
        }
    }

    fn content(&mut self, mut rows: Vec<u32>, dimensions: &[Dimension]) -> Content {
        if rows.len() > FEW {
            self.leave_out_hidden(&mut rows, dimensions);
        }
        if rows.len() <= FEW {
            return self.list(&rows);
        }
        let divisions = dimensions.iter().map(|one| Division::new(self.ranks(*one), &rows, *one));
        let best = divisions.filter(|one| one.cost().is_some()).min_by_key(Division::cost);
        let Some(best) = best else { return self.list(&rows) };
        let rest: Vec<_> =
            dimensions.iter().copied().filter(|one| *one != best.dimension).collect();
        let cuts = if best.nested {
            Some(self.nested(&best, &rows, &rest))
        } else {
            self.overlapping(&best, &rows, &rest)
        };
        match cuts {
            Some(cuts) => self.tree(best.dimension, &cuts),
            None => self.list(&rows),
        }
    }

    /// Of rows that differ in nothing that is still looked at, the first stays.
    fn leave_out_hidden(&self, rows: &mut Vec<u32>, dimensions: &[Dimension]) {
        let purpose = self.purpose;
        let divides = |one| purpose.dimensions().contains(&one) && !dimensions.contains(&one);
        let distinction = |dimension, row| {
            let ranks = self.ranks(dimension);
            match ranks.rank(row) {
                _ if !purpose.distinguishes(dimension) => 0,
                rank if divides(dimension) => u32::from(ranks.is_opaque(rank)),
                rank => rank,
            }
        };
        let with = |row: u32| (DIMENSIONS.map(|dimension| distinction(dimension, row)), row);
        let mut told: Vec<_> = rows.iter().map(|row| with(*row)).collect();
        told.sort_unstable();
        told.dedup_by_key(|(distinctions, _)| *distinctions);
        rows.clear();
        rows.extend(told.into_iter().map(|(_, row)| row));
        rows.sort_unstable();
    }

    fn list(&mut self, rows: &[u32]) -> Content {
        let begin = number(self.index.rows.len());
        self.index.rows.extend_from_slice(rows);
        Content::List { begin, end: number(self.index.rows.len()) }
    }

    fn tree(&mut self, dimension: Dimension, cuts: &[(u128, u32)]) -> Content {
        let is_wide = self.family == Family::V6 && matches!(dimension, Destination | Source);
        let index = &mut self.index;
        let (begin, end) = if is_wide {
            let begin = index.wide.starts.len();
            index.wide.starts.extend(cuts.iter().map(|(start, _)| *start));
            index.wide.nodes.extend(cuts.iter().map(|(_, node)| *node));
            (begin, index.wide.starts.len())
        } else {
            let begin = index.narrow.starts.len();
            // What is past the end of the dimension is no place of a packet.
            for (start, node) in cuts {
                if let Ok(start) = u32::try_from(*start) {
                    index.narrow.starts.push(start);
                    index.narrow.nodes.push(*node);
                }
            }
            (begin, index.narrow.starts.len())
        };
        let tree = Tree { dimension, is_wide, begin: number(begin), end: number(end) };
        index.trees.push(tree);
        Content::Tree(number(index.trees.len().saturating_sub(1)))
    }

    fn node(&mut self, rows: Vec<u32>, rest: &[Dimension]) -> u32 {
        let first_row = rows.first().copied().unwrap_or(NONE);
        let content = self.content(rows, rest);
        self.index.nodes.push(Node { parent: NONE, first_row, content });
        number(self.index.nodes.len().saturating_sub(1))
    }

    fn set_parent(&mut self, node: u32, parent: u32) {
        if let Some(node) = self.index.nodes.get_mut(node as usize) {
            node.parent = parent;
        }
    }

    /// Ranges within each other or apart: one node each, and a row in one of them.
    fn nested(&mut self, division: &Division, rows: &[u32], rest: &[Dimension]) -> Cuts {
        let mut groups: Vec<Vec<u32>> = vec![Vec::new(); division.ranges.len()];
        for row in rows {
            let ranks = self.ranks(division.dimension);
            let (first, last) = ranks.range(ranks.rank(*row));
            let key = (first, Reverse(last));
            let found = division.ranges.binary_search_by_key(&key, |&(a, b)| (a, Reverse(b)));
            if let Some(group) = found.ok().and_then(|at| groups.get_mut(at)) {
                group.push(*row);
            }
        }
        let mut cuts = Cuts::new();
        // Ranges around the place that is looked at: last address and node.
        let mut open: Vec<(u128, u32)> = Vec::new();
        for (&(first, last), group) in division.ranges.iter().zip(groups) {
            close(&mut open, &mut cuts, Some(first));
            let node = self.node(group, rest);
            self.set_parent(node, open.last().map_or(NONE, |(_, outer)| *outer));
            open.push((last, node));
            cut(&mut cuts, first, node);
        }
        close(&mut open, &mut cuts, None);
        cuts
    }

    /// Ranges that overlap in any way: a segment tree. `None` if it would take too many places.
    fn overlapping(
        &mut self,
        division: &Division,
        rows: &[u32],
        rest: &[Dimension],
    ) -> Option<Cuts> {
        let ends = division.ranges.iter().filter_map(|(_, last)| last.checked_add(1));
        let mut starts: Vec<u128> = division.ranges.iter().map(|(first, _)| *first).collect();
        starts.extend(ends);
        starts.sort_unstable();
        starts.dedup();
        let leaves = starts.len();
        let place = |coordinate: u128| starts.partition_point(|start| *start < coordinate);
        let mut segments: Vec<Vec<u32>> = vec![Vec::new(); leaves.saturating_mul(2)];
        let mut places = 0_usize;
        for row in rows {
            let ranks = self.ranks(division.dimension);
            let (first, last) = ranks.range(ranks.rank(*row));
            let end = last.checked_add(1).map_or(leaves, place);
            for segment in segments_of(place(first), end, leaves) {
                if let Some(list) = segments.get_mut(segment) {
                    list.push(*row);
                    places = places.saturating_add(1);
                }
            }
        }
        self.places_left = self.places_left.checked_sub(places)?;
        // From the root down, so that the next one above is known.
        let mut above = vec![NONE; segments.len()];
        for segment in 1..segments.len() {
            let outer = above.get(segment / 2).copied().unwrap_or(NONE);
            let list = segments.get_mut(segment).map(core::mem::take).unwrap_or_default();
            let node = if list.is_empty() {
                outer
            } else {
                let node = self.node(list, rest);
                self.set_parent(node, outer);
                node
            };
            if let Some(place) = above.get_mut(segment) {
                *place = node;
            }
        }
        let nodes = above.into_iter().skip(leaves);
        Some(starts.into_iter().zip(nodes).collect())
    }
}

/// The segments that make up the leaves from `first` up to but not `end`.
fn segments_of(first: usize, end: usize, leaves: usize) -> impl Iterator<Item = usize> {
    let (mut low, mut high) = (first.saturating_add(leaves), end.saturating_add(leaves));
    let mut waiting = None;
    core::iter::from_fn(move || {
        loop {
            if let Some(segment) = waiting.take() {
                return Some(segment);
            }
            if low >= high {
                return None;
            }
            let mut found = None;
            if low & 1 == 1 {
                found = Some(low);
                low = low.saturating_add(1);
            }
            if high & 1 == 1 {
                high = high.saturating_sub(1);
                if found.is_some() { waiting = Some(high) } else { found = Some(high) }
            }
            (low, high) = (low / 2, high / 2);
            if found.is_some() {
                return found;
            }
        }
    })
}

/// From here on the innermost node is this one.
fn cut(cuts: &mut Cuts, start: u128, node: u32) {
    match cuts.last_mut() {
        Some(last) if last.0 == start => last.1 = node,
        _ => cuts.push((start, node)),
    }
}

/// Ends the ranges that end before `next`, or all.
fn close(open: &mut Vec<(u128, u32)>, cuts: &mut Cuts, next: Option<u128>) {
    while let Some(&(last, _)) = open.last()
        && next.is_none_or(|next| last < next)
    {
        open.pop();
        if let Some(after) = last.checked_add(1) {
            cut(cuts, after, open.last().map_or(NONE, |(_, outer)| *outer));
        }
    }
}

/// Places are numbered in 32 bits: there are 2^20 rows at most, and what is past the end of a
/// table is not found.
fn number(position: usize) -> u32 {
    u32::try_from(position).unwrap_or(NONE)
}
