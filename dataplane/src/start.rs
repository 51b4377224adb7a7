//! From the configuration to running workers, in the order that lets nothing slip through.
//!
//! Look at the machine, open everything, start the workers; attach the program last, when
//! control has said what is protected. Every
//! refusal is one line that names the key or the command that mends it.

use std::sync::Arc;
use std::thread::JoinHandle;

use arc_swap::ArcSwap;
use rtrb::RingBuffer;
use xswan_aead::Backend;
use xswan_config::{
    AeadBackend, Config, Device, DeviceMode, DeviceRole, Fragmentation, HugePages, Rings, Wait,
};
use xswan_pipeline::engine::{Engine, EngineConfig};
use xswan_pipeline::forward::Fib;
use xswan_pipeline::spd::Spd;
use xswan_pipeline::table::SpiReader;
use xswan_sa_api::{Geometry, SharedMaps};
use xswan_steer::abi::{PortValue, ROLE_INNER, ROLE_OUTER};
use xswan_xsk::own::OwnUmem;
use xswan_xsk::socket::RingSizes;
use xswan_xsk::umem::ChunkSize;
use xswan_xsk::xsk::XskUmem;
use xswan_xsk::{
    Backend as RingBackend, Bell, BusyPoll, FrameStock, Mode, OpenError, Opened, Pages,
    QueueRequest, QueueRings, QueueSocket, UmemConfig, open_all,
};

use crate::buffer::JUMBO_ROOM;
use crate::counters::WorkerCounters;
use crate::intake::{COMMANDS, Intake};
use crate::io::{Io, IoParts, SlowPathRings};
use crate::kernel::slow_path::{Injection, SlowPath, WorkerRings};
use crate::kernel::snapshot::{Link, Tables};
use crate::privilege;
use crate::rings;
use crate::sadb::{Sadb, WorkerLink};
use crate::steering::Steering;
use crate::topology::{Port, Topology, numa_node_of_device};
use crate::worker::Worker;

/// Bytes of layer 2 in front of an IP packet at most: Ethernet and two tags.
const L2_LEN: u32 = 22;
/// Packets under way to the kernel at most, for each worker.
const PUNT_RING: usize = 256;
/// Packets under way from the kernel at most.
const INJECT_RING: usize = 256;
/// Long buffers of each worker, where packets do not fit a chunk: as many as a few bursts of
/// them need, received and sent.
const JUMBOS: usize = 512;
/// MTU of the TUN device in bytes: whatever a port can receive goes to the kernel through it.
/// What the kernel sends into it and does not fit its tunnel is cut, or the kernel is told the
/// size that fits that tunnel, which no MTU of a device for all of them could say.
const TUN_MTU: u16 = 9000;
/// Busy polling: how long one call polls, in microseconds, and its budget in packets; the
/// values that the kernel's documentation of AF_XDP busy polling uses.
const BUSY_POLL: BusyPoll = BusyPoll { time_us: 20, budget: 64 };

/// What runs.
pub struct Running {
    /// The plan.
    pub topology: Topology,
    /// The devices as configured, in the order of ports.
    devices: Vec<Device>,
    /// The sockets' mode.
    granted: String,
    /// How each port's program is attached, and its sockets' mode; empty until it is.
    pub modes: Vec<String>,
    /// Notes for the operator: fallbacks taken, pages got.
    pub notes: Vec<String>,
    /// The program.
    pub steering: Steering,
    /// The workers' threads.
    pub workers: Vec<JoinHandle<()>>,
    /// Their counters.
    pub counters: Vec<Arc<WorkerCounters>>,
    /// Their SAs.
    pub sadb: Sadb,
    /// Forwarding tables.
    pub fib: Arc<ArcSwap<Fib>>,
    /// The TUN device.
    pub slow_path: SlowPath,
    /// Longest IP packet that a frame holds, in bytes.
    pub longest_packet: u32,
    /// Which library ciphers.
    pub backend: Backend,
}

/// The geometry of the shared maps that a configuration asks for.
#[must_use]
pub fn geometry(config: &Config) -> Geometry {
    Geometry {
        sa_slots: config.dataplane.sa_slots,
        policies: config.dataplane.policies,
        replay_words: config.dataplane.replay_words,
        workers: u32::try_from(config.cores.workers.len()).unwrap_or(u32::MAX),
        member: u32::from(config.instance.member),
    }
}

/// Starts everything.
///
/// # Errors
/// One line for the operator.
pub fn start(config: &Config, maps: &Arc<SharedMaps>, tables: &Tables) -> Result<Running, String> {
    match config.dataplane.rings {
        Rings::Own => start_on::<OwnUmem>(config, maps, tables),
        Rings::XskRs => start_on::<XskUmem>(config, maps, tables),
    }
}

fn start_on<B: RingBackend>(
    config: &Config,
    maps: &Arc<SharedMaps>,
    tables: &Tables,
) -> Result<Running, String> {
    let topology = plan(config, tables)?;
    let mut steering =
        Steering::load(&config.bpf_directory()).map_err(|error| error.to_string())?;
    let jumbo = needs_jumbo(config, &topology, tables);
    let (mut opened, topology) = open_queues::<B>(config, topology, jumbo)?;
    let room = if jumbo { JUMBO_ROOM } else { opened.umem.umem().longest_frame() };
    let longest_packet = u32::try_from(room).unwrap_or(0).saturating_sub(L2_LEN);
    check_mtus(&topology, tables, longest_packet)?;
    let granted = opened.queues.first().map_or_else(String::new, |queue| queue.granted.to_string());
    let notes = notes(&opened);
    fill_socket_map(&mut steering, &topology, &opened)?;

    let queues = topology.ports.iter().map(|port| port.queues.len()).sum();
    let counters: Vec<Arc<WorkerCounters>> =
        topology.worker_cores.iter().map(|_| Arc::new(WorkerCounters::new(queues))).collect();
    let fib = Arc::new(ArcSwap::from_pointee(tables.fib(&ifindices(&topology))));
    let spd = Arc::new(ArcSwap::from_pointee(Spd::default()));
    let mut slow_path = SlowPath::open(&config.dataplane.tun, TUN_MTU).map_err(|error| {
        format!(
            "the TUN device {} cannot be made: {error}; set dataplane.tun to a free name",
            config.dataplane.tun
        )
    })?;
    let backend = backend(config);
    let stocks = std::mem::take(&mut opened.stocks);
    let shared = Shared {
        config,
        topology: &topology,
        maps,
        fib: &fib,
        spd: &spd,
        counters: &counters,
        jumbo,
    };
    let (workers, links, rings, inject) = build_workers(&shared, opened, stocks, slow_path.bell())?;
    slow_path.start(rings, inject).map_err(|error| format!("slow path: {error}"))?;
    let sadb = Sadb::new(Arc::clone(maps), links, backend, spd)?;
    let workers = spawn(workers, &topology)?;
    Ok(Running {
        topology,
        devices: config.devices.clone(),
        granted,
        modes: Vec::new(),
        notes,
        steering,
        workers,
        counters,
        sadb,
        fib,
        slow_path,
        longest_packet,
        backend,
    })
}

/// Which devices, queues and cores.
fn plan(config: &Config, tables: &Tables) -> Result<Topology, String> {
    let available = core_affinity::get_core_ids().unwrap_or_default();
    let core = |key: &str, number: u32| {
        let number = number as usize;
        if available.iter().any(|core| core.id == number) {
            return Ok(number);
        }
        let ids: Vec<_> = available.iter().map(|core| core.id).collect();
        Err(format!(
            "cores.{key}: core {number} is not available to this process; it may use {ids:?}"
        ))
    };
    let main_core = core("main", config.cores.main)?;
    let worker_cores =
        config.cores.workers.iter().map(|&w| core("workers", w)).collect::<Result<_, _>>()?;
    let mut ports = Vec::new();
    for device in &config.devices {
        let (ifindex, link) = find_link(tables, &device.name)?;
        let queues =
            device.queues.clone().unwrap_or_else(|| (0..link.receive_queues.max(1)).collect());
        ports.push(Port {
            name: device.name.clone(),
            ifindex,
            roles: match device.role {
                DeviceRole::Outer => ROLE_OUTER,
                DeviceRole::Inner => ROLE_INNER,
                DeviceRole::Both => ROLE_OUTER | ROLE_INNER,
            },
            queues,
            numa_node: numa_node_of_device(&device.name),
        });
    }
    Ok(Topology { main_core, worker_cores, ports })
}

fn find_link<'t>(tables: &'t Tables, name: &str) -> Result<(u32, &'t Link), String> {
    tables
        .links
        .iter()
        .find(|(_, link)| link.name == name)
        .map(|(&index, link)| (index, link))
        .ok_or_else(|| format!("device: there is no device {name}; `ip link` lists them"))
}

fn mtu_of(port: &Port, tables: &Tables) -> u32 {
    tables.links.get(&port.ifindex).map_or(0, |link| link.mtu)
}

/// Whether a port takes packets that no chunk holds. Only then are they asked for: not every
/// driver has zero-copy for them, and their buffers cost memory.
fn needs_jumbo(config: &Config, topology: &Topology, tables: &Tables) -> bool {
    let longest = chunk(config).longest_frame().saturating_sub(L2_LEN);
    topology.ports.iter().any(|port| mtu_of(port, tables) > longest)
}

fn check_mtus(topology: &Topology, tables: &Tables, longest: u32) -> Result<(), String> {
    for port in &topology.ports {
        let mtu = mtu_of(port, tables);
        if mtu > longest {
            return Err(format!(
                "{}: MTU {mtu} is more than the {longest} bytes that a packet may have here: run \
                 `ip link set dev {} mtu {longest}`",
                port.name, port.name
            ));
        }
    }
    Ok(())
}

const fn chunk(config: &Config) -> ChunkSize {
    if config.dataplane.frame_size == 4096 { ChunkSize::Bytes4096 } else { ChunkSize::Bytes2048 }
}

/// Opens every queue. A device whose queues were not named is asked for one less until it has
/// them all: drivers make more than they use.
fn open_queues<B: RingBackend>(
    config: &Config,
    mut topology: Topology,
    multi_buffer: bool,
) -> Result<(Opened<B>, Topology), String> {
    let data = &config.dataplane;
    let ring = data.ring_size;
    let umem = UmemConfig {
        workers: topology.worker_cores.len(),
        frames_per_worker: data.frames_per_worker,
        chunk: chunk(config),
        huge_pages: match data.huge_pages {
            HugePages::Auto => xswan_xsk::HugePages::Auto,
            HugePages::Off => xswan_xsk::HugePages::Off,
        },
        rings: RingSizes { fill: ring, completion: ring, rx: ring, tx: ring },
        multi_buffer,
    };
    loop {
        let requests = requests(config, &topology);
        match open_all(umem, &requests) {
            Ok(opened) => return Ok((opened, topology)),
            Err(OpenError::NoQueue { device, queue })
                if queue > 0 && names_no_queues(config, &device) =>
            {
                for port in topology.ports.iter_mut().filter(|port| port.name == device) {
                    port.queues.retain(|&known| known < queue);
                }
            }
            Err(error) => return Err(error.to_string()),
        }
    }
}

fn names_no_queues(config: &Config, name: &str) -> bool {
    config.devices.iter().any(|device| device.name == name && device.queues.is_none())
}

fn requests(config: &Config, topology: &Topology) -> Vec<QueueRequest> {
    let mut requests = Vec::new();
    for (port, device) in topology.ports.iter().zip(&config.devices) {
        for &queue in &port.queues {
            requests.push(QueueRequest {
                device: port.name.clone(),
                queue,
                mode: match device.mode {
                    DeviceMode::Auto => Mode::Auto,
                    DeviceMode::ZeroCopy => Mode::ZeroCopy,
                    DeviceMode::Copy => Mode::Copy,
                    DeviceMode::Generic => Mode::Generic,
                },
                busy_poll: device.busy_poll.then_some(BUSY_POLL),
            });
        }
    }
    requests
}

fn notes<B: RingBackend>(opened: &Opened<B>) -> Vec<String> {
    let mut notes: Vec<String> = opened.fallback.iter().cloned().collect();
    if let Pages::Small(why) = opened.umem.pages() {
        notes.push(format!("packet memory is on small pages: {why}"));
    }
    notes
}

fn fill_socket_map<B: RingBackend>(
    steering: &mut Steering,
    topology: &Topology,
    opened: &Opened<B>,
) -> Result<(), String> {
    let mut queues = opened.queues.iter();
    for (index, port) in (0_u32..).zip(&topology.ports) {
        let value = PortValue { index, roles: port.roles };
        steering.set_port(port.ifindex, value).map_err(|error| error.to_string())?;
        for &queue in &port.queues {
            let Some(opened) = queues.next() else { continue };
            for (worker, socket) in (0_u32..).zip(&opened.sockets) {
                let descriptor = socket.fd().unwrap_or(-1);
                steering
                    .set_socket((index, queue, worker), descriptor)
                    .map_err(|error| error.to_string())?;
            }
        }
    }
    Ok(())
}

fn backend(config: &Config) -> Backend {
    match config.dataplane.aead {
        AeadBackend::Auto => Backend::fastest(),
        AeadBackend::Native if Backend::Native.is_usable() => Backend::Native,
        AeadBackend::Native => {
            tracing::warn!("aead = \"native\" asks for instructions this processor has not");
            Backend::fastest()
        }
        AeadBackend::AwsLc => Backend::AwsLc,
        AeadBackend::RustCrypto => Backend::RustCrypto,
    }
}

/// Interface indices in the order of ports.
#[must_use]
pub fn ifindices(topology: &Topology) -> Vec<u32> {
    topology.ports.iter().map(|port| port.ifindex).collect()
}

struct Shared<'a> {
    config: &'a Config,
    topology: &'a Topology,
    maps: &'a Arc<SharedMaps>,
    fib: &'a Arc<ArcSwap<Fib>>,
    spd: &'a Arc<ArcSwap<Spd>>,
    counters: &'a [Arc<WorkerCounters>],
    jumbo: bool,
}

type WorkerOn<B> = Worker<<B as RingBackend>::Socket, <B as RingBackend>::Rings>;
type Built<B> = (Vec<WorkerOn<B>>, Vec<WorkerLink>, Vec<WorkerRings>, Vec<Injection>);

fn build_workers<B: RingBackend>(
    shared: &Shared<'_>,
    opened: Opened<B>,
    stocks: Vec<FrameStock>,
    slow_path_bell: &Arc<Bell>,
) -> Result<Built<B>, String> {
    let count = shared.topology.worker_cores.len();
    let bell = || Bell::new().map(Arc::new).map_err(|error| format!("a worker's bell: {error}"));
    let bells = (0..count).map(|_| bell()).collect::<Result<Vec<_>, _>>()?;
    let mut neighbours = rings::neighbours(&bells);
    let mut queues = rings::deal_queues(
        shared.topology,
        shared.config.dataplane.frames_per_worker,
        opened.queues,
    );
    let mut inject = Vec::new();
    let (mut workers, mut links, mut rings) = (Vec::new(), Vec::new(), Vec::new());
    for ((worker, stock), bell) in stocks.into_iter().enumerate().zip(bells) {
        let (punts_in, punts_out) = RingBuffer::new(PUNT_RING);
        let (home_in, home_out) = RingBuffer::new(PUNT_RING * 2);
        let (inject_in, injected) = RingBuffer::new(INJECT_RING);
        inject.push(Injection { packets: inject_in, bell: Arc::clone(&bell) });
        rings.push(WorkerRings { punts: punts_out, frames: home_in, bell: Arc::clone(&bell) });
        let slots = shared.config.dataplane.sa_slots as usize;
        let (inbox_in, inbox_out) = RingBuffer::new(COMMANDS);
        let (outbox_in, outbox_out) = RingBuffer::new(COMMANDS);
        links.push(WorkerLink {
            inbox: inbox_in,
            outbox: outbox_out,
            bell: Some(Arc::clone(&bell)),
        });
        let (own, exits) = queues.remove(0);
        let io = Io::new(IoParts {
            worker,
            queues: own,
            exits,
            stock,
            neighbours: neighbours.remove(0),
            slow_path: SlowPathRings {
                punts: punts_in,
                returned: home_out,
                bell: Arc::clone(slow_path_bell),
            },
            events: shared.maps.event_sender(u32::try_from(worker).unwrap_or(u32::MAX)),
            slots,
            burst: shared.config.dataplane.burst as usize,
            jumbos: if shared.jumbo { JUMBOS } else { 0 },
        });
        workers.push(Worker {
            io,
            engine: Engine::new(engine_config(shared, worker)),
            counters: shared.counters.get(worker).map(Arc::clone).unwrap_or_default(),
            fib: Arc::clone(shared.fib),
            spd: Arc::clone(shared.spd),
            intake: Intake {
                inbox: inbox_out,
                outbox: outbox_in,
                inbound_live: shared.maps.inbound_lives(),
                outbound_live: shared.maps.outbound_lives(),
            },
            injected,
            slots,
            burst: shared.config.dataplane.burst as usize,
            sleep: shared.config.dataplane.wait == Wait::Sleep,
            busy_poll: shared.config.devices.iter().any(|device| device.busy_poll),
            bell,
        });
    }
    Ok((workers, links, rings, inject))
}

fn engine_config(shared: &Shared<'_>, worker: usize) -> EngineConfig {
    let data = &shared.config.dataplane;
    EngineConfig {
        spis: SpiReader {
            key: shared.maps.spi_key(),
            member: shared.config.instance.member,
            worker: u32::try_from(worker).unwrap_or(u32::MAX),
            workers: u32::try_from(shared.topology.worker_cores.len()).unwrap_or(u32::MAX),
        },
        slots: data.sa_slots as usize,
        roles: shared.topology.ports.iter().map(|port| port.roles).collect(),
        icmp_per_second: data.icmp_rate,
        nest_limit: 0,
        fragment: data.fragment == Fragmentation::Before,
    }
}

fn spawn<S: QueueSocket + 'static, R: QueueRings + 'static>(
    workers: Vec<Worker<S, R>>,
    topology: &Topology,
) -> Result<Vec<JoinHandle<()>>, String> {
    let mut threads = Vec::new();
    for (number, (worker, &core)) in workers.into_iter().zip(&topology.worker_cores).enumerate() {
        let thread = std::thread::Builder::new()
            .name(format!("worker-{number}"))
            .spawn(move || {
                privilege::drop_all();
                if !core_affinity::set_for_current(core_affinity::CoreId { id: core }) {
                    tracing::warn!(core, "worker not pinned: the core is not available");
                }
                worker.run();
            })
            .map_err(|error| format!("worker {number}: {error}"))?;
        threads.push(thread);
    }
    Ok(threads)
}

impl Running {
    /// Attaches the program to every device, last of all: from here on packets come.
    ///
    /// # Errors
    /// One line for the operator.
    pub fn attach(&mut self) -> Result<(), String> {
        for (port, device) in self.topology.ports.iter().zip(&self.devices) {
            let generic = device.mode == DeviceMode::Generic;
            let fall_back = device.mode == DeviceMode::Auto;
            let attached = self
                .steering
                .attach(&port.name, port.ifindex, generic, fall_back)
                .map_err(|error| error.to_string())?;
            self.modes.push(format!("{}, {attached} XDP", self.granted));
        }
        self.steering.detach_others().map_err(|error| error.to_string())
    }
}
