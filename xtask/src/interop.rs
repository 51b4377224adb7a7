//! `cargo xtask interop PEER`: the lab's scenarios with our programs in some of the gateways.
//!
//! Each scenario is one run of `xtask/lab/lab.sh` with namespaces of its own, so several run
//! side by side; each prints one line, a failed one also what it said, and its logs are kept
//! below `target/interop`. What a scenario is and how the lab is used by hand is in
//! `xtask/lab/README.md`.

use crate::{setup, shell};
use std::collections::VecDeque;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

/// Scenarios that are about what our programs do not do yet: MOBIKE (RFC 4555) and Redirect
/// (RFC 5685). All others pass with our programs in every place, and `cargo xtask test` runs
/// them.
pub const NOT_YET: &[&str] = &["mobike", "mobike-nat", "mobike-resp", "redirect"];

/// Scenarios that `cargo xtask test` runs with our programs on both sides; `cargo xtask interop
/// strongswan --dut both` runs all.
const WITH_ITSELF: &[&str] =
    &["psk4", "cert6", "eap-tls", "frag", "natt", "reauth-mbb", "rekey", "vip"];

/// Longer than the slowest scenario with all its waits on a busy machine.
const SCENARIO_LIMIT: Duration = Duration::from_secs(180);
/// How long ending a lab may take.
const DOWN_LIMIT: Duration = Duration::from_secs(30);
const USAGE: &str = "\
usage: cargo xtask interop PEER [--dut gwa|gwb|both|all|none] [--jobs N] [SCENARIO...]

  PEER   strongswan (the distribution's), strongswan-6, strongswan-sid, libreswan, openiked;
         all but the first are fetched as Debian trees (a few minutes, 300 MB each)
  --dut  where our programs run; `all` is gwa, gwb and both in turn (default), `none` proves
         the scenarios with the peer alone";

/// Which implementation ours meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Peer {
    /// strongSwan as installed.
    Installed,
    /// strongSwan from a tree of that name.
    Tree(&'static str),
    /// Another implementation: name of its hooks, and of the tree it is in.
    Other(&'static str, &'static str),
}

impl Peer {
    fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "strongswan" => Self::Installed,
            "strongswan-6" => Self::Tree("strongswan-6"),
            "strongswan-sid" => Self::Tree("strongswan-sid"),
            "libreswan" => Self::Other("libreswan", "libreswan"),
            "openiked" => Self::Other("openiked", "strongswan-6"),
            _ => return None,
        })
    }

    /// Scenarios run when none is named.
    fn scenarios(self) -> Result<Vec<String>, String> {
        let names = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect();
        Ok(match self {
            Self::Installed => scenarios()?,
            Self::Tree("strongswan-sid") => names(&["psk4", "rekey", "x-raw-esp", "x-mlkem"]),
            Self::Tree(_) => names(&["psk4", "rekey", "cert6", "x-raw-esp"]),
            Self::Other(..) => names(&["x-mixed"]),
        })
    }
}

/// What was asked for.
struct Request {
    peer: Peer,
    /// Each a value of the lab's `DUT`.
    places: Vec<&'static str>,
    jobs: usize,
    scenarios: Vec<String>,
}

impl Request {
    fn parse(arguments: &[String]) -> Result<Self, String> {
        let (peer, rest) = arguments.split_first().ok_or(USAGE)?;
        let peer = Peer::parse(peer).ok_or(USAGE)?;
        let other = matches!(peer, Peer::Other(..));
        let mut request = Self {
            peer,
            places: if other { vec!["gwa", "gwb"] } else { vec!["gwa", "gwb", "gwa gwb"] },
            jobs: 2,
            scenarios: Vec::new(),
        };
        let mut rest = rest.iter();
        while let Some(argument) = rest.next() {
            match argument.as_str() {
                "--dut" => match rest.next().map(String::as_str) {
                    Some("gwa") => request.places = vec!["gwa"],
                    Some("gwb") => request.places = vec!["gwb"],
                    Some("both") if !other => request.places = vec!["gwa gwb"],
                    Some("none") if !other => request.places = vec![""],
                    Some("all") => {}
                    _ => return Err(USAGE.to_owned()),
                },
                "--jobs" => {
                    let jobs = rest.next().and_then(|text| text.parse().ok());
                    request.jobs = jobs.filter(|jobs| (1..=16).contains(jobs)).ok_or(USAGE)?;
                }
                name if name.starts_with('-') => return Err(USAGE.to_owned()),
                name => request.scenarios.push(name.to_owned()),
            }
        }
        if request.scenarios.is_empty() {
            request.scenarios = peer.scenarios()?;
        }
        Ok(request)
    }
}

/// One scenario in one arrangement.
struct Job {
    place: &'static str,
    scenario: String,
}

/// How it went.
struct Outcome {
    job: Job,
    passed: bool,
    took: Duration,
    output: String,
}

/// Passed and failed scenarios of a run.
#[derive(Clone, Debug, Default)]
pub struct Count {
    /// How many passed.
    pub passed: u64,
    /// A line for each that failed.
    pub failures: Vec<String>,
}

/// Runs what was asked for with debug builds, as `cargo xtask test` does.
///
/// # Errors
/// The machine is not ready, a build or download fails, or a scenario fails.
pub fn run(arguments: &[String]) -> Result<(), String> {
    let request = Request::parse(arguments)?;
    setup::run()?;
    if request.places != [""] {
        build()?;
    }
    let count = scenarios_in_all_places(&request)?;
    let (passed, failed) = (count.passed, count.failures.len());
    shell::say(&format!("{passed} passed, {failed} failed"));
    if failed == 0 { Ok(()) } else { Err(format!("{failed} scenarios failed")) }
}

/// The area of `cargo xtask test`: the scenarios known to pass, our programs in every place.
///
/// # Errors
/// The lab cannot be used at all.
pub fn area() -> Result<Count, String> {
    if !shell::is_root() {
        shell::say("skipped: interop: needs root");
        return Ok(Count::default());
    }
    let mut chosen = scenarios()?;
    chosen.retain(|name| !NOT_YET.contains(&name.as_str()));
    if chosen.is_empty() {
        return Ok(Count::default());
    }
    let request = |places, scenarios| Request { peer: Peer::Installed, places, jobs: 3, scenarios };
    let mut count = scenarios_in_all_places(&request(vec!["gwa", "gwb"], chosen))?;
    // With ours on both sides the two differ in nothing that the first run has not shown; a few
    // of them tell whether the lab works so.
    let few = WITH_ITSELF.iter().map(|name| (*name).to_owned()).collect();
    let more = scenarios_in_all_places(&request(vec!["gwa gwb"], few))?;
    count.passed += more.passed;
    count.failures.extend(more.failures);
    Ok(count)
}

fn build() -> Result<(), String> {
    shell::step("building the daemons");
    let mut command = shell::cargo();
    command.args(["build", "--package", "xswan-dataplane", "--package", "xswan-control"]);
    shell::run(command.args(["--package", "xswan", "--bins"]))
}

fn lab() -> PathBuf {
    shell::root().join("xtask/lab")
}

/// The lab's scenarios that need nothing but the distribution's strongSwan.
fn scenarios() -> Result<Vec<String>, String> {
    let folder = lab().join("scenarios");
    let wrong = |error: std::io::Error| format!("{}: {error}", folder.display());
    let mut names = Vec::new();
    for entry in std::fs::read_dir(&folder).map_err(wrong)? {
        let name = entry.map_err(wrong)?.file_name().to_string_lossy().into_owned();
        if let (Some(name), false) = (name.strip_suffix(".sh"), name.starts_with("x-")) {
            names.push(name.to_owned());
        }
    }
    names.sort();
    Ok(names)
}

fn scenarios_in_all_places(request: &Request) -> Result<Count, String> {
    let tree = match request.peer {
        Peer::Installed => None,
        Peer::Tree(name) | Peer::Other(_, name) => Some(fetch(name)?),
    };
    let count = request.scenarios.len();
    shell::step(&format!(
        "{count} scenarios of the interop lab, in {} places",
        request.places.len()
    ));
    let queue: VecDeque<Job> = request
        .places
        .iter()
        .flat_map(|place| request.scenarios.iter().map(|name| (*place, name.clone())))
        .map(|(place, scenario)| Job { place, scenario })
        .collect();
    let queue = Mutex::new(queue);
    let binaries = shell::target_dir()?.join("debug");
    let kept = shell::target_dir()?.join("interop");
    let (outcomes, arriving) = mpsc::channel();
    let mut total = Count::default();
    std::thread::scope(|scope| {
        // The sockets of the others have fixed names in their tree: one at a time.
        let jobs = if matches!(request.peer, Peer::Other(..)) { 1 } else { request.jobs };
        for worker in 0..jobs {
            let outcomes = outcomes.clone();
            let lab = Lab {
                name: format!("xi{}-{worker}", std::process::id()),
                peer: request.peer,
                tree: tree.as_deref(),
                binaries: &binaries,
                kept: &kept,
            };
            let queue = &queue;
            scope.spawn(move || {
                while let Some(job) = next(queue) {
                    if outcomes.send(lab.run(job)).is_err() {
                        break;
                    }
                }
                // Only now, for the certificates in it are used by every scenario.
                let _ = std::fs::remove_dir_all(lab.state());
            });
        }
        drop(outcomes);
        for outcome in arriving {
            report(&outcome, &mut total);
        }
    });
    Ok(total)
}

fn next(queue: &Mutex<VecDeque<Job>>) -> Option<Job> {
    queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
}

fn place_name(place: &str) -> &str {
    match place {
        "" => "none",
        "gwa gwb" => "both",
        other => other,
    }
}

fn report(outcome: &Outcome, total: &mut Count) {
    let word = if outcome.passed { "ok" } else { "FAIL" };
    let place = place_name(outcome.job.place);
    let name = &outcome.job.scenario;
    shell::say(&format!("{word:<4} {place:<4} {name:<24} {:6.1} s", outcome.took.as_secs_f32()));
    if outcome.passed {
        total.passed += 1;
        return;
    }
    total.failures.push(format!("interop {name} with our programs in: {place}"));
    for line in outcome.output.lines() {
        shell::say(&format!("       {line}"));
    }
}

/// Namespaces of one worker, with what its scenarios need.
struct Lab<'a> {
    name: String,
    peer: Peer,
    tree: Option<&'a str>,
    binaries: &'a Path,
    kept: &'a Path,
}

impl Lab<'_> {
    fn run(&self, job: Job) -> Outcome {
        let began = Instant::now();
        let attempt = || match self.attempt(&job) {
            Ok(both) => both,
            Err(why) => (false, why),
        };
        let (mut passed, mut output) = attempt();
        // The kernel lets go of the sockets of the scenario before when it finds the time. A lab
        // that did not come to stand has shown nothing; it is set up once more, and says so.
        if !passed && output.contains("is held by another AF_XDP socket") {
            shell::say(&format!("again {}: the machine was not free yet", job.scenario));
            (passed, output) = attempt();
        }
        if !passed {
            self.keep_logs(&job);
        }
        Outcome { job, passed, took: began.elapsed(), output }
    }

    fn attempt(&self, job: &Job) -> Result<(bool, String), String> {
        let state = self.state();
        std::fs::create_dir_all(&state).map_err(|error| format!("{}: {error}", state.display()))?;
        let file = state.join("output");
        let output = std::fs::File::create(&file).map_err(|error| error.to_string())?;
        let errors = output.try_clone().map_err(|error| error.to_string())?;
        let mut command = self.command(job.place);
        command.args(["test", &job.scenario]).stdin(Stdio::null()).stdout(output).stderr(errors);
        // A group of its own, so that all of it can be ended.
        let child = command.process_group(0).spawn();
        let mut child = child.map_err(|error| format!("lab.sh: {error}"))?;
        let status = wait(&mut child, SCENARIO_LIMIT);
        let text = std::fs::read(&file).map(|text| String::from_utf8_lossy(&text).into_owned());
        let mut text = text.unwrap_or_default();
        let passed = status == Some(true);
        if status.is_none() {
            text.push_str("    FAILED: did not end in time\n");
            self.end(&mut child, job.place);
        }
        Ok((passed, text))
    }

    fn command(&self, place: &str) -> Command {
        let mut command = Command::new(lab().join("lab.sh"));
        command.env("LAB", &self.name).env("LAB_DIR", self.state());
        command.env("XSWAN_BIN_DIR", self.binaries);
        let hooks = match self.peer {
            Peer::Installed | Peer::Tree(_) => {
                command.env("DUT", place);
                "hooks.sh"
            }
            Peer::Other(hooks, _) => {
                let other = if place == "gwa" { "gwb" } else { "gwa" };
                command.env("DUT", "gwa gwb").env("OTHER", hooks).env("OTHER_gws", other);
                if hooks == "openiked" {
                    // It offers no AEAD for ESP on Linux, and rekeys only on its own account.
                    command.env("ESP", "aes128-sha512").env("REKEY_BY", place);
                }
                if hooks == "libreswan" && place == "gwb" {
                    command.env("REVIVES", "yes");
                }
                "mixed.sh"
            }
        };
        if !place.is_empty() {
            command.env("DUT_HOOKS", lab().join(hooks));
        }
        if let Some(tree) = self.tree {
            for gateway in ["gwa", "gwb", "gwc"] {
                command.env(format!("ROOT_{gateway}"), tree);
            }
        }
        command
    }

    /// Ends a lab that hangs.
    fn end(&self, child: &mut Child, place: &str) {
        let group = format!("-{}", child.id());
        shell::succeeds(Command::new("kill").args(["-KILL", "--", &group]));
        let _ = child.wait();
        let mut command = self.command(place);
        command.arg("down").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        if let Ok(mut down) = command.process_group(0).spawn()
            && wait(&mut down, DOWN_LIMIT).is_none()
        {
            let _ = down.kill();
        }
    }

    fn state(&self) -> PathBuf {
        Path::new("/run").join(&self.name)
    }

    /// Copies logs and configurations, but no keys, to where they can be read afterwards.
    fn keep_logs(&self, job: &Job) {
        let place = place_name(job.place);
        for gateway in ["gwa", "gwb", "gwc"] {
            let from = self.state().join(gateway);
            let to = self.kept.join(place).join(&job.scenario).join(gateway);
            let _ = std::fs::create_dir_all(&to);
            for name in ["log", "dataplane.log", "dut", "status", "xswan.toml", "strongswan.conf"] {
                let _ = std::fs::remove_file(to.join(name));
                let _ = std::fs::copy(from.join(name), to.join(name));
            }
        }
    }
}

/// Waits for a child; none if the time is up first.
fn wait(child: &mut Child, limit: Duration) -> Option<bool> {
    let began = Instant::now();
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status.success()),
            Ok(None) if began.elapsed() < limit => std::thread::sleep(Duration::from_millis(20)),
            Ok(None) | Err(_) => return None,
        }
    }
}

/// Makes sure that a tree is there; returns its folder.
fn fetch(name: &str) -> Result<String, String> {
    shell::step(&format!("fetching {name} unless it is there"));
    let text = shell::read(Command::new(lab().join("tools/peers.sh")).args(["get", name]))?;
    text.lines().last().map(str::to_owned).ok_or_else(|| format!("peers.sh: no folder for {name}"))
}

#[cfg(test)]
mod tests {
    use super::{NOT_YET, Peer, Request, scenarios};

    fn request(text: &str) -> Result<Request, String> {
        let words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
        Request::parse(&words)
    }

    #[test]
    fn arguments_say_peer_place_and_scenarios() {
        let all = request("strongswan").expect("no options");
        assert_eq!((all.peer, all.places.len()), (Peer::Installed, 3));
        assert_eq!(all.scenarios, scenarios().expect("the lab"));
        let some = request("strongswan --dut both --jobs 3 psk4 rekey").expect("options");
        assert_eq!((some.places, some.jobs), (vec!["gwa gwb"], 3));
        assert_eq!(some.scenarios, ["psk4", "rekey"]);
        assert_eq!(request("libreswan").expect("a peer").places, ["gwa", "gwb"]);
    }

    #[test]
    fn wrong_arguments_are_told_the_usage() {
        for text in ["", "racoon", "strongswan --dut gwz", "strongswan --jobs 0", "strongswan -x"] {
            assert!(request(text).is_err_and(|error| error.starts_with("usage:")), "{text:?}");
        }
        assert!(request("libreswan --dut both").is_err());
    }

    #[test]
    fn scenarios_that_need_more_run_only_by_name() {
        let names = scenarios().expect("the lab");
        assert!(names.len() >= 45, "{}", names.len());
        assert!(names.iter().all(|name| !name.starts_with("x-")));
        assert!(NOT_YET.iter().all(|name| names.iter().any(|other| other == name)));
    }
}
