//! Whom a configuration accepts: identities with wildcards.

use super::{Identity, IdentityError, IdentityKind, prefixed};
use crate::distinguished_name::{self, Attribute};
use crate::escape::Escaped;
use ipnet::IpNet;
use std::fmt;
use std::net::IpAddr;

/// How well a pattern fits an identity; the greater the better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum IdentityMatch {
    /// Only because the pattern accepts anybody.
    Any,
    /// With this many attributes of a name, or a part of a domain, left open; `u8::MAX` minus
    /// that number, so that fewer open attributes are better.
    Wildcard(u8),
    /// The identity itself.
    Exact,
}

/// An identity in a configuration, possibly with parts left open.
///
/// The octets a peer sends are never read as a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityPattern(Form);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Form {
    Any,
    Exact(Identity),
    /// `*.example.org`, `*@example.org`: the kind and what must follow something.
    Suffix(IdentityKind, Vec<u8>),
    Name(Vec<Vec<Attribute>>, Vec<u8>),
    Addresses(IpAddr, IpAddr),
}

/// Whether text stands for anybody.
pub(crate) fn is_any(text: &str) -> bool {
    matches!(text, "" | "%any" | "%any4" | "%any6" | "%" | "*" | "0.0.0.0" | "::")
}

impl IdentityPattern {
    /// The pattern that accepts anybody who has an identity.
    pub const ANY: Self = Self(Form::Any);

    /// A pattern from configuration text.
    ///
    /// Everything [`Identity::parse`] reads, and `%any`; `*.example.org` (any name below that
    /// domain, at any depth) and `*@example.org`; a distinguished name in which a value is
    /// `*`, such as `C=CH, O=lab, CN=*`; an address range `10.0.0.1-10.0.0.9` or a subnet
    /// `10.0.0.0/8`, which accept address identities.
    ///
    /// # Errors
    /// Those of [`Identity::parse`], and ranges that end before they begin.
    pub fn parse(text: &str) -> Result<Self, IdentityError> {
        let text = text.trim();
        if is_any(text) {
            return Ok(Self::ANY);
        }
        if let Some(addresses) = addresses(text) {
            return addresses.map(Self);
        }
        let identity = Identity::parse(text)?;
        let plain = prefixed(text).is_none_or(|(_, value)| !value.starts_with('#'));
        Ok(Self(match identity.kind() {
            IdentityKind::Fqdn if plain && identity.data().starts_with(b"*.") => suffix(&identity),
            IdentityKind::Rfc822 if plain && identity.data().starts_with(b"*@") => {
                suffix(&identity)
            }
            IdentityKind::DistinguishedName if plain => {
                let rdns = distinguished_name::decode(identity.data())?;
                if rdns.iter().flatten().any(Attribute::is_wildcard) {
                    Form::Name(rdns, identity.data().to_vec())
                } else {
                    Form::Exact(identity)
                }
            }
            IdentityKind::Ipv4
            | IdentityKind::Fqdn
            | IdentityKind::Rfc822
            | IdentityKind::Ipv6
            | IdentityKind::DistinguishedName
            | IdentityKind::GeneralName
            | IdentityKind::KeyId
            | IdentityKind::Null => Form::Exact(identity),
        }))
    }

    /// The pattern that accepts one identity.
    #[must_use]
    pub fn exact(identity: Identity) -> Self {
        Self(Form::Exact(identity))
    }

    /// Whether anybody is accepted.
    #[must_use]
    pub fn is_any(&self) -> bool {
        self.0 == Form::Any
    }

    /// The one identity accepted, if it is only one.
    #[must_use]
    pub fn identity(&self) -> Option<&Identity> {
        match &self.0 {
            Form::Exact(identity) => Some(identity),
            Form::Any | Form::Suffix(..) | Form::Name(..) | Form::Addresses(..) => None,
        }
    }

    /// How well the pattern fits, or `None` if it does not.
    ///
    /// Strict: kinds are never converted into each other, a name in a pattern has exactly the
    /// identity's attributes in the identity's order, and nobody (ID_NULL) fits nothing.
    #[must_use]
    pub fn matches(&self, identity: &Identity) -> Option<IdentityMatch> {
        if identity.kind() == IdentityKind::Null {
            return None;
        }
        match &self.0 {
            Form::Any => Some(IdentityMatch::Any),
            Form::Exact(own) => (own == identity).then_some(IdentityMatch::Exact),
            Form::Suffix(kind, suffix) => {
                let data = identity.data().to_ascii_lowercase();
                let fits = *kind == identity.kind()
                    && data.strip_suffix(&suffix[..]).is_some_and(|rest| !rest.is_empty());
                fits.then_some(IdentityMatch::Wildcard(u8::MAX - 1))
            }
            Form::Name(pattern, _) => match_name(pattern, identity),
            Form::Addresses(first, last) => {
                let address = identity.address()?;
                let fits =
                    first.is_ipv4() == address.is_ipv4() && (*first..=*last).contains(&address);
                fits.then_some(IdentityMatch::Wildcard(u8::MAX - 1))
            }
        }
    }
}

fn suffix(identity: &Identity) -> Form {
    let data = identity.data().to_ascii_lowercase();
    Form::Suffix(identity.kind(), data.into_iter().skip(1).collect())
}

fn match_name(pattern: &[Vec<Attribute>], identity: &Identity) -> Option<IdentityMatch> {
    if identity.kind() != IdentityKind::DistinguishedName {
        return None;
    }
    let rdns = distinguished_name::decode(identity.data()).ok()?;
    if rdns.len() != pattern.len() {
        return None;
    }
    let mut open = 0u8;
    for (own, theirs) in pattern.iter().zip(&rdns) {
        if own.len() != theirs.len() {
            return None;
        }
        for (own, theirs) in own.iter().zip(theirs) {
            if own.is_wildcard() && own.kind == theirs.kind {
                open = open.saturating_add(1);
            } else if !own.same(theirs) {
                return None;
            }
        }
    }
    Some(IdentityMatch::Wildcard(u8::MAX - open))
}

/// A range or a subnet, or `None` if the text is neither.
fn addresses(text: &str) -> Option<Result<Form, IdentityError>> {
    if let Ok(net) = text.parse::<IpNet>() {
        return Some(Ok(Form::Addresses(net.network(), net.broadcast())));
    }
    let (first, last) = text.split_once('-')?;
    let first: IpAddr = first.trim().parse().ok()?;
    let last: IpAddr = last.trim().parse().ok()?;
    if first.is_ipv4() != last.is_ipv4() || first > last {
        return Some(Err(IdentityError::Address(text.chars().take(64).collect())));
    }
    Some(Ok(Form::Addresses(first, last)))
}

impl fmt::Display for IdentityPattern {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Form::Any => out.write_str("%any"),
            Form::Exact(identity) => write!(out, "{identity}"),
            Form::Suffix(_, suffix) => write!(out, "*{}", Escaped(suffix)),
            Form::Name(_, der) => out.write_str(&distinguished_name::text(der)),
            Form::Addresses(first, last) => write!(out, "{first}-{last}"),
        }
    }
}

#[cfg(test)]
#[path = "pattern_tests.rs"]
mod tests;
