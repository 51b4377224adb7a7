//! One door for developers and operators: `cargo xtask <command>`.
//!
//! Continuous integration calls the same commands. Almost no dependencies, because this is
//! built before `setup` has installed a C compiler or anything else.

mod ci;
mod demo;
mod deny;
mod ebpf;
mod fuzz;
mod interop;
mod perf;
mod setup;
mod shell;
mod spdx;
mod test;

use std::process::ExitCode;

const USAGE: &str = "\
cargo xtask <command>

  setup                    install what is missing (root, Debian or Ubuntu) and mount bpffs
  demo                     two gateways in namespaces, traffic through the tunnel, the proof
  test [--only AREA]       every test; AREA is unit, doc, esp, jumbo, steer, restart,
                           interop or fuzz
  ci                       fmt, clippy, doc, deny, then every test
  deny                     licences, banned crates, who may import whom
  ebpf [verify]            rebuild the steering object; verify compares with the one in the tree
  interop PEER [ARGUMENTS] the interop lab's scenarios against strongSwan and others
  fuzz TARGET [--seconds N]
  bench [ARGUMENTS]        criterion benches of every step
  perf [--full] [--json FILE] [--only PART]
                           the report: tables, figures, numbers into target/perf
  perf tunnel|handshakes [ARGUMENTS]
                           one measurement of whole gateways alone
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (command, rest) = match arguments.split_first() {
        Some((command, rest)) => (command.as_str(), rest),
        None => ("help", Default::default()),
    };
    let outcome = match command {
        "setup" => setup::run(),
        "demo" => demo::run(rest),
        "test" => test::run(rest),
        "ci" => ci::run(),
        "deny" => deny::run(),
        "ebpf" => ebpf::run(rest),
        "fuzz" => fuzz::run(rest),
        "interop" => interop::run(rest),
        "bench" => bench(rest),
        "perf" => perf::run(rest),
        "help" | "-h" | "--help" => {
            shell::say(USAGE.trim_end());
            Ok(())
        }
        other => Err(format!("no command `{other}`\n\n{USAGE}")),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(what) => {
            shell::complain(&format!("error: {what}"));
            ExitCode::FAILURE
        }
    }
}

fn bench(arguments: &[String]) -> Result<(), String> {
    setup::run()?;
    shell::run(shell::cargo().args(["bench", "--package", "xswan-benches"]).args(arguments))
}
