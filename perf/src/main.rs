//! Two gateways measured in namespaces: how many packets a second, and how late.
//!
//! The clients are ordinary UDP sockets on veth pairs, so the figures are of the whole path
//! in software, both gateways and the kernel on either side of them: good for comparing two
//! commits on one machine, not for comparing with a NIC. Sizes are of the inner IP packet.
//! Three loads a size: as fast as the sender can, then half and nine tenths of what came
//! through. Latency counts from the intended send time, so a sender held up hides nothing.
//!
//! `handshakes` measures IKEv2 instead, beside strongSwan; `report` measures the engine from
//! memory and writes tables, figures and numbers into a folder.

mod charon;
mod complete;
mod figure;
mod handshakes;
mod hgrm;
mod idle;
mod load;
mod machine;
mod memory;
mod processor_time;
mod report;
mod statistics;

use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use xswan_testkit::failure::{Failure, Outcome};
use xswan_testkit::gateway::Gateway;
use xswan_testkit::netns;
use xswan_testkit::process::{keep_logs_quiet, wait_for};
use xswan_testkit::topology::{self, CLIENT_V4, Outer, Topology};

/// Shares of the highest rate at which latency is measured.
const LATENCY_LOADS: [f64; 2] = [0.5, 0.9];
/// How long neighbours may take to be known.
const SETTLE_LIMIT: Duration = Duration::from_secs(20);

/// Measures packets a second and latency through a tunnel between two gateways.
#[derive(Debug, Parser)]
#[command(name = "xswan-perf", args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// Lengths of the inner IP packet in bytes.
    #[arg(long, value_delimiter = ',', default_value = "64,512,1400")]
    sizes: Vec<usize>,
    /// Seconds of each run.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// `esp_proposals` of the tunnel.
    #[arg(long, default_value = "aes128gcm16-esn")]
    proposal: String,
    /// IPv6 between the gateways.
    #[arg(long)]
    outer_v6: bool,
    /// ESP in UDP.
    #[arg(long)]
    encap: bool,
    /// No gateways: the kernels route in clear, to know what the method itself costs.
    #[arg(long)]
    baseline: bool,
    /// Where to write the result as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Folder for one latency histogram (.hgrm) a run.
    #[arg(long)]
    hgrm: Option<PathBuf>,
}

/// What else can be measured.
#[derive(Debug, Subcommand)]
enum Command {
    /// Measures IKEv2 handshakes a second and what one costs the responder.
    Handshakes(handshakes::Arguments),
    /// Measures the engine from memory and idle gateways, and writes a report.
    Report(complete::Arguments),
}

fn main() -> ExitCode {
    keep_logs_quiet();
    let arguments = Arguments::parse();
    let ready = || netns::privileged().map_err(Failure::new);
    let measured = match &arguments.command {
        Some(Command::Report(arguments)) => complete::measure(arguments),
        Some(Command::Handshakes(arguments)) => {
            ready().and_then(|()| handshakes::measure(arguments))
        }
        None => ready().and_then(|()| measure(&arguments)),
    };
    match measured {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            report::complain(&failure);
            ExitCode::FAILURE
        }
    }
}

fn measure(arguments: &Arguments) -> Outcome<()> {
    let topology = Topology::create()?;
    let outer = if arguments.outer_v6 { Outer::V6 } else { Outer::V4 };
    let gateways = if arguments.baseline {
        Vec::new()
    } else {
        let [a, b] = topology::tunnel(outer, arguments.encap, &arguments.proposal)?;
        let [space_a, space_b] = &topology.gateways;
        vec![Gateway::start(space_a, a)?, Gateway::start(space_b, b)?]
    };
    let [client, _] = &topology.clients;
    wait_for("a first answer", SETTLE_LIMIT, || {
        client.run(&format!("ping -c1 -W1 {}", CLIENT_V4[1])).map(|_| true)
    })?;
    let mut rows = Vec::new();
    report::heading();
    for &size in &arguments.sizes {
        let limit = Duration::from_secs(arguments.seconds);
        let flood = load::run(&topology, size, None, limit)?;
        let rates = LATENCY_LOADS.map(|share| share * flood.received_pps());
        rows.push(report::Row::new("flood", size, flood));
        for (share, rate) in LATENCY_LOADS.into_iter().zip(rates) {
            let name = format!("{:.0} %", share * 100.0);
            rows.push(report::Row::new(
                &name,
                size,
                load::run(&topology, size, Some(rate), limit)?,
            ));
        }
        for row in rows.iter().skip(rows.len().saturating_sub(1 + LATENCY_LOADS.len())) {
            report::line(row);
            if let Some(folder) = &arguments.hgrm {
                std::fs::create_dir_all(folder)?;
                let name = format!("{}b-{}.hgrm", row.size, row.load.replace(" %", "pct"));
                hgrm::write(&folder.join(name), &row.result.latency_ns)?;
            }
        }
    }
    let runtime = gateways.first().map(|gateway| gateway.query(&["runtime"])).transpose()?;
    report::runtime(runtime.as_ref());
    if let Some(path) = &arguments.json {
        let title = if arguments.baseline { "baseline" } else { &arguments.proposal };
        std::fs::write(path, report::json(title, &rows, runtime.as_ref()))?;
    }
    Ok(())
}
