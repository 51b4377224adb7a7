//! Answers about IKE as text, in the shapes of swanctl.

use crate::render::{line, list, text, words};
use serde_json::Value;

fn seconds(value: &Value, before: &str, after: &str) -> String {
    value.as_u64().map_or_else(String::new, |seconds| format!("{before}{seconds}s{after}"))
}

fn side(sa: &Value, side: &str) -> String {
    let field = |key: &str| text(&sa[format!("{side}_{key}").as_str()]);
    let mut out = format!("'{}' @ {}[{}]", field("id"), field("host"), field("port"));
    let vips = words(sa, &format!("{side}_vips"));
    if !vips.is_empty() {
        out.push_str(&format!(" [{vips}]"));
    }
    match sa[format!("{side}_eap_id").as_str()].as_str() {
        Some(identity) => format!("{out} EAP: '{}'", identity.replace(char::is_control, "?")),
        None => out,
    }
}

fn child(out: &mut String, child: &Value) {
    let encap = if child["encap"] == true { "-in-UDP" } else { "" };
    let reqid = if child["reqid"].is_null() { &child["unique_id"] } else { &child["reqid"] };
    line!(
        out,
        "  {}: #{}, reqid {}, {}, {}{encap}, ESP:{}",
        text(&child["name"]),
        text(&child["unique_id"]),
        text(reqid),
        text(&child["state"]),
        text(&child["mode"]),
        text(&child["esp"])
    );
    line!(
        out,
        "    installed {}s ago{}{}",
        text(&child["installed_s"]),
        seconds(&child["rekey_in_s"], ", rekeying in ", ""),
        seconds(&child["expires_in_s"], ", expires in ", "")
    );
    for (name, direction) in [("in ", "in"), ("out", "out")] {
        let field = |key: &str| &child[format!("{key}_{direction}").as_str()];
        let last = &child[format!("last_{direction}_s").as_str()];
        let last = last.as_u64().map_or_else(String::new, |last| format!(", {last:>5}s ago"));
        line!(
            out,
            "    {name} {}, {:>6} bytes, {:>5} packets{last}",
            text(field("spi")).trim_start_matches("0x"),
            text(field("bytes")),
            text(field("packets"))
        );
    }
    line!(out, "    local  {}", words(child, "local_ts"));
    line!(out, "    remote {}", words(child, "remote_ts"));
}

/// `swanctl --list-sas`.
pub(crate) fn sas(value: &Value) -> String {
    let mut out = String::new();
    for sa in list(value, "ike_sas") {
        let (ours, theirs) = if sa["initiator"] == true { ("*", "") } else { ("", "*") };
        line!(
            out,
            "{}: #{}, {}, IKEv{}, {}_i{ours} {}_r{theirs}",
            text(&sa["name"]),
            text(&sa["unique_id"]),
            text(&sa["state"]),
            text(&sa["version"]),
            text(&sa["spi_i"]).trim_start_matches("0x"),
            text(&sa["spi_r"]).trim_start_matches("0x")
        );
        line!(out, "  local  {}\n  remote {}", side(sa, "local"), side(sa, "remote"));
        if let Some(suite) = sa["suite"].as_str().filter(|suite| !suite.is_empty()) {
            let named = suite.ends_with("/PPK");
            let ppk = if sa["ppk"] == true && !named { "/PPK" } else { "" };
            line!(out, "  {}{ppk}", suite.replace(char::is_control, "?"));
        }
        if !sa["established_s"].is_null() {
            line!(
                out,
                "  established {}s ago{}{}",
                text(&sa["established_s"]),
                seconds(&sa["rekey_in_s"], ", rekeying in ", ""),
                seconds(&sa["reauth_in_s"], ", reauth in ", "")
            );
        }
        for sa in list(sa, "children") {
            child(&mut out, sa);
        }
    }
    out
}

fn every(value: &Value, what: &str) -> String {
    match value.as_u64() {
        None | Some(0) => format!("no {what}"),
        Some(seconds) => format!("{what} every {seconds}s"),
    }
}

fn round(out: &mut String, side: &str, round: &Value) {
    let class = match round["auth"].as_str() {
        Some("psk") => "pre-shared key".to_owned(),
        Some("pubkey") | None => "public key".to_owned(),
        Some(other) => other.replace(char::is_control, "?"),
    };
    line!(out, "  {side} {class} authentication:");
    for (key, title) in [("id", "id"), ("eap_id", "eap_id")] {
        if let Some(identity) = round[key].as_str() {
            line!(out, "    {title}: {}", identity.replace(char::is_control, "?"));
        }
    }
    for (key, title) in [("certs", "certs"), ("cacerts", "cacerts")] {
        if !list(round, key).is_empty() {
            line!(out, "    {title}: {}", words(round, key));
        }
    }
}

fn addresses(value: &Value, key: &str) -> String {
    let words = words(value, key);
    if words.is_empty() { "%any".to_owned() } else { words }
}

/// `swanctl --list-conns`.
pub(crate) fn connections(value: &Value) -> String {
    let mut out = String::new();
    for connection in list(value, "connections") {
        let delay = connection["dpd_delay_s"].as_u64().filter(|seconds| *seconds > 0);
        let delay = delay.map_or_else(String::new, |delay| format!(", dpd delay {delay}s"));
        line!(
            out,
            "{}: IKEv{}, {}, {}{delay}",
            text(&connection["name"]),
            text(&connection["version"]),
            every(&connection["reauth_time_s"], "reauthentication"),
            every(&connection["rekey_time_s"], "rekeying")
        );
        line!(out, "  local:  {}", addresses(connection, "local_addrs"));
        line!(out, "  remote: {}", addresses(connection, "remote_addrs"));
        for side in ["local", "remote"] {
            for entry in list(connection, side) {
                round(&mut out, side, entry);
            }
        }
        for child in list(connection, "children") {
            line!(
                out,
                "  {}: {}, {}",
                text(&child["name"]),
                text(&child["mode"]),
                every(&child["rekey_time_s"], "rekeying")
            );
            line!(out, "    local:  {}", addresses(child, "local_ts").replace("%any", "dynamic"));
            line!(out, "    remote: {}", addresses(child, "remote_ts").replace("%any", "dynamic"));
        }
    }
    out
}

/// `swanctl --list-certs`: a heading for each `kind`, then what is known of each.
pub(crate) fn certificates(value: &Value) -> String {
    const FIELDS: [(&str, &str); 11] = [
        ("subject", "subject: "),
        ("issuer", "issuer:  "),
        ("validity", "validity:"),
        ("not_before", "  not before"),
        ("not_after", "  not after "),
        ("serial", "serial:  "),
        ("alt_names", "altNames:"),
        ("flags", "flags:   "),
        ("key", "pubkey:  "),
        ("key_id", "keyid:   "),
        ("file", "file:    "),
    ];
    let mut out = String::new();
    let mut heading = String::new();
    for certificate in list(value, "certificates") {
        let kind = text(&certificate["kind"]);
        if kind != heading {
            line!(out, "List of {kind}\n");
            heading = kind;
        }
        for (key, title) in FIELDS {
            let field = &certificate[key];
            let shown = if field.is_array() { words(certificate, key) } else { text(field) };
            let private = key == "key" && certificate["has_private_key"] == true;
            if !field.is_null() && !shown.is_empty() {
                line!(out, "  {title} {shown}{}", if private { ", has private key" } else { "" });
            }
        }
        line!(out, "");
    }
    out
}

/// `swanctl --list-pools --leases`.
pub(crate) fn pools(value: &Value) -> String {
    let mut out = String::new();
    for pool in list(value, "pools") {
        line!(
            out,
            "{:<20} {:<30} {:>3} / {:>3} / {:>3}",
            text(&pool["name"]),
            text(&pool["base"]),
            text(&pool["online"]),
            text(&pool["offline"]),
            text(&pool["size"])
        );
        for lease in list(pool, "leases") {
            let state = if lease["online"] == true { "online" } else { "offline" };
            line!(
                out,
                "  {:<30} {state:<8} '{}'",
                text(&lease["address"]),
                text(&lease["identity"])
            );
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn example() -> Value {
        let text = r#"{"ike_sas": [{
            "name": "lab", "unique_id": 1, "state": "ESTABLISHED", "version": 2,
            "initiator": true, "spi_i": "8e1e1b1f7d2e0e22", "spi_r": "1a2b3c4d5e6f7081",
            "local_id": "gwa.lab", "local_host": "192.0.2.1", "local_port": 4500,
            "remote_id": "gwb.lab", "remote_host": "192.0.2.2", "remote_port": 4500,
            "local_vips": ["10.3.0.10", "fd00:3::11"], "remote_vips": [],
            "suite": "AES_GCM_16-128/PRF_HMAC_SHA2_256/CURVE_25519", "ppk": true,
            "established_s": 143, "rekey_in_s": 13560, "reauth_in_s": null,
            "children": [{
                "name": "net", "unique_id": 2, "state": "INSTALLED", "mode": "TUNNEL",
                "encap": true, "esp": "AES_GCM_16-128/ESN", "spi_in": "c1234567",
                "spi_out": "ce987654", "bytes_in": 84, "packets_in": 1, "last_in_s": 7,
                "bytes_out": 0, "packets_out": 0, "last_out_s": null, "installed_s": 143,
                "rekey_in_s": 3157, "expires_in_s": 3817,
                "local_ts": ["10.1.0.0/24", "fd00:1::/64"], "remote_ts": ["10.2.0.0/24"]
            }]
        }]}"#;
        serde_json::from_str(text).expect("JSON")
    }

    #[test]
    fn sas_have_the_shape_of_swanctl() {
        assert_eq!(
            sas(&example()),
            "lab: #1, ESTABLISHED, IKEv2, 8e1e1b1f7d2e0e22_i* 1a2b3c4d5e6f7081_r\n  \
             local  'gwa.lab' @ 192.0.2.1[4500] [10.3.0.10 fd00:3::11]\n  \
             remote 'gwb.lab' @ 192.0.2.2[4500]\n  \
             AES_GCM_16-128/PRF_HMAC_SHA2_256/CURVE_25519/PPK\n  \
             established 143s ago, rekeying in 13560s\n  \
             net: #2, reqid 2, INSTALLED, TUNNEL-in-UDP, ESP:AES_GCM_16-128/ESN\n    \
             installed 143s ago, rekeying in 3157s, expires in 3817s\n    \
             in  c1234567,     84 bytes,     1 packets,     7s ago\n    \
             out ce987654,      0 bytes,     0 packets\n    \
             local  10.1.0.0/24 fd00:1::/64\n    remote 10.2.0.0/24\n"
        );
        assert_eq!(sas(&json!({"ike_sas": []})), "");
    }

    #[test]
    fn connections_pools_and_certificates() {
        let shown = connections(&json!({"connections": [{
            "name": "lab", "version": 2, "local_addrs": ["192.0.2.1"], "remote_addrs": [],
            "rekey_time_s": 14400, "reauth_time_s": 0, "dpd_delay_s": 10,
            "local": [{"auth": "psk", "id": "gwa.lab"}],
            "remote": [{"auth": "eap-mschapv2", "eap_id": "%any"}],
            "children": [{"name": "net", "mode": "TUNNEL", "rekey_time_s": 3600,
                          "local_ts": ["10.1.0.0/24"], "remote_ts": []}],
        }]}));
        assert_eq!(
            shown,
            "lab: IKEv2, no reauthentication, rekeying every 14400s, dpd delay 10s\n  \
             local:  192.0.2.1\n  remote: %any\n  \
             local pre-shared key authentication:\n    id: gwa.lab\n  \
             remote eap-mschapv2 authentication:\n    eap_id: %any\n  \
             net: TUNNEL, rekeying every 3600s\n    local:  10.1.0.0/24\n    remote: dynamic\n"
        );
        let shown = pools(&json!({"pools": [{"name": "v4", "base": "10.3.0.10", "size": 11,
            "online": 1, "offline": 0,
            "leases": [{"address": "10.3.0.10", "online": true, "identity": "gwa.lab"}]}]}));
        assert!(shown.starts_with("v4 ") && shown.contains("  1 /   0 /  11"), "{shown}");
        assert!(shown.contains("10.3.0.10") && shown.contains("online   'gwa.lab'"), "{shown}");
        let shown = certificates(&json!({"certificates": [
            {"kind": "X.509 End Entity Certificates", "subject": "O=lab, CN=gwa.lab",
             "key": "RSA 2048", "has_private_key": true, "alt_names": ["gwa.lab"]},
        ]}));
        assert!(shown.contains("List of X.509 End Entity Certificates\n"), "{shown}");
        assert!(shown.contains("  pubkey:   RSA 2048, has private key\n"), "{shown}");
    }

    #[test]
    fn answers_of_any_shape_are_shown_without_harm() {
        let values = [
            json!(null),
            json!([]),
            json!({"ike_sas": [null, {"children": [7]}], "connections": [{"local": [1]}]}),
            json!({"pools": [{"leases": [null]}], "certificates": ["x"]}),
        ];
        for value in values {
            for show in [sas, connections, certificates, pools] {
                let _text = show(&value);
            }
        }
        let mut value = example();
        value["ike_sas"][0]["remote_id"] = json!("gw\u{1b}[2J");
        value["ike_sas"][0]["suite"] = json!("x\u{7}");
        assert!(!sas(&value).contains(|c: char| c.is_control() && c != '\n'));
    }
}
