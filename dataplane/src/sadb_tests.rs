//! What control writes, in any order, against what a worker is told, on maps in memory.

use std::sync::Arc;

use arc_swap::ArcSwap;
use rtrb::{Consumer, Producer, RingBuffer};
use xswan_aead::Backend;
use xswan_pipeline::spd::{Action, SaHandle, Spd};
use xswan_sa_api::{
    AddressRange, Algorithm, DfPolicy, DoorbellSender, DscpPolicy, Encap, Geometry, InboundConfig,
    InboundFlags, Key, Lifetimes, Mode, OutboundConfig, PolicyAction, PolicyRow, PortRange, Ring,
    SharedMaps, replay_words_for,
};

use super::edition::{AWAITED_LIMIT, Awaited};
use super::{Sadb, WorkerLink};
use crate::worker::{Command, Retired};

const GEOMETRY: Geometry =
    Geometry { sa_slots: 8, policies: 16, replay_words: 1000, workers: 1, member: 0 };

/// The main thread with a worker that is played by the test.
struct Rig {
    maps: Arc<SharedMaps>,
    doorbell: DoorbellSender,
    spd: Arc<ArcSwap<Spd>>,
    sadb: Sadb,
    commands: Consumer<Command>,
    outbox: Producer<Retired>,
}

impl Rig {
    fn new(maps: SharedMaps) -> Self {
        let maps = Arc::new(maps);
        let (inbox, commands) = RingBuffer::new(64);
        let (outbox, retired) = RingBuffer::new(64);
        let spd = Arc::new(ArcSwap::from_pointee(Spd::default()));
        let links = vec![WorkerLink { inbox, outbox: retired, bell: None }];
        let sadb = Sadb::new(Arc::clone(&maps), links, Backend::default(), Arc::clone(&spd));
        let doorbell = maps.doorbell_sender().unwrap();
        Self { maps, doorbell, spd, sadb: sadb.unwrap(), commands, outbox }
    }

    /// The worker takes in everything it is told; what it was, in words.
    fn obey(&mut self) -> Vec<String> {
        let mut told = Vec::new();
        while let Ok(command) = self.commands.pop() {
            let removed = |is_none: bool| if is_none { "remove" } else { "put" };
            match command {
                Command::Inbound { slot, generation, sa, update } => {
                    told.push(format!("{} in {slot} {update}", removed(sa.is_none())));
                    self.maps.inbound_live(slot).unwrap().acknowledge(generation);
                    assert!(self.outbox.push(Retired::Inbound(slot, sa)).is_ok());
                }
                Command::Outbound { slot, generation, sa, update } => {
                    told.push(format!("{} out {slot} {update}", removed(sa.is_none())));
                    self.maps.outbound_live(slot).unwrap().acknowledge(generation);
                    assert!(self.outbox.push(Retired::Outbound(slot, sa)).is_ok());
                }
                Command::StaticSpi { .. } | Command::PathMtu { .. } | Command::Stop => {}
            }
        }
        told
    }

    /// The slots that the policies in use name, in order.
    fn named(&self) -> Vec<Option<u32>> {
        let spd = self.spd.load();
        let slot = |action: &Action| match action {
            Action::Protect(handle) => handle.map(|SaHandle { slot, .. }| slot),
            Action::Bypass | Action::Discard => None,
        };
        spd.rows().iter().map(|row| slot(&row.action)).collect()
    }

    fn publish_outbound(&self, slot: u32, fill: u8) -> u64 {
        let generation = self.maps.publish_outbound(slot, &outbound(slot, fill)).unwrap();
        self.doorbell.ring(Ring::Outbound(slot));
        generation
    }

    fn publish_policies(&self, rows: &[PolicyRow]) {
        self.maps.publish_policies(rows).unwrap();
        self.doorbell.ring(Ring::Policies);
    }
}

fn outbound(slot: u32, fill: u8) -> OutboundConfig {
    OutboundConfig {
        spi: 0x1000 + slot,
        worker: 0,
        algorithm: Algorithm::Aes256CbcSha512,
        key: Key::new(&[fill; 96]).unwrap(),
        esn: true,
        mode: Mode::Tunnel,
        local: "192.0.2.1".parse().unwrap(),
        remote: "192.0.2.2".parse().unwrap(),
        encap: Some(Encap { local_port: 4500, remote_port: 4500 }),
        df: DfPolicy::Copy,
        dscp: DscpPolicy::Copy,
        copy_ecn: true,
        ttl: 64,
        tfc_padding: 0,
        path_mtu: 0,
        iv_base: 0,
        child: 7,
        lifetimes: Lifetimes::default(),
    }
}

fn inbound(spi: u32, fill: u8) -> InboundConfig {
    InboundConfig {
        spi,
        worker: 0,
        algorithm: Algorithm::Aes128CbcSha256,
        key: Key::new(&[fill; 48]).unwrap(),
        mode: Mode::Tunnel,
        local: "192.0.2.1".parse().unwrap(),
        remote: "192.0.2.2".parse().unwrap(),
        encap: None,
        replay_window: 64,
        replay_offset: 0,
        replay_len: replay_words_for(64),
        child: 7,
        flags: InboundFlags { any_source: true, any_encap: true, ..InboundFlags::default() },
        lifetimes: Lifetimes::default(),
    }
}

fn row(child: u32, outbound_slot: Option<u32>) -> PolicyRow {
    let net = |second: u128| {
        let first = (10 << 24) | (second << 16);
        AddressRange { ipv6: false, first, last: first + 0xffff }
    };
    PolicyRow {
        action: PolicyAction::Protect,
        child,
        local: net(1),
        remote: net(u128::from(child)),
        protocol: 0,
        local_ports: PortRange::ANY,
        remote_ports: PortRange::ANY,
        outbound_slot,
        icmp: false,
        hold: true,
    }
}

/// The worst order there is: everything at once, nothing waited for.
#[test]
fn rek_policies_wait_for_the_successor_and_removal_waits_for_policies() {
    let mut rig = Rig::new(SharedMaps::in_memory(&GEOMETRY).unwrap());
    rig.publish_outbound(0, 1);
    rig.publish_policies(&[row(7, Some(0))]);
    rig.sadb.poll();
    assert_eq!(rig.named(), [], "no worker has the SA");
    assert_eq!(rig.obey(), ["put out 0 false"]);
    rig.sadb.poll();
    assert_eq!(rig.named(), [Some(0)]);

    let generation = rig.publish_outbound(1, 2);
    rig.publish_policies(&[row(7, Some(1))]);
    let retired = rig.maps.retire_outbound(0).unwrap();
    rig.doorbell.ring(Ring::Outbound(0));
    for _ in 0..3 {
        rig.sadb.poll();
        assert_eq!(rig.named(), [Some(0)]);
    }
    assert!(!rig.maps.outbound_applied(1, generation));
    assert_eq!(rig.obey(), ["put out 1 false"], "and the old one still there");
    assert!(rig.maps.outbound_applied(1, generation));
    rig.sadb.poll();
    assert_eq!(rig.named(), [Some(1)]);
    assert_eq!(rig.maps.policies_applied(), rig.maps.policies_generation());
    rig.sadb.poll();
    assert!(!rig.maps.outbound_is_free(0));
    assert_eq!(rig.obey(), ["remove out 0 false"]);
    assert!(rig.maps.outbound_applied(0, retired) && rig.maps.outbound_is_free(0));
}

/// A worker that hangs does not keep the policies of all others.
#[test]
fn an_edition_does_not_wait_for_ever() {
    let mut rig = Rig::new(SharedMaps::in_memory(&GEOMETRY).unwrap());
    rig.publish_outbound(0, 1);
    rig.publish_policies(&[row(7, Some(0))]);
    rig.sadb.poll();
    assert_eq!(rig.named(), []);
    let since = rig.sadb.awaited.take().unwrap().since;
    rig.sadb.awaited = Some(Awaited::again(since.checked_sub(AWAITED_LIMIT * 2).unwrap()));
    rig.sadb.poll();
    assert_eq!(rig.named(), [Some(0)]);
}

#[test]
fn children_come_and_go_without_touching_each_other() {
    let mut rig = Rig::new(SharedMaps::in_memory(&GEOMETRY).unwrap());
    for child in 0..4 {
        rig.publish_outbound(child, child as u8 + 1);
        let rows: Vec<_> = (0..=child).map(|child| row(child, Some(child))).collect();
        rig.publish_policies(&rows);
        rig.sadb.poll();
        assert_eq!(rig.obey(), [format!("put out {child} false")], "the others are left alone");
        rig.sadb.poll();
        assert_eq!(rig.named().len(), child as usize + 1);
    }
    rig.publish_policies(&[row(0, Some(0)), row(2, Some(2)), row(3, None)]);
    rig.maps.retire_outbound(1).unwrap();
    rig.doorbell.ring(Ring::Outbound(1));
    rig.sadb.poll();
    rig.sadb.poll();
    assert_eq!(rig.obey(), ["remove out 1 false"]);
    assert_eq!(rig.named(), [Some(0), Some(2), None]);
}

/// Both directions follow a peer in place (RFC 4555, RFC 7296 section 2.23).
#[test]
fn a_moved_peer_is_an_update_of_the_same_sas() {
    let mut rig = Rig::new(SharedMaps::in_memory(&GEOMETRY).unwrap());
    rig.publish_outbound(0, 1);
    rig.maps.publish_inbound(3, &inbound(0x2000, 9)).unwrap();
    rig.doorbell.ring(Ring::Inbound(3));
    rig.sadb.poll();
    assert_eq!(rig.obey().len(), 2);
    for (port, remote) in [(61_000, "203.0.113.9"), (61_001, "203.0.113.9"), (4500, "2001:db8::9")]
    {
        let local = if remote.contains(':') { "2001:db8::1" } else { "192.0.2.1" };
        let (local, remote) = (local.parse().unwrap(), remote.parse().unwrap());
        let encap = Some(Encap { local_port: 4500, remote_port: port });
        let new = OutboundConfig { encap, local, remote, ..outbound(0, 1) };
        let generation = rig.maps.publish_outbound(0, &new).unwrap();
        rig.doorbell.ring(Ring::Outbound(0));
        let new = InboundConfig { encap, local, remote, ..inbound(0x2000, 9) };
        let inbound_generation = rig.maps.publish_inbound(3, &new).unwrap();
        rig.doorbell.ring(Ring::Inbound(3));
        rig.sadb.poll();
        assert_eq!(rig.obey(), ["put in 3 true", "put out 0 true"]);
        assert!(rig.maps.outbound_applied(0, generation));
        assert!(rig.maps.inbound_applied(3, inbound_generation));
    }
}

/// A slot that is free may be published into at once, also before the main thread has seen
/// the old SA come back: the new one is installed when it has.
#[test]
fn a_recycled_slot_is_safe_as_soon_as_the_worker_let_go() {
    let mut rig = Rig::new(SharedMaps::in_memory(&GEOMETRY).unwrap());
    let spi = rig
        .maps
        .spi_key()
        .seal(xswan_steer::spi::SpiParts { member: 0, worker: 0, slot: 3 })
        .unwrap();
    rig.maps.publish_inbound(3, &inbound(spi, 1)).unwrap();
    rig.doorbell.ring(Ring::Inbound(3));
    rig.sadb.poll();
    assert_eq!(rig.obey(), ["put in 3 false"]);
    rig.sadb.poll();
    for fill in 2..20 {
        rig.maps.retire_inbound(3).unwrap();
        rig.doorbell.ring(Ring::Inbound(3));
        assert!(rig.maps.publish_inbound(3, &inbound(spi, fill)).is_err(), "not let go of yet");
        rig.sadb.poll();
        assert_eq!(rig.obey(), ["remove in 3 false"]);
        assert!(rig.maps.inbound_is_free(3));
        // The same number under another key, and the main thread does not know yet.
        let generation = rig.maps.publish_inbound(3, &inbound(spi, fill)).unwrap();
        rig.doorbell.ring(Ring::Inbound(3));
        rig.sadb.poll();
        assert_eq!(rig.obey(), ["put in 3 false"], "a new SA, not an update of the old");
        assert!(rig.maps.inbound_applied(3, generation));
        rig.sadb.poll();
    }
}

#[path = "scale_tests.rs"]
mod scale;
