//! Remote access between two of our gateways: one is given addresses by the other's pools.
//!
//! Needs root and the built daemons; run by `cargo xtask test --only remote`.

use serde_json::Value;
use std::time::Duration;
use xswan_testkit::failure::Outcome;
use xswan_testkit::gateway::Gateway;
use xswan_testkit::netns::Namespace;
use xswan_testkit::process::wait_for;
use xswan_testkit::require_privileges;
use xswan_testkit::topology::{
    CLIENT_V4, CLIENT_V6, INNER_V4, INNER_V6, Outer, Proof, Topology, ike_tunnel,
};

const TUN: &str = "xswan0";
const POOLS: &str = "[pools.v4]\naddrs = \"10.3.0.10-10.3.0.20\"\n\
    [pools.v6]\naddrs = \"fd00:3::10-fd00:3::20\"\n";
const PROPOSAL: &str = "aes128gcm16-x25519-esn-noesn";
const SETTLE_LIMIT: Duration = Duration::from_secs(20);

/// The first gateway asks for addresses of both families, the second one has pools.
fn start(topology: &Topology) -> Outcome<[Gateway<'_>; 2]> {
    let [mut client, mut server] = ike_tunnel(Outer::V4, Proof::Psk, PROPOSAL, "", "");
    let own = format!("[{:?}, {:?}]", INNER_V4[0], INNER_V6[0]);
    client.appendix = client
        .appendix
        .replace(&format!("local_ts = {own}"), "local_ts = \"dynamic\"")
        .replace("version = 2\n", "version = 2\nvips = [\"0.0.0.0\", \"::\"]\n");
    server.appendix = server
        .appendix
        .replace(&format!("remote_ts = {own}"), "remote_ts = \"dynamic\"")
        .replace("version = 2\n", "version = 2\npools = [\"v4\", \"v6\"]\n");
    server.appendix.push_str(POOLS);
    let [space_a, space_b] = &topology.gateways;
    Ok([Gateway::start(space_a, client)?, Gateway::start(space_b, server)?])
}

fn addresses(gateway: &Namespace) -> Outcome<String> {
    gateway.ip(&format!("-o addr show dev {TUN}"))
}

fn reach(gateway: &Namespace) -> Outcome<()> {
    for far in [CLIENT_V4[1], CLIENT_V6[1]] {
        wait_for(&format!("an answer from {far}"), SETTLE_LIMIT, || {
            gateway.run(&format!("ping -c1 -W1 {far}")).map(|_| true)
        })?;
    }
    Ok(())
}

fn ike_sas(gateway: &Gateway<'_>) -> Outcome<Vec<Value>> {
    let answer = gateway.query(&["list-sas"])?;
    Ok(answer["ike_sas"].as_array().cloned().unwrap_or_default())
}

#[test]
fn addresses_are_given_used_kept_over_restarts_and_taken_back() -> Outcome<()> {
    require_privileges!("addresses_are_given_used_kept_over_restarts_and_taken_back");
    let topology = Topology::create()?;
    let mut gateways = start(&topology)?;
    let [space, _] = &topology.gateways;
    gateways[0].show(&["initiate", "--child", "net"])?;
    reach(space)?;
    let shown = addresses(space)?;
    assert!(shown.contains("10.3.0.10/32") && shown.contains("fd00:3::10/128"), "{shown}");
    // The peer itself is reached by the main table, or the tunnel would lead into itself.
    let rules = space.ip("rule")?;
    assert!(rules.contains("219:") && rules.contains("220:"), "{rules}");

    // Either control is killed: addresses, leases and tunnels stay.
    for side in [0, 1] {
        let gateway = &mut gateways[side];
        gateway.control()?.kill()?;
        reach(space)?;
        gateway.start_control()?;
        gateway.wait_healthy()?;
        reach(space)?;
        assert_eq!(ike_sas(&gateways[side])?.len(), 1);
    }
    assert_eq!(addresses(space)?.matches("10.3.0.10/32").count(), 1);
    let pools = gateways[1].query(&["list-pools"])?;
    assert_eq!(pools["pools"][0]["online"], 1, "{pools}");

    // Another dataplane makes another device: addresses and routes come back to it.
    gateways[0].dataplane()?.kill()?;
    gateways[0].start_dataplane()?;
    gateways[0].wait_healthy()?;
    reach(space)?;

    gateways[0].show(&["terminate", "--ike", "peer"])?;
    wait_for("the addresses to go", SETTLE_LIMIT, || {
        let shown = addresses(space)?;
        Ok(!shown.contains("10.3.0.10") && !shown.contains("fd00:3::10"))
    })?;
    let routes = space.ip("route show table 220").unwrap_or_default();
    assert!(!routes.contains(TUN), "{routes}");
    let pools = gateways[1].query(&["list-pools"])?;
    assert_eq!(pools["pools"][0]["online"], 0, "{pools}");
    // The same identity gets the same address again.
    gateways[0].show(&["initiate", "--child", "net"])?;
    reach(space)?;
    assert!(addresses(space)?.contains("10.3.0.10/32"));
    Ok(())
}
