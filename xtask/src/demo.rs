//! `cargo xtask demo`: prepare, build in release mode, run the demonstration.

use crate::{setup, shell};
use std::process::Command;

/// Prepares the machine and runs the demonstration.
///
/// # Errors
/// The machine is not ready, the build fails, or the demonstration shows something wrong.
pub fn run(arguments: &[String]) -> Result<(), String> {
    setup::run()?;
    if !shell::is_root() {
        return Err("the demonstration makes network namespaces: run it as root".to_owned());
    }
    build_daemons(&["--package", "xswan-testkit", "--bin", "xswan-demo"])?;
    let folder = shell::release_dir()?;
    let mut command = Command::new(folder.join("xswan-demo"));
    shell::run(command.env("XSWAN_BIN_DIR", &folder).args(arguments))
}

/// Builds the daemons and the operator's command in release mode, and `more` with them.
///
/// # Errors
/// The build fails.
pub fn build_daemons(more: &[&str]) -> Result<(), String> {
    shell::step("building the daemons in release mode (a few minutes the first time)");
    let mut command = shell::cargo();
    command.args(["build", "--release", "--bin", "xswan-dataplane", "--bin", "xswan-control"]);
    command.args(["--bin", "xswan", "--package", "xswan-dataplane", "--package", "xswan-control"]);
    shell::run(command.args(["--package", "xswan"]).args(more))
}
