//! The steering program in the kernel's verifier and JIT against the same code on the host.
//!
//! Nothing is attached and no traffic flows: the kernel runs the program on frames given to
//! it (`BPF_PROG_TEST_RUN`). Needs root; elsewhere only the host's half is run.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
#![expect(clippy::print_stdout, reason = "a test that is skipped says so")]

mod frames;

use aya::maps::lpm_trie::Key;
use aya::maps::{Array, HashMap, LpmTrie, MapData, PerCpuArray, XskMap};
use aya::programs::{TestRun, TestRunOptions, Xdp};
use aya::{Ebpf, EbpfLoader};
use frames::{Case, WORKERS, World, cases, tagged};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use xswan_steer::abi::{PortValue, ROLE_INNER, ROLE_OUTER, SteerConfig, socket_index};
use xswan_steer::verdict::COUNTERS;
use xswan_steer::{Verdict, classify};
use xswan_wire::{DropReason, ethernet};

const XDP_DROP: u32 = 1;
const XDP_PASS: u32 = 2;
const XDP_REDIRECT: u32 = 4;
/// A test run without a context comes in on the first queue of the loopback device.
const LOOPBACK: u32 = 1;
/// The shortest frame the kernel takes for a test run.
const SHORTEST: usize = ethernet::HEADER_LEN;
/// Position of the port in the socket map: not 0, so that an index without it is noticed.
const PORT: u32 = 3;

/// The object to test: that of the tree, or one that was just built.
fn object() -> Vec<u8> {
    let path = std::env::var_os("XSWAN_STEER_OBJECT")
        .map_or_else(|| PathBuf::from(env!("STEER_OBJECT")), PathBuf::from);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A bpffs of its own, so that maps pinned by name meet nobody else's.
struct PinFolder(PathBuf);

impl PinFolder {
    /// # Errors
    /// This kernel or container does not let us mount one.
    fn new() -> Result<Self, String> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("xswan-steer-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).unwrap();
        let mount = Command::new("mount").args(["-t", "bpf", "bpf"]).arg(&path).output();
        let folder = Self(path);
        match mount {
            Ok(output) if output.status.success() => Ok(folder),
            Ok(output) => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
            Err(error) => Err(format!("mount: {error}")),
        }
    }
}

impl Drop for PinFolder {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
        let _ = std::fs::remove_dir(&self.0);
    }
}

/// The program, loaded, and what it should have counted.
struct Kernel {
    ebpf: Ebpf,
    expected: Vec<u64>,
    /// Which workers have a socket, a bit each.
    sockets: u32,
    socket: OwnedFd,
    _folder: PinFolder,
}

impl Kernel {
    /// `None`, with a line that says why, where the kernel cannot be asked.
    fn new(world: &World) -> Option<Self> {
        // SAFETY: takes no argument and cannot fail.
        if unsafe { libc::geteuid() } != 0 {
            println!("skipped: not root");
            return None;
        }
        let folder = match PinFolder::new() {
            Ok(folder) => folder,
            Err(why) => {
                println!("skipped: no bpffs: {why}");
                return None;
            }
        };
        let mut ebpf =
            EbpfLoader::new().default_map_pin_directory(&folder.0).load(&object()).unwrap();
        let program: &mut Xdp = ebpf.program_mut("steer").unwrap().try_into().unwrap();
        program.load().unwrap_or_else(|error| panic!("the verifier refuses it: {error:?}"));
        // SAFETY: creates a descriptor from three numbers.
        let socket = unsafe { libc::socket(libc::AF_XDP, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
        assert!(socket >= 0, "{}", std::io::Error::last_os_error());
        // SAFETY: the descriptor was just made and is owned by nobody else.
        let socket = unsafe { OwnedFd::from_raw_fd(socket) };
        let expected = vec![0; COUNTERS as usize];
        let mut kernel = Self { ebpf, expected, sockets: 0, socket, _folder: folder };
        kernel.fill(world);
        Some(kernel)
    }

    fn fill(&mut self, world: &World) {
        let mut outer: HashMap<_, [u8; 16], u32> = self.map("steer_outer").try_into().unwrap();
        for address in &world.outer {
            outer.insert(address, 1, 0).unwrap();
        }
        let mut spis: HashMap<_, [u8; 4], u32> = self.map("steer_spis").try_into().unwrap();
        for (spi, worker) in &world.spis {
            spis.insert(spi, worker, 0).unwrap();
        }
        let mut trie: LpmTrie<_, [u8; 4], [u16; 2]> = self.map("steer_prefix4").try_into().unwrap();
        for (prefix, value) in &world.prefixes4 {
            let key = Key::new(prefix.length, prefix.address);
            trie.insert(&key, [value.flags, value.worker], 0).unwrap();
        }
        let mut trie: LpmTrie<_, [u8; 16], [u16; 2]> =
            self.map("steer_prefix6").try_into().unwrap();
        for (prefix, value) in &world.prefixes6 {
            let key = Key::new(prefix.length, prefix.address);
            trie.insert(&key, [value.flags, value.worker], 0).unwrap();
        }
        self.configure(&world.config);
    }

    fn map(&mut self, name: &str) -> &mut aya::maps::Map {
        self.ebpf.map_mut(name).unwrap()
    }

    fn configure(&mut self, config: &SteerConfig) {
        let SteerConfig { version, workers, member, static_spis, spi_key: [a, b, c, d] } = *config;
        let words = [version, workers, member, static_spis, a, b, c, d];
        let mut map: Array<_, [u32; 8]> = self.map("steer_config").try_into().unwrap();
        map.set(0, words, 0).unwrap();
    }

    /// Makes the loopback device a port with these roles, or none at all.
    fn port(&mut self, roles: u32) -> Option<PortValue> {
        let mut map: HashMap<_, u32, [u32; 2]> = self.map("steer_ports").try_into().unwrap();
        if roles == 0 {
            let _ = map.remove(&LOOPBACK);
            return None;
        }
        map.insert(LOOPBACK, [PORT, roles], 0).unwrap();
        Some(PortValue { index: PORT, roles })
    }

    /// Gives a socket to the workers whose bit is set. It is bound to nothing: a test run
    /// ends with the action and delivers no frame.
    fn sockets(&mut self, workers: u32) {
        let socket = self.socket.as_raw_fd();
        let mut map: XskMap<&mut MapData> = self.map("xsks").try_into().unwrap();
        for worker in 0..WORKERS {
            let index = socket_index(PORT, 0, worker);
            if workers >> worker & 1 != 0 {
                map.set(index, socket, 0).unwrap();
            } else {
                let _ = map.unset(index);
            }
        }
        self.sockets = workers;
    }

    fn count(&mut self, counter: u32) -> u64 {
        let map: PerCpuArray<_, u64> = self.map("steer_stats").try_into().unwrap();
        map.get(&counter, 0).unwrap().iter().sum()
    }

    /// Runs the program on a frame and compares action and counter with what the host says.
    fn check(&mut self, name: &str, frame: &[u8], host: Verdict) {
        let (counted, action) = match host {
            Verdict::Redirect { worker, .. } if self.sockets >> worker & 1 == 0 => {
                (Verdict::Drop(DropReason::NoWorker), XDP_DROP)
            }
            Verdict::Redirect { .. } => (host, XDP_REDIRECT),
            Verdict::Pass(_) => (host, XDP_PASS),
            Verdict::Drop(_) => (host, XDP_DROP),
        };
        let program: &mut Xdp = self.ebpf.program_mut("steer").unwrap().try_into().unwrap();
        let options = TestRunOptions { data_in: Some(frame), ..TestRunOptions::new() };
        let result = program.test_run(options).unwrap();
        let counter = counted.counter();
        self.expected[counter as usize] += 1;
        let expected = self.expected[counter as usize];
        let said = (result.return_value, self.count(counter));
        assert_eq!(said, (action, expected), "{name}: {host:?}, {} {frame:02x?}", frame.len());
    }

    /// Every frame was counted once and nothing else was.
    fn check_sums(&mut self) {
        let counts: Vec<u64> = (0..COUNTERS).map(|counter| self.count(counter)).collect();
        assert_eq!(counts, self.expected);
    }
}

fn port_of(roles: u32) -> Option<PortValue> {
    (roles != 0).then_some(PortValue { index: PORT, roles })
}

fn on_the_host(case: &Case, world: &World) -> Verdict {
    classify(&case.frame[..], case.frame.len(), port_of(case.roles), world)
}

/// Runs the cases whose name holds one of `parts` on host and kernel.
fn run_cases(parts: &[&str]) {
    let world = World::new();
    let mut kernel = Kernel::new(&world);
    let mut found = 0;
    for case in cases().iter().filter(|case| parts.iter().any(|part| case.name.contains(part))) {
        found += 1;
        let verdict = on_the_host(case, &world);
        assert_eq!(verdict.name(), case.expected, "{}", case.name);
        if let (Verdict::Redirect { worker, .. }, Some(expected)) = (verdict, case.worker) {
            assert_eq!(worker, expected, "{}", case.name);
        }
        let Some(kernel) = &mut kernel else { continue };
        kernel.port(case.roles);
        // With all sockets the kind is seen, with two halves of them the worker.
        for sockets in [0b1111, 0b0101, 0b0011, 0] {
            kernel.sockets(sockets);
            kernel.check(case.name, &case.frame, verdict);
        }
    }
    assert!(found > 0, "no case is called {parts:?}");
    if let Some(kernel) = &mut kernel {
        kernel.check_sums();
    }
}

#[test]
fn every_case_of_the_table() {
    run_cases(&[""]);
}

#[test]
fn str_02_the_marker_decides_on_port_4500() {
    run_cases(&["esp in udp", "4500", "marker", "zeros", "keepalive", "sequence number"]);
}

#[test]
fn str_03_port_500_is_ike_with_a_marker_or_without() {
    run_cases(&["500"]);
}

#[test]
fn str_13_what_is_not_ours_is_passed() {
    run_cases(&["arp", "neighbour", "ssh", "ping to us", "multicast", "lldp", "somebody else"]);
}

#[test]
fn str_07_without_a_socket_nothing_is_passed_in_clear() {
    let world = World::new();
    let Some(mut kernel) = Kernel::new(&world) else { return };
    let no_worker = Verdict::Drop(DropReason::NoWorker);
    for case in cases().iter().filter(|case| case.expected.starts_with("steer_")) {
        // Neither without sockets nor without the port is there a way to the kernel.
        for roles in [case.roles, 0] {
            kernel.port(roles);
            kernel.check(case.name, &case.frame, no_worker);
        }
    }
    // Nor on a port that is further out than the socket map reaches.
    let mut ports: HashMap<_, u32, [u32; 2]> = kernel.map("steer_ports").try_into().unwrap();
    ports.insert(LOOPBACK, [u32::MAX, ROLE_OUTER | ROLE_INNER], 0).unwrap();
    for case in cases().iter().filter(|case| case.expected == "steer_esp") {
        kernel.check(case.name, &case.frame, no_worker);
    }
    kernel.check_sums();
}

#[test]
fn without_a_configuration_all_is_passed() {
    let mut world = World::new();
    let mut kernel = Kernel::new(&world);
    for (version, workers) in [(0, 4), (2, 4), (1, 0), (1, 65)] {
        (world.config.version, world.config.workers) = (version, workers);
        for case in cases() {
            let verdict = on_the_host(&case, &world);
            assert_eq!(verdict.name(), "pass_not_ready", "{}", case.name);
            if let Some(kernel) = &mut kernel {
                kernel.configure(&world.config);
                kernel.port(case.roles);
                kernel.check(case.name, &case.frame, verdict);
            }
        }
    }
}

/// A small generator of the same numbers every time (splitmix64).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ mixed >> 31) % limit as u64) as usize
    }
}

/// Calls `found` with every frame, in none, one and two tags, cut at every byte, and IPv4
/// with every header length; then with frames that differ in up to four bytes.
fn mutations(mut found: impl FnMut(&Case, &[u8])) {
    let mut random = Random(1);
    for case in cases().iter().filter(|case| case.frame.len() < 200) {
        let once = tagged(&case.frame, ethernet::VLAN);
        let twice = tagged(&once, ethernet::SERVICE_VLAN);
        for (tags, frame) in [&case.frame, &once, &twice].into_iter().enumerate() {
            for len in SHORTEST..=frame.len() {
                found(case, &frame[..len]);
            }
            let ip = 14 + 4 * tags;
            if frame.get(ip).is_some_and(|first| first >> 4 == 4) {
                for header_len in 0..16 {
                    let mut frame = frame.clone();
                    frame[ip] = 0x40 | header_len;
                    for len in (ip..=frame.len()).step_by(3) {
                        found(case, &frame[..len]);
                    }
                }
            }
            for _ in 0..250 {
                let mut frame = frame.clone();
                for _ in 0..=random.below(4) {
                    let at = 12 + random.below(frame.len() - 12);
                    frame[at] = match random.below(3) {
                        0 => random.below(256) as u8,
                        1 => frame[at] ^ 1 << random.below(8),
                        _ => [0, 1, 4, 6, 8, 17, 43, 44, 50, 58, 60, 0x81, 0xff][random.below(13)],
                    };
                }
                found(case, &frame);
            }
        }
    }
}

#[test]
fn str_01_mutated_frames_get_the_host_s_verdict_in_the_kernel() {
    let world = World::new();
    let mut kernel = Kernel::new(&world);
    let (mut total, mut last) = (0_usize, None);
    mutations(|case, frame| {
        total += 1;
        let verdict = classify(frame, frame.len(), port_of(case.roles), &world);
        let Some(kernel) = &mut kernel else { return };
        if last != Some(case.name) {
            last = Some(case.name);
            kernel.port(case.roles);
        }
        if total % 1000 == 1 {
            kernel.sockets([0b1111, 0b0101, 0b0011, 0b0001][total / 1000 % 4]);
        }
        kernel.check(case.name, frame, verdict);
    });
    assert!(total >= 100_000, "{total} frames");
    if let Some(kernel) = &mut kernel {
        kernel.check_sums();
    }
}
