//! Pre-shared keys, EAP passwords and post-quantum keys, found by identity.

use crate::base64;
use crate::identity::pattern::{IdentityMatch, IdentityPattern};
use crate::identity::{Identity, IdentityError, IdentityKind};
use std::fmt;
use xswan_ike_crypto::Secret;
use zeroize::Zeroizing;

/// What a shared secret is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SharedSecretKind {
    /// AUTH by shared key (RFC 7296 §2.15); `ike` in swanctl.
    Ike,
    /// A password of an EAP user; `eap` in swanctl.
    Eap,
    /// An NT hash instead of a password, 16 octets; `ntlm` in swanctl.
    Ntlm,
    /// A post-quantum key (RFC 8784); `ppk` in swanctl.
    Ppk,
}

/// A secret and whose it is.
#[derive(Clone, Debug)]
pub struct SharedSecret {
    kind: SharedSecretKind,
    owners: Vec<IdentityPattern>,
    secret: Secret,
}

/// Every shared secret of the configuration.
#[derive(Clone, Debug, Default)]
pub struct SharedSecrets(Vec<SharedSecret>);

impl SharedSecrets {
    /// Adds a secret that belongs to these identities, to anybody if there are none.
    ///
    /// # Errors
    /// An owner that is no identity or pattern.
    pub fn add<'a>(
        &mut self,
        kind: SharedSecretKind,
        owners: impl IntoIterator<Item = &'a str>,
        secret: Secret,
    ) -> Result<(), IdentityError> {
        let owners: Result<Vec<_>, _> = owners.into_iter().map(IdentityPattern::parse).collect();
        self.0.push(SharedSecret { kind, owners: owners?, secret });
        Ok(())
    }

    /// How many secrets there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The pre-shared key between `local` and `remote`: the entry that fits the remote
    /// identity best, among equals the one that fits the local identity best, then the first.
    ///
    /// strongSwan's rule, with one restriction: an entry that names some peer does not serve
    /// another peer merely because it names us too. (There, the key shared with one peer
    /// would authenticate any other.)
    #[must_use]
    pub fn psk(&self, local: Option<&Identity>, remote: &Identity) -> Option<&Secret> {
        let mut best = None;
        for entry in self.of(SharedSecretKind::Ike) {
            let Some(score) = entry.score(local, remote) else { continue };
            if best.is_none_or(|(greatest, _)| score > greatest) {
                best = Some((score, &entry.secret));
            }
        }
        best.map(|(_, secret)| secret)
    }

    /// The password of an EAP user, by the name as the user sent it; never read as a pattern.
    #[must_use]
    pub fn eap_password(&self, user: &[u8]) -> Option<&Secret> {
        self.by_name(SharedSecretKind::Eap, user)
    }

    /// The NT hash of an EAP user.
    #[must_use]
    pub fn eap_nt_hash(&self, user: &[u8]) -> Option<&Secret> {
        self.by_name(SharedSecretKind::Ntlm, user)
    }

    /// The post-quantum key with this PPK_ID, without its type octet (RFC 8784 §5.1).
    #[must_use]
    pub fn ppk(&self, id: &[u8]) -> Option<&Secret> {
        self.by_name(SharedSecretKind::Ppk, id)
    }

    /// Whether there is any post-quantum pre-shared key.
    #[must_use]
    pub fn has_ppk(&self) -> bool {
        self.of(SharedSecretKind::Ppk).next().is_some()
    }

    fn of(&self, kind: SharedSecretKind) -> impl Iterator<Item = &SharedSecret> {
        self.0.iter().filter(move |entry| entry.kind == kind)
    }

    fn by_name(&self, kind: SharedSecretKind, name: &[u8]) -> Option<&Secret> {
        let mut best = None;
        for entry in self.of(kind) {
            let Some(score) = entry.name_score(name) else { continue };
            if best.is_none_or(|(greatest, _)| score > greatest) {
                best = Some((score, &entry.secret));
            }
        }
        best.map(|(_, secret)| secret)
    }
}

type Score = (Option<IdentityMatch>, Option<IdentityMatch>);

impl SharedSecret {
    fn best(&self, identity: &Identity) -> Option<IdentityMatch> {
        if self.owners.is_empty() {
            return IdentityPattern::ANY.matches(identity);
        }
        self.owners.iter().filter_map(|owner| owner.matches(identity)).max()
    }

    /// How well the entry fits a pair, the remote side first.
    fn score(&self, local: Option<&Identity>, remote: &Identity) -> Option<Score> {
        let theirs = self.best(remote);
        let ours = local.and_then(|local| self.best(local));
        let all_ours = || {
            local
                .is_some_and(|local| self.owners.iter().all(|owner| owner.matches(local).is_some()))
        };
        (theirs.is_some() || (ours.is_some() && all_ours())).then_some((theirs, ours))
    }

    fn name_score(&self, name: &[u8]) -> Option<IdentityMatch> {
        if self.owners.is_empty() {
            return Some(IdentityMatch::Any);
        }
        self.owners.iter().filter_map(|owner| name_match(owner, name)).max()
    }
}

/// A user or key name comes without an ID type, so it is compared with the owner's octets;
/// the owner's kind says whether case matters.
fn name_match(owner: &IdentityPattern, name: &[u8]) -> Option<IdentityMatch> {
    let Some(own) = owner.identity() else {
        let typed = |kind: IdentityKind| Identity::from_payload(kind as u8, name).ok();
        let kinds = [IdentityKind::Rfc822, IdentityKind::Fqdn].into_iter().filter_map(typed);
        return kinds.filter_map(|typed| owner.matches(&typed)).max();
    };
    let same = match own.kind() {
        IdentityKind::Fqdn | IdentityKind::Rfc822 => own.data().eq_ignore_ascii_case(name),
        IdentityKind::KeyId => own.data() == name,
        IdentityKind::Ipv4
        | IdentityKind::Ipv6
        | IdentityKind::DistinguishedName
        | IdentityKind::GeneralName
        | IdentityKind::Null => own.to_string().as_bytes() == name,
    };
    same.then_some(IdentityMatch::Exact)
}

/// Why text is no secret. Never holds any of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecretTextError {
    /// Nothing there.
    Empty,
    /// `0x` and something that is not pairs of hex digits.
    Hex,
    /// `0s` and something that is not base64.
    Base64,
    /// More than [`SECRET_OCTETS_MAX`] octets.
    TooLong,
}

/// Longest shared secret.
pub const SECRET_OCTETS_MAX: usize = 4096;

impl fmt::Display for SecretTextError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => write!(out, "the secret is empty"),
            Self::Hex => write!(out, "0x must be followed by pairs of hex digits"),
            Self::Base64 => write!(out, "0s must be followed by base64"),
            Self::TooLong => {
                write!(out, "the secret is longer than {SECRET_OCTETS_MAX} octets")
            }
        }
    }
}

impl std::error::Error for SecretTextError {}

/// A secret from configuration text: `0x` and hex, `0s` and base64, or the text itself.
///
/// # Errors
/// Text that does not decode, is empty or too long; the error holds none of it.
pub fn secret_from_text(text: &str) -> Result<Secret, SecretTextError> {
    if text.len() > 2 * SECRET_OCTETS_MAX {
        return Err(SecretTextError::TooLong);
    }
    let octets = if let Some(digits) = text.strip_prefix("0x").or(text.strip_prefix("0X")) {
        hex(digits.as_bytes())?
    } else if let Some(digits) = text.strip_prefix("0s").or(text.strip_prefix("0S")) {
        base64::decode(digits.as_bytes()).ok_or(SecretTextError::Base64)?
    } else {
        Zeroizing::new(text.as_bytes().to_vec())
    };
    match octets.len() {
        0 => Err(SecretTextError::Empty),
        1..=SECRET_OCTETS_MAX => Ok(Secret::from_slice(&octets)),
        _ => Err(SecretTextError::TooLong),
    }
}

fn hex(digits: &[u8]) -> Result<Zeroizing<Vec<u8>>, SecretTextError> {
    let (pairs, rest) = digits.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(SecretTextError::Hex);
    }
    let mut out = Zeroizing::new(Vec::with_capacity(pairs.len()));
    for [high, low] in pairs {
        let digit = |octet: u8| char::from(octet).to_digit(16).ok_or(SecretTextError::Hex);
        out.push((digit(*high)? << 4 | digit(*low)?) as u8);
    }
    Ok(out)
}

#[cfg(test)]
#[path = "shared_secret_tests.rs"]
mod tests;
