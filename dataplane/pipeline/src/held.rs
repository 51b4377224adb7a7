//! Packets that wait for an SA that is being negotiated.
//!
//! A trap policy (RFC 4301 section 4.4.1, "acquire") asks for an SA when a packet needs one, and
//! the packet that asked is most often the first of a connection: dropped, it costs its sender a
//! retransmission time-out. So a few are copied out of their frames into memory of their own,
//! fixed when the engine is made. Bounded for each child, so that one that never gets its SA
//! does not take the room of the others; when there is no room the oldest goes.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

/// How long a packet is held, in milliseconds: several retransmissions of a negotiation. What is
/// older has been sent again by whoever wanted it to arrive.
pub const HOLD_MS: u64 = 10_000;
/// Packets held for one child; the oldest goes first. The first flight of a connection or two.
pub const HELD_PER_CHILD: usize = 16;
/// Packets held by one worker: 1 MiB.
pub const HELD_PACKETS: usize = 512;
/// Octets for one packet with its Ethernet header: no jumbo frame is held. With
/// [`HELD_PER_CHILD`] of them no child has more than 32 KiB.
const PLACE_LEN: usize = 2048;

/// What was held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A frame from a port.
    Received { port: u16 },
    /// An IP packet of the gateway's own. Every worker holds it, because it is not known whose
    /// SA it will be; one of them counts it.
    Own { counted: bool },
}

/// One held packet; its octets lie in [`Held`].
#[derive(Debug)]
pub(crate) struct Entry {
    child: u32,
    since_ms: u64,
    place: u16,
    len: u16,
    pub(crate) origin: Origin,
}

impl Entry {
    /// Whether the packet has waited long enough.
    pub(crate) const fn is_stale(&self, now_ms: u64) -> bool {
        now_ms.saturating_sub(self.since_ms) > HOLD_MS
    }

    /// Whether the packet is in this worker's books.
    pub(crate) const fn is_counted(&self) -> bool {
        !matches!(self.origin, Origin::Own { counted: false })
    }
}

/// The packets of one worker, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Held {
    memory: Vec<u8>,
    free: Vec<u16>,
    queue: VecDeque<Entry>,
}

/// The packet is longer than a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooLong;

impl Held {
    /// Allocates everything there will ever be.
    pub(crate) fn new() -> Self {
        Self {
            memory: alloc::vec![0; HELD_PACKETS * PLACE_LEN],
            free: (0..).take(HELD_PACKETS).collect(),
            queue: VecDeque::with_capacity(HELD_PACKETS),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }

    /// How many of them are in this worker's books.
    pub(crate) fn counted(&self) -> usize {
        self.queue.iter().filter(|entry| entry.is_counted()).count()
    }

    /// Takes a packet in; `Some` is one that had to go for it.
    ///
    /// # Errors
    /// [`TooLong`]; nothing has changed.
    pub(crate) fn push(
        &mut self,
        child: u32,
        origin: Origin,
        packet: &[u8],
        now_ms: u64,
    ) -> Result<Option<Entry>, TooLong> {
        let len = u16::try_from(packet.len()).map_err(|_| TooLong)?;
        if packet.len() > PLACE_LEN || self.memory.is_empty() {
            return Err(TooLong);
        }
        let of_child = self.queue.iter().filter(|entry| entry.child == child).count();
        let goes = if of_child >= HELD_PER_CHILD {
            self.queue.iter().position(|entry| entry.child == child)
        } else if self.free.is_empty() {
            Some(0)
        } else {
            None
        };
        let gone = goes.and_then(|position| self.queue.remove(position));
        if let Some(entry) = &gone {
            self.free.push(entry.place);
        }
        let place = self.free.pop().ok_or(TooLong)?;
        let from = usize::from(place).saturating_mul(PLACE_LEN);
        let room = self.memory.get_mut(from..).and_then(|room| room.get_mut(..packet.len()));
        room.ok_or(TooLong)?.copy_from_slice(packet);
        self.queue.push_back(Entry { child, since_ms: now_ms, place, len, origin });
        Ok(gone)
    }

    /// The oldest packet; [`Held::put_back`] or [`Held::release`] is due.
    pub(crate) fn take_oldest(&mut self) -> Option<Entry> {
        self.queue.pop_front()
    }

    /// Goes on waiting, behind all others: a whole round keeps the order.
    pub(crate) fn put_back(&mut self, entry: Entry) {
        self.queue.push_back(entry);
    }

    /// Done with.
    #[expect(clippy::needless_pass_by_value, reason = "the entry ends here")]
    pub(crate) fn release(&mut self, entry: Entry) {
        self.free.push(entry.place);
    }

    /// The octets.
    pub(crate) fn bytes(&self, entry: &Entry) -> &[u8] {
        let from = usize::from(entry.place).saturating_mul(PLACE_LEN);
        let room = self.memory.get(from..).unwrap_or_default();
        room.get(..usize::from(entry.len)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::{Entry, HELD_PACKETS, HELD_PER_CHILD, HOLD_MS, Held, Origin, PLACE_LEN, TooLong};
    use alloc::vec;
    use alloc::vec::Vec;

    const PORT: Origin = Origin::Received { port: 1 };

    fn drain(held: &mut Held) -> Vec<(u32, Vec<u8>)> {
        let mut all = Vec::new();
        while let Some(entry) = held.take_oldest() {
            all.push((entry.child, held.bytes(&entry).to_vec()));
            held.release(entry);
        }
        all
    }

    #[test]
    fn one_child_has_its_share_and_the_oldest_goes() {
        let mut held = Held::new();
        held.push(9, PORT, b"other", 0).unwrap();
        for number in 0..HELD_PER_CHILD as u8 + 5 {
            let gone = held.push(7, PORT, &[number; 3], 0).unwrap();
            let expected = usize::from(number) >= HELD_PER_CHILD;
            assert_eq!(gone.is_some(), expected);
        }
        let mut left = drain(&mut held);
        assert_eq!(left.remove(0), (9, b"other".to_vec()));
        let expected: Vec<_> = (5..21).map(|number| (7, vec![number; 3])).collect();
        assert_eq!(left, expected);
    }

    #[test]
    fn a_flood_of_children_takes_no_more_than_the_memory() {
        let mut held = Held::new();
        for child in 0..10 * HELD_PACKETS as u32 {
            let gone = held.push(child, PORT, &[child as u8; PLACE_LEN], 0).unwrap();
            let oldest = child.checked_sub(HELD_PACKETS as u32);
            assert_eq!(gone.map(|entry: Entry| entry.child), oldest);
            assert!(held.queue.capacity() < 2 * HELD_PACKETS);
        }
        assert_eq!((held.len(), held.free.len()), (HELD_PACKETS, 0));
        assert_eq!(drain(&mut held).len(), HELD_PACKETS);
        assert_eq!(held.free.len(), HELD_PACKETS);
    }

    #[test]
    fn a_round_keeps_the_order_and_no_jumbo_is_held() {
        let mut held = Held::new();
        assert_eq!(held.push(1, PORT, &[0; PLACE_LEN + 1], 0).err(), Some(TooLong));
        for number in 0..5_u8 {
            held.push(1, PORT, &[number], u64::from(number)).unwrap();
        }
        for _ in 0..held.len() {
            let entry = held.take_oldest().unwrap();
            if held.bytes(&entry) == [2] { held.release(entry) } else { held.put_back(entry) }
        }
        let left: Vec<_> = drain(&mut held).into_iter().map(|(_, bytes)| bytes[0]).collect();
        assert_eq!(left, [0, 1, 3, 4]);
    }

    #[test]
    fn what_is_not_counted_is_not_in_the_books() {
        let mut held = Held::new();
        held.push(1, Origin::Own { counted: false }, &[1], 5).unwrap();
        held.push(1, Origin::Own { counted: true }, &[2], 5).unwrap();
        assert_eq!((held.len(), held.counted()), (2, 1));
        let entry = held.take_oldest().unwrap();
        assert!(!entry.is_stale(5 + HOLD_MS) && entry.is_stale(6 + HOLD_MS));
    }
}
