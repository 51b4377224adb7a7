//! What the operator sees of static SAs and of policies, as JSON.

use crate::install::Installed;
use crate::wanted::{Wanted, WantedChild};
use serde_json::{Value, json};
use xswan_config::ChildMode;
use xswan_sa_api::{PolicyAction, Read, SharedMaps, clock_ms};

/// An SPI as operators write it.
fn spi(spi: u32) -> String {
    format!("{spi:#010x}")
}

/// Milliseconds since, or null if never.
fn since(when_ms: u64) -> Value {
    if when_ms == 0 { Value::Null } else { clock_ms().saturating_sub(when_ms).into() }
}

fn mode(mode: ChildMode) -> &'static str {
    match mode {
        ChildMode::Tunnel => "TUNNEL",
        ChildMode::Transport => "TRANSPORT",
        ChildMode::Pass => "PASS",
        ChildMode::Drop => "DROP",
    }
}

/// Where one direction is: `WAITING` for a slot, `INSTALLING` until its worker has it.
fn state(generation: Option<u64>, applied: u64) -> &'static str {
    match generation {
        None => "WAITING",
        Some(generation) if generation == applied => "INSTALLED",
        Some(_) => "INSTALLING",
    }
}

fn inbound(maps: &SharedMaps, slot: Option<u32>, wanted_spi: u32) -> Value {
    let live = slot.and_then(|slot| maps.inbound_live(slot));
    let counters = live.as_ref().map(|live| live.counters()).unwrap_or_default();
    let present = slot.and_then(|slot| match maps.read_inbound(slot) {
        Read::Present { generation, config } => Some((generation, config)),
        Read::Empty { .. } | Read::Torn | Read::Invalid { .. } => None,
    });
    let installed_ms = present.as_ref().map_or(0, |(_, config)| config.lifetimes.installed_ms);
    let generation = present.as_ref().map(|(generation, _)| *generation);
    json!({
        "spi": spi(wanted_spi),
        "slot": slot,
        "state": state(generation, live.map_or(0, |live| live.applied_generation())),
        "installed_ms": since(installed_ms),
        "packets": counters.packets,
        "bytes": counters.bytes,
        "last_used_ms": since(counters.last_used_ms),
        "replay_window": present.as_ref().map(|(_, config)| config.replay_window),
        "auth_fail": counters.auth_fail,
        "replay": counters.replay,
        "lost": counters.lost,
        "other_drops": counters.other,
    })
}

fn outbound(maps: &SharedMaps, slot: Option<u32>, wanted_spi: u32) -> Value {
    let live = slot.and_then(|slot| maps.outbound_live(slot));
    let counters = live.as_ref().map(|live| live.counters()).unwrap_or_default();
    let generation = slot.and_then(|slot| match maps.read_outbound(slot) {
        Read::Present { generation, .. } => Some(generation),
        Read::Empty { .. } | Read::Torn | Read::Invalid { .. } => None,
    });
    json!({
        "spi": spi(wanted_spi),
        "slot": slot,
        "state": state(generation, live.as_ref().map_or(0, |live| live.applied_generation())),
        "packets": counters.packets,
        "bytes": counters.bytes,
        "last_used_ms": since(counters.last_used_ms),
        "lease": live.map_or(0, |live| live.lease()),
        "path_mtu": counters.path_mtu,
        "drops": counters.drops,
    })
}

fn sa(
    maps: &SharedMaps,
    installed: &Installed,
    child: &WantedChild,
    expired: &dyn Fn(u32) -> bool,
) -> Option<Value> {
    let (want_in, want_out) = child.sas.as_ref()?;
    let slot_in = installed.inbound.get(&child.id).copied();
    let slot_out = installed.outbound.get(&child.id).copied();
    let (inbound, outbound) =
        (inbound(maps, slot_in, want_in.spi), outbound(maps, slot_out, want_out.spi));
    let states = [&inbound, &outbound].map(|direction| direction["state"].as_str());
    // A pair is as far as the slower of the two.
    let worst = ["WAITING", "INSTALLING"].into_iter().find(|word| states.contains(&Some(word)));
    let gone = expired(want_in.spi) || expired(want_out.spi);
    let selectors = |selectors: &[xswan_config::TrafficSelector]| {
        selectors.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    Some(json!({
        "connection": child.connection,
        "child": child.name,
        "id": child.id,
        "state": if gone { "EXPIRED" } else { worst.unwrap_or("INSTALLED") },
        "mode": mode(child.mode),
        "algorithm": want_out.algorithm.name(),
        "esn": want_out.esn,
        "worker": want_out.worker,
        "local": want_out.local.to_string(),
        "remote": want_out.remote.to_string(),
        "encap": want_out.encap.is_some(),
        "local_port": want_out.encap.map(|encap| encap.local_port),
        "remote_port": want_out.encap.map(|encap| encap.remote_port),
        "local_ts": selectors(&child.local_ts),
        "remote_ts": selectors(&child.remote_ts),
        "in": inbound,
        "out": outbound,
    }))
}

/// Every static SA pair with its counters; `expired` tells which SPIs hit a hard limit.
#[must_use]
pub fn sas(
    maps: &SharedMaps,
    wanted: &Wanted,
    installed: &Installed,
    expired: &dyn Fn(u32) -> bool,
) -> Value {
    let sas = wanted.children.iter().filter_map(|child| sa(maps, installed, child, expired));
    sas.collect()
}

/// `list-policies`: the policies by child, in the order in which they apply.
#[must_use]
pub fn policies(wanted: &Wanted, installed: &Installed) -> Value {
    let policies = wanted.children.iter().map(|child| {
        let rows = wanted.policies.iter().filter(|row| row.child == child.id);
        let action = match rows.clone().next().map(|row| row.action) {
            Some(PolicyAction::Protect) => "protect",
            Some(PolicyAction::Bypass) => "bypass",
            Some(PolicyAction::Discard) => "discard",
            None => "none",
        };
        let selectors = |selectors: &[xswan_config::TrafficSelector]| {
            selectors.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        json!({
            "connection": child.connection,
            "child": child.name,
            "id": child.id,
            "mode": mode(child.mode),
            "action": action,
            "rows": rows.count(),
            "local_ts": selectors(&child.local_ts),
            "remote_ts": selectors(&child.remote_ts),
            "outbound_slot": installed.outbound.get(&child.id),
        })
    });
    json!({ "policies": policies.collect::<Vec<_>>() })
}
