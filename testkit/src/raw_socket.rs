//! Packet sockets (AF_PACKET): putting frames on a device and taking them off.
//!
//! The socket is opened by a thread inside the namespace and stays there for life. All
//! system calls of the kit's packet input and output are in this file.

use crate::failure::{Failure, Outcome};
use crate::netns::Namespace;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

/// Every protocol, in the byte order the socket wants.
const ALL_PROTOCOLS: u16 = 3u16.to_be();
/// Socket buffer asked for, so that a burst is not lost to a slow reader: 64 MiB.
const BUFFER_BYTES: libc::c_int = 64 << 20;
/// Largest frame taken off.
const FRAME_BYTES: usize = 65_600;
/// Room for the VLAN tag the kernel reports beside a frame.
const CONTROL_BYTES: usize = 64;

/// A packet socket bound to one device.
#[derive(Debug)]
pub struct RawSocket {
    socket: OwnedFd,
    buffer: Box<[u8]>,
}

/// What the kernel counted since the last time it was asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SocketCounters {
    /// Frames that matched, those lost included.
    pub seen: u32,
    /// Frames lost because the reader was slow.
    pub lost: u32,
}

impl RawSocket {
    /// Opens a socket on `device`; with `receive` off nothing is queued to it.
    ///
    /// # Errors
    /// No such device, or no right to open one.
    pub fn open(namespace: &Namespace, device: &str, receive: bool) -> Outcome<Self> {
        let opened = namespace.enter(|| open_bound(device, receive))?;
        let socket = opened.map_err(|error| {
            Failure::new(format!("packet socket on {} of {}: {error}", device, namespace.name()))
        })?;
        Ok(Self { socket, buffer: vec![0; FRAME_BYTES].into_boxed_slice() })
    }

    /// Puts one frame on the device.
    ///
    /// # Errors
    /// The device refuses it, for example because it is longer than the MTU.
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        loop {
            // SAFETY: pointer and length are of one slice that lives through the call.
            let sent = unsafe {
                libc::send(self.socket.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0)
            };
            if sent >= 0 {
                return Ok(());
            }
            let error = io::Error::last_os_error();
            match error.raw_os_error() {
                // The transmit queue is full: the only remedy is to let it drain.
                Some(libc::ENOBUFS | libc::EAGAIN | libc::EINTR) => std::thread::yield_now(),
                _ => return Err(error),
            }
        }
    }

    /// Waits at most `limit` for a frame; VLAN tags taken off by the kernel are put back.
    ///
    /// # Errors
    /// The device has gone.
    pub fn receive(&mut self, limit: Duration) -> io::Result<Option<Vec<u8>>> {
        if !self.readable(limit)? {
            return Ok(None);
        }
        let mut control = [0u64; CONTROL_BYTES / 8];
        let mut part =
            libc::iovec { iov_base: self.buffer.as_mut_ptr().cast(), iov_len: self.buffer.len() };
        // SAFETY: all zeros is a valid msghdr.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = CONTROL_BYTES;
        // SAFETY: the message names two buffers with their true lengths, both alive here.
        let length =
            unsafe { libc::recvmsg(self.socket.as_raw_fd(), &raw mut message, libc::MSG_DONTWAIT) };
        let Ok(length) = usize::try_from(length) else {
            let error = io::Error::last_os_error();
            return match error.raw_os_error() {
                Some(libc::EAGAIN | libc::EINTR) => Ok(None),
                _ => Err(error),
            };
        };
        let mut frame = self.buffer.get(..length).unwrap_or_default().to_vec();
        if let Some(tag) = vlan_tag(&message) {
            let at = frame.len().min(12);
            frame.splice(at..at, tag);
        }
        Ok(Some(frame))
    }

    fn readable(&self, limit: Duration) -> io::Result<bool> {
        let mut poll =
            libc::pollfd { fd: self.socket.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        let limit_ms = i32::try_from(limit.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: exactly one entry is passed and it lives through the call.
        let ready = unsafe { libc::poll(&raw mut poll, 1, limit_ms) };
        if ready >= 0 {
            return Ok(ready > 0);
        }
        let error = io::Error::last_os_error();
        if error.kind() == io::ErrorKind::Interrupted { Ok(false) } else { Err(error) }
    }

    /// The kernel's counters, which start again at zero with every call.
    ///
    /// # Errors
    /// The kernel refuses to say.
    pub fn counters(&self) -> io::Result<SocketCounters> {
        let mut counted = [0u32; 2];
        let mut length = socklen(std::mem::size_of_val(&counted));
        // SAFETY: the buffer has the two 32-bit words the option fills, and `length` says so.
        let status = unsafe {
            libc::getsockopt(
                self.socket.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_STATISTICS,
                counted.as_mut_ptr().cast(),
                &raw mut length,
            )
        };
        let [seen, lost] = counted;
        if status == 0 {
            Ok(SocketCounters { seen, lost })
        } else {
            Err(io::Error::last_os_error())
        }
    }
}

fn open_bound(device: &str, receive: bool) -> io::Result<OwnedFd> {
    let name = CString::new(device).map_err(io::Error::other)?;
    // SAFETY: the string is terminated and lives through the call.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    if index == 0 {
        return Err(io::Error::last_os_error());
    }
    let protocol = if receive { ALL_PROTOCOLS } else { 0 };
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
    // SAFETY: no memory is passed.
    let raw = unsafe { libc::socket(libc::AF_PACKET, kind, libc::c_int::from(protocol)) };
    if raw < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a descriptor just returned by the kernel, owned by nobody else.
    let socket = unsafe { OwnedFd::from_raw_fd(raw) };
    set_option(&socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, BUFFER_BYTES)?;
    set_option(&socket, libc::SOL_PACKET, libc::PACKET_AUXDATA, 1)?;
    // SAFETY: all zeros is a valid sockaddr_ll.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = u16::try_from(libc::AF_PACKET).unwrap_or(0);
    address.sll_protocol = protocol;
    address.sll_ifindex = i32::try_from(index).unwrap_or(0);
    let length = socklen(std::mem::size_of_val(&address));
    // SAFETY: address and length are of one live structure.
    let status = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) };
    if status == 0 { Ok(socket) } else { Err(io::Error::last_os_error()) }
}

fn set_option(
    socket: &OwnedFd,
    level: libc::c_int,
    option: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    let length = socklen(std::mem::size_of_val(&value));
    // SAFETY: value and length are of one live integer.
    let status = unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const value).cast(), length)
    };
    if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The tag the kernel took off the frame, as the four bytes that stood in it.
fn vlan_tag(message: &libc::msghdr) -> Option<[u8; 4]> {
    // SAFETY: the kernel has filled in the control buffer and its length.
    let first = unsafe { libc::CMSG_FIRSTHDR(message) };
    if first.is_null() {
        return None;
    }
    // SAFETY: not null, so it points at a whole header within the control buffer.
    let header = unsafe { first.read_unaligned() };
    if (header.cmsg_level, header.cmsg_type) != (libc::SOL_PACKET, libc::PACKET_AUXDATA) {
        return None;
    }
    // SAFETY: `first` is a valid control message, whose data follows it.
    let data = unsafe { libc::CMSG_DATA(first) };
    // SAFETY: a message of this level and type carries a whole tpacket_auxdata.
    let auxiliary = unsafe { data.cast::<libc::tpacket_auxdata>().read_unaligned() };
    if auxiliary.tp_status & libc::TP_STATUS_VLAN_VALID == 0 {
        return None;
    }
    let [a, b] = if auxiliary.tp_status & libc::TP_STATUS_VLAN_TPID_VALID == 0 {
        [0x81, 0x00]
    } else {
        auxiliary.tp_vlan_tpid.to_be_bytes()
    };
    let [c, d] = auxiliary.tp_vlan_tci.to_be_bytes();
    Some([a, b, c, d])
}

fn socklen(bytes: usize) -> libc::socklen_t {
    libc::socklen_t::try_from(bytes).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::RawSocket;
    use crate::failure::Outcome;
    use crate::netns::{Namespace, veth};
    use crate::packet;
    use std::time::Duration;

    #[test]
    fn a_frame_arrives_as_it_was_sent_tag_included() -> Outcome<()> {
        crate::require_privileges!("a_frame_arrives_as_it_was_sent_tag_included");
        let (left, right) = (Namespace::create("l")?, Namespace::create("r")?);
        veth((&left, "eth0"), (&right, "eth0"))?;
        let mut receiver = RawSocket::open(&right, "eth0", true)?;
        let sender = RawSocket::open(&left, "eth0", false)?;
        let inner =
            packet::udp(("10.1.0.2".parse().unwrap(), 1), ("10.2.0.2".parse().unwrap(), 2), b"x");
        let frame = packet::frame([2; 6], [4; 6], &[(0x8100, 7)], &inner);
        sender.send(&frame)?;
        loop {
            let got = receiver.receive(Duration::from_secs(5))?.ok_or("nothing arrived")?;
            // The kernel's own router solicitations may come first.
            if got.get(..6) == Some(&[2; 6][..]) {
                assert_eq!(got, frame);
                return Ok(());
            }
        }
    }
}
