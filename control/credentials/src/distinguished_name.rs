//! Distinguished names (X.501, RFC 5280 §4.1.2.4): from text, to text, compared.
//!
//! Only names that decode completely are let in, so a comparison never meets half a name.

use crate::escape::is_plain;
use crate::identity::IdentityError;
use der::asn1::ObjectIdentifier;
use der::{Decode, Encode};
use std::fmt::Write;
use x509_cert::name::Name;

/// Attribute types by the short names strongSwan prints and reads; the first of several
/// names for one type is the one printed.
const ATTRIBUTES: &[(&str, &str)] = &[
    ("CN", "2.5.4.3"),
    ("C", "2.5.4.6"),
    ("O", "2.5.4.10"),
    ("OU", "2.5.4.11"),
    ("L", "2.5.4.7"),
    ("ST", "2.5.4.8"),
    ("E", "1.2.840.113549.1.9.1"),
    ("EMAIL", "1.2.840.113549.1.9.1"),
    ("EMAILADDRESS", "1.2.840.113549.1.9.1"),
    ("DC", "0.9.2342.19200300.100.1.25"),
    ("UID", "0.9.2342.19200300.100.1.1"),
    ("SN", "2.5.4.5"),
    ("SERIALNUMBER", "2.5.4.5"),
    ("S", "2.5.4.4"),
    ("G", "2.5.4.42"),
    ("I", "2.5.4.43"),
    ("T", "2.5.4.12"),
    ("N", "2.5.4.41"),
    ("D", "2.5.4.13"),
    ("ID", "2.5.4.45"),
    ("DN", "2.5.4.46"),
    ("STREET", "2.5.4.9"),
    ("POSTALCODE", "2.5.4.17"),
    ("UN", "1.2.840.113549.1.9.2"),
    ("UA", "1.2.840.113549.1.9.8"),
];

const OBJECT_IDENTIFIER: u8 = 0x06;
const UTF8_STRING: u8 = 0x0c;
const PRINTABLE_STRING: u8 = 0x13;
const TELETEX_STRING: u8 = 0x14;
const IA5_STRING: u8 = 0x16;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
/// Most attributes a name may have.
const ATTRIBUTES_MAX: usize = 64;

/// One attribute of a name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Attribute {
    pub(crate) kind: ObjectIdentifier,
    pub(crate) tag: u8,
    pub(crate) value: Vec<u8>,
}

impl Attribute {
    fn decode(from: &x509_cert::attr::AttributeTypeAndValue) -> Result<Self, IdentityError> {
        let element = from.value.to_der().map_err(|_| IdentityError::DistinguishedName)?;
        match element.first() {
            // Tags of more than one octet mean no string type there is.
            Some(tag) if tag & 0x1f != 0x1f => {
                Ok(Self { kind: from.oid, tag: *tag, value: from.value.value().to_vec() })
            }
            _ => Err(IdentityError::DistinguishedName),
        }
    }

    /// The value in the form comparisons use: string types are one type and ASCII case does
    /// not matter (RFC 5280 §7.1, without folding of white space).
    fn canonical(&self) -> (ObjectIdentifier, u8, Vec<u8>) {
        if is_string(self.tag) {
            (self.kind, UTF8_STRING, self.value.to_ascii_lowercase())
        } else {
            (self.kind, self.tag, self.value.clone())
        }
    }

    /// Whether the value is a lone `*`, which a pattern reads as any value.
    pub(crate) fn is_wildcard(&self) -> bool {
        is_string(self.tag) && self.value == b"*"
    }

    /// Equal as comparisons see it.
    pub(crate) fn same(&self, other: &Self) -> bool {
        self.canonical() == other.canonical()
    }
}

fn is_string(tag: u8) -> bool {
    [UTF8_STRING, PRINTABLE_STRING, IA5_STRING, TELETEX_STRING].contains(&tag)
}

/// The attributes of a DER name, one inner list for each relative name.
pub(crate) fn decode(der: &[u8]) -> Result<Vec<Vec<Attribute>>, IdentityError> {
    let name = Name::from_der(der).map_err(|_| IdentityError::DistinguishedName)?;
    let empty = name.is_empty() || name.iter_rdn().any(|rdn| rdn.is_empty());
    if empty || name.iter().count() > ATTRIBUTES_MAX {
        return Err(IdentityError::DistinguishedName);
    }
    name.iter_rdn().map(|rdn| rdn.iter().map(Attribute::decode).collect()).collect()
}

/// The form in which two names are equal exactly when their octets are.
pub(crate) fn canonical(der: &[u8]) -> Result<Vec<u8>, IdentityError> {
    let mut out = Vec::with_capacity(der.len());
    for rdn in decode(der)? {
        let mut parts: Vec<_> = rdn.iter().map(Attribute::canonical).collect();
        parts.sort();
        out.push(parts.len() as u8);
        for (kind, tag, value) in parts {
            let kind = kind.as_bytes();
            out.extend_from_slice(&(kind.len() as u32).to_be_bytes());
            out.extend_from_slice(kind);
            out.push(tag);
            out.extend_from_slice(&(value.len() as u32).to_be_bytes());
            out.extend_from_slice(&value);
        }
    }
    Ok(out)
}

/// `C=CH, O=x, CN=y`, with every character a reader could trip over escaped.
pub(crate) fn text(der: &[u8]) -> String {
    let Ok(rdns) = decode(der) else { return String::from("(no name)") };
    let mut out = String::new();
    for (index, rdn) in rdns.iter().enumerate() {
        out.push_str(if index == 0 { "" } else { ", " });
        for (index, attribute) in rdn.iter().enumerate() {
            out.push_str(if index == 0 { "" } else { "+" });
            out.push_str(&label(&attribute.kind));
            out.push('=');
            value_text(attribute, &mut out);
        }
    }
    out
}

fn label(kind: &ObjectIdentifier) -> String {
    let dotted = kind.to_string();
    let known = ATTRIBUTES.iter().find(|(_, oid)| *oid == dotted);
    known.map_or(dotted, |(name, _)| (*name).to_owned())
}

/// A value that reads back as itself: separators as `\xNN`, no string as `#` and hex of the
/// whole element.
fn value_text(attribute: &Attribute, out: &mut String) {
    if !is_string(attribute.tag) {
        out.push('#');
        element(attribute.tag, &attribute.value).iter().for_each(|octet| hex(*octet, "", out));
        return;
    }
    let trimmed = attribute.value.trim_ascii().len() == attribute.value.len();
    let hash = attribute.value.first() == Some(&b'#');
    for (at, chunk) in attribute.value.utf8_chunks().enumerate() {
        for (place, letter) in chunk.valid().char_indices() {
            let edge = !trimmed && letter == ' ';
            let hash = hash && at == 0 && place == 0;
            if is_plain(letter) && !matches!(letter, ',' | '/' | '+' | '=') && !edge && !hash {
                out.push(letter);
            } else {
                let mut octets = [0; 4];
                let octets = letter.encode_utf8(&mut octets).as_bytes();
                octets.iter().for_each(|octet| hex(*octet, "\\x", out));
            }
        }
        chunk.invalid().iter().for_each(|octet| hex(*octet, "\\x", out));
    }
}

fn hex(octet: u8, prefix: &str, out: &mut String) {
    // Writing to a String cannot fail.
    let _ = write!(out, "{prefix}{octet:02x}");
}

/// DER from `C=CH, O=x, CN=y` or `/C=CH/O=x/CN=y`.
///
/// A backslash makes the next character plain, `\xNN` is an octet, `#` and hex digits are a
/// whole DER element; a type is a short name or a dotted number; `+` joins the attributes of
/// one relative name.
pub(crate) fn parse(text: &str) -> Result<Vec<u8>, IdentityError> {
    let text = text.trim();
    let (separator, text) = match text.strip_prefix('/') {
        Some(rest) => (b'/', rest),
        None => (b',', text),
    };
    let mut name = Vec::new();
    for part in split(text.as_bytes(), separator) {
        let mut rdn = split(part, b'+').map(attribute).collect::<Result<Vec<_>, _>>()?;
        rdn.sort();
        name.extend(element(SET, &rdn.concat()));
    }
    let der = element(SEQUENCE, &name);
    decode(&der).map(|_| der)
}

/// Splits at a separator that no backslash precedes.
fn split(text: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let mut escaped = false;
    text.split(move |octet| {
        let plain = escaped;
        escaped = !escaped && *octet == b'\\';
        *octet == separator && !plain
    })
}

/// One `type=value` as an AttributeTypeAndValue.
fn attribute(text: &[u8]) -> Result<Vec<u8>, IdentityError> {
    let equals = text.iter().position(|octet| *octet == b'=');
    let equals = equals.ok_or(IdentityError::DistinguishedName)?;
    let (kind, value) = text.split_at(equals);
    let kind = str::from_utf8(kind.trim_ascii()).map_err(|_| IdentityError::DistinguishedName)?;
    let oid = ATTRIBUTES.iter().find(|(name, _)| name.eq_ignore_ascii_case(kind));
    let oid = ObjectIdentifier::new(oid.map_or(kind, |(_, oid)| oid));
    let oid = oid.map_err(|_| IdentityError::AttributeType(kind.chars().take(40).collect()))?;
    let value = value.get(1..).unwrap_or_default().trim_ascii();
    let mut out = element(OBJECT_IDENTIFIER, oid.as_bytes());
    if let Some(digits) = value.strip_prefix(b"#") {
        out.extend(crate::identity::hex(digits)?);
    } else {
        let value = unescape(value)?;
        out.extend(element(string_tag(&oid, &value), &value));
    }
    Ok(element(SEQUENCE, &out))
}

/// The string type strongSwan and OpenSSL would choose too; comparisons do not depend on it.
fn string_tag(kind: &ObjectIdentifier, value: &[u8]) -> u8 {
    let kind = label(kind);
    let printable = |octet: &u8| octet.is_ascii_alphanumeric() || b" '()+,-./:=?".contains(octet);
    if (kind == "E" || kind == "DC") && value.is_ascii() {
        IA5_STRING
    } else if value.iter().all(printable) {
        PRINTABLE_STRING
    } else if str::from_utf8(value).is_ok() {
        UTF8_STRING
    } else {
        TELETEX_STRING
    }
}

fn unescape(text: &[u8]) -> Result<Vec<u8>, IdentityError> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((octet, after)) = rest.split_first() {
        rest = after;
        if *octet != b'\\' {
            out.push(*octet);
        } else if let Some(digits) = rest.strip_prefix(b"x").and_then(|hex| hex.get(..2)) {
            out.extend(crate::identity::hex(digits)?);
            rest = rest.get(3..).unwrap_or_default();
        } else if let Some((plain, after)) = rest.split_first() {
            out.push(*plain);
            rest = after;
        }
    }
    Ok(out)
}

/// A DER element with a definite length.
fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len();
    let mut out = vec![tag];
    if length < 0x80 {
        out.push(length as u8);
    } else {
        let octets = length.to_be_bytes();
        let skip = octets.iter().take_while(|octet| **octet == 0).count();
        out.push(0x80 | (octets.len() - skip) as u8);
        out.extend_from_slice(&octets[skip..]);
    }
    out.extend_from_slice(content);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(text_in: &str) -> String {
        text(&parse(text_in).unwrap())
    }

    #[test]
    fn both_spellings_give_the_same_name() {
        let comma = parse("C=CH, O=strongSwan Project,CN=moon.strongswan.org").unwrap();
        let slash = parse("/C=CH/O=strongSwan Project/CN=moon.strongswan.org").unwrap();
        assert_eq!(comma, slash);
        assert_eq!(text(&comma), "C=CH, O=strongSwan Project, CN=moon.strongswan.org");
    }

    #[test]
    fn known_octets() {
        // From `openssl req -subj /C=CH/CN=x` with a UTF-8 and a printable string.
        let expected = b"\x30\x19\x31\x0b\x30\x09\x06\x03\x55\x04\x06\x13\x02CH\
            \x31\x0a\x30\x08\x06\x03\x55\x04\x03\x13\x01x";
        assert_eq!(parse("C=CH, CN=x").unwrap(), expected);
    }

    #[test]
    fn awkward_values_read_back() {
        for name in [
            "CN=a\\x2cb",
            "O=Q\\x20",
            "CN=\\x23 1",
            "CN=\\x24(x)",
            "2.5.4.99=Zürich",
            "CN=#0500",
            "CN=a+OU=b, O=\\xff",
            "E=a@b.c, DC=org",
        ] {
            assert_eq!(round(name), name);
            assert_eq!(parse(&round(name)).unwrap(), parse(name).unwrap());
        }
        assert_eq!(round("cn=a\\, b, emailAddress=x"), "CN=a\\x2c b, E=x");
    }

    #[test]
    fn string_type_and_case_do_not_matter() {
        let printable = element(0x13, b"Lab");
        let utf8 = element(0x0c, b"lab");
        let name = |value: &[u8]| {
            let pair = [element(0x06, &[0x55, 4, 3]), value.to_vec()].concat();
            element(0x30, &element(0x31, &element(0x30, &pair)))
        };
        assert_eq!(canonical(&name(&printable)).unwrap(), canonical(&name(&utf8)).unwrap());
        let other = canonical(&name(&element(0x0c, b"lab "))).unwrap();
        assert_ne!(canonical(&name(&utf8)).unwrap(), other);
        let octets = canonical(&name(&element(0x04, b"lab"))).unwrap();
        assert_ne!(canonical(&name(&utf8)).unwrap(), octets);
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "CN", "=x", "XX=1", "CN=a,,O=b", "CN=#zz", "CN=#05", "CN=\\xz1", "/"] {
            assert!(parse(text).is_err(), "{text}");
        }
        for der in [&b""[..], b"\x30\x00", b"\x30\x80\x00\x00", b"\x30\x02\x31\x00", &[0x30; 999]] {
            assert!(decode(der).is_err());
        }
    }
}
