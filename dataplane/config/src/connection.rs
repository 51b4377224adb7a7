//! `[connections.NAME]` and its children.

use crate::child::{Around, Child, read_child};
use crate::error::{ConfigError, Place};
use crate::ike_connection::{IkeConnection, PeerAddress, own_addresses, read_ike_connection};
use crate::reader::{Item, Section};
use std::net::IpAddr;
use std::path::Path;

/// The port of ESP in UDP (RFC 3948 section 2.1): the only one the steering program looks at.
const NAT_PORT: u16 = 4500;

/// A peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    /// Name.
    pub name: String,
    /// Our outer addresses; the first is used for static SAs. Empty, with IKE, is any.
    pub local_addrs: Vec<IpAddr>,
    /// The peer's outer addresses; the first is used for static SAs, of the same family. With
    /// IKE, the single ones of `ike.peers`.
    pub remote_addrs: Vec<IpAddr>,
    /// UDP encapsulation whether there is a NAT or not.
    pub encap: bool,
    /// Our UDP port of static SAs.
    pub local_port: u16,
    /// The peer's UDP port of static SAs.
    pub remote_port: u16,
    /// What is needed to negotiate; `None` where everything is static.
    pub ike: Option<IkeConnection>,
    /// Its children, in the order of the file.
    pub children: Vec<Child>,
    /// Where it begins.
    pub place: Place,
}

/// What files are named relative to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Directories<'a> {
    /// The configuration's.
    pub(crate) configuration: &'a Path,
    /// The one with the folders of certificates and keys.
    pub(crate) credentials: &'a Path,
}

pub(crate) fn read_connections(
    section: &Section<'_>,
    directories: Directories<'_>,
) -> Result<Vec<Connection>, ConfigError> {
    let named = section.named();
    named.iter().map(|(name, item)| read_connection(name, item, directories)).collect()
}

/// Names stand in commands and listings: nothing that would need quoting there.
pub(crate) fn check_name(name: &str, item: &Item<'_>) -> Result<(), ConfigError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-.@+".contains(c);
    if (1..=64).contains(&name.len()) && name.chars().all(plain) {
        Ok(())
    } else {
        Err(item.error(format!("{name:?} is no name"), "1 to 64 of a-z A-Z 0-9 _ - . @ +"))
    }
}

fn addresses(section: &Section<'_>, key: &'static str) -> Result<Vec<IpAddr>, ConfigError> {
    const ALLOWED: &str = "an IP address or a list of them";
    let items = section.require(key)?.one_or_more(ALLOWED)?;
    items
        .iter()
        .map(|item| {
            let text = item.text()?;
            let address: IpAddr =
                text.parse().map_err(|_| item.error(format!("{text:?} is no address"), ALLOWED))?;
            if address.is_unspecified() || address.is_multicast() {
                return Err(item.error(format!("{address} is nobody's own"), ALLOWED));
            }
            Ok(address)
        })
        .collect()
}

/// Keys that mean something without IKE, too; any other makes the connection a negotiated one.
const STATIC_KEYS: [&str; 6] =
    ["local_addrs", "remote_addrs", "encap", "local_port", "remote_port", "children"];

/// The outer addresses of a connection without IKE: known, and of one family.
fn static_addresses(
    section: &Section<'_>,
    item: &Item<'_>,
) -> Result<(Vec<IpAddr>, Vec<IpAddr>), ConfigError> {
    let local_addrs = addresses(section, "local_addrs")?;
    let remote_addrs = addresses(section, "remote_addrs")?;
    let (Some(local), Some(remote)) = (local_addrs.first(), remote_addrs.first()) else {
        return Err(item.error("has no addresses", ""));
    };
    check_pair(section, *local, *remote)?;
    Ok((local_addrs, remote_addrs))
}

fn check_pair(section: &Section<'_>, local: IpAddr, remote: IpAddr) -> Result<(), ConfigError> {
    let place = section.require("remote_addrs")?;
    if local.is_ipv6() != remote.is_ipv6() {
        return Err(place.error(format!("{remote} is of another family than {local}"), ""));
    }
    if local == remote {
        return Err(place.error(format!("{remote} is our own address"), "the peer's address"));
    }
    Ok(())
}

/// Static children need what static connections need.
fn check_static_children(
    section: &Section<'_>,
    connection: &Connection,
) -> Result<(), ConfigError> {
    let Some(child) = connection.children.iter().find(|child| child.static_sa.is_some()) else {
        return Ok(());
    };
    match (connection.local_addrs.first(), connection.remote_addrs.first()) {
        (Some(local), Some(remote)) => check_pair(section, *local, *remote),
        _ => Err(child.place.error(
            "static keys need outer addresses",
            "an address first in local_addrs and in remote_addrs",
        )),
    }
}

fn read_connection(
    name: &str,
    item: &Item<'_>,
    directories: Directories<'_>,
) -> Result<Connection, ConfigError> {
    check_name(name, item)?;
    let section = item.section()?;
    let (local_addrs, remote_addrs, ike) = if section.has_only(&STATIC_KEYS) {
        let (local_addrs, remote_addrs) = static_addresses(&section, item)?;
        (local_addrs, remote_addrs, None)
    } else {
        let ike = read_ike_connection(&section, directories.credentials)?;
        let single = ike.peers.iter().filter_map(PeerAddress::single).collect();
        (own_addresses(&section)?, single, Some(ike))
    };
    let port = |key| {
        let item = section.find(key);
        item.map_or(Ok(NAT_PORT), |item| item.integer(1..=65_535).map(|port| port as u16))
    };
    let (local_port, remote_port) = (port("local_port")?, port("remote_port")?);
    let encap = boolean_or(&section, "encap", false)?;
    if let (true, Some(item)) =
        (encap && ike.is_none() && local_port != NAT_PORT, section.find("local_port"))
    {
        let what = format!("ESP in UDP to port {local_port} would not be received");
        return Err(item.error(what, NAT_PORT.to_string()));
    }
    let around = Around {
        local: local_addrs.first().copied(),
        remote: remote_addrs.first().copied(),
        directory: directories.configuration,
        ike: ike.is_some(),
    };
    let children = section.section("children")?.named();
    let children = children
        .iter()
        .map(|(name, item)| read_child(name, item, around))
        .collect::<Result<Vec<_>, _>>()?;
    let connection = Connection {
        name: name.to_owned(),
        local_addrs,
        remote_addrs,
        encap,
        local_port,
        remote_port,
        ike,
        children,
        place: item.place(),
    };
    check_static_children(&section, &connection)?;
    section.finish()?;
    Ok(connection)
}

pub(crate) fn boolean_or(
    section: &Section<'_>,
    key: &'static str,
    default: bool,
) -> Result<bool, ConfigError> {
    section.find(key).map_or(Ok(default), |item| item.boolean())
}

pub(crate) fn integer_or(
    section: &Section<'_>,
    key: &'static str,
    default: u64,
    range: std::ops::RangeInclusive<u64>,
) -> Result<u64, ConfigError> {
    section.find(key).map_or(Ok(default), |item| item.integer(range))
}
