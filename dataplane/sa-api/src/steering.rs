//! The steering maps that control fills; the XDP program finds them by name in the same
//! directory. Layouts are [`xswan_steer::abi`].

use crate::open::{OpenError, open_or_create_map};
use crate::sys::{ElementMap, MapShape, MapType, NO_PREALLOC};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use xswan_steer::abi::{
    MAX_OUTER, MAX_PREFIXES, MAX_STATIC_SPIS, Prefix4, Prefix6, PrefixValue, SteerConfig,
};

/// A prefix of either family; bits past the length are not looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SteerPrefix {
    /// The network.
    pub address: IpAddr,
    /// Significant bits.
    pub length: u8,
}

/// `steer_config`, `steer_outer`, `steer_spis`, `steer_prefix4`, `steer_prefix6`.
#[derive(Debug)]
pub struct SteerMaps {
    config: ElementMap,
    outer: ElementMap,
    spis: ElementMap,
    prefix4: ElementMap,
    prefix6: ElementMap,
}

const fn shape(kind: MapType, key: usize, value: usize, max_entries: u32, flags: u32) -> MapShape {
    let (key_size, value_size) = (key as u32, value as u32);
    MapShape { kind: kind as u32, key_size, value_size, max_entries, flags }
}

const CONFIG: MapShape = shape(MapType::Array, 4, size_of::<SteerConfig>(), 1, 0);
const OUTER: MapShape = shape(MapType::Hash, 16, 4, MAX_OUTER, 0);
const SPIS: MapShape = shape(MapType::Hash, 4, 4, MAX_STATIC_SPIS, 0);
const VALUE: usize = size_of::<PrefixValue>();
const PREFIX4: MapShape =
    shape(MapType::LpmTrie, size_of::<Prefix4>(), VALUE, MAX_PREFIXES, NO_PREALLOC);
const PREFIX6: MapShape =
    shape(MapType::LpmTrie, size_of::<Prefix6>(), VALUE, MAX_PREFIXES, NO_PREALLOC);

fn outer_key(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

fn outer_address(key: &[u8]) -> Option<IpAddr> {
    let octets: [u8; 16] = key.try_into().ok()?;
    Some(Ipv6Addr::from(octets).to_canonical())
}

fn config_to_bytes(config: &SteerConfig) -> [u8; 32] {
    let [key0, key1, key2, key3] = config.spi_key;
    let words =
        [config.version, config.workers, config.member, config.static_spis, key0, key1, key2, key3];
    let mut bytes = [0; 32];
    for (to, word) in bytes.chunks_mut(4).zip(words) {
        to.copy_from_slice(&word.to_ne_bytes());
    }
    bytes
}

fn config_from_bytes(bytes: &[u8; 32]) -> SteerConfig {
    let mut words = [0_u32; 8];
    for (word, chunk) in words.iter_mut().zip(bytes.as_chunks::<4>().0) {
        *word = u32::from_ne_bytes(*chunk);
    }
    let [version, workers, member, static_spis, key0, key1, key2, key3] = words;
    SteerConfig { version, workers, member, static_spis, spi_key: [key0, key1, key2, key3] }
}

fn prefix_key(prefix: SteerPrefix) -> Vec<u8> {
    let mut key = u32::from(prefix.length).to_ne_bytes().to_vec();
    match prefix.address {
        IpAddr::V4(v4) => key.extend(v4.octets()),
        IpAddr::V6(v6) => key.extend(v6.octets()),
    }
    key
}

fn prefix_of(key: &[u8]) -> Option<SteerPrefix> {
    let (length, address) = key.split_first_chunk::<4>()?;
    let length = u8::try_from(u32::from_ne_bytes(*length)).ok()?;
    let address = match address.len() {
        4 => IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(address).ok()?)),
        _ => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(address).ok()?)),
    };
    Some(SteerPrefix { address, length })
}

fn value_to_bytes(value: PrefixValue) -> [u8; 4] {
    let [f0, f1] = value.flags.to_ne_bytes();
    let [w0, w1] = value.worker.to_ne_bytes();
    [f0, f1, w0, w1]
}

fn value_from_bytes([f0, f1, w0, w1]: [u8; 4]) -> PrefixValue {
    PrefixValue { flags: u16::from_ne_bytes([f0, f1]), worker: u16::from_ne_bytes([w0, w1]) }
}

impl SteerMaps {
    /// Opens or makes the five maps in a directory on a BPF file system.
    ///
    /// # Errors
    /// As [`crate::SharedMaps::open_or_create`].
    pub fn open_or_create(directory: &Path) -> Result<Self, OpenError> {
        let open = |name: &str, shape: &MapShape| {
            let fd = open_or_create_map(directory, name, shape)?;
            let path = directory.join(name);
            ElementMap::new(fd).map_err(|error| OpenError::Map { path, error })
        };
        Ok(Self {
            config: open("steer_config", &CONFIG)?,
            outer: open("steer_outer", &OUTER)?,
            spis: open("steer_spis", &SPIS)?,
            prefix4: open("steer_prefix4", &PREFIX4)?,
            prefix6: open("steer_prefix6", &PREFIX6)?,
        })
    }

    /// What the program depends on as a whole.
    ///
    /// # Errors
    /// The kernel's.
    pub fn config(&self) -> io::Result<SteerConfig> {
        let mut bytes = [0; 32];
        self.config.lookup(&0_u32.to_ne_bytes(), &mut bytes)?;
        Ok(config_from_bytes(&bytes))
    }

    /// Replaces what the program depends on as a whole; last of all when starting.
    ///
    /// # Errors
    /// The kernel's.
    pub fn set_config(&self, config: &SteerConfig) -> io::Result<()> {
        self.config.update(&0_u32.to_ne_bytes(), &config_to_bytes(config))
    }

    /// Adds a local outer address.
    ///
    /// # Errors
    /// The kernel's; `E2BIG` past [`MAX_OUTER`].
    pub fn add_outer(&self, address: IpAddr) -> io::Result<()> {
        self.outer.update(&outer_key(address), &1_u32.to_ne_bytes())
    }

    /// Removes a local outer address; false if it was not there.
    ///
    /// # Errors
    /// The kernel's.
    pub fn remove_outer(&self, address: IpAddr) -> io::Result<bool> {
        self.outer.delete(&outer_key(address))
    }

    /// The local outer addresses.
    ///
    /// # Errors
    /// The kernel's.
    pub fn outers(&self) -> io::Result<Vec<IpAddr>> {
        Ok(self.outer.keys()?.iter().filter_map(|key| outer_address(key)).collect())
    }

    /// Says which worker owns an inbound SPI that was given from outside.
    ///
    /// # Errors
    /// The kernel's; `E2BIG` past [`MAX_STATIC_SPIS`].
    pub fn set_spi(&self, spi: u32, worker: u32) -> io::Result<()> {
        self.spis.update(&spi.to_be_bytes(), &worker.to_ne_bytes())
    }

    /// Removes an SPI; false if it was not there.
    ///
    /// # Errors
    /// The kernel's.
    pub fn remove_spi(&self, spi: u32) -> io::Result<bool> {
        self.spis.delete(&spi.to_be_bytes())
    }

    /// The SPIs given from outside and their workers.
    ///
    /// # Errors
    /// The kernel's.
    pub fn spis(&self) -> io::Result<Vec<(u32, u32)>> {
        let mut spis = Vec::new();
        for key in self.spis.keys()? {
            let mut value = [0; 4];
            let present = self.spis.lookup(&key, &mut value)?;
            if let (true, Ok(key)) = (present, <[u8; 4]>::try_from(key)) {
                spis.push((u32::from_be_bytes(key), u32::from_ne_bytes(value)));
            }
        }
        Ok(spis)
    }

    fn prefix_map(&self, address: IpAddr) -> &ElementMap {
        match address {
            IpAddr::V4(_) => &self.prefix4,
            IpAddr::V6(_) => &self.prefix6,
        }
    }

    /// Says what becomes of clear packets of a prefix.
    ///
    /// # Errors
    /// The kernel's; `ENOSPC` past [`MAX_PREFIXES`], `EINVAL` for a length past the family's.
    pub fn set_prefix(&self, prefix: SteerPrefix, value: PrefixValue) -> io::Result<()> {
        self.prefix_map(prefix.address).update(&prefix_key(prefix), &value_to_bytes(value))
    }

    /// Removes a prefix; false if it was not there.
    ///
    /// # Errors
    /// The kernel's.
    pub fn remove_prefix(&self, prefix: SteerPrefix) -> io::Result<bool> {
        self.prefix_map(prefix.address).delete(&prefix_key(prefix))
    }

    /// The prefixes and what becomes of them.
    ///
    /// # Errors
    /// The kernel's.
    pub fn prefixes(&self) -> io::Result<Vec<(SteerPrefix, PrefixValue)>> {
        let mut prefixes = Vec::new();
        for map in [&self.prefix4, &self.prefix6] {
            for key in map.keys()? {
                let mut value = [0; 4];
                let present = map.lookup(&key, &mut value)?;
                if let (true, Some(prefix)) = (present, prefix_of(&key)) {
                    prefixes.push((prefix, value_from_bytes(value)));
                }
            }
        }
        Ok(prefixes)
    }
}
