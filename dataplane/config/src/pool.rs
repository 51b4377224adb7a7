//! `[pools.NAME]`: addresses and attributes for peers (RFC 7296 section 3.15).

use crate::connection::check_name;
use crate::error::{ConfigError, Place};
use crate::ike_connection::refuse_unsupported;
use crate::reader::{Item, Section};
use crate::traffic_selector::TrafficSelector;
use std::net::IpAddr;

/// Addresses to give away, and what is told with them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// Name.
    pub name: String,
    /// First address to give away.
    pub first: IpAddr,
    /// Last address to give away, of the same family and not below the first.
    pub last: IpAddr,
    /// DNS servers.
    pub dns: Vec<IpAddr>,
    /// WINS servers (IPv4 only, RFC 7296 section 3.15.1).
    pub nbns: Vec<IpAddr>,
    /// Networks behind the gateway: address and significant bits.
    pub subnets: Vec<(IpAddr, u8)>,
    /// Where it begins.
    pub place: Place,
}

const ADDRESSES: &str = "ADDRESS, ADDRESS/LENGTH or FIRST-LAST";

/// A network's own and its broadcast address are nobody's, as in strongSwan; an address with
/// host bits says where in the network to begin.
fn range(text: &str) -> Result<(IpAddr, IpAddr), String> {
    let anybody = IpAddr::from([0, 0, 0, 0]);
    let Some((start, length)) = text.split_once('/') else {
        // No protocol and no `dynamic`: addresses alone.
        let plain = !text.contains('[') && text.trim() != "dynamic";
        let selector = TrafficSelector::parse(text, anybody)?;
        return if plain { Ok(selector.bounds()) } else { Err(format!("{text:?} is no address")) };
    };
    let start: IpAddr = start.trim().parse().map_err(|_| format!("{start:?} is no IP address"))?;
    let network = TrafficSelector::network_of(start, length)?;
    let (first, last) = (network.first, network.last);
    let (own, size) = (TrafficSelector::host(start).first, last - first);
    let from = if own > first || size < 3 { own } else { first + 1 };
    let to = if size < 3 { last } else { last - 1 };
    if from > to {
        return Err(format!("{text:?} has no address to give away"));
    }
    let address = |number| TrafficSelector::address_of(number, start.is_ipv6());
    Ok((address(from), address(to)))
}

fn addresses(section: &Section<'_>, key: &'static str) -> Result<Vec<IpAddr>, ConfigError> {
    const ALLOWED: &str = "an IP address or a list of them";
    let Some(item) = section.find(key) else { return Ok(Vec::new()) };
    let items = item.one_or_more(ALLOWED)?;
    let address = |item: &Item<'_>| {
        let text = item.text()?;
        text.parse().map_err(|_| item.error(format!("{text:?} is no address"), ALLOWED))
    };
    items.iter().map(address).collect()
}

fn networks(section: &Section<'_>, key: &'static str) -> Result<Vec<(IpAddr, u8)>, ConfigError> {
    const ALLOWED: &str = "ADDRESS/LENGTH or a list of them";
    let Some(item) = section.find(key) else { return Ok(Vec::new()) };
    let mut networks = Vec::new();
    for item in item.one_or_more(ALLOWED)? {
        let text = item.text()?;
        let own = IpAddr::from([0, 0, 0, 0]);
        let selector = match TrafficSelector::parse(text, own) {
            Ok(selector) if !text.contains('[') && text != "dynamic" => selector,
            Ok(_) => return Err(item.error(format!("{text:?} is no network"), ALLOWED)),
            Err(what) => return Err(item.error(what, ALLOWED)),
        };
        networks.extend(selector.prefixes());
    }
    Ok(networks)
}

fn read_pool(name: &str, item: &Item<'_>, warnings: &mut Vec<String>) -> Result<Pool, ConfigError> {
    check_name(name, item)?;
    let section = item.section()?;
    let addrs = section.require("addrs")?;
    let (first, last) = range(addrs.text()?).map_err(|what| addrs.error(what, ADDRESSES))?;
    if first.is_unspecified() || first.is_multicast() {
        return Err(addrs.error(format!("{first} cannot be given away"), ADDRESSES));
    }
    let mut subnets = networks(&section, "subnet")?;
    subnets.extend(networks(&section, "split_include")?);
    let pool = Pool {
        name: name.to_owned(),
        first,
        last,
        dns: addresses(&section, "dns")?,
        nbns: addresses(&section, "nbns")?,
        subnets,
        place: item.place(),
    };
    for key in ["netmask", "dhcp", "server"] {
        if let Some(item) = section.find_quietly(key) {
            warnings.push(item.place().warning("is not sent to peers"));
        }
    }
    refuse_unsupported(&section, &[("split_exclude", "it is an IKEv1 client's")])?;
    match section.find("nbns") {
        Some(item) if pool.nbns.iter().any(IpAddr::is_ipv6) => {
            return Err(item.error("is of IPv6", "IPv4 addresses"));
        }
        _ => {}
    }
    section.finish()?;
    Ok(pool)
}

pub(crate) fn read_pools(
    section: &Section<'_>,
    warnings: &mut Vec<String>,
) -> Result<Vec<Pool>, ConfigError> {
    section.named().iter().map(|(name, item)| read_pool(name, item, warnings)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        let shown = |text: &str| {
            let (first, last) = range(text).expect(text);
            format!("{first} {last}")
        };
        assert_eq!(shown("10.3.0.0/24"), "10.3.0.1 10.3.0.254");
        assert_eq!(shown("10.3.0.7/24"), "10.3.0.7 10.3.0.254");
        assert_eq!(shown("10.3.0.0/31"), "10.3.0.0 10.3.0.1");
        assert_eq!(shown("10.3.0.9"), "10.3.0.9 10.3.0.9");
        assert_eq!(shown("10.3.0.9/32"), "10.3.0.9 10.3.0.9");
        assert_eq!(shown("10.3.0.10-10.3.0.20"), "10.3.0.10 10.3.0.20");
        assert_eq!(shown("fd00:3::10/124"), "fd00:3::11 fd00:3::1e");
        for bad in
            ["", "dhcp", "dynamic", "10.3.0.0/33", "10.3.0.255/24", "10.3.0.1[tcp]", "::1-::0"]
        {
            assert!(range(bad).is_err(), "{bad}");
        }
    }
}
