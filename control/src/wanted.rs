//! What ought to be in the shared maps, from the configuration and its keys alone.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::IpAddr;
use xswan_config::{
    Child, ChildMode, Config, Connection, CopyDf, CopyDscp, EspAlgorithm, Keys, Lifetime, StaticSa,
    TrafficSelector,
};
use xswan_sa_api::{
    AddressRange, Algorithm, DfPolicy, DscpPolicy, Encap, Geometry, InboundConfig, InboundFlags,
    Key, Lifetimes, Limit, Mode, OutboundConfig, PolicyAction, PolicyRow, PortRange, SteerPrefix,
    replay_words_for,
};
use xswan_steer::abi::{
    MAX_OUTER, MAX_PREFIXES, MAX_STATIC_SPIS, PREFIX_LOCAL, PREFIX_REMOTE, PrefixValue,
    WORKER_BY_FLOW,
};

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

fn limit(lifetime: Lifetime) -> Limit {
    Limit { soft: lifetime.rekey, hard: lifetime.life }
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
    let lifetimes = Lifetimes {
        bytes: limit(child.bytes),
        packets: limit(child.packets),
        time_ms: limit(child.time_ms),
        installed_ms: 0,
    };
    let flags = InboundFlags {
        esn: proposal.esn,
        check_padding: true,
        copy_ecn: child.copy_ecn,
        copy_dscp: matches!(child.copy_dscp, CopyDscp::In | CopyDscp::Yes),
        any_source: false,
        icmp: child.icmp,
        any_encap: false,
    };
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
        df: match child.copy_df {
            CopyDf::Copy => DfPolicy::Copy,
            CopyDf::Set => DfPolicy::Set,
            CopyDf::Clear => DfPolicy::Clear,
        },
        dscp: match child.copy_dscp {
            CopyDscp::Out | CopyDscp::Yes => DscpPolicy::Copy,
            CopyDscp::In | CopyDscp::No => DscpPolicy::Fixed(0),
        },
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

fn range(selector: &TrafficSelector) -> AddressRange {
    AddressRange { ipv6: selector.ipv6, first: selector.first, last: selector.last }
}

fn ports(selector: &TrafficSelector) -> PortRange {
    PortRange { first: selector.first_port, last: selector.last_port }
}

/// One row for each pair of selectors of a family; a pair whose protocols differ is empty.
fn rows(child: &Child, id: u32) -> Vec<PolicyRow> {
    let action = match child.mode {
        ChildMode::Tunnel | ChildMode::Transport => PolicyAction::Protect,
        ChildMode::Pass => PolicyAction::Bypass,
        ChildMode::Drop => PolicyAction::Discard,
    };
    let mut rows = Vec::new();
    for local in &child.local_ts {
        for remote in child.remote_ts.iter().filter(|remote| remote.ipv6 == local.ipv6) {
            let (one, other) = (local.protocol, remote.protocol);
            if one != 0 && other != 0 && one != other {
                continue;
            }
            rows.push(PolicyRow {
                action,
                child: id,
                local: range(local),
                remote: range(remote),
                protocol: one.max(other),
                local_ports: ports(local),
                remote_ports: ports(remote),
                outbound_slot: None,
                icmp: child.icmp,
                hold: false,
            });
        }
    }
    rows
}

/// What one child says of a prefix, merged with what others say.
fn merge(value: &mut PrefixValue, flags: u16, worker: u16) {
    let remote = flags & PREFIX_REMOTE != 0;
    if remote && value.flags & PREFIX_REMOTE != 0 && value.worker != worker {
        value.worker = WORKER_BY_FLOW;
    } else if remote {
        value.worker = worker;
    }
    value.flags |= flags;
}

/// The longest match hides the prefixes around it: so each takes over what they say.
fn inherit(prefixes: &mut BTreeMap<SteerPrefix, PrefixValue>) {
    // In the order of the map (address, then length) a prefix comes right before those in it.
    let mut around: Vec<(SteerPrefix, PrefixValue)> = Vec::new();
    for (prefix, value) in prefixes.iter_mut() {
        while around.last().is_some_and(|(outer, _)| !covers(outer, prefix)) {
            around.pop();
        }
        if let Some((_, outer)) = around.last() {
            let owned = value.flags & PREFIX_REMOTE != 0;
            if !owned && outer.flags & PREFIX_REMOTE != 0 {
                value.worker = outer.worker;
            }
            value.flags |= outer.flags;
        }
        around.push((*prefix, *value));
    }
}

fn covers(outer: &SteerPrefix, inner: &SteerPrefix) -> bool {
    let (outer_bits, inner_bits, width) = match (outer.address, inner.address) {
        (IpAddr::V4(one), IpAddr::V4(other)) => {
            (u128::from(u32::from(one)), u128::from(u32::from(other)), 32)
        }
        (IpAddr::V6(one), IpAddr::V6(other)) => (u128::from(one), u128::from(other), 128),
        _ => return false,
    };
    let shift = width - u32::from(outer.length).min(width);
    let top = |bits: u128| bits.checked_shr(shift).unwrap_or(0);
    outer.length <= inner.length && top(outer_bits) == top(inner_bits)
}

fn add_prefixes(prefixes: &mut BTreeMap<SteerPrefix, PrefixValue>, child: &Child, worker: u16) {
    // What is passed in clear is left to the worker where a protected prefix is around it,
    // and to the kernel where there is none: neither needs an entry.
    if child.mode == ChildMode::Pass {
        return;
    }
    let sides = [(&child.remote_ts, PREFIX_REMOTE), (&child.local_ts, PREFIX_LOCAL)];
    for (selectors, flags) in sides {
        let unique: HashSet<_> = selectors.iter().flat_map(TrafficSelector::prefixes).collect();
        for (address, length) in unique {
            let value = prefixes.entry(SteerPrefix { address, length }).or_default();
            merge(value, flags, worker);
        }
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
            let owner = pair.as_ref().map_or(WORKER_BY_FLOW, |(_, outbound)| outbound.worker);
            if let Some((inbound, _)) = &pair {
                wanted.spis.insert(inbound.spi, inbound.worker.into());
            }
            wanted.policies.extend(rows(child, id));
            add_prefixes(&mut wanted.prefixes, child, owner);
            wanted.children.push(WantedChild {
                id,
                connection: connection.name.clone(),
                name: child.name.clone(),
                mode: child.mode,
                local_ts: child.local_ts.clone(),
                remote_ts: child.remote_ts.clone(),
                sas: pair,
            });
        }
        inherit(&mut wanted.prefixes);
        wanted.check(&geometry(config))?;
        Ok(wanted)
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
