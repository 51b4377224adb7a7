//! The kernel's side of the tunnels of this machine: virtual addresses and routes, done one
//! after the other in a task of their own.
//!
//! Netlink answers when it likes, and the dataplane, whose TUN device is needed, may not be up
//! yet or may be restarted. The event loop only says what it wants.

use super::child_sas::GroupNews;
use super::event_loop::Ike;
use crate::tables::Tables;
use crate::virtual_ip::{Route, VirtualIps};
use ipnet::IpNet;
use nix::ifaddrs::getifaddrs;
use std::net::IpAddr;
use std::time::Duration;
use tokio::sync::mpsc;
use xswan_config::TrafficSelector;

/// How often the device is looked for.
const REFRESH: Duration = Duration::from_millis(500);

/// Something to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    /// An address on the TUN device.
    Add(IpAddr),
    /// Not any more.
    Remove(IpAddr),
    /// A route through it.
    AddRoute(Route),
    /// Not any more.
    RemoveRoute(Route),
    /// What is there from an earlier life and was not wished for in this one goes.
    Clean,
}

/// The task's end of the wire.
#[derive(Clone, Debug)]
pub struct Addresses(mpsc::UnboundedSender<Wish>);

impl Addresses {
    /// Starts the task. Must be called inside the runtime.
    ///
    /// # Errors
    /// No netlink socket.
    pub fn start(tun: &str) -> Result<Self, String> {
        let ips = VirtualIps::new(tun)?;
        let (sender, receiver) = mpsc::unbounded_channel();
        tokio::spawn(work(ips, receiver));
        Ok(Self(sender))
    }

    /// Has it done, in order. At most two for each tunnel are under way.
    pub fn wish(&self, wish: Wish) {
        // The task ends with the daemon only.
        let _ended = self.0.send(wish);
    }
}

async fn work(mut ips: VirtualIps, mut wishes: mpsc::UnboundedReceiver<Wish>) {
    let mut refresh = tokio::time::interval(REFRESH);
    refresh.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let wish = tokio::select! {
            wish = wishes.recv() => wish,
            _ = refresh.tick() => {
                if let Err(error) = ips.refresh().await {
                    tracing::debug!("{error}");
                }
                continue;
            }
        };
        let done = match wish {
            Some(Wish::Add(address)) => ips.add(address).await,
            Some(Wish::Remove(address)) => ips.remove(address).await,
            Some(Wish::AddRoute(route)) => ips.add_route(route).await,
            Some(Wish::RemoveRoute(route)) => ips.remove_route(route).await,
            Some(Wish::Clean) => ips.clear().await,
            None => break,
        };
        if let Err(error) = done {
            tracing::warn!("{error}");
        }
    }
    ips.remove_all().await;
}

impl Ike {
    /// Routes of the gateway's own traffic, for the tunnels that have come and gone.
    pub(super) fn settle_routes(&mut self, tables: &mut Tables) {
        let news = tables.child_sas.take_news();
        let Some(addresses) = self.addresses.as_ref().filter(|_| self.settings.install_routes)
        else {
            return;
        };
        for one in news {
            match one {
                GroupNews::Added(number) => {
                    let Some(group) = tables.child_sas.group(number) else { continue };
                    let vips: Vec<IpAddr> = self.vips.values().flatten().copied().collect();
                    let routes = routes(&group.local_ts, &group.remote_ts, &vips);
                    for route in &routes {
                        addresses.wish(Wish::AddRoute(*route));
                    }
                    if !routes.is_empty() {
                        self.routes.insert(number, routes);
                    }
                }
                GroupNews::Removed(number) => {
                    for route in self.routes.remove(&number).unwrap_or_default() {
                        addresses.wish(Wish::RemoveRoute(route));
                    }
                }
            }
        }
    }
}

/// The routes of a tunnel for the gateway's own traffic: to everything behind the peer, from
/// an address of ours that the tunnel carries. None if we have no such address.
#[must_use]
pub fn routes(
    local_ts: &[TrafficSelector],
    remote_ts: &[TrafficSelector],
    virtual_ips: &[IpAddr],
) -> Vec<Route> {
    let mut own: Vec<IpAddr> = virtual_ips.to_vec();
    if let Ok(interfaces) = getifaddrs() {
        own.extend(interfaces.filter_map(|interface| address_of(&interface.address?)));
    }
    let source = |ipv6: bool| {
        let fits = |address: &&IpAddr| {
            address.is_ipv6() == ipv6
                && !address.is_loopback()
                && local_ts.iter().any(|ts| ts.overlaps(&TrafficSelector::host(**address)))
        };
        own.iter().find(fits).copied()
    };
    let mut routes = Vec::new();
    for (address, length) in remote_ts.iter().flat_map(TrafficSelector::prefixes) {
        let Some(source) = source(address.is_ipv6()) else { continue };
        let Ok(destination) = IpNet::new(address, length) else { continue };
        let route = Route { destination, source: Some(source) };
        if !routes.contains(&route) {
            routes.push(route);
        }
    }
    routes
}

fn address_of(address: &nix::sys::socket::SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
    v4.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ts(text: &str) -> TrafficSelector {
        TrafficSelector::parse(text, "0.0.0.0".parse().expect("address")).expect(text)
    }

    #[test]
    fn a_tunnel_that_carries_none_of_our_addresses_has_no_routes() {
        let remote = [ts("10.2.0.0/16"), ts("2001:db8:2::/64")];
        assert!(routes(&[ts("198.51.100.0/24")], &remote, &[]).is_empty());
        let vip: IpAddr = "198.51.100.7".parse().expect("address");
        let found = routes(&[ts("198.51.100.7/32")], &remote, &[vip]);
        let destination = "10.2.0.0/16".parse().expect("network");
        assert_eq!(found, [Route { destination, source: Some(vip) }], "of the same family");
    }
}
