//! The engine from outside: frames in, frames out, every packet and every buffer accounted for.
//!
//! What comes in is built by the testkit, whose headers, checksums and ESP are its own.

mod gateway;
mod rings;

mod gateways;
mod hostile;
mod inbound;
mod lifetime;
mod mtu;
mod nesting;
mod onward;
mod originate;
mod outbound;
mod replay;
