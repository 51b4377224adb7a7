//! Identification of peers (RFC 7296 §3.5): as payload, as configuration text, as log text.
//!
//! Two identities are equal when they mean the same: domain and mail names without regard to
//! ASCII case, distinguished names attribute by attribute, anything else octet by octet. The
//! kind always counts: an address is never equal to a domain name that spells it.

pub(crate) mod pattern;

use crate::distinguished_name;
use crate::escape::Escaped;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The ID types a peer may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum IdentityKind {
    /// ID_IPV4_ADDR.
    Ipv4 = 1,
    /// ID_FQDN.
    Fqdn = 2,
    /// ID_RFC822_ADDR.
    Rfc822 = 3,
    /// ID_IPV6_ADDR.
    Ipv6 = 5,
    /// ID_DER_ASN1_DN.
    DistinguishedName = 9,
    /// ID_DER_ASN1_GN; carried and compared as octets, matched by nothing else.
    GeneralName = 10,
    /// ID_KEY_ID.
    KeyId = 11,
    /// ID_NULL (RFC 7619); carried, matched by nothing, not even `%any`.
    Null = 13,
}

impl IdentityKind {
    fn from_number(kind: u8) -> Option<Self> {
        Some(match kind {
            1 => Self::Ipv4,
            2 => Self::Fqdn,
            3 => Self::Rfc822,
            5 => Self::Ipv6,
            9 => Self::DistinguishedName,
            10 => Self::GeneralName,
            11 => Self::KeyId,
            13 => Self::Null,
            _ => return None,
        })
    }
}

/// Why something is no identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IdentityError {
    /// An ID type nobody here speaks.
    Kind(u8),
    /// No octets where some are needed, or the wrong number for an address.
    Length {
        /// The ID type.
        kind: u8,
        /// Octets it came with.
        octets: usize,
    },
    /// More octets than [`Identity::OCTETS_MAX`].
    TooLong(usize),
    /// No complete distinguished name.
    DistinguishedName,
    /// An attribute type of a distinguished name that is no known name and no number.
    AttributeType(String),
    /// Not an address.
    Address(String),
    /// Hex digits were expected.
    Hex,
    /// A pattern, where one identity is needed.
    Pattern(String),
}

impl fmt::Display for IdentityError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kind(kind) => write!(out, "ID type {kind} is not supported"),
            Self::Length { kind, octets } => write!(out, "{octets} octets for ID type {kind}"),
            Self::TooLong(octets) => {
                write!(out, "an identity of {octets} octets, at most {}", Identity::OCTETS_MAX)
            }
            Self::DistinguishedName => write!(
                out,
                "not a distinguished name such as \"C=CH, O=lab, CN=a\"; a key id with '=' is \
                 written keyid:..."
            ),
            Self::AttributeType(kind) => {
                write!(out, "unknown attribute type {} in a name", Escaped(kind.as_bytes()))
            }
            Self::Address(text) => write!(out, "{} is no address", Escaped(text.as_bytes())),
            Self::Hex => write!(out, "pairs of hex digits expected"),
            Self::Pattern(text) => {
                write!(out, "{} is a pattern, one identity is needed", Escaped(text.as_bytes()))
            }
        }
    }
}

impl std::error::Error for IdentityError {}

/// One identity.
#[derive(Clone)]
pub struct Identity {
    kind: IdentityKind,
    data: Vec<u8>,
    /// Equal for identities that mean the same.
    canonical: Vec<u8>,
}

impl Identity {
    /// Longest identity taken from a payload or a configuration.
    pub const OCTETS_MAX: usize = 4096;

    /// The identity of an ID payload: its type and what follows the reserved octets.
    ///
    /// # Errors
    /// Unknown types, wrong lengths for addresses, empty or overlong data, names that do not
    /// decode.
    pub fn from_payload(kind: u8, data: &[u8]) -> Result<Self, IdentityError> {
        let known = IdentityKind::from_number(kind).ok_or(IdentityError::Kind(kind))?;
        if data.len() > Self::OCTETS_MAX {
            return Err(IdentityError::TooLong(data.len()));
        }
        let fits = match known {
            IdentityKind::Ipv4 => data.len() == 4,
            IdentityKind::Ipv6 => data.len() == 16,
            IdentityKind::Null => data.is_empty(),
            IdentityKind::Fqdn
            | IdentityKind::Rfc822
            | IdentityKind::DistinguishedName
            | IdentityKind::GeneralName
            | IdentityKind::KeyId => !data.is_empty(),
        };
        if !fits {
            return Err(IdentityError::Length { kind, octets: data.len() });
        }
        let canonical = match known {
            IdentityKind::Fqdn | IdentityKind::Rfc822 => data.to_ascii_lowercase(),
            IdentityKind::DistinguishedName => distinguished_name::canonical(data)?,
            IdentityKind::Ipv4
            | IdentityKind::Ipv6
            | IdentityKind::GeneralName
            | IdentityKind::KeyId
            | IdentityKind::Null => data.to_vec(),
        };
        Ok(Self { kind: known, data: data.to_vec(), canonical })
    }

    /// The identity of an address.
    #[must_use]
    pub fn from_address(address: IpAddr) -> Self {
        let (kind, data) = match address {
            IpAddr::V4(address) => (IdentityKind::Ipv4, address.octets().to_vec()),
            IpAddr::V6(address) => (IdentityKind::Ipv6, address.octets().to_vec()),
        };
        Self { kind, canonical: data.clone(), data }
    }

    /// An identity from configuration text, by the rules of swanctl.conf.
    ///
    /// - an IPv4 or IPv6 address;
    /// - text with `=`: a distinguished name, `C=CH, O=lab, CN=a` or `/C=CH/O=lab/CN=a`;
    /// - `@name` a domain name, `@@user@host` a mail name, `@#hex` a key id;
    /// - `user@host` a mail name; any other text without a colon a domain name, with one a
    ///   key id;
    /// - with one of the prefixes `ipv4:` `ipv6:` `fqdn:` `dns:` `rfc822:` `email:`
    ///   `userfqdn:` `asn1dn:` `asn1gn:` `keyid:` exactly that kind; after a prefix `#` and
    ///   hex digits give the octets.
    ///
    /// Text with `=` that is no name is refused, where strongSwan makes it a key id.
    ///
    /// # Errors
    /// `%any` and other patterns, which are read with [`IdentityPattern::parse`], and text
    /// that does not fit its kind.
    ///
    /// [`IdentityPattern::parse`]: crate::IdentityPattern::parse
    pub fn parse(text: &str) -> Result<Self, IdentityError> {
        let text = text.trim();
        if pattern::is_any(text) {
            return Err(IdentityError::Pattern(text.to_owned()));
        }
        if let Some((kind, value)) = prefixed(text) {
            return Self::of_kind(kind, value);
        }
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self::from_address(address));
        }
        let of = |kind: IdentityKind, data: &[u8]| Self::from_payload(kind as u8, data);
        if text.contains('=') {
            of(IdentityKind::DistinguishedName, &distinguished_name::parse(text)?)
        } else if let Some(digits) = text.strip_prefix("@#") {
            of(IdentityKind::KeyId, &hex(digits.as_bytes())?)
        } else if let Some(mail) = text.strip_prefix("@@") {
            of(IdentityKind::Rfc822, mail.as_bytes())
        } else if let Some(name) = text.strip_prefix('@') {
            of(IdentityKind::Fqdn, name.as_bytes())
        } else if text.contains('@') {
            of(IdentityKind::Rfc822, text.as_bytes())
        } else if text.contains(':') {
            of(IdentityKind::KeyId, text.as_bytes())
        } else {
            of(IdentityKind::Fqdn, text.as_bytes())
        }
    }

    fn of_kind(kind: IdentityKind, value: &str) -> Result<Self, IdentityError> {
        let of = |data: &[u8]| Self::from_payload(kind as u8, data);
        if let Some(digits) = value.strip_prefix('#') {
            return of(&hex(digits.as_bytes())?);
        }
        let address = || IdentityError::Address(value.chars().take(64).collect());
        match kind {
            IdentityKind::Ipv4 => of(&value.parse::<Ipv4Addr>().map_err(|_| address())?.octets()),
            IdentityKind::Ipv6 => of(&value.parse::<Ipv6Addr>().map_err(|_| address())?.octets()),
            IdentityKind::DistinguishedName => of(&distinguished_name::parse(value)?),
            IdentityKind::GeneralName => Err(IdentityError::Hex),
            IdentityKind::Fqdn
            | IdentityKind::Rfc822
            | IdentityKind::KeyId
            | IdentityKind::Null => of(value.as_bytes()),
        }
    }

    /// The ID type.
    #[must_use]
    pub fn kind(&self) -> IdentityKind {
        self.kind
    }

    /// The ID type's number, for the payload.
    #[must_use]
    pub fn kind_number(&self) -> u8 {
        self.kind as u8
    }

    /// The octets after the reserved ones in an ID payload.
    #[must_use]
    pub fn data(&self) -> &[u8] {
        &self.data
    }

    /// The address, if this is one.
    #[must_use]
    pub fn address(&self) -> Option<IpAddr> {
        let four = <[u8; 4]>::try_from(&self.data[..]);
        let sixteen = <[u8; 16]>::try_from(&self.data[..]);
        match (self.kind, four, sixteen) {
            (IdentityKind::Ipv4, Ok(octets), _) => Some(IpAddr::from(octets)),
            (IdentityKind::Ipv6, _, Ok(octets)) => Some(IpAddr::from(octets)),
            _ => None,
        }
    }

    /// Text that [`Identity::parse`] reads as this very identity, for a domain, mail name or
    /// key id of plain characters, an address or a name; for anything else `#` and hex.
    #[must_use]
    pub fn configuration_text(&self) -> String {
        let shown = self.to_string();
        if Self::parse(&shown).is_ok_and(|again| again == *self) {
            return shown;
        }
        let prefix = PREFIXES.iter().find(|(_, kind)| *kind == self.kind);
        let prefix = prefix.map_or("keyid:", |(prefix, _)| prefix);
        let digits: String = self.data.iter().map(|octet| format!("{octet:02x}")).collect();
        format!("{prefix}#{digits}")
    }
}

impl PartialEq for Identity {
    fn eq(&self, other: &Self) -> bool {
        self.kind == other.kind && self.canonical == other.canonical
    }
}

impl Eq for Identity {}

impl Hash for Identity {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.kind.hash(state);
        self.canonical.hash(state);
    }
}

impl PartialOrd for Identity {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Identity {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.kind, &self.canonical).cmp(&(other.kind, &other.canonical))
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Identity({:?}, {self})", self.kind)
    }
}

/// One line of harmless text; a kind that the text alone would not tell has a prefix.
impl fmt::Display for Identity {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = Escaped(&self.data);
        match self.kind {
            IdentityKind::Ipv4 | IdentityKind::Ipv6 => match self.address() {
                Some(address) => write!(out, "{address}"),
                None => write!(out, "{shown}"),
            },
            IdentityKind::Fqdn if plain_domain(&self.data) => write!(out, "{shown}"),
            IdentityKind::Fqdn => write!(out, "fqdn:{shown}"),
            IdentityKind::Rfc822 if plain_mail(&self.data) => write!(out, "{shown}"),
            IdentityKind::Rfc822 => write!(out, "email:{shown}"),
            IdentityKind::DistinguishedName => out.write_str(&distinguished_name::text(&self.data)),
            IdentityKind::GeneralName => {
                out.write_str("asn1gn:#")?;
                self.data.iter().try_for_each(|octet| write!(out, "{octet:02x}"))
            }
            IdentityKind::KeyId => write!(out, "keyid:{shown}"),
            IdentityKind::Null => out.write_str("(null)"),
        }
    }
}

fn is_name_octet(octet: &u8) -> bool {
    octet.is_ascii_alphanumeric() || b".-_".contains(octet)
}

fn plain_domain(data: &[u8]) -> bool {
    let address = str::from_utf8(data).is_ok_and(|text| text.parse::<IpAddr>().is_ok());
    data.iter().all(is_name_octet) && !address
}

fn plain_mail(data: &[u8]) -> bool {
    let mut parts = data.split(|octet| *octet == b'@');
    let both = [parts.next(), parts.next()].into_iter().flatten();
    both.filter(|part| !part.is_empty() && part.iter().all(is_name_octet)).count() == 2
        && parts.next().is_none()
}

const PREFIXES: &[(&str, IdentityKind)] = &[
    ("ipv4:", IdentityKind::Ipv4),
    ("ipv6:", IdentityKind::Ipv6),
    ("fqdn:", IdentityKind::Fqdn),
    ("dns:", IdentityKind::Fqdn),
    ("email:", IdentityKind::Rfc822),
    ("rfc822:", IdentityKind::Rfc822),
    ("userfqdn:", IdentityKind::Rfc822),
    ("asn1dn:", IdentityKind::DistinguishedName),
    ("asn1gn:", IdentityKind::GeneralName),
    ("keyid:", IdentityKind::KeyId),
];

/// The kind an explicit prefix gives, and what follows it.
fn prefixed(text: &str) -> Option<(IdentityKind, &str)> {
    PREFIXES.iter().find_map(|(prefix, kind)| {
        let start = text.get(..prefix.len())?;
        start.eq_ignore_ascii_case(prefix).then(|| (*kind, text.split_at(prefix.len()).1))
    })
}

/// Octets of hex digits; colons between pairs are allowed, as in printed key ids.
pub(crate) fn hex(digits: &[u8]) -> Result<Vec<u8>, IdentityError> {
    let digits: Vec<u8> = digits.iter().copied().filter(|octet| *octet != b':').collect();
    let (pairs, rest) = digits.as_chunks::<2>();
    if !rest.is_empty() || pairs.is_empty() {
        return Err(IdentityError::Hex);
    }
    let digit = |octet: u8| char::from(octet).to_digit(16).ok_or(IdentityError::Hex);
    let octet = |[high, low]: &[u8; 2]| Ok((digit(*high)? << 4 | digit(*low)?) as u8);
    pairs.iter().map(octet).collect()
}

#[cfg(test)]
#[path = "identity_tests.rs"]
mod tests;
