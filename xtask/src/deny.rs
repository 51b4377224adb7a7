//! `cargo xtask deny`: licences, sources, banned crates, and who may import whom.
//!
//! Works offline from `cargo metadata` and `deny.toml`, whose format is cargo-deny's (the
//! part read here: one entry a line), so that tool can be run over the same file.

use crate::{shell, spdx};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Only packages from here, or from this tree.
const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// Crates that must never come to link, directly or through others, what stands beside them.
const NEVER_LINKS: &[(&[&str], &[&str])] = &[
    (
        &["xswan-wire", "xswan-steer", "xswan-esp", "xswan-pipeline"],
        &["tokio", "libc", "aya", "xsk-rs", "serde_json", "aes-gcm", "aws-lc-rs", "xswan-xsk"],
    ),
    // The protocol cores compute and decide; sockets, clocks and files are the daemon's.
    (
        &["xswan-ikev2", "xswan-eap", "xswan-credentials", "xswan-ike-crypto", "xswan-swanctl"],
        &["tokio", "socket2", "rtnetlink", "aya", "xsk-rs", "xswan-xsk", "xswan-management"],
    ),
    (
        &["xswan-control", "xswan"],
        &["xswan-dataplane", "xswan-xsk", "xswan-aead", "xswan-pipeline", "xsk-rs", "aya"],
    ),
    (&["xswan-dataplane"], &["xswan-control", "xswan-ikev2"]),
    (&["xswan-xsk"], &["xswan-esp", "xswan-aead", "xswan-pipeline", "xswan-sa-api", "tokio"]),
    (&["xswan-aead"], &["xswan-xsk", "xswan-sa-api", "tokio"]),
    (
        &["xswan-dataplane", "xswan-control", "xswan", "xswan-xsk", "xswan-sa-api", "xswan-config"],
        &["xswan-testkit"],
    ),
    (&["xswan-testkit"], &["xswan-dataplane", "xswan-control"]),
];

/// Crates that only these may name as a dependency.
const ONLY_USED_BY: &[(&str, &[&str])] = &[
    ("aya", &["xswan-dataplane"]),
    ("xsk-rs", &["xswan-xsk"]),
    ("aes-gcm", &["xswan-aead", "xswan-testkit"]),
    ("chacha20poly1305", &["xswan-aead", "xswan-testkit"]),
    (
        "aws-lc-rs",
        &["xswan-aead", "xswan-testkit", "xswan-control", "xswan-ike-crypto", "xswan-eap"],
    ),
];

/// Runs every check.
///
/// # Errors
/// All findings, one a line.
pub fn run() -> Result<(), String> {
    shell::step("licences, banned crates, crate arrows");
    let text = shell::read(shell::cargo().args([
        "metadata",
        "--locked",
        "--format-version",
        "1",
        "--filter-platform",
        "x86_64-unknown-linux-gnu",
    ]))?;
    let metadata: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    let path = shell::root().join("deny.toml");
    let rules = std::fs::read_to_string(&path).map_err(|error| format!("deny.toml: {error}"))?;
    let findings = judge(&metadata, &Rules::parse(&rules)?);
    let count = metadata["packages"].as_array().map_or(0, Vec::len);
    if findings.is_empty() {
        shell::say(&format!("         {count} packages, nothing to object to"));
        return Ok(());
    }
    Err(format!("{} objections\n{}", findings.len(), findings.join("\n")))
}

/// What `deny.toml` says.
#[derive(Debug, Default, PartialEq, Eq)]
struct Rules {
    licences: Vec<String>,
    bans: Vec<Ban>,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Ban {
    name: String,
    /// Versions below this one; all if absent.
    below: Option<String>,
    /// The crate is allowed, but in one version only.
    duplicates_only: bool,
    reason: String,
}

impl Rules {
    fn parse(text: &str) -> Result<Self, String> {
        let mut rules = Self::default();
        let mut list = String::new();
        let mut table = String::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') || line == "]" {
                continue;
            }
            if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                table = name.to_owned();
            } else if let Some(name) = line.strip_suffix(" = [") {
                list = name.to_owned();
            } else if (table.as_str(), list.as_str()) == ("licenses", "allow") {
                rules.licences.push(line.trim_matches([',', '"']).to_owned());
            } else if (table.as_str(), list.as_str()) == ("bans", "deny") && line.starts_with('{') {
                rules
                    .bans
                    .push(Ban::parse(line).ok_or(format!("deny.toml:{}: {line}", number + 1))?);
            }
        }
        Ok(rules)
    }
}

impl Ban {
    fn parse(line: &str) -> Option<Self> {
        let value = |key: &str| {
            let (_, rest) = line.split_once(&format!("{key} = \""))?;
            rest.split_once('"').map(|(value, _)| value.to_owned())
        };
        let spec = value("crate")?;
        let (name, below) = match spec.split_once(":<") {
            Some((name, version)) => (name.to_owned(), Some(version.to_owned())),
            None => (spec, None),
        };
        let duplicates_only = line.contains("deny-multiple-versions = true");
        Some(Self { name, below, duplicates_only, reason: value("reason")? })
    }
}

fn judge(metadata: &Value, rules: &Rules) -> Vec<String> {
    let packages = metadata["packages"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut findings = Vec::new();
    let mut versions: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for package in packages {
        let (name, version) = (text(package, "name"), text(package, "version"));
        versions.entry(name).or_default().push(version);
        if package["source"].is_null() {
            continue;
        }
        if text(package, "source") != REGISTRY {
            findings.push(format!("{name} {version}: comes from {}", text(package, "source")));
        }
        match spdx::satisfiable(text(package, "license"), &rules.licences) {
            Ok(true) => {}
            Ok(false) => {
                findings.push(format!("{name} {version}: licence {}", text(package, "license")));
            }
            Err(what) => findings.push(format!("{name} {version}: {what}")),
        }
    }
    for ban in &rules.bans {
        let found = versions.get(ban.name.as_str()).map(Vec::as_slice).unwrap_or_default();
        if ban.duplicates_only {
            if found.len() > 1 {
                findings.push(format!("{} {}: {}", ban.name, found.join(" and "), ban.reason));
            }
            continue;
        }
        let hit = |version: &&&str| ban.below.as_ref().is_none_or(|limit| older(version, limit));
        for version in found.iter().filter(hit) {
            findings.push(format!("{} {version}: banned: {}", ban.name, ban.reason));
        }
    }
    findings.extend(arrows(metadata));
    findings
}

fn arrows(metadata: &Value) -> Vec<String> {
    let graph = Graph::of(metadata);
    let mut findings = Vec::new();
    for (crates, forbidden) in NEVER_LINKS {
        for name in *crates {
            let reached = graph.reached_from(name);
            for other in forbidden.iter().filter(|other| reached.contains(**other)) {
                findings.push(format!("{name} must not link {other}, but does"));
            }
        }
    }
    for (used, users) in ONLY_USED_BY {
        for (name, direct) in &graph.ours {
            if direct.contains(*used) && !users.contains(&name.as_str()) {
                findings.push(format!("{name} must not name {used} as a dependency"));
            }
        }
    }
    findings
}

/// Normal (not dev, not build) dependencies by package name.
#[derive(Default)]
struct Graph {
    all: BTreeMap<String, BTreeSet<String>>,
    ours: BTreeMap<String, BTreeSet<String>>,
}

impl Graph {
    fn of(metadata: &Value) -> Self {
        let packages = metadata["packages"].as_array().map(Vec::as_slice).unwrap_or_default();
        let names: BTreeMap<&str, &Value> =
            packages.iter().map(|package| (text(package, "id"), package)).collect();
        let name_of = |id: &str| names.get(id).map(|package| text(package, "name").to_owned());
        let mut graph = Self::default();
        let nodes = metadata["resolve"]["nodes"].as_array().map(Vec::as_slice).unwrap_or_default();
        for node in nodes {
            let id = text(node, "id");
            let Some(name) = name_of(id) else { continue };
            let dependencies = node["deps"].as_array().map(Vec::as_slice).unwrap_or_default();
            let normal = dependencies.iter().filter(|dependency| {
                let kinds = dependency["dep_kinds"].as_array();
                kinds.is_some_and(|kinds| kinds.iter().any(|kind| kind["kind"].is_null()))
            });
            let direct: BTreeSet<String> =
                normal.filter_map(|dependency| name_of(text(dependency, "pkg"))).collect();
            if names.get(id).is_some_and(|package| package["source"].is_null()) {
                graph.ours.insert(name.clone(), direct.clone());
            }
            graph.all.entry(name).or_default().extend(direct);
        }
        graph
    }

    fn reached_from(&self, start: &str) -> BTreeSet<&str> {
        let mut reached = BTreeSet::new();
        let mut waiting = vec![start];
        while let Some(name) = waiting.pop() {
            for next in self.all.get(name).into_iter().flatten() {
                if reached.insert(next.as_str()) {
                    waiting.push(next);
                }
            }
        }
        reached
    }
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

/// Whether version `a` comes before `b`, comparing the numbers only.
fn older(a: &str, b: &str) -> bool {
    let numbers = |version: &str| -> Vec<u64> {
        let plain = version.split(['-', '+']).next().unwrap_or_default();
        plain.split('.').map(|part| part.parse().unwrap_or(0)).collect()
    };
    numbers(a) < numbers(b)
}

#[cfg(test)]
mod tests {
    use super::{REGISTRY, Rules, judge, older};
    use serde_json::json;

    const RULES: &str = r#"
[licenses]
allow = [
    "MIT",
]
[bans]
deny = [
    { crate = "rsa:<0.10", reason = "timing" },
    { crate = "openssl", reason = "no" },
    { crate = "libc", deny-multiple-versions = true, reason = "one" },
]
"#;

    fn package(name: &str, version: &str, licence: &str) -> serde_json::Value {
        let id = format!("{name} {version}");
        json!({"id": id, "name": name, "version": version, "license": licence, "source": REGISTRY})
    }

    #[test]
    fn every_kind_of_objection_is_raised() {
        let rules = Rules::parse(RULES).unwrap();
        let metadata = json!({
            "packages": [
                package("good", "1.0.0", "MIT OR GPL-2.0"),
                package("bad", "1.0.0", "GPL-2.0"),
                package("rsa", "0.9.6", "MIT"),
                package("openssl", "0.10.0", "MIT"),
                package("libc", "0.2.1", "MIT"),
                package("libc", "0.3.0", "MIT"),
                {"id": "xswan-esp 0", "name": "xswan-esp", "version": "0", "source": null},
            ],
            "resolve": {"nodes": [
                {"id": "xswan-esp 0", "deps": [
                    {"pkg": "good 1.0.0", "dep_kinds": [{"kind": null}]},
                    {"pkg": "rsa 0.9.6", "dep_kinds": [{"kind": "dev"}]},
                ]},
                {"id": "good 1.0.0", "deps": [{"pkg": "libc 0.2.1", "dep_kinds": [{"kind": null}]}]},
            ]},
        });
        let findings = judge(&metadata, &rules);
        let expected = [
            "bad 1.0.0: licence GPL-2.0",
            "rsa 0.9.6: banned: timing",
            "openssl 0.10.0: banned: no",
            "libc 0.2.1 and 0.3.0: one",
            "xswan-esp must not link libc, but does",
        ];
        assert_eq!(findings, expected);
    }

    #[test]
    fn versions_compare_as_numbers() {
        assert!(older("0.9.10", "0.10"));
        assert!(!older("0.10.0", "0.10"));
        assert!(older("1.0.0-rc.1", "1.0.1"));
    }
}
