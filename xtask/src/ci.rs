//! `cargo xtask ci`: what continuous integration runs, in order of price.

use crate::{deny, setup, shell, test};

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
    test::everything(None)
}
