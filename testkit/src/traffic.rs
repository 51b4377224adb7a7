//! Traffic between clients: an echo server, and a numbered stream that knows what was lost.

use crate::failure::{Failure, Outcome};
use crate::netns::Namespace;
use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long a blocked thread sleeps before it looks whether to stop.
const PATIENCE: Duration = Duration::from_millis(50);
/// Queue of a receiving socket, in octets as the kernel counts them.
static QUEUE_BYTES: libc::c_int = 8 << 20;
/// Datagrams that are made good at once, at most.
const CATCH_UP: u32 = 16;
/// Silence after which nothing more is expected of a stream that has ended.
const SILENCE: Duration = Duration::from_secs(2);

fn bind(namespace: &Namespace, address: IpAddr, port: u16) -> Outcome<UdpSocket> {
    let socket = namespace.enter(|| UdpSocket::bind(SocketAddr::new(address, port)))??;
    socket.set_read_timeout(Some(PATIENCE))?;
    deepen(&socket)?;
    Ok(socket)
}

/// Room for seconds of a stream: on a busy machine the thread that reads may not run for longer
/// than the usual queue holds, and what overflows there was not lost by a gateway.
fn deepen(socket: &UdpSocket) -> std::io::Result<()> {
    use std::os::fd::AsRawFd;
    let length = libc::socklen_t::try_from(size_of_val(&QUEUE_BYTES)).unwrap_or(0);
    // SAFETY: value and length are of one live integer.
    let status = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_RCVBUFFORCE,
            (&raw const QUEUE_BYTES).cast(),
            length,
        )
    };
    if status == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

/// Sends every datagram back where it came from; both families, until dropped.
#[derive(Debug)]
pub struct EchoServer {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl EchoServer {
    /// Starts on `port` of every address inside `namespace`.
    ///
    /// # Errors
    /// The port is taken.
    pub fn start(namespace: &Namespace, port: u16) -> Outcome<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let sockets = [
            bind(namespace, Ipv4Addr::UNSPECIFIED.into(), port)?,
            // Takes IPv4 as well unless that is bound already, which is harmless.
            namespace.enter(|| bind_v6_only(port))??,
        ];
        let threads = sockets.into_iter().map(|socket| {
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || {
                let mut buffer = vec![0; 65_536];
                while !stop.load(Ordering::Acquire) {
                    let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
                    // Whoever asked will ask again.
                    let _ = socket.send_to(buffer.get(..length).unwrap_or_default(), from);
                }
            })
        });
        Ok(Self { threads: threads.collect(), stop })
    }
}

/// The standard library cannot say "IPv6 only" before it binds.
fn bind_v6_only(port: u16) -> std::io::Result<UdpSocket> {
    use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
    let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC;
    // SAFETY: no memory is passed.
    let raw = unsafe { libc::socket(libc::AF_INET6, kind, 0) };
    if raw < 0 {
        return Err(std::io::Error::last_os_error());
    }
    // SAFETY: a descriptor just returned by the kernel, owned by nobody else.
    let socket = unsafe { OwnedFd::from_raw_fd(raw) };
    let on: libc::c_int = 1;
    let length = libc::socklen_t::try_from(size_of_val(&on)).unwrap_or(0);
    // SAFETY: value and length are of one live integer.
    let status = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IPV6,
            libc::IPV6_V6ONLY,
            (&raw const on).cast(),
            length,
        )
    };
    if status != 0 {
        return Err(std::io::Error::last_os_error());
    }
    // SAFETY: all zeros is a valid sockaddr_in6, the unspecified address.
    let mut address: libc::sockaddr_in6 = unsafe { std::mem::zeroed() };
    address.sin6_family = u16::try_from(libc::AF_INET6).unwrap_or(0);
    address.sin6_port = port.to_be();
    let length = libc::socklen_t::try_from(size_of_val(&address)).unwrap_or(0);
    // SAFETY: address and length are of one live structure.
    let status = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) };
    if status != 0 {
        return Err(std::io::Error::last_os_error());
    }
    let socket = UdpSocket::from(socket);
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(socket)
}

impl Drop for EchoServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        for thread in self.threads.drain(..) {
            // It has nothing to report.
            let _ = thread.join();
        }
    }
}

/// What became of a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamReport {
    /// Datagrams handed to the kernel.
    pub sent: u64,
    /// Different datagrams that arrived.
    pub arrived: u64,
    /// Arrivals beyond the first of the same datagram.
    pub duplicates: u64,
}

/// Numbered datagrams from one namespace to another, one every `interval`.
#[derive(Debug)]
pub struct Stream {
    stop: Arc<AtomicBool>,
    arrived: Arc<AtomicU64>,
    sender: Option<JoinHandle<u64>>,
    receiver: Option<JoinHandle<(u64, u64)>>,
}

impl Stream {
    /// Starts sending from `source` to `address` inside `destination`.
    ///
    /// # Errors
    /// The port is taken.
    pub fn start(
        source: &Namespace,
        destination: (&Namespace, IpAddr, u16),
        interval: Duration,
        payload_bytes: usize,
    ) -> Outcome<Self> {
        let (space, address, port) = destination;
        let unspecified = |v6: bool| -> IpAddr {
            if v6 { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() }
        };
        let inlet = bind(space, address, port)?;
        let outlet = bind(source, unspecified(address.is_ipv6()), 0)?;
        let stop = Arc::new(AtomicBool::new(false));
        let done = Arc::new(AtomicBool::new(false));
        let arrived = Arc::new(AtomicU64::new(0));
        let (stopped, finished) = (Arc::clone(&stop), Arc::clone(&done));
        let target = SocketAddr::new(address, port);
        let sender = std::thread::spawn(move || {
            let sent = send(&outlet, target, interval, payload_bytes, &stopped);
            finished.store(true, Ordering::Release);
            sent
        });
        let counter = Arc::clone(&arrived);
        let receiver = std::thread::spawn(move || receive(&inlet, &done, &counter));
        Ok(Self { stop, arrived, sender: Some(sender), receiver: Some(receiver) })
    }

    /// Different datagrams that have arrived so far.
    #[must_use]
    pub fn arrived(&self) -> u64 {
        self.arrived.load(Ordering::Acquire)
    }

    /// Stops sending, waits until nothing more arrives, and says what became of it.
    ///
    /// # Errors
    /// A thread panicked.
    pub fn stop(mut self) -> Outcome<StreamReport> {
        self.stop.store(true, Ordering::Release);
        let problem = |_| Failure::new("a thread of the stream panicked");
        let (Some(sender), Some(receiver)) = (self.sender.take(), self.receiver.take()) else {
            return Err(Failure::new("a stream ends once"));
        };
        let sent = sender.join().map_err(problem)?;
        let (arrived, duplicates) = receiver.join().map_err(problem)?;
        Ok(StreamReport { sent, arrived, duplicates })
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(sender) = self.sender.take() {
            let _ = sender.join();
        }
        if let Some(receiver) = self.receiver.take() {
            let _ = receiver.join();
        }
    }
}

fn send(
    outlet: &UdpSocket,
    target: SocketAddr,
    interval: Duration,
    payload_bytes: usize,
    stop: &AtomicBool,
) -> u64 {
    let mut payload = vec![0; payload_bytes.max(8)];
    let mut number: u64 = 0;
    let mut due = Instant::now();
    while !stop.load(Ordering::Acquire) {
        if let Some(place) = payload.first_chunk_mut() {
            *place = number.to_be_bytes();
        }
        // An ICMP error about an earlier datagram comes back here; this one was not sent then.
        if outlet.send_to(&payload, target).is_ok() {
            number += 1;
        }
        // A thread that did not run for a while makes good a few datagrams, not all: hundreds at
        // once overflow the ring of a veth, and no gateway has lost them.
        let now = Instant::now();
        let oldest = now.checked_sub(interval * CATCH_UP).unwrap_or(now);
        due = (due + interval).max(oldest);
        std::thread::sleep(due.saturating_duration_since(now));
    }
    number
}

fn receive(inlet: &UdpSocket, done: &AtomicBool, counter: &AtomicU64) -> (u64, u64) {
    let mut buffer = vec![0; 65_536];
    let mut seen = HashSet::new();
    let (mut duplicates, mut last) = (0, Instant::now());
    loop {
        match inlet.recv(&mut buffer) {
            Ok(_) => {
                last = Instant::now();
                let number = buffer.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
                if seen.insert(number) {
                    counter.fetch_add(1, Ordering::Release);
                } else {
                    duplicates += 1;
                }
            }
            Err(_) if done.load(Ordering::Acquire) && last.elapsed() >= SILENCE => break,
            Err(_) => {}
        }
    }
    (u64::try_from(seen.len()).unwrap_or(u64::MAX), duplicates)
}

#[cfg(test)]
mod tests {
    use super::Stream;
    use crate::failure::Outcome;
    use crate::process::wait_for;
    use crate::topology::{CLIENT_V6, Topology};
    use std::time::Duration;

    #[test]
    fn a_stream_loses_nothing_on_an_idle_path() -> Outcome<()> {
        crate::require_privileges!("a_stream_loses_nothing_on_an_idle_path");
        let topology = Topology::create()?;
        let [a, b] = &topology.clients;
        let address = CLIENT_V6[1].parse().unwrap();
        let stream = Stream::start(a, (b, address, 9), Duration::from_millis(1), 100)?;
        wait_for("a hundred datagrams", Duration::from_secs(20), || Ok(stream.arrived() >= 100))?;
        let report = stream.stop()?;
        assert_eq!((report.arrived, report.duplicates), (report.sent, 0));
        Ok(())
    }
}
