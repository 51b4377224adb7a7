#![no_main]
//! See `bodies/wire_layers.rs`.

#[path = "../bodies/wire_layers.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| body::run(bytes));
