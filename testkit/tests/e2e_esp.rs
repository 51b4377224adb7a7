//! ESP between real gateways, and between a gateway and an independent peer.
//!
//! Needs root and the built daemons; run by `cargo xtask test --only esp`.
#![expect(clippy::expect_used, reason = "a test stops at the first surprise")]

use serde_json::{Value, json};
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;
use xswan_testkit::capture::{Capture, Sighting, look};
use xswan_testkit::failure::{Failure, Outcome};
use xswan_testkit::gateway::{Connection, Gateway};
use xswan_testkit::process::{ScratchDirectory, wait_for};
use xswan_testkit::raw_socket::RawSocket;
use xswan_testkit::topology::{
    self, CLIENT_V4, CLIENT_V6, INNER_V4, INNER_V6, Outer, Topology, tunnel, tunnel_ends,
};
use xswan_testkit::traffic::EchoServer;
use xswan_testkit::{netns, packet, require_privileges};

const PROTECTED: [&str; 4] = [INNER_V4[0], INNER_V4[1], INNER_V6[0], INNER_V6[1]];
const PROPOSALS: [&str; 7] = [
    "aes128gcm16",
    "aes192gcm16",
    "aes256gcm16",
    "chacha20poly1305",
    "aes256-sha256",
    "aes192-sha384",
    "aes128-sha512",
];
const PYTHON: &str = "/usr/bin/python3";
const ECHO_PORT: u16 = 7007;
/// Packets exchanged with the independent peer over all transforms.
const PEER_PACKETS: u64 = 10_000;
const SETTLE_LIMIT: Duration = Duration::from_secs(20);

fn first_answer(topology: &Topology, destination: &str) -> Outcome<()> {
    let [client, _] = &topology.clients;
    wait_for(&format!("an answer from {destination}"), SETTLE_LIMIT, || {
        client.run(&format!("ping -c1 -W1 {destination}")).map(|_| true)
    })
}

/// Both gateways up and both families answering.
fn settled<'a>(
    topology: &'a Topology,
    outer: Outer,
    encap: bool,
    proposal: &str,
) -> Outcome<[Gateway<'a>; 2]> {
    let [config_a, config_b] = tunnel(outer, encap, proposal)?;
    let [space_a, space_b] = &topology.gateways;
    let gateways = [Gateway::start(space_a, config_a)?, Gateway::start(space_b, config_b)?];
    first_answer(topology, CLIENT_V4[1])?;
    first_answer(topology, CLIENT_V6[1])?;
    Ok(gateways)
}

fn assert_clean(sighting: &Sighting) {
    assert_eq!(sighting.lost, 0, "the capture lost frames");
    assert_eq!(sighting.leak.leaks, 0, "in clear: {:02x?}", sighting.leak.first_leak);
    assert!(sighting.nonce.repeated.is_empty(), "IVs twice: {:?}", sighting.nonce.repeated);
}

#[test]
fn every_outer_form_carries_both_inner_families() -> Outcome<()> {
    require_privileges!("every_outer_form_carries_both_inner_families");
    for (outer, encap, proposal) in [
        (Outer::V4, false, "aes128gcm16-esn"),
        (Outer::V4, true, "aes256gcm16-noesn"),
        (Outer::V6, false, "chacha20poly1305-esn"),
        (Outer::V6, true, "aes192gcm16-esn"),
    ] {
        let topology = Topology::create()?;
        let capture = Capture::start(&topology.wire, "port-a", &PROTECTED, 0)?;
        let gateways = settled(&topology, outer, encap, proposal)?;
        for destination in [CLIENT_V4[1], CLIENT_V6[1]] {
            topology.clients[0].run(&format!("ping -q -c20 -i0.01 -W2 {destination}"))?;
        }
        let sas = gateways[0].query(&["list-sas"])?.to_string();
        assert!(sas.contains("1001") && sas.contains("2001"), "{sas}");
        let sighting = capture.stop()?;
        assert_clean(&sighting);
        assert!(sighting.nonce.total() >= 80, "{:?}", sighting.nonce.packets);
    }
    Ok(())
}

/// The largest inner packet whose ESP fits 1500 bytes (RFC 4303 section 2.4 alignment).
fn largest_inner(outer: Outer, encap: bool, cipher: &str) -> u64 {
    let header = if outer == Outer::V4 { 20 } else { 40 };
    // IV, ICV and block of AES-CBC with each HMAC (RFC 3602, RFC 4868).
    let (iv, icv, block) = match cipher.split_once("-sha").map(|(_, hash)| &hash[..3]) {
        Some("256") => (16, 16, 16),
        Some("384") => (16, 24, 16),
        Some("512") => (16, 32, 16),
        _ => (8, 16, 4),
    };
    let room = 1500 - header - if encap { 8 } else { 0 } - 8 - iv - icv;
    room / block * block - 2
}

fn peer_sa(end: &Connection, outbound: bool) -> Value {
    let sa = end.sa.as_ref().expect("the end has keys");
    let (spi, key) =
        if outbound { (sa.spi_out, sa.key_out.hex()) } else { (sa.spi_in, sa.key_in.hex()) };
    let (here, there) = (&end.local_address, &end.remote_address);
    let (source, destination) = if outbound { (here, there) } else { (there, here) };
    let (algorithm, esn) = end.proposal.rsplit_once('-').expect("a proposal says esn or noesn");
    json!({
        "algorithm": algorithm, "key": key, "spi": spi, "esn": esn == "esn",
        "encap": end.encap, "source": source, "destination": destination,
    })
}

/// Every transform, both ESN settings, raw and in UDP, both outer families: 56 tunnels.
fn peer_tunnels() -> Outcome<(Vec<Connection>, Vec<Value>)> {
    let (mut connections, mut plans) = (Vec::new(), Vec::new());
    let forms = PROPOSALS.iter().flat_map(|cipher| {
        ["esn", "noesn"].into_iter().flat_map(move |esn| {
            [(Outer::V4, false), (Outer::V4, true), (Outer::V6, false), (Outer::V6, true)]
                .map(|(outer, encap)| (format!("{cipher}-{esn}"), outer, encap))
        })
    });
    for (number, (proposal, outer, encap)) in forms.enumerate() {
        let name = format!("t{number}");
        let number = u32::try_from(number).expect("56 tunnels");
        let [mut ours, theirs] = tunnel_ends(&name, number, outer, encap, &proposal)?;
        ours.local_ts = vec![INNER_V4[0].to_owned(), INNER_V6[0].to_owned()];
        ours.remote_ts = vec![format!("10.2.{number}.0/24"), format!("2001:db8:b:{number:x}::/64")];
        plans.push(json!({
            "seal": peer_sa(&theirs, true), "open": peer_sa(&theirs, false),
            "inner": [format!("10.2.{number}.9"), format!("2001:db8:b:{number:x}::9")],
            "mtu": largest_inner(outer, encap, &proposal),
        }));
        connections.push(ours);
    }
    Ok((connections, plans))
}

fn run_peer(
    topology: &Topology,
    plans: Vec<Value>,
    packets: u64,
    pcap: Option<&Path>,
) -> Outcome<Value> {
    let scratch = ScratchDirectory::create("peer")?;
    let [gateway, peer] = &topology.gateways;
    let plan = json!({
        "device": "eth0",
        "device_mac": mac_text(peer.mac("eth0")?),
        "gateway_mac": mac_text(gateway.mac("eth0")?),
        "client": [CLIENT_V4[0], CLIENT_V6[0]],
        "port": ECHO_PORT,
        "pcap": pcap,
        "tunnels": plans,
        "packets": packets,
    });
    let file = scratch.path().join("plan.json");
    std::fs::write(&file, plan.to_string())?;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scapy/peer.py");
    let mut command = peer.command(PYTHON);
    command.arg("-B").arg(script).arg("live").arg(&file);
    let text = netns::run(&mut command)?;
    Ok(serde_json::from_str(text.lines().last().unwrap_or_default())?)
}

fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|octet| format!("{octet:02x}")).join(":")
}

fn assert_peer_content(report: &Value, packets: u64) {
    let mismatches = report["mismatches"].as_array().expect("a list");
    assert!(mismatches.is_empty(), "{} mismatches: {:?}", mismatches.len(), mismatches.first());
    assert_eq!(report["answered"].as_u64(), Some(packets), "{report}");
    assert_eq!(report["lost"].as_u64(), Some(0), "{report}");
}

#[test]
fn independent_peer_every_transform_10_000_packets_0_mismatches() -> Outcome<()> {
    require_privileges!("independent_peer_every_transform_10_000_packets_0_mismatches");
    let topology = Topology::create()?;
    let (connections, plans) = peer_tunnels()?;
    let mut config = topology::instance("ga");
    config.connections = connections;
    let capture = Capture::start(&topology.wire, "port-a", &PROTECTED, 0)?;
    let gateway = Gateway::start(&topology.gateways[0], config)?;
    let _echo = EchoServer::start(&topology.clients[0], ECHO_PORT)?;
    // The first packets find neighbours that nobody has asked for yet.
    topology.gateways[0].run(&format!("ping -c1 -W2 {}", CLIENT_V4[0]))?;
    topology.gateways[0].run(&format!("ping -c1 -W2 {}", CLIENT_V6[0]))?;
    let report = run_peer(&topology, plans, PEER_PACKETS, None)?;
    assert_peer_content(&report, PEER_PACKETS);
    assert_eq!(gateway.drops("auth_fail")?, 0);
    let sighting = capture.stop()?;
    assert_eq!(sighting.leak.leaks, 0, "in clear: {:02x?}", sighting.leak.first_leak);
    Ok(())
}

#[test]
fn tshark_opens_a_run_with_the_keys() -> Outcome<()> {
    require_privileges!("tshark_opens_a_run_with_the_keys");
    let topology = Topology::create()?;
    let [mut ours, theirs] = tunnel_ends("t", 0, Outer::V4, false, "aes256gcm16-noesn")?;
    ours.local_ts = vec![INNER_V4[0].to_owned(), INNER_V6[0].to_owned()];
    ours.remote_ts = vec![INNER_V4[1].to_owned(), INNER_V6[1].to_owned()];
    let plan = json!({
        "seal": peer_sa(&theirs, true), "open": peer_sa(&theirs, false),
        "inner": [CLIENT_V4[1], CLIENT_V6[1]], "mtu": largest_inner(Outer::V4, false, "aes256gcm16"),
    });
    let mut config = topology::instance("ga");
    config.connections.push(ours);
    let _gateway = Gateway::start(&topology.gateways[0], config)?;
    let _echo = EchoServer::start(&topology.clients[0], ECHO_PORT)?;
    let scratch = ScratchDirectory::create("tshark")?;
    let pcap = scratch.path().join("run.pcap");
    let report = run_peer(&topology, vec![plan], 100, Some(&pcap))?;
    assert_peer_content(&report, 100);
    let goods = tshark_icv(&pcap, &theirs)?;
    assert!(goods.len() >= 200, "{} ESP packets", goods.len());
    assert!(goods.iter().all(|(good, inner)| good == "1" && !inner.is_empty()), "{goods:?}");
    Ok(())
}

/// For each ESP packet: whether tshark finds the ICV good, and the inner UDP port it sees.
fn tshark_icv(pcap: &Path, end: &Connection) -> Outcome<Vec<(String, String)>> {
    let sa = end.sa.as_ref().ok_or("the end has no keys")?;
    let line = |from: &str, to: &str, spi: u32, key: &str| {
        format!(
            "uat:esp_sa:\"IPv4\",\"{from}\",\"{to}\",\"{spi:#010x}\",\"AES-GCM with 16 octet ICV \
             [RFC4106]\",\"0x{key}\",\"NULL\",\"\""
        )
    };
    let (here, there) = (&end.local_address, &end.remote_address);
    let mut command = std::process::Command::new("tshark");
    command.arg("-n").arg("-r").arg(pcap);
    command.args(["-o", "esp.enable_encryption_decode:TRUE"]);
    command.args(["-o", "esp.enable_authentication_check:TRUE"]);
    command.args(["-o", &line(here, there, sa.spi_out, sa.key_out.hex())]);
    command.args(["-o", &line(there, here, sa.spi_in, sa.key_in.hex())]);
    command.args(["-Y", "esp", "-T", "fields", "-e", "esp.icv_good", "-e", "udp.dstport"]);
    let text = netns::run(&mut command)?;
    let pair = |row: &str| {
        let (good, inner) = row.split_once('\t').unwrap_or((row, ""));
        (good.replace("True", "1"), inner.to_owned())
    };
    Ok(text.lines().map(pair).collect())
}

/// ESP frames seen on the wire towards gateway B, as they were.
fn recorded(sighting: &Sighting) -> Vec<Vec<u8>> {
    let to_b: IpAddr = topology::OUTER_V4[1].parse().expect("an address");
    let frames = sighting.kept.iter().map(|captured| &captured.frame);
    frames
        .filter(|frame| {
            let seen = look(frame);
            seen.esp.is_some() && seen.addresses.is_some_and(|(_, to)| to == to_b)
        })
        .cloned()
        .collect()
}

fn wait_for_drops(gateway: &Gateway<'_>, name: &str, at_least: u64) -> Outcome<u64> {
    let mut count = 0;
    let waited = wait_for(&format!("{at_least} drops of {name}"), SETTLE_LIMIT, || {
        count = gateway.drops(name)?;
        Ok(count >= at_least)
    });
    waited.map_err(|failure| Failure::new(format!("{failure}: {count} so far"))).map(|()| count)
}

#[test]
fn rep_01_a_recorded_run_played_again_is_dropped_packet_by_packet() -> Outcome<()> {
    require_privileges!("rep_01_a_recorded_run_played_again_is_dropped_packet_by_packet");
    let topology = Topology::create()?;
    let gateways = settled(&topology, Outer::V4, false, "aes128gcm16-esn")?;
    let capture = Capture::start(&topology.wire, "port-a", &PROTECTED, 10_000)?;
    topology.clients[0].run(&format!("ping -q -c50 -i0.01 -W2 {}", CLIENT_V4[1]))?;
    let frames = recorded(&capture.stop()?);
    assert!(frames.len() >= 50);
    let before = gateways[1].drops("replay_dup")?;
    let clear = Capture::start(&topology.clients[1], "eth0", &[], 1000)?;
    // The bridge learns addresses from frames, so what is put on A's device reaches B.
    let injector = RawSocket::open(&topology.gateways[0], "eth0", false)?;
    for frame in frames.iter().chain(&frames) {
        injector.send(frame)?;
    }
    let expected = u64::try_from(frames.len()).unwrap_or(0) * 2;
    let count = wait_for_drops(&gateways[1], "replay_dup", before + expected)? - before;
    assert_eq!(count, expected);
    let from: IpAddr = CLIENT_V4[0].parse().expect("an address");
    let sighting = clear.stop()?;
    let arrived = sighting.kept.iter().filter(|captured| {
        look(&captured.frame).addresses.is_some_and(|(source, _)| source == from)
    });
    assert_eq!(arrived.count(), 0, "a replayed packet reached the client");
    Ok(())
}

#[test]
fn esp_02_flipped_bits_on_the_wire_are_all_accounted_for() -> Outcome<()> {
    require_privileges!("esp_02_flipped_bits_on_the_wire_are_all_accounted_for");
    let topology = Topology::create()?;
    let gateways = settled(&topology, Outer::V4, false, "aes128gcm16-esn")?;
    let capture = Capture::start(&topology.wire, "port-a", &PROTECTED, 1000)?;
    topology.clients[0].run(&format!("ping -q -c3 -i0.1 -W2 {}", CLIENT_V4[1]))?;
    let frames = recorded(&capture.stop()?);
    let frame = frames.first().ok_or("no ESP was recorded")?;
    let names =
        ["auth_fail", "unknown_spi", "reserved_spi", "replay_dup", "replay_old", "replay_zero"];
    let sum = |gateway: &Gateway<'_>| -> Outcome<u64> {
        names.iter().map(|name| gateway.drops(name)).sum()
    };
    let before = sum(&gateways[1])?;
    let injector = RawSocket::open(&topology.gateways[0], "eth0", false)?;
    // Everything behind the Ethernet and IP headers belongs to ESP.
    let bits = (frame.len() - 34) * 8;
    for bit in 0..bits {
        let mut mutant = frame.clone();
        mutant[34 + bit / 8] ^= 1 << (bit % 8);
        injector.send(&mutant)?;
    }
    let expected = u64::try_from(bits).unwrap_or(0);
    wait_for("every mutant to be counted", SETTLE_LIMIT, || {
        Ok(sum(&gateways[1])? - before >= expected)
    })?;
    assert_eq!(sum(&gateways[1])? - before, expected);
    first_answer(&topology, CLIENT_V4[1])
}

#[test]
fn esp_13_unknown_spis_are_counted_and_nobody_is_told() -> Outcome<()> {
    require_privileges!("esp_13_unknown_spis_are_counted_and_nobody_is_told");
    const PACKETS: u64 = 20_000;
    let topology = Topology::create()?;
    let gateways = settled(&topology, Outer::V4, false, "aes128gcm16-esn")?;
    let names = ["unknown_spi", "reserved_spi"];
    let sum = |gateway: &Gateway<'_>| -> Outcome<u64> {
        names.iter().map(|name| gateway.drops(name)).sum()
    };
    let before = sum(&gateways[1])?;
    let capture = Capture::start(&topology.wire, "port-b", &PROTECTED, 100_000)?;
    let (from, to) = (&topology.gateways[0], &topology.gateways[1]);
    let injector = RawSocket::open(from, "eth0", false)?;
    let (source, destination) = (from.mac("eth0")?, to.mac("eth0")?);
    let mut noise = packet::Noise::new(13);
    let header = packet::Ipv4::new(
        topology::OUTER_V4[0].parse().expect("an address"),
        topology::OUTER_V4[1].parse().expect("an address"),
        packet::protocol::ESP,
    );
    for number in 0..PACKETS {
        let mut esp = vec![0; 60];
        noise.fill(&mut esp);
        esp[0] |= 0x80; // away from the static SPIs
        injector.send(&packet::frame(destination, source, &[], &header.packet(&esp)))?;
        if number % 200 == 0 {
            // Not a flood: this is about the count, and a small machine shares its cores.
            std::thread::sleep(Duration::from_millis(2));
        }
    }
    wait_for("every packet to be counted", SETTLE_LIMIT, || {
        Ok(sum(&gateways[1])? - before >= PACKETS)
    })?;
    assert_eq!(sum(&gateways[1])? - before, PACKETS);
    let icmp =
        capture.stop()?.kept.iter().filter(|captured| captured.frame.get(23) == Some(&1)).count();
    assert_eq!(icmp, 0, "an ICMP message answered an unknown SPI");
    first_answer(&topology, CLIENT_V4[1])
}

#[test]
fn tun_04_too_big_with_df_is_answered_with_the_mtu() -> Outcome<()> {
    require_privileges!("tun_04_too_big_with_df_is_answered_with_the_mtu");
    let topology = Topology::create()?;
    let _gateways = settled(&topology, Outer::V4, false, "aes128gcm16-esn")?;
    let [client, _] = &topology.clients;
    let mut ping = client.command("ping");
    ping.args(["-M", "do", "-c3", "-i0.3", "-W1", "-s", "1472", CLIENT_V4[1]]);
    let said = String::from_utf8_lossy(&ping.output()?.stdout).into_owned();
    let expected = largest_inner(Outer::V4, false, "aes128gcm16");
    assert!(said.contains("Frag needed"), "{said}");
    assert!(said.contains(&format!("mtu = {expected}")), "expected {expected}: {said}");
    let fitting = expected - 28;
    client.run(&format!("ping -M do -c2 -i0.2 -W2 -s {fitting} {}", CLIENT_V4[1]))?;
    Ok(())
}

#[test]
fn tun_08_a_clear_packet_from_outside_never_reaches_the_client() -> Outcome<()> {
    require_privileges!("tun_08_a_clear_packet_from_outside_never_reaches_the_client");
    const PACKETS: u64 = 100;
    let topology = Topology::create()?;
    let gateways = settled(&topology, Outer::V4, false, "aes128gcm16-esn")?;
    let before = gateways[1].drops("clear_text")?;
    let clear = Capture::start(&topology.clients[1], "eth0", &[], 10_000)?;
    let (from, to) = (&topology.gateways[0], &topology.gateways[1]);
    let injector = RawSocket::open(from, "eth0", false)?;
    let (source, destination) = (from.mac("eth0")?, to.mac("eth0")?);
    let address = |text: &str| text.parse::<IpAddr>().expect("an address");
    let probe = packet::udp((address(CLIENT_V4[0]), 666), (address(CLIENT_V4[1]), 666), b"probe");
    for _ in 0..PACKETS {
        injector.send(&packet::frame(destination, source, &[], &probe))?;
    }
    let count = wait_for_drops(&gateways[1], "clear_text", before + PACKETS)? - before;
    assert_eq!(count, PACKETS);
    let reached =
        clear.stop()?.kept.iter().filter(|captured| captured.frame.ends_with(b"probe")).count();
    assert_eq!(reached, 0);
    Ok(())
}
