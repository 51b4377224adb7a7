//! The codec from outside: catalogue cases, round trips, and two other implementations.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]
#![expect(clippy::wildcard_enum_match_arm, reason = "a test names the payloads it is about")]

#[path = "wire/contents.rs"]
mod contents;
#[path = "wire/display.rs"]
mod display;
#[path = "wire/framing.rs"]
mod framing;
#[path = "wire/ipsec_parser.rs"]
mod other_parser;
#[path = "wire/protection.rs"]
mod protection;
#[path = "wire/round_trip.rs"]
mod round_trip;
#[path = "wire/scapy.rs"]
mod scapy;
#[path = "wire/strategies.rs"]
mod strategies;

use xswan_ikev2::wire::{ExchangeType, Flags, Header};

const SPI_I: u64 = 0x0102_0304_0506_0708;
const SPI_R: u64 = 0x1112_1314_1516_1718;

/// A header of a request inside an SA.
const fn header(exchange: ExchangeType) -> Header {
    Header::new(SPI_I, SPI_R, exchange, Flags::INITIATOR_REQUEST, 1)
}

/// Generic header and body, put in front of what follows.
fn raw_payload(next: u8, flags: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len() + 4).unwrap().to_be_bytes();
    [&[next, flags][..], &length, body].concat()
}

/// A message of a first payload type and a chain, with the right length.
fn raw_message(exchange: ExchangeType, first: u8, chain: &[u8]) -> Vec<u8> {
    let length = u32::try_from(28 + chain.len()).unwrap();
    let header =
        Header { first: xswan_ikev2::wire::PayloadType(first), length, ..header(exchange) };
    [&header.emit()[..], chain].concat()
}
