//! Secrets from text and by identity.

use super::*;

fn secrets(entries: &[(SharedSecretKind, &[&str], &str)]) -> SharedSecrets {
    let mut all = SharedSecrets::default();
    for (kind, owners, text) in entries {
        let secret = secret_from_text(text).unwrap();
        all.add(*kind, owners.iter().copied(), secret).unwrap();
    }
    all
}

fn psk(all: &SharedSecrets, local: &str, remote: &str) -> Option<String> {
    let local = Identity::parse(local).unwrap();
    let remote = Identity::parse(remote).unwrap();
    let found = all.psk(Some(&local), &remote)?;
    Some(String::from_utf8(found.as_bytes().to_vec()).unwrap())
}

#[test]
fn text_forms() {
    let octets = |text: &str| secret_from_text(text).map(|secret| secret.as_bytes().to_vec());
    assert_eq!(octets("lab psk").unwrap(), b"lab psk");
    assert_eq!(octets("0x00ff").unwrap(), [0, 255]);
    assert_eq!(octets("0sAP8=").unwrap(), [0, 255]);
    assert_eq!(octets("0sAA==").unwrap(), [0]);
    assert_eq!(octets("0sZm9v").unwrap(), b"foo");
    assert_eq!(octets(""), Err(SecretTextError::Empty));
    assert_eq!(octets("0x"), Err(SecretTextError::Empty));
    for bad in ["0x0", "0xgg"] {
        assert_eq!(octets(bad), Err(SecretTextError::Hex));
    }
    for bad in ["0sA", "0sAA", "0sAAA", "0s====", "0sA===", "0sAB==", "0sAA=A", "0s AA=", "0sA-8="]
    {
        assert_eq!(octets(bad), Err(SecretTextError::Base64), "{bad}");
    }
    assert_eq!(octets(&"a".repeat(5000)), Err(SecretTextError::TooLong));
}

#[test]
fn the_best_fit_wins() {
    use SharedSecretKind::Ike;
    let all = secrets(&[
        (Ike, &[], "anybody"),
        (Ike, &["gwb.lab"], "to b"),
        (Ike, &["*.lab"], "lab"),
        (Ike, &["gwa.lab", "gwc.lab"], "a and c"),
        (Ike, &["gwc.lab"], "c alone"),
        (SharedSecretKind::Eap, &["gwb.lab"], "no psk"),
    ]);
    let find = |local: &str, remote: &str| psk(&all, local, remote).unwrap();
    assert_eq!(find("gwa.lab", "gwb.lab"), "to b");
    assert_eq!(find("gwa.lab", "gwx.lab"), "lab");
    assert_eq!(find("gwa.lab", "elsewhere"), "anybody");
    assert_eq!(find("gwa.lab", "gwc.lab"), "a and c");
    assert_eq!(find("gwx.lab", "gwc.lab"), "a and c", "equals: the first");
}

#[test]
fn a_key_for_one_peer_does_not_serve_another() {
    use SharedSecretKind::Ike;
    let all = secrets(&[(Ike, &["gwa.lab", "gwb.lab"], "a and b")]);
    assert!(psk(&all, "gwa.lab", "gwb.lab").is_some());
    assert_eq!(psk(&all, "gwa.lab", "gwc.lab"), None);
    let own = secrets(&[(Ike, &["gwa.lab"], "all peers of a")]);
    assert!(psk(&own, "gwa.lab", "gwc.lab").is_some());
    assert_eq!(psk(&own, "gwx.lab", "gwc.lab"), None);
    assert_eq!(psk(&SharedSecrets::default(), "gwa.lab", "gwb.lab"), None);
}

#[test]
fn names_of_users_and_keys() {
    let all = secrets(&[
        (SharedSecretKind::Eap, &["alice"], "of alice"),
        (SharedSecretKind::Eap, &["*@lab"], "of the lab"),
        (SharedSecretKind::Eap, &["10.0.0.1"], "of an address"),
        (SharedSecretKind::Ppk, &["ppk1"], "ppk"),
        (SharedSecretKind::Ppk, &["keyid:#00ff"], "binary"),
    ]);
    let eap = |user: &[u8]| all.eap_password(user).map(|secret| secret.as_bytes());
    assert_eq!(eap(b"alice"), Some(&b"of alice"[..]));
    assert_eq!(eap(b"Alice"), Some(&b"of alice"[..]));
    assert_eq!(eap(b"bob@lab"), Some(&b"of the lab"[..]));
    assert_eq!(eap(b"10.0.0.1"), Some(&b"of an address"[..]));
    for user in [&b""[..], b"*", b"%any", b"alic", b"alice\0", b"*@", b"@lab"] {
        assert_eq!(eap(user), None, "{user:?}");
    }
    assert!(all.ppk(b"ppk1").is_some() && all.ppk(&[0, 255]).is_some());
    assert!(all.ppk(b"alice").is_none() && all.eap_nt_hash(b"alice").is_none());
}

#[test]
fn debug_hides_secrets() {
    let all = secrets(&[(SharedSecretKind::Ike, &["gwa.lab"], "hush hush")]);
    let shown = format!("{all:?}");
    assert!(!shown.contains("hush") && shown.contains("gwa.lab"), "{shown}");
}
