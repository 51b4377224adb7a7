//! Programs under test: started inside a namespace, watched, and never left behind.
//!
//! A program's output goes to a file; when a test fails, the end of that file is shown.
//! Only children started here are ever signalled, by their own process id.

use crate::failure::{Failure, Outcome};
use crate::netns::Namespace;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How often a condition is looked at while waiting for it.
const POLL_INTERVAL_MS: u64 = 20;
/// Lines of a program's log shown when a test fails.
const LOG_LINES_SHOWN: usize = 60;

/// Waits until `condition` holds.
///
/// # Errors
/// It did not hold within `limit`; the text says what was waited for and the last failure.
pub fn wait_for(
    what: &str,
    limit: Duration,
    mut condition: impl FnMut() -> Outcome<bool>,
) -> Outcome<()> {
    let start = Instant::now();
    loop {
        let last = match condition() {
            Ok(true) => return Ok(()),
            Ok(false) => String::new(),
            Err(failure) => format!(" ({failure})"),
        };
        if start.elapsed() >= limit {
            let seconds = limit.as_secs();
            return Err(Failure::new(format!("waited {seconds} s in vain for {what}{last}")));
        }
        std::thread::sleep(Duration::from_millis(POLL_INTERVAL_MS));
    }
}

/// A running program; killed and reaped on drop.
#[derive(Debug)]
pub struct Daemon {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Daemon {
    /// Starts `program` inside `namespace`, its output going to `<directory>/<name>.log`.
    ///
    /// The log is appended to, so the lines of an earlier life of the same name stay.
    ///
    /// # Errors
    /// The log cannot be made or the program cannot be started.
    pub fn spawn(
        namespace: &Namespace,
        name: &str,
        program: &Path,
        arguments: &[&str],
        directory: &Path,
    ) -> Outcome<Self> {
        let mut command = namespace.command(program);
        command.args(arguments);
        Self::spawn_command(command, name, directory)
    }

    /// Starts a prepared command, its output going to `<directory>/<name>.log`.
    ///
    /// # Errors
    /// The log cannot be made or the program cannot be started.
    pub fn spawn_command(mut command: Command, name: &str, directory: &Path) -> Outcome<Self> {
        let log = directory.join(format!("{name}.log"));
        let output = File::options().create(true).append(true).open(&log)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .map_err(|error| Failure::new(format!("starting {name}: {error}")))?;
        Ok(Self { name: name.to_owned(), child, log })
    }

    /// The process id; `nsenter` replaces itself, so it is the program's own.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Everything it has printed so far.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The last lines it has printed.
    #[must_use]
    pub fn log_tail(&self) -> String {
        let text = self.log();
        let lines: Vec<&str> = text.lines().collect();
        let from = lines.len().saturating_sub(LOG_LINES_SHOWN);
        lines.get(from..).unwrap_or_default().join("\n")
    }

    /// Whether it still runs.
    ///
    /// # Errors
    /// The kernel refuses to say.
    pub fn is_running(&mut self) -> Outcome<bool> {
        Ok(self.child.try_wait()?.is_none())
    }

    /// Sends a signal to it, for example `libc::SIGTERM`.
    ///
    /// # Errors
    /// It has already gone, or the kernel refuses.
    pub fn signal(&mut self, signal: i32) -> Outcome<()> {
        if !self.is_running()? {
            return Err(Failure::new(format!("{} has already ended", self.name)));
        }
        let pid = i32::try_from(self.pid()).map_err(|error| Failure::new(error.to_string()))?;
        // SAFETY: no memory is involved; the child has not been reaped, so the id is still its own.
        let status = unsafe { libc::kill(pid, signal) };
        if status == 0 { Ok(()) } else { Err(std::io::Error::last_os_error().into()) }
    }

    /// Ends it with SIGKILL and reaps it.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn kill(&mut self) -> Outcome<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Asks it to end with SIGTERM and waits for that.
    ///
    /// # Errors
    /// It is still there after `limit`.
    pub fn terminate(&mut self, limit: Duration) -> Outcome<ExitStatus> {
        self.signal(libc::SIGTERM)?;
        self.wait(limit)
    }

    /// Waits for it to end by itself.
    ///
    /// # Errors
    /// It is still there after `limit`.
    pub fn wait(&mut self, limit: Duration) -> Outcome<ExitStatus> {
        let mut status = None;
        wait_for(&format!("the end of {}", self.name), limit, || {
            status = self.child.try_wait()?;
            Ok(status.is_some())
        })?;
        status.ok_or_else(|| Failure::new("ended without a status"))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended already; either way it is reaped.
        let _ = self.child.kill();
        let _ = self.child.wait();
        show_log(&self.name, &self.log_tail());
    }
}

static LOGS_SHOWN: AtomicBool = AtomicBool::new(true);

/// Leaves the logs of programs that end unshown; for runs outside the test harness, which
/// holds them back by itself unless the test fails.
pub fn keep_logs_quiet() {
    LOGS_SHOWN.store(false, Ordering::Relaxed);
}

#[expect(clippy::print_stderr, reason = "the test harness shows it only if the test fails")]
fn show_log(name: &str, tail: &str) {
    if LOGS_SHOWN.load(Ordering::Relaxed) {
        eprintln!("--- the end of {name}'s log ---\n{tail}");
    }
}

/// A directory of its own under the system's temporary one, removed on drop.
#[derive(Debug)]
pub struct ScratchDirectory {
    path: PathBuf,
}

impl ScratchDirectory {
    /// Makes `<tmp>/xswan-<pid>-<serial>-<label>`, mode 0700.
    ///
    /// # Errors
    /// What the file system said.
    pub fn create(label: &str) -> Outcome<Self> {
        use std::os::unix::fs::DirBuilderExt;
        let name = format!("xswan-{}-{}-{label}", std::process::id(), crate::netns::serial());
        let path = std::env::temp_dir().join(name);
        std::fs::DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self { path })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for ScratchDirectory {
    fn drop(&mut self) {
        if std::env::var_os("XSWAN_KEEP").is_some() {
            return;
        }
        // Left-overs in the temporary directory harm nobody.
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::{Daemon, ScratchDirectory, wait_for};
    use crate::failure::Outcome;
    use std::process::Command;
    use std::time::Duration;

    #[test]
    fn a_child_is_logged_ended_and_reaped() -> Outcome<()> {
        let scratch = ScratchDirectory::create("process")?;
        let mut command = Command::new("sh");
        command.args(["-c", "echo ready; exec sleep 60"]);
        let mut daemon = Daemon::spawn_command(command, "sleeper", scratch.path())?;
        wait_for("the first line", Duration::from_secs(10), || Ok(daemon.log() == "ready\n"))?;
        assert!(daemon.is_running()?);
        let status = daemon.terminate(Duration::from_secs(10))?;
        assert!(!status.success());
        assert!(daemon.signal(libc::SIGTERM).is_err());
        Ok(())
    }
}
