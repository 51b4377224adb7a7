//! Thousands of clients behind one NAT address come back at once.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use xswan_ikev2::policy::Configuration;
use xswan_ikev2::{Input, Millis};
use xswan_simulation::gateway::Datagram;
use xswan_simulation::{Gateway, Seeded, policies};

/// The address of all of them.
const PUBLIC: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 77));
/// A datagram takes between 5 and so many milliseconds.
const SLOWEST_MS: u64 = 60;

/// One core that is all clients, a NAT that gives each of them ports of its own, the gateway.
struct Outage {
    clients: Gateway,
    gateway: Gateway,
    now: Millis,
    random: Seeded,
    /// SPI and inner port → port of the NAT, and back to the inner port.
    ports: HashMap<(u64, u16), u16>,
    inner: HashMap<u16, u16>,
    wire: BTreeMap<(Millis, u64), (bool, Datagram)>,
    sent: u64,
}

impl Outage {
    fn new(count: u16, change: impl Fn(&mut Configuration)) -> Self {
        let mut configuration = policies::clients_gateway();
        change(&mut configuration);
        let [inside, outside] = policies::ADDRESSES;
        Self {
            clients: Gateway::new(inside, Arc::new(policies::clients(count)), 3),
            gateway: Gateway::new(outside, Arc::new(configuration), 4),
            now: Millis(1_000),
            random: Seeded::new(33),
            ports: HashMap::new(),
            inner: HashMap::new(),
            wire: BTreeMap::new(),
            sent: 0,
        }
    }

    fn carry(&mut self, to_gateway: bool, mut datagram: Datagram) {
        if to_gateway {
            let spi = datagram.octets.get(..8).and_then(|octets| octets.try_into().ok());
            let spi = u64::from_be_bytes(spi.expect("a header"));
            let (inner, next) = (datagram.from.port(), 1_024 + self.ports.len() as u16);
            let port = *self.ports.entry((spi, inner)).or_insert(next);
            self.inner.insert(port, inner);
            datagram.from = SocketAddr::new(PUBLIC, port);
        } else {
            let inner = self.inner.get(&datagram.to.port()).expect("a port of the NAT");
            datagram.to = SocketAddr::new(self.clients.address(), *inner);
        }
        let at = self.now.plus(5 + self.random.below(SLOWEST_MS - 5));
        self.sent += 1;
        self.wire.insert((at, self.sent), (to_gateway, datagram));
    }

    fn input(&mut self, to_gateway: bool, input: Input) {
        let node = if to_gateway { &mut self.gateway } else { &mut self.clients };
        for datagram in node.handle(input, self.now) {
            self.carry(!to_gateway, datagram);
        }
    }

    /// Lets everything happen for so long.
    fn run_for(&mut self, milliseconds: u64) {
        let end = self.now.plus(milliseconds);
        loop {
            let arrival = self.wire.keys().next().map(|(at, _)| *at);
            let due = [self.clients.deadline(), self.gateway.deadline()];
            let next = due.into_iter().flatten().chain(arrival).min();
            let Some(at) = next.filter(|at| *at <= end) else { break };
            self.now = self.now.max(at);
            if arrival.is_some_and(|at| at <= self.now)
                && let Some((_, (to_gateway, datagram))) = self.wire.pop_first()
            {
                let Datagram { from: remote, to: local, octets } = datagram;
                self.input(to_gateway, Input::Datagram { local, remote, octets });
            } else {
                for (to_gateway, due) in due.into_iter().enumerate() {
                    if due.is_some_and(|due| due <= self.now) {
                        self.input(to_gateway == 1, Input::Timer);
                    }
                }
            }
        }
        self.now = end;
    }

    /// All clients begin in the same millisecond; how many are up after so long.
    fn come_back(&mut self, count: u16, milliseconds: u64) -> usize {
        for client in 0..count {
            let request = Some(self.clients.ask());
            let connection = Some(policies::client_name(client));
            let child = Some("net".to_owned());
            self.input(false, Input::Initiate { connection, child, packet: None, request });
        }
        self.run_for(milliseconds);
        self.clients.answers.values().filter(|answer| answer.is_ok()).count()
    }
}

/// As many as the catalogue asks for, with the limits as they are by default.
#[test]
fn dos_03_five_thousand_behind_one_address_all_come_up() {
    let mut outage = Outage::new(5_000, |_| {});
    let up = outage.come_back(5_000, 30_000);
    let counted = *outage.gateway.engine.statistics();
    assert_eq!(up, 5_000, "{counted:?}");
    assert_eq!(outage.gateway.children.len(), 5_000);
    // It was a crowd: cookies were asked for.
    assert!(counted.stateless_answers > 4_000, "{counted:?}");
}

/// A tenth of them, and a tenth of the budget and less: they are served one after the other.
#[test]
fn dos_03_nobody_is_locked_out_by_limits_that_are_far_too_low() {
    let mut outage = Outage::new(500, |whole| {
        whole.settings.block_threshold = 5;
        whole.settings.init_limit_half_open = 100;
        whole.settings.init_key_exchanges_per_s = 200;
    });
    let up = outage.come_back(500, 165_000);
    let counted = *outage.gateway.engine.statistics();
    assert_eq!(up, 500, "{counted:?}");
    assert!(counted.refused_half_open + counted.refused_key_exchange > 0, "{counted:?}");
}
