//! Frame tokens, and the two containers they travel in.
//!
//! A [`Frame`] stands for one chunk of the UMEM and the right to touch it. Containers
//! have a fixed capacity, allocated once; nothing here allocates per packet. A token that
//! is dropped instead of handed on is not undefined behaviour: the frame is counted as
//! lost ([`crate::Umem::lost`]) and can be had back with [`crate::Umem::reclaim_lost`].

use std::fmt;
use std::ptr::NonNull;
use std::slice;

use crate::region::{DATA_OFFSET, Region};

/// The length does not fit the chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong;

impl fmt::Display for TooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("longer than a chunk of the UMEM")
    }
}

impl std::error::Error for TooLong {}

/// The right to one chunk of the UMEM.
pub struct Frame {
    region: NonNull<Region>,
    number: u32,
    offset: u16,
    len: u16,
    home: u8,
    more: bool,
}

// SAFETY: the chunk is reached only through its token, and there is one token for it.
unsafe impl Send for Frame {}
// SAFETY: a shared token gives only reads.
unsafe impl Sync for Frame {}

impl Frame {
    #[inline(always)]
    pub(crate) fn from_parts(
        region: NonNull<Region>,
        number: u32,
        home: u8,
        offset: u16,
        len: u16,
        more: bool,
    ) -> Self {
        Self { region, number, offset, len, home, more }
    }

    #[inline(always)]
    fn region(&self) -> &Region {
        // SAFETY: a region is not freed while a token of it exists (`RegionOwner`).
        unsafe { self.region.as_ref() }
    }

    /// Number of the frame in the UMEM.
    #[inline(always)]
    #[must_use]
    pub const fn number(&self) -> u32 {
        self.number
    }

    /// The worker to whose stock the frame belongs.
    #[inline(always)]
    #[must_use]
    pub const fn home(&self) -> usize {
        self.home as usize
    }

    #[inline(always)]
    pub(crate) const fn home_byte(&self) -> u8 {
        self.home
    }

    /// Length of the data in bytes.
    #[inline(always)]
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether there is no data.
    #[inline(always)]
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether the packet goes on in the next frame (`XDP_PKT_CONTD`).
    ///
    /// The last frame of such a packet says `false`, so a packet is over several buffers
    /// if this frame or the one before it says `true`.
    #[inline(always)]
    #[must_use]
    pub const fn is_multi_buffer(&self) -> bool {
        self.more
    }

    /// Says that the packet goes on in the next frame sent.
    #[inline(always)]
    pub const fn set_multi_buffer(&mut self, more: bool) {
        self.more = more;
    }

    /// The data: what was received, or what has been written.
    #[inline(always)]
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        let chunk = self.region().chunk(self.number);
        // SAFETY: the offset is within the chunk, checked when the token was made.
        let start = unsafe { chunk.add(usize::from(self.offset)) };
        // SAFETY: offset and length are within the chunk, checked when the token was made
        // or the length was set; the token is borrowed, so nobody writes.
        unsafe { slice::from_raw_parts(start.as_ptr(), usize::from(self.len)) }
    }

    /// The data, to be changed where it lies.
    #[inline(always)]
    #[must_use]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        let chunk = self.region().chunk(self.number);
        // SAFETY: as in `bytes`.
        let start = unsafe { chunk.add(usize::from(self.offset)) };
        // SAFETY: as in `bytes`, and the token is borrowed alone.
        unsafe { slice::from_raw_parts_mut(start.as_ptr(), usize::from(self.len)) }
    }

    /// All the room there is for a frame to be sent, from its first byte on.
    ///
    /// What was received is given up: the data now starts where sending starts, and
    /// [`Frame::set_len`] says how long it is. The content is whatever was there.
    #[inline(always)]
    #[must_use]
    pub fn chunk_mut(&mut self) -> &mut [u8] {
        self.offset = DATA_OFFSET;
        self.len = 0;
        self.more = false;
        let room = self.capacity();
        let chunk = self.region().chunk(self.number);
        // SAFETY: every chunk is larger than the offset.
        let start = unsafe { chunk.add(usize::from(DATA_OFFSET)) };
        // SAFETY: offset and room make up the chunk; the token is borrowed alone.
        unsafe { slice::from_raw_parts_mut(start.as_ptr(), room) }
    }

    /// Length of [`Frame::chunk_mut`] in bytes.
    #[inline(always)]
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.region().frame_size() - usize::from(DATA_OFFSET)
    }

    /// Sets the length of the data to be sent, in bytes.
    ///
    /// # Errors
    /// [`TooLong`] if it goes past the chunk; the frame is as before.
    #[inline(always)]
    pub fn set_len(&mut self, len: usize) -> Result<(), TooLong> {
        if len > self.region().frame_size() - usize::from(self.offset) {
            return Err(TooLong);
        }
        self.len = len as u16;
        Ok(())
    }

    /// Address for a fill ring or a tx ring, counted from the start of the UMEM.
    pub(crate) fn address(&self) -> u64 {
        u64::from(self.number) * self.region().frame_size() as u64 + u64::from(self.offset)
    }

    /// Whether the data starts where a frame to be sent has to start.
    #[inline(always)]
    pub(crate) fn is_sendable(&self) -> bool {
        self.offset == DATA_OFFSET
    }

    /// Moves the data to where sending starts; for a received frame that an XDP program
    /// has shortened or lengthened at its head.
    #[cold]
    pub(crate) fn align(&mut self) {
        let size = self.region().frame_size();
        let chunk = self.region().chunk(self.number);
        let len = usize::from(self.len).min(size - usize::from(DATA_OFFSET));
        // SAFETY: a chunk of this size belongs to the token, which is borrowed alone.
        let bytes = unsafe { slice::from_raw_parts_mut(chunk.as_ptr(), size) };
        let start = usize::from(self.offset);
        bytes.copy_within(start..start + len, usize::from(DATA_OFFSET));
        self.offset = DATA_OFFSET;
        self.len = len as u16;
    }
}

impl Drop for Frame {
    fn drop(&mut self) {
        self.region().lose(self.number, self.home);
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the content: it may be what a tunnel protects.
        f.debug_struct("Frame")
            .field("number", &self.number)
            .field("home", &self.home)
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}

/// A batch of frames in order, with room fixed when it is made.
#[derive(Debug)]
pub struct FrameBatch {
    frames: Vec<Frame>,
    capacity: usize,
}

impl FrameBatch {
    /// Room of [`FrameBatch::new`]; also the most that one call on a socket moves.
    pub const CAPACITY: usize = 256;

    /// An empty batch with room for [`FrameBatch::CAPACITY`] frames.
    #[must_use]
    pub fn new() -> Self {
        Self::with_capacity(Self::CAPACITY)
    }

    /// An empty batch with room for `capacity` frames.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        Self { frames: Vec::with_capacity(capacity), capacity }
    }

    /// How many more frames fit.
    #[inline(always)]
    #[must_use]
    pub fn room(&self) -> usize {
        self.capacity - self.frames.len()
    }

    /// Puts a frame at the end.
    ///
    /// # Errors
    /// The frame itself if there is no room.
    #[inline(always)]
    pub fn push(&mut self, frame: Frame) -> Result<(), Frame> {
        if self.frames.len() >= self.capacity {
            return Err(frame);
        }
        self.frames.push(frame);
        Ok(())
    }

    /// Takes the last frame.
    #[inline(always)]
    pub fn pop(&mut self) -> Option<Frame> {
        self.frames.pop()
    }

    /// Takes all frames out, first to last.
    ///
    /// What the iterator has not given when it is dropped is lost with it.
    #[inline(always)]
    pub fn drain(&mut self) -> impl ExactSizeIterator<Item = Frame> + DoubleEndedIterator + '_ {
        self.frames.drain(..)
    }

    /// Takes out the first `n` frames, or all if there are fewer.
    #[inline(always)]
    pub fn drain_front(&mut self, n: usize) -> impl ExactSizeIterator<Item = Frame> + '_ {
        let n = n.min(self.frames.len());
        self.frames.drain(..n)
    }

    /// Moves frames from the end of `other` to here until there is no room.
    pub fn append(&mut self, other: &mut FrameBatch) {
        while self.room() > 0 {
            let Some(frame) = other.pop() else { return };
            self.frames.push(frame);
        }
    }
}

impl Default for FrameBatch {
    fn default() -> Self {
        Self::new()
    }
}

impl std::ops::Deref for FrameBatch {
    type Target = [Frame];

    #[inline(always)]
    fn deref(&self) -> &[Frame] {
        &self.frames
    }
}

impl std::ops::DerefMut for FrameBatch {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [Frame] {
        &mut self.frames
    }
}

/// The free frames of one worker: all of its home, none of another's.
#[derive(Debug)]
pub struct FrameStock {
    frames: Vec<Frame>,
    home: u8,
}

impl FrameStock {
    pub(crate) fn new(home: u8, frames: Vec<Frame>) -> Self {
        Self { frames, home }
    }

    /// The worker whose frames these are.
    #[must_use]
    pub const fn home(&self) -> usize {
        self.home as usize
    }

    /// How many frames are free.
    #[inline(always)]
    #[must_use]
    pub fn len(&self) -> usize {
        self.frames.len()
    }

    /// Whether no frame is free.
    #[inline(always)]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Takes a free frame; the one given back last, which is the likeliest to be cached.
    #[inline(always)]
    pub fn take(&mut self) -> Option<Frame> {
        self.frames.pop()
    }

    /// Takes up to `n` frames into the batch; the number taken.
    pub fn take_into(&mut self, batch: &mut FrameBatch, n: usize) -> usize {
        let n = n.min(batch.room()).min(self.frames.len());
        let at = self.frames.len() - n;
        batch.frames.extend(self.frames.drain(at..));
        n
    }

    /// Takes a frame back.
    ///
    /// # Errors
    /// The frame itself if its home is elsewhere; it has to be handed to that worker.
    #[inline(always)]
    pub fn give(&mut self, frame: Frame) -> Result<(), Frame> {
        if frame.home_byte() != self.home {
            return Err(frame);
        }
        // Never grows: the stock was made with every frame of this home.
        self.frames.push(frame);
        Ok(())
    }

    /// Takes back those of the batch whose home this is; the others stay in it.
    ///
    /// Order is kept neither here nor there. The number taken back.
    pub fn give_all(&mut self, batch: &mut FrameBatch) -> usize {
        let before = batch.frames.len();
        let mut at = 0;
        while let Some(frame) = batch.frames.get(at) {
            if frame.home_byte() == self.home {
                self.frames.push(batch.frames.swap_remove(at));
            } else {
                at += 1;
            }
        }
        before - batch.frames.len()
    }
}
