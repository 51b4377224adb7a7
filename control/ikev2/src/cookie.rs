//! Cookies: a peer proves that it receives at its address before any state is made for it
//! (RFC 7296 section 2.6).
//!
//! ```text
//! generation of the secret 8 | HMAC-SHA-256 over address family, address, SPIi, Ni
//! ```
//!
//! The port is left out: behind a NAT it may change between two copies of a request. Nothing is
//! kept per peer. A cookie is good until the secret was replaced twice.

use core::fmt;
use core::net::IpAddr;
use xswan_ike_crypto::{constant_time_eq, hmac_sha256};
use zeroize::Zeroizing;

/// Length of a cookie in bytes; 64 are allowed.
pub const COOKIE_LEN: usize = 1 + MAC_LEN;
/// Length of the secret in bytes.
pub const SECRET_LEN: usize = 32;
/// How often the secret should be replaced, in seconds: a cookie lives for one to two such
/// periods, much longer than a round trip and too short to collect many.
pub const ROTATE_EVERY_S: u64 = 60;
const MAC_LEN: usize = 32;

struct Generation {
    number: u8,
    secret: Zeroizing<[u8; SECRET_LEN]>,
}

impl Generation {
    fn cookie(&self, claim: &Claim<'_>) -> [u8; COOKIE_LEN] {
        let mut octets = [0; 16];
        // The family says how long the address is: no claim reads as another one.
        let (family, address): (u8, &[u8]) = match claim.address.to_canonical() {
            IpAddr::V4(address) => {
                octets[..4].copy_from_slice(&address.octets());
                (4, &octets[..4])
            }
            IpAddr::V6(address) => {
                octets = address.octets();
                (6, &octets)
            }
        };
        let spi_i = claim.spi_i.to_be_bytes();
        let parts: [&[u8]; 4] = [&[self.number, family], address, &spi_i, claim.nonce];
        let mut cookie = [self.number; COOKIE_LEN];
        cookie[1..].copy_from_slice(&hmac_sha256(self.secret.as_slice(), &parts));
        cookie
    }
}

/// What a cookie binds.
#[derive(Clone, Copy, Debug)]
pub struct Claim<'a> {
    /// Where the request came from.
    pub address: IpAddr,
    /// The initiator's SPI.
    pub spi_i: u64,
    /// The initiator's nonce.
    pub nonce: &'a [u8],
}

/// Makes and knows cookies.
pub struct Cookies {
    current: Generation,
    previous: Option<Generation>,
}

impl fmt::Debug for Cookies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cookies").field("generation", &self.current.number).finish_non_exhaustive()
    }
}

impl Cookies {
    /// With a secret of random octets.
    #[must_use]
    pub fn new(secret: [u8; SECRET_LEN]) -> Self {
        Self { current: Generation { number: 0, secret: Zeroizing::new(secret) }, previous: None }
    }

    /// Replaces the secret by one of random octets. Cookies of the last one stay good, older
    /// ones do not. To be called every [`ROTATE_EVERY_S`] while cookies are asked for.
    pub fn rotate(&mut self, secret: [u8; SECRET_LEN]) {
        let number = self.current.number.wrapping_add(1);
        let next = Generation { number, secret: Zeroizing::new(secret) };
        self.previous = Some(core::mem::replace(&mut self.current, next));
    }

    /// The cookie for this peer, now.
    #[must_use]
    pub fn make(&self, claim: &Claim<'_>) -> [u8; COOKIE_LEN] {
        self.current.cookie(claim)
    }

    /// Whether this is the peer's cookie. If not, the request is to be handled as one without:
    /// with a fresh cookie.
    #[must_use]
    pub fn verify(&self, claim: &Claim<'_>, cookie: &[u8]) -> bool {
        let Some(&number) = cookie.first() else { return false };
        [Some(&self.current), self.previous.as_ref()]
            .into_iter()
            .flatten()
            .filter(|generation| generation.number == number)
            .any(|generation| constant_time_eq(&generation.cookie(claim), cookie))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const V4: IpAddr = IpAddr::V4(core::net::Ipv4Addr::new(192, 0, 2, 1));
    const NONCE: &[u8] = &[9; 32];

    fn claim(address: IpAddr, spi_i: u64, nonce: &[u8]) -> Claim<'_> {
        Claim { address, spi_i, nonce }
    }

    #[test]
    fn dos_04_a_cookie_is_good_for_what_it_was_made_for_only() {
        let cookies = Cookies::new([1; 32]);
        let mine = claim(V4, 5, NONCE);
        let cookie = cookies.make(&mine);
        assert!(cookies.verify(&mine, &cookie));
        assert!(!cookies.verify(&claim(IpAddr::from([192, 0, 2, 2]), 5, NONCE), &cookie));
        assert!(!cookies.verify(&claim(V4, 6, NONCE), &cookie));
        assert!(!cookies.verify(&claim(V4, 5, &NONCE[1..]), &cookie));
        assert!(!Cookies::new([2; 32]).verify(&mine, &cookie));
        for len in 0..cookie.len() {
            assert!(!cookies.verify(&mine, &cookie[..len]));
        }
        let long = [&cookie[..], &[0]].concat();
        assert!(!cookies.verify(&mine, &long));
    }

    #[test]
    fn dos_04_the_secret_may_be_replaced_once() {
        let mut cookies = Cookies::new([1; 32]);
        let mine = claim(V4, 5, NONCE);
        let cookie = cookies.make(&mine);
        cookies.rotate([2; 32]);
        assert!(cookies.verify(&mine, &cookie));
        assert_ne!(cookies.make(&mine), cookie);
        cookies.rotate([3; 32]);
        assert!(!cookies.verify(&mine, &cookie));
        // The number of the generation comes around; the secret does not.
        for round in 0..=255 {
            cookies.rotate([round; 32]);
            assert!(!cookies.verify(&mine, &cookie));
        }
    }

    #[test]
    fn dos_04_an_address_does_not_read_as_part_of_a_nonce() {
        // The same octets in a row, cut elsewhere: IPv6 address and nonce, IPv4 and a longer one.
        let cookies = Cookies::new([1; 32]);
        let v6 = IpAddr::from([0xc000, 0x0201, 0, 0, 0, 5, 0, 0]);
        let cookie = cookies.make(&claim(v6, 0, NONCE));
        assert!(!cookies.verify(&claim(V4, 5, &[&[0; 12][..], NONCE].concat()), &cookie));
        let mapped = IpAddr::from([0, 0, 0, 0, 0, 0xffff, 0xc000, 0x0201]);
        assert_eq!(cookies.make(&claim(mapped, 5, NONCE)), cookies.make(&claim(V4, 5, NONCE)));
    }

    #[test]
    fn the_secret_is_not_shown() {
        let mut cookies = Cookies::new([0xab; 32]);
        cookies.rotate([0xcd; 32]);
        let text = format!("{cookies:?} {cookies:#?}");
        assert!(!text.contains("171") && !text.contains("205") && !text.contains("secret"));
    }

    proptest! {
        #[test]
        fn dos_04_a_changed_cookie_is_no_cookie(at in 0..COOKIE_LEN, bit in 0..8_u8, spi_i: u64) {
            let mut cookies = Cookies::new([7; 32]);
            cookies.rotate([8; 32]);
            let mine = claim(V4, spi_i, NONCE);
            let mut cookie = cookies.make(&mine);
            cookie[at] ^= 1 << bit;
            prop_assert!(!cookies.verify(&mine, &cookie));
        }

        #[test]
        fn any_octets_are_survived(octets: Vec<u8>) {
            prop_assert!(!Cookies::new([7; 32]).verify(&claim(V4, 1, NONCE), &octets));
        }
    }
}
