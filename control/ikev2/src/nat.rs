//! NAT detection (RFC 7296 section 2.23).
//!
//! Each side hashes the addresses it sends from and to; where the other sees a packet with
//! different ones, somebody has changed them on the way.

use crate::wire::{Notify, NotifyType, Payload, notifies};
use core::net::{IpAddr, SocketAddr};
use xswan_ike_crypto::sha1;

/// Length of a hash in bytes.
pub const HASH_LEN: usize = 20;

/// SHA-1 over SPIs, address and port: the data of both notifies. The SPIs are those of the
/// header of the message that carries it, so `spi_r` is zero in the first request.
#[must_use]
pub fn hash(spi_i: u64, spi_r: u64, address: SocketAddr) -> [u8; HASH_LEN] {
    let (spi_i, spi_r) = (spi_i.to_be_bytes(), spi_r.to_be_bytes());
    let port = address.port().to_be_bytes();
    match address.ip().to_canonical() {
        IpAddr::V4(ip) => sha1(&[&spi_i, &spi_r, &ip.octets(), &port]),
        IpAddr::V6(ip) => sha1(&[&spi_i, &spi_r, &ip.octets(), &port]),
    }
}

/// The two notifies for a message from `local` to `remote`. With `force` the first is wrong on
/// purpose, so that the peer believes in a NAT and encapsulates ESP in UDP.
#[must_use]
pub fn payloads(
    spi_i: u64,
    spi_r: u64,
    local: SocketAddr,
    remote: SocketAddr,
    force: bool,
) -> [Payload; 2] {
    let nowhere = SocketAddr::from(([0; 4], 0));
    let source = if force { nowhere } else { local };
    let notify = |kind, address| Payload::notify(kind, hash(spi_i, spi_r, address).to_vec());
    [
        notify(NotifyType::NAT_DETECTION_SOURCE_IP, source),
        notify(NotifyType::NAT_DETECTION_DESTINATION_IP, remote),
    ]
}

/// Who is behind a NAT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Detected {
    /// A NAT is in front of us: no DESTINATION hash is that of our address.
    pub local: bool,
    /// A NAT is in front of the peer: no SOURCE hash is that of the address it came from. It
    /// may have sent several because it does not know from which one it sends.
    pub remote: bool,
}

impl Detected {
    /// Whether there is a NAT at all: go to port 4500 and encapsulate ESP.
    #[must_use]
    pub const fn any(self) -> bool {
        self.local || self.remote
    }
}

/// What the notifies of a message that came from `remote` to `local` say; `None` if the peer did
/// not send both kinds and so does not know of NATs. A hash of another length matches nothing.
#[must_use]
pub fn detect(
    spi_i: u64,
    spi_r: u64,
    message: &[Payload],
    local: SocketAddr,
    remote: SocketAddr,
) -> Option<Detected> {
    let changed = |kind, address| {
        let expected = hash(spi_i, spi_r, address);
        let mut sent = notifies(message).filter(|notify: &&Notify| notify.kind == kind).peekable();
        sent.peek()?;
        Some(!sent.any(|notify| notify.data == expected))
    };
    Some(Detected {
        local: changed(NotifyType::NAT_DETECTION_DESTINATION_IP, local)?,
        remote: changed(NotifyType::NAT_DETECTION_SOURCE_IP, remote)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_hash_is_as_another_implementation_computes_it() {
        // hashlib.sha1(bytes.fromhex("0123456789abcdef" "0000000000000000" "c0000201" "01f4"))
        let v4 = hash(0x0123_4567_89ab_cdef, 0, at("192.0.2.1:500"));
        assert_eq!(v4, V4_HASH);
        // The same with "20010db8" "00"*11 "01" and "1194".
        let v6 = hash(0x0123_4567_89ab_cdef, 0xff, at("[2001:db8::1]:4500"));
        assert_eq!(v6, V6_HASH);
    }

    #[test]
    fn a_nat_is_found_where_it_is() {
        let (a, b, c) = (at("192.0.2.1:500"), at("192.0.2.2:500"), at("198.51.100.1:1024"));
        let sent = payloads(1, 2, a, b, false);
        let found = |local, remote| detect(1, 2, &sent, local, remote).unwrap();
        assert_eq!(found(b, a), Detected { local: false, remote: false });
        assert_eq!(found(b, c), Detected { local: false, remote: true });
        assert_eq!(found(c, a), Detected { local: true, remote: false });
        assert_eq!(found(c, c), Detected { local: true, remote: true });
        assert_eq!(found(b, at("192.0.2.1:501")), Detected { local: false, remote: true });
        assert!(!found(b, a).any() && found(b, c).any());
        assert!(detect(1, 3, &sent, b, a).unwrap().any(), "hashes of another SA");
        let mapped = at("[::ffff:192.0.2.1]:500");
        assert_eq!(found(b, mapped), Detected { local: false, remote: false });
        let forced = payloads(1, 2, a, b, true);
        assert_eq!(detect(1, 2, &forced, b, a), Some(Detected { local: false, remote: true }));
    }

    #[test]
    fn one_of_several_source_hashes_is_enough() {
        let (a, b) = (at("192.0.2.1:500"), at("192.0.2.2:500"));
        let mut sent = payloads(1, 0, at("10.0.0.1:500"), b, false).to_vec();
        sent.push(Payload::notify(NotifyType::NAT_DETECTION_SOURCE_IP, vec![]));
        assert_eq!(detect(1, 0, &sent, b, a), Some(Detected { local: false, remote: true }));
        let [source, _] = payloads(1, 0, a, b, false);
        sent.push(source);
        assert_eq!(detect(1, 0, &sent, b, a), Some(Detected { local: false, remote: false }));
    }

    #[test]
    fn a_peer_that_sends_half_of_it_knows_nothing_of_nats() {
        let (a, b) = (at("192.0.2.1:500"), at("192.0.2.2:500"));
        let [source, destination] = payloads(1, 0, a, b, false);
        assert_eq!(detect(1, 0, &[], b, a), None);
        assert_eq!(detect(1, 0, &[source], b, a), None);
        assert_eq!(detect(1, 0, &[destination], b, a), None);
    }

    const V4_HASH: [u8; HASH_LEN] = [
        0x94, 0x26, 0x42, 0x90, 0x34, 0x92, 0x42, 0x68, 0x45, 0x2f, 0x8e, 0x3f, 0xf7, 0x9f, 0xb6,
        0x9e, 0x2a, 0x8d, 0x71, 0xeb,
    ];

    const V6_HASH: [u8; HASH_LEN] = [
        0x65, 0xfb, 0xa8, 0x5f, 0x44, 0x85, 0xf1, 0x50, 0xf6, 0xd5, 0x48, 0x24, 0xb3, 0xfb, 0x55,
        0x6d, 0x65, 0xa1, 0xe4, 0x41,
    ];
}
