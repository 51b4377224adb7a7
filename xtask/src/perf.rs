//! `cargo xtask perf`: prepare, build in release mode, measure, write the report.

use crate::{demo, setup, shell};
use std::process::Command;

/// Prepares the machine and measures.
///
/// `tunnel` and `handshakes` as the first word run that measurement alone; anything else is
/// for the report.
///
/// # Errors
/// The machine is not ready, the build fails, or a measurement does.
pub fn run(arguments: &[String]) -> Result<(), String> {
    setup::run()?;
    demo::build_daemons(&["--package", "xswan-perf", "--bin", "xswan-perf"])?;
    let folder = shell::release_dir()?;
    let mut command = Command::new(folder.join("xswan-perf"));
    command.env("XSWAN_BIN_DIR", &folder).args(words(arguments));
    shell::run(&mut command)
}

/// The program's own command line.
fn words(arguments: &[String]) -> Vec<&str> {
    let all = || arguments.iter().map(String::as_str);
    match arguments.first().map(String::as_str) {
        // The measurement through a tunnel is what the program does without a command.
        Some("tunnel") => all().skip(1).collect(),
        Some("handshakes") => all().collect(),
        _ => std::iter::once("report").chain(all()).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::words;

    #[test]
    fn without_a_measurement_named_it_is_the_report() {
        let of = |line: &[&str]| {
            let line: Vec<String> = line.iter().map(|word| (*word).to_owned()).collect();
            words(&line).join(" ")
        };
        assert_eq!(of(&[]), "report");
        assert_eq!(of(&["--json", "x.json"]), "report --json x.json");
        assert_eq!(of(&["tunnel", "--sizes", "64"]), "--sizes 64");
        assert_eq!(of(&["handshakes", "--rounds", "3"]), "handshakes --rounds 3");
    }
}
