//! Reads the kernel's tables over netlink and says when they have changed.
//!
//! Every change leads to one fresh dump after a short pause, not to an incremental
//! edit: a missed or reordered message then cannot leave the mirror wrong for ever.

use std::net::IpAddr;

use super::snapshot::{Link, Route, RouteKind, Tables};
use futures_util::{StreamExt, TryStreamExt};
use rtnetlink::packet_core::NetlinkMessage;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::address::{AddressAttribute, AddressScope};
use rtnetlink::packet_route::link::{InfoData, InfoVlan, LinkAttribute, LinkFlags, LinkInfo};
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourState,
};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteMetric, RouteType,
};
use rtnetlink::sys::SocketAddr;
use rtnetlink::{Error, Handle, MulticastGroup, RouteMessageBuilder, new_multicast_connection};

/// Number of the kernel's local table.
const TABLE_LOCAL: u32 = 255;

type Messages =
    futures_util::stream::BoxStream<'static, (NetlinkMessage<RouteNetlinkMessage>, SocketAddr)>;

/// A connection to the kernel's tables.
pub struct Mirror {
    handle: Handle,
    messages: Messages,
}

impl Mirror {
    /// Subscribes to changes of links, addresses, routes and neighbours.
    ///
    /// # Errors
    /// If the netlink socket cannot be opened.
    pub fn open() -> std::io::Result<Self> {
        let (connection, handle, messages) = new_multicast_connection(&[
            MulticastGroup::Link,
            MulticastGroup::Ipv4Ifaddr,
            MulticastGroup::Ipv6Ifaddr,
            MulticastGroup::Ipv4Route,
            MulticastGroup::Ipv6Route,
            MulticastGroup::Neigh,
        ])?;
        tokio::spawn(connection);
        Ok(Self { handle, messages: messages.boxed() })
    }

    /// Waits until something has changed. Loses nothing if it is dropped before it is done.
    /// Returns false if the connection is gone.
    pub async fn changed(&mut self) -> bool {
        self.messages.next().await.is_some()
    }

    /// Dumps everything.
    ///
    /// # Errors
    /// If the kernel refuses or interrupts a dump.
    pub async fn read(&self) -> Result<Tables, Error> {
        let mut tables = Tables::default();
        self.read_links(&mut tables).await?;
        self.read_addresses(&mut tables).await?;
        self.read_neighbours(&mut tables).await?;
        let v4 = RouteMessageBuilder::<std::net::Ipv4Addr>::new().build();
        let v6 = RouteMessageBuilder::<std::net::Ipv6Addr>::new().build();
        for message in [v4, v6] {
            let mut routes = self.handle.route().get(message).execute();
            while let Some(message) = routes.try_next().await? {
                tables.routes.extend(route(&message));
            }
        }
        Ok(tables)
    }

    async fn read_links(&self, tables: &mut Tables) -> Result<(), Error> {
        let mut links = self.handle.link().get().execute();
        while let Some(message) = links.try_next().await? {
            let flags = message.header.flags;
            let mut link = Link {
                up: flags.contains(LinkFlags::Up) && flags.contains(LinkFlags::LowerUp),
                mtu: 1500,
                ..Link::default()
            };
            let mut parent = None;
            let mut vlan = None;
            for attribute in message.attributes {
                #[expect(
                    clippy::wildcard_enum_match_arm,
                    reason = "dozens of attributes, six used"
                )]
                match attribute {
                    LinkAttribute::IfName(name) => link.name = name,
                    LinkAttribute::Mtu(mtu) => link.mtu = mtu,
                    LinkAttribute::Address(mac) => {
                        link.mac = mac.try_into().unwrap_or_default();
                    }
                    LinkAttribute::NumRxQueues(count) => link.receive_queues = count,
                    LinkAttribute::Link(index) => parent = Some(index),
                    LinkAttribute::LinkInfo(infos) => vlan = vlan_of(&infos).or(vlan),
                    _ => {}
                }
            }
            link.vlan = parent.zip(vlan).map(|(parent, (protocol, id))| (parent, protocol, id));
            tables.links.insert(message.header.index, link);
        }
        Ok(())
    }

    async fn read_addresses(&self, tables: &mut Tables) -> Result<(), Error> {
        let mut addresses = self.handle.address().get().execute();
        while let Some(message) = addresses.try_next().await? {
            if message.header.scope != AddressScope::Universe {
                continue;
            }
            let of = |wanted: fn(&AddressAttribute) -> Option<IpAddr>| {
                message.attributes.iter().find_map(wanted)
            };
            // On a point-to-point link `Address` is the peer's; `Local` is ours where both are.
            #[expect(clippy::wildcard_enum_match_arm, reason = "one attribute of many")]
            let local = of(|a| match a {
                AddressAttribute::Local(address) => Some(*address),
                _ => None,
            });
            #[expect(clippy::wildcard_enum_match_arm, reason = "one attribute of many")]
            let plain = of(|a| match a {
                AddressAttribute::Address(address) => Some(*address),
                _ => None,
            });
            if let Some(address) = local.or(plain) {
                tables.addresses.push((message.header.index, address));
            }
        }
        Ok(())
    }

    async fn read_neighbours(&self, tables: &mut Tables) -> Result<(), Error> {
        let mut neighbours = self.handle.neighbours().get().execute();
        while let Some(message) = neighbours.try_next().await? {
            let usable = matches!(
                message.header.state,
                NeighbourState::Reachable
                    | NeighbourState::Stale
                    | NeighbourState::Delay
                    | NeighbourState::Probe
                    | NeighbourState::Permanent
            );
            let (mut address, mut mac) = (None, None);
            for attribute in message.attributes {
                #[expect(clippy::wildcard_enum_match_arm, reason = "two attributes of many")]
                match attribute {
                    NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => {
                        address = Some(IpAddr::V4(v4));
                    }
                    NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => {
                        address = Some(IpAddr::V6(v6));
                    }
                    NeighbourAttribute::LinkLayerAddress(bytes) => {
                        mac = <[u8; 6]>::try_from(bytes).ok();
                    }
                    _ => {}
                }
            }
            if let (true, Some(address), Some(mac)) = (usable, address, mac) {
                tables.neighbours.insert((message.header.ifindex, address), mac);
                if message.header.state == NeighbourState::Permanent {
                    tables.permanent.insert((message.header.ifindex, address));
                }
            }
        }
        Ok(())
    }

    /// Asks the kernel to resolve a neighbour, or to confirm one that it has not heard of lately.
    ///
    /// Packets that leave through AF_XDP do not count as use in the kernel's eyes.
    pub async fn use_neighbour(&self, link: u32, address: IpAddr) {
        let request = self
            .handle
            .neighbours()
            .add(link, address)
            .state(NeighbourState::None)
            .flags(NeighbourFlags::Use);
        if let Err(error) = request.replace().execute().await {
            tracing::debug!(%address, %error, "neighbour not refreshed");
        }
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "one kind of many")]
fn vlan_of(infos: &[LinkInfo]) -> Option<(u16, u16)> {
    let data = infos.iter().find_map(|info| match info {
        LinkInfo::Data(InfoData::Vlan(data)) => Some(data),
        _ => None,
    })?;
    let (mut protocol, mut id) = (0x8100, None);
    for item in data {
        match item {
            InfoVlan::Id(number) => id = Some(*number),
            InfoVlan::Protocol(tag) => protocol = u16::from(*tag),
            _ => {}
        }
    }
    Some((protocol, id?))
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the rest are not addresses")]
fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(v4) => Some(IpAddr::V4(*v4)),
        RouteAddress::Inet6(v6) => Some(IpAddr::V6(*v6)),
        _ => None,
    }
}

/// A route of the local or the main table; `None` for what the mirror does not follow.
fn route(message: &RouteMessage) -> Option<Route> {
    #[expect(clippy::wildcard_enum_match_arm, reason = "the rest is not forwarded by us")]
    let kind = match message.header.kind {
        RouteType::Unicast => RouteKind::Unicast,
        RouteType::Local | RouteType::Anycast => RouteKind::Local,
        RouteType::Broadcast | RouteType::Multicast => RouteKind::Broadcast,
        RouteType::BlackHole | RouteType::Unreachable | RouteType::Prohibit => RouteKind::Refuse,
        _ => return None,
    };
    let v6 = message.header.address_family == rtnetlink::packet_route::AddressFamily::Inet6;
    let unspecified = if v6 { IpAddr::from([0_u8; 16]) } else { IpAddr::from([0_u8; 4]) };
    let mut route = Route {
        destination: unspecified,
        length: message.header.destination_prefix_length,
        kind,
        gateway: None,
        link: None,
        metric: 0,
        local_table: false,
        mtu: None,
    };
    let mut table = u32::from(message.header.table);
    for attribute in &message.attributes {
        #[expect(clippy::wildcard_enum_match_arm, reason = "seven attributes of many")]
        match attribute {
            RouteAttribute::Destination(address) => route.destination = ip(address)?,
            RouteAttribute::Gateway(address) => route.gateway = ip(address),
            RouteAttribute::Oif(index) => route.link = Some(*index),
            RouteAttribute::Priority(metric) => route.metric = *metric,
            RouteAttribute::Table(number) => table = *number,
            RouteAttribute::Metrics(metrics) => {
                route.mtu = metrics.iter().find_map(|metric| match metric {
                    RouteMetric::Mtu(mtu) => Some(*mtu),
                    _ => None,
                });
            }
            RouteAttribute::MultiPath(hops) => {
                // Several equal paths: the first stands for all.
                let first = hops.first()?;
                route.link = Some(first.interface_index);
                route.gateway = first.attributes.iter().find_map(|attribute| match attribute {
                    RouteAttribute::Gateway(address) => ip(address),
                    _ => None,
                });
            }
            _ => {}
        }
    }
    route.local_table = table == TABLE_LOCAL;
    let followed = route.local_table || table == u32::from(RouteHeader::RT_TABLE_MAIN);
    followed.then_some(route)
}
