//! A sink that costs as little as a sink can: buffers move between two lists.

use xswan_pipeline::sink::{Event, Sink};

/// Room of a buffer in bytes, as in a chunk of 2048.
pub const ROOM: usize = 2048 - 64;

/// A packet buffer.
pub struct Buffer {
    room: Box<[u8]>,
    len: usize,
}

/// Free buffers, and those that left.
pub struct Pool {
    free: Vec<Buffer>,
    /// What was sent or given to the kernel, in its order.
    pub sent: Vec<Buffer>,
    /// Control was told something.
    pub events: u64,
}

impl Pool {
    /// So many buffers; nothing is allocated later.
    #[must_use]
    pub fn new(total: usize) -> Self {
        let buffer = || Buffer { room: vec![0; ROOM].into_boxed_slice(), len: 0 };
        Self {
            free: (0..total).map(|_| buffer()).collect(),
            sent: Vec::with_capacity(total),
            events: 0,
        }
    }

    /// A buffer with a received frame in it; `None` if there is none or the frame is too long.
    pub fn received(&mut self, frame: &[u8]) -> Option<Buffer> {
        let mut buffer = self.free.pop()?;
        buffer.room.get_mut(..frame.len())?.copy_from_slice(frame);
        buffer.len = frame.len();
        Some(buffer)
    }

    /// Takes back everything that was sent.
    pub fn complete(&mut self) {
        self.free.append(&mut self.sent);
    }

    /// Buffers that are free.
    #[must_use]
    pub fn free(&self) -> usize {
        self.free.len()
    }
}

impl Buffer {
    /// The frame in it.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.room.get(..self.len).unwrap_or_default()
    }
}

impl Sink for Pool {
    type Frame = Buffer;

    #[inline(always)]
    fn bytes(frame: &Buffer) -> &[u8] {
        frame.bytes()
    }

    #[inline(always)]
    fn bytes_mut(frame: &mut Buffer) -> &mut [u8] {
        frame.room.get_mut(..frame.len).unwrap_or_default()
    }

    #[inline(always)]
    fn room_mut(frame: &mut Buffer) -> &mut [u8] {
        &mut frame.room
    }

    fn set_received(frame: &mut Buffer, len: usize) {
        frame.len = len;
    }

    #[inline(always)]
    fn is_multi_buffer(_frame: &Buffer) -> bool {
        false
    }

    #[inline(always)]
    fn prefetch<T>(place: &T) {
        xswan_xsk::prefetch(place);
    }

    #[inline(always)]
    fn ticks() -> u64 {
        xswan_xsk::cycles()
    }

    #[inline(always)]
    fn take(&mut self) -> Option<Buffer> {
        self.free.pop()
    }

    #[inline(always)]
    fn recycle(&mut self, frame: Buffer) {
        self.free.push(frame);
    }

    #[inline(always)]
    fn send(&mut self, _port: u16, mut frame: Buffer, len: usize) -> Option<Buffer> {
        frame.len = len;
        self.sent.push(frame);
        None
    }

    #[inline(always)]
    fn punt(&mut self, frame: Buffer, _start: usize, len: usize) -> Option<Buffer> {
        self.send(0, frame, len)
    }

    #[inline(always)]
    fn hand_off(&mut self, _worker: u32, _port: u16, frame: Buffer) -> Option<Buffer> {
        Some(frame)
    }

    fn event(&mut self, _event: Event) {
        self.events += 1;
    }
}
