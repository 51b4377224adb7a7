//! An edition of the policies on its way from the shared table to the workers.
//!
//! The table is read once for an edition, however long its SAs are waited for.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use xswan_esp::selector::{AddressRange, Family, PortRange, Selector};
use xswan_pipeline::spd::{Action, Policy, SaHandle};
use xswan_sa_api::{PolicyAction, PolicyRow, SharedMaps};

/// How long an edition of the policies waits for the SAs it names: workers take in an SA within
/// milliseconds, and one that does not is not going to.
pub(super) const AWAITED_LIMIT: Duration = Duration::from_secs(1);

/// Where an outbound SA is with its worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// In use, or nothing that will be: there is nothing to wait for.
    Done,
    /// Ordered, or about to be.
    UnderWay,
}

/// The edition that is waited for.
#[derive(Debug)]
pub(super) struct Awaited {
    pub(super) since: Instant,
    read: Option<Edition>,
}

#[derive(Debug)]
struct Edition {
    generation: u64,
    rows: Vec<PolicyRow>,
    /// Outbound slots that are named and were not in use when last asked.
    missing: Vec<u32>,
}

impl Awaited {
    pub(super) fn new() -> Self {
        Self { since: Instant::now(), read: None }
    }

    /// The same since earlier, to be read again.
    pub(super) const fn again(since: Instant) -> Self {
        Self { since, read: None }
    }

    /// Whether it has waited for long enough.
    pub(super) fn is_overdue(&self) -> bool {
        self.since.elapsed() > AWAITED_LIMIT
    }

    /// Whether every SA that the newest edition names is in use. False if it cannot be read now.
    pub(super) fn is_ready(
        &mut self,
        maps: &SharedMaps,
        progress: impl Fn(u32) -> Progress,
    ) -> bool {
        if self.read.as_ref().is_none_or(|read| read.generation != maps.policies_generation()) {
            self.read = maps.read_policies().ok().map(|(generation, rows)| {
                let named: BTreeSet<u32> =
                    rows.iter().filter_map(|row| row.outbound_slot).collect();
                Edition { generation, rows, missing: named.into_iter().collect() }
            });
        }
        let Some(read) = &mut self.read else { return false };
        read.missing.retain(|slot| progress(*slot) == Progress::UnderWay);
        read.missing.is_empty()
    }

    /// The rows as last read, or as they can be read now.
    pub(super) fn into_rows(self, maps: &SharedMaps) -> Option<(u64, Vec<PolicyRow>)> {
        match self.read {
            Some(read) => Some((read.generation, read.rows)),
            None => maps.read_policies().ok(),
        }
    }
}

/// A row as workers read it; `owner` says which worker has the SA of an outbound slot.
pub(super) fn policy(row: &PolicyRow, owner: impl Fn(u32) -> Option<u32>) -> Policy {
    let action = match row.action {
        PolicyAction::Protect => Action::Protect(
            row.outbound_slot.and_then(|slot| Some(SaHandle { slot, worker: owner(slot)? })),
        ),
        PolicyAction::Bypass => Action::Bypass,
        PolicyAction::Discard => Action::Discard,
    };
    let range = |range: &xswan_sa_api::AddressRange| AddressRange {
        family: if range.ipv6 { Family::V6 } else { Family::V4 },
        first: range.first,
        last: range.last,
    };
    let ports =
        |ports: &xswan_sa_api::PortRange| PortRange { first: ports.first, last: ports.last };
    let selector = Selector {
        source: range(&row.local),
        destination: range(&row.remote),
        protocol: row.protocol,
        source_ports: ports(&row.local_ports),
        destination_ports: ports(&row.remote_ports),
    };
    Policy { selector, action, child: row.child, icmp: row.icmp, hold: row.hold }
}
