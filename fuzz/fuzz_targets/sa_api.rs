#![no_main]
//! See `bodies/sa_api.rs`.

#[path = "../bodies/sa_api.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| body::run(bytes));
