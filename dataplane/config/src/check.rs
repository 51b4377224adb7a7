//! What only shows when everything is read: clashes between parts of the configuration.

use crate::Config;
use crate::child::{Child, ChildMode};
use crate::connection::Connection;
use crate::error::ConfigError;
use crate::key::Secret;
use crate::static_sa::StaticSa;
use std::collections::HashMap;
use std::net::IpAddr;

/// The keys of one static SA pair.
#[derive(Clone, Debug)]
pub struct Keys {
    /// Connection.
    pub connection: String,
    /// Child.
    pub child: String,
    /// Key and salt of packets to us.
    pub key_in: Secret,
    /// Key and salt of packets to the peer.
    pub key_out: Secret,
}

fn protects(child: &Child) -> bool {
    matches!(child.mode, ChildMode::Tunnel | ChildMode::Transport)
}

fn full_name(connection: &Connection, child: &Child) -> String {
    format!("{}.{}", connection.name, child.name)
}

impl Config {
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        self.check_static_sas()?;
        self.check_negotiated()?;
        let children = self.children_in_order();
        for (_, child) in &children {
            check_families(child)?;
        }
        check_overlaps(&children)?;
        let rows: usize =
            children.iter().map(|(_, child)| child.local_ts.len() * child.remote_ts.len()).sum();
        match children.last() {
            Some((_, child)) if rows > self.dataplane.policies as usize => Err(child.place.error(
                format!("{rows} policies in all"),
                format!("dataplane.policies = {}", self.dataplane.policies),
            )),
            _ => Ok(()),
        }
    }

    /// Names that must exist, and ports that somebody listens at.
    fn check_negotiated(&self) -> Result<(), ConfigError> {
        for connection in &self.connections {
            let Some(ike) = &connection.ike else { continue };
            let missing =
                ike.pools.iter().find(|name| self.pools.iter().all(|pool| pool.name != **name));
            if let Some(name) = missing {
                let names: Vec<_> = self.pools.iter().map(|pool| pool.name.as_str()).collect();
                let what = format!("pool {name:?} does not exist");
                return Err(connection.place.error(what, names.join(", ")));
            }
            let ports = [self.ike.port, self.ike.port_nat_t];
            if !ports.contains(&ike.local_port) {
                let what = format!("nobody listens at local_port {}", ike.local_port);
                return Err(connection.place.error(what, format!("{}, {}", ports[0], ports[1])));
            }
        }
        Ok(())
    }

    /// The static SAs with whom they belong to.
    fn static_sas(&self) -> impl Iterator<Item = (&Connection, &Child, &StaticSa)> {
        self.children_in_order().into_iter().filter_map(|(connection, child)| {
            child.static_sa.as_ref().map(|static_sa| (connection, child, static_sa))
        })
    }

    fn check_static_sas(&self) -> Result<(), ConfigError> {
        let mut inbound: HashMap<u32, String> = HashMap::new();
        let mut outbound: HashMap<(u32, Option<&IpAddr>), String> = HashMap::new();
        for (connection, child, static_sa) in self.static_sas() {
            let name = full_name(connection, child);
            if let Some(other) = inbound.insert(static_sa.spi_in, name.clone()) {
                let what = format!("spi_in {:#010x} is {other}'s already", static_sa.spi_in);
                return Err(child.place.error(what, "an SPI of its own"));
            }
            let peer = (static_sa.spi_out, connection.remote_addrs.first());
            if let Some(other) = outbound.insert(peer, name) {
                let what = format!("spi_out {:#010x} is {other}'s already", static_sa.spi_out);
                return Err(child.place.error(what, "an SPI of its own at this peer"));
            }
            if static_sa.key_in.origin == static_sa.key_out.origin {
                let what = "the same key in both directions";
                return Err(static_sa.key_out.place.error(what, "a key for each direction"));
            }
            let workers = self.cores.workers.len();
            if static_sa.worker.is_some_and(|worker| usize::from(worker) >= workers) {
                let what = "static.worker does not exist";
                return Err(child.place.error(what, format!("0 to {}", workers - 1)));
            }
        }
        Ok(())
    }

    /// Reads the keys of all static SAs.
    ///
    /// # Errors
    /// The first key that cannot be had, or that is used twice: a key belongs to one
    /// direction of one SA, for nonces are only unique within it (RFC 4106 section 3).
    pub fn load_keys(&self) -> Result<Vec<Keys>, ConfigError> {
        let mut keys: Vec<Keys> = Vec::new();
        for (connection, child, static_sa) in self.static_sas() {
            let loaded = Keys {
                connection: connection.name.clone(),
                child: child.name.clone(),
                key_in: static_sa.key_in.load()?,
                key_out: static_sa.key_out.load()?,
            };
            if loaded.key_in == loaded.key_out {
                let what = "the same key in both directions";
                return Err(static_sa.key_out.place.error(what, "a key for each direction"));
            }
            let used = |key: &Secret| {
                let twice = |other: &&Keys| other.key_in == *key || other.key_out == *key;
                keys.iter().find(twice).map(|other| format!("{}.{}", other.connection, other.child))
            };
            for (key, source) in
                [(&loaded.key_in, &static_sa.key_in), (&loaded.key_out, &static_sa.key_out)]
            {
                if let Some(other) = used(key) {
                    let what = format!("the key is used by {other} already");
                    return Err(source.place.error(what, "a key of its own"));
                }
            }
            keys.push(loaded);
        }
        Ok(keys)
    }
}

/// Every selector must have a partner of its family on the other side. A negotiated child may
/// offer more than it gets, but not nothing; `dynamic` may become an address of either family.
fn check_families(child: &Child) -> Result<(), ConfigError> {
    if let Some(ike) = &child.ike {
        let families = |patterns: &[crate::SelectorPattern]| {
            let fits = |pattern: &crate::SelectorPattern, ipv6| {
                pattern.fixed().is_none_or(|selector| selector.ipv6 == ipv6)
            };
            [false, true].map(|ipv6| patterns.iter().any(|pattern| fits(pattern, ipv6)))
        };
        let (local, remote) = (families(&ike.local_ts), families(&ike.remote_ts));
        if local.iter().zip(remote).any(|(local, remote)| *local && remote) {
            return Ok(());
        }
        let what = "local_ts and remote_ts have no family in common";
        return Err(child.place.error(what, "selectors of the same family on both sides"));
    }
    let sides = [
        ("local_ts", &child.local_ts, "remote_ts", &child.remote_ts),
        ("remote_ts", &child.remote_ts, "local_ts", &child.local_ts),
    ];
    for (key, here, other_key, there) in sides {
        for selector in here {
            if !there.iter().any(|other| other.ipv6 == selector.ipv6) {
                let what = format!("{key} {selector} has no partner of its family in {other_key}");
                return Err(child.place.error(what, "selectors of the same family on both sides"));
            }
        }
    }
    Ok(())
}

/// Two children that protect the same traffic at the same priority: which one is a guess.
/// Negotiated ones may: what each protects is only known when it is narrowed.
fn check_overlaps(children: &[(&Connection, &Child)]) -> Result<(), ConfigError> {
    let protecting: Vec<_> =
        children.iter().filter(|(_, child)| protects(child) && child.ike.is_none()).collect();
    for (index, (connection, child)) in protecting.iter().enumerate() {
        let rest = protecting.get(index + 1..).unwrap_or_default();
        // Children are in the order of priority: equals are neighbours.
        for (other_connection, other) in
            rest.iter().take_while(|(_, other)| other.priority == child.priority)
        {
            if overlap(child, other) {
                let what = format!(
                    "selectors overlap with those of {} at the same priority",
                    full_name(connection, child)
                );
                let name = full_name(other_connection, other);
                return Err(other.place.error(what, format!("another priority for {name}")));
            }
        }
    }
    Ok(())
}

fn overlap(one: &Child, other: &Child) -> bool {
    let sides = |one: &[crate::TrafficSelector], other: &[crate::TrafficSelector], ipv6: bool| {
        let of_family = one.iter().filter(|selector| selector.ipv6 == ipv6);
        of_family.into_iter().any(|selector| other.iter().any(|other| selector.overlaps(other)))
    };
    [false, true].into_iter().any(|ipv6| {
        sides(&one.local_ts, &other.local_ts, ipv6) && sides(&one.remote_ts, &other.remote_ts, ipv6)
    })
}
