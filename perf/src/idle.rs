//! What a gateway costs that has nothing to do.

use crate::processor_time;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use xswan_testkit::failure::Outcome;
use xswan_testkit::gateway::Gateway;
use xswan_testkit::topology::{self, Outer, Topology};

/// How long nothing is done; the kernel counts in hundredths of a second.
const QUIET: Duration = Duration::from_secs(4);
/// After the start there are neighbours to find and timers to settle.
const SETTLE: Duration = Duration::from_secs(2);

/// One way to wait.
pub struct Row {
    /// `dataplane.wait`.
    pub wait: &'static str,
    /// Processor seconds a second of the dataplane, all its threads.
    pub dataplane: f64,
    /// Processor seconds a second of control.
    pub control: f64,
}

impl Row {
    /// For the report.
    pub fn json(&self) -> Value {
        json!({
            "wait": self.wait, "workers": 1,
            "dataplane_cpu_per_second": self.dataplane, "control_cpu_per_second": self.control,
        })
    }
}

/// A gateway with one worker, sleeping and polling.
pub fn measure() -> Outcome<Vec<Row>> {
    ["sleep", "busy"].into_iter().map(of).collect()
}

fn of(wait: &'static str) -> Outcome<Row> {
    let topology = Topology::create()?;
    let [mut config, _] = topology::tunnel(Outer::V4, false, "aes128gcm16-esn")?;
    config.wait = wait.to_owned();
    config.workers = std::thread::available_parallelism().map_or(0, |n| n.get() - 1).to_string();
    let [namespace, _] = &topology.gateways;
    let mut gateway = Gateway::start(namespace, config)?;
    let pids = [gateway.dataplane()?.pid(), gateway.control()?.pid()];
    std::thread::sleep(SETTLE);
    let read = || -> Outcome<[Duration; 2]> {
        let [dataplane, control] = pids.map(processor_time::of);
        Ok([dataplane?, control?])
    };
    let (begun, before) = (Instant::now(), read()?);
    std::thread::sleep(QUIET);
    let (after, elapsed) = (read()?, begun.elapsed().as_secs_f64());
    let [dataplane, control] = [0, 1].map(|at| (after[at] - before[at]).as_secs_f64() / elapsed);
    Ok(Row { wait, dataplane, control })
}
