//! Settings files as they are written, and what becomes of them.

#![expect(clippy::expect_used, reason = "the helpers of a test fail it")]

use proptest::prelude::*;
use std::path::Path;
use xswan_config::{
    ChildMode, Config, Connection, DpdAction, PeerAddress, SecretKind, SelectorPattern,
};
use xswan_swanctl::{Imported, load, merged_toml, text_to_toml, to_toml};

const BASE: &str = "[instance]\nname = \"gwa\"\n[cores]\nworkers = 1\n";

const HAND_WRITTEN: &str = r#"
# a comment
connections {
  home : defaults, more.deep {
    local_addrs = 192.0.2.1 , 2001:db8::1   # both families
    remote_addrs = %any
    local-1 { auth = pubkey
      id = "C=CH, O=lab \"x\""
      certs = gwa.pem }
    remote-2 { auth = eap-mschapv2
      eap_id = %any
      round = 2 }
    remote-1
    {
      auth = psk  }
    children { net { local_ts = 10.1.0.0/16[tcp/http], dynamic[udp/53] } two { mode = transport } }
    rekey_time = 2h
  }
}
defaults { dpd_delay = 10s
  rekey_time = 1h
  children { net { dpd_action = restart
                   replay_window = 32 } }
}
more { deep { vips = 0.0.0.0,:: } }
connections { home { mobike = no } }
secrets { ike { secret = "two words" } eap-a { id-1 = alice
  id-2 = "bob@x"
  secret = 0x6162 } private-x { file = gwa.key } }
pools { v4 { addrs = 10.3.0.10-10.3.0.20
             dns = 10.2.0.53 } }
"#;

fn import(text: &str) -> Result<Imported, String> {
    text_to_toml("s.conf", text, Path::new("/etc/swanctl")).map_err(|error| error.to_string())
}

/// The translation as a configuration, together with a base.
fn configuration(text: &str) -> (Config, Vec<String>) {
    let imported = import(text).expect("good");
    let toml = format!("{}\n{}", imported.toml.as_str(), "[cores]\nworkers = 1\n");
    let config = Config::parse("x.toml", &toml, Path::new("/etc")).expect("good");
    (config, imported.notes.iter().map(ToString::to_string).collect())
}

#[track_caller]
fn refused(text: &str, starts: &str, pieces: &[&str]) {
    let error = import(text).expect_err(starts);
    assert!(error.starts_with(starts), "{error}");
    assert!(pieces.iter().all(|piece| error.contains(piece)), "{error}");
    assert!(!error.contains('\n'), "{error}");
}

fn child<'a>(connection: &'a Connection, name: &str) -> &'a xswan_config::Child {
    connection.children.iter().find(|child| child.name == name).expect("there")
}

#[test]
fn a_file_with_everything_is_read() {
    let (config, notes) = configuration(HAND_WRITTEN);
    let home = &config.connections[0];
    let ike = home.ike.as_ref().expect("negotiated");
    assert_eq!(home.local_addrs.len(), 2);
    assert_eq!(ike.peers, [PeerAddress::Any]);
    assert_eq!((ike.dpd_delay_ms, ike.rekey_time_ms, ike.mobike), (10_000, 7_200_000, false));
    assert_eq!(ike.vips.len(), 2);
    assert_eq!(ike.local[0].id.as_deref(), Some("C=CH, O=lab \"x\""));
    assert_eq!(ike.local[0].certs, [Path::new("/etc/swanctl/x509/gwa.pem")]);
    let rounds: Vec<_> = ike.remote.iter().map(|round| round.auth.as_str()).collect();
    assert_eq!(rounds, ["psk", "eap-mschapv2"]);
    let net = child(home, "net").ike.as_ref().expect("negotiated");
    assert_eq!(net.dpd_action, DpdAction::Start);
    assert_eq!(net.local_ts.len(), 2);
    assert_eq!(net.local_ts[1].to_string(), "dynamic[udp/53]");
    assert_eq!(net.remote_ts, [SelectorPattern::DYNAMIC]);
    assert_eq!(child(home, "net").replay_window, 64);
    assert_eq!(child(home, "two").mode, ChildMode::Transport);
    assert_eq!(config.secrets[0].load().expect("good").secret.expose(), b"two words");
    assert_eq!(config.secrets[1].ids, ["alice", "bob@x"]);
    assert_eq!(config.secrets[1].kind, SecretKind::Eap);
    assert_eq!(config.private_keys[0].path, Path::new("/etc/swanctl/private/gwa.key"));
    assert_eq!(config.pools[0].dns.len(), 1);
    assert_eq!(notes, ["s.conf:23: replay_window = 32 is read as 64"]);
}

#[test]
fn errors_name_the_line_of_the_original() {
    refused("a {\n b = c\n", "s.conf:3:1: ", &["not closed", "line 1"]);
    refused("}\n", "s.conf:1:1: ", &["not open"]);
    refused("a\nb = c\n", "s.conf:1:1: a: ", &["neither"]);
    refused("a { b = \"c\n\n", "s.conf:1:1: ", &["string is not closed"]);
    refused("a : b { }", "s.conf:1:1: b: ", &["no such section"]);
    refused("a : b { }\nb : a { }", "s.conf:", &["circle"]);
    refused("a { b = {c} }", "s.conf:1:1: ", &["quotes"]);
    let connection = |lines: &str| format!("connections {{\n g {{\n{lines}\n }}\n}}\n");
    refused(&connection("\n  version = 1"), "s.conf:4:1: connections.g.version", &["IKEv2"]);
    refused(&connection("  colour = red"), "s.conf:3:1: connections.g.colour", &["unknown key"]);
    refused(&connection("  aggressive = yes"), "s.conf:3:", &["not supported", "IKEv1"]);
    refused(&connection("  encap = perhaps"), "s.conf:3:", &["encap", "true, false"]);
    refused(&connection("  proposals = aes128-sha1-modp1024"), "s.conf:3:", &["RFC 8247"]);
    refused(&connection("  pools = v4"), "s.conf:2:", &["\"v4\" does not exist"]);
    refused(&connection("  local_addrs = gw.example"), "s.conf:3:", &["no host names"]);
    let child = |lines: &str| connection(&format!("children {{ c {{\n{lines}\n }} }}"));
    refused(&child("mark_in = 42"), "s.conf:4:1: ", &["mark_in", "not supported"]);
    refused(&child("esp_proposals = null"), "s.conf:4:1: ", &["weak"]);
    refused(&child("esp_proposals = aes128"), "s.conf:4:1: ", &["no integrity"]);
    refused(&connection("local { auth = xauth }"), "s.conf:3:", &["XAuth"]);
    refused(&connection("local { groups = a }"), "s.conf:3:", &["not supported"]);
    refused("secrets { ike { } }", "s.conf:1:", &["exactly one of secret"]);
    refused("secrets {\n private { file = a\nsecret = b } }", "s.conf:3:", &["encrypted"]);
    refused("secrets { token1 { pin = 1 } }", "s.conf:1:", &["token"]);
}

#[test]
fn what_is_left_out_is_named() {
    let text = "stray = 1\nother { }\nconnections { g {\n version = 0\n dscp = 101110\n children {\n \
                c {\n updown = /bin/sh\n hw_offload = auto\n local_ts = 10.1.0.7/16\n }\n \
                s {\n mode = pass\n }\n t {\n mode = drop\n start_action = trap\n \
                local_ts = 10.0.0.0/8\n remote_ts = 10.0.0.0/8\n rekey_time = 1h\n } } } }\n\
                include nothing*.conf\nsecrets { xauth-1 { id = a\n secret = b } }\n";
    let (config, notes) = configuration(text);
    for (line, word) in [
        (1, "stray"),
        (2, "other"),
        (4, "IKEv1"),
        (5, "DSCP"),
        (8, "no scripts"),
        (10, "10.1.0.0/16"),
        (12, "start_action"),
        (20, "rekey_time"),
        (22, "nothing*.conf"),
        (23, "XAuth"),
    ] {
        let named = |note: &&String| note.starts_with(&format!("s.conf:{line}:"));
        assert!(notes.iter().filter(named).any(|note| note.contains(word)), "{line} {notes:#?}");
    }
    assert_eq!(notes.len(), 10, "{notes:#?}");
    let names: Vec<_> =
        config.connections[0].children.iter().map(|child| child.name.as_str()).collect();
    assert_eq!(names, ["c", "t"]);
}

struct Scratch(std::path::PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("xswan-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("made");
        Self(path)
    }

    fn write(&self, name: &str, text: &str) -> std::path::PathBuf {
        let path = self.0.join(name);
        std::fs::create_dir_all(path.parent().expect("within")).expect("made");
        std::fs::write(&path, text).expect("written");
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _gone = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn includes_are_relative_to_their_file_and_errors_name_it() {
    let scratch = Scratch::new("include");
    scratch.write("swanctl.conf", "include conf.d/*.conf\nsecrets { include psk.inc }\n");
    scratch.write("conf.d/a.conf", "connections { a { include \"sub/a.inc\" } }\n");
    scratch.write("conf.d/sub/a.inc", "local { auth = psk }\n");
    scratch.write("conf.d/.hidden.conf", "connections { hidden { } }\n");
    scratch.write("psk.inc", "ike { secret = x }\n");
    scratch.write("pkcs12/a.p12", "");
    let base = scratch.write("base.toml", BASE);
    let (config, notes) = load(&scratch.0, &base).expect("good");
    assert_eq!(config.instance.name, "gwa");
    assert_eq!(config.connections.len(), 1);
    assert_eq!(config.credentials_directory, scratch.0);
    assert_eq!(config.secrets.len(), 1);
    let notes: Vec<_> = notes.iter().map(ToString::to_string).collect();
    assert!(notes.iter().any(|note| note.contains("psk.inc: has secrets")), "{notes:?}");
    assert!(notes.iter().any(|note| note.contains("pkcs12: is not read")), "{notes:?}");
    scratch.write("conf.d/sub/a.inc", "\nlocal { auth = xauth }\n");
    let error = load(&scratch.0, &base).expect_err("xauth").to_string();
    assert!(error.contains("conf.d/sub/a.inc:2:"), "{error}");
    scratch.write("conf.d/sub/a.inc", "include a.inc\n");
    let error = load(&scratch.0, &base).expect_err("circle").to_string();
    assert!(error.contains("files deep"), "{error}");
    assert!(to_toml(&scratch.0.join("nowhere")).is_err());
}

#[test]
fn a_base_says_what_the_directory_does_not() {
    let scratch = Scratch::new("base");
    scratch.write("swanctl.conf", "connections { a { local_addrs = 192.0.2.1 } }\n");
    let pool = format!("{BASE}[pools.x]\naddrs = \"10.0.0.1\"\n");
    let base = scratch.write("base.toml", &pool);
    let error = load(&scratch.0, &base).expect_err("twice").to_string();
    assert!(error.contains("base.toml:6:") || error.contains("base.toml:5:"), "{error}");
    let base = scratch.write("base.toml", &format!("{BASE}[ike]\nport = 501\n"));
    let error = load(&scratch.0, &base).expect_err("port").to_string();
    assert!(error.contains("swanctl.conf:1:") && error.contains("501"), "{error}");
    // Without a newline at the end, too.
    let base = scratch.write("base.toml", BASE.trim_end());
    let (toml, _) = merged_toml(&scratch.0, &base).expect("good");
    let again = Config::parse("t", &toml, Path::new("/")).expect("good");
    assert_eq!(again.connections.len(), 1);
}

#[test]
fn secrets_are_not_printed() {
    let imported = import("secrets { ike-1 { secret = hunter2 } }").expect("good");
    assert!(imported.has_secrets && imported.toml.contains("hunter2"));
    assert!(!format!("{imported:?}").contains("hunter2"));
    let (config, _) = configuration("secrets { ike-1 { secret = hunter2 } }");
    let shown = format!("{config:?} {:?}", config.load_secrets().expect("good"));
    assert!(!shown.contains("hunter2") && !shown.contains("104, 117"), "{shown}");
    let error = import("secrets { ntlm { secret = hunter2 } }").expect_err("short");
    assert!(!error.contains("hunter2"), "{error}");
}

#[test]
fn swanctl_spellings_of_values() {
    let text = "connections { g { encap = 1\n mobike = disabled\n keyingtries = 0\n \
                send_certreq = Yes\n fragmentation = force\n unique = replace\n \
                remote_addrs = 192.0.2.0/24,192.0.2.9,2001:db8::1-2001:db8::9,%any6\n \
                reauth_time = 90m\n children { c { copy_df = no\n start_action = trap|start\n \
                rekey_bytes = 10M\n life_time = 110m\n dpd_action = none } } } }";
    let (config, notes) = configuration(text);
    assert!(notes.is_empty(), "{notes:?}");
    let g = &config.connections[0];
    let ike = g.ike.as_ref().expect("negotiated");
    assert!(g.encap && !ike.mobike && ike.send_certreq && ike.keyingtries == 0);
    assert_eq!((ike.rekey_time_ms, ike.reauth_time_ms, ike.over_time_ms), (0, 5_400_000, 540_000));
    assert_eq!(g.remote_addrs, ["192.0.2.9".parse::<std::net::IpAddr>().expect("address")]);
    let at = |text: &str| {
        let address = text.parse().expect("address");
        ike.peers.iter().any(|peer| peer.matches(address))
    };
    assert!(at("192.0.2.77") && at("2001:db8::5") && !at("192.0.3.1"));
    let c = child(g, "c");
    assert_eq!((c.bytes.rekey, c.bytes.life), (10 << 20, 11 << 20));
    assert_eq!((c.time_ms.rekey, c.time_ms.life), (6_000_000, 6_600_000));
    let c = c.ike.as_ref().expect("negotiated");
    assert!(c.start_action.trap && c.start_action.start);
    assert_eq!((c.rand_bytes, c.rand_time_ms), (1 << 20, 600_000));
    assert_eq!(c.dpd_action, DpdAction::Clear);
}

/// The lab's generator of settings files, without the lab.
const GENERATE: &str = r#"
HERE=$1; eval "$(sed -n '/^outer()/,/^strongswan_conf()/{/^strongswan_conf()/!p}' "$HERE/lab.sh")"
. "$HERE/scenarios/$2.sh" && swanctl_conf "$3"
"#;

#[test]
fn every_scenario_of_the_lab_is_read() {
    let lab = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../xtask/lab");
    let mut seen = 0;
    for entry in std::fs::read_dir(lab.join("scenarios")).expect("there") {
        let file = entry.expect("readable").path();
        let name = file.file_stem().expect("named").to_string_lossy().into_owned();
        for gateway in ["gwa", "gwb", "gwc"] {
            let mut bash = std::process::Command::new("bash");
            let output = bash.args(["-c", GENERATE, "lab"]).arg(&lab).args([&name, gateway]);
            let output = output.output().expect("bash runs");
            let text = String::from_utf8(output.stdout.clone()).expect("text");
            assert!(text.contains("connections {"), "{name} {gateway}: {output:?}");
            let imported = import(&text);
            let imported =
                imported.unwrap_or_else(|error| panic!("{name} {gateway}: {error}\n{text}"));
            assert!(imported.notes.is_empty(), "{name} {gateway}: {:?}", imported.notes);
            let (config, _) = configuration(&text);
            assert!(config.connections.iter().all(|connection| connection.ike.is_some()));
            seen += 1;
        }
    }
    assert!(seen > 50);
}

proptest! {
    #[test]
    fn cfg_01_any_text_is_refused_in_one_line_or_read(text in "\\PC{0,200}") {
        if let Err(error) = import(&text) {
            prop_assert!(!error.contains('\n'));
        }
    }

    #[test]
    fn cfg_01_any_tokens_are_refused_with_a_place_or_read(
        tokens in prop::collection::vec(
            prop::sample::select(vec![
                "connections", "secrets", "pools", "children", "local", "{", "}", "=", ":", ",",
                "\n", "#", "\"", "\\", "a", "ike", "include", " ", "auth", "psk", "id", "secret",
            ]),
            0..60,
        ),
    ) {
        if let Err(error) = import(&tokens.concat()) {
            prop_assert!(error.starts_with("s.conf:") || error.starts_with("base:"), "{}", error);
            prop_assert!(!error.contains('\n'));
        }
    }

    #[test]
    fn strings_survive_the_translation(secret in "[^\\x00]{1,40}") {
        let quoted = secret.replace('\\', "\\\\").replace('"', "\\\"");
        prop_assume!(!secret.starts_with("0x") && !secret.starts_with("0s"));
        let (config, _) = configuration(&format!("secrets {{ ike {{ secret = \"{quoted}\" }} }}"));
        let loaded = config.secrets[0].load().expect("good");
        prop_assert_eq!(loaded.secret.expose(), secret.as_bytes());
    }
}
