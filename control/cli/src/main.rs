//! `xswan`: asks both daemons over their Unix sockets and shows the answers.
//!
//! Exit codes: 0 done, 1 a daemon said no or a component is not well, 2 wrong usage or
//! nobody there.
#![forbid(unsafe_code)]

mod render;

use clap::{Parser, Subcommand};
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
    ListSas,
    /// Policies in the order in which they apply.
    ListPolicies,
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
    /// Check a configuration file and its keys without applying it.
    CheckConfig {
        /// The file.
        file: PathBuf,
    },
}

/// What went wrong and with which exit code.
struct Failure {
    code: u8,
    text: String,
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
    code: u8,
}

impl Answer {
    fn new(value: Value, text: String) -> Self {
        Self { value, text, code: 0 }
    }
}

/// The two daemons' sockets.
struct Daemons {
    directory: PathBuf,
}

impl Daemons {
    fn ask(&self, daemon: &str, command: &str, arguments: Value) -> Result<Value, ClientError> {
        let socket = self.directory.join(format!("{daemon}.sock"));
        Client::new(&socket, TIMEOUT).request(command, arguments)
    }

    /// Both daemons' components; one that cannot be asked is a component that is not well.
    fn status(&self) -> Answer {
        let mut components = Vec::new();
        let mut warnings = Vec::new();
        for daemon in ["control", "dataplane"] {
            match self.ask(daemon, "status", Value::Null) {
                Ok(status) => {
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
        let value = json!({ "ok": well, "components": components, "warnings": warnings });
        let text = render::status(&value);
        Answer { value, text, code: u8::from(!well) }
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

fn check_config(file: &Path) -> Result<Answer, Failure> {
    let refused = |error: xswan_config::ConfigError| Failure { code: 1, text: error.to_string() };
    let config = Config::load(file).map_err(refused)?;
    let keys = config.load_keys().map_err(refused)?;
    let children = config.children_in_order().len();
    let value = json!({
        "instance": config.instance.name,
        "devices": config.devices.len(),
        "workers": config.cores.workers.len(),
        "connections": config.connections.len(),
        "children": children,
        "static_sas": keys.len(),
        "warnings": config.warnings,
    });
    let text = render::checked(&value);
    Ok(Answer::new(value, text))
}

fn run(arguments: &Arguments) -> Result<Answer, Failure> {
    if let Command::CheckConfig { file } = &arguments.command {
        return check_config(file);
    }
    let directory = match &arguments.config {
        None => arguments.run_dir.join(&arguments.instance),
        Some(file) => Config::load(file)
            .map_err(|error| Failure { code: 2, text: error.to_string() })?
            .run_directory(),
    };
    let daemons = Daemons { directory };
    let answer = match &arguments.command {
        Command::Status => daemons.status(),
        Command::ListSas => {
            let value = daemons.ask("control", "list-sas", Value::Null)?;
            let text = render::sas(&value);
            Answer::new(value, text)
        }
        Command::ListPolicies => {
            let value = daemons.ask("control", "list-policies", Value::Null)?;
            let text = render::policies(&value);
            Answer::new(value, text)
        }
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
        Command::Reload => {
            let value = daemons.ask("control", "reload", Value::Null)?;
            let text = render::reloaded(&value);
            Answer::new(value, text)
        }
        Command::Shutdown { daemon } => daemons.shutdown(daemon.as_deref())?,
        Command::CheckConfig { file } => check_config(file)?,
    };
    Ok(answer)
}

#[expect(clippy::print_stderr, reason = "the one line that says what went wrong")]
fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(answer) => {
            let text = if arguments.json { format!("{}\n", answer.value) } else { answer.text };
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
