//! `cargo xtask fuzz`: libFuzzer where there is one, a plain mutation loop elsewhere.

use crate::shell;
use std::process::Command;

/// Targets, each a function of `fuzz/bodies` and a folder of `fuzz/corpus`.
pub const TARGETS: &[&str] = &["classify", "wire_layers", "decap", "config", "sa_api"];

/// Fuzzes one target for a while.
///
/// # Errors
/// No such target, or it found something.
pub fn run(arguments: &[String]) -> Result<(), String> {
    let usage =
        || format!("usage: cargo xtask fuzz TARGET [--seconds N]; targets: {}", TARGETS.join(" "));
    let (target, seconds) = match arguments {
        [target] => (target, "60"),
        [target, flag, seconds] if flag == "--seconds" => (target, seconds.as_str()),
        _ => return Err(usage()),
    };
    if !TARGETS.contains(&target.as_str()) || seconds.parse::<u64>().is_err() {
        return Err(usage());
    }
    let nightly = shell::succeeds(Command::new("cargo").args(["+nightly", "fuzz", "--version"]));
    if nightly {
        shell::step(&format!("{target}: libFuzzer on nightly, {seconds} s"));
        let limit = format!("-max_total_time={seconds}");
        let mut command = Command::new("cargo");
        command.current_dir(shell::root()).env_remove("CARGO").env_remove("RUSTUP_TOOLCHAIN");
        return shell::run(command.args(["+nightly", "fuzz", "run", target, "--", &limit]));
    }
    shell::step(&format!(
        "{target}: no nightly cargo-fuzz here, mutating without coverage, {seconds} s"
    ));
    let mut command = shell::cargo();
    command.args(["test", "--release", "--package", "xswan-testkit", "--test", "fuzz_replay"]);
    command.args(["--", "--exact", target, "--nocapture"]).env("XSWAN_FUZZ_SECONDS", seconds);
    shell::run(&mut command)
}
