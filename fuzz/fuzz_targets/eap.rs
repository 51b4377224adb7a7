#![no_main]
//! See `bodies/eap.rs`.

#[path = "../bodies/eap.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| body::run(bytes));
