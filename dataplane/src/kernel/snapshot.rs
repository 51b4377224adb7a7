//! From the kernel's tables to the forwarding snapshot that workers read.
//!
//! A pure function: the netlink side fills [`Tables`], this file decides what each
//! destination means for a worker. Rules that decide:
//!
//! * the local table wins over the main one, a lower metric over a higher;
//! * a destination on a connected network is `Kernel` until its neighbour is known, then
//!   it gets a host route of its own with the finished layer-2 header;
//! * a device that is not attached to AF_XDP is the kernel's business;
//! * a VLAN device on an attached one becomes tags in the header.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use xswan_pipeline::forward::{Fib, L2Header, NextHop, Prefix, Ranges};
use xswan_wire::DropReason;

/// Smallest MTU that is believed of a link, in bytes.
const MTU_MIN: u32 = 68;
/// VLAN devices on VLAN devices followed at most: two tags can be written.
const VLAN_DEPTH: usize = 2;

/// A network device.
#[derive(Clone, Debug, Default)]
pub struct Link {
    /// Interface name.
    pub name: String,
    /// Ethernet address.
    pub mac: [u8; 6],
    /// MTU in bytes, IP header included.
    pub mtu: u32,
    /// Administratively up, with carrier.
    pub up: bool,
    /// Receive queues the device was made with; it may use fewer.
    pub receive_queues: u32,
    /// For a VLAN device: parent's index, tag protocol, VLAN number.
    pub vlan: Option<(u32, u16, u16)>,
}

/// What a route does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteKind {
    /// To a gateway or onto a link.
    Unicast,
    /// One of our own addresses.
    Local,
    /// A broadcast address or multicast group.
    Broadcast,
    /// Blackhole, unreachable, prohibit.
    Refuse,
}

/// A route of the local or the main table.
#[derive(Clone, Copy, Debug)]
pub struct Route {
    /// Destination's first address.
    pub destination: IpAddr,
    /// Significant bits.
    pub length: u8,
    /// What it does.
    pub kind: RouteKind,
    /// Through whom; none on a connected network.
    pub gateway: Option<IpAddr>,
    /// Out of which device.
    pub link: Option<u32>,
    /// Metric; lower wins.
    pub metric: u32,
    /// From the local table.
    pub local_table: bool,
    /// The route's own MTU in bytes, if it has one.
    pub mtu: Option<u32>,
}

/// What was read from the kernel.
#[derive(Clone, Debug, Default)]
pub struct Tables {
    /// Devices by interface index.
    pub links: BTreeMap<u32, Link>,
    /// Addresses by interface index, global scope only.
    pub addresses: Vec<(u32, IpAddr)>,
    /// Usable neighbours.
    pub neighbours: BTreeMap<(u32, IpAddr), [u8; 6]>,
    /// Those of them that the operator has set for good.
    pub permanent: BTreeSet<(u32, IpAddr)>,
    /// Routes of both families.
    pub routes: Vec<Route>,
}

/// Where a device's packets leave: port, tags outer to inner.
struct Exit<'a> {
    port: u16,
    tags: Vec<(u16, u16)>,
    link: &'a Link,
    up: bool,
}

impl Tables {
    /// Whether the kernel has to be asked now and then for this neighbour. Asked for one that
    /// is permanent, it would make it an ordinary one that can be lost.
    #[must_use]
    pub fn needs_confirming(&self, link: u32, address: IpAddr) -> bool {
        !self.permanent.contains(&(link, address))
    }

    /// Builds the snapshot for ports attached in this order of interface indices.
    #[must_use]
    pub fn fib(&self, ports: &[u32]) -> Fib {
        let mut routes: Vec<&Route> = self.routes.iter().collect();
        // Of equal prefixes the later wins: best last.
        routes.sort_by_key(|route| (route.local_table, std::cmp::Reverse(route.metric)));
        let mut prefixes: Vec<Prefix> = routes
            .iter()
            .map(|route| prefix(route.destination, route.length, self.hop(route, ports)))
            .collect();
        self.add_neighbours(&routes, ports, &mut prefixes);
        Fib::new(&prefixes, ports.iter().map(|&port| self.sources(port)).collect())
    }

    /// Host routes for resolved neighbours on connected networks.
    fn add_neighbours(&self, routes: &[&Route], ports: &[u32], prefixes: &mut Vec<Prefix>) {
        let family = |v6: bool| -> Vec<(u128, u32, u32)> {
            let of_family = |(_, route): &(usize, &&Route)| route.destination.is_ipv6() == v6;
            routes
                .iter()
                .enumerate()
                .filter(of_family)
                .map(|(index, route)| {
                    let offset = if v6 { 0 } else { 96 };
                    (number(route.destination), offset + u32::from(route.length), index as u32)
                })
                .collect()
        };
        let (v4, v6) =
            (Ranges::<u128>::from_prefixes(&family(false)), Ranges::from_prefixes(&family(true)));
        for (&(link, address), &mac) in &self.neighbours {
            let table = if address.is_ipv6() { &v6 } else { &v4 };
            let route = table.lookup(number(address)).and_then(|index| routes.get(index as usize));
            let Some(route) = route else { continue };
            let connected = route.kind == RouteKind::Unicast
                && route.gateway.is_none()
                && route.link == Some(link);
            if connected && let Some(exit) = self.exit(link, ports) {
                let length = if address.is_ipv6() { 128 } else { 32 };
                let hop = exit.hop(mac, address.is_ipv6(), route.mtu);
                prefixes.push(prefix(address, length, hop));
            }
        }
    }

    fn hop(&self, route: &Route, ports: &[u32]) -> NextHop {
        match route.kind {
            RouteKind::Local => return NextHop::Local,
            RouteKind::Broadcast => return NextHop::Drop(DropReason::Martian),
            RouteKind::Refuse => return NextHop::Drop(DropReason::NoRoute),
            RouteKind::Unicast => {}
        }
        let Some(link) = route.link else {
            return NextHop::Kernel { mtu: 1500 };
        };
        let Some(exit) = self.exit(link, ports) else {
            let mtu = self.links.get(&link).map_or(1500, |link| link.mtu);
            return NextHop::Kernel { mtu: clamp(route.mtu.unwrap_or(mtu)) };
        };
        if !exit.up {
            return NextHop::Drop(DropReason::LinkDown);
        }
        let known = route.gateway.and_then(|gateway| self.neighbours.get(&(link, gateway)));
        match known {
            Some(&mac) => exit.hop(mac, route.destination.is_ipv6(), route.mtu),
            None => NextHop::Kernel { mtu: clamp(route.mtu.unwrap_or(exit.link.mtu)) },
        }
    }

    /// Follows VLAN devices down to an attached port.
    fn exit(&self, index: u32, ports: &[u32]) -> Option<Exit<'_>> {
        let link = self.links.get(&index)?;
        let (mut at, mut tags, mut up) = (index, Vec::new(), link.up);
        for _ in 0..=VLAN_DEPTH {
            if let Some(port) = ports.iter().position(|&port| port == at) {
                return Some(Exit { port: u16::try_from(port).ok()?, tags, link, up });
            }
            let (parent, protocol, vlan) = self.links.get(&at)?.vlan?;
            tags.insert(0, (protocol, vlan));
            up &= self.links.get(&parent)?.up;
            at = parent;
        }
        None
    }

    /// Addresses that ICMP errors about packets from this port come from.
    fn sources(&self, port: u32) -> (Option<[u8; 4]>, Option<[u8; 16]>) {
        let mut sources = (None, None);
        for &(link, address) in &self.addresses {
            let here = link == port
                || self.links.get(&link).and_then(|link| link.vlan).is_some_and(|v| v.0 == port);
            match address {
                IpAddr::V4(address) if here => {
                    sources.0.get_or_insert(address.octets());
                }
                IpAddr::V6(address) if here => {
                    sources.1.get_or_insert(address.octets());
                }
                IpAddr::V4(_) | IpAddr::V6(_) => {}
            }
        }
        sources
    }

    /// Through which device and neighbour an address is reached.
    #[must_use]
    pub fn neighbour_of(&self, address: IpAddr) -> Option<(u32, IpAddr)> {
        let covers = |route: &&Route| {
            let bits = if address.is_ipv6() { 128 } else { 32 };
            let host = bits - u32::from(route.length).min(bits);
            route.kind == RouteKind::Unicast
                && route.destination.is_ipv6() == address.is_ipv6()
                && number(route.destination).checked_shr(host).unwrap_or(0)
                    == number(address).checked_shr(host).unwrap_or(0)
        };
        let best = |route: &&Route| (route.length, std::cmp::Reverse(route.metric));
        let route = self.routes.iter().filter(covers).max_by_key(best)?;
        Some((route.link?, route.gateway.unwrap_or(address)))
    }

    /// Whether a device is an attached port, or a VLAN device on one.
    #[must_use]
    pub fn is_on_port(&self, link: u32, ports: &[u32]) -> bool {
        self.exit(link, ports).is_some()
    }

    /// Gateways and the devices they are on, for keeping their neighbour entries fresh.
    pub fn gateways(&self) -> impl Iterator<Item = (u32, IpAddr)> + '_ {
        self.routes.iter().filter_map(|route| Some((route.link?, route.gateway?)))
    }
}

impl Exit<'_> {
    fn hop(&self, mac: [u8; 6], v6: bool, mtu: Option<u32>) -> NextHop {
        if !self.up {
            return NextHop::Drop(DropReason::LinkDown);
        }
        let ether_type = if v6 { 0x86dd } else { 0x0800 };
        NextHop::Port {
            port: self.port,
            mtu: clamp(mtu.unwrap_or(self.link.mtu).min(self.link.mtu)),
            header: L2Header::new(mac, self.link.mac, &self.tags, ether_type),
        }
    }
}

fn clamp(mtu: u32) -> u16 {
    u16::try_from(mtu.max(MTU_MIN)).unwrap_or(u16::MAX)
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address),
    }
}

fn prefix(address: IpAddr, length: u8, hop: NextHop) -> Prefix {
    Prefix { address: number(address), length: u32::from(length), v6: address.is_ipv6(), hop }
}

#[cfg(test)]
mod tests {
    use super::{Link, Route, RouteKind, Tables};
    use std::net::IpAddr;
    use xswan_pipeline::forward::NextHop;
    use xswan_wire::DropReason;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn route(destination: &str, length: u8, gateway: Option<&str>, link: u32) -> Route {
        Route {
            destination: ip(destination),
            length,
            kind: RouteKind::Unicast,
            gateway: gateway.map(ip),
            link: Some(link),
            metric: 0,
            local_table: false,
            mtu: None,
        }
    }

    /// eth0 (2) attached, eth1 (3) not attached, eth0.7 (4) on eth0.
    fn tables() -> Tables {
        let mut tables = Tables::default();
        let link = |name: &str, mac: u8, vlan| Link {
            name: name.to_owned(),
            mac: [mac; 6],
            mtu: 1500,
            up: true,
            receive_queues: 1,
            vlan,
        };
        tables.links.insert(2, link("eth0", 2, None));
        tables.links.insert(3, link("eth1", 3, None));
        tables.links.insert(4, link("eth0.7", 2, Some((2, 0x8100, 7))));
        tables.addresses.push((2, ip("192.0.2.1")));
        tables.routes.push(route("192.0.2.0", 24, None, 2));
        tables.routes.push(route("0.0.0.0", 0, Some("192.0.2.254"), 2));
        tables.routes.push(route("10.3.0.0", 16, None, 3));
        tables.routes.push(route("10.4.0.0", 16, None, 4));
        tables.routes.push(Route {
            kind: RouteKind::Local,
            local_table: true,
            ..route("192.0.2.1", 32, None, 2)
        });
        tables
    }

    #[test]
    fn unresolved_goes_to_the_kernel_and_resolved_to_the_port() {
        let mut tables = tables();
        assert_eq!(tables.fib(&[2]).lookup4([192, 0, 2, 9]), NextHop::Kernel { mtu: 1500 });
        assert_eq!(tables.fib(&[2]).lookup4([8, 8, 8, 8]), NextHop::Kernel { mtu: 1500 });
        tables.neighbours.insert((2, ip("192.0.2.9")), [9; 6]);
        tables.neighbours.insert((2, ip("192.0.2.254")), [8; 6]);
        let fib = tables.fib(&[2]);
        let NextHop::Port { port: 0, header, .. } = fib.lookup4([192, 0, 2, 9]) else {
            panic!("not resolved");
        };
        assert_eq!(&header.as_bytes()[..6], &[9; 6]);
        let NextHop::Port { header, .. } = fib.lookup4([8, 8, 8, 8]) else {
            panic!("gateway not resolved");
        };
        assert_eq!(&header.as_bytes()[..6], &[8; 6]);
        assert_eq!(fib.lookup4([192, 0, 2, 1]), NextHop::Local);
        assert_eq!(fib.lookup4([10, 3, 0, 1]), NextHop::Kernel { mtu: 1500 });
        assert_eq!(fib.source4(0), Some([192, 0, 2, 1]));
    }

    #[test]
    fn vlan_devices_become_tags() {
        let mut tables = tables();
        tables.neighbours.insert((4, ip("10.4.0.9")), [9; 6]);
        let NextHop::Port { header, .. } = tables.fib(&[2]).lookup4([10, 4, 0, 9]) else {
            panic!("not resolved");
        };
        assert_eq!(&header.as_bytes()[12..18], &[0x81, 0, 0, 7, 8, 0]);
    }

    #[test]
    fn a_link_that_is_down_drops_and_a_better_metric_wins() {
        let mut tables = tables();
        tables.neighbours.insert((2, ip("192.0.2.9")), [9; 6]);
        tables.links.get_mut(&2).unwrap().up = false;
        let down = NextHop::Drop(DropReason::LinkDown);
        assert_eq!(tables.fib(&[2]).lookup4([192, 0, 2, 9]), down);
        assert_eq!(tables.fib(&[2]).lookup4([8, 8, 8, 8]), down);
        tables.routes.push(Route { metric: 5, ..route("8.0.0.0", 8, None, 2) });
        tables.routes.push(Route { metric: 1, ..route("8.0.0.0", 8, None, 3) });
        assert_eq!(tables.fib(&[2]).lookup4([8, 8, 8, 8]), NextHop::Kernel { mtu: 1500 });
    }

    #[test]
    fn a_neighbour_behind_a_gateway_route_is_not_a_host_route() {
        let mut tables = tables();
        tables.neighbours.insert((2, ip("10.3.0.9")), [9; 6]);
        assert_eq!(tables.fib(&[2]).lookup4([10, 3, 0, 9]), NextHop::Kernel { mtu: 1500 });
    }
}
