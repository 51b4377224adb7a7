//! What has to be in use before the peer is told.

use xswan_sa_api::SharedMaps;

/// What has to be in use before the peer is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Await {
    /// A record of `sa_in`.
    Inbound(u32, u64),
    /// A record of `sa_out`.
    Outbound(u32, u64),
}

/// Whether everything waited for is in use.
#[must_use]
pub fn is_applied(maps: &SharedMaps, awaited: &[Await]) -> bool {
    awaited.iter().all(|one| match *one {
        Await::Inbound(slot, generation) => maps.inbound_applied(slot, generation),
        Await::Outbound(slot, generation) => maps.outbound_applied(slot, generation),
    })
}
