//! `xswan-control --config FILE [--swanctl DIR]`.
#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::ExitCode;
use xswan_control::daemon::{Source, run};

const USAGE: &str = "usage: xswan-control --config FILE [--swanctl DIRECTORY]";

/// Each option once, its value behind it or behind an equals sign.
fn arguments() -> Option<Source> {
    let (mut file, mut swanctl) = (None, None);
    let mut arguments = std::env::args_os().skip(1);
    while let Some(argument) = arguments.next() {
        let text = argument.to_str()?;
        let (option, value) = match text.split_once('=') {
            Some((option, value)) => (option, PathBuf::from(value)),
            None => (text, PathBuf::from(arguments.next()?)),
        };
        let place = match option {
            "--config" => &mut file,
            "--swanctl" => &mut swanctl,
            _ => return None,
        };
        if place.replace(value).is_some() {
            return None;
        }
    }
    Some(Source { file: file?, swanctl })
}

#[expect(clippy::print_stderr, reason = "the one line that says why the start is refused")]
fn main() -> ExitCode {
    let Some(source) = arguments() else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    match run(source) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("xswan-control: {why}");
            ExitCode::FAILURE
        }
    }
}
