//! A gateway under a flood of first messages and of nonsense goes on serving its peers.
//!
//! ```text
//! client-a ── gateway-a ──┐ wire ┌── gateway-b ── client-b
//!                         └──┬───┘
//!                         outside: spoofed addresses, and clients that mean it
//! ```
//! What is asserted are shares and counts, no times: the generator and all gateways are on the
//! same cores. Needs root and the built daemons; run by `cargo xtask test --only dos`.
#![expect(clippy::expect_used, reason = "a test stops at the first surprise")]

use serde_json::Value;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use xswan_ikev2::policy::Configuration;
use xswan_ikev2::{Input, Millis};
use xswan_simulation::peer::Dial;
use xswan_simulation::{Clients, Gateway as Core, policies};
use xswan_testkit::failure::{Failure, Outcome};
use xswan_testkit::gateway::{Gateway, GatewayConfig};
use xswan_testkit::netns::{Namespace, veth};
use xswan_testkit::packet::{self, Noise};
use xswan_testkit::process::wait_for;
use xswan_testkit::raw_socket::RawSocket;
use xswan_testkit::require_privileges;
use xswan_testkit::topology::{CLIENT_V4, OUTER_V4, Outer, Proof, Topology, ike_tunnel};
use xswan_testkit::traffic::Stream;

const PROPOSAL: &str = "aes128gcm16-x25519-esn-noesn";
const SETTLE_LIMIT: Duration = Duration::from_secs(60);
/// Where spoofed packets come from; answers to it are led back there and end.
const SPOOFED: [u8; 2] = [198, 18];
/// An address of clients in the midst of the spoofed ones.
const AMONG: Ipv4Addr = Ipv4Addr::new(198, 18, 7, 7);
/// An address of clients that nobody else pretends to have.
const APART: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 50);
/// Clients that mean it.
const CLIENTS: usize = 200;
/// Clients under way at once: they share an address, which may have few half-open SAs.
const IN_FLIGHT: usize = 4;
/// The numbers of the clients begin here, so that no inner address is a test's client's.
const FIRST_CLIENT: usize = 1000;
/// Messages made of those in the corpora.
const MUTATED: usize = 10_000;
/// What the daemon may grow by while it serves clients: their SAs, not the flood's.
const GROWTH_KIB: u64 = 16 * 1024;

/// The usual two gateways, the second one with clients from anywhere, and the outside.
struct Scene {
    topology: Topology,
    outside: Namespace,
}

impl Scene {
    fn create() -> Outcome<Self> {
        let (topology, outside) = (Topology::create()?, Namespace::create("out")?);
        veth((&outside, "eth0"), (&topology.wire, "port-o"))?;
        topology.wire.ip("link set dev port-o master br0")?;
        outside.address("eth0", &format!("{APART}/24"))?;
        outside.address("eth0", &format!("{AMONG}/32"))?;
        let [_, target] = &topology.gateways;
        let [first, second] = SPOOFED;
        target.ip(&format!("route add {first}.{second}.0.0/16 via {APART}"))?;
        Ok(Self { topology, outside })
    }

    fn configs(lines: &str) -> [GatewayConfig; 2] {
        let mut configs = ike_tunnel(Outer::V4, Proof::Psk, PROPOSAL, "", "");
        for config in &mut configs {
            // The key that the simulated clients have.
            config.appendix = config.appendix.replace("a key for a test", "a key for tests");
        }
        configs[1].appendix.push_str(&format!(
            "\n[connections.clients]\nversion = 2\nlocal_addrs = {:?}\nremote_addrs = \"%any\"\n\
             proposals = [\"aes128gcm16-prfsha256-x25519\"]\nunique = \"never\"\nmobike = false\n\
             \n[connections.clients.local]\nauth = \"psk\"\nid = \"gwb.test\"\n\
             \n[connections.clients.remote]\nauth = \"psk\"\nid = \"%any\"\n\
             \n[connections.clients.children.net]\nlocal_ts = [\"10.2.0.0/16\"]\n\
             remote_ts = [\"10.1.0.0/16\"]\nesp_proposals = [{PROPOSAL:?}]\n{lines}",
            OUTER_V4[1]
        ));
        configs
    }

    fn start(&self) -> Outcome<[Gateway<'_>; 2]> {
        let [config_a, config_b] = Self::configs("");
        let [space_a, space_b] = &self.topology.gateways;
        Ok([Gateway::start(space_a, config_a)?, Gateway::start(space_b, config_b)?])
    }

    fn clients(&self, address: Ipv4Addr, seed: u64) -> Outcome<Clients> {
        let mut configuration: Configuration = policies::clients((FIRST_CLIENT + CLIENTS) as u16);
        // Of first messages from amid the spoofed addresses as many get lost as of the flood,
        // seven in ten here: patience is what such a client has.
        configuration.settings.retransmit_timeout_ms = 200;
        configuration.settings.retransmit_base_permille = 1_250;
        configuration.settings.retransmit_tries = 18;
        let open = |port| self.outside.enter(|| UdpSocket::bind((address, port)));
        let sockets = [open(500)??, open(4500)??];
        Ok(Clients::new(address.into(), sockets, Arc::new(configuration), seed)?)
    }
}

/// A first message as our own core writes it.
fn first_message(configuration: Configuration) -> Vec<u8> {
    let [address, _] = policies::ADDRESSES;
    let mut core = Core::new(address, Arc::new(configuration), 77);
    let input = Input::Initiate {
        connection: Some(policies::client_name(0)),
        child: Some("net".to_owned()),
        packet: None,
        request: None,
    };
    let sent = core.handle(input, Millis(1));
    sent.into_iter().next().expect("a first message").octets
}

/// Sends first messages from spoofed addresses as fast as it goes, each with an SPI of its own.
struct Flood {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    begin: Instant,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Flood {
    fn start(scene: &Scene, octets: &[u8]) -> Outcome<Self> {
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let socket = RawSocket::open(&scene.outside, "eth0", false)?;
        let [_, target] = &scene.topology.gateways;
        let (to, from) = (target.mac("eth0")?, scene.outside.mac("eth0")?);
        let destination = (OUTER_V4[1].parse().expect("an address"), 500);
        let [first, second] = SPOOFED;
        let mut frames: Vec<Vec<u8>> = (0..=u16::MAX)
            .step_by(7)
            .map(|host| {
                let [third, fourth] = host.to_be_bytes();
                let source = IpAddr::from([first, second, third, fourth]);
                let packet = packet::udp((source, 1024 + host % 60_000), destination, octets);
                let mut frame = packet::frame(to, from, &[], &packet);
                // No UDP checksum, which IPv4 allows: the SPI is another one each time.
                frame[40..42].fill(0);
                frame
            })
            .collect();
        let (stopped, count) = (Arc::clone(&stop), Arc::clone(&sent));
        let thread = std::thread::spawn(move || {
            let mut serial = 0x1000_0000_0000_0000_u64;
            while !stopped.load(Ordering::Acquire) {
                for frame in &mut frames {
                    serial += 1;
                    frame[42..50].copy_from_slice(&serial.to_be_bytes());
                    count.fetch_add(u64::from(socket.send(frame).is_ok()), Ordering::Relaxed);
                }
            }
        });
        Ok(Self { stop, sent, begin: Instant::now(), thread: Some(thread) })
    }

    fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Stops; returns how many were sent, and how many a second.
    fn stop(mut self) -> (u64, f64) {
        self.end();
        let sent = self.sent();
        (sent, sent as f64 / self.begin.elapsed().as_secs_f64())
    }

    fn end(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the flood");
        }
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.end();
    }
}

/// Memory in RAM of a process.
fn rss_kib(pid: u32) -> Outcome<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.ok_or_else(|| Failure::new("no VmRSS"))
}

fn counters(gateway: &Gateway<'_>) -> Outcome<Value> {
    Ok(gateway.query(&["status"])?["ike"].clone())
}

#[expect(clippy::print_stderr, reason = "the figures of a run, shown on request")]
fn tell(line: &str) {
    eprintln!("{line}");
}

#[test]
fn dos_01_dos_02_dos_12_clients_and_tunnels_under_a_flood() -> Outcome<()> {
    require_privileges!("dos_01_dos_02_dos_12_clients_and_tunnels_under_a_flood");
    let scene = Scene::create()?;
    let mut gateways = scene.start()?;
    gateways[0].show(&["initiate", "--child", "net"])?;
    let [from, to] = &scene.topology.clients;
    wait_for("an answer through the tunnel", SETTLE_LIMIT, || {
        from.run(&format!("ping -c1 -W1 {}", CLIENT_V4[1])).map(|_| true)
    })?;
    let address = CLIENT_V4[1].parse().expect("an address");
    let stream = Stream::start(from, (to, address, 9009), Duration::from_millis(2), 200)?;
    let pid = gateways[1].control()?.pid();

    let flood = Flood::start(&scene, &first_message(policies::clients(1)))?;
    wait_for("the flood to be noticed", SETTLE_LIMIT, || Ok(flood.sent() > 200_000))?;
    let before = rss_kib(pid)?;
    let mut shares = Vec::new();
    for (round, address) in [APART, AMONG].into_iter().enumerate() {
        let mut clients = scene.clients(address, round as u64 + 1)?;
        let tally = clients.each(CLIENTS, IN_FLIGHT, SETTLE_LIMIT * 2, |clients, client| {
            clients.initiate(&policies::client_name((FIRST_CLIENT + client) as u16), "net")
        })?;
        tell(&format!(
            "{} of {CLIENTS} clients at {address}, {} requests again, failures {:?}",
            tally.done,
            clients.statistics().retransmitted_requests,
            tally.failed.first()
        ));
        shares.push(tally.done);
    }
    gateways[0].show(&["rekey", "--child", "net"])?;
    let after = rss_kib(pid)?;
    let (sent, rate) = flood.stop();
    let counted = counters(&gateways[1])?;
    let report = stream.stop()?;
    tell(&format!(
        "flood: {sent} first messages, {rate:.0} a second; control {before} KiB, then {after} KiB; \
         stream {report:?}; {counted}"
    ));
    for done in shares {
        assert!(done * 100 >= CLIENTS * 99, "{done} of {CLIENTS} clients came in");
    }
    assert!(after <= before + GROWTH_KIB, "from {before} KiB to {after} KiB");
    assert!(report.arrived * 100 >= report.sent * 98, "the tunnel suffered: {report:?}");
    let half_open = counted["core"]["half_open"].as_u64().expect("a counter");
    assert!(half_open <= 40, "{half_open} half-open SAs after a flood without cookies");
    Ok(())
}

/// Lengths: each up to the MTU, then some up to the longest, whose packets are fragments.
fn lengths() -> impl Iterator<Item = usize> {
    (0..=1472).chain((1473..65_507).step_by(1021)).chain([65_507])
}

#[test]
fn ike_23_dos_13_datagrams_of_all_sizes_are_counted_and_not_logged() -> Outcome<()> {
    require_privileges!("ike_23_dos_13_datagrams_of_all_sizes_are_counted_and_not_logged");
    let scene = Scene::create()?;
    let [_, config] = Scene::configs("");
    let mut gateway = Gateway::start(&scene.topology.gateways[1], config)?;
    let lines = gateway.control()?.log().lines().count();
    let begin = Instant::now();
    let socket = scene.outside.enter(|| UdpSocket::bind((APART, 1500)))??;
    let target: IpAddr = OUTER_V4[1].parse().expect("an address");
    let mut random = Noise::new(23);
    let mut sent = 0;
    let runts = gateway.drops("runt")?;
    let received = |gateway: &Gateway<'_>| -> Outcome<u64> {
        let counted = counters(gateway)?;
        let of = |list: &str, name: &str| counted[list][name].as_u64().unwrap_or(0);
        // On port 4500 what is shorter than the marker does not come past the XDP program.
        Ok(of("udp", "received") + of("udp", "unusable") + gateway.drops("runt")? - runts)
    };
    for len in lengths() {
        let mut octets = vec![0; len];
        random.fill(&mut octets);
        socket.send_to(&octets, (target, 500))?;
        // With the marker, or too short for it: anything else is ESP.
        octets.iter_mut().take(4).for_each(|octet| *octet = 0);
        socket.send_to(&octets, (target, 4500))?;
        sent += 2;
        if sent % 256 == 0 {
            wait_for("datagrams to be counted", SETTLE_LIMIT, || Ok(received(&gateway)? == sent))?;
        }
    }
    wait_for("every datagram to be counted", SETTLE_LIMIT, || Ok(received(&gateway)? == sent))?;
    let counted = counters(&gateway)?;
    let core = |name: &str| counted["core"][name].as_u64().unwrap_or(0);
    let of_core = counted["udp"]["received"].as_u64().expect("a counter");
    tell(&format!("{sent} datagrams: {counted}"));
    assert_eq!(core("datagrams_in"), of_core);
    // Random octets have no right length field.
    assert_eq!(core("malformed"), of_core);
    assert_eq!(core("half_open"), 0);
    assert_eq!(gateway.drops("runt")? - runts, 4);
    bounded_log(&mut gateway, lines, begin)
}

#[test]
fn dos_13_refused_first_messages_are_counted_and_not_all_logged() -> Outcome<()> {
    require_privileges!("dos_13_refused_first_messages_are_counted_and_not_all_logged");
    let scene = Scene::create()?;
    let [_, config] = Scene::configs("");
    let mut gateway = Gateway::start(&scene.topology.gateways[1], config)?;
    let lines = gateway.control()?.log().lines().count();
    let begin = Instant::now();
    let mut configuration = policies::clients(1);
    for connection in &mut configuration.connections {
        let mut changed = (**connection).clone();
        for proposal in &mut changed.proposals {
            proposal.transforms.iter_mut().for_each(|transform| {
                if transform.kind == 2 {
                    // PRF_HMAC_SHA2_512, which the gateway's proposal has not.
                    transform.id = 7;
                }
            });
        }
        *connection = Arc::new(changed);
    }
    let flood = Flood::start(&scene, &first_message(configuration))?;
    wait_for("enough of them", SETTLE_LIMIT, || Ok(flood.sent() > 100_000))?;
    let (sent, rate) = flood.stop();
    let counted = || -> Outcome<[u64; 4]> {
        let all = counters(&gateway)?;
        let of = |list: &str, name: &str| all[list][name].as_u64().unwrap_or(0);
        Ok([
            of("udp", "received"),
            of("core", "datagrams_in"),
            of("core", "stateless_answers") + of("core", "suppressed_answers"),
            of("events", "ike-refused"),
        ])
    };
    let mut last = [u64::MAX; 4];
    wait_for("the queue to be empty", SETTLE_LIMIT, || {
        let now = counted()?;
        std::thread::sleep(Duration::from_millis(200));
        Ok(std::mem::replace(&mut last, now) == now)
    })?;
    tell(&format!("{sent} sent, {rate:.0} a second; {last:?} counted"));
    let [received, handled, answered, refused] = last;
    assert!(received > 0 && received <= sent);
    assert_eq!([handled, answered, refused], [received; 3], "every one is counted");
    bounded_log(&mut gateway, lines, begin)
}

/// A hundred lines a second at most, of any length of time that was begun.
fn bounded_log(gateway: &mut Gateway<'_>, before: usize, begin: Instant) -> Outcome<()> {
    let lines = gateway.control()?.log().lines().count() - before;
    let seconds = begin.elapsed().as_secs() as usize + 2;
    assert!(lines <= 100 * seconds, "{lines} lines in {seconds} seconds");
    assert!(gateway.control()?.is_running()?);
    Ok(())
}

/// Messages of the fuzzers: every file of both corpora, most of them hostile.
fn corpus() -> Outcome<Vec<Vec<u8>>> {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus");
    let mut files = Vec::new();
    for target in ["ike_message", "ike_machine"] {
        for entry in std::fs::read_dir(fuzz.join(target))? {
            files.push(std::fs::read(entry?.path())?);
        }
    }
    Ok(files)
}

/// The octets with some of them changed, and mostly with a length field that is right.
fn mutated(random: &mut Noise, octets: &[u8]) -> Vec<u8> {
    let mut octets = octets.to_vec();
    octets.resize(octets.len().clamp(28, 1_400), 0);
    for _ in 0..=random.below(4) {
        let at = random.below(octets.len());
        match random.below(3) {
            0 => octets[at] = random.next_u64() as u8,
            1 => octets[at] ^= 1 << random.below(8),
            _ => octets.truncate(at.max(28)),
        }
    }
    if random.below(10) > 0 {
        let length = octets.len() as u32;
        octets[24..28].copy_from_slice(&length.to_be_bytes());
    }
    octets
}

#[test]
fn ike_17_hostile_messages_with_everything_logged() -> Outcome<()> {
    require_privileges!("ike_17_hostile_messages_with_everything_logged");
    let scene = Scene::create()?;
    let mut configs = Scene::configs("");
    configs[1].environment.push(("RUST_LOG".to_owned(), "trace".to_owned()));
    let [config_a, config_b] = configs;
    let [space_a, space_b] = &scene.topology.gateways;
    let gateways = [Gateway::start(space_a, config_a)?, Gateway::start(space_b, config_b)?];
    let [initiator, mut gateway] = gateways;
    initiator.show(&["initiate", "--child", "net"])?;
    let socket = scene.outside.enter(|| UdpSocket::bind((APART, 1500)))??;
    let target: IpAddr = OUTER_V4[1].parse().expect("an address");
    let mut random = Noise::new(17);
    let begun = counters(&gateway)?["core"]["datagrams_in"].as_u64().unwrap_or(0);
    let handled = |gateway: &Gateway<'_>| -> Outcome<u64> {
        let counted = counters(gateway)?;
        Ok(counted["core"]["datagrams_in"].as_u64().unwrap_or(0) - begun)
    };
    let files = corpus()?;
    let picks: Vec<usize> = (0..MUTATED).map(|_| random.below(files.len())).collect();
    let changed: Vec<Vec<u8>> =
        picks.into_iter().map(|pick| mutated(&mut random, &files[pick])).collect();
    let mut sent = 0;
    for octets in files.iter().chain(&changed) {
        socket.send_to(octets, (target, 500))?;
        socket.send_to(&[&[0; 4][..], octets].concat(), (target, 4500))?;
        sent += 2;
        if sent % 256 == 0 {
            // Nothing is lost on the way if it is not sent too fast.
            wait_for("messages to be handled", SETTLE_LIMIT, || Ok(handled(&gateway)? >= sent))?;
        }
    }
    wait_for("all to be handled", SETTLE_LIMIT, || Ok(handled(&gateway)? >= sent))?;
    assert!(gateway.control()?.is_running()?);
    let log = gateway.control()?.log();
    assert!(log.contains("DEBUG") && log.contains("parsed IKE_AUTH"), "messages are logged");
    assert!(!log.contains("panicked"), "{}", gateway.control()?.log_tail());
    assert!(!log.contains("a key for tests"));
    // The tunnel is there and can be rekeyed: both know of it.
    initiator.show(&["rekey", "--ike", "peer"])?;
    initiator.show(&["rekey", "--child", "net"])?;
    Ok(())
}

#[test]
fn dos_14_limits_are_what_was_set_and_are_read_back() -> Outcome<()> {
    require_privileges!("dos_14_limits_are_what_was_set_and_are_read_back");
    let scene = Scene::create()?;
    let [_, mut config] = Scene::configs("");
    let keys = [
        "cookie_threshold",
        "cookie_threshold_ip",
        "block_threshold",
        "init_limit_half_open",
        "init_key_exchanges",
    ];
    let table = |values: [u64; 5]| -> String {
        let lines = keys.iter().zip(values).map(|(key, value)| format!("{key} = {value}\n"));
        lines.fold("\n[ike]\n".to_owned(), |text, line| text + &line)
    };
    let without = config.appendix.clone();
    let (first, second) = ([7, 1_000, 0, 900, 0], [11, 1_001, 1_002, 5, 333]);
    config.appendix = without.clone() + &table(first);
    let mut gateway = Gateway::start(&scene.topology.gateways[1], config)?;
    let read_back = |gateway: &Gateway<'_>| -> Outcome<[u64; 5]> {
        let limits = counters(gateway)?["limits"].clone();
        Ok(keys.map(|key| limits[key].as_u64().unwrap_or(u64::MAX)))
    };
    assert_eq!(read_back(&gateway)?, first);
    // And they are what happens.
    let socket = scene.outside.enter(|| UdpSocket::bind((APART, 1500)))??;
    let target: IpAddr = OUTER_V4[1].parse().expect("an address");
    for seed in 0..50 {
        socket.send_to(&Dial::new(0, seed, &[]).octets, (target, 500))?;
    }
    let core = |gateway: &Gateway<'_>, name: &str| -> Outcome<u64> {
        Ok(counters(gateway)?["core"][name].as_u64().unwrap_or(0))
    };
    wait_for("all to be handled", SETTLE_LIMIT, || Ok(core(&gateway, "datagrams_in")? == 50))?;
    assert_eq!((core(&gateway, "half_open")?, core(&gateway, "stateless_answers")?), (7, 43));
    gateway.config.appendix = without.clone() + &table(second);
    gateway.write_config()?;
    gateway.query(&["reload"])?;
    assert_eq!(read_back(&gateway)?, second);
    // There are more than the new limit already.
    socket.send_to(&Dial::new(0, 99, &[]).octets, (target, 500))?;
    wait_for("a refusal", SETTLE_LIMIT, || Ok(core(&gateway, "refused_half_open")? == 1))?;
    gateway.config.appendix = without;
    gateway.write_config()?;
    gateway.query(&["reload"])?;
    assert_eq!(read_back(&gateway)?, [30, 3, 0, 0, 4_000]);
    Ok(())
}
