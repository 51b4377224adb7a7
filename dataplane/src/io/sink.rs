//! What the pipeline takes, sends and tells.

use xswan_esp::selector::Flow;
use xswan_pipeline::sink::{Event, Sink};
use xswan_sa_api::{Direction, Event as ControlEvent, TriggeringPacket};
use xswan_wire::layers::Addresses;
use xswan_xsk::{QueueRings, QueueSocket};

use super::{HandedOff, Io};
use crate::buffer::{Buffer, Jumbo};
use crate::kernel::slow_path::Punt;

/// What may be put around a packet, in bytes: layer 2, an outer header with UDP, that of ESP
/// with its IV, padding to a block, and an ICV (RFC 4303 section 2).
const AROUND: usize = 22 + 48 + 24 + 17 + 32;

impl<S: QueueSocket, R: QueueRings> Io<S, R> {
    /// Cuts a long packet into chunks for a transmit ring. Back comes what has no room there,
    /// or no chunks to be cut into.
    fn scatter(&mut self, port: u16, jumbo: Box<Jumbo>, len: usize) -> Option<Buffer> {
        let buffer = Buffer::Jumbo(jumbo);
        let room = self.chunk_room;
        let pieces = buffer.bytes().get(..len).unwrap_or_default().chunks(room.max(1));
        let exit = self.exits.get_mut(usize::from(port));
        let Some((_, waiting)) = exit
            .filter(|(_, waiting)| waiting.room() >= pieces.len())
            .filter(|_| self.stock.len() >= pieces.len())
        else {
            return Some(buffer);
        };
        let mut left = pieces.len();
        for piece in pieces {
            left -= 1;
            let Some(mut frame) = self.stock.take() else { break };
            if let Some(place) = frame.chunk_mut().get_mut(..piece.len()) {
                place.copy_from_slice(piece);
            }
            // Within the chunk, as it was cut for, and into the room that was asked for.
            let _ = frame.set_len(piece.len());
            frame.set_multi_buffer(left > 0);
            let _ = waiting.push(frame);
        }
        self.totals.scattered = self.totals.scattered.wrapping_add(1);
        self.transmitted = true;
        self.send_home(buffer);
        None
    }
}

impl<S: QueueSocket, R: QueueRings> Sink for Io<S, R> {
    type Frame = Buffer;

    #[inline(always)]
    fn bytes(buffer: &Buffer) -> &[u8] {
        buffer.bytes()
    }

    #[inline(always)]
    fn bytes_mut(buffer: &mut Buffer) -> &mut [u8] {
        buffer.bytes_mut()
    }

    #[inline(always)]
    fn room_mut(buffer: &mut Buffer) -> &mut [u8] {
        buffer.room_mut()
    }

    #[inline]
    fn set_received(buffer: &mut Buffer, len: usize) {
        // Within the room that was written to.
        let _ = buffer.set_len(len);
    }

    #[inline(always)]
    fn is_multi_buffer(buffer: &Buffer) -> bool {
        buffer.is_multi_buffer()
    }

    #[inline(always)]
    fn prefetch<T>(place: &T) {
        xswan_xsk::prefetch(place);
    }

    #[inline(always)]
    fn ticks() -> u64 {
        xswan_xsk::cycles()
    }

    #[inline]
    fn take(&mut self) -> Option<Buffer> {
        self.stock.take().map(Buffer::Chunk)
    }

    #[inline]
    fn take_for(&mut self, len: usize) -> Option<Buffer> {
        if self.jumbos.is_used() && len.saturating_add(AROUND) > self.chunk_room {
            return self.jumbos.take().map(Buffer::Jumbo);
        }
        self.take()
    }

    #[inline]
    fn recycle(&mut self, buffer: Buffer) {
        self.send_home(buffer);
    }

    #[inline]
    fn send(&mut self, port: u16, mut buffer: Buffer, len: usize) -> Option<Buffer> {
        if buffer.set_len(len).is_err() {
            return Some(buffer);
        }
        let frame = match buffer {
            Buffer::Chunk(frame) => frame,
            Buffer::Jumbo(jumbo) => return self.scatter(port, jumbo, len),
        };
        let Some((_, waiting)) = self.exits.get_mut(usize::from(port)) else {
            return Some(Buffer::Chunk(frame));
        };
        self.transmitted = true;
        waiting.push(frame).err().map(Buffer::Chunk)
    }

    #[inline]
    fn punt(&mut self, frame: Buffer, start: usize, len: usize) -> Option<Buffer> {
        let (Ok(start), Ok(len)) = (u16::try_from(start), u16::try_from(len)) else {
            return Some(frame);
        };
        self.punted = true;
        match self.slow_path.punts.push(Punt { frame, start, len }) {
            Ok(()) => None,
            Err(rtrb::PushError::Full(punt)) => Some(punt.frame),
        }
    }

    #[inline]
    fn hand_off(&mut self, worker: u32, port: u16, frame: Buffer) -> Option<Buffer> {
        let neighbour = self.neighbours.get_mut(worker as usize).and_then(Option::as_mut);
        let Some(neighbour) = neighbour else { return Some(frame) };
        self.called = true;
        match neighbour.hand_off.push(HandedOff { port, frame }) {
            Ok(()) => None,
            Err(rtrb::PushError::Full(item)) => Some(item.frame),
        }
    }

    fn event(&mut self, event: Event) {
        let spi = |io: &Self, table: usize, slot: u32| {
            io.spis.get(table).and_then(|t| t.get(slot as usize)).copied().unwrap_or(0)
        };
        let (inbound, outbound) = (Direction::Inbound, Direction::Outbound);
        let event = match event {
            Event::SoftExpiryIn { slot } => {
                ControlEvent::SoftExpiry { direction: inbound, slot, spi: spi(self, 0, slot) }
            }
            Event::HardExpiryIn { slot } => {
                ControlEvent::HardExpiry { direction: inbound, slot, spi: spi(self, 0, slot) }
            }
            Event::SoftExpiryOut { slot } => {
                ControlEvent::SoftExpiry { direction: outbound, slot, spi: spi(self, 1, slot) }
            }
            Event::HardExpiryOut { slot } => {
                ControlEvent::HardExpiry { direction: outbound, slot, spi: spi(self, 1, slot) }
            }
            Event::Integrity { slot } => {
                ControlEvent::IntegrityAlarm { slot, spi: spi(self, 0, slot) }
            }
            Event::Acquire { child, flow } => {
                ControlEvent::Acquire { child, packet: Some(triggering(&flow)) }
            }
            Event::Moved { slot, source } => ControlEvent::Moved {
                slot,
                spi: spi(self, 0, slot),
                address: source.address,
                port: source.port,
            },
        };
        if let Some(events) = &mut self.events {
            events.send(event);
        }
    }
}

fn triggering(flow: &Flow) -> TriggeringPacket {
    let (source, destination) = match flow.addresses {
        Addresses::V4 { source, destination } => (source.into(), destination.into()),
        Addresses::V6 { source, destination } => (source.into(), destination.into()),
    };
    TriggeringPacket { source, destination, protocol: flow.protocol, ports: flow.ports }
}
