//! The daemon: start, events, the operator's questions, reload, end.
//!
//! One thread and no await between reading the maps and writing them. Ending removes
//! nothing: the tunnels belong to the dataplane as much as to this daemon.

use crate::ike::convert::{Converted, convert};
use crate::ike::event_loop::Ike;
use crate::ike::listing as ike_listing;
use crate::selection::Selection;
use crate::tables::Tables;
use crate::wanted::{Wanted, geometry};
use crate::{listing, reload};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use xswan_config::Config;
use xswan_management::{Call, Limits, Server};
use xswan_sa_api::{
    Event, EventReceiver, InstanceLock, Role, SharedMaps, clock_ms, disable_core_dumps,
};

/// How often events are looked for and waiting SAs are tried again.
const TICK: Duration = Duration::from_millis(20);
/// Events of one worker handled in a tick.
const EVENTS_PER_TICK: usize = 1024;
/// Calls handled before datagrams are looked at again.
const CALLS: usize = 64;

/// Where the configuration is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The TOML file.
    pub file: PathBuf,
    /// The swanctl directory that has the connections, if it is not the file.
    pub swanctl: Option<PathBuf>,
}

/// A configuration with everything that it names, read and understood.
#[derive(Debug)]
pub struct Loaded {
    /// As written.
    pub config: Arc<Config>,
    /// What it asks of the maps.
    pub wanted: Wanted,
    /// What it asks of IKE; `None` if nothing is negotiated.
    pub ike: Option<Converted>,
}

/// The daemon's state.
#[derive(Debug)]
pub struct Control {
    pub(crate) source: Source,
    pub(crate) config: Arc<Config>,
    pub(crate) tables: Tables,
    pub(crate) ike: Option<Ike>,
    events: Vec<EventReceiver>,
    pub(crate) expired: HashSet<u32>,
    pub(crate) reloads: u64,
}

/// Reads a configuration with its keys and works out what it asks for.
///
/// # Errors
/// One line.
pub fn read_configuration(source: &Source) -> Result<Loaded, String> {
    let text = |error: xswan_config::ConfigError| error.to_string();
    let config = match &source.swanctl {
        None => Config::load(&source.file).map_err(text)?,
        Some(directory) => {
            let (config, notes) = xswan_swanctl::load(directory, &source.file).map_err(text)?;
            for note in notes {
                tracing::warn!("{note}");
            }
            config
        }
    };
    let keys = config.load_keys().map_err(text)?;
    let wanted = Wanted::new(&config, &keys)?;
    let negotiates = config.connections.iter().any(|connection| connection.ike.is_some());
    let ike = if negotiates { Some(convert(&config).map_err(text)?) } else { None };
    Ok(Loaded { config: Arc::new(config), wanted, ike })
}

impl Control {
    /// Makes the maps what the configuration asks for, and opens the sockets of IKE. Must be
    /// called inside the runtime.
    ///
    /// # Errors
    /// One line; what was written until then stays and a further start goes on from there.
    pub fn start(source: Source, loaded: Loaded, maps: SharedMaps) -> Result<Self, String> {
        let Loaded { config, wanted, ike } = loaded;
        let workers = maps.geometry().workers;
        let events = (0..workers).filter_map(|worker| maps.event_receiver(worker)).collect();
        let tables = Tables::new(maps, Arc::clone(&config), wanted)?;
        let ike = match ike {
            Some(converted) => Some(Ike::start(&config, converted)?),
            None => None,
        };
        let expired = HashSet::new();
        let mut control = Self { source, config, tables, ike, events, expired, reloads: 0 };
        // What is not adopted is taken away with the next step.
        let lost = control.ike.as_mut().map(|ike| ike.restore(&mut control.tables));
        control.apply()?;
        control.tables.ring_for_everything();
        if let Some(ike) = &mut control.ike {
            ike.close_lost(&mut control.tables, lost.unwrap_or_default());
            ike.start_children(&mut control.tables, None);
            ike.settle(&mut control.tables);
            // After the addresses of the SAs that go on were wished for again.
            ike.clean();
        }
        Ok(control)
    }

    pub(crate) fn apply(&mut self) -> Result<(), String> {
        let before = self.tables.report;
        self.tables.apply()?;
        let report = &self.tables.report;
        if *report != before {
            tracing::info!(
                untouched = report.untouched,
                updated = report.updated,
                installed = report.installed,
                retired = report.retired,
                waiting = report.waiting,
                "SAs and policies are in place"
            );
        }
        Ok(())
    }

    /// Reads the configuration again; all of it is applied or nothing.
    ///
    /// # Errors
    /// One line; then everything is as it was.
    pub fn reload(&mut self) -> Result<Value, String> {
        reload::reload(self)
    }

    /// Events, and SAs that wait.
    pub fn tick(&mut self) {
        let mut events = Vec::new();
        for receiver in &mut self.events {
            events.extend((0..EVENTS_PER_TICK).map_while(|_| receiver.poll()));
        }
        for event in events {
            let ike = self.ike.as_mut();
            let known = ike.is_some_and(|ike| ike.dataplane_event(&mut self.tables, &event));
            if !known {
                note(event, &mut self.expired);
            }
        }
        self.tables.tick();
        if self.tables.report.waiting > 0
            && let Err(error) = self.apply()
        {
            tracing::error!(error, "SAs could not be installed");
        }
        self.timer();
    }

    fn timer(&mut self) {
        if let Some(ike) = &mut self.ike {
            ike.timer(&mut self.tables);
        }
    }

    fn receive(&mut self) {
        if let Some(ike) = &mut self.ike {
            ike.receive(&mut self.tables);
        }
    }

    fn settle(&mut self) {
        if let Some(ike) = &mut self.ike {
            ike.settle(&mut self.tables);
        }
    }

    /// How long there is nothing to do for IKE.
    fn pause(&self) -> Option<Duration> {
        let at = self.ike.as_ref()?.wake_ms(&self.tables)?;
        Some(Duration::from_millis(at.saturating_sub(clock_ms())))
    }

    /// Answers a call; `shutdown` is the shell's.
    pub fn call(&mut self, call: Call) {
        let command = call.request.command.clone();
        match (command.as_str(), &mut self.ike) {
            ("initiate" | "terminate" | "rekey", Some(ike)) => {
                ike.command(&mut self.tables, call);
            }
            ("monitor", Some(ike)) => {
                ike.log.watch(call);
            }
            ("initiate" | "terminate" | "rekey" | "monitor", None) => {
                call.answer(Err("no connection is configured that is negotiated".to_owned()));
            }
            _ => {
                let answer = self.answer(&command, &call.request.arguments);
                call.answer(answer);
            }
        }
    }

    /// Answers a command that needs no waiting.
    ///
    /// # Errors
    /// Why not.
    pub fn answer(&mut self, command: &str, arguments: &Value) -> Result<Value, String> {
        let Tables { maps, wanted, installed, .. } = &self.tables;
        let expired = |spi| self.expired.contains(&spi);
        match command {
            "status" => Ok(self.status()),
            "list-sas" => {
                let sas = listing::sas(maps, wanted, installed, &expired);
                let ike = self.ike.as_ref().map(|ike| ike.list_sas(&self.tables));
                let all = json!({ "ike_sas": ike.unwrap_or(json!([])), "static": sas });
                Ok(Selection::read(arguments)?.of(all))
            }
            "list-conns" => Ok(ike_listing::connections(&self.config)),
            "list-certs" => Ok(self.ike.as_ref().map_or(json!({}), Ike::list_certificates)),
            "list-pools" => Ok(self.ike.as_ref().map_or(json!({}), Ike::list_pools)),
            "list-policies" => Ok(listing::policies(wanted, installed)),
            "reload" => self.reload(),
            other => Err(format!(
                "unknown command {other:?}; known: status, list-sas, list-conns, list-certs, \
                 list-pools, list-policies, initiate, terminate, rekey, monitor, reload, shutdown"
            )),
        }
    }

    fn status(&self) -> Value {
        let dataplane = InstanceLock::is_held(&self.config.run_directory(), Role::Dataplane);
        let maps = &self.tables.maps;
        let policies = maps.policies_generation() == maps.policies_applied();
        let wanted = &self.tables.wanted;
        let pairs = wanted.children.iter().filter(|child| child.sas.is_some()).count();
        let negotiated = self.tables.child_sas.iter().count();
        let rows = wanted.policies.len();
        let line = |component: &str, ok: bool, detail: String| json!({ "component": component, "ok": ok, "detail": detail });
        let here = std::process::id();
        let waiting = self.tables.report.waiting;
        let mut components = vec![
            line("control", true, format!("process {here}, {} reloads", self.reloads)),
            line("dataplane", dataplane, if dataplane { "running" } else { "not running" }.into()),
            line(
                "sas",
                waiting == 0 && self.expired.is_empty(),
                format!(
                    "{pairs} static pairs, {negotiated} negotiated, {waiting} waiting, {} expired",
                    self.expired.len()
                ),
            ),
            line(
                "policies",
                policies,
                format!("{rows} rows{}", if policies { "" } else { ", not taken in yet" }),
            ),
        ];
        let mut ike_counters = Value::Null;
        if let Some(ike) = &self.ike {
            components.push(line("ike", true, ike.summary()));
            ike_counters = ike.counters();
        }
        json!({
            "instance": self.config.instance.name,
            "components": components,
            "warnings": self.config.warnings,
            "ike": ike_counters,
        })
    }
}

fn note(event: Event, expired: &mut HashSet<u32>) {
    match event {
        Event::SoftExpiry { direction, slot, spi } => {
            tracing::warn!(?direction, slot, spi = format!("{spi:#010x}"), "soft lifetime reached");
        }
        Event::HardExpiry { direction, slot, spi } => {
            tracing::error!(
                ?direction,
                slot,
                spi = format!("{spi:#010x}"),
                "hard lifetime reached"
            );
            expired.insert(spi);
        }
        Event::IntegrityAlarm { slot, spi } => {
            tracing::warn!(slot, spi = format!("{spi:#010x}"), "integrity checks fail");
        }
        Event::Acquire { child, packet } => {
            tracing::info!(child, ?packet, "traffic wants an SA");
        }
        Event::Moved { slot, spi, address, port } => {
            let spi = format!("{spi:#010x}");
            tracing::info!(slot, spi, %address, port, "the peer's address has changed");
        }
        Event::Lost => tracing::warn!("events were lost"),
    }
}

/// Runs until told to stop.
///
/// # Errors
/// One line that says why the start was refused.
pub fn run(source: Source) -> Result<(), String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    disable_core_dumps().map_err(|error| format!("core dumps cannot be disabled: {error}"))?;
    let loaded = read_configuration(&source)?;
    for warning in &loaded.config.warnings {
        tracing::warn!("{warning}");
    }
    let directory = loaded.config.run_directory();
    let _lock = InstanceLock::acquire(&directory, Role::Control).map_err(|error| text(&error))?;
    let geometry = geometry(&loaded.config);
    let maps = SharedMaps::open_or_create(&loaded.config.bpf_directory(), &geometry)
        .map_err(|error| text(&error))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| text(&error))?;
    runtime.block_on(async {
        let socket = directory.join("control.sock");
        let server = Server::bind(&socket, Limits::default()).map_err(|error| text(&error))?;
        let control = Control::start(source, loaded, maps)?;
        serve(control, server).await.map_err(|error| text(&error))
    })
}

/// Waits for datagrams; for ever if nothing is negotiated.
async fn readable(ike: Option<&Ike>) {
    match ike {
        Some(ike) => ike.readable().await,
        None => std::future::pending().await,
    }
}

async fn sleep(pause: Option<Duration>) {
    match pause {
        Some(pause) => tokio::time::sleep(pause).await,
        None => std::future::pending().await,
    }
}

async fn serve(mut control: Control, server: Server) -> std::io::Result<()> {
    let (sender, mut calls) = mpsc::channel::<Call>(CALLS);
    let server = tokio::spawn(server.run(sender));
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    tracing::info!("ready");
    loop {
        let pause = control.pause();
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => match control.reload() {
                Ok(result) => tracing::info!(%result, "reloaded"),
                Err(error) => tracing::error!(error, "reload refused, nothing changed"),
            },
            _ = tick.tick() => control.tick(),
            () = readable(control.ike.as_ref()) => control.receive(),
            () = sleep(pause) => control.timer(),
            Some(call) = calls.recv() => {
                if call.request.command == "shutdown" {
                    call.answer(Ok(Value::Null));
                    // Lets the connection's task write the answer.
                    tokio::time::sleep(TICK).await;
                    break;
                }
                control.call(call);
            }
        }
        control.settle();
        // Under a flood something is always ready. Only here does the runtime look which
        // sockets have become so, and do the connections of the command line have their turn.
        tokio::task::yield_now().await;
    }
    if let Some(ike) = &mut control.ike {
        ike.keep_finally(&control.tables);
    }
    drop(calls);
    // Ended, the server removes its socket.
    let _ended = server.await;
    tracing::info!("stopped; tunnels stay as they are");
    Ok(())
}
