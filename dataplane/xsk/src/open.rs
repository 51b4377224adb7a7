//! Opening and closing queues, the same for every way to the kernel.
//!
//! A queue that has just been closed, by us or by a process that died, is let go by the
//! kernel a little later; until then opening it says `EBUSY`. It is tried again for some
//! time before it is called an error.

use std::fmt;
use std::io;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::error::OpenError;
use crate::frame::{Frame, FrameStock};
use crate::socket::{QueueRings, QueueSocket, RingSizes};
use crate::sys;
use crate::umem::{ChunkSize, Umem};

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

/// Whether to try for huge pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HugePages {
    /// Use them where there are any, and say so where not.
    #[default]
    Auto,
    /// Do not try.
    Off,
}

/// What the memory is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pages {
    /// Huge pages of the kernel's default size.
    Huge,
    /// Pages of the ordinary size, and why.
    Small(String),
}

/// Shape of the UMEM and of every ring on it.
#[derive(Clone, Copy, Debug)]
pub struct UmemConfig {
    /// Number of homes, 1 to [`crate::MAX_WORKERS`]; also the number of sockets on each queue.
    pub workers: usize,
    /// Frames of each home.
    pub frames_per_worker: u32,
    /// Size of a frame's chunk.
    pub chunk: ChunkSize,
    /// Whether to try for huge pages.
    pub huge_pages: HugePages,
    /// Rings of every queue and socket.
    pub rings: RingSizes,
    /// Take packets over several buffers (`XDP_USE_SG`).
    pub multi_buffer: bool,
}

impl Default for UmemConfig {
    fn default() -> Self {
        Self {
            workers: 1,
            frames_per_worker: 8192,
            chunk: ChunkSize::default(),
            huge_pages: HugePages::default(),
            rings: RingSizes::default(),
            multi_buffer: false,
        }
    }
}

impl UmemConfig {
    pub(crate) const fn bytes(&self) -> u64 {
        self.workers as u64 * self.frames_per_worker as u64 * self.chunk.bytes() as u64
    }
}

/// Which opening of which queue: its tag, and device and queue by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opening {
    pub(crate) tag: u16,
    pub(crate) place: (u32, u32),
}

/// A way to the kernel's AF_XDP: packet memory, and queues opened on it. A handle, cheap to
/// clone.
///
/// Two rules of the kernel show through: the first queue on a UMEM settles zero-copy or copy
/// for all of them, and a closed queue is let go a little later than the call returns.
pub trait Backend: Clone + fmt::Debug + Send + Sized + 'static {
    /// One worker's socket on one queue.
    type Socket: QueueSocket + fmt::Debug + 'static;
    /// Fill and completion ring of one queue.
    type Rings: QueueRings + fmt::Debug + 'static;

    /// Maps the memory and, with it, makes each home's free frames.
    ///
    /// # Errors
    /// [`OpenError`], naming the limit or the capability that is in the way.
    fn map(config: UmemConfig) -> Result<(Self, Vec<FrameStock>), OpenError>;

    /// Counters, census, reclaiming.
    fn umem(&self) -> &Umem;

    /// Whether huge pages were had, and if not, why.
    fn pages(&self) -> &Pages;

    /// The mode that every queue on this UMEM has; `None` before the first is opened.
    fn granted(&self) -> Option<Granted>;

    /// Opens a queue: one socket for each worker, and the rings they share.
    ///
    /// The mode of the first queue on a UMEM is the mode of all (the kernel's rule):
    /// [`Mode::Auto`] takes what there is. Blocks for up to two seconds while the
    /// kernel says that the queue is busy.
    ///
    /// # Errors
    /// [`OpenError`], saying what mends it.
    fn open_queue(&self, request: &QueueRequest) -> Result<OpenedOn<Self>, OpenError>;

    /// Closes a queue. Its frames stay where they are until the kernel has let go of
    /// them, which [`ClosedQueue`] finds out.
    ///
    /// # Errors
    /// Rings and sockets as they were, unless they are those of one queue, all of them.
    fn close_queue(
        &self,
        rings: Self::Rings,
        sockets: Vec<Self::Socket>,
    ) -> Result<ClosedQueue, NotOneQueue<Self>>;

    /// Which opening these rings are of.
    fn opening_of(rings: &Self::Rings) -> Opening;
}

/// A queue opened on `B`.
pub type OpenedOn<B> = OpenedQueue<<B as Backend>::Socket, <B as Backend>::Rings>;
/// Rings and sockets that are not those of one queue, or not all of them.
pub type NotOneQueue<B> = Box<(<B as Backend>::Rings, Vec<<B as Backend>::Socket>)>;

/// A queue just opened: hand its parts to the workers.
#[derive(Debug)]
pub struct OpenedQueue<S, R> {
    /// One socket for each worker, in the order of workers.
    pub sockets: Vec<S>,
    /// Fill and completion ring, for the queue's own worker.
    pub rings: R,
    /// What was got.
    pub granted: Granted,
    /// How long the kernel took to let go of the queue's last owner, in milliseconds.
    pub waited_ms: u64,
}

/// Everything opened at once.
#[derive(Debug)]
pub struct Opened<B: Backend> {
    /// The UMEM.
    pub umem: B,
    /// Each worker's free frames.
    pub stocks: Vec<FrameStock>,
    /// The queues in the order of the requests.
    pub queues: Vec<OpenedOn<B>>,
    /// Why it is not zero-copy although that was allowed.
    pub fallback: Option<String>,
}

/// Opens a UMEM and every queue on it, in one mode: zero-copy if all devices have it and
/// nobody objects, otherwise copy.
///
/// # Errors
/// [`OpenError`] of the first thing that could not be had; nothing stays open then.
pub fn open_all<B: Backend>(
    config: UmemConfig,
    requests: &[QueueRequest],
) -> Result<Opened<B>, OpenError> {
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

fn open_each<B: Backend>(
    config: UmemConfig,
    requests: &[QueueRequest],
    mode: Mode,
) -> Result<Opened<B>, OpenError> {
    let (umem, stocks) = B::map(config)?;
    let queues = requests
        .iter()
        .map(|request| umem.open_queue(&QueueRequest { mode, ..request.clone() }))
        .collect::<Result<_, _>>();
    Ok(Opened { queues: queues?, umem, stocks, fallback: None })
}

/// A queue that has been closed, and the claim to the frames that the kernel had.
#[derive(Debug)]
#[must_use = "the frames that the kernel had are to be reclaimed"]
pub struct ClosedQueue {
    pub(crate) umem: Umem,
    pub(crate) opening: Opening,
    pub(crate) released: io::Result<()>,
}

impl ClosedQueue {
    /// Takes the frames back now that the same queue has been opened again: the kernel
    /// binds a queue only after it has let go of its last owner's frames.
    ///
    /// # Errors
    /// The claim, if `reopened` is not the same queue of the same device.
    pub fn reclaim<B: Backend>(
        self,
        reopened: &B::Rings,
        give: impl FnMut(Frame),
    ) -> Result<(), Self> {
        let reopened = B::opening_of(reopened);
        if reopened.place != self.opening.place || reopened.tag == self.opening.tag {
            return Err(self);
        }
        // SAFETY: the kernel has bound the queue anew, so its old owner's pool is gone.
        unsafe { self.umem.reclaim_queue(self.opening.tag, give) };
        Ok(())
    }

    /// Takes the frames back if the device is gone from this network namespace; the
    /// kernel unbinds the sockets of a device as it goes.
    ///
    /// # Errors
    /// The claim, if the device is still there.
    pub fn reclaim_gone(self, give: impl FnMut(Frame)) -> Result<(), Self> {
        if sys::device_exists(self.opening.place.0) {
            return Err(self);
        }
        // SAFETY: the device has no number any more; its queues were torn down before.
        unsafe { self.umem.reclaim_queue(self.opening.tag, give) };
        Ok(())
    }

    /// What the kernel said when the queue was let go; an error means that it stays bound
    /// until the process ends.
    ///
    /// # Errors
    /// The system call's.
    pub fn released(&self) -> Result<(), &io::Error> {
        self.released.as_ref().copied()
    }
}

/// Which mode to ask for, given what the first queue of the UMEM was granted.
pub(crate) fn wanted(
    request: &QueueRequest,
    settled: Option<Granted>,
) -> Result<Granted, OpenError> {
    match (request.mode, settled) {
        (Mode::ZeroCopy, Some(Granted::Copy))
        | (Mode::Copy | Mode::Generic, Some(Granted::ZeroCopy)) => {
            Err(OpenError::ModeConflict { device: request.device.clone() })
        }
        (Mode::Auto | Mode::ZeroCopy, None | Some(Granted::ZeroCopy)) => Ok(Granted::ZeroCopy),
        (Mode::Copy | Mode::Generic | Mode::Auto, None | Some(Granted::Copy)) => Ok(Granted::Copy),
    }
}

/// Binds a queue's first socket in the best mode there is for it.
pub(crate) fn bind_first<T>(
    request: &QueueRequest,
    settled: Option<Granted>,
    mut bind: impl FnMut(Granted) -> Result<T, OpenError>,
) -> Result<T, OpenError> {
    match bind(wanted(request, settled)?) {
        Err(OpenError::NoZeroCopy { .. }) if request.mode == Mode::Auto && settled.is_none() => {
            bind(Granted::Copy)
        }
        other => other,
    }
}

/// Tries to bind until the queue is not busy any more, or for so long that it never will be;
/// `between` runs before each further try. The error comes with how long it was tried.
pub(crate) fn bind_patiently<T, E>(
    mut bind: impl FnMut() -> Result<T, E>,
    is_busy: impl Fn(&E) -> bool,
    mut between: impl FnMut(),
) -> Result<T, (E, Duration)> {
    let started = Instant::now();
    let mut pause = FIRST_PAUSE;
    loop {
        let error = match bind() {
            Ok(bound) => return Ok(bound),
            Err(error) => error,
        };
        let waited = started.elapsed();
        if !is_busy(&error) || waited >= BUSY_DEADLINE {
            return Err((error, waited));
        }
        sleep(pause);
        between();
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// What a bind that was refused means to the operator.
pub(crate) fn refused(
    error: io::Error,
    request: &QueueRequest,
    zero_copy: bool,
    waited: Duration,
) -> OpenError {
    let (device, queue) = (request.device.clone(), request.queue);
    match error.raw_os_error() {
        Some(libc::EOPNOTSUPP | libc::EINVAL) if zero_copy => {
            OpenError::NoZeroCopy { device, queue }
        }
        Some(libc::EBUSY) => busy(request, waited),
        Some(libc::EINVAL) => OpenError::NoQueue { device, queue },
        Some(libc::ENODEV | libc::ENXIO) => OpenError::NoDevice { device },
        Some(libc::EPERM | libc::EACCES) => OpenError::Permission,
        _ => OpenError::Other { doing: format!("queue {queue} of {device}"), error },
    }
}

pub(crate) fn busy(request: &QueueRequest, waited: Duration) -> OpenError {
    OpenError::QueueBusy {
        device: request.device.clone(),
        queue: request.queue,
        waited_ms: u64::try_from(waited.as_millis()).unwrap_or(u64::MAX),
    }
}

/// What a UMEM that was refused means to the operator.
pub(crate) fn refused_memory(config: &UmemConfig, error: io::Error) -> OpenError {
    let needed_bytes = config.bytes();
    match error.raw_os_error() {
        Some(libc::ENOBUFS) => {
            OpenError::MemoryLock { needed_bytes, limit_bytes: sys::memlock_limit_bytes() }
        }
        Some(libc::ENOMEM) => OpenError::Memory { needed_bytes },
        Some(libc::EPERM | libc::EACCES) => OpenError::Permission,
        Some(libc::EAFNOSUPPORT) => OpenError::Unsupported,
        _ => OpenError::Other { doing: format!("packet memory of {needed_bytes} bytes"), error },
    }
}

pub(crate) fn set_busy_poll(
    fd: std::os::fd::RawFd,
    request: &QueueRequest,
) -> Result<(), OpenError> {
    let Some(busy_poll) = request.busy_poll else { return Ok(()) };
    let set = || {
        let time_us = i32::try_from(busy_poll.time_us).unwrap_or(i32::MAX);
        sys::set_option(fd, libc::SOL_SOCKET, libc::SO_PREFER_BUSY_POLL, 1)?;
        sys::set_option(fd, libc::SOL_SOCKET, libc::SO_BUSY_POLL, time_us)?;
        let budget = i32::from(busy_poll.budget);
        sys::set_option(fd, libc::SOL_SOCKET, libc::SO_BUSY_POLL_BUDGET, budget)
    };
    set().map_err(|error| OpenError::Other {
        doing: format!("busy polling of {} queue {}", request.device, request.queue),
        error,
    })
}

/// Why there are huge pages or why not: tries `map` with them first.
pub(crate) fn map_pages<T>(
    config: &UmemConfig,
    mut map: impl FnMut(bool) -> io::Result<T>,
) -> Result<(T, Pages), OpenError> {
    let why = match (config.huge_pages, huge_page_bytes()) {
        (HugePages::Off, _) => "switched off".to_owned(),
        (HugePages::Auto, None) => "this kernel has no huge pages".to_owned(),
        (HugePages::Auto, Some(page)) if !config.bytes().is_multiple_of(page) => {
            format!("{} bytes are not a multiple of a huge page of {page}", config.bytes())
        }
        (HugePages::Auto, Some(page)) => match map(true) {
            Ok(mapped) => return Ok((mapped, Pages::Huge)),
            Err(error) => {
                format!("{error}; reserve {} with sysctl vm.nr_hugepages", config.bytes() / page)
            }
        },
    };
    let mapped = map(false).map_err(|error| refused_memory(config, error))?;
    Ok((mapped, Pages::Small(why)))
}

fn huge_page_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Hugepagesize:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}
