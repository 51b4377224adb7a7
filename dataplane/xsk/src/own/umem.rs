//! Packet memory, and the queues opened on it.

use std::ffi::CString;
use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::error::OpenError;
use crate::frame::FrameStock;
use crate::open::{
    Backend, ClosedQueue, Granted, NotOneQueue, OpenedOn, OpenedQueue, Opening, Pages,
    QueueRequest, UmemConfig, bind_first, bind_patiently, busy, map_pages, refused, refused_memory,
    set_busy_poll,
};
use crate::own::map::{self, Mapping, Which};
use crate::own::rings::{FillAndCompletion, OwnRings, OwnSocket, RxAndTx};
use crate::region::Region;
use crate::sys;
use crate::umem::{MAX_WORKERS, Umem};

/// The UMEM; a handle, cheap to clone.
#[derive(Clone)]
pub struct OwnUmem {
    inner: Arc<Inner>,
}

struct Inner {
    umem: Umem,
    config: UmemConfig,
    pages: Pages,
    base: u64,
    next_tag: AtomicU16,
    sockets: Mutex<Sockets>,
    opening: Mutex<()>,
    /// The memory was registered with this socket when it was made, so that the limit in the
    /// way is told before any queue is named; the first queue takes it.
    registered: Mutex<Option<OwnedFd>>,
}

/// The sockets that are open now.
#[derive(Default)]
struct Sockets {
    /// Of which opening, and the descriptor.
    open: Vec<(Opening, RawFd)>,
    /// What the first queue was granted; holds for all.
    granted: Option<Granted>,
}

impl OwnUmem {
    #[inline(always)]
    pub(super) fn region(&self) -> &Region {
        self.inner.umem.region()
    }

    fn sockets(&self) -> MutexGuard<'_, Sockets> {
        self.inner.sockets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn strike_off(&self, fd: RawFd) {
        self.sockets().open.retain(|&(_, open)| open != fd);
    }

    /// A tag that no open queue has.
    fn next_tag(&self) -> u16 {
        loop {
            let tag = self.inner.next_tag.fetch_add(1, Ordering::Relaxed);
            if !self.sockets().open.iter().any(|(opening, _)| opening.tag == tag) {
                return tag;
            }
        }
    }

    /// A socket whose memory is the one registered, if one is open: any on the UMEM will do
    /// for another queue.
    fn any_socket(&self) -> Option<RawFd> {
        self.sockets().open.first().map(|&(_, fd)| fd)
    }

    /// Binds a queue's first socket, which has its fill and completion ring.
    fn bind_first_of(
        &self,
        request: &QueueRequest,
        device: u32,
        mode: Granted,
    ) -> Result<(OwnedFd, RxAndTx, FillAndCompletion), OpenError> {
        let config = &self.inner.config;
        let other = |error| other(request, error);
        let shared = self.any_socket();
        let socket = match shared {
            Some(_) => sys::xdp_socket().map_err(other)?,
            None => self.registered_socket()?,
        };
        let fd = socket.as_raw_fd();
        let both = FillAndCompletion {
            fill: map::producer(fd, Which::Fill, config.rings.fill).map_err(other)?,
            completion: map::consumer(fd, Which::Completion, config.rings.completion)
                .map_err(other)?,
        };
        let rings = self.rx_and_tx(fd).map_err(other)?;
        let mut flags = libc::XDP_USE_NEED_WAKEUP;
        flags |= match mode {
            Granted::ZeroCopy => libc::XDP_ZEROCOPY,
            Granted::Copy => libc::XDP_COPY,
        };
        if config.multi_buffer {
            flags |= libc::XDP_USE_SG;
        }
        let zero_copy = mode == Granted::ZeroCopy;
        self.bind(&socket, request, (device, flags, shared), zero_copy)?;
        Ok((socket, rings, both))
    }

    /// A socket with the UMEM registered, not bound.
    fn registered_socket(&self) -> Result<OwnedFd, OpenError> {
        let kept = self.inner.registered.lock().unwrap_or_else(PoisonError::into_inner).take();
        kept.map_or_else(|| registered(&self.inner.config, self.inner.base), Ok)
    }

    fn rx_and_tx(&self, fd: RawFd) -> io::Result<RxAndTx> {
        let sizes = self.inner.config.rings;
        Ok(RxAndTx {
            rx: map::consumer(fd, Which::Rx, sizes.rx)?,
            tx: map::producer(fd, Which::Tx, sizes.tx)?,
        })
    }

    fn bind(
        &self,
        socket: &OwnedFd,
        request: &QueueRequest,
        (device, flags, shared): (u32, u16, Option<RawFd>),
        zero_copy: bool,
    ) -> Result<(), OpenError> {
        let bind = || map::bind(socket, (device, request.queue), flags, shared);
        let is_busy = |error: &io::Error| error.raw_os_error() == Some(libc::EBUSY);
        bind_patiently(bind, is_busy, || ())
            .map_err(|(error, waited)| refused(error, request, zero_copy, waited))
    }

    fn open_first(
        &self,
        request: &QueueRequest,
        place: (u32, u32),
    ) -> Result<(OwnSocket, FillAndCompletion, Granted), OpenError> {
        let bind = |mode| self.bind_first_of(request, place.0, mode);
        let (fd, rings, both) = bind_first(request, self.granted(), bind)?;
        let zero_copy = sys::is_zero_copy(fd.as_raw_fd()).map_err(|error| other(request, error))?;
        let granted = if zero_copy { Granted::ZeroCopy } else { Granted::Copy };
        let opening = Opening { tag: self.next_tag(), place };
        Ok((self.socket(fd, rings, opening, request)?, both, granted))
    }

    fn socket(
        &self,
        fd: OwnedFd,
        rings: RxAndTx,
        opening: Opening,
        request: &QueueRequest,
    ) -> Result<OwnSocket, OpenError> {
        set_busy_poll(fd.as_raw_fd(), request)?;
        sys::set_tx_budget(fd.as_raw_fd(), self.inner.config.rings.tx);
        self.sockets().open.push((opening, fd.as_raw_fd()));
        Ok(OwnSocket::new(self.clone(), fd, rings, opening.tag, request.busy_poll.is_some()))
    }
}

impl Backend for OwnUmem {
    type Socket = OwnSocket;
    type Rings = OwnRings;

    fn map(config: UmemConfig) -> Result<(Self, Vec<FrameStock>), OpenError> {
        check(&config)?;
        let len = usize::try_from(config.bytes())
            .map_err(|_| OpenError::Memory { needed_bytes: config.bytes() })?;
        let (mapping, pages) = map_pages(&config, |huge| Mapping::anonymous(len, huge))?;
        let base = mapping.base();
        let (shift, share) = (config.chunk.shift(), config.frames_per_worker);
        let workers = config.workers as u8;
        // SAFETY: the mapping is of this length, stays as long as the region keeps it, and is
        // known to nobody else.
        let region = unsafe { Region::of_kernel(base, shift, share, workers, Box::new(mapping)) };
        let (umem, stocks) = Umem::new(region, workers);
        let base = base.as_ptr().expose_provenance() as u64;
        let inner = Inner {
            registered: Mutex::new(Some(registered(&config, base)?)),
            umem,
            config,
            pages,
            base,
            next_tag: AtomicU16::new(1),
            sockets: Mutex::default(),
            opening: Mutex::default(),
        };
        Ok((Self { inner: Arc::new(inner) }, stocks))
    }

    fn umem(&self) -> &Umem {
        &self.inner.umem
    }

    fn pages(&self) -> &Pages {
        &self.inner.pages
    }

    fn granted(&self) -> Option<Granted> {
        self.sockets().granted
    }

    fn open_queue(&self, request: &QueueRequest) -> Result<OpenedOn<Self>, OpenError> {
        let _alone = self.inner.opening.lock().unwrap_or_else(PoisonError::into_inner);
        let name = CString::new(request.device.as_str()).unwrap_or_default();
        let device = sys::device_index(&name);
        if device == 0 {
            return Err(OpenError::NoDevice { device: request.device.clone() });
        }
        let place = (device, request.queue);
        if self.sockets().open.iter().any(|(opening, _)| opening.place == place) {
            return Err(busy(request, Duration::ZERO));
        }
        let started = Instant::now();
        let (first, both, granted) = self.open_first(request, place)?;
        let waited_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.sockets().granted.get_or_insert(granted);
        let opening = Opening { tag: first.tag(), place };
        let shared = first.raw_fd();
        let mut sockets = vec![first];
        for _ in 1..self.inner.config.workers {
            let fd = sys::xdp_socket().map_err(|error| other(request, error))?;
            let rings = self.rx_and_tx(fd.as_raw_fd()).map_err(|error| other(request, error))?;
            self.bind(&fd, request, (device, 0, Some(shared)), false)?;
            sockets.push(self.socket(fd, rings, opening, request)?);
        }
        let rings = OwnRings::new(self.clone(), both, opening, &sockets)
            .map_err(|error| other(request, error))?;
        Ok(OpenedQueue { sockets, rings, granted, waited_ms })
    }

    fn close_queue(
        &self,
        rings: OwnRings,
        sockets: Vec<OwnSocket>,
    ) -> Result<ClosedQueue, NotOneQueue<Self>> {
        let opening = rings.opening();
        let all = sockets.len() == rings.socket_count();
        if !all || sockets.iter().any(|socket| socket.tag() != opening.tag) {
            return Err(Box::new((rings, sockets)));
        }
        let _alone = self.inner.opening.lock().unwrap_or_else(PoisonError::into_inner);
        drop(rings);
        drop(sockets);
        Ok(ClosedQueue { umem: self.inner.umem.clone(), opening, released: Ok(()) })
    }

    fn opening_of(rings: &OwnRings) -> Opening {
        rings.opening()
    }
}

impl fmt::Debug for OwnUmem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnUmem").field("config", &self.inner.config).finish_non_exhaustive()
    }
}

fn registered(config: &UmemConfig, base: u64) -> Result<OwnedFd, OpenError> {
    let registered = || {
        let socket = sys::xdp_socket()?;
        sys::register_umem(socket.as_raw_fd(), base, config.bytes(), config.chunk.bytes())?;
        Ok(socket)
    };
    registered().map_err(|error| refused_memory(config, error))
}

fn other(request: &QueueRequest, error: io::Error) -> OpenError {
    OpenError::Other { doing: format!("queue {} of {}", request.queue, request.device), error }
}

fn check(config: &UmemConfig) -> Result<(), OpenError> {
    if config.workers == 0 || config.workers > MAX_WORKERS {
        return Err(OpenError::Shape("workers must be between 1 and 64"));
    }
    let sizes = config.rings;
    if ![sizes.fill, sizes.completion, sizes.rx, sizes.tx].iter().all(|size| size.is_power_of_two())
    {
        return Err(OpenError::Shape("ring sizes must be powers of two"));
    }
    let frames = config.workers as u64 * u64::from(config.frames_per_worker);
    if frames == 0 || frames > u64::from(u32::MAX) {
        return Err(OpenError::Shape("frames must be between 1 and 2^32"));
    }
    Ok(())
}
