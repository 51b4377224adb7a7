#![no_main]
//! See `bodies/decap.rs`.

#[path = "../bodies/decap.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| body::run(bytes));
