//! Killing the daemons at any moment: nothing lost, nothing repeated, nothing in clear.
//!
//! Needs root and the built daemons; run by `cargo xtask test --only restart`.
#![expect(clippy::expect_used, reason = "a test stops at the first surprise")]

use std::time::Duration;
use xswan_testkit::capture::{Capture, Sighting};
use xswan_testkit::failure::Outcome;
use xswan_testkit::gateway::Gateway;
use xswan_testkit::process::wait_for;
use xswan_testkit::require_privileges;
use xswan_testkit::topology::{CLIENT_V4, INNER_V4, INNER_V6, Outer, Topology, tunnel};
use xswan_testkit::traffic::Stream;

const PROTECTED: [&str; 4] = [INNER_V4[0], INNER_V4[1], INNER_V6[0], INNER_V6[1]];
/// Kills of each daemon.
const KILLS: u64 = 100;
/// Restarts by SIGTERM.
const RESTARTS: usize = 10;
/// Reloads with a changed parameter.
const RELOADS: u64 = 20;
/// Time between two datagrams of the load.
const INTERVAL: Duration = Duration::from_millis(1);
const STREAM_PORT: u16 = 9009;
const PAYLOAD_BYTES: usize = 200;
/// The SPI that gateway a sends with in every tunnel of the topology.
const SPI_OUT_OF_A: u32 = 0x2001;
const SETTLE_LIMIT: Duration = Duration::from_secs(20);

fn pair(topology: &Topology) -> Outcome<[Gateway<'_>; 2]> {
    let [config_a, config_b] = tunnel(Outer::V4, false, "aes128gcm16-esn")?;
    let [space_a, space_b] = &topology.gateways;
    let gateways = [Gateway::start(space_a, config_a)?, Gateway::start(space_b, config_b)?];
    let [client, _] = &topology.clients;
    wait_for("a first answer", SETTLE_LIMIT, || {
        client.run(&format!("ping -c1 -W1 {}", CLIENT_V4[1])).map(|_| true)
    })?;
    Ok(gateways)
}

fn load(topology: &Topology) -> Outcome<Stream> {
    let [from, to] = &topology.clients;
    let address = CLIENT_V4[1].parse().expect("an address");
    Stream::start(from, (to, address, STREAM_PORT), INTERVAL, PAYLOAD_BYTES)
}

/// SPIs on the wire; the load goes one way, from client a to client b.
fn spis(sighting: &Sighting) -> Vec<u32> {
    let mut spis: Vec<u32> = sighting.nonce.packets.keys().copied().collect();
    spis.sort_unstable();
    spis
}

/// What holds whatever was restarted: nothing in clear, no nonce twice, the SA the same.
fn assert_sound(capture: Capture) -> Outcome<Sighting> {
    let sighting = capture.stop()?;
    assert_eq!(sighting.leak.leaks, 0, "in clear: {:02x?}", sighting.leak.first_leak);
    assert!(sighting.nonce.repeated.is_empty(), "{:?}", sighting.nonce.repeated);
    assert_eq!(spis(&sighting), [SPI_OUT_OF_A], "the SA is the one it was");
    Ok(sighting)
}

fn flows_on(stream: &Stream, more: u64) -> Outcome<()> {
    let goal = stream.arrived() + more;
    wait_for("traffic to go on", SETTLE_LIMIT, || Ok(stream.arrived() >= goal))
}

#[test]
fn ctl_02_killing_control_a_hundred_times_loses_nothing() -> Outcome<()> {
    require_privileges!("ctl_02_killing_control_a_hundred_times_loses_nothing");
    let topology = Topology::create()?;
    let mut gateways = pair(&topology)?;
    let capture = Capture::start(&topology.wire, "port-a", &PROTECTED, 0)?;
    let stream = load(&topology)?;
    flows_on(&stream, 100)?;
    for round in 0..KILLS {
        let gateway = &mut gateways[usize::from(round % 2 == 1)];
        gateway.control()?.kill()?;
        flows_on(&stream, 10)?;
        gateway.start_control()?;
        // Half of them are killed again while they are still starting.
        if round % 4 < 2 {
            gateway.wait_healthy()?;
        }
        flows_on(&stream, 10)?;
    }
    let report = stream.stop()?;
    let drops: Outcome<Vec<_>> = gateways.iter().map(|one| one.query(&["drops"])).collect();
    assert_eq!(report.sent - report.arrived, 0, "lost: {report:?}, {:?}", drops?);
    assert_eq!(report.duplicates, 0);
    assert_sound(capture)?;
    Ok(())
}

/// Packets in and out of the tunnel, as the daemons count them.
fn packets(gateway: &Gateway<'_>) -> Outcome<[u64; 2]> {
    let answer = gateway.query(&["list-sas"])?;
    let pair = &answer["static"][0];
    Ok(["in", "out"].map(|way| pair[way]["packets"].as_u64().unwrap_or(0)))
}

fn assert_not_back(before: [u64; 2], after: [u64; 2]) {
    let [inbound, outbound] = [0, 1].map(|way| before[way] <= after[way]);
    assert!(inbound && outbound, "counters went back: {before:?}, then {after:?}");
}

#[test]
fn ctl_01_a_graceful_restart_of_control_loses_nothing() -> Outcome<()> {
    require_privileges!("ctl_01_a_graceful_restart_of_control_loses_nothing");
    let topology = Topology::create()?;
    let mut gateways = pair(&topology)?;
    let capture = Capture::start(&topology.wire, "port-a", &PROTECTED, 0)?;
    let stream = load(&topology)?;
    flows_on(&stream, 100)?;
    for round in 0..RESTARTS {
        let gateway = &mut gateways[round % 2];
        let before = packets(gateway)?;
        let status = gateway.control()?.terminate(SETTLE_LIMIT)?;
        assert!(status.success(), "{status}");
        flows_on(&stream, 50)?;
        gateway.start_control()?;
        gateway.wait_healthy()?;
        assert_not_back(before, packets(gateway)?);
        flows_on(&stream, 50)?;
    }
    let report = stream.stop()?;
    assert_eq!((report.sent - report.arrived, report.duplicates), (0, 0), "{report:?}");
    // One way, and every one of them counted through all the restarts.
    wait_for("all to be counted", SETTLE_LIMIT, || {
        Ok(packets(&gateways[0])?[1] >= report.sent && packets(&gateways[1])?[0] >= report.arrived)
    })?;
    assert_sound(capture)?;
    Ok(())
}

/// In between, packets are dropped, which is documented: there is nobody to seal them.
#[test]
fn ctl_01_a_graceful_restart_of_the_dataplane_goes_on_with_the_same_sas() -> Outcome<()> {
    require_privileges!("ctl_01_a_graceful_restart_of_the_dataplane_goes_on_with_the_same_sas");
    let topology = Topology::create()?;
    let mut gateways = pair(&topology)?;
    let capture = Capture::start(&topology.wire, "port-a", &PROTECTED, 0)?;
    let stream = load(&topology)?;
    flows_on(&stream, 100)?;
    for round in 0..RESTARTS {
        let gateway = &mut gateways[round % 2];
        let before = packets(gateway)?;
        let status = gateway.dataplane()?.terminate(SETTLE_LIMIT)?;
        assert!(status.success(), "{status}");
        gateway.start_dataplane()?;
        gateway.wait_healthy()?;
        assert_not_back(before, packets(gateway)?);
        flows_on(&stream, 50)?;
    }
    let report = stream.stop()?;
    assert_eq!(report.duplicates, 0, "{report:?}");
    wait_for("all that arrived to be counted", SETTLE_LIMIT, || {
        Ok(packets(&gateways[1])?[0] >= report.arrived)
    })?;
    assert_sound(capture)?;
    Ok(())
}

#[test]
fn killing_the_dataplane_a_hundred_times_repeats_no_iv() -> Outcome<()> {
    require_privileges!("killing_the_dataplane_a_hundred_times_repeats_no_iv");
    let topology = Topology::create()?;
    let mut gateways = pair(&topology)?;
    let capture = Capture::start(&topology.wire, "port-a", &PROTECTED, 0)?;
    let stream = load(&topology)?;
    flows_on(&stream, 100)?;
    for round in 0..KILLS {
        let gateway = &mut gateways[usize::from(round % 2 == 1)];
        gateway.dataplane()?.kill()?;
        gateway.start_dataplane()?;
        flows_on(&stream, 20)?;
    }
    let report = stream.stop()?;
    assert_eq!(report.duplicates, 0, "a replay was accepted: {report:?}");
    assert!(report.arrived >= KILLS * 20);
    let sighting = assert_sound(capture)?;
    assert_eq!(sighting.lost, 0, "the capture lost frames");
    Ok(())
}

#[test]
fn reloading_other_parameters_under_load_loses_nothing() -> Outcome<()> {
    require_privileges!("reloading_other_parameters_under_load_loses_nothing");
    let topology = Topology::create()?;
    let mut gateways = pair(&topology)?;
    let capture = Capture::start(&topology.wire, "port-a", &PROTECTED, 0)?;
    let stream = load(&topology)?;
    flows_on(&stream, 100)?;
    for round in 0..RELOADS {
        let gateway = &mut gateways[usize::from(round % 2 == 1)];
        let tunnel = gateway.config.connections.first_mut().expect("the tunnel");
        tunnel.child_lines = vec![format!("ttl = {}", 40 + round)];
        gateway.write_config()?;
        let report = gateway.query(&["reload"])?;
        assert_eq!(report["installed"], 0, "{report}");
        assert!(report["updated"].as_u64() > Some(0), "{report}");
        flows_on(&stream, 20)?;
    }
    let report = stream.stop()?;
    assert_eq!((report.sent - report.arrived, report.duplicates), (0, 0), "{report:?}");
    assert_sound(capture)?;
    for gateway in &gateways {
        assert_eq!(gateway.drops("replay_dup")? + gateway.drops("unknown_spi")?, 0);
    }
    Ok(())
}
