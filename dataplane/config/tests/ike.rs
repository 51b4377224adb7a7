//! The parts of a configuration that are about IKE.

#![expect(clippy::expect_used, reason = "the helpers of a test fail it")]

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use xswan_config::{
    Action, Childless, Config, IkeFragmentation, PeerAddress, Proposal, Revocation, SecretKind,
    SelectorPattern, SendCert, Unique,
};

const HEAD: &str = "[cores]\nworkers = 1\n";

const LAB: &str = r#"[cores]
workers = 1
[ike]
retransmit_timeout = 0.4
cookie_threshold = 1
make_before_break = false
[connections.lab]
version = 2
local_addrs = "192.0.2.1"
remote_addrs = "192.0.2.2"
proposals = ["aes128gcm16-prfsha256-x25519", "default"]
pools = ["v4"]
vips = ["0.0.0.0", "::"]
ppk_id = "ppk1"
ppk_required = true
[connections.lab.local-2]
auth = "eap-mschapv2"
eap_id = "alice"
round = 2
[connections.lab.local-1]
auth = "pubkey"
id = "gwa.lab"
certs = "gwa.pem"
revocation = "strict"
[connections.lab.remote]
auth = "ike:rsa/pss-sha384"
cacerts = ["ca.pem", "/etc/other.pem"]
[connections.lab.children.net]
local_ts = ["10.1.0.0/24", "dynamic[tcp/22]"]
remote_ts = "10.2.0.0/24"
esp_proposals = "aes128gcm16-x25519"
start_action = "trap|start"
[connections.lab.children.ssh]
mode = "pass"
local_ts = "10.1.0.0/24"
remote_ts = "10.2.0.0/24[tcp/22]"
[pools.v4]
addrs = "10.3.0.0/24"
dns = ["10.2.0.53"]
split_include = "10.2.0.0/16"
[secrets.ike-lab]
id-1 = "gwa.lab"
id-2 = "gwb.lab"
secret = "0x0102"
[secrets.ppk]
id = "ppk1"
secret_env = "XSWAN_TEST_PPK_NOT_SET"
[secrets.private-gwa]
file = "gwa.key"
[authorities.lab]
cacert = "lab.pem"
crl_uris = "http://crl.example"
"#;

fn parse(text: &str) -> Result<Config, String> {
    Config::parse("x.toml", text, Path::new("/etc/xswan")).map_err(|error| error.to_string())
}

#[track_caller]
fn refused(old: &str, new: &str, starts: &str, pieces: &[&str]) {
    assert_eq!(LAB.matches(old).count(), 1, "{old} must occur once");
    let error = parse(&LAB.replace(old, new)).expect_err(new);
    assert!(error.starts_with(starts), "{error}");
    assert!(pieces.iter().all(|piece| error.contains(piece)), "{error}");
    assert!(!error.contains('\n'), "{error}");
}

#[test]
fn everything_is_read() {
    let config = parse(LAB).expect("good");
    assert_eq!(config.ike.retransmit_timeout_ms, 400);
    assert_eq!((config.ike.cookie_threshold, config.ike.make_before_break), (1, false));
    let lab = &config.connections[0];
    let ike = lab.ike.as_ref().expect("negotiated");
    assert_eq!(ike.proposals.len(), 1 + Proposal::default_ike().len());
    assert_eq!(ike.peers[0].single(), lab.remote_addrs.first().copied());
    assert_eq!((ike.vips.len(), ike.ppk_required), (2, true));
    let rounds: Vec<_> = ike.local.iter().map(|round| round.name.as_str()).collect();
    assert_eq!(rounds, ["local-1", "local-2"]);
    assert_eq!(ike.local[0].certs, [Path::new("/etc/xswan/x509/gwa.pem")]);
    assert_eq!(ike.local[0].revocation, Revocation::Strict);
    let cacerts = [Path::new("/etc/xswan/x509ca/ca.pem"), Path::new("/etc/other.pem")];
    assert_eq!(ike.remote[0].cacerts, cacerts);
    let net = &lab.children[0];
    let negotiated = net.ike.as_ref().expect("negotiated");
    assert_eq!(negotiated.start_action, Action { trap: true, start: true });
    assert_eq!(negotiated.local_ts[1].to_string(), "dynamic[tcp/22]");
    assert_eq!(net.local_ts.len(), 1);
    assert!(net.esp_proposals.is_empty() && negotiated.proposals.len() == 1);
    assert!(lab.children[1].ike.is_none());
    assert_eq!(config.pools[0].first.to_string(), "10.3.0.1");
    assert_eq!(config.pools[0].subnets.len(), 1);
    assert_eq!(config.secrets[0].ids, ["gwa.lab", "gwb.lab"]);
    assert_eq!(config.secrets[0].load().expect("good").secret.expose(), [1, 2]);
    assert_eq!(config.secrets[1].kind, SecretKind::Ppk);
    let error = config.load_secrets().expect_err("no such variable").to_string();
    assert!(
        error.starts_with("x.toml:45:1: secrets.ppk: ") && error.contains("not set"),
        "{error}"
    );
    let files = config.credential_files().expect("no folders at all");
    assert_eq!(files.private_keys, [Path::new("/etc/xswan/private/gwa.key")]);
    assert_eq!(files.authorities, [Path::new("/etc/xswan/x509ca/lab.pem")]);
    assert_eq!(config.warnings.len(), 1);
    assert!(config.warnings[0].contains("nothing is fetched"));
}

#[test]
fn defaults_are_swanctls() {
    let text = format!("{HEAD}[connections.a]\nversion = 2\n[connections.a.children.c]\n");
    let config = parse(&text).expect("good");
    let ike = config.connections[0].ike.as_ref().expect("negotiated");
    assert!(config.connections[0].local_addrs.is_empty());
    assert_eq!(ike.peers, [PeerAddress::Any]);
    assert_eq!((ike.local_port, ike.remote_port), (500, 500));
    assert!(ike.mobike && ike.send_certreq && !ike.ppk_required);
    assert_eq!((ike.rekey_time_ms, ike.reauth_time_ms), (4 * 3_600_000, 0));
    assert_eq!((ike.over_time_ms, ike.rand_time_ms), (1_440_000, 1_440_000));
    assert_eq!((ike.keyingtries, ike.dpd_delay_ms), (1, 0));
    assert_eq!(ike.fragmentation, IkeFragmentation::Yes);
    assert_eq!((ike.childless, ike.unique), (Childless::Allow, Unique::No));
    assert_eq!(ike.send_cert, SendCert::IfAsked);
    assert_eq!((ike.local[0].auth.as_str(), ike.remote[0].auth.as_str()), ("pubkey", "pubkey"));
    let child = &config.connections[0].children[0];
    assert_eq!((child.time_ms.rekey, child.time_ms.life), (3_600_000, 3_960_000));
    assert_eq!((child.bytes.rekey, child.bytes.life), (0, 0));
    let child = child.ike.as_ref().expect("negotiated");
    assert_eq!((child.rand_time_ms, child.inactivity_ms), (360_000, 0));
    assert_eq!(child.local_ts, [SelectorPattern::DYNAMIC]);
    assert_eq!(child.start_action, Action::default());
    assert!(child.policies && !child.hostaccess);
    let ike = &config.ike;
    assert_eq!((ike.cookie_threshold, ike.cookie_threshold_ip, ike.block_threshold), (30, 3, 0));
    assert_eq!((ike.retransmit_timeout_ms, ike.retransmit_base_permille), (4000, 1800));
    assert_eq!((ike.retransmit_tries, ike.half_open_timeout_ms), (5, 30_000));
    assert_eq!((ike.fragment_size, ike.keep_alive_ms), (1280, 20_000));
    assert_eq!((ike.port, ike.port_nat_t, ike.delete_rekeyed_delay_ms), (500, 4500, 5_000));
    assert!(ike.make_before_break && ike.keep_state);
}

#[test]
fn cfg_03_errors_have_places_and_say_what_is_right() {
    refused("version = 2", "version = 1", "x.toml:8:11: connections.lab.version", &["IKEv2", "2"]);
    refused("vips =", "vip =", "x.toml:13:1: connections.lab.vip: unknown key", &["vips"]);
    refused("\"v4\"", "\"v6\"", "x.toml:7:1: ", &["\"v6\" does not exist", "v4"]);
    refused("aes128gcm16-prf", "3des-prf", "x.toml:11:14: ", &["3des", "RFC 8247", "aes128gcm16"]);
    refused("ppk_id = \"ppk1\"", "", "x.toml:", &["ppk_required", "ppk_id"]);
    refused("\"eap-mschapv2\"", "\"xauth\"", "x.toml:17:8: ", &["XAuth", "eap-mschapv2"]);
    refused("revocation = \"strict\"", "groups = \"a\"", "x.toml:24:10: ", &["not supported"]);
    refused("trap|start", "trap|stop", "x.toml:32:16: ", &["trap, start"]);
    refused("10.3.0.0/24", "dhcp", "x.toml:38:9: pools.v4.addrs", &["FIRST-LAST"]);
    refused("\"0x0102\"", "\"0x010\"", "x.toml:44:10: ", &["not readable", "base64"]);
    refused("file = \"gwa.key\"", "file = \"a\"\nsecret = \"b\"", "x.toml:50:10: ", &["encrypted"]);
    refused("[secrets.ppk]", "[secrets.token]", "x.toml:45:1: secrets.token", &["no token"]);
    refused("retransmit_timeout = 0.4", "retransmit_timeout = -1", "x.toml:4:22: ", &["decimals"]);
    refused("retransmit_timeout = 0.4", "retransmit_base = 0.5", "x.toml:4:", &["1 to 100"]);
    refused("remote_addrs = \"192.0.2.2\"", "local_port = 501", "x.toml:7:1: ", &["500, 4500"]);
    refused("start_action", "rand_time = \"2h\"\nstart_action", "x.toml:32:13: ", &["rekey_time"]);
    refused("start_action", "mark_in = 1\nstart_action", "x.toml:32:11: ", &["packet marks"]);
    // Without IKE its words are unknown to a child.
    let old = "[connections.a]\nlocal_addrs = \"192.0.2.1\"\nremote_addrs = \"192.0.2.2\"\n\
               [connections.a.children.c]\nstart_action = \"trap\"\n";
    let error = parse(&format!("{HEAD}{old}")).expect_err("static");
    assert!(error.contains("start_action: unknown key"), "{error}");
}

#[test]
fn static_keys_within_a_negotiated_connection_need_addresses() {
    let text = format!(
        "{HEAD}[connections.a]\nversion = 2\n[connections.a.children.c]\nlocal_ts = \"10.1.0.0/16\"\n\
         remote_ts = \"10.2.0.0/16\"\n[connections.a.children.c.static]\nspi_in = 0x1000\n\
         spi_out = 0x2000\nkey_in_env = \"A\"\nkey_out_env = \"B\"\n"
    );
    let error = parse(&text).expect_err("no addresses");
    assert!(error.contains("static keys need outer addresses"), "{error}");
    let with = text.replace(
        "version = 2",
        "version = 2\nlocal_addrs = \"192.0.2.1\"\nremote_addrs = \"192.0.2.2\"",
    );
    let child = &parse(&with).expect("good").connections[0].children[0];
    assert!(child.static_sa.is_some() && child.ike.is_none() && !child.esp_proposals.is_empty());
    assert_eq!(child.time_ms.rekey, 0);
}

struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("xswan-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("made");
        Self(path)
    }

    fn write(&self, name: &str, text: &str, mode: u32) -> PathBuf {
        let path = self.0.join(name);
        std::fs::create_dir_all(path.parent().expect("within")).expect("made");
        std::fs::write(&path, text).expect("written");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).expect("mode");
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _gone = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn cfg_04_secrets_are_their_owners_alone() {
    let scratch = Scratch::new("secrets");
    let inline = format!("{HEAD}[secrets.ike]\nsecret = \"hunter2\"\n");
    let file = scratch.write("open.toml", &inline, 0o644);
    let error = Config::load(&file).expect_err("open").to_string();
    assert!(error.contains("open.toml:3:1: secrets.ike") && error.contains("0644"), "{error}");
    assert!(!error.contains("hunter2"));
    Config::load(&scratch.write("closed.toml", &inline, 0o600)).expect("good");

    let apart = format!("secrets_file = \"keys/secrets.toml\"\n{HEAD}");
    let main = scratch.write("main.toml", &apart, 0o644);
    let load = || Config::load(&main).expect("good").load_secrets().map_err(|e| e.to_string());
    assert!(load().expect_err("missing").contains("No such file"));
    let secrets =
        "[secrets.ike]\nsecret_file = \"psk\"\n[secrets.eap]\nid = \"a\"\nsecret = \"x\"\n";
    scratch.write("keys/secrets.toml", secrets, 0o640);
    assert!(load().expect_err("open").contains("lets others in"));
    scratch.write("keys/secrets.toml", secrets, 0o600);
    let psk = scratch.write("keys/psk", "two words\n", 0o644);
    assert!(load().expect_err("open").contains("keys/secrets.toml:1:1: secrets.ike"));
    std::fs::set_permissions(&psk, PermissionsExt::from_mode(0o400)).expect("mode");
    let loaded = load().expect("good");
    assert_eq!(loaded[0].secret.expose(), b"two words");
    assert_eq!((loaded[1].kind, loaded.len()), (SecretKind::Eap, 2));
    scratch.write("keys/secrets.toml", "[secrets.ike]\nsecret = \"x\"\n[more]\n", 0o600);
    assert!(load().expect_err("unknown").contains("keys/secrets.toml:3:2: more: unknown key"));
}

#[test]
fn credential_files_are_those_of_the_folders_and_those_named() {
    let scratch = Scratch::new("credentials");
    for name in ["x509/b.pem", "x509/a.pem", "x509/.hidden", "x509ca/ca.pem", "rsa/r.key"] {
        scratch.write(name, "", 0o600);
    }
    scratch.write("x509/folder/c.pem", "", 0o600);
    let text = format!(
        "{HEAD}[authorities.a]\ncacert = \"ca.pem\"\n[authorities.b]\nfile = \"x509ca/other.pem\"\n\
         [secrets.rsa-1]\nfile = \"r.key\"\n"
    );
    let config = Config::load(&scratch.write("x.toml", &text, 0o644)).expect("good");
    let files = config.credential_files().expect("readable");
    let names = |files: &[PathBuf]| {
        let name = |file: &PathBuf| file.strip_prefix(&scratch.0).expect("within").to_owned();
        files.iter().map(|file| name(file).display().to_string()).collect::<Vec<_>>()
    };
    assert_eq!(names(&files.certificates), ["x509/a.pem", "x509/b.pem"]);
    assert_eq!(names(&files.authorities), ["x509ca/ca.pem", "x509ca/other.pem"]);
    assert_eq!(names(&files.private_keys), ["rsa/r.key"]);
    assert!(files.revocation_lists.is_empty() && files.public_keys.is_empty());
}

#[test]
fn secrets_are_not_printed() {
    let text = format!("{HEAD}[secrets.ike]\nsecret = \"hunter2\"\n");
    let config = parse(&text).expect("good");
    let shown = format!("{config:?} {:?}", config.load_secrets().expect("good"));
    assert!(shown.contains("redacted"));
    assert!(!shown.contains("hunter2") && !shown.contains("104, 117, 110"), "{shown}");
}
