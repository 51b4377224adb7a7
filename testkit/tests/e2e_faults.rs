//! Devices that go down, away, or change under a running gateway, and a gateway that is
//! stopped in mid-flight: it goes on, or says what is wrong, and loses no frame memory.
//!
//! Needs root and the built daemons; run by `cargo xtask test --only faults`.
#![expect(clippy::expect_used, reason = "a test stops at the first surprise")]

use serde_json::Value;
use std::net::UdpSocket;
use std::time::{Duration, Instant};
use xswan_testkit::failure::{Failure, Outcome};
use xswan_testkit::gateway::Gateway;
use xswan_testkit::netns::veth;
use xswan_testkit::process::wait_for;
use xswan_testkit::require_privileges;
use xswan_testkit::topology::{CLIENT_V4, CLIENT_V6, Outer, Topology, tunnel};
use xswan_testkit::traffic::Stream;

const SETTLE_LIMIT: Duration = Duration::from_secs(20);
/// Time between two datagrams of the load.
const INTERVAL: Duration = Duration::from_millis(1);
const STREAM_PORT: u16 = 9010;
const PAYLOAD_BYTES: usize = 200;
/// Times that the carrier is lost and found.
const FLAPS: usize = 50;
/// Longer than any packet is under way.
const REST: Duration = Duration::from_millis(200);
/// How long a stopped gateway sleeps.
const PAUSE: Duration = Duration::from_secs(1);
/// `sysconf(_SC_CLK_TCK)`, which is this everywhere that Linux runs.
const CLOCK_TICKS_PER_SECOND: u64 = 100;

fn pair(topology: &Topology) -> Outcome<[Gateway<'_>; 2]> {
    let [config_a, config_b] = tunnel(Outer::V4, false, "aes128gcm16-esn")?;
    let [space_a, space_b] = &topology.gateways;
    let gateways = [Gateway::start(space_a, config_a)?, Gateway::start(space_b, config_b)?];
    answers(topology, CLIENT_V4[1])?;
    answers(topology, CLIENT_V6[1])?;
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
    Stream::start(from, (to, address, STREAM_PORT), INTERVAL, PAYLOAD_BYTES)
}

fn flows_on(stream: &Stream, more: u64) -> Outcome<()> {
    let goal = stream.arrived() + more;
    wait_for("traffic to go on", SETTLE_LIMIT, || Ok(stream.arrived() >= goal))
}

fn sum(answer: &Value, list: &str, key: &str) -> u64 {
    let rows = answer[list].as_array().expect("a list");
    rows.iter().map(|row| row[key].as_u64().expect("a number")).sum()
}

/// What the program redirected, and what became of it according to sockets and kernel.
fn ledger(gateway: &Gateway<'_>) -> Outcome<(u64, u64)> {
    let mut redirected = 0;
    for kind in ["steer_esp", "steer_esp_udp", "steer_clear"] {
        redirected += gateway.drops(kind)?;
    }
    let runtime = gateway.query(&["runtime"])?;
    let ways = ["rx", "umem_ownership_violation", "xsk_rx_dropped", "xsk_rx_ring_full"];
    Ok((redirected, ways.iter().map(|way| sum(&runtime, "queues", way)).sum()))
}

fn frames_free(gateway: &Gateway<'_>) -> Outcome<u64> {
    Ok(sum(&gateway.query(&["runtime"])?, "workers", "frames_free"))
}

/// Free frames when nothing is under way: two looks apart say the same.
fn frames_at_rest(gateway: &Gateway<'_>) -> Outcome<u64> {
    let mut last = 0;
    wait_for("frames to rest", SETTLE_LIMIT, || {
        let before = std::mem::replace(&mut last, frames_free(gateway)?);
        std::thread::sleep(REST);
        Ok(before == last)
    })?;
    Ok(last)
}

/// Waits until every frame is home and every redirected one is accounted for.
fn settles(gateway: &Gateway<'_>, free: u64) -> Outcome<()> {
    let mut seen = String::new();
    wait_for("frames to come home and the ledger to balance", SETTLE_LIMIT, || {
        let (redirected, accounted) = ledger(gateway)?;
        let now = frames_free(gateway)?;
        seen = format!("free {now} of {free}, redirected {redirected}, accounted {accounted}");
        Ok(now == free && redirected == accounted)
    })
    .map_err(|failure| Failure::new(format!("{failure}: {seen}")))?;
    let runtime = gateway.query(&["runtime"])?;
    assert_eq!(sum(&runtime, "workers", "umem_ownership_violation"), 0, "{runtime}");
    for kernel in ["xsk_rx_invalid", "xsk_tx_invalid"] {
        assert_eq!(sum(&runtime, "queues", kernel), 0, "{runtime}");
    }
    Ok(())
}

/// The component called `name` in the status, whether it is well and what it says.
fn component(gateway: &Gateway<'_>, name: &str) -> Outcome<(bool, String)> {
    // The command exits with an error if anything is unwell; what it prints is in the text.
    let text = match gateway.show(&["--json", "status"]) {
        Ok(text) => text,
        Err(failure) => failure.to_string(),
    };
    let json = text.find('{').and_then(|at| text.get(at..)).unwrap_or_default();
    let status: Value = serde_json::from_str(json)?;
    let components = status["components"].as_array().ok_or("no components")?;
    let found = components.iter().find(|one| one["component"] == name).ok_or("no such part")?;
    let detail = found["detail"].as_str().unwrap_or_default();
    Ok((found["ok"] == true, detail.to_owned()))
}

fn component_says(gateway: &Gateway<'_>, name: &str, ok: bool, words: &str) -> Outcome<()> {
    let mut last = String::new();
    wait_for(&format!("{name} to say {words:?}"), SETTLE_LIMIT, || {
        let (well, detail) = component(gateway, name)?;
        last = format!("ok {well}: {detail}");
        Ok(well == ok && detail.contains(words))
    })
    .map_err(|failure| Failure::new(format!("{failure}: {last}")))
}

/// Processor time that a process has used, all threads.
fn processor_time(pid: u32) -> Outcome<Duration> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields = text.rsplit(") ").next().unwrap_or_default().split(' ');
    // Fields 14 and 15 of proc(5), counted from the third on.
    let ticks: u64 = fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
    Ok(Duration::from_millis(ticks * 1000 / CLOCK_TICKS_PER_SECOND))
}

#[test]
fn xsk_07_a_link_that_goes_down_and_up_under_load_recovers_and_leaks_nothing() -> Outcome<()> {
    require_privileges!(
        "xsk_07_a_link_that_goes_down_and_up_under_load_recovers_and_leaks_nothing"
    );
    let topology = Topology::create()?;
    let mut gateways = pair(&topology)?;
    let free = [frames_at_rest(&gateways[0])?, frames_at_rest(&gateways[1])?];
    let pids = [gateways[0].dataplane()?.pid(), gateways[1].dataplane()?.pid()];
    let stream = load(&topology)?;
    flows_on(&stream, 100)?;
    for round in 0..FLAPS {
        // Carrier lost, device switched off: outside, inside; the peer's and our own end.
        let (space, device) = match round % 4 {
            0 => (&topology.wire, "port-a"),
            1 => (&topology.clients[1], "eth0"),
            2 => (&topology.gateways[0], "eth0"),
            _ => (&topology.gateways[1], "eth1"),
        };
        space.ip(&format!("link set dev {device} down"))?;
        if round % 8 == 0 {
            component_says(&gateways[0], "eth0", false, "link is down")?;
        }
        space.ip(&format!("link set dev {device} up"))?;
        flows_on(&stream, 20).map_err(|failure| {
            Failure::new(format!("round {round}, {device} of {}: {failure}", space.name()))
        })?;
    }
    stream.stop()?;
    for ((gateway, free), pid) in gateways.iter_mut().zip(free).zip(pids) {
        settles(gateway, free)?;
        let daemon = gateway.dataplane()?;
        assert!(daemon.is_running()? && daemon.pid() == pid, "restarted");
        assert!(daemon.log().lines().count() < 20 * FLAPS, "a line for each packet");
    }
    Ok(())
}

#[test]
fn xsk_07_xsk_08_a_device_that_is_gone_is_told_and_the_other_goes_on() -> Outcome<()> {
    require_privileges!("xsk_07_xsk_08_a_device_that_is_gone_is_told_and_the_other_goes_on");
    let topology = Topology::create()?;
    let mut gateways = pair(&topology)?;
    let [space, _] = &topology.gateways;
    let stream = load(&topology)?;
    flows_on(&stream, 100)?;
    // Deleting the port on the wire takes its peer, our outer device, along.
    topology.wire.ip("link del port-a")?;
    component_says(&gateways[0], "eth0", false, "gone")?;
    let (well, detail) = component(&gateways[0], "eth1")?;
    assert!(well, "the other device: {detail}");
    // The inner device still takes packets: those for the tunnel have no way out.
    let received = |gateway: &Gateway<'_>| -> Outcome<u64> {
        Ok(sum(&gateway.query(&["runtime"])?, "workers", "rx"))
    };
    let before = received(&gateways[0])?;
    wait_for("packets on the other device", SETTLE_LIMIT, || {
        Ok(received(&gateways[0])? >= before + 5000)
    })?;
    drop(stream);
    topology.clients[0].run("ping -c3 -i0.1 -W2 10.1.0.1")?;
    // Idle it sleeps; a wait on a socket whose device is gone must not turn into a loop.
    let pid = gateways[0].dataplane()?.pid();
    let (began, used) = (Instant::now(), processor_time(pid)?);
    std::thread::sleep(PAUSE);
    let used = processor_time(pid)?.saturating_sub(used);
    assert!(used < began.elapsed() / 2, "{used:?} of processor time with nothing to do");
    assert!(gateways[0].dataplane()?.log().lines().count() < 100, "a line for each packet");

    veth((space, "eth0"), (&topology.wire, "port-a"))?;
    topology.wire.ip("link set dev port-a master br0")?;
    space.address("eth0", "192.0.2.1/24")?;
    space.address("eth0", "2001:db8:ff::1/64")?;
    // It is another device: this instance says so, and the next one takes it.
    component_says(&gateways[0], "eth0", false, "restart the dataplane")?;
    gateways[0].dataplane()?.terminate(SETTLE_LIMIT)?;
    gateways[0].start_dataplane()?;
    gateways[0].wait_healthy()?;
    answers(&topology, CLIENT_V4[1])?;
    answers(&topology, CLIENT_V6[1])
}

#[test]
fn xsk_09_an_mtu_raised_past_the_frame_is_told_and_harms_nobody() -> Outcome<()> {
    require_privileges!("xsk_09_an_mtu_raised_past_the_frame_is_told_and_harms_nobody");
    let topology = Topology::create()?;
    let mut gateways = pair(&topology)?;
    let free = frames_at_rest(&gateways[0])?;
    let [space, _] = &topology.gateways;
    let [client, _] = &topology.clients;
    // The driver may refuse, which is as good.
    let raised = space.ip("link set dev eth1 mtu 9000").is_ok();
    client.ip("link set dev eth0 mtu 9000")?;
    if raised {
        component_says(&gateways[0], "eth1", false, "MTU 9000 no longer fits a frame")?;
    }
    // Longer than a frame: lost, never cut short.
    let long = client.run(&format!("ping -c5 -i0.05 -W1 -s 6000 {}", CLIENT_V4[1]));
    assert!(long.is_err(), "a packet longer than a frame went through");
    answers(&topology, CLIENT_V4[1])?;
    space.ip("link set dev eth1 mtu 1500")?;
    client.ip("link set dev eth0 mtu 1500")?;
    component_says(&gateways[0], "eth1", true, "MTU 1500")?;
    answers(&topology, CLIENT_V4[1])?;
    assert!(gateways[0].dataplane()?.is_running()?);
    settles(&gateways[0], free)
}

#[test]
fn xsk_10_queues_that_appear_and_vanish_are_told() -> Outcome<()> {
    require_privileges!("xsk_10_queues_that_appear_and_vanish_are_told");
    let topology = Topology::create()?;
    let mut gateways = pair(&topology)?;
    let [space, _] = &topology.gateways;
    if space.run("ethtool -L eth1 rx 1 tx 1").is_ok() {
        component_says(&gateways[0], "eth1", false, "queue")?;
        assert!(gateways[0].dataplane()?.is_running()?);
        space.run("ethtool -L eth1 rx 2 tx 2")?;
        component_says(&gateways[0], "eth1", true, "MTU")?;
    } else {
        // The kernel holds on to queues that have sockets.
        let (well, detail) = component(&gateways[0], "eth1")?;
        assert!(well, "{detail}");
    }
    answers(&topology, CLIENT_V4[1])?;
    assert!(gateways[0].dataplane()?.is_running()?);
    Ok(())
}

#[test]
fn xsk_10_frames_of_a_queue_that_was_not_opened_are_told() -> Outcome<()> {
    require_privileges!("xsk_10_frames_of_a_queue_that_was_not_opened_are_told");
    let topology = Topology::create()?;
    let ([space, _], [client, _]) = (&topology.gateways, &topology.clients);
    let [config, _] = tunnel(Outer::V4, false, "aes128gcm16-esn")?;
    let mut gateway = Gateway::prepare(space, config)?;
    let text = std::fs::read_to_string(gateway.file())?;
    let one = text.replace("role = \"inner\"", "role = \"inner\"\nqueues = \"0\"");
    assert_ne!(one, text);
    std::fs::write(gateway.file(), one)?;
    gateway.start_control()?;
    gateway.start_dataplane()?;
    gateway.wait_healthy()?;
    // Each socket is another flow: some of them take the second queue, and are lost there.
    wait_for("the status to tell", SETTLE_LIMIT, || {
        for _ in 0..20 {
            let socket = client.enter(|| UdpSocket::bind("0.0.0.0:0"))??;
            socket.send_to(b"which queue?", (CLIENT_V4[1], STREAM_PORT))?;
        }
        Ok(component(&gateway, "steering").is_ok_and(|(well, _)| !well))
    })?;
    component_says(&gateway, "steering", false, "device.queues")?;
    std::fs::write(gateway.file(), text)?;
    gateway.dataplane()?.terminate(SETTLE_LIMIT)?;
    gateway.start_dataplane()?;
    gateway.wait_healthy()
}

#[test]
fn xsk_01_xsk_21_xsk_23_a_gateway_stopped_for_a_second_goes_on_as_if_nothing_had_been()
-> Outcome<()> {
    require_privileges!(
        "xsk_01_xsk_21_xsk_23_a_gateway_stopped_for_a_second_goes_on_as_if_nothing_had_been"
    );
    let topology = Topology::create()?;
    let mut gateways = pair(&topology)?;
    let free = frames_at_rest(&gateways[0])?;
    settles(&gateways[0], free)?;
    // More than fill and receive rings hold: a part is lost and every loss is accounted for.
    let [client, _] = &topology.clients;
    for _ in 0..3 {
        gateways[0].dataplane()?.signal(libc::SIGSTOP)?;
        let flood = client.run(&format!("ping -q -f -c12000 -l 12000 -W1 {}", CLIENT_V4[1]));
        drop(flood);
        std::thread::sleep(PAUSE);
        gateways[0].dataplane()?.signal(libc::SIGCONT)?;
        answers(&topology, CLIENT_V4[1])?;
    }
    settles(&gateways[0], free)?;
    let runtime = gateways[0].query(&["runtime"])?;
    let lost = sum(&runtime, "queues", "xsk_rx_dropped")
        + sum(&runtime, "queues", "xsk_rx_ring_full")
        + sum(&runtime, "queues", "xsk_rx_fill_ring_empty");
    assert!(lost > 0, "the kernel had room for everything: {runtime}");
    // And nothing is lost from here on.
    client.run(&format!("ping -q -c200 -i0.002 -W2 {}", CLIENT_V4[1])).and_then(|said| {
        assert!(said.contains(" 0% packet loss"), "{said}");
        settles(&gateways[0], free)
    })
}
