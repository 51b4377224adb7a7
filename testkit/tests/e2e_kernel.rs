//! What the kernel and the network around tell a gateway: neighbours, routes, VLANs, time
//! exceeded, and how far a "packet too big" from anybody is believed.
//!
//! Needs root and the built daemons; run by `cargo xtask test --only kernel`.
#![expect(clippy::expect_used, reason = "a test stops at the first surprise")]

use std::net::IpAddr;
use std::time::{Duration, Instant};
use xswan_testkit::capture::{Capture, look};
use xswan_testkit::failure::Outcome;
use xswan_testkit::gateway::{Gateway, GatewayConfig};
use xswan_testkit::packet::{self, protocol};
use xswan_testkit::process::wait_for;
use xswan_testkit::raw_socket::RawSocket;
use xswan_testkit::topology::{
    CLIENT_V4, CLIENT_V6, INNER_V4, INNER_V6, OUTER_V4, OUTER_V6, Outer, Topology, tunnel,
};
use xswan_testkit::traffic::Stream;
use xswan_testkit::{netns, require_privileges};

const PROTECTED: [&str; 4] = [INNER_V4[0], INNER_V4[1], INNER_V6[0], INNER_V6[1]];
const SETTLE_LIMIT: Duration = Duration::from_secs(20);
/// How long one look at the wire lasts at most.
const LOOK: Duration = Duration::from_millis(100);
const STREAM_PORT: u16 = 9013;
/// The SPI that gateway a sends with.
const SPI_OUT_OF_A: u32 = 0x2001;
/// A quoted number so much older than the last is not believed (2^20, and some).
const LONG_AGO: u32 = (1 << 20) + 1000;
/// A neighbour that nobody is.
const OTHER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x77];

fn start<'a>(topology: &'a Topology, configs: [GatewayConfig; 2]) -> Outcome<[Gateway<'a>; 2]> {
    let [config_a, config_b] = configs;
    let [space_a, space_b] = &topology.gateways;
    let gateways = [Gateway::start(space_a, config_a)?, Gateway::start(space_b, config_b)?];
    answers(topology, CLIENT_V4[1])?;
    Ok(gateways)
}

fn answers(topology: &Topology, destination: &str) -> Outcome<()> {
    let [client, _] = &topology.clients;
    wait_for(&format!("an answer from {destination}"), SETTLE_LIMIT, || {
        client.run(&format!("ping -c1 -W1 {destination}")).map(|_| true)
    })
}

fn load(topology: &Topology) -> Outcome<Stream> {
    let [from, to] = &topology.clients;
    let address = CLIENT_V4[1].parse().expect("an address");
    Stream::start(from, (to, address, STREAM_PORT), Duration::from_millis(1), 200)
}

fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|octet| format!("{octet:02x}")).join(":")
}

/// Waits for an ESP frame of gateway a that is as wanted.
fn esp_frame(wire: &mut RawSocket, wanted: impl Fn(&[u8]) -> bool) -> Outcome<Vec<u8>> {
    let began = Instant::now();
    while began.elapsed() < SETTLE_LIMIT {
        let Some(frame) = wire.receive(LOOK)? else { continue };
        let ours = look(&frame).esp.is_some_and(|esp| esp.spi == SPI_OUT_OF_A);
        if ours && wanted(&frame) {
            return Ok(frame);
        }
    }
    Err("no such ESP frame on the wire".into())
}

fn path_mtu(gateway: &Gateway<'_>) -> Outcome<u64> {
    let answer = gateway.query(&["list-sas"])?;
    answer
        .pointer("/static/0/out/path_mtu")
        .and_then(|mtu| mtu.as_u64())
        .ok_or("no path MTU".into())
}

/// "Too big" about `quoted`, which starts with its IP header, from somebody on the wire.
fn too_big(outer: Outer, mtu: u32, quoted: &[u8]) -> Vec<u8> {
    let addresses = if outer == Outer::V4 { OUTER_V4 } else { OUTER_V6 };
    let [to, from] = addresses.map(|text| text.parse::<IpAddr>().expect("an address"));
    let kind = if outer == Outer::V4 { [3, 4] } else { [2, 0] };
    let mut message = [&kind[..], &[0, 0], &mtu.to_be_bytes(), quoted].concat();
    let sum = if outer == Outer::V4 {
        packet::checksum(&[&message])
    } else {
        packet::upper_checksum(from, to, protocol::ICMPV6, &message)
    };
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let number = if outer == Outer::V4 { protocol::ICMP } else { protocol::ICMPV6 };
    packet::ip(from, to, number, &message)
}

/// IP header and the first octets of ESP of a frame, SPI and sequence number changed.
fn quote(outer: Outer, frame: &[u8], change: impl Fn(u32, u32) -> (u32, u32)) -> Vec<u8> {
    let header = if outer == Outer::V4 { 20 } else { 40 };
    let mut quoted = frame[14..14 + header + 32].to_vec();
    let number = |at: usize| u32::from_be_bytes(*quoted[at..].first_chunk().expect("whole"));
    let (spi, sequence) = change(number(header), number(header + 4));
    quoted[header..header + 4].copy_from_slice(&spi.to_be_bytes());
    quoted[header + 4..header + 8].copy_from_slice(&sequence.to_be_bytes());
    quoted
}

/// Forges and waits for what was learned; says what the last packet's quote was made of.
fn believes_only_what_is_recent(outer: Outer, steps: &[(u32, u64)], first: u32) -> Outcome<()> {
    let topology = Topology::create()?;
    let mut gateways = start(&topology, tunnel(outer, false, "aes128gcm16-esn")?)?;
    let mut wire = RawSocket::open(&topology.wire, "port-a", true)?;
    let target = topology.gateways[0].mac("eth0")?;
    let tell = |wire: &RawSocket, mtu: u32, quoted: &[u8]| {
        wire.send(&packet::frame(target, OTHER_MAC, &[], &too_big(outer, mtu, quoted)))
    };
    answers(&topology, CLIENT_V6[1])?;
    let frame = esp_frame(&mut wire, |_| true)?;
    let same = quote(outer, &frame, |spi, sequence| (spi, sequence));
    for quoted in [
        quote(outer, &frame, |spi, sequence| (spi ^ 1, sequence)),
        quote(outer, &frame, |spi, sequence| (spi, sequence.wrapping_sub(LONG_AGO))),
        quote(outer, &frame, |spi, sequence| (spi, sequence.wrapping_add(LONG_AGO))),
        // Only a part of what is needed.
        same[..same.len() - 28].to_vec(),
    ] {
        tell(&wire, 600, &quoted)?;
    }
    // Messages are taken in their order: when this one is believed, those were not.
    tell(&wire, 1400, &same)?;
    wait_for("a path MTU", SETTLE_LIMIT, || Ok(path_mtu(&gateways[0])? != 0))?;
    assert_eq!(path_mtu(&gateways[0])?, 1400);
    for &(mtu, learned) in steps {
        tell(&wire, mtu, &same)?;
        wait_for(&format!("{mtu} to be {learned}"), SETTLE_LIMIT, || {
            Ok(path_mtu(&gateways[0])? == learned)
        })?;
    }
    // A larger one, from whomever, raises nothing; the tunnel works at the floor.
    tell(&wire, 1500, &same)?;
    answers(&topology, CLIENT_V4[1])?;
    answers(&topology, CLIENT_V6[1])?;
    let floor = steps.last().map_or(1400, |step| step.1);
    assert_eq!(path_mtu(&gateways[0])?, floor);
    // Learned, not configured: the next instance starts without. Then the smallest at once.
    gateways[0].dataplane()?.kill()?;
    gateways[0].start_dataplane()?;
    gateways[0].wait_healthy()?;
    wait_for("the path MTU to be forgotten", SETTLE_LIMIT, || Ok(path_mtu(&gateways[0])? == 0))?;
    answers(&topology, CLIENT_V4[1])?;
    let begun = look(&frame).esp.map_or(0, |esp| esp.sequence);
    let later = |frame: &[u8]| look(frame).esp.is_some_and(|esp| esp.sequence > begun + 100);
    let stream = load(&topology)?;
    let frame = esp_frame(&mut wire, later)?;
    stream.stop()?;
    tell(&wire, first, &quote(outer, &frame, |spi, sequence| (spi, sequence)))?;
    wait_for(&format!("{first} to be {floor}"), SETTLE_LIMIT, || {
        Ok(path_mtu(&gateways[0])? == floor)
    })
}

#[test]
fn tun_05_a_forged_too_big_over_ipv4_gets_no_further_down_than_576() -> Outcome<()> {
    require_privileges!("tun_05_a_forged_too_big_over_ipv4_gets_no_further_down_than_576");
    believes_only_what_is_recent(Outer::V4, &[(1279, 1279), (68, 576)], 0)
}

#[test]
fn tun_05_a_forged_too_big_over_ipv6_gets_no_further_down_than_1280() -> Outcome<()> {
    require_privileges!("tun_05_a_forged_too_big_over_ipv6_gets_no_further_down_than_1280");
    believes_only_what_is_recent(Outer::V6, &[(1279, 1280), (68, 1280)], 0)
}

#[test]
fn tun_04_tun_05_a_smaller_path_is_told_to_the_sender_inside() -> Outcome<()> {
    require_privileges!("tun_04_tun_05_a_smaller_path_is_told_to_the_sender_inside");
    let topology = Topology::create()?;
    let gateways = start(&topology, tunnel(Outer::V4, false, "aes128gcm16-esn")?)?;
    let [client, _] = &topology.clients;
    let mut wire = RawSocket::open(&topology.wire, "port-a", true)?;
    let whole = format!("ping -M do -c1 -W2 -s 1372 {}", CLIENT_V4[1]);
    client.run(&whole)?;
    let frame = esp_frame(&mut wire, |frame| frame.len() > 1400)?;
    let told = too_big(Outer::V4, 1400, &quote(Outer::V4, &frame, |spi, seq| (spi, seq)));
    wire.send(&packet::frame(topology.gateways[0].mac("eth0")?, OTHER_MAC, &[], &told))?;
    wait_for("the path MTU", SETTLE_LIMIT, || Ok(path_mtu(&gateways[0])? == 1400))?;
    // 1400 - 20 (IP) - 8 (ESP) - 8 (IV) - 16 (ICV) = 1348, of which two are the trailer.
    let refused = client.run(&whole).err().map(|failure| failure.to_string()).unwrap_or_default();
    assert!(refused.contains("mtu = 1346") || refused.contains("mtu=1346"), "{refused}");
    client.run(&format!("ping -M do -c1 -W2 -s {} {}", 1346 - 28, CLIENT_V4[1]))?;
    // The sender has learned, so that what may be cut goes through in pieces.
    client.run(&format!("ping -M dont -c1 -W2 -s 1372 {}", CLIENT_V4[1]))?;
    Ok(())
}

#[test]
fn ttl_one_is_answered_with_time_exceeded() -> Outcome<()> {
    require_privileges!("ttl_one_is_answered_with_time_exceeded");
    let topology = Topology::create()?;
    let capture = Capture::start(&topology.wire, "port-a", &PROTECTED, 0)?;
    let _gateways = start(&topology, tunnel(Outer::V4, false, "aes128gcm16-esn")?)?;
    let [client, _] = &topology.clients;
    let asked = |ttl: u8, destination: &str| {
        let outcome = client.run(&format!("ping -c1 -W2 -t {ttl} {destination}"));
        outcome.err().map(|failure| failure.to_string()).unwrap_or_default()
    };
    let (near, near6) = (asked(1, CLIENT_V4[1]), asked(1, CLIENT_V6[1]));
    // The far gateway is the second hop: the tunnel between is none. Its next hop may be one
    // that it has not resolved yet, which must change nothing.
    let (far, far6) = (asked(2, CLIENT_V4[1]), asked(2, CLIENT_V6[1]));
    let unknown = asked(2, "10.2.0.200");
    client.run(&format!("ping -c1 -W2 -t 3 {}", CLIENT_V4[1]))?;
    let sighting = capture.stop()?;
    assert_eq!(sighting.leak.leaks, 0, "in clear: {:02x?}", sighting.leak.first_leak);
    for (said, router) in [
        (near, "10.1.0.1"),
        (near6, "2001:db8:a::1"),
        (far, "10.2.0.1"),
        (far6, "2001:db8:b::1"),
        (unknown, "10.2.0.1"),
    ] {
        assert!(said.contains(router) && said.contains("exceeded"), "not {router}: {said}");
    }
    Ok(())
}

#[test]
fn a_next_hop_with_another_address_is_followed() -> Outcome<()> {
    require_privileges!("a_next_hop_with_another_address_is_followed");
    let topology = Topology::create()?;
    let _gateways = start(&topology, tunnel(Outer::V4, false, "aes128gcm16-esn")?)?;
    let [space_a, space_b] = &topology.gateways;
    let mut wire = RawSocket::open(&topology.wire, "port-a", true)?;
    let stream = load(&topology)?;
    let old = space_b.mac("eth0")?;
    esp_frame(&mut wire, |frame| frame[..6] == old)?;
    // The peer's device is replaced by one with another address, as a standby router's.
    let new = [2, 0, 0, 0, 0, 0x66];
    space_b.ip(&format!("link set dev eth0 address {}", mac_text(new)))?;
    space_a.ip(&format!("neigh replace 192.0.2.2 lladdr {} dev eth0", mac_text(new)))?;
    let told = Instant::now();
    esp_frame(&mut wire, |frame| frame[..6] == new)?;
    let followed = told.elapsed();
    let goal = stream.arrived() + 100;
    wait_for("traffic to go on", SETTLE_LIMIT, || Ok(stream.arrived() >= goal))?;
    // From now on none is sent to the old one.
    let stray = (0..200).find_map(|_| {
        let frame = wire.receive(LOOK).ok().flatten()?;
        (look(&frame).esp.is_some() && frame[..6] == old).then_some(frame)
    });
    assert_eq!(stray, None, "sent to the old address after {followed:?}");
    // Its own frames come from the address that it has now.
    answers(&topology, CLIENT_V4[1])?;
    drop(stream);
    Ok(())
}

#[test]
fn routes_are_followed_outside_and_inside() -> Outcome<()> {
    require_privileges!("routes_are_followed_outside_and_inside");
    let topology = Topology::create()?;
    let _gateways = start(&topology, tunnel(Outer::V4, false, "aes128gcm16-esn")?)?;
    let ([space_a, space_b], [client, far]) = (&topology.gateways, &topology.clients);
    let mut wire = RawSocket::open(&topology.wire, "port-a", true)?;
    let stream = load(&topology)?;
    let direct = space_b.mac("eth0")?;
    esp_frame(&mut wire, |frame| frame[..6] == direct)?;
    // Outside: the peer is now behind another router, then again next door.
    space_a.ip(&format!("neigh add 192.0.2.99 lladdr {} dev eth0", mac_text(OTHER_MAC)))?;
    space_a.ip("route add 192.0.2.2/32 via 192.0.2.99")?;
    esp_frame(&mut wire, |frame| frame[..6] == OTHER_MAC)?;
    space_a.ip("route del 192.0.2.2/32 via 192.0.2.99")?;
    esp_frame(&mut wire, |frame| frame[..6] == direct)?;
    let goal = stream.arrived() + 50;
    wait_for("traffic to go on", SETTLE_LIMIT, || Ok(stream.arrived() >= goal))?;
    drop(stream);
    // Inside: a network behind the far client comes, goes, and is forbidden.
    far.address("lo", "10.2.77.1/32")?;
    let reach = || client.run("ping -c1 -W1 10.2.77.1").is_ok();
    space_b.ip("route add unreachable 10.2.77.0/24")?;
    wait_for("a network that is forbidden", SETTLE_LIMIT, || Ok(!reach()))?;
    space_b.ip("route replace 10.2.77.0/24 via 10.2.0.2")?;
    wait_for("a network behind the far client", SETTLE_LIMIT, || Ok(reach()))?;
    space_b.ip("route replace blackhole 10.2.77.0/24")?;
    wait_for("the end of it", SETTLE_LIMIT, || Ok(!reach()))?;
    answers(&topology, CLIENT_V4[1])
}

#[test]
fn a_vlan_on_an_attached_device_carries_the_tunnel_tagged() -> Outcome<()> {
    const NAME: &str = "a_vlan_on_an_attached_device_carries_the_tunnel_tagged";
    require_privileges!(NAME);
    let topology = Topology::create()?;
    let addresses = ["198.51.100.1", "198.51.100.2"];
    let mut configs = tunnel(Outer::V4, false, "aes128gcm16-esn")?;
    for (side, space) in topology.gateways.iter().enumerate() {
        if let Err(failure) = space.ip("link add link eth0 name eth0.7 type vlan id 7") {
            assert!(failure.to_string().contains("Unknown device type"), "{failure}");
            netns::report_skip(NAME, "the kernel has no VLAN devices (8021q)");
            return Ok(());
        }
        space.ip("link set dev eth0.7 up")?;
        space.address("eth0.7", &format!("{}/24", addresses[side]))?;
        configs[side].connections[0].local_address = addresses[side].to_owned();
        configs[side].connections[0].remote_address = addresses[1 - side].to_owned();
    }
    let mut wire = RawSocket::open(&topology.wire, "port-a", true)?;
    let gateways = start(&topology, configs)?;
    answers(&topology, CLIENT_V6[1])?;
    topology.clients[0].run(&format!("ping -q -c50 -i0.01 -W2 {}", CLIENT_V4[1]))?;
    let tagged = |frame: &[u8]| frame[12..16] == [0x81, 0, 0, 7];
    esp_frame(&mut wire, tagged)?;
    let untagged = (0..200).find_map(|_| {
        let frame = wire.receive(LOOK).ok().flatten()?;
        (look(&frame).esp.is_some() && !tagged(&frame)).then_some(frame)
    });
    assert_eq!(untagged, None, "ESP without its tag");
    assert_eq!(gateways[0].drops("no_worker")?, 0);
    Ok(())
}

#[test]
fn esp_behind_one_and_two_tags_reaches_its_sa() -> Outcome<()> {
    require_privileges!("esp_behind_one_and_two_tags_reaches_its_sa");
    let topology = Topology::create()?;
    let gateways = start(&topology, tunnel(Outer::V4, false, "aes128gcm16-esn")?)?;
    // From now on frames of gateway a end at its port: the test carries them over, tagged.
    topology.wire.ip("link set dev port-b nomaster")?;
    let mut from = RawSocket::open(&topology.wire, "port-a", true)?;
    let to = RawSocket::open(&topology.wire, "port-b", false)?;
    let opened = || -> Outcome<u64> {
        let answer = gateways[1].query(&["list-sas"])?;
        Ok(answer.pointer("/static/0/in/packets").and_then(|count| count.as_u64()).unwrap_or(0))
    };
    let before = opened()?;
    let stream = load(&topology)?;
    for tags in [&[(0x8100, 7)][..], &[(0x88a8, 9), (0x8100, 7)]] {
        for _ in 0..20 {
            let frame = esp_frame(&mut from, |_| true)?;
            let (target, source) = frame[..12].split_at(6);
            let tagged = packet::frame(
                target.try_into().expect("six octets"),
                source.try_into().expect("six octets"),
                tags,
                &frame[14..],
            );
            to.send(&tagged)?;
        }
    }
    wait_for("forty packets to be opened", SETTLE_LIMIT, || Ok(opened()? >= before + 40))?;
    drop(stream);
    Ok(())
}

/// The guard and the route of the operator's manual: what the kernel itself says to a
/// protected network goes through the tunnel or nowhere.
fn guard(gateway: &Gateway<'_>, side: usize) -> Outcome<()> {
    let space = gateway.namespace();
    space.run("nft add table inet xswan_guard")?;
    for hook in ["forward", "output"] {
        space.run(&format!(
            "nft add chain inet xswan_guard {hook} {{ type filter hook {hook} priority 0; }}"
        ))?;
        for (family, prefix) in [("ip", INNER_V4[1 - side]), ("ip6", INNER_V6[1 - side])] {
            space.run(&format!(
                "nft add rule inet xswan_guard {hook} {family} daddr {prefix} oifname != xswan0 drop"
            ))?;
        }
    }
    let own = [["10.1.0.1", "2001:db8:a::1"], ["10.2.0.1", "2001:db8:b::1"]][side];
    space.ip(&format!("route add {} dev xswan0 src {}", INNER_V4[1 - side], own[0]))?;
    space.ip(&format!("-6 route add {} dev xswan0 src {}", INNER_V6[1 - side], own[1]))?;
    Ok(())
}

#[test]
fn what_the_kernel_says_of_opened_packets_goes_back_through_the_tunnel() -> Outcome<()> {
    require_privileges!("what_the_kernel_says_of_opened_packets_goes_back_through_the_tunnel");
    let topology = Topology::create()?;
    let capture = Capture::start(&topology.wire, "port-a", &PROTECTED, 0)?;
    let gateways = start(&topology, tunnel(Outer::V4, false, "aes128gcm16-esn")?)?;
    for (side, gateway) in gateways.iter().enumerate() {
        guard(gateway, side)?;
    }
    answers(&topology, CLIENT_V4[1])?;
    answers(&topology, CLIENT_V6[1])?;
    let [client, _] = &topology.clients;
    // Hosts that nobody is: the far kernel looks for them in vain and says so to the client.
    for (nobody, router) in [("10.2.0.201", "10.2.0.1"), ("2001:db8:b::201", "2001:db8:b::1")] {
        let outcome = client.run(&format!("ping -c3 -i0.2 -W5 {nobody}"));
        let said = outcome.err().map(|failure| failure.to_string()).unwrap_or_default();
        let from_router = said.lines().any(|line| line.contains(&format!("rom {router}")));
        assert!(from_router && said.contains("nreachable"), "{said}");
    }
    // The gateway's own programs use the tunnel, too.
    gateways[0].namespace().run(&format!("ping -c2 -i0.2 -W2 {}", CLIENT_V4[1]))?;
    gateways[0].namespace().run(&format!("ping -c2 -i0.2 -W2 {}", CLIENT_V6[1]))?;
    let sighting = capture.stop()?;
    assert_eq!(sighting.leak.leaks, 0, "in clear: {:02x?}", sighting.leak.first_leak);
    Ok(())
}
