//! Established IKE SAs: two cores, and the order of everything between them chosen by the test.

mod collisions;
mod informational;
mod liveness;
mod pair;
mod rekeying;
mod snapshot;
