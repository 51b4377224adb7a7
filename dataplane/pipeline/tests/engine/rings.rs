//! A [`Sink`] over vectors, with a fixed number of buffers and rings that can be made full.

use xswan_pipeline::sink::{Event, Sink};

/// Room of a buffer in bytes: a chunk of 2048 without what an AF_XDP chunk keeps for itself.
pub const ROOM: usize = 2048 - 64;

/// What a fresh buffer is full of, so that a byte that was not written shows.
const STALE: u8 = 0xa5;

/// One packet buffer.
pub struct Buffer {
    room: Vec<u8>,
    len: usize,
    multi: bool,
}

/// Buffers, and what left through which door.
pub struct Rings {
    free: Vec<Buffer>,
    total: usize,
    /// Frames sent: port, whole frame.
    pub sent: Vec<(u16, Vec<u8>)>,
    /// IP packets for the kernel.
    pub punted: Vec<Vec<u8>>,
    /// Frames for other workers: worker, port, frame.
    pub handed: Vec<(u32, u16, Vec<u8>)>,
    /// What control is told.
    pub events: Vec<Event>,
    /// Frames that the transmit rings take.
    pub send_room: usize,
    /// Packets that the ring to the kernel takes.
    pub punt_room: usize,
    /// Frames that the rings to other workers take.
    pub hand_off_room: usize,
    /// Buffers that may be taken before there are none.
    pub take_room: usize,
    /// Buffers taken by the engine.
    pub takes: usize,
}

impl Rings {
    pub fn new(total: usize) -> Self {
        let buffer = || Buffer { room: vec![STALE; ROOM], len: 0, multi: false };
        Self {
            free: (0..total).map(|_| buffer()).collect(),
            total,
            sent: Vec::new(),
            punted: Vec::new(),
            handed: Vec::new(),
            events: Vec::new(),
            send_room: usize::MAX,
            punt_room: usize::MAX,
            hand_off_room: usize::MAX,
            take_room: usize::MAX,
            takes: 0,
        }
    }

    /// A buffer with a received frame in it.
    pub fn received(&mut self, frame: &[u8], multi: bool) -> Buffer {
        let mut buffer = self.free.pop().expect("buffers for a burst");
        buffer.room[..frame.len()].copy_from_slice(frame);
        buffer.len = frame.len();
        buffer.multi = multi;
        buffer
    }

    /// Whether every buffer is back.
    pub fn balanced(&self) -> bool {
        self.free.len() == self.total
    }

    /// Whether any buffer holds these bytes.
    pub fn hold(&self, needle: &[u8]) -> bool {
        self.free.iter().any(|buffer| buffer.room.windows(needle.len()).any(|at| at == needle))
    }

    /// The frames sent out of `port` since the last question.
    pub fn take_sent(&mut self, port: u16) -> Vec<Vec<u8>> {
        let all = std::mem::take(&mut self.sent);
        let (wanted, others) = all.into_iter().partition(|&(out_of, _)| out_of == port);
        self.sent = others;
        wanted.into_iter().map(|(_, frame)| frame).collect()
    }

    fn back(&mut self, buffer: Buffer) -> Option<Buffer> {
        self.free.push(buffer);
        None
    }
}

impl Sink for Rings {
    type Frame = Buffer;

    fn bytes(frame: &Buffer) -> &[u8] {
        &frame.room[..frame.len]
    }

    fn bytes_mut(frame: &mut Buffer) -> &mut [u8] {
        &mut frame.room[..frame.len]
    }

    fn room_mut(frame: &mut Buffer) -> &mut [u8] {
        &mut frame.room
    }

    fn set_received(frame: &mut Buffer, len: usize) {
        frame.len = len;
    }

    fn is_multi_buffer(frame: &Buffer) -> bool {
        frame.multi
    }

    fn take(&mut self) -> Option<Buffer> {
        self.take_room = self.take_room.checked_sub(1)?;
        let mut buffer = self.free.pop()?;
        self.takes += 1;
        buffer.room.fill(STALE);
        Some(buffer)
    }

    fn recycle(&mut self, frame: Buffer) {
        self.free.push(frame);
    }

    fn send(&mut self, port: u16, frame: Buffer, len: usize) -> Option<Buffer> {
        if self.sent.len() >= self.send_room {
            return Some(frame);
        }
        self.sent.push((port, frame.room[..len].to_vec()));
        self.back(frame)
    }

    fn punt(&mut self, frame: Buffer, start: usize, len: usize) -> Option<Buffer> {
        if self.punted.len() >= self.punt_room {
            return Some(frame);
        }
        self.punted.push(frame.room[start..start + len].to_vec());
        self.back(frame)
    }

    fn hand_off(&mut self, worker: u32, port: u16, frame: Buffer) -> Option<Buffer> {
        if self.handed.len() >= self.hand_off_room {
            return Some(frame);
        }
        self.handed.push((worker, port, frame.room[..frame.len].to_vec()));
        self.back(frame)
    }

    fn event(&mut self, event: Event) {
        self.events.push(event);
    }
}
