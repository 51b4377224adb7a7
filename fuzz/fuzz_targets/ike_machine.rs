#![no_main]
//! See `bodies/ike_machine.rs`.

#[path = "../bodies/ike_machine.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| body::run(bytes));
