//! What a child's configuration means for its policies, SAs and steering prefixes, whether its
//! keys are static or negotiated.

use crate::prefixes::Contribution;
use std::collections::BTreeSet;
use xswan_config::{Child, ChildMode, CopyDf, CopyDscp, Lifetime, TrafficSelector};
use xswan_sa_api::{
    AddressRange, DfPolicy, DscpPolicy, InboundFlags, Lifetimes, Limit, PolicyAction, PolicyRow,
    PortRange, SteerPrefix,
};
use xswan_steer::abi::{PREFIX_LOCAL, PREFIX_REMOTE};

/// A soft and a hard limit.
#[must_use]
pub const fn limit(lifetime: Lifetime) -> Limit {
    Limit { soft: lifetime.rekey, hard: lifetime.life }
}

/// What the dataplane counts; the time is open.
#[must_use]
pub fn counted_lifetimes(child: &Child) -> Lifetimes {
    Lifetimes { bytes: limit(child.bytes), packets: limit(child.packets), ..Lifetimes::default() }
}

/// Flags of an inbound SA as far as the configuration says them.
#[must_use]
pub fn inbound_flags(child: &Child) -> InboundFlags {
    InboundFlags {
        check_padding: true,
        copy_ecn: child.copy_ecn,
        copy_dscp: matches!(child.copy_dscp, CopyDscp::In | CopyDscp::Yes),
        icmp: child.icmp,
        ..InboundFlags::default()
    }
}

/// `copy_df`.
#[must_use]
pub const fn df(child: &Child) -> DfPolicy {
    match child.copy_df {
        CopyDf::Copy => DfPolicy::Copy,
        CopyDf::Set => DfPolicy::Set,
        CopyDf::Clear => DfPolicy::Clear,
    }
}

/// `copy_dscp` of what leaves.
#[must_use]
pub const fn dscp(child: &Child) -> DscpPolicy {
    match child.copy_dscp {
        CopyDscp::Out | CopyDscp::Yes => DscpPolicy::Copy,
        CopyDscp::In | CopyDscp::No => DscpPolicy::Fixed(0),
    }
}

fn range(selector: &TrafficSelector) -> AddressRange {
    AddressRange { ipv6: selector.ipv6, first: selector.first, last: selector.last }
}

fn ports(selector: &TrafficSelector) -> PortRange {
    PortRange { first: selector.first_port, last: selector.last_port }
}

/// One row for each pair of selectors of a family; a pair whose protocols differ is empty.
/// With `trap`, packets wait for the SA that they cause.
#[must_use]
pub fn rows(
    child: &Child,
    id: u32,
    trap: bool,
    local_ts: &[TrafficSelector],
    remote_ts: &[TrafficSelector],
) -> Vec<PolicyRow> {
    let action = match child.mode {
        ChildMode::Tunnel | ChildMode::Transport => PolicyAction::Protect,
        ChildMode::Pass => PolicyAction::Bypass,
        ChildMode::Drop => PolicyAction::Discard,
    };
    let mut rows = Vec::new();
    for local in local_ts {
        for remote in remote_ts.iter().filter(|remote| remote.ipv6 == local.ipv6) {
            let (one, other) = (local.protocol, remote.protocol);
            // OPAQUE (RFC 4301 section 4.4.1.1) selects packets whose ports are hidden: no
            // packet has such ports.
            let empty = [local, remote].iter().any(|ts| ts.first_port > ts.last_port);
            if (one != 0 && other != 0 && one != other) || empty {
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
                hold: trap && action == PolicyAction::Protect,
            });
        }
    }
    rows
}

/// What a child says of prefixes; `worker` is its outbound SA's, if it has one.
#[must_use]
pub fn contributions(
    mode: ChildMode,
    local_ts: &[TrafficSelector],
    remote_ts: &[TrafficSelector],
    worker: Option<u16>,
) -> Vec<Contribution> {
    // What is passed in clear is left to the worker where a protected prefix is around it,
    // and to the kernel where there is none: neither needs an entry.
    if mode == ChildMode::Pass {
        return Vec::new();
    }
    let mut all = Vec::new();
    for (selectors, flags) in [(remote_ts, PREFIX_REMOTE), (local_ts, PREFIX_LOCAL)] {
        let unique: BTreeSet<_> = selectors.iter().flat_map(TrafficSelector::prefixes).collect();
        for (address, length) in unique {
            all.push(Contribution { prefix: SteerPrefix { address, length }, flags, worker });
        }
    }
    all
}
