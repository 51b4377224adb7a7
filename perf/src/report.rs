//! The result as a table for people and as JSON for a later comparison.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command-line tool")]

use crate::load::RunResult;
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;
use xswan_testkit::failure::Failure;

/// One run.
pub struct Row {
    /// Which load: `flood`, or a share of it.
    pub load: String,
    /// Length of the inner IP packet in bytes.
    pub size: usize,
    /// What became of it.
    pub result: RunResult,
}

impl Row {
    /// Puts a row together.
    pub fn new(load: &str, size: usize, result: RunResult) -> Self {
        Self { load: load.to_owned(), size, result }
    }

    fn gigabits(&self) -> f64 {
        self.result.received_pps() * self.size as f64 * 8.0 / 1e9
    }

    fn latency_us(&self, quantile: f64) -> f64 {
        self.result.latency_ns.value_at_quantile(quantile) as f64 / 1000.0
    }
}

/// Prints the head of the table.
pub fn heading() {
    println!(
        "{:>6} {:>6} {:>11} {:>8} {:>8} {:>10} {:>10} {:>10} {:>10}",
        "bytes", "load", "packets/s", "Gbit/s", "lost %", "p50 us", "p99 us", "p99.9 us", "max us"
    );
}

/// Prints one run.
pub fn line(row: &Row) {
    println!(
        "{:>6} {:>6} {:>11.0} {:>8.3} {:>8.3} {:>10.1} {:>10.1} {:>10.1} {:>10.1}",
        row.size,
        row.load,
        row.result.received_pps(),
        row.gigabits(),
        row.result.lost_percent(),
        row.latency_us(0.5),
        row.latency_us(0.99),
        row.latency_us(0.999),
        row.latency_us(1.0),
    );
}

/// Prints cycles a packet of every worker of the first gateway.
pub fn runtime(answer: Option<&Value>) {
    let workers = answer.and_then(|answer| answer["workers"].as_array());
    for worker in workers.into_iter().flatten() {
        println!(
            "worker {} on core {}: {} cycles a packet, burst fill {}",
            worker["worker"], worker["core"], worker["cycles_per_packet"], worker["burst_fill"]
        );
    }
}

/// Prints what handshakes and deletions cost each responder: medians over the rounds, the
/// lowest and the highest round in brackets.
pub fn handshakes(results: &[Value]) {
    let number = |value: &Value| value.as_f64().unwrap_or(f64::NAN);
    let spread = |value: &Value| {
        let [median, low, high] = [0, 1, 2].map(|at| number(&value[at]));
        format!("{median:.0} ({low:.0}-{high:.0})")
    };
    println!(
        "{:<12} {:<10} {:>22} {:>24}  by process",
        "responder", "what", "a second", "CPU us each"
    );
    for result in results {
        let processes = result["processes"].as_array().into_iter().flatten();
        let processes: Vec<String> = processes
            .map(|one| {
                let name = one["process"].as_str().unwrap_or_default();
                format!("{name} {}", spread(&one["each_us"]))
            })
            .collect();
        let text = |key: &str| result[key].as_str().unwrap_or_default().to_owned();
        println!(
            "{:<12} {:<10} {:>22} {:>24}  {}; {} retransmissions",
            text("peer"),
            text("what"),
            spread(&result["per_second"]),
            spread(&result["each_us"]),
            processes.join(", "),
            result["retransmissions"]
        );
    }
}

/// Says what is under way; to standard error, so that the report can be piped.
pub fn progress(what: &str) {
    eprintln!("measuring {what}");
}

/// Prints a report and says where it is.
pub fn written(text: &str, folder: &Path) {
    println!("{text}");
    eprintln!("written to {}", folder.display());
}

/// Prints what went wrong.
pub fn complain(failure: &Failure) {
    eprintln!("error: {failure}");
}

/// Everything, and the machine it was measured on.
pub fn json(title: &str, rows: &[Row], runtime: Option<&Value>) -> String {
    let rows: Vec<Value> = rows
        .iter()
        .map(|row| {
            json!({
                "bytes": row.size, "load": row.load, "sent": row.result.sent,
                "received": row.result.received, "packets_per_second": row.result.received_pps(),
                "inner_gbit_per_second": row.gigabits(), "lost_percent": row.result.lost_percent(),
                "latency_us": {
                    "p50": row.latency_us(0.5), "p99": row.latency_us(0.99),
                    "p99_9": row.latency_us(0.999), "max": row.latency_us(1.0),
                },
            })
        })
        .collect();
    let result = json!({
        "title": title, "rows": rows, "runtime": runtime, "machine": machine(),
        "sizes": "inner IP packet", "loss": "sender to receiver, both ends' sockets included",
    });
    format!("{result:#}\n")
}

fn machine() -> Value {
    let first = |path: &str, key: &str| {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with(key)).unwrap_or_default();
        line.split_once(':').map(|(_, value)| value.trim().to_owned())
    };
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let commit = Command::new("git").args(["rev-parse", "HEAD"]).output();
    json!({
        "cpu": first("/proc/cpuinfo", "model name"),
        "microcode": first("/proc/cpuinfo", "microcode"),
        "cores": std::thread::available_parallelism().map_or(0, usize::from),
        "kernel": kernel.trim(),
        "devices": "veth, 2 queues, offloads off",
        "commit": commit.map(|out| String::from_utf8_lossy(&out.stdout).trim().to_owned()).ok(),
    })
}
