//! Whom patterns accept.

use super::*;

fn id(text: &str) -> Identity {
    Identity::parse(text).unwrap()
}

fn fits(pattern: &str, identity: &Identity) -> Option<IdentityMatch> {
    IdentityPattern::parse(pattern).unwrap().matches(identity)
}

#[test]
fn aut_03_exact_means_exact() {
    let cases = [
        ("gwa.lab", "gwa.lab", true),
        ("gwa.lab", "GWA.LAB", true),
        ("gwa.lab", "gwb.lab", false),
        ("gwa.lab", "xgwa.lab", false),
        ("gwa.lab", "gwa.lab.evil", false),
        ("gwa.lab", "email:gwa.lab", false),
        ("gwa.lab", "keyid:gwa.lab", false),
        ("192.0.2.1", "192.0.2.1", true),
        ("192.0.2.1", "fqdn:192.0.2.1", false),
        ("fqdn:192.0.2.1", "192.0.2.1", false),
        ("CN=gwa.lab", "gwa.lab", false),
        ("gwa.lab", "CN=gwa.lab", false),
        ("C=CH, O=lab, CN=a", "C=CH, O=lab, CN=a", true),
        ("C=CH, O=lab, CN=a", "C=CH, O=lab", false),
        ("C=CH, O=lab", "C=CH, O=lab, CN=a", false),
    ];
    for (pattern, identity, expected) in cases {
        let found = fits(pattern, &id(identity));
        assert_eq!(found, expected.then_some(IdentityMatch::Exact), "{pattern} {identity}");
    }
}

#[test]
fn aut_03_wildcards_open_only_what_they_say() {
    let cases = [
        ("*.lab", "gwa.lab", true),
        ("*.lab", "a.b.lab", true),
        ("*.lab", "lab", false),
        ("*.lab", ".lab", false),
        ("*.lab", "gwa.lab.evil", false),
        ("*.lab", "evillab", false),
        ("*.lab", "a@gwa.lab", false),
        ("*@lab", "a@lab", true),
        ("*@lab", "a@b.lab", false),
        ("*@lab", "lab", false),
        ("C=CH, O=lab, CN=*", "C=CH, O=lab, CN=a", true),
        ("C=CH, O=lab, CN=*", "C=CH, O=lab2, CN=a", false),
        ("C=CH, O=lab, CN=*", "C=CH, CN=a, O=lab", false),
        ("C=CH, O=lab, CN=*", "C=CH, O=lab, OU=a", false),
        ("C=CH, O=lab, CN=*", "C=CH, O=lab, CN=a, CN=b", false),
        ("10.0.0.0/8", "10.255.0.1", true),
        ("10.0.0.0/8", "11.0.0.1", false),
        ("10.0.0.1-10.0.0.9", "10.0.0.9", true),
        ("10.0.0.1-10.0.0.9", "10.0.0.10", false),
        ("10.0.0.0/8", "fqdn:10.0.0.1", false),
        ("0.0.0.0/0", "2001:db8::1", false),
    ];
    for (pattern, identity, expected) in cases {
        assert_eq!(fits(pattern, &id(identity)).is_some(), expected, "{pattern} {identity}");
    }
}

#[test]
fn any_is_anybody_but_nobody() {
    assert_eq!(fits("%any", &id("gwa.lab")), Some(IdentityMatch::Any));
    assert_eq!(fits("%any", &Identity::from_payload(13, b"").unwrap()), None);
}

#[test]
fn what_a_peer_sends_is_never_a_pattern() {
    let star = Identity::from_payload(2, b"*.lab").unwrap();
    assert_eq!(fits("gwa.lab", &star), None);
    assert_eq!(IdentityPattern::exact(star.clone()).matches(&id("gwa.lab")), None);
    assert_eq!(IdentityPattern::exact(star.clone()).matches(&star), Some(IdentityMatch::Exact));
}

#[test]
fn the_less_is_open_the_better() {
    let identity = id("C=CH, O=lab, CN=a");
    let best = fits("C=CH, O=lab, CN=a", &identity);
    let one = fits("C=CH, O=lab, CN=*", &identity);
    let two = fits("C=CH, O=*, CN=*", &identity);
    let any = fits("%any", &identity);
    assert!(best > one && one > two && two > any && any.is_some());
}

#[test]
fn bad_ranges_are_refused() {
    for text in ["10.0.0.9-10.0.0.1", "10.0.0.1-::1"] {
        assert!(IdentityPattern::parse(text).is_err(), "{text}");
    }
    // No range: a domain name with a hyphen.
    assert_eq!(fits("a-b.lab", &id("a-b.lab")), Some(IdentityMatch::Exact));
}

#[test]
fn patterns_show_as_they_are_written() {
    for text in ["%any", "gwa.lab", "*.lab", "*@lab", "C=CH, CN=*", "10.0.0.1-10.0.0.9"] {
        assert_eq!(IdentityPattern::parse(text).unwrap().to_string(), text);
    }
}
