//! One file for each exchange: the RFC's diagram, the transitions, a struct for each state.

pub(crate) mod create_child_sa;
pub(crate) mod ike_auth;
pub(crate) mod ike_intermediate;
pub(crate) mod ike_sa_init;
pub(crate) mod informational;
