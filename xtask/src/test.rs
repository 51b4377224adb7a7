//! `cargo xtask test`: build everything, run everything, add up what the runners said.
//!
//! The tests are built once and their programs run one by one: unit and integration tests,
//! then documentation tests, then the end-to-end areas against the daemons, which are built
//! like the tests: their dependencies need no second build, and their arithmetic is checked.
//! A test that cannot run here prints `skipped: why`; such lines are counted and repeated.

use crate::{interop, setup, shell};
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

/// Test programs that start daemons: one area each, named `e2e_<area>`.
const END_TO_END_PREFIX: &str = "e2e_";

/// Packages of the programs that end-to-end areas start.
const DAEMONS: [&str; 3] = ["xswan-dataplane", "xswan-control", "xswan"];

/// Sums over the test runners.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    passed: u64,
    failed: u64,
    skipped: Vec<String>,
    failures: Vec<String>,
}

impl Tally {
    /// Takes in one line of a runner's output; true if the line should be shown.
    fn note(&mut self, line: &str) -> bool {
        // With one thread the harness has begun the test's line before the test says why.
        let begun = line.starts_with("test ").then(|| line.split_once(" ... ")).flatten();
        let said = begun.map_or(line, |(_, said)| said);
        if let Some(why) = said.trim_start().strip_prefix("skipped: ") {
            // The harness shows a test's output once, but the test counted as passed.
            self.skipped.push(why.to_owned());
            self.passed = self.passed.wrapping_sub(1);
            return true;
        }
        if line.starts_with("test ") && line.ends_with("FAILED") {
            self.failures.push(line.to_owned());
            return true;
        }
        let Some(rest) = line.strip_prefix("test result: ") else { return false };
        let number = |word: &str| {
            let before = rest.split(word).next().unwrap_or_default();
            before.rsplit([' ', ';', '.']).find_map(|text| text.parse::<u64>().ok()).unwrap_or(0)
        };
        self.passed = self.passed.wrapping_add(number(" passed"));
        self.failed += number(" failed");
        for _ in 0..number(" ignored") {
            self.skipped.push("ignored by an attribute".to_owned());
        }
        true
    }

    fn add_scenarios(&mut self, count: interop::Count) {
        self.passed = self.passed.wrapping_add(count.passed);
        self.failed += count.failures.len() as u64;
        self.failures.extend(count.failures);
    }

    fn add(&mut self, other: Self) {
        self.passed = self.passed.wrapping_add(other.passed);
        self.failed += other.failed;
        self.skipped.extend(other.skipped);
        self.failures.extend(other.failures);
    }

    /// Prints the closing lines.
    ///
    /// # Errors
    /// Something failed.
    fn close(&self) -> Result<(), String> {
        for why in &self.skipped {
            shell::say(&format!("skipped: {why}"));
        }
        for line in &self.failures {
            shell::say(line);
        }
        let (passed, failed, skipped) = (self.passed, self.failed, self.skipped.len());
        shell::say(&format!("{passed} passed, {failed} failed, {skipped} skipped"));
        if failed == 0 { Ok(()) } else { Err(format!("{failed} failed")) }
    }
}

/// A built test program.
struct Program {
    name: String,
    executable: PathBuf,
    folder: PathBuf,
}

/// Runs the tests asked for.
///
/// # Errors
/// The machine is not ready, the build fails or a test fails.
pub fn run(arguments: &[String]) -> Result<(), String> {
    let only = match arguments {
        [] => None,
        [flag, area] if flag == "--only" => Some(area.as_str()),
        _ => return Err("usage: cargo xtask test [--only AREA]".to_owned()),
    };
    setup::run()?;
    everything(only)
}

/// Runs the tests on a machine that is ready.
///
/// # Errors
/// The build fails, there is no such area, or a test fails.
pub fn everything(only: Option<&str>) -> Result<(), String> {
    shell::step("building the tests");
    let programs = build(only)?;
    let (end_to_end, plain): (Vec<_>, Vec<_>) =
        programs.into_iter().partition(|program| program.name.starts_with(END_TO_END_PREFIX));
    let mut tally = Tally::default();
    let areas: Vec<_> =
        end_to_end.into_iter().filter(|program| wanted(only, &program.name)).collect();
    if matches!(only, None | Some("unit" | "fuzz")) {
        for program in
            plain.iter().filter(|program| only != Some("fuzz") || program.name == "fuzz_replay")
        {
            tally.add(run_program(program, None, &[])?);
        }
    } else if !matches!(only, Some("doc" | "interop")) && areas.is_empty() {
        return Err(format!("no such area: {}", only.unwrap_or_default()));
    }
    if matches!(only, None | Some("doc")) {
        shell::step("documentation tests");
        let mut command = shell::cargo();
        command.args(["test", "--workspace", "--quiet", "--doc"]);
        tally.add(follow(&mut command)?);
    }
    if !areas.is_empty() {
        let folder = shell::target_dir()?.join("debug");
        for program in &areas {
            // One at a time: each has pinned workers of its own.
            tally.add(run_program(program, Some(&folder), &["--test-threads=1"])?);
        }
    }
    if matches!(only, None | Some("interop")) {
        tally.add_scenarios(interop::area()?);
    }
    tally.close()
}

fn wanted(only: Option<&str>, name: &str) -> bool {
    let area = name.strip_prefix(END_TO_END_PREFIX).unwrap_or_default();
    only.is_none_or(|only| only == area)
}

fn build(only: Option<&str>) -> Result<Vec<Program>, String> {
    let mut command = shell::cargo();
    command.args(["build", "--message-format=json-render-diagnostics"]);
    match only {
        // One build of programs and tests together, so that they share every dependency.
        None | Some("unit" | "doc") => command.args(["--workspace", "--lib", "--bins", "--tests"]),
        Some("interop") => {
            for package in DAEMONS {
                command.args(["--package", package]);
            }
            command.arg("--bins")
        }
        Some("fuzz") => command.args(["--package", "xswan-testkit", "--test", "fuzz_replay"]),
        Some(area) => {
            let name = format!("{END_TO_END_PREFIX}{area}");
            command.args(["--package", "xswan-testkit", "--test", name.as_str()]);
            for package in DAEMONS {
                command.args(["--package", package]);
            }
            command.arg("--bins")
        }
    };
    let messages = shell::read(&mut command)?;
    let mut programs = Vec::new();
    for line in messages.lines() {
        let Ok(message) = serde_json::from_str::<Value>(line) else { continue };
        let test = message["profile"]["test"].as_bool() == Some(true);
        let (Some(executable), true) = (message["executable"].as_str(), test) else { continue };
        let target = message["target"]["name"].as_str().unwrap_or_default().to_owned();
        let manifest = Path::new(message["manifest_path"].as_str().unwrap_or_default());
        let folder = manifest.parent().unwrap_or(Path::new(".")).to_path_buf();
        programs.push(Program { name: target, executable: executable.into(), folder });
    }
    Ok(programs)
}

fn run_program(program: &Program, daemons: Option<&Path>, flags: &[&str]) -> Result<Tally, String> {
    shell::step(&format!("running {}", program.name));
    let mut command = Command::new(&program.executable);
    command.current_dir(&program.folder).env("CARGO_MANIFEST_DIR", &program.folder);
    // Output of passing tests is asked for because that is where they say they were skipped.
    command.arg("--show-output").args(flags);
    if let Some(folder) = daemons {
        command.env("XSWAN_BIN_DIR", folder);
    }
    let began = Instant::now();
    let tally = follow(&mut command)?;
    let seconds = began.elapsed().as_secs();
    if seconds >= 10 {
        shell::say(&format!("         {} took {seconds} s", program.name));
    }
    Ok(tally)
}

/// Runs a test runner, showing its verdicts, and all it says about failures.
fn follow(command: &mut Command) -> Result<Tally, String> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("{}: {error}", command.get_program().to_string_lossy()))?;
    let mut tally = Tally::default();
    let mut in_failures = false;
    for line in BufReader::new(child.stdout.take().ok_or("no output to follow")?).lines() {
        let line = line.map_err(|error| error.to_string())?;
        match line.as_str() {
            "failures:" => in_failures = true,
            "successes:" => in_failures = false,
            _ => {}
        }
        let worth = tally.note(&line);
        if line.starts_with("test result:") {
            in_failures = false;
        }
        if worth || in_failures {
            shell::say(&format!("         {line}"));
        }
    }
    let status = child.wait().map_err(|error| error.to_string())?;
    if !status.success() && tally.failed == 0 {
        // It died without a verdict: a signal, an abort, or a build that failed.
        tally.failed = 1;
        let name = command.get_program().to_string_lossy().into_owned();
        tally.failures.push(format!("{name} ended with {status}"));
    }
    Ok(tally)
}

#[cfg(test)]
mod tests {
    use super::Tally;

    #[test]
    fn closing_lines_are_added_up_and_skips_are_not_passes() {
        let mut tally = Tally::default();
        assert!(!tally.note("test replay::rep_03_window_edges ... ok"));
        assert!(tally.note("skipped: steer_program: needs root"));
        assert!(tally.note("test vlan ... skipped: vlan: no 8021q"));
        assert!(tally.note("test a::b ... FAILED"));
        tally.note("test result: FAILED. 12 passed; 1 failed; 2 ignored; 0 measured; 3 filtered out; finished in 0.10s");
        assert_eq!((tally.passed, tally.failed, tally.skipped.len()), (10, 1, 4));
        assert_eq!(tally.failures.len(), 1);
    }
}
