//! What reaches a worker, what the kernel, and what nobody.
//!
//! Needs root and the built daemons; run by `cargo xtask test --only steer`.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;
use xswan_testkit::capture::Capture;
use xswan_testkit::failure::Outcome;
use xswan_testkit::gateway::Gateway;
use xswan_testkit::process::wait_for;
use xswan_testkit::require_privileges;
use xswan_testkit::topology::{
    CLIENT_V4, CLIENT_V6, INNER_V4, INNER_V6, OUTER_V4, OUTER_V6, Outer, Topology, tunnel,
};

const PROTECTED: [&str; 4] = [INNER_V4[0], INNER_V4[1], INNER_V6[0], INNER_V6[1]];
const SETTLE_LIMIT: Duration = Duration::from_secs(20);
const END_LIMIT: Duration = Duration::from_secs(30);

fn pair(topology: &Topology) -> Outcome<[Gateway<'_>; 2]> {
    let [config_a, config_b] = tunnel(Outer::V4, false, "aes128gcm16-esn")?;
    let [space_a, space_b] = &topology.gateways;
    Ok([Gateway::start(space_a, config_a)?, Gateway::start(space_b, config_b)?])
}

fn answers(topology: &Topology, destination: &str) -> Outcome<()> {
    let [client, _] = &topology.clients;
    wait_for(&format!("an answer from {destination}"), SETTLE_LIMIT, || {
        client.run(&format!("ping -c1 -W1 {destination}")).map(|_| true)
    })
}

#[test]
fn str_13_neighbours_ping_and_other_udp_reach_the_kernel() -> Outcome<()> {
    require_privileges!("str_13_neighbours_ping_and_other_udp_reach_the_kernel");
    let topology = Topology::create()?;
    let _gateways = pair(&topology)?;
    let [a, b] = &topology.gateways;
    // Neighbour entries are thrown away first, so that ARP and ND have to pass too.
    a.ip("neigh flush all")?;
    for destination in [OUTER_V4[1], OUTER_V6[1]] {
        a.run(&format!("ping -q -c20 -i0.01 -W2 {destination}"))?;
    }
    let listener = b.enter(|| UdpSocket::bind("[::]:5353"))??;
    listener.set_read_timeout(Some(SETTLE_LIMIT))?;
    let sender = a.enter(|| UdpSocket::bind("0.0.0.0:0"))??;
    let mut buffer = [0; 64];
    for number in 0..100u8 {
        sender.send_to(&[number], (OUTER_V4[1], 5353))?;
        let (length, _) = listener.recv_from(&mut buffer)?;
        assert_eq!(buffer.get(..length), Some(&[number][..]));
    }
    Ok(())
}

#[test]
fn str_02_str_03_ike_reaches_the_kernel_and_keepalives_nobody() -> Outcome<()> {
    require_privileges!("str_02_str_03_ike_reaches_the_kernel_and_keepalives_nobody");
    let topology = Topology::create()?;
    let gateways = pair(&topology)?;
    let [a, b] = &topology.gateways;
    let bind = |port: u16| b.enter(|| UdpSocket::bind(("0.0.0.0", port)));
    let (ike, nat) = (bind(500)??, bind(4500)??);
    let sender = a.enter(|| UdpSocket::bind("0.0.0.0:0"))??;
    for listener in [&ike, &nat] {
        listener.set_read_timeout(Some(SETTLE_LIMIT))?;
    }
    let send = |payload: &[u8], port: u16| {
        let target: SocketAddr = format!("{}:{port}", OUTER_V4[1]).parse().expect("an address");
        sender.send_to(payload, target)
    };
    let mut buffer = [0; 64];
    send(b"an initiator's cookie", 500)?;
    assert_eq!(ike.recv(&mut buffer)?, 21);
    let keepalives = gateways[1].drops("keepalive")?;
    send(&[0xff], 4500)?;
    send(&[0, 0, 0], 4500)?;
    send(&[0, 0, 0x99, 0x99, 1, 2, 3, 4], 4500)?;
    send(b"\0\0\0\0behind the non-ESP marker", 4500)?;
    // Of the four only the last may come, so it comes first.
    assert_eq!(nat.recv(&mut buffer)?, 29);
    wait_for("the keepalive to be counted", SETTLE_LIMIT, || {
        Ok(gateways[1].drops("keepalive")? == keepalives + 1)
    })
}

#[test]
fn str_07_without_a_dataplane_protected_traffic_is_dropped_not_forwarded() -> Outcome<()> {
    require_privileges!("str_07_without_a_dataplane_protected_traffic_is_dropped_not_forwarded");
    let topology = Topology::create()?;
    let mut gateways = pair(&topology)?;
    answers(&topology, CLIENT_V4[1])?;
    let capture = Capture::start(&topology.wire, "port-a", &PROTECTED, 0)?;
    gateways[0].dataplane()?.kill()?;
    for destination in [CLIENT_V4[1], CLIENT_V6[1]] {
        let refused = topology.clients[0].run(&format!("ping -q -c20 -i0.05 -W1 {destination}"));
        assert!(refused.is_err(), "traffic went on without a dataplane");
    }
    let sighting = capture.stop()?;
    assert_eq!(sighting.leak.leaks, 0, "in clear: {:02x?}", sighting.leak.first_leak);
    gateways[0].start_dataplane()?;
    gateways[0].wait_healthy()?;
    answers(&topology, CLIENT_V4[1])
}

#[test]
fn str_11_pins_outside_bpffs_are_refused_in_one_line() -> Outcome<()> {
    require_privileges!("str_11_pins_outside_bpffs_are_refused_in_one_line");
    let topology = Topology::create()?;
    let [config, _] = tunnel(Outer::V4, false, "aes128gcm16-esn")?;
    let mut gateway = Gateway::prepare(&topology.gateways[0], config)?;
    let plain = gateway.directory().join("not-bpffs");
    std::fs::create_dir_all(&plain)?;
    let text = std::fs::read_to_string(gateway.file())?;
    let pins = xswan_testkit::gateway::bpf_directory();
    std::fs::write(gateway.file(), text.replace(&pins, &plain.display().to_string()))?;
    gateway.start_dataplane()?;
    let daemon = gateway.dataplane()?;
    assert!(!daemon.wait(END_LIMIT)?.success());
    let log = daemon.log();
    assert!(log.contains("bpf"), "{log}");
    let link = topology.gateways[0].ip("-d link show dev eth0")?;
    assert!(!link.contains("xdp"), "something is attached: {link}");
    Ok(())
}

#[test]
fn xsk_12_a_second_instance_on_the_same_device_gives_up_and_the_first_goes_on() -> Outcome<()> {
    require_privileges!(
        "xsk_12_a_second_instance_on_the_same_device_gives_up_and_the_first_goes_on"
    );
    let topology = Topology::create()?;
    let _gateways = pair(&topology)?;
    answers(&topology, CLIENT_V4[1])?;
    let [config, _] = tunnel(Outer::V4, false, "aes128gcm16-esn")?;
    let mut second = Gateway::prepare(&topology.gateways[0], config)?;
    second.start_control()?;
    second.start_dataplane()?;
    let daemon = second.dataplane()?;
    assert!(!daemon.wait(END_LIMIT)?.success());
    assert!(daemon.log().contains("eth"), "{}", daemon.log());
    topology.clients[0].run(&format!("ping -q -c20 -i0.01 -W2 {}", CLIENT_V4[1]))?;
    Ok(())
}
