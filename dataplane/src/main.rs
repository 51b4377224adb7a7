//! `xswan-dataplane --config FILE`.
#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::ExitCode;

const USAGE: &str = "usage: xswan-dataplane --config FILE [--detach]";

fn arguments() -> Option<(PathBuf, bool)> {
    let (mut file, mut detach) = (None, false);
    let mut arguments = std::env::args_os().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.to_str()? {
            "--config" => file = Some(arguments.next()?.into()),
            "--detach" => detach = true,
            option => file = Some(PathBuf::from(option.strip_prefix("--config=")?)),
        }
    }
    Some((file?, detach))
}

#[expect(clippy::print_stderr, reason = "the one line that says why the start is refused")]
fn main() -> ExitCode {
    let Some((file, detach)) = arguments() else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    // A worker that has failed must not be unwound past others' SAs: the process ends, the
    // program stays attached and closed, and whoever supervises starts the next one.
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        std::process::abort();
    }));
    let run = if detach { xswan_dataplane::daemon::detach } else { xswan_dataplane::daemon::run };
    match run(&file) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("xswan-dataplane: {why}");
            ExitCode::FAILURE
        }
    }
}
