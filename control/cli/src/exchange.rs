//! Commands that make the key exchange daemon do something, in swanctl's words.
//!
//! The request's arguments are what was given on the command line, under the same names with
//! `_` for `-`; what was not given is left out. The answer may hold `log`, lines that are
//! shown, and `matches`, how many SAs were concerned.

use clap::{ArgGroup, Args};
use serde_json::{Map, Value, json};
use std::time::Duration;

/// Which SAs are meant.
#[derive(Debug, Args)]
pub(crate) struct Selection {
    /// Name of the child.
    #[arg(long, value_name = "NAME")]
    child: Option<String>,
    /// Name of the connection.
    #[arg(long, value_name = "NAME")]
    ike: Option<String>,
    /// Number of the child SA.
    #[arg(long, value_name = "NUMBER")]
    child_id: Option<u32>,
    /// Number of the IKE SA.
    #[arg(long, value_name = "NUMBER")]
    ike_id: Option<u32>,
}

#[derive(Debug, Args)]
#[group(skip)]
#[command(group = ArgGroup::new("initiated")
    .required(true)
    .multiple(true)
    .args(["child", "ike"]))]
pub(crate) struct Initiate {
    /// Name of the child; without it the IKE SA alone is set up.
    #[arg(long, value_name = "NAME")]
    child: Option<String>,
    /// Name of the connection; needed where several have such a child.
    #[arg(long, value_name = "NAME")]
    ike: Option<String>,
    /// Wait no longer than so many seconds.
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u32>,
}

#[derive(Debug, Args)]
#[group(skip)]
#[command(group = ArgGroup::new("selected")
    .required(true)
    .multiple(true)
    .args(["child", "ike", "child_id", "ike_id"]))]
pub(crate) struct Terminate {
    #[command(flatten)]
    selection: Selection,
    /// Do not wait for the peer's consent.
    #[arg(long)]
    force: bool,
    /// Wait no longer than so many seconds.
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u32>,
}

#[derive(Debug, Args)]
#[group(skip)]
#[command(group = ArgGroup::new("rekeyed")
    .required(true)
    .multiple(true)
    .args(["child", "ike", "child_id", "ike_id"]))]
pub(crate) struct Rekey {
    #[command(flatten)]
    selection: Selection,
    /// Authenticate again instead of rekeying the IKE SA.
    #[arg(long)]
    reauth: bool,
}

#[derive(Debug, Args)]
#[group(skip)]
#[command(group = ArgGroup::new("redirected")
    .required(true)
    .multiple(true)
    .args(["ike", "ike_id", "peer_ip", "peer_id"]))]
pub(crate) struct Redirect {
    /// Name of the connection.
    #[arg(long, value_name = "NAME")]
    ike: Option<String>,
    /// Number of the IKE SA.
    #[arg(long, value_name = "NUMBER")]
    ike_id: Option<u32>,
    /// Address of the peer.
    #[arg(long, value_name = "ADDRESS")]
    peer_ip: Option<String>,
    /// Identity of the peer.
    #[arg(long, value_name = "IDENTITY")]
    peer_id: Option<String>,
    /// The gateway to go to: an address or a name.
    #[arg(long, value_name = "GATEWAY")]
    gateway: String,
}

/// A command on its way to the daemon.
pub(crate) struct Exchange {
    pub(crate) command: &'static str,
    pub(crate) arguments: Value,
    /// How long the answer may take.
    pub(crate) wait: Duration,
}

/// The daemon's own end of waiting is to come first.
const MARGIN: Duration = Duration::from_secs(5);
/// Longer than all retransmissions of any sensible configuration.
const PATIENCE: Duration = Duration::from_secs(600);

fn given(pairs: Vec<(&str, Value)>) -> Value {
    let told = |value: &Value| !value.is_null() && *value != false;
    let pairs = pairs.into_iter().filter(|(_, value)| told(value));
    Value::Object(pairs.map(|(key, value)| (key.to_owned(), value)).collect::<Map<_, _>>())
}

impl Selection {
    pub(crate) fn arguments(&self) -> Value {
        given(self.pairs())
    }

    fn pairs(&self) -> Vec<(&'static str, Value)> {
        vec![
            ("child", json!(self.child)),
            ("ike", json!(self.ike)),
            ("child_id", json!(self.child_id)),
            ("ike_id", json!(self.ike_id)),
        ]
    }
}

fn timed(command: &'static str, mut pairs: Vec<(&str, Value)>, timeout_s: Option<u32>) -> Exchange {
    // As in swanctl, 0 waits for as long as it takes.
    let timeout_s = timeout_s.filter(|seconds| *seconds > 0);
    pairs.push(("timeout_ms", json!(timeout_s.map(|seconds| u64::from(seconds) * 1000))));
    let wait = timeout_s.map_or(PATIENCE, |seconds| Duration::from_secs(seconds.into()) + MARGIN);
    Exchange { command, arguments: given(pairs), wait }
}

impl Initiate {
    pub(crate) fn exchange(&self) -> Exchange {
        let pairs = vec![("child", json!(self.child)), ("ike", json!(self.ike))];
        timed("initiate", pairs, self.timeout)
    }
}

impl Terminate {
    pub(crate) fn exchange(&self) -> Exchange {
        let mut pairs = self.selection.pairs();
        pairs.push(("force", json!(self.force)));
        timed("terminate", pairs, self.timeout)
    }
}

impl Rekey {
    pub(crate) fn exchange(&self) -> Exchange {
        let mut pairs = self.selection.pairs();
        pairs.push(("reauth", json!(self.reauth)));
        timed("rekey", pairs, None)
    }
}

impl Redirect {
    pub(crate) fn exchange(&self) -> Exchange {
        let pairs = vec![
            ("ike", json!(self.ike)),
            ("ike_id", json!(self.ike_id)),
            ("peer_ip", json!(self.peer_ip)),
            ("peer_id", json!(self.peer_id)),
            ("gateway", json!(self.gateway)),
        ];
        timed("redirect", pairs, None)
    }
}

/// The lines that swanctl would print.
pub(crate) fn done(command: &str, answer: &Value) -> String {
    let lines = answer["log"].as_array().map(Vec::as_slice).unwrap_or_default();
    let lines = lines.iter().filter_map(Value::as_str);
    let mut out: String = lines.map(|line| line.replace(char::is_control, "?") + "\n").collect();
    let count = answer["matches"].as_u64();
    let what = match (command, count) {
        ("rekey", Some(count)) => format!(", {count} SA(s) rekeyed"),
        ("redirect", Some(count)) => format!(", {count} SA(s) redirected"),
        _ => String::new(),
    };
    out.push_str(&format!("{command} completed successfully{what}\n"));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_given_is_left_out() {
        let selection = || Selection {
            child: Some("net".to_owned()),
            ike: None,
            child_id: None,
            ike_id: Some(3),
        };
        let rekey = Rekey { selection: selection(), reauth: false }.exchange();
        assert_eq!(rekey.arguments, json!({"child": "net", "ike_id": 3}));
        let terminate = Terminate { selection: selection(), force: true, timeout: Some(0) };
        let terminate = terminate.exchange();
        assert_eq!(terminate.arguments, json!({"child": "net", "ike_id": 3, "force": true}));
        assert_eq!(terminate.wait, PATIENCE);
        let initiate = Initiate { child: None, ike: Some("lab".into()), timeout: Some(15) };
        let initiate = initiate.exchange();
        assert_eq!(initiate.arguments, json!({"ike": "lab", "timeout_ms": 15_000}));
        assert_eq!(initiate.wait, Duration::from_secs(20));
    }

    #[test]
    fn success_is_said_as_swanctl_says_it() {
        assert_eq!(done("initiate", &Value::Null), "initiate completed successfully\n");
        let answer = json!({"matches": 2, "log": ["one", "t\u{1b}wo"]});
        assert_eq!(
            done("rekey", &answer),
            "one\nt?wo\nrekey completed successfully, 2 SA(s) rekeyed\n"
        );
    }
}
