//! The configuration and its files, as the core gets them.

#![expect(clippy::expect_used, reason = "the helpers of a test fail it")]

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;
use xswan_config::Config;
use xswan_control::ike::convert::{Converted, convert};
use xswan_credentials::{AuthMethod, EapKind, Identity};
use xswan_ikev2::policy::{AddressPattern, SelectorTemplate, StartAction, Unique};

/// A directory with credentials that openssl makes; gone in the end.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("xswan-convert-{name}-{}", std::process::id()));
        for folder in ["x509", "x509ca", "x509crl", "private", "pubkey"] {
            std::fs::create_dir_all(path.join(folder)).expect("made");
        }
        let place = Self(path);
        place.openssl(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 \
             -keyout ca.key -out x509ca/ca.pem -subj /O=test/CN=root \
             -addext basicConstraints=critical,CA:TRUE -addext keyUsage=keyCertSign,cRLSign",
        );
        place.openssl(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 \
             -keyout private/gw.key -out x509/gw.pem -subj /O=test/CN=gw -CA x509ca/ca.pem \
             -CAkey ca.key -addext subjectAltName=DNS:gw.test \
             -addext basicConstraints=CA:FALSE",
        );
        place.mode("private/gw.key", 0o600);
        place
    }

    fn openssl(&self, arguments: &str) {
        let mut command = Command::new("openssl");
        let done = command.args(arguments.split_whitespace()).current_dir(&self.0).output();
        let done = done.expect("openssl runs");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }

    fn mode(&self, file: &str, mode: u32) {
        let permissions = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(self.0.join(file), permissions).expect("mode");
    }

    fn convert(&self, text: &str) -> Result<Converted, String> {
        let text = format!("[cores]\nworkers = 0\n{text}");
        let config = Config::parse("xswan.toml", &text, &self.0).map_err(|e| e.to_string())?;
        convert(&config).map_err(|error| error.to_string())
    }

    fn refused(&self, text: &str) -> String {
        self.convert(text).expect_err("refused")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _gone = std::fs::remove_dir_all(&self.0);
    }
}

const PSK: &str = "[connections.c]\nlocal_addrs = \"192.0.2.1\"\nremote_addrs = \"%any\"\n\
    [connections.c.local]\nauth = \"psk\"\nid = \"gw.test\"\n\
    [connections.c.remote]\nauth = \"psk\"\nid = \"*.peers.test\"\n";
const CERT: &str = "[connections.c]\nremote_addrs = \"192.0.2.2\"\n\
    [connections.c.local]\nauth = \"pubkey\"\nid = \"gw.test\"\n\
    [connections.c.remote]\nauth = \"pubkey\"\nid = \"peer.test\"\n";

#[test]
fn a_connection_keeps_what_is_written_and_gets_the_defaults() {
    let place = Place::new("plain");
    let text = format!(
        "{PSK}[connections.c.children.net]\nlocal_ts = \"10.1.0.0/16[tcp/80]\"\n\
         remote_ts = \"dynamic\"\nstart_action = \"trap|start\"\nclose_action = \"start\"\n\
         dpd_action = \"trap\"\nrekey_time = \"1h\"\nlife_time = \"70m\"\n\
         [secrets.ike-1]\nid-1 = \"gw.test\"\nid-2 = \"*.peers.test\"\nsecret = \"0x636f7272656374\"\n\
         [ike]\nretransmit_tries = 2\nkeep_alive = \"9s\"\n"
    );
    let Converted { configuration, .. } = place.convert(&text).expect("good");
    let [connection] = &configuration.connections[..] else { panic!("one") };
    assert_eq!(connection.remote_addresses, [AddressPattern::Any]);
    assert_eq!((connection.local_port, connection.unique), (500, Unique::No));
    let gw = Identity::parse("gw.test").expect("identity");
    assert_eq!(connection.local_rounds[0].id, Some(gw.clone()));
    let peer = Identity::parse("a.peers.test").expect("identity");
    assert!(connection.remote_rounds[0].id.matches(&peer).is_some());
    let secret = configuration.secrets.psk(Some(&gw), &peer).expect("a key");
    assert_eq!(secret.as_bytes(), b"correct");
    let child = &connection.children[0];
    assert_eq!(child.start_action, StartAction::TrapStart);
    assert_eq!((child.close_action, child.dpd_action), (StartAction::Start, StartAction::Trap));
    assert_eq!((child.lifetime.rekey_ms, child.lifetime.life_ms), (3_600_000, 4_200_000));
    assert!(matches!(child.local_ts[0], SelectorTemplate::Fixed(ts)
        if (ts.protocol, ts.first_port) == (6, 80)));
    assert!(matches!(child.remote_ts[0], SelectorTemplate::Dynamic { protocol: 0, .. }));
    assert_eq!(connection.lifetime.rekey_ms, 4 * 3_600_000);
    assert!(connection.lifetime.life_ms > connection.lifetime.rekey_ms);
    let settings = configuration.settings;
    assert_eq!((settings.retransmit_tries, settings.keepalive_ms), (2, 9_000));
    let text = format!("{configuration:?}");
    assert!(!text.contains("correct") && !text.contains("99, 111, 114, 114"), "no secrets");
}

#[test]
fn our_certificate_is_found_by_key_and_identity() {
    let place = Place::new("certificates");
    let converted = place.convert(CERT).expect("good");
    let connection = &converted.configuration.connections[0];
    let [own] = &connection.local_rounds[0].certificates[..] else { panic!("one") };
    assert_eq!(own.subject_text(), "O=test, CN=gw");
    assert!(converted.configuration.keys.of_certificate(own).is_some());
    assert_eq!(converted.configuration.trust.authorities().count(), 1);
    assert_eq!(converted.certificates.len(), 1, "each once");
    // Somebody else's name: not our certificate.
    let other = CERT.replace("gw.test", "else.test");
    let converted = place.convert(&other).expect("good");
    assert!(converted.configuration.connections[0].local_rounds[0].certificates.is_empty());
    // Named, it is taken whatever its names are.
    let named = other.replace("id = \"else.test\"", "certs = \"gw.pem\"");
    let converted = place.convert(&named).expect("good");
    assert_eq!(converted.configuration.connections[0].local_rounds[0].certificates.len(), 1);
    // An authority of the round is trusted and required.
    let pinned = format!("{CERT}cacerts = \"ca.pem\"\n");
    let converted = place.convert(&pinned).expect("good");
    assert_eq!(converted.configuration.connections[0].remote_rounds[0].peer.authorities.len(), 1);
}

#[test]
fn eap_tls_has_credentials_or_is_refused() {
    let place = Place::new("eap");
    let server = CERT.replace(
        "[connections.c.remote]\nauth = \"pubkey\"",
        "[connections.c.remote]\nauth = \"eap-tls\"",
    );
    let converted = place.convert(&server).expect("good");
    let round = &converted.configuration.connections[0].remote_rounds[0];
    assert_eq!(round.method, AuthMethod::Eap(EapKind::Tls));
    assert!(round.eap_tls.is_some());
    let client = CERT.replace(
        "[connections.c.local]\nauth = \"pubkey\"",
        "[connections.c.local]\nauth = \"eap-tls\"",
    );
    let converted = place.convert(&client).expect("good");
    assert!(converted.configuration.connections[0].local_rounds[0].eap_tls.is_some());
    std::fs::remove_file(place.0.join("private/gw.key")).expect("removed");
    assert!(place.refused(&server).contains("no certificate of ours with its private key"));
    assert!(place.refused(&client).contains("no certificate of ours with its private key"));
}

#[test]
fn cfg_04_files_that_cannot_be_used_are_named() {
    let place = Place::new("files");
    place.mode("private/gw.key", 0o644);
    let error = place.refused(CERT);
    assert!(error.contains("private/gw.key: mode 0644 lets others in"), "{error}");
    place.mode("private/gw.key", 0o600);
    for (file, content) in [
        ("x509/bad.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
        ("x509ca/bad.pem", "nothing"),
        ("x509crl/bad.crl", "nothing"),
        ("private/bad.key", "nothing"),
    ] {
        let path = place.0.join(file);
        std::fs::write(&path, content).expect("written");
        place.mode(file, 0o600);
        let error = place.refused(CERT);
        assert!(error.contains(file) && !error.contains('\n'), "{error}");
        std::fs::remove_file(path).expect("removed");
    }
    // An end entity's certificate is no authority.
    std::fs::copy(place.0.join("x509/gw.pem"), place.0.join("x509ca/gw.pem")).expect("copied");
    assert!(place.refused(CERT).contains("x509ca/gw.pem"));
    std::fs::remove_file(place.0.join("x509ca/gw.pem")).expect("removed");
    // A file that a section names comes with the section's place.
    let error = place.refused(&CERT.replace("id = \"gw.test\"", "certs = \"nowhere.pem\""));
    assert!(error.starts_with("xswan.toml:") && error.contains("nowhere.pem"), "{error}");
    assert!(place.convert(CERT).is_ok(), "all is well again");
}

#[test]
fn what_the_core_cannot_do_is_refused_with_its_place() {
    let place = Place::new("words");
    let cases = [
        ("id = \"gw.test\"", "id = \"=x\""),
        ("auth = \"psk\"\nid = \"gw.test\"", "auth = \"eap-sim\"\nid = \"gw.test\""),
        ("local_addrs = \"192.0.2.1\"", "local_addrs = \"192.0.2.1\"\nlocal_port = 501"),
    ];
    for (old, new) in cases {
        let error = place.refused(&PSK.replacen(old, new, 1));
        assert!(error.starts_with("xswan.toml:") && !error.contains('\n'), "{new}: {error}");
    }
    let secret = format!("{PSK}[secrets.ike-1]\nid = \"C=CH, =\"\nsecret = \"x\"\n");
    assert!(place.refused(&secret).contains("secrets.ike-1"));
}
