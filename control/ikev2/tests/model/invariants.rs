//! What must hold: at every moment, in every quiet moment, and at the end.

use crate::scenario::{Operators, Scenario};
use crate::world::World;
use std::collections::BTreeSet;
use xswan_ikev2::view::IkeSaView;
use xswan_simulation::Gateway;

/// Octets of an engine's `Debug`, beyond which it has kept what it should have forgotten.
const MAX_DEBUG_OCTETS: usize = 400_000;
/// Datagrams that each side may send in a second, and for each command, on average.
const DATAGRAMS_PER_S: u64 = 25;
const DATAGRAMS_PER_COMMAND: u64 = 40;

fn ensure(holds: bool, what: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what()) }
}

fn views(world: &World, gateway: usize) -> Vec<IkeSaView> {
    let node = &world.network.gateways[gateway];
    node.engine.ike_sas(node.clock(world.network.now)).collect()
}

/// At every moment.
pub fn always(world: &World, scenario: &Scenario) -> Result<(), String> {
    for gateway in &world.network.gateways {
        for child in gateway.children.values() {
            let spi = child.install.spi_in;
            ensure(gateway.spis().contains(&spi), || format!("SPI {spi:08x} is not reserved"))?;
        }
    }
    keys_agree(world)?;
    if scenario.operators == Operators::Rekey {
        nothing_lost(world)?;
    }
    let seconds = world.network.now.0 / 1000;
    let limit = 100 + seconds * DATAGRAMS_PER_S + world.commands() * DATAGRAMS_PER_COMMAND;
    let sent = world.network.sent;
    ensure(sent.iter().all(|sent| *sent <= limit), || format!("a storm: {sent:?} in {seconds} s"))
}

/// Where both have the two halves of a pair, their keys are the same.
fn keys_agree(world: &World) -> Result<(), String> {
    let [one, other] = &world.network.gateways;
    for own in one.children.values().map(|child| &child.install) {
        let pair = |peer: &&xswan_ikev2::action::ChildInstall| {
            peer.spi_in == own.spi_out && peer.spi_out == own.spi_in
        };
        if let Some(peer) = other.children.values().map(|child| &child.install).find(pair) {
            let same = own.key_in == peer.key_out
                && own.key_out == peer.key_in
                && own.suite == peer.suite
                && own.local_ts == peer.remote_ts
                && own.remote_ts == peer.local_ts;
            ensure(same, || format!("{:08x}: the halves do not fit", own.spi_in))?;
        }
    }
    Ok(())
}

fn nothing_lost(world: &World) -> Result<(), String> {
    let traffic = world.network.traffic;
    ensure(traffic.unopened == 0, || format!("a rekeying lost packets: {traffic:?}"))?;
    for gateway in &world.network.gateways {
        for name in &world.wanted {
            let outbound = gateway.children.values().filter(|child| child.outbound);
            let count = outbound.filter(|child| child.install.name == **name).count();
            ensure(count == 1, || format!("traffic of {name} leaves through {count} SAs"))?;
        }
    }
    Ok(())
}

/// All children that were wanted are up.
pub fn up(world: &World, _scenario: &Scenario) -> Result<(), String> {
    nothing_lost(world)?;
    ensure(world.network.agrees(), || "after the first handshake they do not agree".into())
}

fn pairs(gateway: &Gateway, mirrored: bool) -> BTreeSet<(u32, u32)> {
    let installs = gateway.children.values().map(|child| &child.install);
    installs
        .map(
            |child| {
                if mirrored { (child.spi_out, child.spi_in) } else { (child.spi_in, child.spi_out) }
            },
        )
        .collect()
}

/// A moment in which nothing is under way, and both have the same.
pub fn quiet(world: &World, scenario: &Scenario) -> Result<(), String> {
    always(world, scenario)?;
    ensure(world.network.is_silent(), || "there are datagrams on the wire".into())?;
    let [one, other] = &world.network.gateways;
    let (ours, theirs) = (pairs(one, false), pairs(other, true));
    ensure(ours == theirs, || format!("Child SAs differ: {ours:08x?} {theirs:08x?}"))?;
    for (number, gateway) in world.network.gateways.iter().enumerate() {
        let used: BTreeSet<u32> =
            gateway.children.values().map(|child| child.install.spi_in).collect();
        let reserved = gateway.spis();
        ensure(used == *reserved, || {
            format!("gateway {number} has {used:08x?} and reserved {reserved:08x?}")
        })?;
        let half_open = gateway.engine.half_open();
        ensure(half_open == 0, || format!("gateway {number}: {half_open} half-open"))?;
        all_established(world, number)?;
    }
    let ike = |gateway| -> BTreeSet<(u64, u64)> {
        views(world, gateway).iter().map(|view| (view.spi_i, view.spi_r)).collect()
    };
    let (ours, theirs) = (ike(0), ike(1));
    ensure(ours == theirs, || format!("IKE SAs differ: {ours:x?} {theirs:x?}"))?;
    ensure(world.network.agrees(), || "they do not open what the other one sends".into())?;
    leases_balance(world)?;
    if scenario.operators == Operators::Rekey {
        one_of_each(world)?;
    }
    Ok(())
}

fn all_established(world: &World, gateway: usize) -> Result<(), String> {
    for view in views(world, gateway) {
        ensure(view.state == "ESTABLISHED", || {
            format!("gateway {gateway}: IKE SA {} is {}", view.id.0, view.state)
        })?;
        let shown = view.children.iter().find(|child| {
            let children = world.network.gateways[gateway].children.values();
            !children.into_iter().any(|have| have.install.spi_in == child.spi_in)
        });
        ensure(shown.is_none(), || {
            format!("gateway {gateway} lists what is not there: {shown:?}")
        })?;
    }
    Ok(())
}

/// As many leases as IKE SAs that use them, and addresses as the peer has leased.
fn leases_balance(world: &World) -> Result<(), String> {
    let leased: u32 = world.network.gateways[1]
        .engine
        .pools()
        .iter()
        .flat_map(|(_, leases)| leases.into_iter().map(|lease| lease.users))
        .sum();
    let used: usize = views(world, 1).iter().map(|view| view.remote_vips.len()).sum();
    ensure(leased as usize == used, || format!("{leased} leases for {used} users"))?;
    let held: usize = views(world, 0).iter().map(|view| view.local_vips.len()).sum();
    let counted: u32 = world.network.gateways[0].addresses.values().sum();
    ensure(counted as usize == held, || format!("{counted} virtual addresses, {held} in use"))
}

/// After all collisions exactly one IKE SA and one pair for each child survive.
fn one_of_each(world: &World) -> Result<(), String> {
    for gateway in 0..2 {
        let views = views(world, gateway);
        ensure(views.len() == 1, || format!("gateway {gateway} has {} IKE SAs", views.len()))?;
        let live: Vec<&str> = views[0]
            .children
            .iter()
            .filter(|child| child.state == "INSTALLED" || child.state == "REKEYING")
            .map(|child| child.name.as_str())
            .collect();
        let once: BTreeSet<&str> = live.iter().copied().collect();
        ensure(live.len() == once.len() && once == world.wanted, || {
            format!("gateway {gateway} has {live:?}")
        })?;
    }
    Ok(())
}

/// Nothing grows with what has happened.
pub fn bounded(world: &World) -> Result<(), String> {
    for gateway in &world.network.gateways {
        let octets = format!("{:?}", gateway.engine).len();
        ensure(octets < MAX_DEBUG_OCTETS, || format!("an engine of {octets} octets"))?;
    }
    Ok(())
}

/// At the end.
pub fn nothing_left(world: &World) -> Result<(), String> {
    for (number, gateway) in world.network.gateways.iter().enumerate() {
        let left = gateway.children.len();
        ensure(left == 0, || format!("gateway {number} has {left} Child SAs in the end"))?;
        let spis = gateway.spis();
        ensure(spis.is_empty(), || format!("gateway {number} has reserved {spis:08x?}"))?;
        let ike = views(world, number);
        ensure(ike.is_empty(), || format!("gateway {number} has IKE SAs in the end: {ike:?}"))?;
        let deadline = gateway.deadline();
        ensure(deadline.is_none(), || format!("gateway {number} still waits for {deadline:?}"))?;
        ensure(gateway.addresses.is_empty(), || format!("gateway {number} keeps an address"))?;
    }
    leases_balance(world)
}

/// Every question has had its one answer; that there are not two is for the gateway to see.
pub fn all_answered(world: &World) -> Result<(), String> {
    for (number, gateway) in world.network.gateways.iter().enumerate() {
        let open: Vec<u64> =
            (1..=gateway.asked()).filter(|n| !gateway.answers.contains_key(n)).collect();
        ensure(open.is_empty(), || format!("gateway {number} has not answered {open:?}"))?;
    }
    Ok(())
}
