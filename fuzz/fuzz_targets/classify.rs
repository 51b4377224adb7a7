#![no_main]
//! See `bodies/classify.rs`.

#[path = "../bodies/classify.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| body::run(bytes));
