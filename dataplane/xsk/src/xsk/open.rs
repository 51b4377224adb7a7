//! Opening a queue, closing it, and getting its frames back.
//!
//! A queue that has just been closed, by us or by a process that died, is let go by the
//! kernel a little later; until then opening it says `EBUSY`. It is tried again for some
//! time before it is called an error.

use std::error::Error;
use std::ffi::CString;
use std::fmt;
use std::io;
use std::thread::sleep;
use std::time::{Duration, Instant};

use xsk_rs::config::{BindFlags, Interface, LibxdpFlags, QueueSize, SocketConfig};
use xsk_rs::socket::SocketCreateError;
use xsk_rs::{CompQueue, FillQueue, RxQueue, Socket, TxQueue};

use crate::frame::{Frame, FrameStock};
use crate::xsk::error::OpenError;
use crate::xsk::rings::{XskRings, XskSocket};
use crate::xsk::sys;
use crate::xsk::umem::{UmemConfig, XskUmem, error_number};

/// How long a busy queue is tried. The kernel was seen to need 60 ms to let go; another
/// program keeps it for ever.
const BUSY_DEADLINE: Duration = Duration::from_secs(2);
/// First pause between two tries; doubled each time up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// What is asked of a queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// The best there is.
    #[default]
    Auto,
    /// Zero copy or nothing.
    ZeroCopy,
    /// Copy, with the program in the driver.
    Copy,
    /// Copy, with the program attached in generic mode; to the socket the same as copy.
    Generic,
}

/// What was got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Granted {
    /// The device reads and writes the UMEM itself.
    ZeroCopy,
    /// The kernel copies. Whether in the driver or generic depends on how the program is
    /// attached.
    Copy,
}

impl fmt::Display for Granted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ZeroCopy => "zero-copy",
            Self::Copy => "copy",
        })
    }
}

/// Preferred busy polling: the worker drives the device instead of interrupts.
///
/// The device's `napi_defer_hard_irqs` and `gro_flush_timeout` have to be set as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BusyPoll {
    /// How long one call polls, in microseconds (`SO_BUSY_POLL`).
    pub time_us: u32,
    /// Packets for one call at most (`SO_BUSY_POLL_BUDGET`).
    pub budget: u16,
}

/// One queue of one device.
#[derive(Clone, Debug)]
pub struct QueueRequest {
    /// The device's name.
    pub device: String,
    /// The queue's number.
    pub queue: u32,
    /// What is asked for.
    pub mode: Mode,
    /// Whether to busy-poll.
    pub busy_poll: Option<BusyPoll>,
}

/// A queue just opened: hand its parts to the workers.
#[derive(Debug)]
pub struct OpenedQueue {
    /// One socket for each worker, in the order of workers.
    pub sockets: Vec<XskSocket>,
    /// Fill and completion ring, for the queue's own worker.
    pub rings: XskRings,
    /// What was got.
    pub granted: Granted,
    /// How long the kernel took to let go of the queue's last owner, in milliseconds.
    pub waited_ms: u64,
}

/// Everything opened at once.
#[derive(Debug)]
pub struct Opened {
    /// The UMEM.
    pub umem: XskUmem,
    /// Each worker's free frames.
    pub stocks: Vec<FrameStock>,
    /// The queues in the order of the requests.
    pub queues: Vec<OpenedQueue>,
    /// Why it is not zero-copy although that was allowed.
    pub fallback: Option<String>,
}

/// Opens a UMEM and every queue on it, in one mode: zero-copy if all devices have it and
/// nobody objects, otherwise copy.
///
/// # Errors
/// [`OpenError`] of the first thing that could not be had; nothing stays open then.
pub fn open_all(config: UmemConfig, requests: &[QueueRequest]) -> Result<Opened, OpenError> {
    let copy = requests.iter().any(|r| matches!(r.mode, Mode::Copy | Mode::Generic));
    let insist = requests.iter().find(|r| r.mode == Mode::ZeroCopy);
    if let (true, Some(request)) = (copy, insist) {
        return Err(OpenError::ModeConflict { device: request.device.clone() });
    }
    if copy {
        return open_each(config, requests, Mode::Copy);
    }
    match open_each(config, requests, Mode::ZeroCopy) {
        Err(error @ OpenError::NoZeroCopy { .. }) if insist.is_none() => {
            let fallback = error.to_string();
            let opened = open_each(config, requests, Mode::Copy)?;
            Ok(Opened { fallback: Some(fallback), ..opened })
        }
        other => other,
    }
}

fn open_each(
    config: UmemConfig,
    requests: &[QueueRequest],
    mode: Mode,
) -> Result<Opened, OpenError> {
    let (umem, stocks) = XskUmem::new(config)?;
    let queues = requests
        .iter()
        .map(|request| umem.open_queue(&QueueRequest { mode, ..request.clone() }))
        .collect::<Result<_, _>>();
    Ok(Opened { queues: queues?, umem, stocks, fallback: None })
}

type Rings = Option<(FillQueue, CompQueue)>;
type Parts = (TxQueue, RxQueue, Rings);

impl XskUmem {
    /// Opens a queue: one socket for each worker, and the rings they share.
    ///
    /// The mode of the first queue on a UMEM is the mode of all (the kernel's rule):
    /// [`Mode::Auto`] takes what there is. Blocks for up to two seconds while the
    /// kernel says that the queue is busy.
    ///
    /// # Errors
    /// [`OpenError`], saying what mends it.
    pub fn open_queue(&self, request: &QueueRequest) -> Result<OpenedQueue, OpenError> {
        let _alone = self.opening();
        let interface = CString::new(request.device.as_str()).unwrap_or_default();
        let index = sys::device_index(&interface);
        if index == 0 {
            return Err(OpenError::NoDevice { device: request.device.clone() });
        }
        let place = (index, request.queue);
        if self.is_open(place) {
            return Err(busy(request, Duration::ZERO));
        }
        let interface = Interface::new(interface);
        let started = Instant::now();
        let (first, granted) = self.first_socket(&interface, request)?;
        let waited_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let tag = self.next_tag();
        self.place(tag, place);
        self.sockets().granted.get_or_insert(granted);
        let opened = self.other_sockets(&interface, request, first, tag);
        let (sockets, rings) = opened.inspect_err(|_| {
            // All of this queue's sockets are closed again; an error of this says no more
            // than the one that is returned.
            let _ = self.move_anchor(tag);
        })?;
        let rings = rings.and_then(|rings| XskRings::new(self.clone(), rings, place, &sockets));
        let rings = rings.ok_or_else(|| busy(request, started.elapsed()))?;
        Ok(OpenedQueue { sockets, rings, granted, waited_ms })
    }

    /// Binds the sockets of the other workers beside the first.
    fn other_sockets(
        &self,
        interface: &Interface,
        request: &QueueRequest,
        (tx, rx, rings): Parts,
        tag: u16,
    ) -> Result<(Vec<XskSocket>, Rings), OpenError> {
        let busy_poll = request.busy_poll.is_some();
        let other = |error| OpenError::Other {
            doing: format!("queue {} of {}", request.queue, request.device),
            error,
        };
        let socket = |tx, rx| XskSocket::new(self.clone(), (tx, rx), tag, busy_poll);
        let mut sockets = vec![socket(tx, rx).map_err(other)?];
        self.anchor_at(tag).map_err(other)?;
        for _ in 1..self.config().workers {
            let (tx, rx, _) = self.bind(interface, request, BindFlags::empty())?;
            sockets.push(socket(tx, rx).map_err(other)?);
        }
        if let Some(busy_poll) = request.busy_poll {
            for socket in &sockets {
                set_busy_poll(socket, busy_poll).map_err(|error| OpenError::Other {
                    doing: format!("busy polling of {} queue {}", request.device, request.queue),
                    error,
                })?;
            }
        }
        Ok((sockets, rings))
    }

    /// Binds the first socket of a queue, and finds out which mode it got.
    fn first_socket(
        &self,
        interface: &Interface,
        request: &QueueRequest,
    ) -> Result<(Parts, Granted), OpenError> {
        let settled = self.granted();
        let wanted = match (request.mode, settled) {
            (Mode::ZeroCopy, Some(Granted::Copy))
            | (Mode::Copy | Mode::Generic, Some(Granted::ZeroCopy)) => {
                return Err(OpenError::ModeConflict { device: request.device.clone() });
            }
            (Mode::Auto | Mode::ZeroCopy, None | Some(Granted::ZeroCopy)) => Granted::ZeroCopy,
            (Mode::Copy | Mode::Generic | Mode::Auto, None | Some(Granted::Copy)) => Granted::Copy,
        };
        let parts = match self.bind(interface, request, flag(wanted)) {
            Err(OpenError::NoZeroCopy { .. })
                if request.mode == Mode::Auto && settled.is_none() =>
            {
                self.bind(interface, request, flag(Granted::Copy))?
            }
            other => other?,
        };
        let zero_copy = sys::is_zero_copy(fd_of(&parts)).map_err(|error| OpenError::Other {
            doing: format!("mode of {} queue {}", request.device, request.queue),
            error,
        })?;
        Ok((parts, if zero_copy { Granted::ZeroCopy } else { Granted::Copy }))
    }

    /// Binds one socket, trying again while the queue is busy.
    fn bind(
        &self,
        interface: &Interface,
        request: &QueueRequest,
        mode: BindFlags,
    ) -> Result<Parts, OpenError> {
        let config = self.socket_config(mode)?;
        let started = Instant::now();
        let mut pause = FIRST_PAUSE;
        loop {
            // SAFETY: the binding loads no program (the flag is set), which is what makes
            // several sockets on one queue sound.
            let made = unsafe { Socket::new(config, self.kernel(), interface, request.queue) };
            let error = match made {
                Ok(parts) => return Ok(parts),
                Err(error) => error,
            };
            let waited = started.elapsed();
            if error_number(&error) != Some(libc::EBUSY) || waited >= BUSY_DEADLINE {
                let zero_copy = mode.contains(BindFlags::XDP_ZEROCOPY);
                return Err(refused(&error, request, zero_copy, waited));
            }
            sleep(pause);
            // If this fails, so will the next try, and says why.
            let _ = self.renew_anchor();
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    fn socket_config(&self, mode: BindFlags) -> Result<SocketConfig, OpenError> {
        let power = |_| OpenError::Shape("ring sizes must be powers of two");
        let mut flags = mode | BindFlags::XDP_USE_NEED_WAKEUP;
        flags.set(BindFlags::XDP_USE_SG, self.config().multi_buffer);
        Ok(SocketConfig::builder()
            .rx_queue_size(QueueSize::new(self.config().rings.rx).map_err(power)?)
            .tx_queue_size(QueueSize::new(self.config().rings.tx).map_err(power)?)
            .libxdp_flags(LibxdpFlags::XSK_LIBXDP_FLAGS_INHIBIT_PROG_LOAD)
            .bind_flags(flags)
            .build())
    }

    /// Closes a queue. Its frames stay where they are until the kernel has let go of
    /// them, which [`ClosedQueue`] finds out.
    ///
    /// # Errors
    /// Rings and sockets as they were, unless they are those of one queue, all of them.
    pub fn close_queue(
        &self,
        rings: XskRings,
        sockets: Vec<XskSocket>,
    ) -> Result<ClosedQueue, Box<(XskRings, Vec<XskSocket>)>> {
        let all = sockets.len() == rings.gauges.len();
        if !all || sockets.iter().any(|socket| socket.tag != rings.tag) {
            return Err(Box::new((rings, sockets)));
        }
        let _alone = self.opening();
        let (tag, place) = (rings.tag, rings.place);
        drop(rings);
        drop(sockets);
        // If this fails the queue stays bound, which opening it again will say.
        let anchor = self.move_anchor(tag);
        Ok(ClosedQueue { umem: self.clone(), tag, place, anchor })
    }
}

/// A queue that has been closed, and the claim to the frames that the kernel had.
#[derive(Debug)]
#[must_use = "the frames that the kernel had are to be reclaimed"]
pub struct ClosedQueue {
    umem: XskUmem,
    tag: u16,
    place: (u32, u32),
    anchor: io::Result<()>,
}

impl ClosedQueue {
    /// Takes the frames back now that the same queue has been opened again: the kernel
    /// binds a queue only after it has let go of its last owner's frames.
    ///
    /// # Errors
    /// The claim, if `reopened` is not the same queue of the same device.
    pub fn reclaim(self, reopened: &XskRings, give: impl FnMut(Frame)) -> Result<(), Self> {
        if reopened.place != self.place || reopened.tag == self.tag {
            return Err(self);
        }
        // SAFETY: the kernel has bound the queue anew, so its old owner's pool is gone.
        unsafe { self.umem.umem().reclaim_queue(self.tag, give) };
        Ok(())
    }

    /// Takes the frames back if the device is gone from this network namespace; the
    /// kernel unbinds the sockets of a device as it goes.
    ///
    /// # Errors
    /// The claim, if the device is still there.
    pub fn reclaim_gone(self, give: impl FnMut(Frame)) -> Result<(), Self> {
        if sys::device_exists(self.place.0) {
            return Err(self);
        }
        // SAFETY: the device has no number any more; its queues were torn down before.
        unsafe { self.umem.umem().reclaim_queue(self.tag, give) };
        Ok(())
    }

    /// What the kernel said when the queue was let go; an error means that it stays bound
    /// until the process ends.
    ///
    /// # Errors
    /// The system call's.
    pub fn released(&self) -> Result<(), &io::Error> {
        self.anchor.as_ref().copied()
    }
}

fn fd_of(parts: &Parts) -> std::os::fd::RawFd {
    std::os::fd::AsRawFd::as_raw_fd(parts.1.fd())
}

const fn flag(mode: Granted) -> BindFlags {
    match mode {
        Granted::ZeroCopy => BindFlags::XDP_ZEROCOPY,
        Granted::Copy => BindFlags::XDP_COPY,
    }
}

fn refused(
    error: &SocketCreateError,
    request: &QueueRequest,
    zero_copy: bool,
    waited: Duration,
) -> OpenError {
    let (device, queue) = (request.device.clone(), request.queue);
    match error_number(error) {
        Some(libc::EOPNOTSUPP | libc::EINVAL) if zero_copy => {
            OpenError::NoZeroCopy { device, queue }
        }
        Some(libc::EBUSY) => busy(request, waited),
        Some(libc::EINVAL) => OpenError::NoQueue { device, queue },
        Some(libc::ENODEV | libc::ENXIO) => OpenError::NoDevice { device },
        Some(libc::EPERM | libc::EACCES) => OpenError::Permission,
        number => OpenError::Other {
            doing: format!("queue {queue} of {device}: {error}"),
            error: error
                .source()
                .and_then(|_| number.map(io::Error::from_raw_os_error))
                .unwrap_or_else(|| io::Error::other("no error number")),
        },
    }
}

fn busy(request: &QueueRequest, waited: Duration) -> OpenError {
    OpenError::QueueBusy {
        device: request.device.clone(),
        queue: request.queue,
        waited_ms: u64::try_from(waited.as_millis()).unwrap_or(u64::MAX),
    }
}

fn set_busy_poll(socket: &XskSocket, busy_poll: BusyPoll) -> io::Result<()> {
    let fd = socket.raw_fd();
    let time_us = i32::try_from(busy_poll.time_us).unwrap_or(i32::MAX);
    sys::set_option(fd, libc::SOL_SOCKET, libc::SO_PREFER_BUSY_POLL, 1)?;
    sys::set_option(fd, libc::SOL_SOCKET, libc::SO_BUSY_POLL, time_us)?;
    let budget = i32::from(busy_poll.budget);
    sys::set_option(fd, libc::SOL_SOCKET, libc::SO_BUSY_POLL_BUDGET, budget)
}
