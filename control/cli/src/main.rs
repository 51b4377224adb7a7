//! `xswan`: asks both daemons over their Unix sockets and shows the answers.
//!
//! Exit codes: 0 done, 1 a daemon said no or a component is not well, 2 wrong usage or
//! nobody there.
#![forbid(unsafe_code)]

mod exchange;
mod import;
mod render;
mod render_ike;
mod spelling;

use clap::{Parser, Subcommand};
use exchange::Exchange;
use serde_json::{Value, json};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use xswan_config::Config;
use xswan_management::{Client, ClientError};

/// Longest wait for an answer: a reload of a large configuration is not instant.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Shows and steers an xswan gateway.
#[derive(Debug, Parser)]
#[command(name = "xswan", version, about)]
struct Arguments {
    /// The gateway's configuration file, which says where the sockets are.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["instance", "run_dir"])]
    config: Option<PathBuf>,
    /// Name of the instance.
    #[arg(long, value_name = "NAME", default_value = "xswan")]
    instance: String,
    /// Where the instances' sockets are.
    #[arg(long, value_name = "DIR", default_value = "/run/xswan")]
    run_dir: PathBuf,
    /// Print the answer as JSON.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The health of each component, one line each.
    Status,
    /// SAs with their counters.
    ListSas(exchange::Selection),
    /// Policies in the order in which they apply.
    ListPolicies,
    /// Set up a child SA, or an IKE SA alone.
    Initiate(exchange::Initiate),
    /// Delete SAs.
    Terminate(exchange::Terminate),
    /// Give SAs new keys.
    Rekey(exchange::Rekey),
    /// Send peers to another gateway (RFC 5685).
    Redirect(exchange::Redirect),
    /// Connections that may be negotiated.
    ListConns,
    /// Certificates that have been read.
    ListCerts,
    /// Address pools.
    ListPools {
        /// Who has which address, too.
        #[arg(long)]
        leases: bool,
    },
    /// Events as lines of JSON, until it is interrupted.
    Monitor,
    /// Each worker's load.
    Runtime,
    /// Every reason for which packets were dropped.
    Drops {
        /// Reasons that never happened, too.
        #[arg(long)]
        all: bool,
    },
    /// Have the configuration read again; all of it is applied or nothing.
    Reload,
    /// Stop the daemons; tunnels stay installed, but nothing guards the devices any more.
    ///
    /// The dataplane takes its steering program off every device: from then on the kernel
    /// forwards what the tunnels protected. To stop it and keep the devices closed, send it
    /// SIGTERM instead, as a service manager does.
    Shutdown {
        /// Only this one.
        #[arg(value_parser = ["control", "dataplane"])]
        daemon: Option<String>,
    },
    /// Check a configuration file, its keys and its secrets without applying it.
    CheckConfig {
        /// The file.
        file: PathBuf,
        /// The swanctl directory that connections and secrets come from.
        #[arg(long, value_name = "DIR")]
        swanctl: Option<PathBuf>,
    },
    /// Write a swanctl directory as our TOML.
    ImportSwanctl {
        /// The directory, or its swanctl.conf.
        directory: PathBuf,
        /// The file that says the rest: instance, cores, devices.
        #[arg(long, value_name = "FILE")]
        base: Option<PathBuf>,
        /// Where to write it; readable for its owner alone. Standard output if not given.
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
}

/// What went wrong and with which exit code.
struct Failure {
    code: u8,
    text: String,
}

impl Failure {
    fn said(text: String) -> Self {
        Self { code: 1, text }
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let code = match error {
            ClientError::Refused(_) => 1,
            ClientError::Unreachable { .. } => 2,
        };
        Self { code, text: error.to_string() }
    }
}

/// An answer, how to show it, and the exit code that goes with it.
struct Answer {
    value: Value,
    text: String,
    /// For standard error.
    notes: Vec<String>,
    code: u8,
}

impl Answer {
    fn new(value: Value, text: String) -> Self {
        Self { value, text, notes: Vec::new(), code: 0 }
    }
}

/// The two daemons' sockets.
struct Daemons {
    directory: PathBuf,
}

impl Daemons {
    fn ask(&self, daemon: &str, command: &str, arguments: Value) -> Result<Value, ClientError> {
        self.client(daemon, TIMEOUT).request(command, arguments)
    }

    fn client(&self, daemon: &str, timeout: Duration) -> Client {
        Client::new(&self.directory.join(format!("{daemon}.sock")), timeout)
    }

    /// Has the key exchange daemon do something, and says it in swanctl's words.
    fn exchange(&self, exchange: Exchange) -> Result<Answer, Failure> {
        let Exchange { command, arguments, wait } = exchange;
        match self.client("control", wait).request(command, arguments) {
            Ok(value) => {
                let text = exchange::done(command, &value);
                Ok(Answer::new(value, text))
            }
            Err(ClientError::Refused(why)) => {
                Err(Failure::said(format!("{command} failed: {why}")))
            }
            Err(error @ ClientError::Unreachable { .. }) => Err(error.into()),
        }
    }

    /// Prints events until the daemon, or who reads them, goes.
    fn monitor(&self) -> Result<Answer, Failure> {
        let (_, events) = self.client("control", TIMEOUT).stream("monitor", Value::Null)?;
        let mut out = std::io::stdout().lock();
        for event in events {
            let event = event.map_err(|error| Failure::said(error.to_string()))?;
            if writeln!(out, "{event}").and_then(|()| out.flush()).is_err() {
                break;
            }
        }
        Ok(Answer::new(Value::Null, String::new()))
    }

    /// Both daemons' components; one that cannot be asked is a component that is not well.
    fn status(&self) -> Answer {
        let mut components = Vec::new();
        let mut warnings = Vec::new();
        let mut ike = Value::Null;
        for daemon in ["control", "dataplane"] {
            match self.ask(daemon, "status", Value::Null) {
                Ok(mut status) => {
                    if daemon == "control" {
                        ike = status["ike"].take();
                    }
                    let list = |key: &str| status[key].as_array().cloned().unwrap_or_default();
                    let own = |component: &Value| component["component"] == *daemon;
                    // Each daemon is the authority on itself.
                    let new = list("components");
                    components.retain(|old: &Value| {
                        new.iter().all(|new| new["component"] != old["component"])
                    });
                    let foreign = |new: &Value| {
                        !own(new)
                            && matches!(new["component"].as_str(), Some("control" | "dataplane"))
                    };
                    components.extend(new.into_iter().filter(|new| !foreign(new)));
                    warnings.extend(list("warnings"));
                }
                Err(error) => components.push(json!({
                    "component": daemon, "ok": false, "detail": error.to_string()
                })),
            }
        }
        let well = components.iter().all(|component| component["ok"] != false);
        let value = json!({
            "ok": well, "components": components, "warnings": warnings, "ike": ike
        });
        let text = render::status(&value);
        Answer { code: u8::from(!well), ..Answer::new(value, text) }
    }

    /// Stops one daemon or both. The dataplane goes first: control still knows everything.
    fn shutdown(&self, daemon: Option<&str>) -> Result<Answer, ClientError> {
        let mut stopped = Vec::new();
        let mut failed = None;
        for name in ["dataplane", "control"] {
            if daemon.is_none_or(|daemon| daemon == name) {
                match self.ask(name, "shutdown", Value::Null) {
                    Ok(_) => stopped.push(name),
                    Err(error) => failed = Some(error),
                }
            }
        }
        match failed {
            Some(error) if stopped.is_empty() || daemon.is_some() => Err(error),
            _ => {
                let text = format!("stopped: {}\n", stopped.join(", "));
                Ok(Answer::new(json!({ "stopped": stopped }), text))
            }
        }
    }
}

fn check_config(file: &Path, swanctl: Option<&Path>) -> Result<Answer, Failure> {
    let refused = |error: xswan_config::ConfigError| Failure::said(error.to_string());
    let (config, notes) = match swanctl {
        None => (Config::load(file).map_err(refused)?, Vec::new()),
        Some(directory) => xswan_swanctl::load(directory, file).map_err(refused)?,
    };
    let keys = config.load_keys().map_err(refused)?;
    let secrets = config.load_secrets().map_err(refused)?;
    let children = config.children_in_order().len();
    let value = json!({
        "instance": config.instance.name,
        "devices": config.devices.len(),
        "workers": config.cores.workers.len(),
        "connections": config.connections.len(),
        "children": children,
        "static_sas": keys.len(),
        "pools": config.pools.len(),
        "secrets": secrets.len(),
        "warnings": config.warnings,
        "notes": notes.iter().map(ToString::to_string).collect::<Vec<_>>(),
    });
    let text = render::checked(&value);
    let notes = notes.iter().map(ToString::to_string).collect();
    Ok(Answer { notes, ..Answer::new(value, text) })
}

fn run(arguments: &Arguments) -> Result<Answer, Failure> {
    if let Command::CheckConfig { file, swanctl } = &arguments.command {
        return check_config(file, swanctl.as_deref());
    }
    if let Command::ImportSwanctl { directory, base, output } = &arguments.command {
        return import::run(directory, base.as_deref(), output.as_deref());
    }
    let directory = match &arguments.config {
        None => arguments.run_dir.join(&arguments.instance),
        Some(file) => Config::load(file)
            .map_err(|error| Failure { code: 2, text: error.to_string() })?
            .run_directory(),
    };
    ask(&Daemons { directory }, &arguments.command)
}

/// An answer of the control daemon, shown by a function.
fn shown(
    daemons: &Daemons,
    command: &str,
    arguments: Value,
    show: fn(&Value) -> String,
) -> Result<Answer, Failure> {
    let value = daemons.ask("control", command, arguments)?;
    let text = show(&value);
    Ok(Answer::new(value, text))
}

fn ask(daemons: &Daemons, command: &Command) -> Result<Answer, Failure> {
    let none = Value::Null;
    let answer = match command {
        Command::Status => daemons.status(),
        Command::ListSas(selection) => {
            let value = daemons.ask("control", "list-sas", selection.arguments())?;
            let text = render_ike::sas(&value) + &render::sas(&value);
            Answer::new(value, text)
        }
        Command::ListPolicies => shown(daemons, "list-policies", none, render::policies)?,
        Command::Initiate(initiate) => daemons.exchange(initiate.exchange())?,
        Command::Terminate(terminate) => daemons.exchange(terminate.exchange())?,
        Command::Rekey(rekey) => daemons.exchange(rekey.exchange())?,
        Command::Redirect(redirect) => daemons.exchange(redirect.exchange())?,
        Command::ListConns => shown(daemons, "list-conns", none, render_ike::connections)?,
        Command::ListCerts => shown(daemons, "list-certs", none, render_ike::certificates)?,
        Command::ListPools { leases } => {
            shown(daemons, "list-pools", json!({ "leases": leases }), render_ike::pools)?
        }
        Command::Monitor => daemons.monitor()?,
        Command::Runtime => {
            let value = daemons.ask("dataplane", "runtime", Value::Null)?;
            let text = render::runtime(&value);
            Answer::new(value, text)
        }
        Command::Drops { all } => {
            let value = daemons.ask("dataplane", "drops", Value::Null)?;
            let text = render::drops(&value, *all);
            Answer::new(value, text)
        }
        Command::Reload => shown(daemons, "reload", none, render::reloaded)?,
        Command::Shutdown { daemon } => daemons.shutdown(daemon.as_deref())?,
        // Neither asks a daemon: they are done before this.
        Command::CheckConfig { .. } | Command::ImportSwanctl { .. } => {
            Answer::new(Value::Null, String::new())
        }
    };
    Ok(answer)
}

#[expect(clippy::print_stderr, reason = "what went wrong, and what is worth a note")]
fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().collect();
    // What is no text is no word of swanctl's.
    let texts: Option<Vec<_>> = arguments.iter().map(|a| a.to_str().map(str::to_owned)).collect();
    let arguments = match texts {
        Some(texts) => Arguments::parse_from(spelling::translated(texts)),
        None => Arguments::parse_from(arguments),
    };
    match run(&arguments) {
        Ok(answer) => {
            for note in &answer.notes {
                eprintln!("{note}");
            }
            let monitor = matches!(arguments.command, Command::Monitor);
            let text = if arguments.json && !monitor {
                format!("{}\n", answer.value)
            } else {
                answer.text
            };
            // A closed pipe is the reader's choice.
            let _closed = std::io::stdout().write_all(text.as_bytes());
            ExitCode::from(answer.code)
        }
        Err(failure) if arguments.json => {
            let text = format!("{}\n", json!({ "error": failure.text }));
            let _closed = std::io::stdout().write_all(text.as_bytes());
            ExitCode::from(failure.code)
        }
        Err(failure) => {
            eprintln!("xswan: {}", failure.text);
            ExitCode::from(failure.code)
        }
    }
}
