//! Which core runs which worker, and which worker owns which queue: decided once, printed.
//!
//! Queue `q` of every port belongs to worker `q mod workers`: that worker alone refills
//! and reaps it. Every worker has a socket on every queue, because any of them may own
//! the SA of a packet that arrives there.

use std::fmt;
use std::fs;
use std::path::Path;

/// One attached device.
#[derive(Clone, Debug)]
pub struct Port {
    /// Interface name.
    pub name: String,
    /// Interface index.
    pub ifindex: u32,
    /// [`xswan_steer::abi::ROLE_OUTER`], [`xswan_steer::abi::ROLE_INNER`] or both.
    pub roles: u32,
    /// Receive queues in use.
    pub queues: Vec<u32>,
    /// NUMA node of the device, if the machine says so.
    pub numa_node: Option<u32>,
}

/// The whole plan.
#[derive(Clone, Debug)]
pub struct Topology {
    /// Core of the main thread.
    pub main_core: usize,
    /// Core of each worker.
    pub worker_cores: Vec<usize>,
    /// Attached devices.
    pub ports: Vec<Port>,
}

impl Topology {
    /// The worker that refills and reaps a queue.
    #[must_use]
    pub fn owner(&self, queue: u32) -> usize {
        queue as usize % self.worker_cores.len().max(1)
    }

    /// Lines that warn of what will cost speed.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.worker_cores.contains(&self.main_core) {
            warnings.push(format!(
                "cores.main = {} is also a worker's core: management work will delay packets",
                self.main_core
            ));
        }
        for port in &self.ports {
            for &queue in &port.queues {
                let core = self.worker_cores.get(self.owner(queue)).copied().unwrap_or(0);
                if let (Some(device), Some(worker)) = (port.numa_node, numa_node_of_core(core))
                    && device != worker
                {
                    warnings.push(format!(
                        "{} is on NUMA node {device}, core {core} of its queue {queue} on node {worker}",
                        port.name
                    ));
                }
            }
        }
        warnings
    }
}

impl fmt::Display for Topology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<16} {:>5} {:>6} {:>4} {:>9}  role",
            "NIC", "queue", "worker", "core", "NUMA node"
        )?;
        for port in &self.ports {
            for &queue in &port.queues {
                let worker = self.owner(queue);
                let core = self.worker_cores.get(worker).copied().unwrap_or(0);
                let node = port.numa_node.map_or_else(|| "-".to_owned(), |node| node.to_string());
                let role = match port.roles {
                    xswan_steer::abi::ROLE_OUTER => "outer",
                    xswan_steer::abi::ROLE_INNER => "inner",
                    _ => "both",
                };
                writeln!(
                    f,
                    "{:<16} {queue:>5} {worker:>6} {core:>4} {node:>9}  {role}",
                    port.name
                )?;
            }
        }
        Ok(())
    }
}

/// The NUMA node of a network device; `None` for virtual devices.
#[must_use]
pub fn numa_node_of_device(name: &str) -> Option<u32> {
    read_number(&Path::new("/sys/class/net").join(name).join("device/numa_node"))
}

fn numa_node_of_core(core: usize) -> Option<u32> {
    let entries = fs::read_dir(format!("/sys/devices/system/cpu/cpu{core}")).ok()?;
    entries
        .flatten()
        .find_map(|entry| entry.file_name().to_string_lossy().strip_prefix("node")?.parse().ok())
}

fn read_number(path: &Path) -> Option<u32> {
    // A device without a node says -1, which is no u32 and so becomes `None`.
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{Port, Topology};

    fn topology() -> Topology {
        let port = |name: &str, roles| Port {
            name: name.to_owned(),
            ifindex: 2,
            roles,
            queues: vec![0, 1, 2, 3],
            numa_node: None,
        };
        Topology {
            main_core: 0,
            worker_cores: vec![1, 2],
            ports: vec![port("eth0", 1), port("eth1", 3)],
        }
    }

    #[test]
    fn queues_are_dealt_to_workers_in_turn() {
        let topology = topology();
        assert_eq!([0, 1, 2, 3].map(|queue| topology.owner(queue)), [0, 1, 0, 1]);
        let text = topology.to_string();
        assert_eq!(text.lines().count(), 9, "{text}");
        assert!(text.contains("eth1                 3      1    2         -  both"), "{text}");
    }

    #[test]
    fn sharing_the_main_core_is_told() {
        let topology = Topology { main_core: 1, ..topology() };
        assert!(topology.warnings()[0].contains("cores.main = 1"));
    }
}
