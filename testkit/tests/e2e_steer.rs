//! What reaches a worker, what the kernel, and what nobody.
//!
//! Needs root and the built daemons; run by `cargo xtask test --only steer`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use xswan_sa_api::{SteerMaps, SteerPrefix};
use xswan_steer::abi::{MAX_OUTER, MAX_PREFIXES, PREFIX_REMOTE, PrefixValue};
use xswan_testkit::capture::Capture;
use xswan_testkit::failure::{Failure, Outcome};
use xswan_testkit::gateway::{self, Connection, Gateway};
use xswan_testkit::process::wait_for;
use xswan_testkit::require_privileges;
use xswan_testkit::topology::{
    CLIENT_V4, CLIENT_V6, INNER_V4, INNER_V6, OUTER_V4, OUTER_V6, Outer, Topology, tunnel,
};
use xswan_testkit::traffic::Stream;

const PROTECTED: [&str; 4] = [INNER_V4[0], INNER_V4[1], INNER_V6[0], INNER_V6[1]];
const SETTLE_LIMIT: Duration = Duration::from_secs(20);
/// Changes of steering maps while traffic flows, and their rate at least.
const CHANGES: u64 = 100_000;
const CHANGES_PER_SECOND: u64 = 10_000;
/// Times that control is made to read its configuration again meanwhile.
const RELOADS: usize = 50;
/// Packets that pass meanwhile at least.
const PACKETS: u64 = 2000;
const STREAM_PORT: u16 = 9011;
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

fn maps_of(gateway: &Gateway<'_>) -> Outcome<SteerMaps> {
    let directory = Path::new(&gateway::bpf_directory()).join(&gateway.config.instance);
    SteerMaps::open_or_create(&directory).map_err(|error| Failure::new(error.to_string()))
}

/// Prefixes and SPIs that no packet has, put in and taken out again until told to stop.
fn churn(maps: &SteerMaps, stop: &AtomicBool, changes: &AtomicU64) -> std::io::Result<()> {
    let value = PrefixValue { flags: PREFIX_REMOTE, worker: 0 };
    for number in (0..=255_u8).cycle() {
        if stop.load(Ordering::Relaxed) {
            return Ok(());
        }
        // Neighbours in the tree of the prefixes that traffic uses, and in the table of SPIs.
        let address = IpAddr::from(Ipv4Addr::new(10, 3, number, 0));
        let prefix = SteerPrefix { address, length: 24 };
        let spi = 0x7000_0000 | u32::from(number);
        maps.set_prefix(prefix, value)?;
        maps.set_spi(spi, 0)?;
        maps.remove_prefix(prefix)?;
        maps.remove_spi(spi)?;
        changes.fetch_add(4, Ordering::Relaxed);
    }
    Ok(())
}

#[test]
fn str_06_ten_thousand_map_changes_a_second_lose_no_packet() -> Outcome<()> {
    require_privileges!("str_06_ten_thousand_map_changes_a_second_lose_no_packet");
    let topology = Topology::create()?;
    let gateways = pair(&topology)?;
    answers(&topology, CLIENT_V4[1])?;
    let maps = [maps_of(&gateways[0])?, maps_of(&gateways[1])?];
    let (stop, changes) = (AtomicBool::new(false), AtomicU64::new(0));
    let [from, to] = &topology.clients;
    let address = CLIENT_V4[1].parse().map_err(|_| "an address")?;
    let stream = Stream::start(from, (to, address, STREAM_PORT), Duration::from_millis(1), 200)?;
    let began = std::time::Instant::now();
    std::thread::scope(|scope| -> Outcome<()> {
        let churns = maps.each_ref().map(|maps| scope.spawn(|| churn(maps, &stop, &changes)));
        let reloaded = || -> Outcome<()> {
            for round in 0..RELOADS {
                // Unrelated entries are not wanted: control takes out what it finds.
                gateways[round % 2].query(&["reload"])?;
            }
            wait_for("enough packets and changes", END_LIMIT, || {
                Ok(stream.arrived() >= PACKETS && changes.load(Ordering::Relaxed) >= CHANGES)
            })
        };
        let outcome = reloaded();
        stop.store(true, Ordering::Relaxed);
        for churn in churns {
            churn.join().map_err(|_| "a thread that changes maps panicked")??;
        }
        outcome
    })?;
    let (elapsed, made) = (began.elapsed(), changes.load(Ordering::Relaxed));
    let report = stream.stop()?;
    assert_eq!(report.sent - report.arrived, 0, "lost: {report:?} at {made} in {elapsed:?}");
    assert!(made / elapsed.as_secs().max(1) >= CHANGES_PER_SECOND, "{made} in {elapsed:?}");
    Ok(())
}

#[test]
fn str_05_a_full_table_refuses_upward_and_keeps_what_it_has() -> Outcome<()> {
    require_privileges!("str_05_a_full_table_refuses_upward_and_keeps_what_it_has");
    let topology = Topology::create()?;
    let mut gateways = pair(&topology)?;
    answers(&topology, CLIENT_V4[1])?;
    let maps = maps_of(&gateways[0])?;
    let (outers, prefixes) = (maps.outers()?, maps.prefixes()?);
    // By the configuration: refused before anything is touched.
    let mut connections: Vec<Connection> = (0..MAX_OUTER)
        .map(|number| {
            let local = Ipv4Addr::from(0xc633_6400 + number).to_string();
            let peer = Ipv4Addr::from(0xcb00_7100 + number % 250).to_string();
            Connection {
                local_ts: vec![format!("172.16.{}.{}/32", number / 256, number % 256)],
                remote_ts: vec!["172.31.0.0/16".to_owned()],
                ..Connection::new(&format!("c{number}"), &local, &peer)
            }
        })
        .collect();
    gateways[0].config.connections.append(&mut connections);
    gateways[0].write_config()?;
    let refused = gateways[0].query(&["reload"]).err().map(|failure| failure.to_string());
    let refused = refused.ok_or("more outer addresses than there is room for were taken")?;
    assert!(refused.contains("outer addresses") && refused.contains("256"), "{refused}");
    assert_eq!((maps.outers()?, maps.prefixes()?), (outers.clone(), prefixes));
    // By hand: the kernel refuses, and evicts nobody.
    let mut number = 0x0a09_0000_u32;
    let full = loop {
        match maps.add_outer(Ipv4Addr::from(number).into()) {
            Ok(()) => number += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(full.raw_os_error(), Some(libc::E2BIG));
    let now = maps.outers()?;
    assert_eq!(now.len(), MAX_OUTER as usize);
    assert!(outers.iter().all(|address| now.contains(address)), "evicted: {now:?}");
    answers(&topology, CLIENT_V4[1])?;
    // Prefixes are in a tree, which runs full in another way.
    let value = PrefixValue { flags: PREFIX_REMOTE, worker: 0 };
    let mut number = 0x2000_0000_u32;
    let full = loop {
        let address = Ipv4Addr::from(number).into();
        match maps.set_prefix(SteerPrefix { address, length: 32 }, value) {
            Ok(()) => number += 1,
            Err(error) => break error,
        }
        assert!(number < 0x2000_0000 + MAX_PREFIXES + 1, "no end of room");
    };
    assert_eq!(full.raw_os_error(), Some(libc::ENOSPC));
    answers(&topology, CLIENT_V4[1])?;
    answers(&topology, CLIENT_V6[1])
}
