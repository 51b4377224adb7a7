//! What a measurement was made on, as far as it can move the figures.

use serde_json::{Value, json};
use std::process::Command;
use std::time::{Duration, Instant};
use xswan_aead::Backend;
use xswan_benches::measure::core_cycles_per_tick;

/// Processor flags that decide which cipher runs.
const FLAGS: [&str; 10] = [
    "aes",
    "pclmulqdq",
    "avx",
    "avx2",
    "avx512f",
    "avx512vl",
    "vaes",
    "vpclmulqdq",
    "constant_tsc",
    "nonstop_tsc",
];
/// How far the core's clock may move between beginning and end of a report.
const DRIFT_LIMIT: f64 = 0.05;

/// The clock of the core, relative to the time stamp counter.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// Ticks of the time stamp counter a second.
    pub tsc_hz: f64,
    /// Cycles of the core in one tick.
    pub cycles_per_tick: f64,
}

impl Clock {
    /// Measures both, in a tenth of a second.
    pub fn read() -> Self {
        let (begun, from) = (Instant::now(), xswan_xsk::cycles());
        std::thread::sleep(Duration::from_millis(100));
        let ticks = xswan_xsk::cycles().wrapping_sub(from);
        let tsc_hz = ticks as f64 / begun.elapsed().as_secs_f64();
        Self { tsc_hz, cycles_per_tick: core_cycles_per_tick() }
    }

    /// Whether `later` is the same clock, within what does not matter.
    pub fn is_steady(&self, later: &Self) -> bool {
        let near = |one: f64, other: f64| (one / other - 1.0).abs() <= DRIFT_LIMIT;
        near(self.tsc_hz, later.tsc_hz) && near(self.cycles_per_tick, later.cycles_per_tick)
    }
}

/// The `machine` object of the report.
pub fn describe(begin: Clock, end: Clock) -> Value {
    let flags = cpuinfo("flags").unwrap_or_default();
    let has = |flag: &&&str| flags.split(' ').any(|word| word == **flag);
    json!({
        "cpu": cpuinfo("model name"),
        "microcode": cpuinfo("microcode"),
        "flags": FLAGS.iter().filter(has).collect::<Vec<_>>(),
        "cores": std::thread::available_parallelism().map_or(0, usize::from),
        "caches": caches(),
        "kernel": file("/proc/sys/kernel/osrelease"),
        "memory_kb": meminfo("MemTotal:"),
        "hugepages": meminfo("HugePages_Total:"),
        "tsc_hz": begin.tsc_hz,
        "core_cycles_per_tick": begin.cycles_per_tick,
        "core_cycles_per_tick_at_the_end": end.cycles_per_tick,
        "steady_clock": begin.is_steady(&end),
        "mitigations": mitigations(),
        "load_average": file("/proc/loadavg"),
        "commit": said("git", &["rev-parse", "HEAD"]),
        "uncommitted": said("git", &["status", "--porcelain"]).is_some_and(|text| !text.is_empty()),
        "rustc": said("rustc", &["--version"]),
        "aead": Backend::fastest().description(),
    })
}

fn file(path: &str) -> Option<String> {
    std::fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

fn cpuinfo(key: &str) -> Option<String> {
    let text = file("/proc/cpuinfo")?;
    let line = text.lines().find(|line| line.starts_with(key))?;
    line.split_once(':').map(|(_, value)| value.trim().to_owned())
}

fn meminfo(key: &str) -> Option<u64> {
    let text = file("/proc/meminfo")?;
    let line = text.lines().find(|line| line.starts_with(key))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

fn caches() -> Vec<String> {
    let cache = |index: u32| {
        let read =
            |name: &str| file(&format!("/sys/devices/system/cpu/cpu0/cache/index{index}/{name}"));
        Some(format!("L{} {} {}", read("level")?, read("type")?, read("size")?))
    };
    (0..8).map_while(cache).collect()
}

fn mitigations() -> Value {
    let folder = std::fs::read_dir("/sys/devices/system/cpu/vulnerabilities");
    let entries = folder.into_iter().flatten().flatten().filter_map(|entry| {
        let text = file(&entry.path().display().to_string())?;
        let name = entry.file_name().to_string_lossy().into_owned();
        (text != "Not affected").then_some((name, Value::from(text)))
    });
    Value::Object(entries.collect())
}

fn said(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::Clock;

    #[test]
    fn a_throttled_core_is_noticed() {
        let begin = Clock { tsc_hz: 2.5e9, cycles_per_tick: 1.24 };
        assert!(begin.is_steady(&Clock { tsc_hz: 2.5e9, cycles_per_tick: 1.22 }));
        assert!(!begin.is_steady(&Clock { tsc_hz: 2.5e9, cycles_per_tick: 1.0 }));
    }
}
