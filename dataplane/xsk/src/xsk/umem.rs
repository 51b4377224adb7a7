//! The kernel's UMEM: memory, frame descriptors, and the sockets that live on it.

use std::error::Error;
use std::fmt;
use std::io;
use std::num::NonZeroU32;
use std::os::fd::{AsRawFd, RawFd};
use std::ptr::{NonNull, with_exposed_provenance_mut};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use xsk_rs::FrameDesc;
use xsk_rs::config::{FrameSize, QueueSize, UmemConfig as KernelConfig};

use crate::error::OpenError;
use crate::frame::{Frame, FrameStock};
use crate::open::{Granted, Pages, UmemConfig, map_pages};
use crate::region::{DATA_OFFSET, Region};
use crate::sys;
use crate::umem::{MAX_WORKERS, Umem};
use crate::xsk::rings;

/// The UMEM registered with the kernel; a handle, cheap to clone.
#[derive(Clone)]
pub struct XskUmem {
    inner: Arc<Inner>,
}

struct Inner {
    umem: Umem,
    kernel: xsk_rs::Umem,
    templates: Box<[FrameDesc]>,
    config: UmemConfig,
    pages: Pages,
    next_tag: AtomicU16,
    base: u64,
    sockets: Mutex<Sockets>,
    opening: Mutex<()>,
}

/// The sockets that are open now.
#[derive(Default)]
pub(super) struct Sockets {
    /// By queue tag and our own descriptor.
    open: Vec<(u16, RawFd)>,
    /// Device and queue of each tag that has been open.
    places: Vec<(u16, (u32, u32))>,
    /// The descriptor by which the binding knows the UMEM: that of the first socket ever
    /// opened.
    anchor: Option<RawFd>,
    /// The queue whose socket the anchor names now.
    anchored: Option<u16>,
    /// What the first queue was granted; holds for all.
    pub(super) granted: Option<Granted>,
}

impl XskUmem {
    /// Maps the memory and registers it; with it, each home's free frames.
    ///
    /// # Errors
    /// [`OpenError`], naming the limit or the capability that is in the way.
    pub fn new(config: UmemConfig) -> Result<(Self, Vec<FrameStock>), OpenError> {
        let kernel_config = check(&config)?;
        let count = config.workers as u64 * u64::from(config.frames_per_worker);
        let count = u32::try_from(count).ok().and_then(NonZeroU32::new);
        let count = count.ok_or(OpenError::Shape("frames must be between 1 and 2^32"))?;
        let (kernel, templates, pages) = map(&config, kernel_config, count)?;
        let base = base_of(&kernel, &templates)?;
        let workers = config.workers as u8;
        let (shift, share) = (config.chunk.shift(), config.frames_per_worker);
        let keep = Box::new(kernel.clone());
        // SAFETY: the base is that of the mapping, which `kernel` keeps; the binding
        // touches chunks only through calls made here with a token in hand.
        let region = unsafe { Region::of_kernel(base, shift, share, workers, keep) };
        let (umem, stocks) = Umem::new(region, workers);
        let inner = Inner {
            umem,
            kernel,
            templates: templates.into_boxed_slice(),
            config,
            pages,
            next_tag: AtomicU16::new(1),
            base: base.as_ptr().expose_provenance() as u64,
            sockets: Mutex::default(),
            opening: Mutex::default(),
        };
        Ok((Self { inner: Arc::new(inner) }, stocks))
    }

    pub(super) fn memory(&self) -> &Umem {
        &self.inner.umem
    }

    pub(super) fn config(&self) -> &UmemConfig {
        &self.inner.config
    }

    pub(super) fn kind_of_pages(&self) -> &Pages {
        &self.inner.pages
    }

    pub(super) fn kernel(&self) -> &xsk_rs::Umem {
        &self.inner.kernel
    }

    #[inline(always)]
    pub(super) fn region(&self) -> &Region {
        self.inner.umem.region()
    }

    /// A tag that no open queue has.
    pub(super) fn next_tag(&self) -> u16 {
        loop {
            let tag = self.inner.next_tag.fetch_add(1, Ordering::Relaxed);
            if !self.sockets().open.iter().any(|&(of, _)| of == tag) {
                return tag;
            }
        }
    }

    pub(super) fn sockets(&self) -> MutexGuard<'_, Sockets> {
        self.inner.sockets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Only one queue is opened at a time: the anchor is set for it.
    pub(super) fn opening(&self) -> MutexGuard<'_, ()> {
        self.inner.opening.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of a socket: our descriptor of it, and the binding's.
    pub(super) fn enlist(&self, tag: u16, fd: RawFd, binding: RawFd) {
        let mut sockets = self.sockets();
        sockets.open.push((tag, fd));
        if *sockets.anchor.get_or_insert(binding) == binding {
            sockets.anchored = Some(tag);
        }
    }

    pub(super) fn strike_off(&self, fd: RawFd) {
        self.sockets().open.retain(|&(_, open)| open != fd);
    }

    /// Makes the anchor name the first socket of queue `tag`, so that the sockets bound
    /// next share that queue's rings.
    ///
    /// The kernel takes the queue to share from the socket it is pointed to, and the
    /// binding always points to the anchor.
    pub(super) fn anchor_at(&self, tag: u16) -> io::Result<()> {
        let mut sockets = self.sockets();
        let first = sockets.open.iter().find(|&&(of, _)| of == tag).copied();
        if let (Some(anchor), Some((_, fd))) = (sockets.anchor, first)
            && sockets.anchored != Some(tag)
        {
            sys::rename(fd, anchor)?;
            sockets.anchored = Some(tag);
        }
        Ok(())
    }

    /// Makes the anchor let go of queue `tag`, whose sockets have all been closed.
    ///
    /// The binding keeps that descriptor for ever, and with it the queue bound; it could
    /// then not be opened again. So it is made to name a socket of another queue or, if
    /// there is none, a new one with the same memory.
    pub(super) fn move_anchor(&self, tag: u16) -> io::Result<()> {
        let mut sockets = self.sockets();
        let Some(anchor) = sockets.anchor else { return Ok(()) };
        if sockets.anchored != Some(tag) {
            return Ok(());
        }
        if let Some(&(other, fd)) = sockets.open.iter().find(|&&(other, _)| other != tag) {
            sys::rename(fd, anchor)?;
            sockets.anchored = Some(other);
            return Ok(());
        }
        sockets.anchored = None;
        self.renew(anchor)
    }

    /// Gives an anchor that names no queue's socket a new one. A bind that failed leaves
    /// rings on it that would be in the way of the next.
    pub(super) fn renew_anchor(&self) -> io::Result<()> {
        let sockets = self.sockets();
        match (sockets.anchor, sockets.anchored) {
            (Some(anchor), None) => self.renew(anchor),
            (None, _) | (_, Some(_)) => Ok(()),
        }
    }

    fn renew(&self, anchor: RawFd) -> io::Result<()> {
        let config = &self.inner.config;
        let (len, chunk) = (config.bytes(), config.chunk.bytes());
        let fresh = sys::registered_socket(self.inner.base, len, chunk, config.rings)?;
        sys::rename(fresh.as_raw_fd(), anchor)
    }

    /// Remembers where the queue of `tag` is.
    pub(super) fn place(&self, tag: u16, place: (u32, u32)) {
        self.sockets().places.push((tag, place));
    }

    /// Whether a queue is open on this UMEM already.
    pub(super) fn is_open(&self, place: (u32, u32)) -> bool {
        let mut sockets = self.sockets();
        let Sockets { open, places, .. } = &mut *sockets;
        places.retain(|(tag, _)| open.iter().any(|(of, _)| of == tag));
        places.iter().any(|&(_, at)| at == place)
    }

    #[inline(always)]
    pub(super) fn template(&self, number: u32) -> FrameDesc {
        self.inner.templates.get(number as usize).copied().unwrap_or_default()
    }

    #[inline(always)]
    pub(super) fn descriptor(&self, frame: &mut Frame) -> FrameDesc {
        rings::describe(&self.inner.kernel, self.template(frame.number()), frame)
    }

    /// Frames that a ring would not take although it had room for them: not believed to
    /// happen, but counted if it does.
    #[cold]
    pub(super) fn lose(&self, batch: &[FrameDesc]) {
        for desc in batch {
            let number = (desc.addr() >> self.inner.config.chunk.shift()) as u32;
            let home = number / self.inner.config.frames_per_worker.max(1);
            self.region().lose(number, home as u8);
        }
    }
}

impl fmt::Debug for XskUmem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("XskUmem").field("config", &self.inner.config).finish_non_exhaustive()
    }
}

fn check(config: &UmemConfig) -> Result<KernelConfig, OpenError> {
    if config.workers == 0 || config.workers > MAX_WORKERS {
        return Err(OpenError::Shape("workers must be between 1 and 64"));
    }
    let power = |_| OpenError::Shape("ring sizes must be powers of two");
    QueueSize::new(config.rings.rx).map_err(power)?;
    QueueSize::new(config.rings.tx).map_err(power)?;
    let size = FrameSize::new(config.chunk.bytes());
    KernelConfig::builder()
        .frame_size(size.map_err(|_| OpenError::Shape("chunk size must be at least 2048"))?)
        .fill_queue_size(QueueSize::new(config.rings.fill).map_err(power)?)
        .comp_queue_size(QueueSize::new(config.rings.completion).map_err(power)?)
        .build()
        .map_err(|_| OpenError::Shape("chunk size leaves no room for data"))
}

type Mapped = (xsk_rs::Umem, Vec<FrameDesc>, Pages);

fn map(config: &UmemConfig, kernel: KernelConfig, count: NonZeroU32) -> Result<Mapped, OpenError> {
    let ((umem, descs), pages) = map_pages(config, |huge| {
        xsk_rs::Umem::new(kernel, count, huge).map_err(|error| {
            error_number(&error)
                .map_or_else(|| io::Error::other(error.to_string()), io::Error::from_raw_os_error)
        })
    })?;
    Ok((umem, descs, pages))
}

/// The error number at the bottom of one of the binding's errors.
pub(super) fn error_number(error: &(dyn Error + 'static)) -> Option<i32> {
    error.source()?.downcast_ref::<io::Error>()?.raw_os_error()
}

fn base_of(kernel: &xsk_rs::Umem, templates: &[FrameDesc]) -> Result<NonNull<u8>, OpenError> {
    let no_base = OpenError::Shape("the UMEM has no frames");
    let Some(first) = templates.first() else { return Err(no_base) };
    // SAFETY: the descriptor is the UMEM's own and nobody has its memory yet.
    let data = unsafe { kernel.data(first) };
    // The mapping came from the kernel, so its provenance is exposed; the slice shows
    // only the first chunk's data, which starts after the headroom.
    let address = data.contents().as_ptr().expose_provenance() - usize::from(DATA_OFFSET);
    NonNull::new(with_exposed_provenance_mut(address)).ok_or(no_base)
}
