//! What a packet lies in: a chunk of the UMEM, or a longer buffer for one that no chunk holds.
//!
//! A packet over several chunks is gathered into one piece when it is received and scattered
//! over chunks when it is sent, so everything between sees it as any other packet. Its long
//! buffers are made at the start, so many for each worker, and go home like frames.

use xswan_xsk::{Frame, TooLong};

/// Room of a long buffer in bytes: a packet of 9216 bytes, as large as switches forward, with
/// layer 2 in front of it.
pub const JUMBO_ROOM: usize = 10_240;

/// A buffer longer than a chunk.
pub struct Jumbo {
    home: usize,
    len: usize,
    bytes: [u8; JUMBO_ROOM],
}

impl Jumbo {
    fn new(home: usize) -> Box<Self> {
        Box::new(Self { home, len: 0, bytes: [0; JUMBO_ROOM] })
    }

    /// Appends a piece of a packet; `false` if it does not fit.
    fn append(&mut self, piece: &[u8]) -> bool {
        let end = self.len.saturating_add(piece.len());
        let Some(place) = self.bytes.get_mut(self.len..end) else { return false };
        place.copy_from_slice(piece);
        self.len = end;
        true
    }
}

/// A packet buffer: whoever holds it owns it.
pub enum Buffer {
    /// A chunk of the UMEM.
    Chunk(Frame),
    /// A long buffer.
    Jumbo(Box<Jumbo>),
}

impl Buffer {
    /// The worker to whom it belongs.
    #[inline(always)]
    #[must_use]
    pub fn home(&self) -> usize {
        match self {
            Self::Chunk(frame) => frame.home(),
            Self::Jumbo(jumbo) => jumbo.home,
        }
    }

    /// What was received or written.
    #[inline(always)]
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Chunk(frame) => frame.bytes(),
            Self::Jumbo(jumbo) => jumbo.bytes.get(..jumbo.len).unwrap_or_default(),
        }
    }

    /// The same, to be changed where it lies.
    #[inline(always)]
    #[must_use]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        match self {
            Self::Chunk(frame) => frame.bytes_mut(),
            Self::Jumbo(jumbo) => jumbo.bytes.get_mut(..jumbo.len).unwrap_or_default(),
        }
    }

    /// All the room there is; what was received is given up.
    #[inline(always)]
    #[must_use]
    pub fn room_mut(&mut self) -> &mut [u8] {
        match self {
            Self::Chunk(frame) => frame.chunk_mut(),
            Self::Jumbo(jumbo) => &mut jumbo.bytes,
        }
    }

    /// Sets how much of the room is data.
    ///
    /// # Errors
    /// [`TooLong`] if there is not so much room; it is as before.
    #[inline(always)]
    pub fn set_len(&mut self, len: usize) -> Result<(), TooLong> {
        match self {
            Self::Chunk(frame) => frame.set_len(len),
            Self::Jumbo(jumbo) if len <= JUMBO_ROOM => {
                jumbo.len = len;
                Ok(())
            }
            Self::Jumbo(_) => Err(TooLong),
        }
    }

    /// Whether it holds only a part of a packet.
    #[inline(always)]
    #[must_use]
    pub const fn is_multi_buffer(&self) -> bool {
        match self {
            Self::Chunk(frame) => frame.is_multi_buffer(),
            Self::Jumbo(_) => false,
        }
    }
}

impl std::fmt::Debug for Jumbo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Not the content: it may be what a tunnel protects.
        f.debug_struct("Jumbo").field("len", &self.len).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Buffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Chunk(frame) => frame.fmt(f),
            Self::Jumbo(jumbo) => jumbo.fmt(f),
        }
    }
}

/// The long buffers of one worker that are free.
#[derive(Default)]
pub struct JumboPool {
    free: Vec<Box<Jumbo>>,
    made: usize,
}

impl JumboPool {
    /// So many buffers of worker `home`; none is a worker without long packets.
    #[must_use]
    pub fn new(home: usize, count: usize) -> Self {
        Self { free: (0..count).map(|_| Jumbo::new(home)).collect(), made: count }
    }

    /// Whether long packets are dealt with at all.
    #[must_use]
    pub const fn is_used(&self) -> bool {
        self.made > 0
    }

    /// How many are free.
    #[must_use]
    pub fn free(&self) -> usize {
        self.free.len()
    }

    /// Takes one.
    pub fn take(&mut self) -> Option<Box<Jumbo>> {
        let mut jumbo = self.free.pop()?;
        jumbo.len = 0;
        Some(jumbo)
    }

    /// Takes one of ours back.
    pub fn give(&mut self, jumbo: Box<Jumbo>) {
        // Never grows: it was made with all that can come.
        self.free.push(jumbo);
    }
}

/// A packet of a queue whose last piece has not come yet.
#[derive(Default)]
pub enum Partial {
    /// None.
    #[default]
    Nothing,
    /// So much of it.
    Growing(Box<Jumbo>),
    /// There was no buffer for it, or it is longer than one.
    Refused,
}

/// What a piece made of its packet.
#[derive(Debug)]
pub enum Added {
    /// Its last piece has not come yet.
    More,
    /// It is whole.
    Whole(Box<Jumbo>),
    /// That was the last piece, and it could not be gathered.
    Refused,
}

impl Partial {
    /// Takes the next piece in, a copy of it: the caller keeps its frame. `more` if it is not
    /// the last of its packet.
    pub fn add(&mut self, pool: &mut JumboPool, piece: &[u8], more: bool) -> Added {
        let growing = match std::mem::take(self) {
            Self::Nothing => pool.take(),
            Self::Growing(jumbo) => Some(jumbo),
            Self::Refused => None,
        };
        let grown = growing.and_then(|mut jumbo| {
            if jumbo.append(piece) {
                return Some(jumbo);
            }
            pool.give(jumbo);
            None
        });
        match (grown, more) {
            (Some(jumbo), false) => return Added::Whole(jumbo),
            (None, false) => return Added::Refused,
            (Some(jumbo), true) => *self = Self::Growing(jumbo),
            (None, true) => *self = Self::Refused,
        }
        Added::More
    }

    /// Whether the next piece belongs to a packet already begun.
    #[must_use]
    pub const fn is_begun(&self) -> bool {
        !matches!(self, Self::Nothing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_make_a_whole_and_what_does_not_fit_is_refused_once() {
        let mut pool = JumboPool::new(0, 1);
        let mut partial = Partial::default();
        assert!(matches!(partial.add(&mut pool, &[1; 4000], true), Added::More));
        assert!(partial.is_begun());
        assert_eq!(pool.free(), 0);
        let Added::Whole(whole) = partial.add(&mut pool, &[2; 1], false) else { panic!("whole") };
        assert!(!partial.is_begun());
        assert_eq!((whole.len, whole.bytes[3999], whole.bytes[4000]), (4001, 1, 2));
        // While that one is out there is none for the next.
        assert!(matches!(partial.add(&mut pool, &[3; 10], true), Added::More));
        assert!(matches!(partial.add(&mut pool, &[3; 10], true), Added::More));
        assert!(matches!(partial.add(&mut pool, &[3; 10], false), Added::Refused));
        assert!(!partial.is_begun());
        pool.give(whole);
        // Longer than a buffer, by one byte.
        for _ in 0..2 {
            assert!(matches!(partial.add(&mut pool, &[4; JUMBO_ROOM / 2], true), Added::More));
        }
        assert!(matches!(partial.add(&mut pool, &[4; 1], false), Added::Refused));
        assert_eq!(pool.free(), 1, "back at home");
        assert!(matches!(partial.add(&mut pool, &[5; JUMBO_ROOM], false), Added::Whole(_)));
    }

    #[test]
    fn a_buffer_costs_no_more_than_a_frame() {
        assert_eq!(size_of::<Buffer>(), size_of::<Frame>());
    }
}
