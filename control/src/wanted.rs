//! What ought to be in the shared maps, from the configuration and its keys alone.

use crate::child_policy;
use crate::ike::udp::local_address;
use crate::prefixes::{Contribution, Prefixes};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use xswan_config::{
    Child, ChildMode, Config, Connection, EspAlgorithm, IkeChild, Keys, SelectorPattern, StaticSa,
    TrafficSelector,
};
use xswan_sa_api::{
    Algorithm, Encap, Geometry, InboundConfig, InboundFlags, Key, Mode, OutboundConfig, PolicyRow,
    SteerPrefix, replay_words_for,
};
use xswan_steer::abi::{MAX_OUTER, MAX_PREFIXES, MAX_STATIC_SPIS, PrefixValue};

/// One child with its SA pair, if it has one.
#[derive(Clone, Debug)]
pub struct WantedChild {
    /// Number in the maps; depends on the names only.
    pub id: u32,
    /// Connection.
    pub connection: String,
    /// Child.
    pub name: String,
    /// Its mode, as in the configuration.
    pub mode: ChildMode,
    /// Its SAs are negotiated.
    pub negotiated: bool,
    /// Selectors for the listing.
    pub local_ts: Vec<TrafficSelector>,
    /// Selectors for the listing.
    pub remote_ts: Vec<TrafficSelector>,
    /// The SAs; their replay range and time of installation are still open.
    pub sas: Option<(InboundConfig, OutboundConfig)>,
}

/// All that ought to be.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// In the order in which their policies apply.
    pub children: Vec<WantedChild>,
    /// Rows in order, still without slots.
    pub policies: Vec<PolicyRow>,
    /// Local outer addresses.
    pub outers: BTreeSet<IpAddr>,
    /// Inbound SPIs and their workers.
    pub spis: BTreeMap<u32, u32>,
    /// Protected prefixes.
    pub prefixes: BTreeMap<SteerPrefix, PrefixValue>,
    /// What they are made of.
    pub contributions: Vec<Contribution>,
}

/// The geometry of the maps that a configuration asks for.
#[must_use]
pub fn geometry(config: &Config) -> Geometry {
    Geometry {
        sa_slots: config.dataplane.sa_slots,
        policies: config.dataplane.policies,
        replay_words: config.dataplane.replay_words,
        workers: config.cores.workers.len() as u32,
        member: config.instance.member.into(),
    }
}

/// FNV-1a over the names: the same in every run and on every machine.
fn name_hash(connection: &str, child: &str) -> u32 {
    let octets = connection.bytes().chain([0]).chain(child.bytes());
    octets.fold(0x811c_9dc5, |hash, octet| (hash ^ u32::from(octet)).wrapping_mul(0x0100_0193))
}

fn algorithm(algorithm: EspAlgorithm) -> Algorithm {
    match algorithm {
        EspAlgorithm::Aes128Gcm16 => Algorithm::Aes128Gcm16,
        EspAlgorithm::Aes192Gcm16 => Algorithm::Aes192Gcm16,
        EspAlgorithm::Aes256Gcm16 => Algorithm::Aes256Gcm16,
        EspAlgorithm::ChaCha20Poly1305 => Algorithm::ChaCha20Poly1305,
        EspAlgorithm::Aes128CbcSha256 => Algorithm::Aes128CbcSha256,
        EspAlgorithm::Aes192CbcSha256 => Algorithm::Aes192CbcSha256,
        EspAlgorithm::Aes256CbcSha256 => Algorithm::Aes256CbcSha256,
        EspAlgorithm::Aes128CbcSha384 => Algorithm::Aes128CbcSha384,
        EspAlgorithm::Aes192CbcSha384 => Algorithm::Aes192CbcSha384,
        EspAlgorithm::Aes256CbcSha384 => Algorithm::Aes256CbcSha384,
        EspAlgorithm::Aes128CbcSha512 => Algorithm::Aes128CbcSha512,
        EspAlgorithm::Aes192CbcSha512 => Algorithm::Aes192CbcSha512,
        EspAlgorithm::Aes256CbcSha512 => Algorithm::Aes256CbcSha512,
    }
}

fn sas(
    connection: &Connection,
    child: &Child,
    static_sa: &StaticSa,
    keys: &Keys,
    id: u32,
    workers: u32,
) -> Result<(InboundConfig, OutboundConfig), String> {
    let nothing = || format!("{}.{}: incomplete", connection.name, child.name);
    let local = *connection.local_addrs.first().ok_or_else(nothing)?;
    let remote = *connection.remote_addrs.first().ok_or_else(nothing)?;
    let proposal = child.esp_proposals.first().ok_or_else(nothing)?;
    let key = |octets: &xswan_config::Secret| {
        Key::new(octets.expose()).map_err(|error| error.to_string())
    };
    let mode = if child.mode == ChildMode::Transport { Mode::Transport } else { Mode::Tunnel };
    let (local_port, remote_port) = (connection.local_port, connection.remote_port);
    let encap = connection.encap.then_some(Encap { local_port, remote_port });
    let any_worker = (id % workers.max(1)) as u16;
    let worker = static_sa.worker.unwrap_or(any_worker);
    let mut lifetimes = child_policy::counted_lifetimes(child);
    lifetimes.time_ms = child_policy::limit(child.time_ms);
    let flags = InboundFlags { esn: proposal.esn, ..child_policy::inbound_flags(child) };
    let inbound = InboundConfig {
        spi: static_sa.spi_in,
        worker,
        algorithm: algorithm(proposal.algorithm),
        key: key(&keys.key_in)?,
        mode,
        local,
        remote,
        encap,
        replay_window: child.replay_window,
        replay_offset: 0,
        replay_len: replay_words_for(child.replay_window),
        child: id,
        flags,
        lifetimes,
    };
    let outbound = OutboundConfig {
        spi: static_sa.spi_out,
        worker,
        algorithm: algorithm(proposal.algorithm),
        key: key(&keys.key_out)?,
        esn: proposal.esn,
        mode,
        local,
        remote,
        encap,
        df: child_policy::df(child),
        dscp: child_policy::dscp(child),
        copy_ecn: child.copy_ecn,
        ttl: child.ttl,
        tfc_padding: child.tfc_padding,
        path_mtu: child.path_mtu,
        iv_base: 0,
        child: id,
        lifetimes,
    };
    Ok((inbound, outbound))
}

/// The selectors of a trap, with addresses for `dynamic`: ours as configured, and the peer's.
/// Where those are not known, such as before a virtual address is given, nothing is trapped.
fn trapped(
    connection: &Connection,
    ike: &IkeChild,
) -> (Vec<TrafficSelector>, Vec<TrafficSelector>) {
    let vips = connection.ike.as_ref().is_some_and(|ike| !ike.vips.is_empty());
    let peer = connection.remote_addrs.first().copied();
    let own = connection.local_addrs.first().copied();
    let own = own.or_else(|| local_address(peer?)).filter(|_| !vips);
    let resolve = |patterns: &[SelectorPattern], own: Option<IpAddr>| {
        let one = |pattern: &SelectorPattern| match own {
            Some(own) => Some(pattern.resolve(own)),
            None => pattern.fixed(),
        };
        patterns.iter().filter_map(one).collect()
    };
    (resolve(&ike.local_ts, own), resolve(&ike.remote_ts, peer))
}

/// The selectors that a child's policies have before anything is negotiated.
fn selectors(
    connection: &Connection,
    child: &Child,
) -> (Vec<TrafficSelector>, Vec<TrafficSelector>) {
    match &child.ike {
        None => (child.local_ts.clone(), child.remote_ts.clone()),
        Some(ike) if ike.start_action.trap && ike.policies => trapped(connection, ike),
        Some(_) => (Vec::new(), Vec::new()),
    }
}

impl Wanted {
    /// Everything that a configuration and its keys ask for.
    ///
    /// # Errors
    /// One line: more SAs, prefixes or addresses than the maps hold.
    pub fn new(config: &Config, keys: &[Keys]) -> Result<Self, String> {
        let mut wanted = Self {
            children: Vec::new(),
            policies: Vec::new(),
            outers: BTreeSet::new(),
            spis: BTreeMap::new(),
            prefixes: BTreeMap::new(),
            contributions: Vec::new(),
        };
        let workers = config.cores.workers.len() as u32;
        let mut ids = HashSet::new();
        for connection in &config.connections {
            wanted.outers.extend(connection.local_addrs.iter().copied());
        }
        for (connection, child) in config.children_in_order() {
            let mut id = name_hash(&connection.name, &child.name);
            while !ids.insert(id) {
                id = id.wrapping_add(1);
            }
            let own = |keys: &&Keys| keys.connection == connection.name && keys.child == child.name;
            let pair = match (&child.static_sa, keys.iter().find(own)) {
                (Some(static_sa), Some(keys)) => {
                    Some(sas(connection, child, static_sa, keys, id, workers)?)
                }
                _ => None,
            };
            let owner = pair.as_ref().map(|(_, outbound)| outbound.worker);
            if let Some((inbound, _)) = &pair {
                wanted.spis.insert(inbound.spi, inbound.worker.into());
            }
            let (local_ts, remote_ts) = selectors(connection, child);
            let given = child_policy::contributions(child.mode, &local_ts, &remote_ts, owner);
            wanted.contributions.extend(given);
            let trap = child.ike.is_some();
            wanted.policies.extend(child_policy::rows(child, id, trap, &local_ts, &remote_ts));
            wanted.children.push(WantedChild {
                id,
                connection: connection.name.clone(),
                name: child.name.clone(),
                mode: child.mode,
                negotiated: child.ike.is_some(),
                local_ts: child.local_ts.clone(),
                remote_ts: child.remote_ts.clone(),
                sas: pair,
            });
        }
        let mut prefixes = Prefixes::default();
        wanted.contributions.iter().for_each(|one| prefixes.add(*one));
        wanted.prefixes = prefixes.values().clone();
        wanted.check(&geometry(config))?;
        Ok(wanted)
    }

    /// The rows with the slots of static outbound SAs, by child.
    #[must_use]
    pub fn rows(&self, placed: &HashMap<u32, u32>) -> Vec<PolicyRow> {
        let rows = self.policies.iter();
        rows.map(|row| PolicyRow { outbound_slot: placed.get(&row.child).copied(), ..*row })
            .collect()
    }

    fn check(&self, geometry: &Geometry) -> Result<(), String> {
        let pairs = self.children.iter().filter_map(|child| child.sas.as_ref());
        let words: u64 = pairs.clone().map(|(inbound, _)| u64::from(inbound.replay_len)).sum();
        let ipv6 = self.prefixes.keys().filter(|prefix| prefix.address.is_ipv6()).count();
        let checks = [
            ("SAs", pairs.count() as u64, geometry.sa_slots, "dataplane.sa_slots"),
            ("replay words", words, geometry.replay_words, "dataplane.replay_words"),
            ("policies", self.policies.len() as u64, geometry.policies, "dataplane.policies"),
            ("outer addresses", self.outers.len() as u64, MAX_OUTER, "the limit"),
            ("static SPIs", self.spis.len() as u64, MAX_STATIC_SPIS, "the limit"),
            ("IPv6 prefixes", ipv6 as u64, MAX_PREFIXES, "the limit"),
            ("IPv4 prefixes", (self.prefixes.len() - ipv6) as u64, MAX_PREFIXES, "the limit"),
        ];
        match checks.into_iter().find(|(_, count, most, _)| *count > u64::from(*most)) {
            None => Ok(()),
            Some((what, count, most, key)) => {
                Err(format!("{count} {what} are asked for and {key} is {most}"))
            }
        }
    }
}
