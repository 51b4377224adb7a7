//! What the pipeline needs from whoever runs it: buffers, and places to put them.

use xswan_esp::sa::Source;
use xswan_esp::selector::Flow;

/// Something the control plane should hear of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// An outbound SA reached a soft limit: negotiate its successor.
    SoftExpiryOut {
        /// Slot in the outbound table.
        slot: u32,
    },
    /// An outbound SA reached a hard limit and stopped.
    HardExpiryOut {
        /// Slot in the outbound table.
        slot: u32,
    },
    /// An inbound SA reached a soft limit.
    SoftExpiryIn {
        /// Slot in the inbound table.
        slot: u32,
    },
    /// An inbound SA reached a hard limit and stopped.
    HardExpiryIn {
        /// Slot in the inbound table.
        slot: u32,
    },
    /// A policy demands protection and has no SA.
    Acquire {
        /// The child configuration that the policy comes from.
        child: u32,
        /// The packet that asked.
        flow: Flow,
    },
    /// A packet of an inbound SA, authentic and no replay, came from elsewhere than before.
    Moved {
        /// Slot in the inbound table.
        slot: u32,
        /// Where it came from.
        source: Source,
    },
    /// Many packets of one inbound SA failed their integrity check.
    Integrity {
        /// Slot in the inbound table.
        slot: u32,
    },
}

/// Buffers and ways out, implemented by a worker over AF_XDP and by tests over vectors.
///
/// A frame is owned: each one that goes in or is taken comes out through exactly one of
/// the methods, so that none is lost and none is used twice.
pub trait Sink {
    /// A packet buffer.
    type Frame;

    /// What was received.
    fn bytes(frame: &Self::Frame) -> &[u8];
    /// What was received, to be changed in place.
    fn bytes_mut(frame: &mut Self::Frame) -> &mut [u8];
    /// All the room of a fresh frame; what is to be sent starts at its first byte.
    fn room_mut(frame: &mut Self::Frame) -> &mut [u8];
    /// The first `len` bytes of a fresh frame's room were written and count as received now.
    fn set_received(frame: &mut Self::Frame, len: usize);
    /// Whether the frame is one part of a packet over several buffers.
    fn is_multi_buffer(frame: &Self::Frame) -> bool;

    /// Asks for the cache lines of `place` that a packet touches. A hint: nothing else changes.
    #[inline(always)]
    fn prefetch<T>(_place: &T) {}

    /// A clock that costs next to nothing to read, for [`crate::stage`]; 0 always if there is none.
    #[inline(always)]
    fn ticks() -> u64 {
        0
    }

    /// A fresh frame, if there is one.
    fn take(&mut self) -> Option<Self::Frame>;
    /// A fresh frame with room for a packet of `len` bytes and whatever may be put around it.
    fn take_for(&mut self, len: usize) -> Option<Self::Frame> {
        let _ = len;
        self.take()
    }
    /// A frame that is done with.
    fn recycle(&mut self, frame: Self::Frame);
    /// Sends the first `len` bytes, a whole Ethernet frame, out of a port. Back comes what the
    /// ring did not take.
    fn send(&mut self, port: u16, frame: Self::Frame, len: usize) -> Option<Self::Frame>;
    /// Gives the IP packet at `start` to the kernel. Back comes what the ring did not take.
    fn punt(&mut self, frame: Self::Frame, start: usize, len: usize) -> Option<Self::Frame>;
    /// Gives a received frame to the worker that owns its SA. Back comes what the ring
    /// did not take.
    fn hand_off(&mut self, worker: u32, port: u16, frame: Self::Frame) -> Option<Self::Frame>;
    /// Tells the control plane.
    fn event(&mut self, event: Event);
}
