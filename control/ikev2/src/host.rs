//! What the core asks the shell for in the middle of an input, and gets at once.

use std::net::IpAddr;
use xswan_ike_crypto::Random;

/// The shell, as the core sees it.
pub trait Host {
    /// Unpredictable octets.
    fn random(&mut self) -> &mut dyn Random;

    /// Our address for packets to a destination, by the kernel's routes.
    fn local_address(&mut self, remote: IpAddr) -> Option<IpAddr>;

    /// An SPI for an inbound Child SA, of a slot that is kept for it. `None`: no room.
    fn reserve_spi(&mut self) -> Option<u32>;

    /// The SPI will not be used: its negotiation failed before it was installed.
    fn release_spi(&mut self, spi: u32);
}
