//! Certificates, keys and chains, by rcgen and by OpenSSL.
#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test stops at the first surprise"
)]

mod authority;
mod chains;
mod files;
mod hostile;
mod names;
mod revocation;
