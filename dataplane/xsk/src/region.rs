//! The memory of a UMEM and, beside it, one word of state for each frame.
//!
//! The only place where a [`Frame`] is made or taken apart. A frame's word says who has
//! it; a token exists exactly while the word says [`State::Held`], so two tokens for one
//! frame cannot come into being whatever a ring contains.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::frame::Frame;

/// Where data to be sent starts in its chunk, and where the kernel puts what it receives.
///
/// The kernel keeps these 256 bytes in front of a received frame free for the XDP
/// program, and the binding cannot move the start of a frame to be sent.
pub(crate) const DATA_OFFSET: u16 = 256;

/// Who has a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum State {
    /// A token exists.
    Held = 0,
    /// In a fill ring, in the kernel's hands for receiving, or in an rx ring.
    Filled = 1,
    /// In a tx ring, in the kernel's hands for sending, or in a completion ring.
    Sent = 2,
    /// Its token was dropped, or its descriptor could not be believed.
    Lost = 3,
}

/// A descriptor as it stands in a ring.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Descriptor {
    pub address: u64,
    pub len: u32,
    pub more: bool,
}

/// Keeps the memory mapped.
enum Backing {
    Heap(NonNull<u8>, Layout),
    Kernel { _keep: Box<dyn Send> },
}

pub(crate) struct Region {
    base: NonNull<u8>,
    shift: u32,
    count: u32,
    frames_per_worker: u32,
    /// A frame's word: state in bits 0 to 7, home in 8 to 15, queue tag in 16 to 31.
    words: Box<[AtomicU32]>,
    pub(crate) lost: AtomicU64,
    pub(crate) violations: AtomicU64,
    backing: Backing,
}

// SAFETY: the chunks behind `base` are reached only through tokens, one for each chunk;
// all else is atomics or constant. The heap pointer is used again only on drop.
unsafe impl Send for Region {}
// SAFETY: as above.
unsafe impl Sync for Region {}

impl Region {
    /// A region on the heap: `workers * frames_per_worker` chunks of `1 << shift` bytes.
    pub(crate) fn on_heap(shift: u32, frames_per_worker: u32, workers: u8) -> Self {
        let bytes = (frames_per_worker as usize * usize::from(workers)).max(1) << shift;
        let layout = Layout::from_size_align(bytes, 4096).unwrap_or(Layout::new::<u64>());
        // SAFETY: the layout is not of size zero.
        let memory = unsafe { alloc_zeroed(layout) };
        let Some(base) = NonNull::new(memory) else { handle_alloc_error(layout) };
        Self::new(base, shift, frames_per_worker, workers, Backing::Heap(base, layout))
    }

    /// The region of a kernel UMEM; `base` is the start of its mapping.
    ///
    /// # Safety
    /// `base` points to `workers * frames_per_worker << shift` bytes that stay mapped as
    /// long as `keep` lives and that nothing else in this process touches.
    pub(crate) unsafe fn of_kernel(
        base: NonNull<u8>,
        shift: u32,
        frames_per_worker: u32,
        workers: u8,
        keep: Box<dyn Send>,
    ) -> Self {
        Self::new(base, shift, frames_per_worker, workers, Backing::Kernel { _keep: keep })
    }

    fn new(
        base: NonNull<u8>,
        shift: u32,
        frames_per_worker: u32,
        workers: u8,
        backing: Backing,
    ) -> Self {
        let words: Box<[AtomicU32]> = (0..workers)
            .flat_map(|home| (0..frames_per_worker).map(move |_| AtomicU32::new(word(home))))
            .collect();
        let count = u32::try_from(words.len()).unwrap_or(u32::MAX);
        Self {
            base,
            shift,
            count,
            frames_per_worker,
            words,
            lost: AtomicU64::new(0),
            violations: AtomicU64::new(0),
            backing,
        }
    }

    pub(crate) fn frames(&self) -> u32 {
        self.count
    }

    pub(crate) fn frames_per_worker(&self) -> u32 {
        self.frames_per_worker
    }

    #[inline(always)]
    pub(crate) fn frame_size(&self) -> usize {
        1 << self.shift
    }

    /// Start of a chunk; `number` is below the count because it comes from a token.
    #[inline(always)]
    pub(crate) fn chunk(&self, number: u32) -> NonNull<u8> {
        // SAFETY: a token's number is below the count, so this stays within the mapping.
        unsafe { self.base.add((number as usize) << self.shift) }
    }

    /// The words, for a census.
    pub(crate) fn states(&self) -> impl Iterator<Item = (State, u16)> + '_ {
        self.words.iter().map(|word| decode(word.load(Ordering::Acquire)))
    }

    /// The token of a frame that has none yet; once for each frame, when the UMEM is made.
    ///
    /// # Safety
    /// Called once for each number below the count, before any other use.
    pub(crate) unsafe fn first_token(&self, number: u32) -> Frame {
        let home =
            self.words.get(number as usize).map_or(0, |word| home_of(word.load(Ordering::Relaxed)));
        Frame::from_parts(NonNull::from(self), number, home, DATA_OFFSET, 0, false)
    }

    /// Takes a token apart: its frame goes to the kernel through queue `tag`.
    #[inline(always)]
    pub(crate) fn surrender(&self, frame: Frame, state: State, tag: u16) {
        if let Some(word) = self.words.get(frame.number() as usize) {
            let home = u32::from(frame.home_byte()) << HOME.trailing_zeros();
            word.store(given(state, tag) | home, Ordering::Release);
        }
        std::mem::forget(frame);
    }

    /// The token for a descriptor that came out of a ring of queue `tag`.
    ///
    /// # Errors
    /// [`Redeem`] if the frame was not given to the kernel for this through this
    /// queue, or if the descriptor leaves its chunk; it is counted, and a frame that
    /// was given out but cannot be described is set aside as lost.
    #[inline(always)]
    pub(crate) fn redeem(
        &self,
        descriptor: Descriptor,
        from: State,
        tag: u16,
    ) -> Result<Frame, Redeem> {
        let number = descriptor.address >> self.shift;
        let Some(word) = usize::try_from(number).ok().and_then(|at| self.words.get(at)) else {
            return Err(self.violated(Redeem::Unknown));
        };
        // Load and store, not compare-and-swap: a frame is in one ring, and a ring has one
        // consumer. The kernel's own ring barriers order the hand-over between threads.
        let value = word.load(Ordering::Acquire);
        if value & !HOME != given(from, tag) {
            return Err(self.violated(Redeem::Unknown));
        }
        let offset = (descriptor.address & ((1 << self.shift) - 1)) as usize;
        let len = descriptor.len as usize;
        if offset.saturating_add(len) > self.frame_size() {
            word.store((value & HOME) | State::Lost as u32, Ordering::Release);
            self.lost.fetch_add(1, Ordering::Relaxed);
            return Err(self.violated(Redeem::Lost));
        }
        word.store(value & HOME, Ordering::Release);
        Ok(Frame::from_parts(
            NonNull::from(self),
            number as u32,
            home_of(value),
            offset as u16,
            len as u16,
            descriptor.more,
        ))
    }

    #[cold]
    fn violated(&self, how: Redeem) -> Redeem {
        self.violations.fetch_add(1, Ordering::Relaxed);
        how
    }

    /// A token was dropped where it should have been handed on.
    #[cold]
    pub(crate) fn lose(&self, number: u32, home: u8) {
        self.lost.fetch_add(1, Ordering::Relaxed);
        if let Some(word) = self.words.get(number as usize) {
            // Last: from here on the region may be freed by another thread.
            word.store(State::Lost as u32 | (u32::from(home) << 8), Ordering::Release);
        }
    }

    /// New tokens for the frames that `which` says are to be taken back.
    ///
    /// # Safety
    /// The kernel no longer uses the frames for which `which` is true.
    pub(crate) unsafe fn take_back(
        &self,
        which: impl Fn(State, u16) -> bool,
        mut give: impl FnMut(Frame),
    ) {
        for (number, word) in self.words.iter().enumerate() {
            let value = word.load(Ordering::Acquire);
            let (state, tag) = decode(value);
            if state == State::Held || !which(state, tag) {
                continue;
            }
            let taken =
                word.compare_exchange(value, value & HOME, Ordering::AcqRel, Ordering::Relaxed);
            if taken.is_ok() {
                let region = NonNull::from(self);
                give(Frame::from_parts(
                    region,
                    number as u32,
                    home_of(value),
                    DATA_OFFSET,
                    0,
                    false,
                ));
            }
        }
    }

    /// Writes what a kernel played in memory has received into a filled frame.
    pub(crate) fn write_filled(&self, address: u64, bytes: &[u8]) -> bool {
        let Some(start) = self.kernel_side(address, bytes.len(), State::Filled) else {
            return false;
        };
        // SAFETY: the frame is filled, so no token of it exists, and the bytes fit.
        unsafe { start.copy_from_nonoverlapping(NonNull::from(bytes).cast(), bytes.len()) };
        true
    }

    /// Shows a kernel played in memory what it has to send.
    pub(crate) fn read_sent<R>(
        &self,
        address: u64,
        len: usize,
        read: impl FnOnce(&[u8]) -> R,
    ) -> Option<R> {
        let start = self.kernel_side(address, len, State::Sent)?;
        // SAFETY: the frame is sent, so no token of it exists, and the bytes are in it.
        Some(read(unsafe { std::slice::from_raw_parts(start.as_ptr(), len) }))
    }

    fn kernel_side(&self, address: u64, len: usize, state: State) -> Option<NonNull<u8>> {
        let number = usize::try_from(address >> self.shift).ok()?;
        let word = self.words.get(number)?.load(Ordering::Acquire);
        let offset = (address & ((1 << self.shift) - 1)) as usize;
        if decode(word).0 != state || offset + len > self.frame_size() {
            return None;
        }
        // SAFETY: the offset is within the chunk.
        Some(unsafe { self.chunk(number as u32).add(offset) })
    }

    /// Whether a token is still somewhere.
    fn is_held(&self) -> bool {
        self.states().any(|(state, _)| state == State::Held)
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        match self.backing {
            // SAFETY: allocated with this layout in `on_heap`, freed only here.
            Backing::Heap(base, layout) => unsafe { dealloc(base.as_ptr(), layout) },
            Backing::Kernel { .. } => {}
        }
    }
}

/// What became of a descriptor that was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Redeem {
    /// It names no frame that the ring could hold; no frame changed hands.
    Unknown,
    /// It names a frame of the ring but leaves the chunk; the frame is set aside.
    Lost,
}

/// The bits of a word that say where the frame belongs.
const HOME: u32 = 0xff00;

/// A word without its home: who has the frame, through which queue.
#[inline(always)]
const fn given(state: State, tag: u16) -> u32 {
    state as u32 | (tag as u32) << 16
}

#[inline(always)]
fn word(home: u8) -> u32 {
    State::Held as u32 | (u32::from(home) << 8)
}

#[inline(always)]
fn home_of(word: u32) -> u8 {
    (word >> 8) as u8
}

#[inline(always)]
fn decode(word: u32) -> (State, u16) {
    let state = match word & 0xff {
        0 => State::Held,
        1 => State::Filled,
        2 => State::Sent,
        _ => State::Lost,
    };
    (state, (word >> 16) as u16)
}

/// Owns a region, and does not free it under a token that is still out.
pub(crate) struct RegionOwner(NonNull<Region>);

// SAFETY: a pointer to a `Region`, which is `Send` and `Sync`.
unsafe impl Send for RegionOwner {}
// SAFETY: as above.
unsafe impl Sync for RegionOwner {}

impl RegionOwner {
    pub(crate) fn new(region: Region) -> Self {
        Self(NonNull::from(Box::leak(Box::new(region))))
    }
}

impl std::ops::Deref for RegionOwner {
    type Target = Region;

    #[inline(always)]
    fn deref(&self) -> &Region {
        // SAFETY: freed only in `drop`, so it is there as long as `self` is.
        unsafe { self.0.as_ref() }
    }
}

impl Drop for RegionOwner {
    fn drop(&mut self) {
        if self.is_held() {
            // A token outlives every socket. Its memory has to stay; better kept for the
            // life of the process than freed under it.
            return;
        }
        // SAFETY: it came from a box in `new`, there is one owner, and no token is left
        // that points to it.
        drop(unsafe { Box::from_raw(self.0.as_ptr()) });
    }
}
