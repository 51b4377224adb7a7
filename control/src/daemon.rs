//! The shell: start, events, the operator's questions, reload, end.
//!
//! One thread and no await between reading the maps and writing them. Ending removes
//! nothing: the tunnels belong to the dataplane as much as to this daemon.

use crate::install::{Installed, Report, reconcile};
use crate::wanted::{Wanted, geometry};
use crate::{listing, steering};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use xswan_config::Config;
use xswan_management::{Call, Limits, Server};
use xswan_sa_api::{
    DoorbellSender, Event, EventReceiver, InstanceLock, Role, SharedMaps, disable_core_dumps,
};

/// How often events are looked for and waiting SAs are tried again.
const TICK: Duration = Duration::from_millis(50);
/// Events of one worker handled in a tick.
const EVENTS_PER_TICK: usize = 1024;

/// The daemon's state.
#[derive(Debug)]
pub struct Control {
    file: PathBuf,
    config: Config,
    wanted: Wanted,
    installed: Installed,
    report: Report,
    maps: SharedMaps,
    doorbell: DoorbellSender,
    events: Vec<EventReceiver>,
    expired: HashSet<u32>,
    reloads: u64,
}

/// Reads a configuration with its keys and works out what it asks for.
///
/// # Errors
/// One line.
pub fn read_configuration(file: &Path) -> Result<(Config, Wanted), String> {
    let config = Config::load(file).map_err(|error| error.to_string())?;
    let keys = config.load_keys().map_err(|error| error.to_string())?;
    let wanted = Wanted::new(&config, &keys)?;
    Ok((config, wanted))
}

impl Control {
    /// Makes the maps what the configuration asks for.
    ///
    /// # Errors
    /// One line; what was written until then stays and a further start goes on from there.
    pub fn start(
        file: &Path,
        config: Config,
        wanted: Wanted,
        maps: SharedMaps,
    ) -> Result<Self, String> {
        let doorbell = maps.doorbell_sender().ok_or("no doorbell")?;
        let workers = maps.geometry().workers;
        let events = (0..workers).filter_map(|worker| maps.event_receiver(worker)).collect();
        let mut control = Self {
            file: file.to_owned(),
            config,
            wanted,
            installed: Installed::default(),
            report: Report::default(),
            maps,
            doorbell,
            events,
            expired: HashSet::new(),
            reloads: 0,
        };
        control.apply()?;
        Ok(control)
    }

    fn apply(&mut self) -> Result<(), String> {
        let kernel = |error: std::io::Error| format!("steering maps: {error}");
        let steer = self.maps.steering();
        let remove = || steer.map_or(Ok(()), |maps| steering::remove_unwanted(maps, &self.wanted));
        let (installed, report) =
            reconcile(&self.maps, &self.doorbell, &self.wanted, || remove().map_err(kernel))?;
        if let Some(maps) = steer {
            let geometry = self.maps.geometry();
            let key = self.maps.spi_key();
            steering::add_wanted(maps, &self.wanted, geometry.workers, geometry.member, key)
                .map_err(kernel)?;
        }
        if report != self.report {
            tracing::info!(
                untouched = report.untouched,
                updated = report.updated,
                installed = report.installed,
                retired = report.retired,
                waiting = report.waiting,
                "SAs and policies are in place"
            );
        }
        (self.installed, self.report) = (installed, report);
        Ok(())
    }

    /// Reads the file again; all of it is applied or nothing.
    ///
    /// # Errors
    /// One line; then everything is as it was.
    pub fn reload(&mut self) -> Result<Value, String> {
        let (config, wanted) = read_configuration(&self.file)?;
        let fixed = [
            ("[instance]", config.instance == self.config.instance),
            ("[cores]", config.cores == self.config.cores),
            ("[dataplane]", geometry(&config) == geometry(&self.config)),
        ];
        if let Some((section, _)) = fixed.into_iter().find(|(_, same)| !same) {
            return Err(format!("{section} has changed: that needs a restart of both daemons"));
        }
        let old = std::mem::replace(&mut self.wanted, wanted);
        if let Err(error) = self.apply() {
            self.wanted = old;
            self.apply()?;
            return Err(error);
        }
        self.config = config;
        self.reloads += 1;
        // A new key is a new life.
        let same = |spi: &u32| {
            key_of(&old, *spi).is_some() && key_of(&old, *spi) == key_of(&self.wanted, *spi)
        };
        self.expired.retain(same);
        let names = |wanted: &Wanted| {
            let name =
                |child: &crate::wanted::WantedChild| format!("{}.{}", child.connection, child.name);
            wanted.children.iter().map(name).collect::<HashSet<_>>()
        };
        let (before, after) = (names(&old), names(&self.wanted));
        let sorted = |one: &HashSet<String>, other: &HashSet<String>| {
            let mut names: Vec<_> = one.difference(other).cloned().collect();
            names.sort();
            names
        };
        Ok(json!({
            "added": sorted(&after, &before),
            "removed": sorted(&before, &after),
            "untouched": self.report.untouched,
            "updated": self.report.updated,
            "installed": self.report.installed,
            "retired": self.report.retired,
            "waiting": self.report.waiting,
            "warnings": self.config.warnings,
        }))
    }

    /// Events, and SAs that wait.
    pub fn tick(&mut self) {
        for receiver in &mut self.events {
            for _ in 0..EVENTS_PER_TICK {
                let Some(event) = receiver.poll() else { break };
                note(event, &mut self.expired);
            }
        }
        if self.report.waiting > 0
            && let Err(error) = self.apply()
        {
            tracing::error!(error, "SAs could not be installed");
        }
    }

    /// Answers a command; `shutdown` is the shell's.
    ///
    /// # Errors
    /// Why not.
    pub fn answer(&mut self, command: &str) -> Result<Value, String> {
        let expired = |spi| self.expired.contains(&spi);
        match command {
            "status" => Ok(self.status()),
            "list-sas" => Ok(listing::sas(&self.maps, &self.wanted, &self.installed, &expired)),
            "list-policies" => Ok(listing::policies(&self.wanted, &self.installed)),
            "reload" => self.reload(),
            other => Err(format!(
                "unknown command {other:?}; known: status, list-sas, list-policies, reload, shutdown"
            )),
        }
    }

    fn status(&self) -> Value {
        let dataplane = InstanceLock::is_held(&self.config.run_directory(), Role::Dataplane);
        let policies = self.maps.policies_generation() == self.maps.policies_applied();
        let pairs = self.wanted.children.iter().filter(|child| child.sas.is_some()).count();
        let line = |component: &str, ok: bool, detail: String| json!({ "component": component, "ok": ok, "detail": detail });
        let here = std::process::id();
        let waiting = self.report.waiting;
        json!({
            "instance": self.config.instance.name,
            "components": [
                line("control", true, format!("process {here}, {} reloads", self.reloads)),
                line("dataplane", dataplane, if dataplane { "running" } else { "not running" }.into()),
                line("sas", waiting == 0 && self.expired.is_empty(), format!(
                    "{pairs} pairs, {waiting} waiting, {} expired", self.expired.len()
                )),
                line("policies", policies, format!(
                    "{} rows{}", self.wanted.policies.len(), if policies { "" } else { ", not taken in yet" }
                )),
            ],
            "warnings": self.config.warnings,
        })
    }
}

/// The key of the SA of this SPI, in whichever direction.
fn key_of(wanted: &Wanted, spi: u32) -> Option<&xswan_sa_api::Key> {
    wanted.children.iter().filter_map(|child| child.sas.as_ref()).find_map(|(inbound, outbound)| {
        if inbound.spi == spi {
            Some(&inbound.key)
        } else {
            (outbound.spi == spi).then_some(&outbound.key)
        }
    })
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
pub fn run(file: &Path) -> Result<(), String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    disable_core_dumps().map_err(|error| format!("core dumps cannot be disabled: {error}"))?;
    let (config, wanted) = read_configuration(file)?;
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    let directory = config.run_directory();
    let _lock = InstanceLock::acquire(&directory, Role::Control).map_err(|error| text(&error))?;
    let maps = SharedMaps::open_or_create(&config.bpf_directory(), &geometry(&config))
        .map_err(|error| text(&error))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| text(&error))?;
    runtime.block_on(async {
        let socket = directory.join("control.sock");
        let server = Server::bind(&socket, Limits::default()).map_err(|error| text(&error))?;
        let control = Control::start(file, config, wanted, maps)?;
        serve(control, server).await.map_err(|error| text(&error))
    })
}

async fn serve(mut control: Control, server: Server) -> std::io::Result<()> {
    let (sender, mut calls) = mpsc::channel::<Call>(64);
    let server = tokio::spawn(server.run(sender));
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    tracing::info!("ready");
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => match control.reload() {
                Ok(result) => tracing::info!(%result, "reloaded"),
                Err(error) => tracing::error!(error, "reload refused, nothing changed"),
            },
            _ = tick.tick() => control.tick(),
            Some(call) = calls.recv() => {
                if call.request.command == "shutdown" {
                    call.answer(Ok(Value::Null));
                    // Lets the connection's task write the answer.
                    tokio::time::sleep(TICK).await;
                    break;
                }
                let answer = control.answer(&call.request.command);
                call.answer(answer);
            }
        }
    }
    drop(calls);
    // Ended, the server removes its socket.
    let _ended = server.await;
    tracing::info!("stopped; tunnels stay as they are");
    Ok(())
}
