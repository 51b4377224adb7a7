//! What the dataplane tells, for the core: limits reached, peers moved, packets that want an SA,
//! and when SAs were used.

use super::event_loop::Ike;
use super::udp::PORT_NAT_T;
use crate::tables::Tables;
use std::net::{IpAddr, SocketAddr};
use xswan_ikev2::Input;
use xswan_ikev2::wire::TrafficSelector;
use xswan_sa_api::{Direction, Event, TriggeringPacket};

impl Ike {
    /// Tells the core of the SAs that were used since it was told last.
    pub(super) fn tell_uses(&mut self, tables: &mut Tables, now_ms: u64) {
        let mut inputs = Vec::new();
        for sa in tables.child_sas.iter() {
            let live = tables.maps.inbound_live(sa.slot_in);
            let used_in = live.map_or(0, |live| live.counters().last_used_ms);
            let live = tables.maps.outbound_live(sa.slot_out);
            let used_out = live.map_or(0, |live| live.counters().last_used_ms);
            if self.uses.get(&sa.id).copied().unwrap_or_default() == (used_in, used_out) {
                continue;
            }
            self.uses.insert(sa.id, (used_in, used_out));
            let idle = |used: u64| (used > 0).then(|| now_ms.saturating_sub(used));
            inputs.push(Input::ChildUse {
                spi_in: sa.spi_in,
                idle_in_ms: idle(used_in),
                idle_out_ms: idle(used_out),
            });
        }
        for input in inputs {
            self.handle(tables, input);
        }
    }

    /// An event of the dataplane. False if it is not about anything negotiated.
    pub fn dataplane_event(&mut self, tables: &mut Tables, event: &Event) -> bool {
        let sas = &tables.child_sas;
        let found = match *event {
            Event::SoftExpiry { direction: Direction::Inbound, slot, spi }
            | Event::HardExpiry { direction: Direction::Inbound, slot, spi }
            | Event::IntegrityAlarm { slot, spi }
            | Event::Moved { slot, spi, .. } => sas.at_inbound(slot, spi),
            Event::SoftExpiry { direction: Direction::Outbound, slot, spi }
            | Event::HardExpiry { direction: Direction::Outbound, slot, spi } => {
                sas.at_outbound(slot, spi)
            }
            Event::Acquire { child, packet } => {
                return self.acquire(tables, child, packet);
            }
            Event::Lost => return false,
        };
        let Some(sa) = found else { return false };
        let (spi_in, id) = (sa.spi_in, sa.id.0);
        let input = match *event {
            Event::SoftExpiry { .. } => Input::ChildExpiry { spi_in, hard: false },
            Event::HardExpiry { .. } => Input::ChildExpiry { spi_in, hard: true },
            Event::Moved { address, port, .. } => {
                let remote = SocketAddr::new(address, port.unwrap_or(PORT_NAT_T));
                Input::PeerMoved { spi_in, remote }
            }
            Event::IntegrityAlarm { .. } => {
                tracing::warn!(child = id, "integrity checks fail");
                return true;
            }
            Event::Acquire { .. } | Event::Lost => return false,
        };
        self.handle(tables, input);
        true
    }

    fn acquire(
        &mut self,
        tables: &mut Tables,
        number: u32,
        packet: Option<TriggeringPacket>,
    ) -> bool {
        let group = tables.child_sas.group(number);
        let id = group.map_or(number, |group| group.config_id);
        let child = tables.wanted.children.iter().find(|child| child.id == id);
        let Some(child) = child.filter(|child| child.negotiated) else { return false };
        let (connection, name) = (child.connection.clone(), child.name.clone());
        tracing::debug!(connection, child = name, ?packet, "a packet wants an SA");
        let input = Input::Initiate {
            connection: Some(connection),
            child: Some(name),
            packet: packet.map(selectors),
            request: None,
        };
        self.handle(tables, input);
        true
    }
}

/// The selectors of one packet, of the source and of the destination.
fn selectors(packet: TriggeringPacket) -> [TrafficSelector; 2] {
    let one = |address: IpAddr, port: Option<u16>| TrafficSelector {
        protocol: packet.protocol,
        first_port: port.unwrap_or(0),
        last_port: port.unwrap_or(u16::MAX),
        first: address,
        last: address,
    };
    let (source, destination) =
        (packet.ports.map(|ports| ports.0), packet.ports.map(|ports| ports.1));
    [one(packet.source, source), one(packet.destination, destination)]
}
