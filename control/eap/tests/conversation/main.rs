//! Whole conversations: our client with our server, and either with somebody hostile.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]
#![forbid(unsafe_code)]

mod certificates;
mod exchange;
mod hostile;
mod mschapv2;
mod tls;
