//! Running other programs, and telling the person in front what is going on.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Instant;

/// Prints a line for the operator.
#[expect(clippy::print_stdout, reason = "this is a command-line tool")]
pub fn say(line: &str) {
    println!("{line}");
}

/// Prints a line about a failure.
#[expect(clippy::print_stderr, reason = "this is a command-line tool")]
pub fn complain(line: &str) {
    eprintln!("{line}");
}

/// Prints the name of a step with the seconds since the start in front.
pub fn step(what: &str) {
    static START: OnceLock<Instant> = OnceLock::new();
    let seconds = START.get_or_init(Instant::now).elapsed().as_secs();
    say(&format!("[{seconds:4} s] {what}"));
}

/// The root of the workspace.
pub fn root() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().unwrap_or(own).to_path_buf()
}

/// The cargo that runs us, in the root of the workspace.
///
/// Taken from the environment and not from the search path: Debian's compiler for the BPF
/// target installs a `cargo` and a `rustc` of another version.
pub fn cargo() -> Command {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    command.current_dir(root());
    command
}

/// Runs a command with its output going where ours goes.
///
/// # Errors
/// It cannot be started or does not succeed.
pub fn run(command: &mut Command) -> Result<(), String> {
    let line = line_of(command);
    let status = command.status().map_err(|error| format!("`{line}`: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("`{line}` ended with {status}")) }
}

/// Runs a command and returns what it prints; its errors go where ours go.
///
/// # Errors
/// It cannot be started or does not succeed.
pub fn read(command: &mut Command) -> Result<String, String> {
    let line = line_of(command);
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("`{line}`: {error}"))?;
    if !output.status.success() {
        return Err(format!("`{line}` ended with {}", output.status));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Whether a command can be run and succeeds; says nothing.
pub fn succeeds(command: &mut Command) -> bool {
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    quiet.status().is_ok_and(|status| status.success())
}

/// Where `cargo build --release` puts programs.
///
/// # Errors
/// Cargo does not say.
pub fn release_dir() -> Result<PathBuf, String> {
    target_dir().map(|target| target.join("release"))
}

/// Where cargo builds.
///
/// # Errors
/// Cargo does not say.
pub fn target_dir() -> Result<PathBuf, String> {
    let text = read(cargo().args(["metadata", "--format-version", "1", "--no-deps"]))?;
    let metadata: serde_json::Value =
        serde_json::from_str(&text).map_err(|error| format!("cargo metadata: {error}"))?;
    let target = metadata["target_directory"].as_str().ok_or("cargo metadata: no target folder")?;
    Ok(PathBuf::from(target))
}

/// Whether we are root; without the C library, from what the kernel shows.
pub fn is_root() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ids = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    ids.and_then(|ids| ids.split_whitespace().nth(1)) == Some("0")
}

fn line_of(command: &Command) -> String {
    let mut line = command.get_program().to_string_lossy().into_owned();
    for argument in command.get_args() {
        line.push(' ');
        line.push_str(&argument.to_string_lossy());
    }
    line
}
