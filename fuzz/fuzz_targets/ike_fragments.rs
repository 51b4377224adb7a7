#![no_main]
//! See `bodies/ike_fragments.rs`.

#[path = "../bodies/ike_fragments.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| body::run(bytes));
