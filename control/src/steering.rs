//! The steering maps made equal to what is wanted, in an order that never lets a protected
//! packet pass in clear: added when SAs and policies are there, removed before they go.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use xswan_sa_api::{SteerMaps, SteerPrefix};
use xswan_steer::abi::{PrefixValue, STEER_VERSION, SteerConfig};
use xswan_steer::spi::SpiKey;

/// What the maps ought to hold.
#[derive(Clone, Debug)]
pub struct Steering<'a> {
    /// Local outer addresses.
    pub outers: BTreeSet<IpAddr>,
    /// Inbound SPIs that were given from outside, and their workers.
    pub spis: &'a BTreeMap<u32, u32>,
    /// Protected prefixes.
    pub prefixes: &'a BTreeMap<SteerPrefix, PrefixValue>,
}

/// Removes what is no longer wanted: before policies and SAs change.
///
/// # Errors
/// The kernel's.
pub fn remove_unwanted(maps: &SteerMaps, wanted: &Steering<'_>) -> io::Result<()> {
    for (prefix, _) in maps.prefixes()? {
        if !wanted.prefixes.contains_key(&prefix) {
            maps.remove_prefix(prefix)?;
        }
    }
    for (spi, _) in maps.spis()? {
        if !wanted.spis.contains_key(&spi) {
            maps.remove_spi(spi)?;
        }
    }
    for address in maps.outers()? {
        if !wanted.outers.contains(&address) {
            maps.remove_outer(address)?;
        }
    }
    Ok(())
}

/// Adds what is missing and corrects what differs: after SAs and policies have changed. The
/// configuration record, without which the program does nothing, comes last.
///
/// # Errors
/// The kernel's.
pub fn add_wanted(
    maps: &SteerMaps,
    wanted: &Steering<'_>,
    workers: u32,
    member: u32,
    spi_key: SpiKey,
) -> io::Result<()> {
    let outers = maps.outers()?;
    for address in wanted.outers.iter().filter(|address| !outers.contains(address)) {
        maps.add_outer(*address)?;
    }
    let spis: BTreeMap<_, _> = maps.spis()?.into_iter().collect();
    for (spi, worker) in wanted.spis {
        if spis.get(spi) != Some(worker) {
            maps.set_spi(*spi, *worker)?;
        }
    }
    let prefixes: BTreeMap<_, _> = maps.prefixes()?.into_iter().collect();
    for (prefix, value) in wanted.prefixes {
        if prefixes.get(prefix) != Some(value) {
            maps.set_prefix(*prefix, *value)?;
        }
    }
    let config = SteerConfig {
        version: STEER_VERSION,
        workers,
        member,
        static_spis: wanted.spis.len() as u32,
        spi_key: spi_key.0,
    };
    if maps.config()? == config { Ok(()) } else { maps.set_config(&config) }
}
