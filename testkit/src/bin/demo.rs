//! The demonstration: two gateways, a tunnel, traffic, and the proof that nothing leaked.
//!
//! Run by `cargo xtask demo`, which prepares the machine and builds the daemons.
#![expect(clippy::print_stdout, reason = "a demonstration shows itself on the terminal")]

use serde_json::Value;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use xswan_testkit::capture::{Capture, Sighting};
use xswan_testkit::failure::{Failure, Outcome};
use xswan_testkit::gateway::Gateway;
use xswan_testkit::netns;
use xswan_testkit::pki::Authority;
use xswan_testkit::process::{Daemon, ScratchDirectory, keep_logs_quiet, wait_for};
use xswan_testkit::topology::{
    self, CLIENT_V4, CLIENT_V6, INNER_V4, INNER_V6, Outer, Proof, Topology, ike_names,
};

const PROPOSAL: &str = "aes128gcm16-x25519-esn";
/// Packets of the flow that goes through the rekeyings, and the pause between two of them.
const FLOW_PACKETS: u64 = 800;
const FLOW_PAUSE_S: &str = "0.005";
/// What iperf3 sends beside it.
const LOAD_RATE: &str = "50M";
/// Seconds each iperf3 run takes.
const RUN_SECONDS: u32 = 2;
/// Offered load of the UDP runs.
const UDP_RATE: &str = "50M";
/// Payload of the UDP runs, below every tunnel's MTU.
const UDP_PAYLOAD_BYTES: u32 = 1200;
/// Frames kept for the pcap file; all are looked at.
const FRAMES_KEPT: usize = 20_000;
/// How long neighbours and routes may take to be known.
const SETTLE_LIMIT: Duration = Duration::from_secs(15);

struct Show {
    start: Instant,
}

impl Show {
    fn tick(&self, what: &str) {
        println!("  \u{2713} {:6.1} s  {what}", self.start.elapsed().as_secs_f64());
    }

    fn heading(what: &str) {
        println!("\n{what}");
    }

    fn table(text: &str) {
        for line in text.trim_end().lines() {
            println!("      {line}");
        }
    }
}

fn main() -> ExitCode {
    keep_logs_quiet();
    if let Err(why) = netns::privileged() {
        println!("the demonstration cannot run here: {why}");
        return ExitCode::FAILURE;
    }
    match demonstrate() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            println!("  \u{2717} {failure}");
            ExitCode::FAILURE
        }
    }
}

fn demonstrate() -> Outcome<()> {
    let show = Show { start: Instant::now() };
    Show::heading(
        "client-a \u{2500} gateway-a \u{2500}\u{2500} wire \u{2500}\u{2500} gateway-b \u{2500} client-b",
    );
    let topology = Topology::create()?;
    show.tick("namespaces made; the gateways' kernels would route between them in clear");
    let protected = [INNER_V4[0], INNER_V4[1], INNER_V6[0], INNER_V6[1]];
    let capture = Capture::start(&topology.wire, "port-a", &protected, FRAMES_KEPT)?;
    show.tick("a capture runs on the wire between the gateways from here to the end");
    let scratch = ScratchDirectory::create("demo")?;
    let [_, client_b] = &topology.clients;
    let mut server = client_b.command("iperf3");
    server.args(["--server", "--forceflush"]);
    let _server = Daemon::spawn_command(server, "iperf3", scratch.path())?;
    for (title, outer, encap) in [
        ("ESP over IPv4", Outer::V4, false),
        ("ESP in UDP over IPv4", Outer::V4, true),
        ("ESP over IPv6", Outer::V6, false),
    ] {
        Show::heading(&format!("{title}, {PROPOSAL}"));
        run_tunnel(&show, &topology, outer, encap)?;
    }
    Show::heading("What was on the wire");
    prove(&show, &capture.stop()?, &scratch)
}

fn run_tunnel(show: &Show, topology: &Topology, outer: Outer, encap: bool) -> Outcome<()> {
    let lines = if encap { "encap = true" } else { "" };
    let proof = Proof::Certificates;
    let [config_a, config_b] = topology::ike_tunnel(outer, proof, PROPOSAL, lines, "");
    let [space_a, space_b] = &topology.gateways;
    let mut gateway_a = Gateway::prepare(space_a, config_a)?;
    let mut gateway_b = Gateway::prepare(space_b, config_b)?;
    let authority = Authority::create()?;
    for (gateway, name) in [&mut gateway_a, &mut gateway_b].into_iter().zip(ike_names()) {
        authority.issue(name, gateway.directory())?;
        gateway.start_control()?;
        gateway.start_dataplane()?;
        gateway.wait_healthy()?;
    }
    show.tick("both gateways are healthy, with certificates of an authority made for this run");
    gateway_a.show(&["initiate", "--child", "net"])?;
    show.tick("gateway-a has brought the tunnel up by IKEv2");
    for destination in [CLIENT_V4[1], CLIENT_V6[1]] {
        ping(show, topology, destination)?;
        iperf(show, topology, destination, false)?;
        iperf(show, topology, destination, true)?;
    }
    rekey(show, topology, &gateway_a, &gateway_b)?;
    println!("    xswan runtime (gateway-a)");
    Show::table(&gateway_a.show(&["runtime"])?);
    println!("    xswan drops (gateway-b)");
    Show::table(&gateway_b.show(&["drops"])?);
    gateway_a.stop()?;
    gateway_b.stop()
}

/// SPIs of the child's pair, as `list-sas` tells them.
fn child_spis(gateway: &Gateway<'_>) -> Outcome<(String, String)> {
    let answer = gateway.query(&["list-sas"])?;
    let sas = answer["ike_sas"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut children = sas.iter().filter_map(|sa| sa["children"].as_array()).flatten();
    let installed = |child: &&Value| child["state"] == "INSTALLED";
    let child = children.rfind(installed).ok_or_else(|| Failure::new("no Child SA"))?;
    let text = |key: &str| child[key].as_str().unwrap_or_default().to_owned();
    Ok((text("spi_in"), text("spi_out")))
}

/// Rekeys everything from both sides under two flows, one of which counts every packet.
fn rekey(show: &Show, topology: &Topology, a: &Gateway<'_>, b: &Gateway<'_>) -> Outcome<()> {
    println!("\n    xswan list-sas (gateway-a), before the rekeyings");
    Show::table(&a.show(&["list-sas"])?);
    let before = child_spis(a)?;
    let [client, _] = &topology.clients;
    let scratch = ScratchDirectory::create("flow")?;
    let mut load = client.command("iperf3");
    // Paced: what overflows a queue is no loss of the rekeying.
    load.args(["--client", CLIENT_V4[1], "--time", "6", "--bitrate", LOAD_RATE]);
    let mut load = Daemon::spawn_command(load, "load", scratch.path())?;
    let text = std::thread::scope(|scope| -> Outcome<String> {
        let destination = CLIENT_V4[1];
        let command = format!("ping -q -c{FLOW_PACKETS} -i{FLOW_PAUSE_S} -W5 {destination}");
        let flow = scope.spawn(move || client.run(&command));
        for (gateway, arguments) in [
            (a, ["rekey", "--child", "net"]),
            (b, ["rekey", "--child", "net"]),
            (a, ["rekey", "--ike", "peer"]),
            (b, ["rekey", "--ike", "peer"]),
            (a, ["rekey", "--child", "net"]),
        ] {
            std::thread::sleep(Duration::from_millis(400));
            gateway.show(&arguments)?;
        }
        flow.join().map_err(|_| Failure::new("the flow ended badly"))?
    })?;
    let answers = text.lines().find(|line| line.contains("received")).unwrap_or_default();
    if !answers.contains(&format!("{FLOW_PACKETS} packets transmitted, {FLOW_PACKETS} received")) {
        return Err(Failure::new(format!("packets were lost in a rekeying: {answers}")));
    }
    let after = child_spis(a)?;
    if before.0 == after.0 || before.1 == after.1 {
        return Err(Failure::new("the rekeyings changed nothing"));
    }
    load.terminate(Duration::from_secs(10)).ok();
    println!("    after three rekeyings of the Child SA and two of the IKE SA");
    Show::table(&a.show(&["list-sas"])?);
    show.tick(&format!(
        "rekeyed five times, from both sides, while iperf3 ran: {FLOW_PACKETS} of {FLOW_PACKETS} \
         packets of another flow came through; SPIs {} / {} became {} / {}",
        before.0, before.1, after.0, after.1
    ));
    Ok(())
}

fn ping(show: &Show, topology: &Topology, destination: &str) -> Outcome<()> {
    let [client, _] = &topology.clients;
    wait_for(&format!("a first answer from {destination}"), SETTLE_LIMIT, || {
        client.run(&format!("ping -c1 -W1 {destination}")).map(|_| true)
    })?;
    let text = client.run(&format!("ping -q -c5 -i0.2 -W2 {destination}"))?;
    let answers = text.lines().find(|line| line.contains("received")).unwrap_or_default();
    let times = text.lines().find(|line| line.starts_with("rtt")).unwrap_or_default();
    let average = times.split('/').nth(4).unwrap_or("?");
    let answers = answers.split(", ").take(2).collect::<Vec<_>>().join(", ");
    show.tick(&format!("ping {destination}: {answers}, {average} ms on average"));
    Ok(())
}

fn iperf(show: &Show, topology: &Topology, destination: &str, udp: bool) -> Outcome<()> {
    let [client, _] = &topology.clients;
    let extra = if udp {
        format!(" --udp --bitrate {UDP_RATE} --length {UDP_PAYLOAD_BYTES}")
    } else {
        String::new()
    };
    let text =
        client.run(&format!("iperf3 --client {destination} --time {RUN_SECONDS} --json{extra}"))?;
    let report: Value = serde_json::from_str(&text)?;
    let sum = &report["end"][if udp { "sum" } else { "sum_received" }];
    let megabits = sum["bits_per_second"].as_f64().unwrap_or(0.0) / 1e6;
    if megabits <= 0.0 {
        return Err(Failure::new(format!("iperf3 to {destination}: nothing came through")));
    }
    let (kind, loss) = if udp {
        let lost = sum["lost_percent"].as_f64().unwrap_or(100.0);
        if lost >= 100.0 {
            return Err(Failure::new(format!("iperf3 to {destination}: every datagram was lost")));
        }
        ("UDP", format!(", {lost:.2} % lost"))
    } else {
        ("TCP", String::new())
    };
    show.tick(&format!("iperf3 {kind} to {destination}: {megabits:.0} Mbit/s{loss}"));
    Ok(())
}

fn prove(show: &Show, sighting: &Sighting, scratch: &ScratchDirectory) -> Outcome<()> {
    let file = scratch.path().join("wire.pcap");
    sighting.write_pcap(&file)?;
    let esp = sighting.nonce.total();
    let (leaks, repeated) = (sighting.leak.leaks, sighting.nonce.repeated.len());
    show.tick(&format!(
        "{} frames, {esp} of them ESP, {} SAs",
        sighting.frames,
        sighting.nonce.packets.len()
    ));
    if sighting.lost > 0 {
        return Err(Failure::new(format!("the capture lost {} frames: no proof", sighting.lost)));
    }
    if esp == 0 {
        return Err(Failure::new("no ESP was seen"));
    }
    if leaks > 0 {
        return Err(Failure::new(format!("{leaks} packets of protected prefixes were in clear")));
    }
    show.tick("0 packets of protected prefixes in clear");
    if repeated > 0 {
        return Err(Failure::new(format!("{repeated} initialisation vectors were used twice")));
    }
    show.tick("0 initialisation vectors used twice");
    let filter = "(ip && !esp && ip.addr==10.0.0.0/8) || (ipv6 && !esp && (ipv6.addr==2001:db8:a::/64 || ipv6.addr==2001:db8:b::/64))";
    let mut tshark = std::process::Command::new("tshark");
    tshark.arg("-n").arg("-r").arg(&file).args(["-Y", filter]);
    let seen = netns::run(&mut tshark)?;
    let count = seen.lines().filter(|line| !line.trim().is_empty()).count();
    if count > 0 {
        return Err(Failure::new(format!("tshark sees {count} packets in clear:\n{seen}")));
    }
    show.tick(&format!("tshark agrees, over the first {} frames", sighting.kept.len()));
    Ok(())
}
