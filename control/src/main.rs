//! `xswan-control --config FILE`.
#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::ExitCode;

const USAGE: &str = "usage: xswan-control --config FILE";

fn arguments() -> Option<PathBuf> {
    let mut arguments = std::env::args_os().skip(1);
    let file = match arguments.next()?.to_str() {
        Some("--config") => arguments.next()?.into(),
        Some(option) => PathBuf::from(option.strip_prefix("--config=")?),
        None => return None,
    };
    arguments.next().is_none().then_some(file)
}

#[expect(clippy::print_stderr, reason = "the one line that says why the start is refused")]
fn main() -> ExitCode {
    let Some(file) = arguments() else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    match xswan_control::daemon::run(&file) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("xswan-control: {why}");
            ExitCode::FAILURE
        }
    }
}
