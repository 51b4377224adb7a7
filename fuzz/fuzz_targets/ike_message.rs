#![no_main]
//! See `bodies/ike_message.rs`.

#[path = "../bodies/ike_message.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| body::run(bytes));
