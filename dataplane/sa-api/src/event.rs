//! What workers tell control: one ring of [`Event`]s for each worker.
//!
//! An event names slot and SPI, because the slot may have been used anew by the time it is
//! read. Entries come from another process and are checked: an address without a family or an
//! unknown kind reads as [`Event::Lost`], upon which control looks at the state itself.

use crate::algorithm::codec;
use crate::mapping::Mapping;
use crate::ring::{ENTRY_WORDS, SharedRing, Taken};
use std::net::IpAddr;

/// Which table a slot is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// `sa_in`.
    Inbound,
    /// `sa_out`.
    Outbound,
}

/// The packet that wants an SA: what the specific traffic selectors of a request are made of
/// (RFC 7296 section 2.9).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TriggeringPacket {
    /// Source: for TSi.
    pub source: IpAddr,
    /// Destination, of the same family: for TSr.
    pub destination: IpAddr,
    /// IP protocol.
    pub protocol: u8,
    /// Source and destination port; for ICMP type and code, `type * 256 + code`, twice
    /// (RFC 7296 section 3.13.1). `None` where the protocol has none or a fragment hides them.
    pub ports: Option<(u16, u16)>,
}

/// What a worker tells control.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A soft limit was reached: time to replace the SA.
    SoftExpiry {
        /// Table.
        direction: Direction,
        /// Slot.
        slot: u32,
        /// SPI, in case the slot has been used anew since.
        spi: u32,
    },
    /// A hard limit was reached: the SA takes no more packets.
    HardExpiry {
        /// Table.
        direction: Direction,
        /// Slot.
        slot: u32,
        /// SPI, in case the slot has been used anew since.
        spi: u32,
    },
    /// Many packets of an SA failed their integrity check.
    IntegrityAlarm {
        /// Slot in `sa_in`.
        slot: u32,
        /// SPI.
        spi: u32,
    },
    /// Traffic wants an SA that is not there. Sent at most once a second for a child and
    /// worker: several workers may ask for one child.
    Acquire {
        /// The child whose policy selects the traffic.
        child: u32,
        /// The packet; `None` from a sender that does not tell.
        packet: Option<TriggeringPacket>,
    },
    /// An authenticated packet, and no replay, came from another address or port than the
    /// SA's: the peer's NAT has a new mapping or the peer has moved (RFC 7296 section 2.23,
    /// RFC 4555). Sent when the source changes, at most once a second, and again every ten
    /// seconds until control has followed; only for an SA with
    /// [`crate::InboundFlags::any_source`], or with [`crate::InboundFlags::any_encap`] for a
    /// packet in the other encapsulation. Nothing follows the peer by itself: control publishes
    /// both SAs with the new address ([`crate#a-peer-that-moves`]).
    Moved {
        /// Slot in `sa_in`.
        slot: u32,
        /// SPI.
        spi: u32,
        /// Where the packet came from.
        address: IpAddr,
        /// From which UDP port; `None` if it was not encapsulated.
        port: Option<u16>,
    },
    /// Events were lost: state must be looked at.
    Lost,
}

const EVENT_SOFT: u64 = 1;
const EVENT_HARD: u64 = 2;
const EVENT_INTEGRITY: u64 = 3;
const EVENT_ACQUIRE: u64 = 4;
const EVENT_MOVED: u64 = 5;
/// Set beside the kind for `sa_out`.
const EVENT_OUTBOUND: u64 = 1 << 8;
/// Set beside the kind if there are ports.
const EVENT_PORTS: u64 = 1 << 9;
/// Where the family of the addresses is beside the kind, 4 or 6; 0 if there are none.
const FAMILY_SHIFT: u32 = 16;
/// Where the protocol is beside the kind.
const PROTOCOL_SHIFT: u32 = 24;

/// A worker's end of its ring of events.
#[derive(Debug)]
pub struct EventSender(SharedRing);

/// Control's end of a worker's ring of events.
#[derive(Debug)]
pub struct EventReceiver(SharedRing);

type Entry = [u64; ENTRY_WORDS];

fn about(kind: u64, direction: Direction, slot: u32, spi: u32) -> Entry {
    let direction = match direction {
        Direction::Inbound => 0,
        Direction::Outbound => EVENT_OUTBOUND,
    };
    [kind | direction, codec::pack32(slot, spi), 0, 0, 0, 0, 0, 0]
}

fn acquire(child: u32, packet: Option<TriggeringPacket>) -> Entry {
    let Some(packet) = packet else { return [EVENT_ACQUIRE, child.into(), 0, 0, 0, 0, 0, 0] };
    let ([s0, s1], family) = codec::address_to_words(packet.source);
    let ([d0, d1], _) = codec::address_to_words(packet.destination);
    let kind = EVENT_ACQUIRE
        | if packet.ports.is_some() { EVENT_PORTS } else { 0 }
        | u64::from(family) << FAMILY_SHIFT
        | u64::from(packet.protocol) << PROTOCOL_SHIFT;
    let (source_port, destination_port) = packet.ports.unwrap_or_default();
    [kind, child.into(), codec::pack16(source_port, destination_port, 0, 0), s0, s1, d0, d1, 0]
}

fn moved(slot: u32, spi: u32, address: IpAddr, port: Option<u16>) -> Entry {
    let ([high, low], family) = codec::address_to_words(address);
    let kind = EVENT_MOVED
        | if port.is_some() { EVENT_PORTS } else { 0 }
        | u64::from(family) << FAMILY_SHIFT;
    let ports = codec::pack16(port.unwrap_or(0), 0, 0, 0);
    [kind, codec::pack32(slot, spi), ports, high, low, 0, 0, 0]
}

impl EventSender {
    pub(crate) fn of(mapping: &Mapping, worker: u32) -> Option<Self> {
        SharedRing::of(mapping, worker).map(Self)
    }

    /// Sends an event; false if the ring was full, which control will learn.
    pub fn send(&mut self, event: Event) -> bool {
        let entry = match event {
            Event::SoftExpiry { direction, slot, spi } => about(EVENT_SOFT, direction, slot, spi),
            Event::HardExpiry { direction, slot, spi } => about(EVENT_HARD, direction, slot, spi),
            Event::IntegrityAlarm { slot, spi } => {
                about(EVENT_INTEGRITY, Direction::Inbound, slot, spi)
            }
            Event::Acquire { child, packet } => acquire(child, packet),
            Event::Moved { slot, spi, address, port } => moved(slot, spi, address, port),
            Event::Lost => [0; ENTRY_WORDS],
        };
        self.0.push(entry)
    }
}

impl EventReceiver {
    pub(crate) fn of(mapping: &Mapping, worker: u32) -> Option<Self> {
        SharedRing::of(mapping, worker).map(Self)
    }

    /// The next event, `None` if there is none.
    pub fn poll(&mut self) -> Option<Event> {
        match self.0.take() {
            Taken::Nothing => None,
            Taken::Lost => Some(Event::Lost),
            Taken::Entry(entry) => Some(read(entry).unwrap_or(Event::Lost)),
        }
    }
}

fn read([kind, about, ports, a0, a1, b0, b1, _]: Entry) -> Option<Event> {
    let (slot, spi) = codec::unpack32(about);
    let direction =
        if kind & EVENT_OUTBOUND == 0 { Direction::Inbound } else { Direction::Outbound };
    let family = (kind >> FAMILY_SHIFT) as u8;
    let [first_port, second_port, ..] = codec::unpack16(ports);
    let has_ports = kind & EVENT_PORTS != 0;
    Some(match kind & 0xff {
        EVENT_SOFT => Event::SoftExpiry { direction, slot, spi },
        EVENT_HARD => Event::HardExpiry { direction, slot, spi },
        EVENT_INTEGRITY => Event::IntegrityAlarm { slot, spi },
        EVENT_ACQUIRE if family == 0 => Event::Acquire { child: slot, packet: None },
        EVENT_ACQUIRE => Event::Acquire {
            child: slot,
            packet: Some(TriggeringPacket {
                source: codec::address_from_words([a0, a1], family)?,
                destination: codec::address_from_words([b0, b1], family)?,
                protocol: (kind >> PROTOCOL_SHIFT) as u8,
                ports: has_ports.then_some((first_port, second_port)),
            }),
        },
        EVENT_MOVED => Event::Moved {
            slot,
            spi,
            address: codec::address_from_words([a0, a1], family)?,
            port: has_ports.then_some(first_port),
        },
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::RING_WORDS;
    use crate::sys::Region;
    use std::sync::Arc;

    #[test]
    fn every_event_is_read_as_it_was_sent() {
        let region = Arc::new(Region::anonymous(RING_WORDS).expect("memory"));
        let mapping = Mapping::new(region, RING_WORDS);
        let mut sender = EventSender::of(&mapping, 0).expect("long enough");
        let mut receiver = EventReceiver::of(&mapping, 0).expect("long enough");
        let v4 = |last: u8| IpAddr::from([192, 0, 2, last]);
        let v6 = |last: u16| IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, last]);
        let packet = |source, destination, ports| {
            Some(TriggeringPacket { source, destination, protocol: 58, ports })
        };
        let (slot, spi) = (u32::MAX, 0x8000_0001);
        let events = [
            Event::SoftExpiry { direction: Direction::Inbound, slot, spi },
            Event::SoftExpiry { direction: Direction::Outbound, slot, spi },
            Event::HardExpiry { direction: Direction::Outbound, slot, spi },
            Event::IntegrityAlarm { slot, spi },
            Event::Acquire { child: 7, packet: None },
            Event::Acquire { child: 7, packet: packet(v4(1), v4(2), Some((0, 65_535))) },
            Event::Acquire { child: 7, packet: packet(v6(1), v6(2), None) },
            Event::Moved { slot, spi, address: v4(3), port: Some(1) },
            Event::Moved { slot, spi, address: v6(3), port: None },
            Event::Lost,
        ];
        for event in events {
            assert!(sender.send(event));
            assert_eq!(receiver.poll(), Some(event));
        }
        assert_eq!(receiver.poll(), None);
    }

    #[test]
    fn entries_that_make_no_sense_are_a_loss() {
        for kind in [0, 99, EVENT_MOVED, EVENT_MOVED | 5 << FAMILY_SHIFT] {
            assert_eq!(read([kind, 1, 2, 3, 4, 5, 6, 7]), None);
        }
        // No IPv4 address has more than 32 bits.
        assert_eq!(read([EVENT_ACQUIRE | 4 << FAMILY_SHIFT, 1, 2, 0, 1 << 32, 0, 0, 0]), None);
    }
}
