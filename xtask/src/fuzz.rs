//! `cargo xtask fuzz`: libFuzzer, guided by coverage, on the stable compiler.
//!
//! The instrumentation is LLVM's own and needs no nightly: the pass is asked for by stable
//! flags, and `libfuzzer-sys` brings the engine. Where that cannot be built, the same bodies
//! are run over blind mutations of the corpus. What is found is kept in `fuzz/artifacts`.

use crate::shell;

/// Targets, each a function of `fuzz/bodies` and a folder of `fuzz/corpus`.
const TARGETS: &[&str] = &[
    "certificate",
    "classify",
    "wire_layers",
    "decap",
    "eap",
    "ike_fragments",
    "ike_machine",
    "ike_message",
    "config",
    "sa_api",
];
/// The machine that the instrumented code is for; named, so that build scripts are left alone.
const PLATFORM: &str = "x86_64-unknown-linux-gnu";
/// Edge counters and compared values for the engine; our own checks on.
const INSTRUMENTATION: &str = "--cfg fuzzing -Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares \
    -Cdebug-assertions -Ccodegen-units=1";
/// Seconds without `--seconds`.
const DEFAULT_SECONDS: &str = "60";
/// Longest input tried, in bytes.
const LENGTH_LIMIT: u32 = 4096;

/// Fuzzes one target for a while.
///
/// # Errors
/// No such target, or it found something.
pub fn run(arguments: &[String]) -> Result<(), String> {
    let usage =
        || format!("usage: cargo xtask fuzz TARGET [--seconds N]; targets: {}", TARGETS.join(" "));
    let (target, seconds) = match arguments {
        [target] => (target.as_str(), DEFAULT_SECONDS),
        [target, flag, seconds] if flag == "--seconds" => (target.as_str(), seconds.as_str()),
        _ => return Err(usage()),
    };
    if !TARGETS.contains(&target) || seconds.parse::<u64>().is_err() {
        return Err(usage());
    }
    shell::step(&format!("building {target} with coverage for libFuzzer"));
    match build(target) {
        Ok(()) => libfuzzer(target, seconds),
        Err(why) => {
            shell::say(&format!("notice: {why}: mutating the corpus without coverage instead"));
            blind(target, seconds)
        }
    }
}

fn build(target: &str) -> Result<(), String> {
    let mut command = shell::cargo();
    command.args(["build", "--release", "--manifest-path", "fuzz/Cargo.toml"]);
    command.args(["--target", PLATFORM, "--bin", target]).env("RUSTFLAGS", INSTRUMENTATION);
    shell::run(command.env("CARGO_TARGET_DIR", shell::root().join("fuzz/target")))
}

fn libfuzzer(target: &str, seconds: &str) -> Result<(), String> {
    shell::step(&format!("{target}: libFuzzer for {seconds} s"));
    let fuzz = shell::root().join("fuzz");
    let grown = fuzz.join("target/corpus").join(target);
    for folder in [&grown, &fuzz.join("artifacts")] {
        std::fs::create_dir_all(folder)
            .map_err(|error| format!("{}: {error}", folder.display()))?;
    }
    let program = fuzz.join("target").join(PLATFORM).join("release").join(target);
    let mut command = std::process::Command::new(program);
    command.current_dir(&fuzz);
    command.arg(format!("-max_total_time={seconds}")).arg(format!("-max_len={LENGTH_LIMIT}"));
    command.arg(format!("-artifact_prefix=artifacts/{target}-")).arg("-print_final_stats=1");
    // New inputs go to the first folder; the committed corpus is only read.
    shell::run(command.arg(grown).arg(fuzz.join("corpus").join(target)))
}

fn blind(target: &str, seconds: &str) -> Result<(), String> {
    let mut command = shell::cargo();
    command.args(["test", "--release", "--package", "xswan-testkit", "--test", "fuzz_replay"]);
    command.args(["--", "--exact", target, "--nocapture"]).env("XSWAN_FUZZ_SECONDS", seconds);
    shell::run(&mut command)
}
