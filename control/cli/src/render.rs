//! Answers as text for people: strongSwan's shape for SAs, VPP's for workers and drops.
//!
//! Fields that are not there are left out and fields that are not known are ignored: the
//! daemon may be newer or older than this command.

use comfy_table::{CellAlignment, Table, presets};
use serde_json::Value;

pub(crate) fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map(Vec::as_slice).unwrap_or_default()
}

/// A field as text; control characters of a name must not reach the terminal.
pub(crate) fn text(value: &Value) -> String {
    let text = match value.as_str() {
        Some(text) => text.to_owned(),
        None if value.is_null() => "-".to_owned(),
        None => value.to_string(),
    };
    text.replace(char::is_control, "?")
}

pub(crate) fn words(value: &Value, key: &str) -> String {
    list(value, key).iter().map(text).collect::<Vec<_>>().join(" ")
}

/// Milliseconds as `12s`; `never` for null.
fn ago(value: &Value) -> String {
    value.as_u64().map_or_else(|| "never".to_owned(), |ms| format!("{}s ago", ms / 1000))
}

/// Writing to a string does not fail.
macro_rules! line {
    ($out:expr, $($argument:tt)*) => {{
        use std::fmt::Write as _;
        let _infallible = writeln!($out, $($argument)*);
    }};
}
pub(crate) use line;

pub(crate) fn status(value: &Value) -> String {
    let mut out = String::new();
    for component in list(value, "components") {
        let word = if component["ok"] == false { "FAIL" } else { "OK" };
        line!(
            out,
            "{word:<5} {:<10} {}",
            text(&component["component"]),
            text(&component["detail"])
        );
    }
    for warning in list(value, "warnings") {
        line!(out, "WARN  {}", text(warning));
    }
    out
}

pub(crate) fn sas(value: &Value) -> String {
    let mut out = String::new();
    // Static SAs, alone or beside negotiated ones.
    let key = if value["static"].is_array() { "static" } else { "sas" };
    for sa in list(value, key) {
        let port = |key: &str| {
            if sa[key].is_null() { String::new() } else { format!("[{}]", text(&sa[key])) }
        };
        let esn = if sa["esn"] == true { "/ESN" } else { "" };
        let encap = if sa["encap"] == true { "-in-UDP" } else { "" };
        line!(
            out,
            "{}: {}, {}{encap}, ESP:{}{esn}, worker {}",
            text(&sa["connection"]),
            text(&sa["state"]),
            text(&sa["mode"]),
            text(&sa["algorithm"]),
            text(&sa["worker"])
        );
        line!(
            out,
            "  local  {}{}\n  remote {}{}",
            text(&sa["local"]),
            port("local_port"),
            text(&sa["remote"]),
            port("remote_port")
        );
        let installed = ago(&sa["in"]["installed_ms"]);
        line!(
            out,
            "  {}: #{}, {}, installed {installed}",
            text(&sa["child"]),
            text(&sa["id"]),
            text(&sa["state"])
        );
        let (inbound, outbound) = (&sa["in"], &sa["out"]);
        for (name, direction) in [("in ", inbound), ("out", outbound)] {
            line!(
                out,
                "    {name} {}, {:>12} bytes, {:>9} packets, {}",
                text(&direction["spi"]).trim_start_matches("0x"),
                text(&direction["bytes"]),
                text(&direction["packets"]),
                ago(&direction["last_used_ms"])
            );
        }
        line!(
            out,
            "    replay window {}, lost {}, replayed {}, auth failed {}; lease {}, path MTU {}",
            text(&inbound["replay_window"]),
            text(&inbound["lost"]),
            text(&inbound["replay"]),
            text(&inbound["auth_fail"]),
            text(&outbound["lease"]),
            text(&outbound["path_mtu"])
        );
        line!(out, "    local  {}\n    remote {}", words(sa, "local_ts"), words(sa, "remote_ts"));
    }
    out
}

pub(crate) fn policies(value: &Value) -> String {
    let mut out = String::new();
    for policy in list(value, "policies") {
        line!(
            out,
            "{}.{}, {}",
            text(&policy["connection"]),
            text(&policy["child"]),
            text(&policy["mode"])
        );
        line!(
            out,
            "  local:  {}\n  remote: {}",
            words(policy, "local_ts"),
            words(policy, "remote_ts")
        );
        if policy["action"] == "protect" && policy["outbound_slot"].is_null() {
            line!(out, "  no SA: traffic is dropped");
        }
    }
    out
}

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header.iter().copied());
    table
}

fn aligned(mut table: Table, right: &[usize]) -> String {
    for index in right {
        if let Some(column) = table.column_mut(*index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    format!("{}\n", table.trim_fmt())
}

/// A number with at most two decimals.
fn number(value: &Value) -> String {
    match value.as_f64() {
        Some(number) if value.is_f64() => format!("{number:.2}"),
        _ => text(value),
    }
}

pub(crate) fn runtime(value: &Value) -> String {
    const COLUMNS: [(&str, &str); 9] = [
        ("worker", "Worker"),
        ("core", "Core"),
        ("rx", "Rx"),
        ("tx", "Tx"),
        ("bursts", "Bursts"),
        ("burst_fill", "Packets/Burst"),
        ("cycles_per_packet", "Cycles/Packet"),
        ("handoffs", "Hand-offs"),
        ("drops", "Drops"),
    ];
    let mut table = table(&COLUMNS.map(|(_, title)| title));
    for worker in list(value, "workers") {
        table.add_row(COLUMNS.map(|(key, _)| number(&worker[key])));
    }
    let mut out = aligned(table, &[0, 1, 2, 3, 4, 5, 6, 7, 8]);
    out.push_str(&stages(value));
    out
}

/// Cycles of each pass over a burst, for the packets that went through it.
fn stages(value: &Value) -> String {
    let mut shown = table(&["Worker", "Stage", "Packets", "Cycles/Packet"]);
    for worker in list(value, "workers") {
        for stage in list(worker, "stages").iter().filter(|stage| stage["packets"] != 0) {
            let [name, packets] = ["stage", "packets"].map(|key| text(&stage[key]));
            shown.add_row([
                text(&worker["worker"]),
                name,
                packets,
                number(&stage["cycles_per_packet"]),
            ]);
        }
    }
    aligned(shown, &[0, 2, 3])
}

pub(crate) fn drops(value: &Value, all: bool) -> String {
    let happened = |entry: &&Value| all || entry["count"].as_u64() != Some(0);
    let mut reasons = table(&["Count", "Reason", "xfrm_stat", "Summary"]);
    for reason in list(value, "reasons").iter().filter(happened) {
        let row = ["count", "name", "xfrm", "summary"].map(|key| text(&reason[key]));
        reasons.add_row(row);
    }
    let mut out = aligned(reasons, &[0]);
    let mut steer = table(&["Count", "Steering verdict"]);
    for verdict in list(value, "steer").iter().filter(happened) {
        steer.add_row(["count", "name"].map(|key| text(&verdict[key])));
    }
    out.push_str(&aligned(steer, &[0]));
    out
}

pub(crate) fn reloaded(value: &Value) -> String {
    let mut out = String::new();
    for (sign, key) in [("+", "added"), ("-", "removed")] {
        for name in list(value, key) {
            line!(out, "{sign} {}", text(name));
        }
    }
    let counts = ["untouched", "updated", "installed", "retired", "waiting"];
    let shown: Vec<_> = counts.iter().map(|key| format!("{} {key}", text(&value[*key]))).collect();
    line!(out, "SAs: {}", shown.join(", "));
    for warning in list(value, "warnings") {
        line!(out, "WARN {}", text(warning));
    }
    out
}

pub(crate) fn checked(value: &Value) -> String {
    let mut out = String::new();
    line!(
        out,
        "instance {}: {} devices, {} workers, {} connections, {} children, {} static SA pairs",
        text(&value["instance"]),
        text(&value["devices"]),
        text(&value["workers"]),
        text(&value["connections"]),
        text(&value["children"]),
        text(&value["static_sas"])
    );
    for warning in list(value, "warnings") {
        line!(out, "WARN {}", text(warning));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_sa_is_shown_in_strongswans_shape() {
        let value = json!({"sas": [{
            "connection": "net", "child": "lan", "id": 7, "state": "INSTALLED", "mode": "TUNNEL",
            "algorithm": "AES_GCM_16-256", "esn": true, "worker": 1, "local": "192.0.2.1",
            "remote": "192.0.2.2", "encap": true, "local_port": 4500, "remote_port": 4500,
            "local_ts": ["10.1.0.0/16"], "remote_ts": ["10.2.0.0/16"],
            "in": {"spi": "0x00001001", "bytes": 84, "packets": 1, "last_used_ms": 2500,
                   "installed_ms": 143_000, "replay_window": 1024, "lost": 0, "replay": 0, "auth_fail": 0},
            "out": {"spi": "0x00002001", "bytes": 0, "packets": 0, "last_used_ms": null,
                    "lease": 1024, "path_mtu": 1500},
            "a_field_of_tomorrow": [1, 2, 3],
        }]});
        assert_eq!(
            sas(&value),
            "net: INSTALLED, TUNNEL-in-UDP, ESP:AES_GCM_16-256/ESN, worker 1\n  \
             local  192.0.2.1[4500]\n  remote 192.0.2.2[4500]\n  \
             lan: #7, INSTALLED, installed 143s ago\n    \
             in  00001001,           84 bytes,         1 packets, 2s ago\n    \
             out 00002001,            0 bytes,         0 packets, never\n    \
             replay window 1024, lost 0, replayed 0, auth failed 0; lease 1024, path MTU 1500\n    \
             local  10.1.0.0/16\n    remote 10.2.0.0/16\n"
        );
    }

    #[test]
    fn tables() {
        let stages = json!([
            {"stage": "sort", "packets": 12, "cycles_per_packet": 51.239},
            {"stage": "open", "packets": 0, "cycles_per_packet": 0.0},
        ]);
        let value = json!({"workers": [
            {"worker": 0, "core": 1, "rx": 12, "cycles_per_packet": 812.456, "stages": stages},
        ]});
        let shown = runtime(&value);
        assert!(shown.contains("Cycles/Packet") && shown.contains("812.46"), "{shown}");
        assert!(shown.contains("51.24") && !shown.contains("open"), "{shown}");
        let value = json!({
            "reasons": [
                {"name": "auth_fail", "xfrm": "XfrmInStateProtoError", "count": 12, "summary": "s"},
                {"name": "runt", "xfrm": null, "count": 0, "summary": "s"},
            ],
            "steer": [{"name": "steer_esp", "count": 9}],
        });
        let shown = drops(&value, false);
        assert!(shown.contains("XfrmInStateProtoError") && !shown.contains("runt"), "{shown}");
        assert!(shown.contains("steer_esp"), "{shown}");
        assert!(drops(&value, true).contains("runt"));
    }

    #[test]
    fn answers_of_any_shape_are_shown_without_harm() {
        for value in [json!(null), json!([]), json!({"sas": 7}), json!({"sas": [null, {"in": []}]})]
        {
            for show in [status, sas, policies, runtime, reloaded, checked] {
                let _text = show(&value);
            }
        }
        let shown = status(&json!({"components": [{"component": "a\u{1b}[2Jb", "ok": true}]}));
        assert!(!shown.contains('\u{1b}'));
    }
}
