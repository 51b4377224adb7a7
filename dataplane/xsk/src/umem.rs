//! A handle to the UMEM: its shape, its counters, and what has gone missing.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::frame::{Frame, FrameStock};
use crate::region::{DATA_OFFSET, Region, RegionOwner, State};

/// Workers at most; a frame's home is one byte, and the socket map has 64 places.
pub const MAX_WORKERS: usize = 64;

/// Size of a chunk, the room for one frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ChunkSize {
    /// 2048 bytes: frames of up to 1792.
    #[default]
    Bytes2048,
    /// 4096 bytes: frames of up to 3840.
    Bytes4096,
}

impl ChunkSize {
    /// The size in bytes.
    #[must_use]
    pub const fn bytes(self) -> u32 {
        1 << self.shift()
    }

    /// Longest frame that can be sent, and received in one buffer, in bytes.
    #[must_use]
    pub const fn longest_frame(self) -> u32 {
        self.bytes() - DATA_OFFSET as u32
    }

    pub(crate) const fn shift(self) -> u32 {
        match self {
            Self::Bytes2048 => 11,
            Self::Bytes4096 => 12,
        }
    }
}

/// Where the frames are by their own state words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// A token exists: free, with a worker, or between workers.
    pub held: u64,
    /// Given to a fill ring and not received.
    pub rx: u64,
    /// Given to a tx ring and not completed.
    pub tx: u64,
    /// Dropped or discarded.
    pub lost: u64,
}

/// A handle to the UMEM that every device, queue and worker shares.
#[derive(Clone)]
pub struct Umem {
    owner: Arc<RegionOwner>,
}

impl Umem {
    pub(crate) fn new(region: Region, workers: u8) -> (Self, Vec<FrameStock>) {
        let owner = Arc::new(RegionOwner::new(region));
        let share = owner.frames_per_worker();
        let stocks = (0..workers)
            .map(|home| {
                let first = u32::from(home) * share;
                // SAFETY: the homes' ranges do not overlap and this runs once.
                let tokens = (first..first + share).map(|n| unsafe { owner.first_token(n) });
                FrameStock::new(home, tokens.collect())
            })
            .collect();
        (Self { owner }, stocks)
    }

    #[inline(always)]
    pub(crate) fn region(&self) -> &Region {
        &self.owner
    }

    /// Number of frames.
    #[must_use]
    pub fn frames(&self) -> u32 {
        self.owner.frames()
    }

    /// Frames of one home.
    #[must_use]
    pub fn frames_per_worker(&self) -> u32 {
        self.owner.frames_per_worker()
    }

    /// Size of a chunk in bytes, headroom included.
    #[must_use]
    pub fn frame_size(&self) -> usize {
        self.owner.frame_size()
    }

    /// Longest frame that can be sent, and received in one buffer, in bytes.
    #[must_use]
    pub fn longest_frame(&self) -> usize {
        self.frame_size() - usize::from(DATA_OFFSET)
    }

    /// Frames whose token was dropped or whose descriptor was discarded, ever.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.owner.lost.load(Ordering::Relaxed)
    }

    /// Counter `umem_ownership_violation`: descriptors not believed, ever.
    #[must_use]
    pub fn violations(&self) -> u64 {
        self.owner.violations.load(Ordering::Relaxed)
    }

    /// Counts the frames by their state words. Exact only while nobody moves any.
    #[must_use]
    pub fn census(&self) -> Census {
        let mut census = Census::default();
        for (state, _) in self.owner.states() {
            match state {
                State::Held => census.held += 1,
                State::Filled => census.rx += 1,
                State::Sent => census.tx += 1,
                State::Lost => census.lost += 1,
            }
        }
        census
    }

    /// Takes back what was lost, of every home. Scans the UMEM: for housekeeping.
    pub fn reclaim_lost(&self, give: impl FnMut(Frame)) {
        // SAFETY: a lost frame had a token or was redeemed from a ring: the kernel has
        // already given it back.
        unsafe { self.owner.take_back(|state, _| state == State::Lost, give) }
    }

    /// Takes back what the kernel had through queue `tag`.
    ///
    /// # Safety
    /// The kernel has let go of that queue's frames.
    pub(crate) unsafe fn reclaim_queue(&self, tag: u16, give: impl FnMut(Frame)) {
        let of_queue = |state, at| at == tag && matches!(state, State::Filled | State::Sent);
        // SAFETY: passed on to the caller.
        unsafe { self.owner.take_back(of_queue, give) }
    }
}

impl fmt::Debug for Umem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Umem")
            .field("frames", &self.frames())
            .field("frame_size", &self.frame_size())
            .finish_non_exhaustive()
    }
}
