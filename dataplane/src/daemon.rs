//! The main thread: doorbell, kernel tables, ICMP, management; nothing of it on a packet's way.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;
use xswan_config::Config;
use xswan_management::{Call, Limits, Server};
use xswan_sa_api::{InstanceLock, Role, SharedMaps, SteerMaps};

use crate::answers;
use crate::kernel::mirror::Mirror;
use crate::kernel::path_mtu::IcmpSockets;
use crate::kernel::snapshot::Tables;
use crate::privilege;
use crate::start::{self, Running};
use crate::steering::Steering;

/// How often the doorbell is answered, in milliseconds: how late a new SA is, at an idle cost
/// of a thousand short wake-ups a second on the main core.
const TICK_MS: u64 = 1;
/// How often ICMP sockets are read, in ticks.
const ICMP_TICKS: u64 = 10;
/// ICMP messages taken at once: a flood of them must not hold up the doorbell.
const ICMP_LIMIT: usize = 64;
/// Changes of the kernel's tables come in bursts (a link that goes down takes its routes along):
/// they are read when nothing has come for this many ticks. Longer delays a fail-over, shorter
/// reads needlessly.
const SETTLE_TICKS: u64 = 3;
/// However busy the tables are, they are read after this many ticks.
const SETTLE_MAX_TICKS: u64 = 50;
/// How often neighbours in use are confirmed, in seconds: well within the kernel's
/// garbage collection of entries that it thinks unused (gc_stale_time, 60 s).
const NEIGHBOUR_REFRESH_S: u64 = 20;
/// How often workers' heartbeats are looked at, in ticks. A worker beats every millisecond;
/// half a second without one is no scheduling delay any more.
const WATCHDOG_TICKS: u64 = 500;
/// How long the status tells of frames that found no socket, in ticks.
const UNHEARD_TICKS: u64 = 10_000;

/// Runs until told to stop.
///
/// # Errors
/// One line that says why the start was refused.
pub fn run(file: &Path) -> Result<(), String> {
    protect_memory()?;
    let config = Config::load(file).map_err(|error| error.to_string())?;
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    let directory = config.run_directory();
    let _lock =
        InstanceLock::acquire(&directory, Role::Dataplane).map_err(|error| error.to_string())?;
    let maps = SharedMaps::open_or_create(&config.bpf_directory(), &start::geometry(&config))
        .map_err(|error| error.to_string())?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    runtime.block_on(async {
        let mirror = Mirror::open().map_err(|error| format!("netlink: {error}"))?;
        let tables = mirror.read().await.map_err(|error| format!("netlink: {error}"))?;
        let icmp = IcmpSockets::open().map_err(|error| {
            format!("raw ICMP sockets: {error}; run as root or with CAP_NET_RAW")
        })?;
        let maps = Arc::new(maps);
        let running = start::start(&config, &maps, &tables)?;
        let core = core_affinity::CoreId { id: running.topology.main_core };
        core_affinity::set_for_current(core);
        privilege::keep_for_management();
        announce(&running);
        let server = Server::bind(&directory.join("dataplane.sock"), Limits::default())
            .map_err(|error| error.to_string())?;
        let main = Main::new(running, maps, mirror, tables, icmp);
        main.serve(server).await
    })
}

/// Takes the program off every device of an instance that no longer runs.
///
/// # Errors
/// If an instance is running, or the pins cannot be read.
pub fn detach(file: &Path) -> Result<(), String> {
    let config = Config::load(file).map_err(|error| error.to_string())?;
    let _lock = InstanceLock::acquire(&config.run_directory(), Role::Dataplane)
        .map_err(|error| error.to_string())?;
    Steering::detach_pinned(&config.bpf_directory()).map_err(|error| error.to_string())
}

/// Keys must not reach a core dump or another process's eyes.
fn protect_memory() -> Result<(), String> {
    use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    setrlimit(Resource::Core, none)
        .and_then(|()| set_dumpable_behavior(DumpableBehavior::NotDumpable))
        .map_err(|error| format!("core dumps cannot be switched off: {error}"))
}

fn announce(running: &Running) {
    for line in running.topology.to_string().lines() {
        tracing::info!("{line}");
    }
    for note in &running.notes {
        tracing::info!("{note}");
    }
    for warning in running.topology.warnings() {
        tracing::warn!("{warning}");
    }
    tracing::info!(aead = running.backend.description(), "ready");
}

/// Whether control has been here.
fn is_configured(steering: &SteerMaps) -> bool {
    steering.config().is_ok_and(|config| config.version != 0)
}

struct Main {
    running: Running,
    maps: Arc<SharedMaps>,
    mirror: Mirror,
    tables: Tables,
    icmp: IcmpSockets,
    /// Last heartbeat seen of each worker, and whether it had moved.
    heartbeats: Vec<(u64, bool)>,
    ticks: u64,
    attached: bool,
    /// Frames that had found no socket at the last look after attaching, and when they
    /// became more.
    unheard: Option<(u64, Option<u64>)>,
    /// Ticks of the first and the last change that has not been read.
    changed: Option<(u64, u64)>,
}

enum Next {
    Tick,
    Tables(bool),
    Call(Option<Call>),
    Stop,
    Refresh,
}

impl Main {
    fn new(
        running: Running,
        maps: Arc<SharedMaps>,
        mirror: Mirror,
        tables: Tables,
        icmp: IcmpSockets,
    ) -> Self {
        let heartbeats = running.counters.iter().map(|c| (c.heartbeat(), true)).collect();
        Self {
            running,
            maps,
            mirror,
            tables,
            icmp,
            heartbeats,
            ticks: 0,
            attached: false,
            unheard: None,
            changed: None,
        }
    }

    async fn serve(mut self, server: Server) -> Result<(), String> {
        let (sender, mut calls) = mpsc::channel::<Call>(64);
        let server = tokio::spawn(server.run(sender));
        let handler = |kind| signal(kind).map_err(|error| format!("signals: {error}"));
        let mut terminate = handler(SignalKind::terminate())?;
        let mut interrupt = handler(SignalKind::interrupt())?;
        let mut tick = tokio::time::interval(Duration::from_millis(TICK_MS));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut refresh = tokio::time::interval(Duration::from_secs(NEIGHBOUR_REFRESH_S));
        let mut detach = false;
        let mut refused = None;
        loop {
            let next = tokio::select! {
                _ = terminate.recv() => Next::Stop,
                _ = interrupt.recv() => Next::Stop,
                changed = self.mirror.changed() => Next::Tables(changed),
                Some(call) = calls.recv() => Next::Call(Some(call)),
                _ = refresh.tick() => Next::Refresh,
                _ = tick.tick() => Next::Tick,
            };
            match next {
                Next::Stop => break,
                Next::Tick => {
                    self.tick();
                    if self.tables_are_due() {
                        self.read_tables().await;
                    }
                    if let Err(error) = self.attach() {
                        refused = Some(error);
                        break;
                    }
                }
                Next::Refresh => self.refresh_neighbours().await,
                Next::Tables(true) => self.note_change(),
                Next::Tables(false) => {
                    tracing::error!("the netlink connection is gone: tables stay as they are");
                    break;
                }
                Next::Call(Some(call)) if call.request.command == "shutdown" => {
                    detach = call.request.arguments["keep_closed"] != true;
                    call.answer(Ok(Value::Null));
                    // Lets the connection's task write the answer.
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    break;
                }
                Next::Call(Some(call)) => {
                    let answer = self.answer(&call.request.command);
                    call.answer(answer);
                }
                Next::Call(None) => {}
            }
        }
        self.stop(detach);
        drop(calls);
        // Ended, the server removes its socket.
        let _ended = server.await;
        refused.map_or(Ok(()), Err)
    }

    fn tick(&mut self) {
        self.ticks = self.ticks.wrapping_add(1);
        self.running.sadb.poll();
        if self.ticks.is_multiple_of(WATCHDOG_TICKS) {
            self.watch_workers();
            self.watch_sockets();
        }
        if self.ticks.is_multiple_of(ICMP_TICKS) {
            let sadb = &mut self.running.sadb;
            self.icmp.poll(ICMP_LIMIT, |message| sadb.too_big(&message));
        }
    }

    fn note_change(&mut self) {
        let (first, _) = self.changed.unwrap_or((self.ticks, self.ticks));
        self.changed = Some((first, self.ticks));
    }

    fn tables_are_due(&self) -> bool {
        self.changed.is_some_and(|(first, last)| {
            self.ticks >= last + SETTLE_TICKS || self.ticks >= first + SETTLE_MAX_TICKS
        })
    }

    async fn read_tables(&mut self) {
        self.changed = None;
        match self.mirror.read().await {
            Ok(tables) => {
                self.tables = tables;
                let ports = start::ifindices(&self.running.topology);
                self.running.fib.store(Arc::new(self.tables.fib(&ports)));
            }
            // Interrupted by yet another change.
            Err(error) => {
                tracing::debug!(%error, "tables not read: tried again");
                self.note_change();
            }
        }
    }

    /// Peers and gateways stay resolved although the kernel sees none of their packets.
    async fn refresh_neighbours(&mut self) {
        let ports = start::ifindices(&self.running.topology);
        let peers = self.running.sadb.peers().filter_map(|peer| self.tables.neighbour_of(peer));
        let gateways = self.tables.gateways();
        let mut wanted: Vec<_> = peers.chain(gateways).collect();
        let near = |index: &u32| self.tables.is_on_port(*index, &ports);
        wanted
            .retain(|(link, address)| near(link) && self.tables.needs_confirming(*link, *address));
        wanted.sort_unstable();
        wanted.dedup();
        for (link, address) in wanted {
            self.mirror.use_neighbour(link, address).await;
        }
    }

    fn answer(&mut self, command: &str) -> Result<Value, String> {
        match command {
            "status" => {
                let alive: Vec<bool> = self.heartbeats.iter().map(|beat| beat.1).collect();
                Ok(answers::status(&self.running, &alive, &self.devices()))
            }
            "runtime" => Ok(answers::runtime(&self.running)),
            "drops" => Ok(answers::drops(&self.running)),
            "topology" => Ok(json!({ "text": self.running.topology.to_string() })),
            other => Err(format!(
                "unknown command {other:?}; known: status, runtime, drops, topology, shutdown"
            )),
        }
    }

    fn watch_workers(&mut self) {
        let workers = self.running.workers.iter().zip(&self.running.counters);
        for (number, ((thread, counters), (last, alive))) in
            workers.zip(&mut self.heartbeats).enumerate()
        {
            let beat = counters.heartbeat();
            let moved = beat != *last && !thread.is_finished();
            if *alive && !moved {
                tracing::error!(worker = number, "a worker does not answer");
            }
            (*last, *alive) = (beat, moved);
        }
    }

    /// Once attached, every queue in use has its sockets: a frame without one came by a queue
    /// that was not opened: it is not in the configuration, or is new.
    fn watch_sockets(&mut self) {
        if !self.attached {
            return;
        }
        let count = self.running.steering.without_socket();
        self.unheard = match self.unheard {
            Some((last, _)) if count > last => Some((count, Some(self.ticks))),
            Some((_, when)) => Some((count, when)),
            None => Some((count, None)),
        };
    }

    /// The line of the status about frames without a socket, if there are any.
    fn unheard(&self) -> Option<(String, Result<String, String>)> {
        let (_, when) = self.unheard?;
        let recent = self.ticks.wrapping_sub(when?) < UNHEARD_TICKS;
        recent.then(|| {
            let what = "frames come by a queue that was not opened and are dropped (no_worker): \
                        name it in device.queues, or restart the dataplane if it is new";
            ("steering".to_owned(), Err(what.to_owned()))
        })
    }

    /// Attaches once control has said what is to be protected: before that the program
    /// could only pass everything.
    fn attach(&mut self) -> Result<(), String> {
        let configured = self.maps.steering().is_some_and(is_configured);
        if self.attached || !configured || !self.running.sadb.is_complete() {
            return Ok(());
        }
        self.attached = true;
        self.running.attach()?;
        for mode in &self.running.modes {
            tracing::info!("{mode}");
        }
        tracing::info!("attached");
        Ok(())
    }

    fn devices(&self) -> Vec<(String, Result<String, String>)> {
        let longest = self.running.longest_packet;
        self.running
            .topology
            .ports
            .iter()
            .enumerate()
            .map(|(index, port)| {
                let Some(mode) = self.running.modes.get(index) else {
                    let wait = "not attached: waiting for xswan-control to say what is protected";
                    return (port.name.clone(), Err(wait.to_owned()));
                };
                let state = match self.tables.links.get(&port.ifindex) {
                    None => Err("gone: restart the dataplane when it is back".to_owned()),
                    Some(link) if !link.up => Err("link is down".to_owned()),
                    Some(link) if link.mtu > longest => Err(format!(
                        "MTU {} no longer fits a frame of {longest} bytes: longer packets are lost",
                        link.mtu
                    )),
                    Some(link) => Ok(format!("{mode}, MTU {}", link.mtu)),
                };
                (port.name.clone(), state)
            })
            .chain(self.unheard())
            .collect()
    }

    fn stop(mut self, detach: bool) {
        if detach {
            self.running.steering.detach();
        }
        self.running.sadb.stop_workers();
        for worker in self.running.workers.drain(..) {
            if worker.join().is_err() {
                tracing::error!("a worker had panicked");
            }
        }
        self.running.slow_path.stop();
        tracing::info!(detached = detach, "stopped");
    }
}
