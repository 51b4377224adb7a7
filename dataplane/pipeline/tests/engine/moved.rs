//! A peer whose address changes, as control hears of it.

use std::net::IpAddr;

use xswan_esp::sa::{MOVED_AGAIN_MS, MOVED_INTERVAL_MS, PeerAddress, Source, UdpPorts};
use xswan_pipeline::sink::Event;
use xswan_wire::DropReason;

use crate::gateway::*;

const FAR: [u8; 4] = [203, 0, 113, 7];

/// The right side, its tunnel in UDP and open to any source.
fn right() -> Gateway {
    let mut right = Gateway::new(RIGHT);
    let mut config = inbound_config(RIGHT, SLOT);
    config.encap = Some(UdpPorts { local: 4500, remote: 4500 });
    config.peer_address = PeerAddress::AnyAuthenticated;
    right.put_inbound(SLOT, CHILD, &config);
    right
}

fn from(address: [u8; 4], port: u16, sequence: u64) -> Vec<u8> {
    let mut builder = esp(sequence, &inner_packet4(LEFT, 40));
    builder.source = IpAddr::from(address);
    builder.udp = Some((port, 4500));
    built(&builder)
}

fn moved(address: [u8; 4], port: u16) -> Event {
    Event::Moved { slot: SLOT, source: Source { address: address.into(), port: Some(port) } }
}

#[test]
fn a_new_mapping_is_told_once_and_packets_pass_all_the_while() {
    let mut right = right();
    right.receive(OUTER, &[from([192, 0, 2, 1], 4500, 1)]);
    assert_eq!(right.rings.events, []);
    let burst: Vec<_> = (2..50).map(|n| from([192, 0, 2, 1], 61_000, n)).collect();
    right.receive(OUTER, &burst);
    assert_eq!(right.rings.events, [moved([192, 0, 2, 1], 61_000)]);
    assert_eq!(right.packets_out(INNER).len(), 49);
    // Two ways at once are not an event for every packet.
    for n in 0..100 {
        right.now_ms += 1;
        right.receive(OUTER, &[from(FAR, 61_000 + n % 2, 100 + u64::from(n))]);
    }
    assert_eq!(right.rings.events.len(), 1);
    right.now_ms += MOVED_INTERVAL_MS;
    right.receive(OUTER, &[from(FAR, 61_000, 300)]);
    assert_eq!(right.rings.events[1..], [moved(FAR, 61_000)]);
    // An event may have been lost.
    right.now_ms += MOVED_AGAIN_MS;
    right.receive(OUTER, &[from(FAR, 61_000, 301)]);
    assert_eq!(right.rings.events[2..], [moved(FAR, 61_000)]);
}

/// RFC 7296 section 2.23: only what is authentic and no replay says anything of an address.
#[test]
fn forged_and_replayed_packets_move_nobody() {
    let mut right = right();
    right.receive(OUTER, &[from([192, 0, 2, 1], 4500, 7)]);
    right.receive(OUTER, &[from(FAR, 4500, 7)]);
    let mut forged = from(FAR, 4500, 8);
    let last = forged.len() - 1;
    forged[last] ^= 1;
    right.receive(OUTER, &[forged]);
    assert_eq!(right.rings.events, []);
    right.assert_drops(&[(DropReason::ReplayDuplicate, 1), (DropReason::AuthFail, 1)]);
}

/// After control has followed, the new address is the peer's and the old one would be news.
#[test]
fn what_control_has_followed_is_no_news() {
    let mut right = right();
    right.receive(OUTER, &[from(FAR, 61_000, 1)]);
    assert_eq!(right.rings.events, [moved(FAR, 61_000)]);
    let mut config = inbound_config(RIGHT, SLOT);
    config.addresses =
        xswan_wire::layers::Addresses::V4 { source: FAR, destination: [192, 0, 2, 2] };
    config.encap = Some(UdpPorts { local: 4500, remote: 61_000 });
    config.peer_address = PeerAddress::AnyAuthenticated;
    let mut new = inbound_sa(&config, 64, false, right.now_ms);
    let old = right.engine.inbound.at_mut(SLOT as usize).unwrap();
    assert!(new.take_over(&mut old.sa));
    old.sa = new;
    right.now_ms += MOVED_AGAIN_MS;
    right.receive(OUTER, &[from(FAR, 61_000, 2), from(FAR, 61_000, 1)]);
    assert_eq!(right.rings.events.len(), 1);
    right.assert_drops(&[(DropReason::ReplayDuplicate, 1)]);
    right.receive(OUTER, &[from([192, 0, 2, 1], 4500, 3)]);
    assert_eq!(right.rings.events[1..], [moved([192, 0, 2, 1], 4500)]);
}
