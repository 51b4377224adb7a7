//! swanctl's spelling of commands: `xswan --initiate --child net` is `xswan initiate --child net`.
//!
//! Only the command's own option is looked at, which comes first, behind options that say
//! where the daemons are.

/// swanctl's options for commands, and our words.
const COMMANDS: [(&str, &str, &str); 18] = [
    ("--initiate", "-i", "initiate"),
    ("--terminate", "-t", "terminate"),
    ("--rekey", "-R", "rekey"),
    ("--redirect", "-d", "redirect"),
    ("--list-sas", "-l", "list-sas"),
    ("--list-pols", "-P", "list-policies"),
    ("--list-conns", "-L", "list-conns"),
    ("--list-certs", "-x", "list-certs"),
    ("--list-pools", "-A", "list-pools"),
    ("--list-policies", "", "list-policies"),
    ("--load-all", "-q", "reload"),
    ("--load-conns", "-c", "reload"),
    ("--load-creds", "-s", "reload"),
    ("--load-pools", "-a", "reload"),
    ("--load-authorities", "-b", "reload"),
    ("--stats", "-S", "status"),
    ("--monitor-sa", "-m", "monitor"),
    ("--log", "-T", "monitor"),
];

/// Options of ours that take a value and may come before the command.
const WITH_VALUE: [&str; 3] = ["--config", "--instance", "--run-dir"];

/// The arguments with swanctl's words replaced by ours.
pub(crate) fn translated(arguments: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut arguments = arguments.into_iter();
    let mut out: Vec<String> = arguments.next().into_iter().collect();
    while let Some(argument) = arguments.next() {
        let command =
            COMMANDS.iter().find(|(long, short, _)| argument == *long || argument == *short);
        if let Some((_, _, ours)) = command {
            out.push((*ours).to_owned());
            rest(arguments, &mut out);
            return out;
        }
        let takes_value = WITH_VALUE.contains(&argument.as_str());
        let option = argument.starts_with("--") || argument == "-h" || argument == "-V";
        out.push(argument);
        if takes_value {
            out.extend(arguments.next());
        } else if !option {
            // Our own word: everything after it is as it should be.
            out.extend(arguments);
            return out;
        }
    }
    out
}

/// What follows a command of swanctl's: short options of the ones with a selection, and
/// options about how swanctl talks to its daemon.
fn rest(mut arguments: impl Iterator<Item = String>, out: &mut Vec<String>) {
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--raw" | "--pretty" => out.push("--json".to_owned()),
            "--noblock" | "--noprompt" | "--clear" | "--quiet" => {}
            "--uri" | "--file" | "--debug" | "--loglevel" => drop(arguments.next()),
            "-c" => out.push("--child".to_owned()),
            "-i" => out.push("--ike".to_owned()),
            "-C" => out.push("--child-id".to_owned()),
            "-I" => out.push("--ike-id".to_owned()),
            "-t" => out.push("--timeout".to_owned()),
            "-f" => out.push("--force".to_owned()),
            "-a" => out.push("--reauth".to_owned()),
            _ => out.push(argument),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_of_swanctl_become_ours() {
        let shown = |line: &str| translated(line.split_whitespace().map(str::to_owned)).join(" ");
        for (theirs, ours) in [
            (
                "xswan --initiate --child net --timeout 15",
                "xswan initiate --child net --timeout 15",
            ),
            ("xswan --config x.toml -t --ike lab", "xswan --config x.toml terminate --ike lab"),
            ("xswan --list-sas --raw", "xswan list-sas --json"),
            ("xswan --load-all --clear", "xswan reload"),
            ("xswan -i -c net", "xswan initiate --child net"),
            ("xswan --rekey --ike lab --reauth", "xswan rekey --ike lab --reauth"),
            ("xswan --list-sas --uri unix:///x", "xswan list-sas"),
            ("xswan list-sas --ike --initiate", "xswan list-sas --ike --initiate"),
            ("xswan --json status", "xswan --json status"),
            ("xswan --config --initiate status", "xswan --config --initiate status"),
            ("xswan", "xswan"),
        ] {
            assert_eq!(shown(theirs), ours);
        }
        assert!(translated(Vec::new()).is_empty());
    }
}
