//! A port's datagrams in several queues, so that a flood fills one and not all.
//!
//! ```text
//! first message without a cookie ──▶ lane 0 … 3, by the network that it says it is from
//! anything else                  ──▶ lane 4: cookies shown, IKE_AUTH, what is established
//! ```
//! Each lane is a socket with a queue of its own (`SO_REUSEPORT`), and the kernel sorts by a
//! filter before anything is queued. Lanes are read in turn: first messages from spoofed
//! addresses take neither the place nor the time of peers that have shown more, nor of first
//! messages from elsewhere. Without the filter, as on a kernel that has none, the lanes are
//! filled by the kernel's hash and nothing else changes.

use nix::libc::{sock_filter, sock_fprog};
use nix::sys::socket::{setsockopt, sockopt};
use std::io;
use std::os::fd::AsFd;

/// Sockets of a port and family.
pub const LANES: u32 = UNPROVED + 1;
/// Lanes of first messages without a cookie; a power of two.
const UNPROVED: u32 = 4;

/// Offsets in an IKE header, and what is looked for (RFC 7296 section 3.1).
const NEXT_PAYLOAD: u32 = 16;
const EXCHANGE: u32 = 18;
const FLAGS: u32 = 19;
const IKE_SA_INIT: u32 = 34;
const RESPONSE: u32 = 0x20;
/// A cookie is the first payload if there is one (section 2.6).
const NOTIFY: u32 = 41;

/// Classic BPF, as `linux/filter.h` numbers it.
const LOAD_WORD: u16 = 0x20;
const LOAD_HALF: u16 = 0x28;
const LOAD_OCTET: u16 = 0x30;
const JUMP_IF_EQUAL: u16 = 0x15;
const JUMP_IF_SET: u16 = 0x45;
const MULTIPLY: u16 = 0x24;
const SHIFT_RIGHT: u16 = 0x74;
const RETURN: u16 = 0x06;
const RETURN_ACCUMULATOR: u16 = 0x16;
/// Loads from here on are from the IP header.
const NETWORK_HEADER: u32 = 0xfff0_0000;
const IPV4_SOURCE: u32 = NETWORK_HEADER + 12;
const IPV6_SOURCE: u32 = NETWORK_HEADER + 8;
/// The golden ratio: neighbours fall apart.
const SPREAD: u32 = 0x9e37_79b1;

/// The lane of a datagram; `marker`: a non-ESP marker stands before the message. What is too
/// short for a header goes to lane 0, because a load past the end ends a program with 0.
const fn program(ipv6: bool, marker: bool) -> [sock_filter; 11] {
    const fn step(code: u16, k: u32) -> sock_filter {
        sock_filter { code, jt: 0, jf: 0, k }
    }
    /// `jt` and `jf` are steps to be left out.
    const fn jump(code: u16, k: u32, jt: u8, jf: u8) -> sock_filter {
        sock_filter { code, jt, jf, k }
    }
    let message = if marker { 4 } else { 0 };
    let (load, source) = if ipv6 { (LOAD_WORD, IPV6_SOURCE) } else { (LOAD_HALF, IPV4_SOURCE) };
    [
        step(LOAD_OCTET, message + EXCHANGE),
        jump(JUMP_IF_EQUAL, IKE_SA_INIT, 0, 8),
        step(LOAD_OCTET, message + FLAGS),
        jump(JUMP_IF_SET, RESPONSE, 6, 0),
        step(LOAD_OCTET, message + NEXT_PAYLOAD),
        jump(JUMP_IF_EQUAL, NOTIFY, 4, 0),
        step(load, source),
        step(MULTIPLY, SPREAD),
        step(SHIFT_RIGHT, u32::BITS - UNPROVED.ilog2()),
        step(RETURN_ACCUMULATOR, 0),
        step(RETURN, UNPROVED),
    ]
}

/// Has the kernel sort into lanes; to be called with one of [`LANES`] sockets that are bound to
/// the same port in the order of their lanes.
///
/// # Errors
/// The kernel refuses the filter.
pub fn sort(socket: &impl AsFd, ipv6: bool, marker: bool) -> io::Result<()> {
    let mut program = program(ipv6, marker);
    let length = program.len() as u16;
    let program = sock_fprog { len: length, filter: program.as_mut_ptr() };
    Ok(setsockopt(socket, sockopt::AttachReusePortCbpf, &program)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use socket2::{Domain, Protocol, Socket, Type};
    use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
    use std::time::Duration;

    fn lanes(address: SocketAddr, marker: bool) -> Vec<UdpSocket> {
        let domain = Domain::for_address(address);
        let mut lanes: Vec<UdpSocket> = Vec::new();
        for _ in 0..LANES {
            let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP)).expect("socket");
            socket.set_reuse_port(true).expect("set");
            let known = lanes.first().map(|first| first.local_addr().expect("bound"));
            socket.bind(&known.unwrap_or(address).into()).expect("bound");
            lanes.push(socket.into());
        }
        sort(lanes.first().expect("one"), address.is_ipv6(), marker).expect("sorted");
        lanes
    }

    fn header(exchange: u8, flags: u8, first: u8) -> Vec<u8> {
        let mut octets = vec![0; 28];
        octets[16..20].copy_from_slice(&[first, 0x20, exchange, flags]);
        octets
    }

    /// Where a datagram ends up.
    fn lane_of(lanes: &[UdpSocket], peer: &UdpSocket, octets: &[u8]) -> u32 {
        peer.send_to(octets, lanes[0].local_addr().expect("bound")).expect("sent");
        let mut buffer = [0; 64];
        for _ in 0..1000 {
            for (lane, socket) in (0..).zip(lanes) {
                socket.set_nonblocking(true).expect("set");
                if socket.recv(&mut buffer).is_ok() {
                    return lane;
                }
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("nothing arrived");
    }

    #[test]
    fn dos_02_first_messages_have_lanes_of_their_own() {
        let loopback: [(SocketAddr, bool); 4] = [
            ((Ipv4Addr::LOCALHOST, 0).into(), false),
            ((Ipv4Addr::LOCALHOST, 0).into(), true),
            ((Ipv6Addr::LOCALHOST, 0).into(), false),
            ((Ipv6Addr::LOCALHOST, 0).into(), true),
        ];
        for (address, marker) in loopback {
            let Ok(peer) = UdpSocket::bind(address) else { continue };
            let lanes = lanes(address, marker);
            let prefix: &[u8] = if marker { &[0; 4] } else { &[] };
            let lane = |octets: &[u8]| lane_of(&lanes, &peer, &[prefix, octets].concat());
            assert!(lane(&header(34, 0x08, 33)) < UNPROVED, "a first message");
            assert_eq!(lane(&header(34, 0x08, 41)), UNPROVED, "with a cookie");
            assert_eq!(lane(&header(34, 0x20, 33)), UNPROVED, "an answer");
            assert_eq!(lane(&header(35, 0x08, 46)), UNPROVED, "IKE_AUTH");
            assert_eq!(lane(&[1; 12]), 0, "no message");
        }
    }

    #[test]
    fn dos_01_networks_are_spread_over_lanes() {
        let peers = |second: u8| UdpSocket::bind((Ipv4Addr::new(127, second, 0, 1), 0));
        let lanes = lanes((Ipv4Addr::UNSPECIFIED, 0).into(), false);
        let port = lanes[0].local_addr().expect("bound").port();
        let mut counts = [0; UNPROVED as usize];
        for second in 0..64 {
            let peer = peers(second).expect("bound");
            peer.connect((Ipv4Addr::LOCALHOST, port)).expect("connected");
            peer.send(&header(34, 0x08, 33)).expect("sent");
        }
        let mut buffer = [0; 64];
        for (count, socket) in counts.iter_mut().zip(&lanes) {
            socket.set_read_timeout(Some(Duration::from_millis(200))).expect("set");
            while socket.recv(&mut buffer).is_ok() {
                *count += 1;
            }
        }
        assert_eq!(counts.iter().sum::<u32>(), 64);
        assert!(counts.iter().all(|count| (8..=24).contains(count)), "{counts:?}");
    }
}
