//! Identities from text and payloads, and what they look like in a log.

use super::*;
use proptest::prelude::*;

fn kind(text: &str) -> (u8, Vec<u8>) {
    let identity = Identity::parse(text).unwrap();
    (identity.kind_number(), identity.data().to_vec())
}

#[test]
fn text_by_the_rules_of_swanctl() {
    let name = distinguished_name::parse("C=CH, O=x, CN=y").unwrap();
    let cases: &[(&str, u8, &[u8])] = &[
        ("192.0.2.1", 1, &[192, 0, 2, 1]),
        ("2001:db8::1", 5, &[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]),
        ("gwa.lab", 2, b"gwa.lab"),
        ("@gwa.lab", 2, b"gwa.lab"),
        ("@192.0.2.1", 2, b"192.0.2.1"),
        ("alice@lab", 3, b"alice@lab"),
        ("@@alice@lab", 3, b"alice@lab"),
        ("C=CH, O=x, CN=y", 9, &name),
        ("/C=CH/O=x/CN=y", 9, &name),
        ("asn1dn:C=CH,O=x,CN=y", 9, &name),
        ("@#00ff", 11, &[0, 255]),
        ("keyid:some thing", 11, b"some thing"),
        ("keyid:#00FF", 11, &[0, 255]),
        ("keyid:a=b", 11, b"a=b"),
        ("not:an:address", 11, b"not:an:address"),
        ("fqdn:a@b", 2, b"a@b"),
        ("email:alice", 3, b"alice"),
        ("rfc822:alice", 3, b"alice"),
        ("userfqdn:alice", 3, b"alice"),
        ("IPv4:10.0.0.1", 1, &[10, 0, 0, 1]),
        ("ipv6:::1", 5, &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]),
        ("asn1gn:#820161", 10, b"\x82\x01a"),
    ];
    for (text, number, data) in cases {
        assert_eq!(kind(text), (*number, data.to_vec()), "{text}");
    }
}

#[test]
fn text_that_is_no_identity() {
    for text in [
        "",
        "%any",
        "*",
        "0.0.0.0",
        "a=b",
        "ipv4:x",
        "ipv6:1.2.3.4",
        "keyid:#0",
        "@#",
        "keyid:",
        "@",
        "fqdn:",
        "asn1gn:x",
        "CN=",
        "@#0g",
    ] {
        let refused = Identity::parse(text);
        if text == "CN=" {
            // An empty value is a value.
            assert!(refused.is_ok());
            continue;
        }
        let line = refused.expect_err(text).to_string();
        assert!(!line.contains('\n'), "{line}");
    }
}

#[test]
fn ike_13_lengths_of_id_payloads() {
    for number in 0..=255u8 {
        for octets in [0, 1, 3, 4, 5, 15, 16, 17, 4096, 4097, 65_000] {
            let identity = Identity::from_payload(number, &vec![b'a'; octets]);
            let fits = match number {
                1 => octets == 4,
                5 => octets == 16,
                2 | 3 | 10 | 11 => (1..=4096).contains(&octets),
                13 => octets == 0,
                _ => false,
            };
            assert_eq!(identity.is_ok(), fits, "{number} {octets}");
        }
    }
}

#[test]
fn ike_13_hostile_octets_are_shown_escaped() {
    let octets = b"a\0b\nc\x1b[31m$(reboot)`x`\xff\"'\\";
    for number in [2, 3, 11] {
        let shown = Identity::from_payload(number, octets).unwrap().to_string();
        assert!(shown.bytes().all(|octet| (0x20..0x7f).contains(&octet)), "{shown}");
        assert!(!shown.contains(['$', '`', '"', '\'']), "{shown}");
        assert!(shown.contains("\\x00") && shown.contains("\\x1b") && shown.contains("\\xff"));
    }
    let name = distinguished_name::parse("CN=a\\x0a\\x1b\\x24(x)\\x00").unwrap();
    let shown = Identity::from_payload(9, &name).unwrap().to_string();
    assert_eq!(shown, "CN=a\\x0a\\x1b\\x24(x)\\x00");
}

#[test]
fn kinds_are_told_apart_in_text() {
    let shown = |number: u8, data: &[u8]| Identity::from_payload(number, data).unwrap().to_string();
    assert_eq!(shown(2, b"gwa.lab"), "gwa.lab");
    assert_eq!(shown(2, b"192.0.2.1"), "fqdn:192.0.2.1");
    assert_eq!(shown(2, b"a@b"), "fqdn:a@b");
    assert_eq!(shown(3, b"gwa.lab"), "email:gwa.lab");
    assert_eq!(shown(3, b"a@gwa.lab"), "a@gwa.lab");
    assert_eq!(shown(11, b"gwa.lab"), "keyid:gwa.lab");
    assert_eq!(shown(13, b""), "(null)");
}

#[test]
fn equality_is_of_meaning_and_kind() {
    let id = |text: &str| Identity::parse(text).unwrap();
    assert_eq!(id("GWA.lab"), id("@gwa.LAB"));
    assert_ne!(id("192.0.2.1"), id("@192.0.2.1"));
    assert_ne!(id("keyid:a"), id("keyid:A"));
    assert_ne!(id("keyid:a"), id("fqdn:a"));
    assert_eq!(id("C=CH, CN=A"), id("/C=ch/CN=a"));
    assert_ne!(id("C=CH, CN=A"), id("CN=A, C=CH"));
    assert_ne!(id("C=CH, CN=A"), id("CN=A"));
}

proptest! {
    #[test]
    fn payload_and_text_round_trip(
        number in prop::sample::select(vec![1u8, 2, 3, 5, 10, 11]),
        data in prop::collection::vec(any::<u8>(), 1..64),
    ) {
        let data = match number {
            1 => data.iter().copied().cycle().take(4).collect(),
            5 => data.iter().copied().cycle().take(16).collect(),
            _ => data,
        };
        let identity = Identity::from_payload(number, &data).unwrap();
        prop_assert_eq!(identity.kind_number(), number);
        prop_assert_eq!(identity.data(), &data[..]);
        let text = identity.configuration_text();
        let again = Identity::parse(&text);
        // The unspecified addresses are how a configuration writes "anybody".
        if !pattern::is_any(&text) {
            prop_assert_eq!(again.unwrap(), identity.clone());
        }
        let shown = identity.to_string();
        prop_assert!(!shown.chars().any(char::is_control));
    }

    #[test]
    fn any_text_is_an_identity_or_an_error_in_one_line(text in "\\PC{0,40}|[-A-Z=,/+#\\\\x0-9 *@:.%]{0,40}") {
        match Identity::parse(&text) {
            Ok(identity) => {
                let payload = Identity::from_payload(identity.kind_number(), identity.data());
                prop_assert_eq!(&payload.unwrap(), &identity);
                prop_assert_eq!(Identity::parse(&identity.configuration_text()).unwrap(), identity);
            }
            Err(error) => prop_assert!(!error.to_string().chars().any(char::is_control)),
        }
    }

    #[test]
    fn a_name_of_any_octets_round_trips(octets in prop::collection::vec(any::<u8>(), 0..80)) {
        if let Ok(identity) = Identity::from_payload(9, &octets) {
            let again = Identity::parse(&identity.to_string()).unwrap();
            prop_assert_eq!(again, identity);
        }
    }
}
