//! Virtual addresses on the TUN device, and routes that bring the gateway's own traffic to it.
//!
//! What a worker opens for one of our own addresses comes out of the TUN device, and what is
//! routed into it is sealed. A virtual address is therefore an address of that device, and the
//! networks behind the peer are routed to it, with the virtual address as source. The routes
//! are in a table of their own, looked at before the main one, so that the dataplane's mirror of
//! the main table, which decides where sealed packets go, is not affected.
//!
//! Guarantees: what was added is removed again, at the latest by [`VirtualIps::clear`] of the
//! next start; nothing else of the kernel's is touched.

use crate::ike::udp::MARK;
use futures_util::TryStreamExt;
use ipnet::IpNet;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::{AddressAttribute, AddressHeaderFlags};
use rtnetlink::packet_route::route::{RouteHeader, RouteScope};
use rtnetlink::packet_route::rule::{RuleAction, RuleAttribute};
use rtnetlink::{Handle, RouteMessageBuilder, new_connection};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// The table, and the priority of the rule that points to it: strongSwan's numbers.
pub const TABLE: u32 = 220;
const RULE_PRIORITY: u32 = 220;
/// Of the rule for the daemon's own packets, before the other one.
const OWN_PRIORITY: u32 = 219;

/// One route of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    /// Where to.
    pub destination: IpNet,
    /// With this address as source.
    pub source: Option<IpAddr>,
}

/// Addresses and routes of the TUN device.
#[derive(Debug)]
pub struct VirtualIps {
    handle: Handle,
    tun: String,
    addresses: BTreeMap<IpAddr, u32>,
    routes: BTreeMap<Route, u32>,
    rules: [bool; 2],
    /// The device that everything was installed on.
    index: Option<u32>,
    /// Something is missing there.
    missing: bool,
}

fn line(what: &str, error: &rtnetlink::Error) -> String {
    format!("{what}: {error}")
}

impl VirtualIps {
    /// Ready to work; nothing is changed yet. Must be called inside the runtime.
    ///
    /// # Errors
    /// No netlink socket.
    pub fn new(tun: &str) -> Result<Self, String> {
        let (connection, handle, _) =
            new_connection().map_err(|error| format!("netlink: {error}"))?;
        tokio::spawn(connection);
        let tun = tun.to_owned();
        let (addresses, routes) = (BTreeMap::new(), BTreeMap::new());
        let rules = [false; 2];
        Ok(Self { handle, tun, addresses, routes, rules, index: None, missing: false })
    }

    async fn tun_index(&self) -> Result<u32, String> {
        let mut links = self.handle.link().get().match_name(self.tun.clone()).execute();
        let link = links.try_next().await.map_err(|error| line(&self.tun, &error))?;
        let link =
            link.ok_or_else(|| format!("{} is not there: is the dataplane up?", self.tun))?;
        Ok(link.header.index)
    }

    /// Removes addresses and rules of an earlier life that nobody removed, but those that have
    /// been added again in this one.
    ///
    /// # Errors
    /// The kernel's.
    pub async fn clear(&mut self) -> Result<(), String> {
        if self.routes.is_empty() {
            for ipv6 in [false, true] {
                while self.remove_rule(ipv6).await? {}
            }
        }
        let Ok(index) = self.tun_index().await else { return Ok(()) };
        let mut found = Vec::new();
        let mut dump = self.handle.address().get().set_link_index_filter(index).execute();
        while let Ok(Some(message)) = dump.try_next().await {
            // The kernel's own link-local address stays.
            let stays = message.attributes.iter().any(|attribute| {
                matches!(attribute, AddressAttribute::Address(ip)
                    if self.addresses.contains_key(ip)
                        || matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local()))
            });
            if !stays {
                found.push(message);
            }
        }
        for message in found {
            let removed = self.handle.address().del(message).execute().await;
            removed.map_err(|error| line("removing an address", &error))?;
        }
        // Routes of the table go with their device or are replaced; what is left points to
        // this device alone.
        Ok(())
    }

    /// Adds an address. Adding it again is counted, and changes nothing.
    ///
    /// # Errors
    /// The kernel's.
    pub async fn add(&mut self, address: IpAddr) -> Result<(), String> {
        let users = self.addresses.entry(address).or_insert(0);
        *users += 1;
        if *users > 1 {
            return Ok(());
        }
        let done = self.install_address(address).await;
        self.missing |= done.is_err();
        done
    }

    async fn install_address(&self, address: IpAddr) -> Result<(), String> {
        let index = self.tun_index().await?;
        let length = if address.is_ipv4() { 32 } else { 128 };
        let mut request = self.handle.address().add(index, address, length).replace();
        // Nobody else can have it on a device without neighbours.
        request.message_mut().header.flags = AddressHeaderFlags::Nodad;
        request.execute().await.map_err(|error| line(&format!("adding {address}"), &error))
    }

    /// Installs what is missing: the device was not there, or is another one since the
    /// dataplane was restarted. To be called now and then.
    ///
    /// # Errors
    /// The first that cannot be installed.
    pub async fn refresh(&mut self) -> Result<(), String> {
        if self.addresses.is_empty() && self.routes.is_empty() {
            return Ok(());
        }
        let index = self.tun_index().await?;
        if self.index == Some(index) && !self.missing {
            return Ok(());
        }
        let addresses: Vec<IpAddr> = self.addresses.keys().copied().collect();
        for address in addresses {
            self.install_address(address).await?;
        }
        let routes: Vec<Route> = self.routes.keys().copied().collect();
        for route in routes {
            self.install_route(route).await?;
        }
        (self.index, self.missing) = (Some(index), false);
        Ok(())
    }

    /// Removes an address when nobody uses it any more.
    ///
    /// # Errors
    /// The kernel's.
    pub async fn remove(&mut self, address: IpAddr) -> Result<(), String> {
        let Some(users) = self.addresses.get_mut(&address) else { return Ok(()) };
        *users -= 1;
        if *users > 0 {
            return Ok(());
        }
        self.addresses.remove(&address);
        let index = self.tun_index().await?;
        let mut dump = self
            .handle
            .address()
            .get()
            .set_link_index_filter(index)
            .set_address_filter(address)
            .execute();
        while let Ok(Some(message)) = dump.try_next().await {
            let removed = self.handle.address().del(message).execute().await;
            removed.map_err(|error| line(&format!("removing {address}"), &error))?;
        }
        Ok(())
    }

    /// Routes a destination into the tunnel.
    ///
    /// # Errors
    /// The kernel's.
    pub async fn add_route(&mut self, route: Route) -> Result<(), String> {
        let users = self.routes.entry(route).or_insert(0);
        *users += 1;
        if *users > 1 {
            return Ok(());
        }
        let done = self.install_route(route).await;
        self.missing |= done.is_err();
        done
    }

    async fn install_route(&mut self, route: Route) -> Result<(), String> {
        self.add_rules(route.destination.addr().is_ipv6()).await?;
        let message = self.message(route).await?;
        let added = self.handle.route().add(message).replace().execute().await;
        added.map_err(|error| line(&format!("route to {}", route.destination), &error))
    }

    /// Takes a route back when nobody uses it any more.
    ///
    /// # Errors
    /// The kernel's.
    pub async fn remove_route(&mut self, route: Route) -> Result<(), String> {
        let Some(users) = self.routes.get_mut(&route) else { return Ok(()) };
        *users -= 1;
        if *users > 0 {
            return Ok(());
        }
        self.routes.remove(&route);
        // Without the device its routes are gone too.
        let Ok(message) = self.message(route).await else { return Ok(()) };
        let removed = self.handle.route().del(message).execute().await;
        removed.map_err(|error| line(&format!("route to {}", route.destination), &error))
    }

    async fn message(
        &self,
        route: Route,
    ) -> Result<rtnetlink::packet_route::route::RouteMessage, String> {
        let index = self.tun_index().await?;
        let wrong = |error: &dyn std::fmt::Display| error.to_string();
        let mut builder = RouteMessageBuilder::<IpAddr>::new()
            .destination_prefix(route.destination.network(), route.destination.prefix_len())
            .map_err(|error| wrong(&error))?
            .output_interface(index)
            .table_id(TABLE)
            .scope(RouteScope::Universe);
        if let Some(source) = route.source {
            builder = builder.pref_source(source).map_err(|error| wrong(&error))?;
        }
        Ok(builder.build())
    }

    /// The rules of a family: what the daemon itself sends, which is marked, goes by the main
    /// table, or the way to the peer would lead into the tunnel; what else this machine sends
    /// goes by ours first. What it forwards goes by neither.
    async fn add_rules(&mut self, ipv6: bool) -> Result<(), String> {
        if self.rules.get(usize::from(ipv6)).is_none_or(|there| *there) {
            return Ok(());
        }
        let handle = self.handle.clone();
        let rule = || handle.rule().add().action(RuleAction::ToTable);
        let main = u32::from(RouteHeader::RT_TABLE_MAIN);
        let own = rule().table_id(main).priority(OWN_PRIORITY).fw_mark(MARK);
        let tunnel = rule().table_id(TABLE).priority(RULE_PRIORITY).input_interface("lo");
        // Those of an earlier life may be others.
        while self.remove_rule(ipv6).await? {}
        for rule in [own, tunnel] {
            let added = if ipv6 { rule.v6().execute().await } else { rule.v4().execute().await };
            added.map_err(|error| line("rule for the tunnel's routes", &error))?;
        }
        if let Some(there) = self.rules.get_mut(usize::from(ipv6)) {
            *there = true;
        }
        Ok(())
    }

    /// Removes one rule of ours; false if there is none.
    async fn remove_rule(&mut self, ipv6: bool) -> Result<bool, String> {
        let version = if ipv6 { rtnetlink::IpVersion::V6 } else { rtnetlink::IpVersion::V4 };
        let mut rules = self.handle.rule().get(version).execute();
        let mut found = None;
        while let Ok(Some(rule)) = rules.try_next().await {
            let has = |attribute: RuleAttribute| rule.attributes.contains(&attribute);
            let tunnel =
                has(RuleAttribute::Priority(RULE_PRIORITY)) && has(RuleAttribute::Table(TABLE));
            let own =
                has(RuleAttribute::Priority(OWN_PRIORITY)) && has(RuleAttribute::FwMark(MARK));
            let family = if ipv6 { AddressFamily::Inet6 } else { AddressFamily::Inet };
            if (tunnel || own) && rule.header.family == family {
                found = Some(rule);
            }
        }
        let Some(rule) = found else { return Ok(false) };
        let removed = self.handle.rule().del(rule).execute().await;
        removed.map_err(|error| line("rule for the tunnel's routes", &error))?;
        Ok(true)
    }

    /// Removes everything that this life has added.
    pub async fn remove_all(&mut self) {
        let routes: Vec<Route> = self.routes.keys().copied().collect();
        for route in routes {
            self.routes.insert(route, 1);
            if let Err(error) = self.remove_route(route).await {
                tracing::warn!("{error}");
            }
        }
        let addresses: Vec<IpAddr> = self.addresses.keys().copied().collect();
        for address in addresses {
            self.addresses.insert(address, 1);
            if let Err(error) = self.remove(address).await {
                tracing::warn!("{error}");
            }
        }
        for ipv6 in [false, true] {
            while let Ok(true) = self.remove_rule(ipv6).await {}
        }
    }
}
