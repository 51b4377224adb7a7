//! Two of our gateways negotiate, rekey, lose a daemon and go on.
//!
//! Needs root and the built daemons; run by `cargo xtask test --only ike`.
#![expect(clippy::expect_used, reason = "a test stops at the first surprise")]

use serde_json::Value;
use std::time::Duration;
use xswan_testkit::capture::Capture;
use xswan_testkit::failure::Outcome;
use xswan_testkit::gateway::{Gateway, GatewayConfig};
use xswan_testkit::pki::Authority;
use xswan_testkit::process::wait_for;
use xswan_testkit::require_privileges;
use xswan_testkit::topology::{
    CLIENT_V4, CLIENT_V6, INNER_V4, INNER_V6, Outer, Proof, Topology, ike_names, ike_tunnel,
};
use xswan_testkit::traffic::Stream;

const PROTECTED: [&str; 4] = [INNER_V4[0], INNER_V4[1], INNER_V6[0], INNER_V6[1]];
const PROPOSAL: &str = "aes128gcm16-x25519-esn-noesn";
const SETTLE_LIMIT: Duration = Duration::from_secs(20);

fn start<'a>(topology: &'a Topology, configs: [GatewayConfig; 2]) -> Outcome<[Gateway<'a>; 2]> {
    let [config_a, config_b] = configs;
    let [space_a, space_b] = &topology.gateways;
    Ok([Gateway::start(space_a, config_a)?, Gateway::start(space_b, config_b)?])
}

fn reach(topology: &Topology, destination: &str) -> Outcome<()> {
    let [client, _] = &topology.clients;
    wait_for("an answer through the tunnel", SETTLE_LIMIT, || {
        client.run(&format!("ping -c1 -W1 {destination}")).map(|_| true)
    })
}

fn load(topology: &Topology) -> Outcome<Stream> {
    let [from, to] = &topology.clients;
    let address = CLIENT_V4[1].parse().expect("an address");
    Stream::start(from, (to, address, 9009), Duration::from_millis(1), 200)
}

fn flows_on(stream: &Stream, more: u64) -> Outcome<()> {
    let goal = stream.arrived() + more;
    wait_for("traffic to go on", SETTLE_LIMIT, || Ok(stream.arrived() >= goal))
}

fn ike_sas(gateway: &Gateway<'_>) -> Outcome<Vec<Value>> {
    let answer = gateway.query(&["list-sas"])?;
    Ok(answer["ike_sas"].as_array().cloned().unwrap_or_default())
}

#[test]
fn a_tunnel_by_certificates_over_every_outer_form() -> Outcome<()> {
    require_privileges!("a_tunnel_by_certificates_over_every_outer_form");
    let topology = Topology::create()?;
    let capture = Capture::start(&topology.wire, "port-a", &PROTECTED, 0)?;
    for (outer, lines) in [(Outer::V4, ""), (Outer::V4, "encap = true"), (Outer::V6, "")] {
        let [config_a, config_b] = ike_tunnel(outer, Proof::Certificates, PROPOSAL, lines, "");
        let [space_a, space_b] = &topology.gateways;
        let mut gateways =
            [Gateway::prepare(space_a, config_a)?, Gateway::prepare(space_b, config_b)?];
        let authority = Authority::create()?;
        for (gateway, name) in gateways.iter_mut().zip(ike_names()) {
            authority.issue(name, gateway.directory())?;
            gateway.start_control()?;
            gateway.start_dataplane()?;
            gateway.wait_healthy()?;
        }
        gateways[0].show(&["initiate", "--child", "net"])?;
        reach(&topology, CLIENT_V4[1])?;
        reach(&topology, CLIENT_V6[1])?;
        let sas = ike_sas(&gateways[1])?;
        assert_eq!(sas.len(), 1, "{sas:?}");
        assert_eq!(sas[0]["state"], "ESTABLISHED");
        gateways[0].show(&["terminate", "--ike", "peer"])?;
        for gateway in &gateways {
            wait_for("the SAs to be gone", SETTLE_LIMIT, || Ok(ike_sas(gateway)?.is_empty()))?;
        }
    }
    let sighting = capture.stop()?;
    assert!(sighting.nonce.total() > 0 && sighting.nonce.repeated.is_empty());
    Ok(())
}

#[test]
fn rekeyings_from_both_sides_lose_nothing() -> Outcome<()> {
    require_privileges!("rekeyings_from_both_sides_lose_nothing");
    let topology = Topology::create()?;
    let gateways = start(&topology, ike_tunnel(Outer::V4, Proof::Psk, PROPOSAL, "", ""))?;
    gateways[0].show(&["initiate", "--child", "net"])?;
    reach(&topology, CLIENT_V4[1])?;
    let stream = load(&topology)?;
    flows_on(&stream, 100)?;
    for round in 0..4 {
        let gateway = &gateways[round % 2];
        gateway.show(&["rekey", "--child", "net"])?;
        flows_on(&stream, 50)?;
        gateway.show(&["rekey", "--ike", "peer"])?;
        flows_on(&stream, 50)?;
    }
    let report = stream.stop()?;
    assert_eq!(report.sent, report.arrived, "lost in a rekeying: {report:?}");
    assert_eq!(report.duplicates, 0);
    for gateway in &gateways {
        let alive = || Ok(ike_sas(gateway)?.len() == 1);
        wait_for("one IKE SA to be left", SETTLE_LIMIT, alive)?;
    }
    Ok(())
}

#[test]
fn limits_of_packets_rekey_by_themselves() -> Outcome<()> {
    require_privileges!("limits_of_packets_rekey_by_themselves");
    let topology = Topology::create()?;
    let lines = "rekey_packets = 300\nlife_packets = 100000";
    let gateways = start(&topology, ike_tunnel(Outer::V4, Proof::Psk, PROPOSAL, "", lines))?;
    gateways[0].show(&["initiate", "--child", "net"])?;
    reach(&topology, CLIENT_V4[1])?;
    let first = newest_spi(&gateways[0])?;
    let stream = load(&topology)?;
    wait_for("another SPI", SETTLE_LIMIT, || {
        let now = newest_spi(&gateways[0])?;
        Ok(!now.is_null() && now != first)
    })?;
    flows_on(&stream, 100)?;
    let report = stream.stop()?;
    assert_eq!(report.sent, report.arrived, "lost in a rekeying: {report:?}");
    Ok(())
}

#[test]
fn a_packet_brings_a_trapped_tunnel_up_and_is_not_lost() -> Outcome<()> {
    require_privileges!("a_packet_brings_a_trapped_tunnel_up_and_is_not_lost");
    let topology = Topology::create()?;
    let lines = "start_action = \"trap\"";
    let gateways = start(&topology, ike_tunnel(Outer::V4, Proof::Psk, PROPOSAL, "", lines))?;
    let capture = Capture::start(&topology.wire, "port-a", &PROTECTED, 0)?;
    let [client, _] = &topology.clients;
    client.run(&format!("ping -c1 -W8 {}", CLIENT_V4[1]))?;
    assert_eq!(ike_sas(&gateways[0])?.len(), 1);
    assert_eq!(capture.stop()?.leak.leaks, 0);
    Ok(())
}

#[test]
fn a_wrong_key_leaves_nothing_behind_and_says_so() -> Outcome<()> {
    require_privileges!("a_wrong_key_leaves_nothing_behind_and_says_so");
    let topology = Topology::create()?;
    let mut configs = ike_tunnel(Outer::V4, Proof::Psk, PROPOSAL, "", "");
    configs[0].appendix = configs[0].appendix.replace("a key for a test", "another key");
    let mut gateways = start(&topology, configs)?;
    let refused = gateways[0].show(&["initiate", "--child", "net"]);
    assert!(refused.is_err(), "{refused:?}");
    for gateway in &gateways {
        wait_for("nothing to be left", SETTLE_LIMIT, || Ok(ike_sas(gateway)?.is_empty()))?;
    }
    let log = gateways[1].control()?.log();
    assert!(log.contains("MAC mismatched"), "{log}");
    assert!(!log.contains("a key for a test"));
    Ok(())
}

#[test]
fn ctl_02_control_is_killed_and_its_ike_sas_go_on() -> Outcome<()> {
    require_privileges!("ctl_02_control_is_killed_and_its_ike_sas_go_on");
    let topology = Topology::create()?;
    let mut gateways = start(&topology, ike_tunnel(Outer::V4, Proof::Psk, PROPOSAL, "", ""))?;
    gateways[0].show(&["initiate", "--child", "net"])?;
    reach(&topology, CLIENT_V4[1])?;
    let stream = load(&topology)?;
    for side in [0, 1, 0, 1] {
        flows_on(&stream, 50)?;
        let gateway = &mut gateways[side];
        gateway.control()?.kill()?;
        flows_on(&stream, 50)?;
        gateway.start_control()?;
        gateway.wait_healthy()?;
        let sas = ike_sas(gateway)?;
        assert_eq!(sas.len(), 1, "the IKE SA is adopted again: {sas:?}");
        // It is the same one as the peer's: a rekeying needs both to agree on it.
        gateway.show(&["rekey", "--child", "net"])?;
        gateway.show(&["rekey", "--ike", "peer"])?;
    }
    flows_on(&stream, 50)?;
    let report = stream.stop()?;
    assert_eq!(report.sent, report.arrived, "lost: {report:?}");
    Ok(())
}

/// The SPI that the newest child receives with.
fn newest_spi(gateway: &Gateway<'_>) -> Outcome<Value> {
    let sas = ike_sas(gateway)?;
    let mut children = sas.iter().filter_map(|sa| sa["children"].as_array()).flatten();
    let newest = children.rfind(|child| child["state"] == "INSTALLED");
    Ok(newest.map(|child| child["spi_in"].clone()).unwrap_or_default())
}

#[test]
fn ctl_03_without_control_an_sa_goes_on_to_its_hard_limit_and_no_further() -> Outcome<()> {
    require_privileges!("ctl_03_without_control_an_sa_goes_on_to_its_hard_limit_and_no_further");
    let topology = Topology::create()?;
    let mut configs = ike_tunnel(Outer::V4, Proof::Psk, PROPOSAL, "", "");
    // The sender's limits alone, and traffic brings its tunnel up again.
    let lines = "rekey_packets = 300\nlife_packets = 4000\nstart_action = \"trap\"";
    let proposals = format!("esp_proposals = [{PROPOSAL:?}]");
    let with_limits = format!("{proposals}\n{lines}");
    configs[0].appendix = configs[0].appendix.replace(&proposals, &with_limits);
    let mut gateways = start(&topology, configs)?;
    let capture = Capture::start(&topology.wire, "port-a", &PROTECTED, 0)?;
    gateways[0].show(&["initiate", "--child", "net"])?;
    reach(&topology, CLIENT_V4[1])?;
    let first = newest_spi(&gateways[0])?;

    // Past the soft limit nothing happens but that it goes on; on return it is rekeyed.
    gateways[0].control()?.terminate(SETTLE_LIMIT)?;
    let stream = load(&topology)?;
    flows_on(&stream, 1_000)?;
    assert_eq!(gateways[0].drops("sa_expired")?, 0);
    gateways[0].start_control()?;
    gateways[0].wait_healthy()?;
    wait_for("another SPI", SETTLE_LIMIT, || {
        let now = newest_spi(&gateways[0])?;
        Ok(!now.is_null() && now != first)
    })?;
    flows_on(&stream, 50)?;
    let report = stream.stop()?;
    assert_eq!(report.sent, report.arrived, "lost before the hard limit: {report:?}");

    // Past the hard limit nothing leaves any more, in clear or sealed.
    gateways[0].control()?.terminate(SETTLE_LIMIT)?;
    let stream = load(&topology)?;
    wait_for("packets to be dropped", SETTLE_LIMIT * 2, || {
        Ok(gateways[0].drops("sa_expired")? > 500)
    })?;
    let arrived = stream.arrived();
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(stream.arrived(), arrived, "past the hard limit");
    assert!(arrived <= 4_000, "{arrived} packets arrived by an SA for 4000");
    gateways[0].start_control()?;
    gateways[0].wait_healthy()?;
    flows_on(&stream, 200)?;
    stream.stop()?;
    let sighting = capture.stop()?;
    assert_eq!(sighting.leak.leaks, 0, "in clear: {:02x?}", sighting.leak.first_leak);
    assert!(sighting.nonce.repeated.is_empty(), "{:?}", sighting.nonce.repeated);
    Ok(())
}
