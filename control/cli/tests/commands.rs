//! The program against a daemon of one answer: what it asks, what it prints, how it ends.

#![expect(clippy::expect_used, reason = "the helpers of a test fail it")]

use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::{Command, Output};

struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("xswan-cli-{name}-{}", std::process::id()));
        std::fs::create_dir_all(path.join("xswan")).expect("made");
        Self(path)
    }

    fn xswan(&self, line: &str) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xswan"));
        command.arg("--run-dir").arg(&self.0).args(line.split_whitespace());
        command.output().expect("runs")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _gone = std::fs::remove_dir_all(&self.0);
    }
}

/// Runs a command line against answers, a line each; what was asked and what came of it.
fn asked(name: &str, line: &str, answers: &str) -> (Value, String, String, Option<i32>) {
    let scratch = Scratch::new(name);
    let listener = UnixListener::bind(scratch.0.join("xswan/control.sock")).expect("bound");
    let answers = answers.to_owned();
    let daemon = std::thread::spawn(move || {
        let (stream, _) = listener.accept().expect("asked");
        let mut request = String::new();
        BufReader::new(&stream).read_line(&mut request).expect("a line");
        (&stream).write_all(answers.as_bytes()).expect("taken");
        serde_json::from_str(&request).expect("JSON")
    });
    let output = scratch.xswan(line);
    let text = |octets| String::from_utf8(octets).expect("text");
    let request = daemon.join().expect("done");
    (request, text(output.stdout), text(output.stderr), output.status.code())
}

#[test]
fn initiate_in_either_spelling() {
    let answer = "{\"ok\":true,\"result\":{\"log\":[\"established\"]}}\n";
    let lines = ["initiate --child net --timeout 15", "--initiate --child net --timeout 15"];
    for (index, line) in lines.into_iter().enumerate() {
        let (request, out, _, code) = asked(&format!("initiate{index}"), line, answer);
        let arguments = json!({"child": "net", "timeout_ms": 15_000});
        assert_eq!(request, json!({"command": "initiate", "arguments": arguments}));
        assert_eq!(out, "established\ninitiate completed successfully\n");
        assert_eq!(code, Some(0));
    }
}

#[test]
fn a_refusal_is_said_as_swanctl_says_it() {
    let answer = "{\"ok\":false,\"error\":\"establishing CHILD_SA 'net' failed\"}\n";
    let (_, out, error, code) = asked("refusal", "--initiate --child net", answer);
    assert_eq!((out.as_str(), code), ("", Some(1)));
    assert!(error.contains("initiate failed: establishing CHILD_SA 'net' failed"), "{error}");
}

#[test]
fn rekey_says_how_many() {
    let answer = "{\"ok\":true,\"result\":{\"matches\":1}}\n";
    let (request, out, _, _) = asked("rekey", "--rekey --ike lab --reauth", answer);
    assert_eq!(request["arguments"], json!({"ike": "lab", "reauth": true}));
    assert_eq!(out, "rekey completed successfully, 1 SA(s) rekeyed\n");
}

#[test]
fn no_sas_are_no_lines() {
    let answer = "{\"ok\":true,\"result\":{\"ike_sas\":[],\"static\":[]}}\n";
    let (_, out, _, code) = asked("empty", "--list-sas", answer);
    assert_eq!((out.as_str(), code), ("", Some(0)));
}

#[test]
fn events_are_lines_of_json_until_the_daemon_ends() {
    let answers = "{\"ok\":true,\"result\":null}\n{\"event\":\"up\"}\n{\"event\":\"down\"}\n";
    let (request, out, _, code) = asked("monitor", "monitor", answers);
    assert_eq!(request["command"], "monitor");
    assert_eq!((out.as_str(), code), ("{\"event\":\"up\"}\n{\"event\":\"down\"}\n", Some(0)));
}

#[test]
fn nobody_there_and_wrong_usage_are_2() {
    let scratch = Scratch::new("nobody");
    assert_eq!(scratch.xswan("initiate --child net").status.code(), Some(2));
    assert_eq!(scratch.xswan("--initiate").status.code(), Some(2));
}

#[test]
fn an_imported_directory_is_its_owners_alone_and_checks() {
    use std::os::unix::fs::PermissionsExt;
    let scratch = Scratch::new("import");
    let text = "connections { lab { version = 0\n local { auth = psk } children { net { } } } }\n\
                secrets { ike { secret = hunter2 } }\n";
    std::fs::write(scratch.0.join("swanctl.conf"), text).expect("written");
    std::fs::write(scratch.0.join("base.toml"), "[cores]\nworkers = 1\n").expect("written");
    let at = |name: &str| scratch.0.join(name).display().to_string();
    std::fs::write(at("out.toml"), "old").expect("written");
    std::fs::set_permissions(at("out.toml"), PermissionsExt::from_mode(0o644)).expect("mode");
    let (base, out) = (at("base.toml"), at("out.toml"));
    let line = format!("import-swanctl {} --base {base} -o {out}", scratch.0.display());
    let output = scratch.xswan(&line);
    let notes = String::from_utf8(output.stderr).expect("text");
    assert_eq!(output.status.code(), Some(0), "{notes}");
    assert!(notes.contains("swanctl.conf:1: version = 0 is read as 2"), "{notes}");
    assert!(!notes.contains("hunter2"));
    let mode = std::fs::metadata(&out).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(scratch.xswan(&format!("check-config {out}")).status.code(), Some(0));
    let direct = format!("check-config {base} --swanctl {}", scratch.0.display());
    assert_eq!(scratch.xswan(&direct).status.code(), Some(0));
}
