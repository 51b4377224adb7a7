//! Established IKE SAs: two cores, and the order of everything between them chosen by the test.
#![expect(clippy::unwrap_used, reason = "the helpers of a test fail as it does")]

mod collisions;
mod informational;
mod liveness;
mod mobike;
mod pair;
mod rekeying;
mod snapshot;
