//! Whole configurations: what is read, what is refused and how it is said.

#![expect(clippy::expect_used, reason = "the helpers of a test fail it")]

use proptest::prelude::*;
use std::path::Path;
use xswan_config::{ChildMode, Config, EspAlgorithm, KeyOrigin, Rings};

const FULL: &str = r#"
[instance]
name = "gwa"
run_dir = "/run/xswan"
bpf_dir = "/sys/fs/bpf/xswan"
member = 3
[cores]
main = 0
workers = "1-3"
[dataplane]
frame_size = 4096
burst = 32
wait = "busy"
aead = "aws-lc"
[[device]]
name = "eth0"
role = "outer"
queues = "0-3"
mode = "zero-copy"
[[device]]
name = "eth1"
role = "inner"
[connections.net]
local_addrs = "192.0.2.1"
remote_addrs = ["192.0.2.2", "2001:db8::2"]
encap = true
[connections.net.children.ssh]
mode = "pass"
local_ts = "10.1.0.0/16"
remote_ts = "10.2.0.0/16[tcp/22]"
priority = 0
[connections.net.children.lan]
local_ts = ["10.1.0.0/16", "2001:db8:1::/48"]
remote_ts = ["10.2.0.0/16", "2001:db8:2::/48"]
priority = 1
esp_proposals = ["aes128gcm16-esn", "chacha20poly1305"]
replay_window = 4096
rekey_time = "1h"
life_time = 7200
[connections.net.children.lan.static]
spi_in = 0x00001001
spi_out = 0x0000_2001
key_in_file = "keys/in.hex"
key_out_env = "XSWAN_KEY_OUT"
worker = 2
"#;

fn parse(text: &str) -> Result<Config, String> {
    Config::parse("x.toml", text, Path::new("/etc/xswan")).map_err(|error| error.to_string())
}

/// The full configuration with one piece of text replaced.
fn with(old: &str, new: &str) -> String {
    assert_eq!(FULL.matches(old).count(), 1, "{old} must occur once");
    FULL.replace(old, new)
}

#[track_caller]
fn refused(text: &str, line_starts: &str, pieces: &[&str]) {
    let error = parse(text).expect_err(line_starts);
    assert!(error.starts_with(line_starts), "{error}");
    assert!(pieces.iter().all(|piece| error.contains(piece)), "{error}");
    assert!(!error.contains('\n'), "{error}");
}

#[test]
fn everything_is_read() {
    let config = parse(FULL).expect("good");
    let binding = parse(&with("burst = 32", "rings = \"xsk-rs\"")).expect("good");
    assert_eq!(binding.dataplane.rings, Rings::XskRs);
    assert_eq!(config.instance.member, 3);
    assert_eq!(config.run_directory(), Path::new("/run/xswan/gwa"));
    assert_eq!(config.cores.workers, [1, 2, 3]);
    assert_eq!(config.dataplane.frame_size, 4096);
    assert_eq!(config.devices[0].queues, Some(vec![0, 1, 2, 3]));
    let names: Vec<_> = config.children_in_order().iter().map(|(_, c)| c.name.clone()).collect();
    assert_eq!(names, ["ssh", "lan"]);
    let lan = &config.connections[0].children[1];
    assert_eq!((lan.mode, lan.replay_window), (ChildMode::Tunnel, 4096));
    assert_eq!(lan.esp_proposals[0].algorithm, EspAlgorithm::Aes128Gcm16);
    assert!(lan.esp_proposals[0].esn && !lan.esp_proposals[1].esn);
    assert_eq!((lan.time_ms.rekey, lan.time_ms.life), (3_600_000, 7_200_000));
    let static_sa = lan.static_sa.as_ref().expect("there");
    assert_eq!((static_sa.spi_in, static_sa.spi_out), (0x1001, 0x2001));
    assert_eq!(static_sa.key_in.origin, KeyOrigin::File("/etc/xswan/keys/in.hex".into()));
    assert_eq!(static_sa.key_out.origin, KeyOrigin::Environment("XSWAN_KEY_OUT".into()));
    assert_eq!(static_sa.key_in.len, 20);
}

#[test]
fn defaults_are_the_documented_ones() {
    let config = parse("[cores]\nworkers = 1\n").expect("good");
    assert_eq!(config.instance.name, "xswan");
    assert_eq!(config.dataplane.sa_slots, 4096);
    assert_eq!(config.dataplane.replay_words, 262_144);
    assert_eq!(config.dataplane.tun, "xswan0");
    assert_eq!(config.dataplane.rings, Rings::Own);
    assert!(config.warnings.is_empty());
    let shared = parse("[cores]\nworkers = \"0-1\"\n").expect("good");
    assert_eq!(shared.warnings.len(), 1);
}

#[test]
fn cfg_03_named_errors() {
    refused(
        &with("burst = 32", "bursts = 32"),
        "x.toml:12:1: dataplane.bursts: unknown key",
        &["burst"],
    );
    refused(&with("burst = 32", "burst = 257"), "x.toml:12:9: dataplane.burst: 257", &["1 to 256"]);
    refused(
        &with("burst = 32", "burst = \"32\""),
        "x.toml:12:9: dataplane.burst: is a string",
        &[],
    );
    refused(&with("burst = 32", "burst = -1"), "x.toml:12:9: dataplane.burst: -1", &["1 to 256"]);
    refused(
        &with("= \"busy\"", "= \"lazy\""),
        "x.toml:13:8: dataplane.wait: unknown",
        &["busy, sleep"],
    );
    refused(
        &with("burst = 32", "rings = \"libxdp\""),
        "x.toml:12:9: dataplane.rings: unknown",
        &["own, xsk-rs"],
    );
    refused(&with("workers = \"1-3\"", ""), "x.toml:", &["cores.workers: missing"]);
    refused(&with("workers = \"1-3\"", "workers = \"\""), "x.toml:9:11: cores.workers:", &[]);
    refused(&with("name = \"eth1\"", "name = \"eth0\""), "x.toml:", &["eth0 comes twice"]);
    refused(&with("name = \"gwa\"", "name = \"GW A\""), "x.toml:3:8: instance.name", &["a-z"]);
    refused(
        &with("10.1.0.0/16\", \"2001", "10.1.0.1/16\", \"2001"),
        "x.toml:",
        &["past the prefix"],
    );
    refused(&with("spi_in = 0x00001001", "spi_in = 255"), "x.toml:", &["static.spi_in", "256 to"]);
    refused(&with("worker = 2", "worker = 3"), "x.toml:", &["static.worker", "0 to 2"]);
    refused(
        &with("remote_ts = [\"10.2.0.0/16\", \"2001:db8:2::/48\"]", "remote_ts = \"10.2.0.0/16\""),
        "x.toml:",
        &["no partner of its family"],
    );
    refused(&with("aes128gcm16-esn", "aes128cbc"), "x.toml:", &["aes128cbc", "aes256gcm16"]);
    refused(&with("life_time = 7200", "life_time = 60"), "x.toml:", &["rekey_time", "life_time"]);
    refused(
        &with("key_out_env = \"XSWAN_KEY_OUT\"", "key_out_file = \"keys/in.hex\""),
        "x.toml:",
        &["same key in both directions"],
    );
    refused(&with("key_in_file = \"keys/in.hex\"", "key_in = \"00\""), "x.toml:", &["key_in_file"]);
    refused(&format!("{FULL}[connections.net]\n"), "x.toml:", &["duplicate"]);
    refused(&with("[cores]", "[cores"), "x.toml:7:7: ", &[]);
    let many: String =
        (0..7).map(|n| format!("[[device]]\nname=\"e{n}\"\nrole=\"both\"\n")).collect();
    refused(&format!("{FULL}{many}"), "x.toml:", &["9 devices", "at most 8"]);
}

#[test]
fn a_port_that_nothing_is_received_on_is_refused_with_encapsulation() {
    let text = with("encap = true", "encap = true\nlocal_port = 4501");
    refused(&text, "x.toml:", &["net.local_port", "4501", "allowed: 4500"]);
    assert!(parse(&with("encap = true", "encap = true\nlocal_port = 4500")).is_ok());
    // The peer may be behind a NAT that gave it any port.
    assert!(parse(&with("encap = true", "encap = true\nremote_port = 61000")).is_ok());
}

/// A second connection whose child clashes with the first one's.
fn second(spi_in: &str, selector: &str, priority: u32) -> String {
    format!(
        "{FULL}[connections.two]\nlocal_addrs = \"192.0.2.1\"\nremote_addrs = \"192.0.2.3\"\n\
         [connections.two.children.lan]\nlocal_ts = \"10.1.0.0/16\"\nremote_ts = \"{selector}\"\n\
         priority = {priority}\n[connections.two.children.lan.static]\nspi_in = {spi_in}\n\
         spi_out = 0x2001\nkey_in_env = \"A\"\nkey_out_env = \"B\"\n"
    )
}

#[test]
fn cfg_03_clashes_between_tunnels() {
    assert!(parse(&second("0x1002", "10.3.0.0/16", 1)).is_ok());
    refused(&second("0x1001", "10.3.0.0/16", 1), "x.toml:", &["0x00001001", "net.lan"]);
    refused(&second("0x1002", "10.2.7.0/24", 1), "x.toml:", &["overlap", "net.lan"]);
    assert!(parse(&second("0x1002", "10.2.7.0/24", 0)).is_ok());
}

#[test]
fn cfg_05_rep_13_replay_off_with_esn_is_refused() {
    let off = with("replay_window = 4096", "replay_window = 0");
    refused(&off, "x.toml:", &["children.lan.replay_window", "replay protection", "-noesn"]);
    let no_esn = off.replace("aes128gcm16-esn", "aes128gcm16-noesn");
    assert_eq!(parse(&no_esn).expect("good").connections[0].children[1].replay_window, 0);
    refused(&with("replay_window = 4096", "replay_window = 63"), "x.toml:", &["64 to 1048576"]);
    refused(&with("replay_window = 4096", "replay_window = 1048577"), "x.toml:", &["1048576"]);
}

fn key_file(directory: &Path, name: &str, digits: &str) {
    use std::os::unix::fs::PermissionsExt;
    let path = directory.join(name);
    std::fs::write(&path, digits).expect("written");
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).expect("mode");
}

#[test]
fn sal_12_one_key_serves_one_direction() {
    let directory = std::env::temp_dir().join(format!("xswan-sal12-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("made");
    let text = with("keys/in.hex", "in.hex")
        .replace("key_out_env = \"XSWAN_KEY_OUT\"", "key_out_file = \"out.hex\"");
    let load = || {
        let config = Config::parse("x.toml", &text, &directory).expect("good");
        config.load_keys().map_err(|error| error.to_string())
    };
    key_file(&directory, "in.hex", &"0a".repeat(20));
    key_file(&directory, "out.hex", &"0b".repeat(20));
    assert_eq!(load().expect("good").len(), 1);
    key_file(&directory, "out.hex", &"0A".repeat(20));
    let error = load().expect_err("same");
    assert!(error.contains("same key in both directions"), "{error}");
    assert!(!error.contains("0a0a"), "{error}");
    std::fs::remove_dir_all(&directory).expect("removed");
}

/// A small generator, the same sequence on every run.
struct Sequence(u64);

impl Sequence {
    fn below(&mut self, bound: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % bound.max(1)
    }
}

/// Breaks a text in one to four places: octets, lines, numbers, words.
fn mutate(sequence: &mut Sequence) -> String {
    let mut text = FULL.as_bytes().to_vec();
    for _ in 0..=sequence.below(4) {
        let at = sequence.below(text.len());
        match sequence.below(6) {
            0 => text[at] = sequence.below(256) as u8,
            1 => drop(text.remove(at)),
            2 => text.insert(at, b"[]\"=.,-/0\n\\{}'#"[sequence.below(15)]),
            3 => text.truncate(at),
            4 => {
                let end = (at + sequence.below(40)).min(text.len());
                let piece = text[at..end].to_vec();
                let to = sequence.below(text.len());
                text.splice(to..to, piece);
            }
            _ => {
                let value: &[u8] = [
                    &b"18446744073709551616"[..],
                    b"-1",
                    b"0",
                    b"[]",
                    b"{}",
                    b"1.5",
                    b"true",
                    b"1979-05-27",
                    b"\"\"",
                    b"\"\\u0000\"",
                    b"0xffffffffffffffff",
                    b"nan",
                ][sequence.below(12)];
                if let Some(equals) = text[at..].iter().position(|octet| *octet == b'=') {
                    let start = at + equals + 1;
                    let end = text[start..]
                        .iter()
                        .position(|octet| *octet == b'\n')
                        .map_or(text.len(), |end| start + end);
                    text.splice(start..end, value.iter().copied());
                }
            }
        }
        if text.is_empty() {
            break;
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}

#[test]
fn cfg_01_a_hundred_thousand_mutants_are_refused_in_one_line_or_loaded() {
    let mut sequence = Sequence(7);
    let (mut loaded, mut refused) = (0_u32, 0_u32);
    for _ in 0..100_000 {
        let text = mutate(&mut sequence);
        match parse(&text) {
            Ok(_) => loaded += 1,
            Err(error) => {
                refused += 1;
                assert!(error.starts_with("x.toml:"), "{error}");
                assert!(
                    error.split(':').nth(1).is_some_and(|line| line.parse::<u32>().is_ok()),
                    "{error}"
                );
                assert!(!error.contains('\n'), "{error}");
            }
        }
    }
    println!("{loaded} loaded, {refused} refused");
    assert!(loaded > 1_000 && refused > 10_000);
}

proptest! {
    #[test]
    fn cfg_01_any_text_is_refused_or_loaded(text in "\\PC{0,200}") {
        let _ = parse(&text);
    }
}
