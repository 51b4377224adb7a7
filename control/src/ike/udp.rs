//! UDP sockets of IKE: port 500, and port 4500 with NAT traversal, in both families.
//!
//! Wildcard sockets for each port and family. The kernel tells the destination address of
//! every datagram, so an answer leaves from the address that was asked. The non-ESP marker of
//! port 4500 (RFC 7296 section 2.23) is taken off and put on here and nowhere else. The core
//! knows ports 500 and 4500 only; other numbers in the configuration are put in their place
//! here. Each of them is several sockets, among which the kernel sorts ([`lanes`]). What is no
//! IKE message, keepalives and ESP that the XDP program did not take, is counted and dropped.

use super::lanes::{self, LANES};
use nix::libc::{in_addr, in_pktinfo, in6_addr, in6_pktinfo};
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrIn, SockaddrIn6, SockaddrLike,
    SockaddrStorage, recvmsg, sendmsg, setsockopt, sockopt,
};
use socket2::{Domain, Protocol, Socket, Type};
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd as _;
use std::task::Poll;
use tokio::io::Interest;
use tokio::net::UdpSocket;

/// The core's number of the port without markers.
pub const PORT: u16 = 500;
/// The core's number of the port with markers.
pub const PORT_NAT_T: u16 = 4500;
/// Mark of the daemon's own packets: the rule that leads into tunnels leaves them out.
pub const MARK: u32 = 0x42;
/// Before every IKE message on port 4500.
const MARKER: [u8; 4] = [0; 4];
/// Queue of a socket, in octets: some thousand first messages while the daemon is busy. The
/// kernel counts twice that, so twenty full ones are 160 MiB of it at most.
const RECEIVE_BUFFER: usize = 4 << 20;
/// Datagrams of one socket before it is another one's turn.
const TURN: usize = 8;
/// The longest datagram.
const DATAGRAM_MAX: usize = 65_535;
/// Space of one control message with an address, of either family, and to spare.
const CONTROL_SPACE: usize = 128;

/// What came to no IKE message, and what could not be sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UdpCounters {
    /// Datagrams with an IKE message.
    pub received: u64,
    /// Datagrams sent.
    pub sent: u64,
    /// NAT keepalives (RFC 3948 section 2.3).
    pub keepalives: u64,
    /// ESP in UDP that reached the socket.
    pub esp_in_udp: u64,
    /// Too short for anything, cut off, or without a known destination address.
    pub unusable: u64,
    /// Datagrams that the kernel did not take.
    pub send_failed: u64,
}

/// One IKE datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// Where it arrived; the port is 500 or 4500.
    pub local: SocketAddr,
    /// Where it came from.
    pub remote: SocketAddr,
    /// The IKE message, without marker.
    pub octets: Vec<u8>,
}

#[derive(Debug)]
struct Port {
    socket: UdpSocket,
    ipv6: bool,
    marker: bool,
}

/// The sockets.
#[derive(Debug)]
pub struct Sockets {
    ports: Vec<Port>,
    buffer: Vec<u8>,
    control: Vec<u8>,
    next: usize,
    /// What has passed.
    pub counters: UdpCounters,
}

fn socket(ipv6: bool) -> io::Result<Socket> {
    let domain = if ipv6 { Domain::IPV6 } else { Domain::IPV4 };
    let socket = Socket::new(domain, Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
    if ipv6 {
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}

/// The lanes of a port and family.
fn open(ipv6: bool, port: u16, marker: bool) -> io::Result<Vec<Port>> {
    let any = if ipv6 { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
    let address = SocketAddr::new(any, port).into();
    // Lanes share the port with whoever asks for it in the same way: nobody may have it yet.
    socket(ipv6)?.bind(&address)?;
    let mut lanes = Vec::new();
    for _ in 0..LANES {
        let socket = socket(ipv6)?;
        if ipv6 {
            setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?;
        } else {
            setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?;
        }
        // Above the system's ceiling if we may, as far as it otherwise.
        if setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER).is_err() {
            socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
        }
        // Without the right to set marks there are no routes into tunnels either.
        let _unmarked = setsockopt(&socket, sockopt::Mark, &MARK);
        socket.set_reuse_port(true)?;
        socket.bind(&address)?;
        let socket = UdpSocket::from_std(socket.into())?;
        lanes.push(Port { socket, ipv6, marker });
    }
    if let Some(Err(error)) = lanes.first().map(|lane| lanes::sort(&lane.socket, ipv6, marker)) {
        tracing::warn!(port, %error, "first messages are not told from others: a flood may delay peers");
    }
    Ok(lanes)
}

impl Sockets {
    /// Opens the sockets. A machine without IPv6 has those of IPv4 only.
    ///
    /// # Errors
    /// One line that names the port.
    pub fn open(port: u16, port_nat_t: u16) -> Result<Self, String> {
        let mut ports = Vec::new();
        for (number, marker) in [(port, false), (port_nat_t, true)] {
            for ipv6 in [false, true] {
                match open(ipv6, number, marker) {
                    Ok(lanes) => ports.extend(lanes),
                    Err(error) if ipv6 && is_without_ipv6(&error) => {
                        tracing::info!(port = number, "no IPv6 on this machine");
                    }
                    Err(error) => return Err(refused(number, &error)),
                }
            }
        }
        Ok(Self {
            ports,
            buffer: vec![0; DATAGRAM_MAX],
            control: vec![0; CONTROL_SPACE],
            next: 0,
            counters: UdpCounters::default(),
        })
    }

    /// Waits until a datagram may be there. Loses nothing if it is dropped before.
    pub async fn readable(&self) {
        std::future::poll_fn(|context| {
            // An error shows when the socket is read.
            let is_ready = |port: &Port| port.socket.poll_recv_ready(context).is_ready();
            if self.ports.iter().any(is_ready) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// Datagrams that are there, some of each socket in turn. Takes up to `most` from the
    /// sockets, what is dropped included: a flood of whatever kind ends after that.
    pub fn receive(&mut self, most: usize) -> Vec<Datagram> {
        let mut datagrams = Vec::new();
        let count = self.ports.len();
        let (mut idle, mut taken) = (0, 0);
        while idle < count && taken < most {
            self.next = (self.next + 1) % count.max(1);
            let before = taken;
            for _ in 0..TURN {
                match self.receive_one(self.next) {
                    Received::Nothing => break,
                    Received::Dropped => {}
                    Received::Datagram(datagram) => {
                        self.counters.received += 1;
                        datagrams.push(datagram);
                    }
                }
                taken += 1;
            }
            idle = if taken == before { idle + 1 } else { 0 };
        }
        datagrams
    }

    fn receive_one(&mut self, index: usize) -> Received {
        let Some(port) = self.ports.get(index) else { return Received::Nothing };
        let (buffer, control) = (&mut self.buffer, &mut self.control);
        let taken = port.socket.try_io(Interest::READABLE, || match port.ipv6 {
            false => take::<SockaddrIn>(&port.socket, buffer, control),
            true => take::<SockaddrIn6>(&port.socket, buffer, control),
        });
        let (len, remote, local) = match taken {
            Ok(taken) => taken,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Received::Nothing,
            // Such as an ICMP error to something sent earlier.
            Err(_) => return self.unusable(),
        };
        let (Some(remote), Some(local)) = (remote, local) else { return self.unusable() };
        let octets = self.buffer.get(..len).unwrap_or_default();
        let message = match (port.marker, octets) {
            (false, octets) => octets,
            (true, [0xff]) => {
                self.counters.keepalives += 1;
                return Received::Dropped;
            }
            (true, [0, 0, 0, 0, message @ ..]) => message,
            (true, [_, _, _, _, ..]) => {
                self.counters.esp_in_udp += 1;
                return Received::Dropped;
            }
            (true, _) => return self.unusable(),
        };
        let local_port = if port.marker { PORT_NAT_T } else { PORT };
        let local = SocketAddr::new(local, local_port);
        Received::Datagram(Datagram { local, remote, octets: message.to_vec() })
    }

    fn unusable(&mut self) -> Received {
        self.counters.unusable += 1;
        Received::Dropped
    }

    /// Sends an IKE message. What the kernel does not take is counted and lost, as any
    /// datagram may be.
    pub fn send(&mut self, local: SocketAddr, remote: SocketAddr, octets: &[u8]) {
        let marker = local.port() == PORT_NAT_T;
        let prefix: &[u8] = if marker { &MARKER } else { &[] };
        self.send_parts(local, remote, marker, &[IoSlice::new(prefix), IoSlice::new(octets)]);
    }

    /// Sends a NAT keepalive (RFC 3948 section 2.3).
    pub fn send_keepalive(&mut self, local: SocketAddr, remote: SocketAddr) {
        self.send_parts(local, remote, true, &[IoSlice::new(&[0xff])]);
    }

    fn send_parts(
        &mut self,
        local: SocketAddr,
        remote: SocketAddr,
        marker: bool,
        parts: &[IoSlice<'_>],
    ) {
        let ipv6 = remote.is_ipv6();
        let port = self.ports.iter().find(|port| port.ipv6 == ipv6 && port.marker == marker);
        let done = match port {
            Some(port) => port.socket.try_io(Interest::WRITABLE, || {
                let to = SockaddrStorage::from(remote);
                give(&port.socket, local.ip(), &to, parts)
            }),
            None => Err(io::ErrorKind::AddrNotAvailable.into()),
        };
        match done {
            Ok(()) => self.counters.sent += 1,
            Err(error) => {
                self.counters.send_failed += 1;
                tracing::debug!(%local, %remote, %error, "datagram not sent");
            }
        }
    }
}

enum Received {
    Nothing,
    Dropped,
    Datagram(Datagram),
}

type Taken = (usize, Option<SocketAddr>, Option<IpAddr>);

fn take<S: SockaddrLike + Into<SocketAddr>>(
    socket: &UdpSocket,
    buffer: &mut [u8],
    control: &mut [u8],
) -> io::Result<Taken> {
    let mut parts = [IoSliceMut::new(buffer)];
    let flags = MsgFlags::MSG_DONTWAIT;
    let message = recvmsg::<S>(socket.as_raw_fd(), &mut parts, Some(control), flags)?;
    let mut local = None;
    if let Ok(messages) = message.cmsgs() {
        #[expect(clippy::wildcard_enum_match_arm, reason = "two of many kinds are asked for")]
        for message in messages {
            match message {
                ControlMessageOwned::Ipv4PacketInfo(info) => {
                    local = Some(IpAddr::from(info.ipi_addr.s_addr.to_ne_bytes()));
                }
                ControlMessageOwned::Ipv6PacketInfo(info) => {
                    local = Some(IpAddr::from(info.ipi6_addr.s6_addr));
                }
                _ => {}
            }
        }
    }
    let whole = !message.flags.contains(MsgFlags::MSG_TRUNC);
    let local = local.filter(|local| whole && !local.is_multicast());
    let len = message.bytes;
    Ok((len, message.address.map(Into::into), local))
}

fn give(
    socket: &UdpSocket,
    from: IpAddr,
    to: &SockaddrStorage,
    parts: &[IoSlice<'_>],
) -> io::Result<()> {
    let (fd, flags) = (socket.as_raw_fd(), MsgFlags::MSG_DONTWAIT);
    match from {
        IpAddr::V4(address) => {
            let source = in_addr { s_addr: u32::from_ne_bytes(address.octets()) };
            let any = in_addr { s_addr: 0 };
            let info = in_pktinfo { ipi_ifindex: 0, ipi_spec_dst: source, ipi_addr: any };
            sendmsg(fd, parts, &[ControlMessage::Ipv4PacketInfo(&info)], flags, Some(to))?;
        }
        IpAddr::V6(address) => {
            let source = in6_addr { s6_addr: address.octets() };
            let info = in6_pktinfo { ipi6_addr: source, ipi6_ifindex: 0 };
            sendmsg(fd, parts, &[ControlMessage::Ipv6PacketInfo(&info)], flags, Some(to))?;
        }
    }
    Ok(())
}

fn is_without_ipv6(error: &io::Error) -> bool {
    use nix::libc::{EADDRNOTAVAIL, EAFNOSUPPORT};
    matches!(error.raw_os_error(), Some(EAFNOSUPPORT | EADDRNOTAVAIL))
}

fn refused(port: u16, error: &io::Error) -> String {
    if error.kind() == io::ErrorKind::AddrInUse {
        return format!(
            "UDP port {port}: another program has it (another IKE daemon?); stop it, or change \
             ike.port and ike.port_nat_t"
        );
    }
    if error.kind() == io::ErrorKind::PermissionDenied {
        return format!("UDP port {port}: not permitted; CAP_NET_BIND_SERVICE is needed");
    }
    format!("UDP port {port}: {error}")
}

/// Our address for packets to a destination, by the kernel's routes.
#[must_use]
pub fn local_address(remote: IpAddr) -> Option<IpAddr> {
    let ipv6 = remote.is_ipv6();
    let domain = if ipv6 { Domain::IPV6 } else { Domain::IPV4 };
    let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP)).ok()?;
    // As the packets will be routed, not as those that go into tunnels are.
    let _unmarked = setsockopt(&socket, sockopt::Mark, &MARK);
    socket.connect(&SocketAddr::new(remote, PORT).into()).ok()?;
    let local = socket.local_addr().ok()?.as_socket()?.ip();
    (!local.is_unspecified()).then_some(local)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket as Plain;
    use std::time::Duration;

    /// Sockets at two free ports.
    fn sockets() -> (Sockets, u16, u16) {
        for _ in 0..100 {
            let free = || Plain::bind("0.0.0.0:0").and_then(|s| s.local_addr());
            let (one, other) = (free().expect("free").port(), free().expect("free").port());
            if one != other
                && let Ok(sockets) = Sockets::open(one, other)
            {
                return (sockets, one, other);
            }
        }
        panic!("no two free ports");
    }

    async fn next(sockets: &mut Sockets) -> Vec<Datagram> {
        let wait = tokio::time::timeout(Duration::from_secs(10), sockets.readable());
        wait.await.expect("something arrives");
        sockets.receive(64)
    }

    #[tokio::test]
    async fn markers_are_for_one_port_only_and_local_addresses_are_known() {
        let (mut sockets, plain, nat) = sockets();
        let peer = Plain::bind("127.0.0.3:0").expect("bound");
        peer.set_read_timeout(Some(Duration::from_secs(10))).expect("set");
        peer.send_to(b"first", ("127.0.0.2", plain)).expect("sent");
        let [datagram] = &next(&mut sockets).await[..] else { panic!("one") };
        assert_eq!(datagram.local, "127.0.0.2:500".parse().expect("address"));
        assert_eq!(datagram.octets, b"first");
        sockets.send(datagram.local, datagram.remote, b"answer");
        let mut buffer = [0; 64];
        let (len, from) = peer.recv_from(&mut buffer).expect("answered");
        assert_eq!((&buffer[..len], from), (&b"answer"[..], ([127, 0, 0, 2], plain).into()));

        peer.send_to(b"\0\0\0\0second", ("127.0.0.4", nat)).expect("sent");
        let [datagram] = &next(&mut sockets).await[..] else { panic!("one") };
        assert_eq!(datagram.local, "127.0.0.4:4500".parse().expect("address"));
        assert_eq!(datagram.octets, b"second");
        sockets.send(datagram.local, datagram.remote, b"answer");
        let (len, from) = peer.recv_from(&mut buffer).expect("answered");
        assert_eq!((&buffer[..len], from), (&b"\0\0\0\0answer"[..], ([127, 0, 0, 4], nat).into()));
        sockets.send_keepalive(datagram.local, datagram.remote);
        let (len, _) = peer.recv_from(&mut buffer).expect("kept alive");
        assert_eq!(&buffer[..len], [0xff]);
    }

    #[tokio::test]
    async fn what_is_no_ike_is_counted_and_dropped() {
        let (mut sockets, _, nat) = sockets();
        let peer = Plain::bind("127.0.0.1:0").expect("bound");
        for octets in [&[0xff][..], &[1, 2, 3, 4, 5], &[0, 0], &[], &[0, 0, 0, 0, 9]] {
            peer.send_to(octets, ("127.0.0.1", nat)).expect("sent");
        }
        let mut datagrams = Vec::new();
        while datagrams.is_empty() {
            datagrams = next(&mut sockets).await;
        }
        assert_eq!(datagrams.len(), 1);
        let UdpCounters { received, keepalives, esp_in_udp, unusable, .. } = sockets.counters;
        assert_eq!((received, keepalives, esp_in_udp, unusable), (1, 1, 1, 2));
    }

    #[tokio::test]
    async fn a_batch_ends_whatever_arrives() {
        let (mut sockets, _, nat) = sockets();
        let peer = Plain::bind("127.0.0.1:0").expect("bound");
        for _ in 0..50 {
            peer.send_to(&[0xff], ("127.0.0.1", nat)).expect("sent");
        }
        while sockets.counters.keepalives < 50 {
            let before = sockets.counters.keepalives;
            tokio::time::timeout(Duration::from_secs(10), sockets.readable()).await.expect("more");
            assert!(sockets.receive(8).is_empty());
            assert!(sockets.counters.keepalives - before <= 8);
        }
    }

    #[tokio::test]
    async fn a_port_in_use_is_named() {
        let (_held, plain, nat) = sockets();
        let error = Sockets::open(plain, nat).expect_err("in use");
        assert!(error.contains(&plain.to_string()) && error.contains("another program"), "{error}");
    }

    #[test]
    fn the_way_to_a_peer_tells_our_address() {
        let loopback: IpAddr = "127.0.0.1".parse().expect("address");
        assert_eq!(local_address(loopback), Some(loopback));
    }
}
