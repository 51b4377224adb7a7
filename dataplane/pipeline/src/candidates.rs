//! Which rows of an ordered list can match an address, without asking them all.
//!
//! Rows name address ranges that may overlap in any way, and the first that matches decides,
//! so a longest-prefix look-up would find the wrong one. Instead the addresses are cut where
//! any range begins or ends; within a piece the same rows apply, listed in their order. A
//! look-up is one binary search and a short list.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use xswan_esp::selector::{AddressRange, Family};

/// Up to so many rows asking them all is faster.
const FEW: usize = 8;
/// Entries of the lists together at most, for each row: where ranges overlap so much that it
/// takes more, memory would grow with the square of the rows, and they are all asked instead.
const ENTRIES_PER_ROW: usize = 32;

/// The pieces of both families.
#[derive(Clone, Debug, Default)]
pub(crate) struct Candidates {
    v4: Option<Pieces>,
    v6: Option<Pieces>,
}

/// The pieces of one family.
#[derive(Clone, Debug, Default)]
struct Pieces {
    /// First address of each piece, in order.
    starts: Vec<u128>,
    /// Where the list of each piece ends in `rows`; it begins where the one before ends.
    ends: Vec<usize>,
    rows: Vec<u32>,
}

impl Candidates {
    /// Over the range of each row, in the order of the rows.
    pub(crate) fn new(ranges: impl ExactSizeIterator<Item = AddressRange> + Clone) -> Self {
        let of = |family| {
            let rows = ranges.clone().enumerate().filter(move |(_, range)| range.family == family);
            Pieces::new(rows, ranges.len().saturating_mul(ENTRIES_PER_ROW))
        };
        if ranges.len() <= FEW {
            return Self::default();
        }
        Self { v4: of(Family::V4), v6: of(Family::V6) }
    }

    /// The rows that can match an address, in their order; `None` if all must be asked.
    #[inline]
    pub(crate) fn of(&self, family: Family, address: u128) -> Option<&[u32]> {
        let pieces = match family {
            Family::V4 => self.v4.as_ref(),
            Family::V6 => self.v6.as_ref(),
        };
        pieces.map(|pieces| pieces.at(address))
    }
}

impl Pieces {
    /// `None` if the lists would have more entries than `limit`.
    fn new(rows: impl Iterator<Item = (usize, AddressRange)>, limit: usize) -> Option<Self> {
        let mut changes: BTreeMap<u128, Vec<(u32, bool)>> = BTreeMap::new();
        for (row, range) in rows.filter(|(_, range)| range.first <= range.last) {
            let row = u32::try_from(row).ok()?;
            changes.entry(range.first).or_default().push((row, true));
            if let Some(after) = range.last.checked_add(1) {
                changes.entry(after).or_default().push((row, false));
            }
        }
        let mut pieces = Self::default();
        let mut open = BTreeSet::new();
        for (start, changed) in changes {
            for (row, begins) in changed {
                if begins {
                    open.insert(row);
                } else {
                    open.remove(&row);
                }
            }
            pieces.starts.push(start);
            pieces.rows.extend(&open);
            pieces.ends.push(pieces.rows.len());
            if pieces.rows.len() > limit {
                return None;
            }
        }
        Some(pieces)
    }

    #[inline]
    fn at(&self, address: u128) -> &[u32] {
        let after = self.starts.partition_point(|&start| start <= address);
        let Some(piece) = after.checked_sub(1) else { return &[] };
        let before = piece.checked_sub(1).and_then(|before| self.ends.get(before));
        let (begin, end) = (before.copied().unwrap_or(0), self.ends.get(piece).copied());
        end.and_then(|end| self.rows.get(begin..end)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::{Candidates, FEW};
    use alloc::vec;
    use alloc::vec::Vec;
    use proptest::prelude::*;
    use xswan_esp::selector::{AddressRange, Family};

    #[test]
    fn ranges_that_all_overlap_are_asked_one_by_one() {
        let range = |n: u128| AddressRange { family: Family::V4, first: n, last: 10_000 - n };
        let nested: Vec<_> = (0..1000).map(range).collect();
        assert_eq!(Candidates::new(nested.iter().copied()).of(Family::V4, 5), None);
        let few = vec![range(0); FEW];
        assert_eq!(Candidates::new(few.into_iter()).of(Family::V4, 5), None);
    }

    #[test]
    fn the_ends_of_a_family() {
        let any = AddressRange::any(Family::V6);
        let last = AddressRange { first: u128::MAX, ..any };
        let mut ranges = vec![any; 5];
        ranges.extend(vec![last; 5]);
        let candidates = Candidates::new(ranges.into_iter());
        assert_eq!(candidates.of(Family::V6, 0), Some(&[0, 1, 2, 3, 4][..]));
        assert_eq!(candidates.of(Family::V6, u128::MAX).map(<[u32]>::len), Some(10));
        assert_eq!(candidates.of(Family::V4, 0), Some(&[][..]));
    }

    proptest! {
        #[test]
        fn candidates_are_the_rows_around_the_address(
            raw in proptest::collection::vec((any::<bool>(), 0_u128..40, 0_u128..12), 9..40),
        ) {
            let ranges: Vec<_> = raw.iter().map(|&(v6, first, more)| {
                // Some end before they begin: those hold nothing.
                let family = if v6 { Family::V6 } else { Family::V4 };
                AddressRange { family, first, last: (first + more).saturating_sub(2) }
            }).collect();
            let candidates = Candidates::new(ranges.iter().copied());
            for family in [Family::V4, Family::V6] {
                for address in 0..60_u128 {
                    let expected: Vec<u32> = (0..).zip(&ranges)
                        .filter(|(_, range)| range.family == family
                            && range.first <= address && address <= range.last)
                        .map(|(row, _)| row)
                        .collect();
                    prop_assert_eq!(candidates.of(family, address), Some(&expected[..]));
                }
            }
        }
    }
}
