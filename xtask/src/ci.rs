//! `cargo xtask ci`: what continuous integration runs, in order of price.

use crate::{deny, ebpf, setup, shell, test};

/// Runs every check, cheapest first; stops at the first that fails.
///
/// # Errors
/// The check that failed.
pub fn run() -> Result<(), String> {
    setup::run()?;
    shell::step("the lockfile is complete");
    shell::read(shell::cargo().args(["metadata", "--locked", "--format-version", "1"]))
        .map_err(|error| format!("{error}: commit Cargo.lock"))?;
    shell::step("cargo fmt --check");
    shell::run(shell::cargo().args(["fmt", "--all", "--check"]))?;
    deny::run()?;
    shell::step("cargo clippy");
    shell::run(shell::cargo().args([
        "clippy",
        "--quiet",
        "--workspace",
        "--all-targets",
        "--",
        "--deny",
        "warnings",
    ]))?;
    shell::step("cargo doc");
    let mut doc = shell::cargo();
    doc.args(["doc", "--quiet", "--workspace", "--no-deps", "--document-private-items"]);
    shell::run(doc.env("RUSTDOCFLAGS", "--deny warnings"))?;
    steering_object()?;
    test::everything(None)
}

/// The object in the tree must be what its sources give; under another compiler than the
/// recorded one it must at least behave the same.
fn steering_object() -> Result<(), String> {
    shell::step("rebuilding the steering object");
    match ebpf::verify()? {
        ebpf::Outcome::Same => Ok(()),
        ebpf::Outcome::Unavailable(why) => {
            shell::say(&format!("notice: the steering object was not rebuilt: {why}"));
            Ok(())
        }
        ebpf::Outcome::OtherCompiler { object, compiler } => {
            shell::say(&format!("notice: built with {compiler}, so bytes are not compared"));
            let mut command = shell::cargo();
            command.args(["test", "--package", "xswan-dataplane", "--test", "steer_program"]);
            shell::run(command.env("XSWAN_STEER_OBJECT", object))
        }
    }
}
