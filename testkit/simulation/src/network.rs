//! Two gateways, the wire between them and the clock.

use crate::gateway::{Datagram, Gateway};
use crate::seeded::Seeded;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{IpAddr, SocketAddr};
use xswan_ike_crypto::Secret;
use xswan_ikev2::{Input, Millis};

/// What the wire does to datagrams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Disturbance {
    /// So many of a thousand are lost.
    pub loss_permille: u64,
    /// So many of a thousand arrive twice.
    pub copies_permille: u64,
    /// Each takes up to so long, so that they overtake each other.
    pub delay_ms: u64,
    /// So many of a thousand are followed by a new mapping of the NAT before gateway 0.
    pub rebinding_permille: u64,
}

/// What became of the packets that were sent through Child SAs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Sealed.
    pub sealed: u64,
    /// Arrived and opened.
    pub opened: u64,
    /// Arrived where there was no SA for it, or one with other keys.
    pub unopened: u64,
}

/// What is on the wire.
#[derive(Clone, Debug)]
enum Parcel {
    Ike(Datagram),
    Esp { spi: u32, key: Secret, from: SocketAddr },
}

/// The whole world of a run.
#[derive(Debug)]
pub struct Network {
    /// Both gateways.
    pub gateways: [Gateway; 2],
    /// The clock.
    pub now: Millis,
    /// What the wire does.
    pub disturbance: Disturbance,
    /// Datagrams to be dropped by a test: true drops.
    pub filter: Option<fn(usize, &[u8]) -> bool>,
    /// Datagrams that were sent, by sender.
    pub sent: [u64; 2],
    /// Packets through Child SAs.
    pub traffic: Traffic,
    digest: u64,
    random: Seeded,
    on_the_wire: BTreeMap<(Millis, u64), (usize, Parcel)>,
    order: u64,
    /// Public address and port of gateway 0, if there is a NAT before it.
    nat: Option<(IpAddr, u16)>,
}

impl Network {
    /// Two gateways on a clean wire.
    #[must_use]
    pub fn new(gateways: [Gateway; 2], seed: u64) -> Self {
        Self {
            gateways,
            now: Millis(1_000),
            disturbance: Disturbance::default(),
            filter: None,
            sent: [0; 2],
            traffic: Traffic::default(),
            digest: 0,
            random: Seeded::new(seed ^ 0x6e65_7477_6f72_6b21),
            on_the_wire: BTreeMap::new(),
            order: 0,
            nat: None,
        }
    }

    /// Puts a NAT with this public address before gateway 0.
    pub fn put_nat(&mut self, public: IpAddr) {
        self.nat = Some((public, 20_000));
    }

    /// The generator that the wire uses.
    pub const fn random(&mut self) -> &mut Seeded {
        &mut self.random
    }

    /// Gives an input to a gateway now.
    pub fn input(&mut self, gateway: usize, input: Input) {
        let now = self.now;
        let Some(node) = self.gateways.get_mut(gateway) else { return };
        for datagram in node.handle(input, now) {
            self.send(gateway, datagram);
        }
    }

    fn send(&mut self, from: usize, datagram: Datagram) {
        if let Some(count) = self.sent.get_mut(from) {
            *count += 1;
        }
        let (mut hasher, sent) = (DefaultHasher::new(), (self.digest, self.now, from));
        (sent, &datagram.octets).hash(&mut hasher);
        self.digest = hasher.finish();
        if self.filter.is_some_and(|filter| filter(from, &datagram.octets)) {
            return;
        }
        if self.random.permille(self.disturbance.rebinding_permille)
            && let Some((_, port)) = &mut self.nat
        {
            *port = port.wrapping_add(1).max(1024);
        }
        let translated = self.translate(from, datagram);
        let Some(datagram) = translated else { return };
        self.carry(1 - from, Parcel::Ike(datagram));
    }

    /// The wire: loss, copies and delay.
    fn carry(&mut self, to: usize, parcel: Parcel) {
        if self.random.permille(self.disturbance.loss_permille) {
            return;
        }
        let copies = 1 + u64::from(self.random.permille(self.disturbance.copies_permille));
        for _ in 0..copies {
            let at = self.now.plus(1 + self.random.below(self.disturbance.delay_ms + 1));
            self.order += 1;
            self.on_the_wire.insert((at, self.order), (to, parcel.clone()));
        }
    }

    /// Sends a packet through every Child SA of a gateway that traffic leaves through.
    pub fn send_traffic(&mut self, from: usize) {
        let Some(gateway) = self.gateways.get(from) else { return };
        let outbound = gateway.children.values().filter(|child| child.outbound);
        let packets: Vec<_> = outbound
            .map(|child| {
                let install = &child.install;
                let outer =
                    Datagram { from: install.local, to: install.remote, octets: Vec::new() };
                (install.spi_out, install.key_out.clone(), outer)
            })
            .collect();
        for (spi, key, outer) in packets {
            self.traffic.sealed += 1;
            if let Some(outer) = self.translate(from, outer) {
                self.carry(1 - from, Parcel::Esp { spi, key, from: outer.from });
            }
        }
    }

    /// A packet arrives: the dataplane opens it, and tells the core what it learns from it.
    fn open(&mut self, to: usize, spi: u32, key: &Secret, from: SocketAddr) {
        let Some(gateway) = self.gateways.get(to) else { return };
        let fits = |child: &&crate::InstalledChild| {
            child.install.spi_in == spi && child.install.key_in == *key
        };
        let Some(child) = gateway.children.values().find(fits) else {
            self.traffic.unopened += 1;
            let now = self.now;
            if let Some(gateway) = self.gateways.get_mut(to) {
                gateway.log.push(format!("a packet for SPI {spi:08x} is not opened"));
                gateway.log_times.push(now);
            }
            return;
        };
        self.traffic.opened += 1;
        let moved = child.install.any_source && child.install.remote != from;
        let seen = Input::ChildUse { spi_in: spi, idle_in_ms: Some(0), idle_out_ms: None };
        self.input(to, seen);
        if moved {
            self.input(to, Input::PeerMoved { spi_in: spi, remote: from });
        }
    }

    /// A digest of everything that was sent, and when: the same for the same seed.
    #[must_use]
    pub const fn digest(&self) -> u64 {
        self.digest
    }

    /// Nothing is on its way.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        self.on_the_wire.is_empty()
    }

    /// The NAT: what gateway 0 sends comes from the public address; what comes back to an old
    /// mapping is lost. The port's lowest bit tells 500 from 4500.
    fn translate(&self, from: usize, mut datagram: Datagram) -> Option<Datagram> {
        let Some((public, port)) = self.nat else { return Some(datagram) };
        let external = |inner: u16| port.wrapping_mul(2) | u16::from(inner == 4500);
        if from == 0 {
            datagram.from = SocketAddr::new(public, external(datagram.from.port()));
            return Some(datagram);
        }
        let inner = [500, 4500].into_iter().find(|inner| external(*inner) == datagram.to.port())?;
        let address = self.gateways.first().map(Gateway::address)?;
        datagram.to = SocketAddr::new(address, inner);
        Some(datagram)
    }

    /// Lets everything happen until a moment.
    pub fn run_until(&mut self, end: Millis) {
        while let Some(at) = self.next_event().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.step();
        }
        self.now = self.now.max(end);
    }

    /// Lets everything happen for so long, in milliseconds.
    pub fn run_for(&mut self, milliseconds: u64) {
        self.run_until(self.now.plus(milliseconds));
    }

    fn next_event(&self) -> Option<Millis> {
        let arrival = self.on_the_wire.keys().next().map(|(at, _)| *at);
        let deadlines = self.gateways.iter().filter_map(Gateway::deadline);
        arrival.into_iter().chain(deadlines).min()
    }

    fn step(&mut self) {
        let arrived = self.on_the_wire.first_key_value().map(|(key, _)| *key);
        if let Some(key) = arrived.filter(|(at, _)| *at <= self.now)
            && let Some((to, parcel)) = self.on_the_wire.remove(&key)
        {
            match parcel {
                Parcel::Ike(Datagram { from, to: local, octets }) => {
                    self.input(to, Input::Datagram { local, remote: from, octets });
                }
                Parcel::Esp { spi, key, from } => self.open(to, spi, &key, from),
            }
            return;
        }
        for gateway in 0..2 {
            let due = self.gateways.get(gateway).and_then(Gateway::deadline);
            if due.is_some_and(|due| due <= self.now) {
                self.input(gateway, Input::Timer);
            }
        }
    }

    /// Both gateways open what the other one sends.
    #[must_use]
    pub fn agrees(&self) -> bool {
        let [one, other] = &self.gateways;
        one.opens_what_is_sent_by(other) && other.opens_what_is_sent_by(one)
    }
}
