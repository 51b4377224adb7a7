//! What the decision looks up: maps in the kernel, plain collections in tests.

use crate::abi::{PrefixValue, SteerConfig};

/// The steering tables, as they are at the moment of the question.
pub trait Tables {
    /// The configuration, or `None` if there is none.
    fn config(&self) -> Option<SteerConfig>;

    /// Whether this is a local outer address; IPv4 as v4-mapped ([`v4_mapped`]).
    fn is_outer(&self, address: &[u8; 16]) -> bool;

    /// The worker of an SPI that was given from outside; network order.
    fn static_spi(&self, spi: [u8; 4]) -> Option<u32>;

    /// The longest prefix that holds this IPv4 address.
    fn prefix4(&self, address: [u8; 4]) -> Option<PrefixValue>;

    /// The longest prefix that holds this IPv6 address.
    fn prefix6(&self, address: [u8; 16]) -> Option<PrefixValue>;
}

/// An IPv4 address as IPv6 (RFC 4291 section 2.5.5.2), as `steer_outer` keeps it.
#[inline(always)]
#[must_use]
pub const fn v4_mapped(address: [u8; 4]) -> [u8; 16] {
    let [a, b, c, d] = address;
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d]
}
