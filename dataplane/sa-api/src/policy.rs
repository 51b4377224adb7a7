//! The policy table: the SPD of RFC 4301 section 4.4.1 in order, first match decides.
//!
//! One sequence lock for the whole table: a reader gets all rows of one edition or none.

use crate::algorithm::codec;
use crate::mapping::Mapping;
use crate::record::{read_locked, write_locked};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

/// Words of a row; the first row of the map is the head.
pub(crate) const ROW_WORDS: usize = 12;
const GENERATION: usize = 0;
const COUNT: usize = 1;
/// The head's acknowledgement, on the head's other cache line.
const APPLIED: usize = 8;
/// Slot number of "no SA".
const NO_SLOT: u32 = u32::MAX;

/// What is done with traffic that a row selects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PolicyAction {
    /// Protected by ESP, or dropped if there is no SA.
    Protect,
    /// Left in clear.
    Bypass,
    /// Dropped.
    Discard,
}

/// Addresses from first to last, both of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressRange {
    /// IPv6 rather than IPv4; IPv4 addresses are the low 32 bits.
    pub ipv6: bool,
    /// First address, as a number.
    pub first: u128,
    /// Last address, as a number, not below the first.
    pub last: u128,
}

/// Ports from first to last, or ICMP type and code as IKEv2 puts them (RFC 7296 section 3.13.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortRange {
    /// First port.
    pub first: u16,
    /// Last port, not below the first.
    pub last: u16,
}

impl PortRange {
    /// Every port, and packets that have none.
    pub const ANY: Self = Self { first: 0, last: u16::MAX };
}

/// One row, as seen outbound: from the local side to the remote side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PolicyRow {
    /// What is done.
    pub action: PolicyAction,
    /// The child that the row belongs to.
    pub child: u32,
    /// Addresses on our side.
    pub local: AddressRange,
    /// Addresses on the peer's side, of the same family.
    pub remote: AddressRange,
    /// IP protocol; 0 is any.
    pub protocol: u8,
    /// Ports on our side.
    pub local_ports: PortRange,
    /// Ports on the peer's side.
    pub remote_ports: PortRange,
    /// Slot in `sa_out` for [`PolicyAction::Protect`]; `None`: not there yet.
    pub outbound_slot: Option<u32>,
    /// Let ICMP errors through whose addresses are outside the ranges.
    pub icmp: bool,
    /// While there is no SA, hold a few packets for it instead of dropping them: a trap. Only
    /// where somebody answers [`crate::Event::Acquire`], or they are held for nothing.
    pub hold: bool,
}

/// The table was being written, or its writer died: keep the edition that was applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Torn;

impl fmt::Display for Torn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the policy table is being written")
    }
}

impl std::error::Error for Torn {}

type Row = [u64; ROW_WORDS];

fn split(value: u128) -> [u64; 2] {
    [(value >> 64) as u64, value as u64]
}

fn join(high: u64, low: u64) -> u128 {
    (u128::from(high) << 64) | u128::from(low)
}

impl PolicyRow {
    fn to_words(self) -> Row {
        let action = match self.action {
            PolicyAction::Protect => 1,
            PolicyAction::Bypass => 2,
            PolicyAction::Discard => 3,
        };
        let flags =
            u8::from(self.local.ipv6) | (u8::from(self.icmp) << 1) | (u8::from(self.hold) << 2);
        let [lf0, lf1] = split(self.local.first);
        let [ll0, ll1] = split(self.local.last);
        let [rf0, rf1] = split(self.remote.first);
        let [rl0, rl1] = split(self.remote.last);
        let (local, remote) = (self.local_ports, self.remote_ports);
        [
            codec::pack8([action, self.protocol, flags, 0, 0, 0, 0, 0]),
            codec::pack32(self.child, self.outbound_slot.unwrap_or(NO_SLOT)),
            codec::pack16(local.first, local.last, remote.first, remote.last),
            0,
            lf0,
            lf1,
            ll0,
            ll1,
            rf0,
            rf1,
            rl0,
            rl1,
        ]
    }

    /// `None` for a row that makes no sense; the reader turns it into a discard of everything.
    fn from_words(words: Row) -> Option<Self> {
        let [kind, ids, ports, _, lf0, lf1, ll0, ll1, rf0, rf1, rl0, rl1] = words;
        let [action, protocol, flags, ..] = kind.to_le_bytes();
        let action = match action {
            1 => PolicyAction::Protect,
            2 => PolicyAction::Bypass,
            3 => PolicyAction::Discard,
            _ => return None,
        };
        let ipv6 = flags & 1 == 1;
        let (child, slot) = codec::unpack32(ids);
        let [local_first, local_last, remote_first, remote_last] = codec::unpack16(ports);
        let range = |first, last| {
            let fits = first <= last && (ipv6 || last <= u128::from(u32::MAX));
            fits.then_some(AddressRange { ipv6, first, last })
        };
        Some(Self {
            action,
            child,
            local: range(join(lf0, lf1), join(ll0, ll1))?,
            remote: range(join(rf0, rf1), join(rl0, rl1))?,
            protocol,
            local_ports: PortRange { first: local_first, last: local_last },
            remote_ports: PortRange { first: remote_first, last: remote_last },
            outbound_slot: (slot != NO_SLOT).then_some(slot),
            icmp: flags & 2 == 2,
            hold: flags & 4 == 4,
        })
    }

    /// Drops everything of one family: what stands for a row that cannot be read.
    fn discard_all(ipv6: bool) -> Self {
        let last = if ipv6 { u128::MAX } else { u128::from(u32::MAX) };
        let all = AddressRange { ipv6, first: 0, last };
        Self {
            action: PolicyAction::Discard,
            child: u32::MAX,
            local: all,
            remote: all,
            protocol: 0,
            local_ports: PortRange::ANY,
            remote_ports: PortRange::ANY,
            outbound_slot: None,
            icmp: false,
            hold: false,
        }
    }
}

fn head(mapping: &Mapping, position: usize) -> Option<&AtomicU64> {
    mapping.record(0)?.get(position)
}

/// Writes the table; false if there are more rows than places, and nothing is written.
pub(crate) fn publish(mapping: &Mapping, capacity: u32, rows: &[PolicyRow]) -> bool {
    let (Some(generation), Some(count)) = (head(mapping, GENERATION), head(mapping, COUNT)) else {
        return false;
    };
    if rows.len() > capacity as usize {
        return false;
    }
    write_locked(generation, || {
        count.store(rows.len() as u64, Ordering::Relaxed);
        for (index, row) in (1..).zip(rows) {
            for (to, from) in mapping.record(index).unwrap_or_default().iter().zip(row.to_words()) {
                to.store(from, Ordering::Relaxed);
            }
        }
    });
    true
}

/// Reads the table and its generation.
pub(crate) fn read(mapping: &Mapping, capacity: u32) -> Result<(u64, Vec<PolicyRow>), Torn> {
    let (Some(generation), Some(count)) = (head(mapping, GENERATION), head(mapping, COUNT)) else {
        return Ok((0, Vec::new()));
    };
    let (generation, words) = read_locked(generation, || {
        let count = count.load(Ordering::Relaxed).min(capacity.into());
        (1..)
            .zip(0..count)
            .map(|(index, _)| {
                let mut row: Row = [0; ROW_WORDS];
                for (to, from) in row.iter_mut().zip(mapping.record(index).unwrap_or_default()) {
                    *to = from.load(Ordering::Relaxed);
                }
                row
            })
            .collect::<Vec<_>>()
    })
    .ok_or(Torn)?;
    let mut rows = Vec::with_capacity(words.len());
    for row in words {
        match PolicyRow::from_words(row) {
            Some(row) => rows.push(row),
            // Fail closed: what comes after a row that cannot be read must not match.
            None => rows.extend([PolicyRow::discard_all(false), PolicyRow::discard_all(true)]),
        }
    }
    Ok((generation, rows))
}

/// The generation without the rows.
pub(crate) fn generation(mapping: &Mapping) -> u64 {
    head(mapping, GENERATION).map_or(0, |word| word.load(Ordering::Acquire))
}

/// The edition the dataplane has taken in.
pub(crate) fn applied(mapping: &Mapping) -> u64 {
    head(mapping, APPLIED).map_or(0, |word| word.load(Ordering::Acquire))
}

/// Says which edition is in use.
pub(crate) fn acknowledge(mapping: &Mapping, generation: u64) {
    if let Some(word) = head(mapping, APPLIED) {
        word.store(generation, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::Region;
    use std::sync::Arc;

    fn table(capacity: usize) -> Mapping {
        let region = Region::anonymous((capacity + 1) * ROW_WORDS).expect("memory");
        Mapping::new(Arc::new(region), ROW_WORDS)
    }

    fn row(child: u32) -> PolicyRow {
        PolicyRow {
            action: PolicyAction::Protect,
            child,
            local: AddressRange { ipv6: true, first: 1 << 100, last: (1 << 100) + 5 },
            remote: AddressRange { ipv6: true, first: 0, last: u128::MAX },
            protocol: 17,
            local_ports: PortRange { first: 1, last: 2 },
            remote_ports: PortRange::ANY,
            outbound_slot: child.is_multiple_of(2).then_some(child),
            icmp: child.is_multiple_of(3),
            hold: child.is_multiple_of(5),
        }
    }

    #[test]
    fn rows_come_back_in_order() {
        let table = table(8);
        let rows: Vec<_> = (0..8).map(row).collect();
        assert!(publish(&table, 8, &rows));
        assert_eq!(read(&table, 8), Ok((2, rows.clone())));
        assert!(!publish(&table, 8, &(0..9).map(row).collect::<Vec<_>>()));
        assert_eq!(read(&table, 8), Ok((2, rows)));
    }

    #[test]
    fn a_row_that_cannot_be_read_discards_everything_behind_it() {
        let table = table(4);
        assert!(publish(&table, 4, &[row(0), row(1)]));
        table.record(1).expect("row")[0].store(99, Ordering::Relaxed);
        let (_, rows) = read(&table, 4).expect("whole");
        assert_eq!(rows[0], PolicyRow::discard_all(false));
        assert_eq!(rows[1], PolicyRow::discard_all(true));
    }

    #[test]
    fn a_count_past_the_end_is_bounded() {
        let table = table(4);
        table.record(0).expect("head")[COUNT].store(u64::MAX, Ordering::Relaxed);
        assert_eq!(read(&table, 4).expect("whole").1.len(), 8);
    }

    #[test]
    fn a_reader_gets_one_edition_or_none() {
        let table = table(64);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for edition in 1..=5_000_u32 {
                    let rows = vec![row(edition); (edition % 64) as usize + 1];
                    assert!(publish(&table, 64, &rows));
                }
            });
            scope.spawn(|| {
                let mut last = 0;
                while last < 10_000 {
                    let Ok((generation, rows)) = read(&table, 64) else { continue };
                    assert!(generation >= last);
                    last = generation;
                    if generation > 0 {
                        let edition = (generation / 2) as u32;
                        assert_eq!(rows.len(), (edition % 64) as usize + 1);
                        assert!(rows.iter().all(|found| *found == row(edition)));
                    }
                }
            });
        });
    }
}
