//! Network namespaces and the veth pairs between them.
//!
//! Every name carries the process id, so test runs side by side never meet, and every
//! namespace is deleted when its value is dropped. Traffic stays inside: nothing here
//! creates a link to the namespace the tests were started in.

use crate::failure::{Failure, Outcome};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

/// Receive and transmit queues of every veth made here: two, so that steering has a choice.
pub const QUEUES: u32 = 2;

static SERIAL: AtomicU32 = AtomicU32::new(0);

/// A number no other value made by this process has; used in names.
#[must_use]
pub fn serial() -> u32 {
    SERIAL.fetch_add(1, Ordering::Relaxed)
}

/// Whether the machine lets us make namespaces; if not, why.
///
/// # Errors
/// The reason, in words.
pub fn privileged() -> Result<(), String> {
    // SAFETY: geteuid has no arguments, no memory effects and cannot fail.
    let user = unsafe { libc::geteuid() };
    if user != 0 {
        return Err("needs root for network namespaces and BPF".to_owned());
    }
    for tool in ["ip", "nsenter", "ethtool"] {
        if Command::new(tool).arg("--version").output().is_err() {
            return Err(format!("`{tool}` is not installed: run `cargo xtask setup`"));
        }
    }
    Ok(())
}

/// Says on the test runner's own output that a test did not run, and why.
///
/// Written past the capture of the test harness, so that the runner can count it.
pub fn report_skip(test: &str, why: &str) {
    use std::io::Write;
    let line = format!("skipped: {test}: {why}\n");
    // A closed standard output leaves nobody to tell.
    let _ = std::io::stdout().lock().write_all(line.as_bytes());
}

/// Returns from the surrounding test, saying why, when the machine lacks what it needs.
#[macro_export]
macro_rules! require_privileges {
    ($test:expr) => {
        if let Err(why) = $crate::netns::privileged() {
            $crate::netns::report_skip($test, &why);
            return Ok(());
        }
    };
}

/// A network namespace of our own, deleted on drop.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes a namespace called `x<pid>-<serial>-<label>` with loopback up, IPv6 duplicate
    /// address detection off and reverse-path filtering off.
    ///
    /// # Errors
    /// What `ip` said.
    pub fn create(label: &str) -> Outcome<Self> {
        let name = format!("x{}-{}-{label}", std::process::id(), serial());
        run(Command::new("ip").args(["netns", "add", &name]))?;
        let namespace = Self { name };
        namespace.sysctl("net/ipv6/conf/all/accept_dad", "0")?;
        namespace.sysctl("net/ipv6/conf/default/accept_dad", "0")?;
        namespace.sysctl("net/ipv6/conf/default/router_solicitations", "0")?;
        namespace.sysctl("net/ipv4/conf/all/rp_filter", "0")?;
        namespace.sysctl("net/ipv4/conf/default/rp_filter", "0")?;
        namespace.ip("link set dev lo up")?;
        Ok(namespace)
    }

    /// The name under `/run/netns`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file that stands for the namespace.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        PathBuf::from("/run/netns").join(&self.name)
    }

    /// A command that will run `program` inside.
    ///
    /// `nsenter` and not `ip netns exec`: the latter mounts a fresh `/sys`, which hides bpffs.
    #[must_use]
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.path().display())).arg("--").arg(program);
        command
    }

    /// Runs `ip` inside with the words of `arguments`; returns what it printed.
    ///
    /// # Errors
    /// The command and what it said.
    pub fn ip(&self, arguments: &str) -> Outcome<String> {
        run(Command::new("ip").arg("-n").arg(&self.name).args(arguments.split_whitespace()))
    }

    /// Runs a command line inside (words split at blanks); returns what it printed.
    ///
    /// # Errors
    /// The command and what it said.
    pub fn run(&self, line: &str) -> Outcome<String> {
        let mut words = line.split_whitespace();
        let program = words.next().ok_or_else(|| Failure::new("an empty command line"))?;
        run(self.command(program).args(words))
    }

    /// Writes a value under `/proc/sys` as seen from inside, for example
    /// `("net/ipv4/ip_forward", "1")`.
    ///
    /// # Errors
    /// The key and the kernel's answer.
    pub fn sysctl(&self, key: &str, value: &str) -> Outcome<()> {
        let path = PathBuf::from("/proc/sys").join(key);
        self.enter(|| std::fs::write(&path, value))?
            .map_err(|error| Failure::new(format!("{key} = {value}: {error}")))
    }

    /// Adds an address to a device; both families, with prefix length.
    ///
    /// # Errors
    /// What `ip` said.
    pub fn address(&self, device: &str, address: &str) -> Outcome<()> {
        let nodad = if address.contains(':') { " nodad" } else { "" };
        self.ip(&format!("addr add {address} dev {device}{nodad}"))?;
        Ok(())
    }

    /// The hardware address of a device.
    ///
    /// # Errors
    /// No such device, or an answer that is not understood.
    pub fn mac(&self, device: &str) -> Outcome<[u8; 6]> {
        let text = self.ip(&format!("-j link show dev {device}"))?;
        let answer: serde_json::Value = serde_json::from_str(&text)?;
        let mac = answer.pointer("/0/address").and_then(|value| value.as_str()).unwrap_or("");
        let bytes: Vec<u8> =
            mac.split(':').filter_map(|byte| u8::from_str_radix(byte, 16).ok()).collect();
        bytes.try_into().map_err(|_| Failure::new(format!("{device}: no hardware address")))
    }

    /// Runs `work` on a thread of its own that has entered the namespace.
    ///
    /// Sockets opened there stay inside for their whole life, wherever they are used.
    ///
    /// # Errors
    /// The namespace cannot be entered, or `work` panicked.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Outcome<T> {
        let handle = File::open(self.path())
            .map_err(|error| Failure::new(format!("{}: {error}", self.path().display())))?;
        let entered = std::thread::scope(|scope| {
            scope
                .spawn(move || {
                    // SAFETY: the descriptor is open for the call; only this thread moves.
                    let status = unsafe { libc::setns(handle.as_raw_fd(), libc::CLONE_NEWNET) };
                    if status == 0 { Ok(work()) } else { Err(std::io::Error::last_os_error()) }
                })
                .join()
        });
        match entered {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(Failure::new(format!("entering {}: {error}", self.name))),
            Err(_) => Err(Failure::new(format!("the thread inside {} panicked", self.name))),
        }
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Nothing can be done about a failure here; the name tells who left it behind.
        let _ = Command::new("ip").args(["netns", "del", &self.name]).output();
    }
}

/// Joins two namespaces by a veth pair, [`QUEUES`] queues each way, offloads off, both ends up.
///
/// Offloads are off so that what is captured is what a wire would carry: real checksums and
/// no packet above the MTU.
///
/// # Errors
/// What `ip` or `ethtool` said.
pub fn veth(left: (&Namespace, &str), right: (&Namespace, &str)) -> Outcome<()> {
    let queues = format!("numrxqueues {QUEUES} numtxqueues {QUEUES}");
    left.0.ip(&format!(
        "link add {} {queues} type veth peer name {} netns {} {queues}",
        left.1,
        right.1,
        right.0.name()
    ))?;
    for (namespace, device) in [left, right] {
        namespace.run(&format!(
            "ethtool -K {device} rx off tx off sg off tso off gso off gro off rxvlan off txvlan off"
        ))?;
        namespace.ip(&format!("link set dev {device} up"))?;
    }
    Ok(())
}

/// Runs a command to its end and returns its standard output.
///
/// # Errors
/// The command could not be started or did not succeed: its line and what it said.
pub fn run(command: &mut Command) -> Outcome<String> {
    let Output { status, stdout, stderr } =
        command.output().map_err(|error| Failure::new(format!("{}: {error}", line_of(command))))?;
    let printed = String::from_utf8_lossy(&stdout).into_owned();
    if status.success() {
        return Ok(printed);
    }
    let said = String::from_utf8_lossy(&stderr);
    Err(Failure::new(format!(
        "`{}`: {status}: {} {}",
        line_of(command),
        said.trim(),
        printed.trim()
    )))
}

fn line_of(command: &Command) -> String {
    let mut line = command.get_program().to_string_lossy().into_owned();
    for argument in command.get_args() {
        line.push(' ');
        line.push_str(&argument.to_string_lossy());
    }
    line
}

#[cfg(test)]
mod tests {
    use super::{Namespace, veth};
    use crate::failure::Outcome;

    #[test]
    fn two_namespaces_reach_each_other_and_vanish() -> Outcome<()> {
        crate::require_privileges!("two_namespaces_reach_each_other_and_vanish");
        let (left, right) = (Namespace::create("l")?, Namespace::create("r")?);
        veth((&left, "eth0"), (&right, "eth0"))?;
        left.address("eth0", "192.0.2.1/24")?;
        right.address("eth0", "192.0.2.2/24")?;
        left.address("eth0", "2001:db8::1/64")?;
        right.address("eth0", "2001:db8::2/64")?;
        left.run("ping -c1 -W2 192.0.2.2")?;
        left.run("ping -c1 -W2 2001:db8::2")?;
        assert_ne!(left.mac("eth0")?, right.mac("eth0")?);
        let path = left.path();
        drop(left);
        assert!(!path.exists());
        Ok(())
    }
}
