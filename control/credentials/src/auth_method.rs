//! How a round of authentication may be done, in the words of swanctl's `auth`.
//!
//! The words after the kind, joined by `-`, restrict it: key types, least key sizes in bits,
//! hash functions. Words before an `ike:` bind the signatures in the certificate chain and,
//! unless `ike:` words follow, the signature in the IKE_AUTH exchange too; words after it bind
//! only that signature (RFC 7427).

use crate::escape::Escaped;
use std::fmt;
use std::str::FromStr;
use xswan_ike_crypto::HashAlgorithm;
use xswan_ike_crypto::signature::{KeyType, SignatureScheme};

/// What a round may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthMethod {
    /// Whatever the peer uses and can prove.
    Any,
    /// A shared secret (RFC 7296 §2.15).
    Psk,
    /// A signature (RFC 7296 §2.15, RFC 7427).
    Signature(SignatureRules),
    /// EAP (RFC 7296 §2.16).
    Eap(EapKind),
}

/// The EAP methods there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EapKind {
    /// Any of the others.
    Any,
    /// EAP-MSCHAPv2.
    MschapV2,
    /// EAP-TLS (RFC 5216, RFC 9190).
    Tls,
}

/// A kind of signature key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyKind {
    /// RSA.
    Rsa,
    /// ECDSA on P-256, P-384 or P-521.
    Ecdsa,
    /// Ed25519 (RFC 8420).
    Ed25519,
}

impl From<KeyType> for KeyKind {
    fn from(key: KeyType) -> Self {
        match key {
            KeyType::Rsa { .. } => Self::Rsa,
            KeyType::EcdsaP256 | KeyType::EcdsaP384 | KeyType::EcdsaP521 => Self::Ecdsa,
            KeyType::Ed25519 => Self::Ed25519,
        }
    }
}

/// Key type and padding of a scheme.
fn parts(scheme: SignatureScheme) -> (KeyKind, Option<Padding>) {
    match scheme {
        SignatureScheme::RsaPkcs1Sha1
        | SignatureScheme::RsaPkcs1Sha256
        | SignatureScheme::RsaPkcs1Sha384
        | SignatureScheme::RsaPkcs1Sha512 => (KeyKind::Rsa, Some(Padding::Pkcs1)),
        SignatureScheme::RsaPssSha256
        | SignatureScheme::RsaPssSha384
        | SignatureScheme::RsaPssSha512 => (KeyKind::Rsa, Some(Padding::Pss)),
        SignatureScheme::EcdsaSha256
        | SignatureScheme::EcdsaSha384
        | SignatureScheme::EcdsaSha512
        | SignatureScheme::Ecdsa256
        | SignatureScheme::Ecdsa384
        | SignatureScheme::Ecdsa521 => (KeyKind::Ecdsa, None),
        SignatureScheme::Ed25519 => (KeyKind::Ed25519, None),
    }
}

/// How an RSA signature is padded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Padding {
    /// RSASSA-PKCS1-v1_5.
    Pkcs1,
    /// RSASSA-PSS.
    Pss,
}

/// One acceptable combination; `None` accepts any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct SchemeRule {
    /// The key type.
    key: Option<KeyKind>,
    /// The padding, of RSA.
    padding: Option<Padding>,
    /// The hash function.
    hash: Option<HashAlgorithm>,
}

impl SchemeRule {
    fn permits(&self, key: KeyKind, padding: Option<Padding>, hash: HashAlgorithm) -> bool {
        // Ed25519 brings its own hash: asked for by name, it meets any hash asked for.
        let ed25519 = self.key == Some(KeyKind::Ed25519) && hash == HashAlgorithm::Identity;
        self.key.is_none_or(|own| own == key)
            && (self.padding.is_none() || self.padding == padding)
            && (ed25519 || self.hash.is_none_or(|own| own == hash))
    }
}

/// Which signatures are acceptable, for signing and for checking alike.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SignatureRules {
    keys: Vec<(KeyKind, Option<usize>)>,
    chain: Vec<SchemeRule>,
    ike: Vec<SchemeRule>,
}

impl SignatureRules {
    /// Whether the IKE_AUTH signature may be of this scheme, for checking a peer's.
    #[must_use]
    pub fn permits_scheme(&self, scheme: SignatureScheme) -> bool {
        let (key, padding) = parts(scheme);
        let typed = self.keys.is_empty() || self.keys.iter().any(|(own, _)| *own == key);
        let mut rules = self.ike_rules().iter();
        typed
            && (self.ike_rules().is_empty()
                || rules.any(|rule| rule.permits(key, padding, scheme.hash())))
    }

    /// The schemes for the IKE_AUTH signature, best liked first, for signing; empty if there
    /// is no restriction.
    #[must_use]
    pub fn preference(&self) -> Vec<SignatureScheme> {
        let mut liked = Vec::new();
        for rule in self.ike_rules() {
            for scheme in SignatureScheme::ALL {
                let (key, padding) = parts(scheme);
                let fits = rule.permits(key, padding, scheme.hash());
                if fits && self.permits_scheme(scheme) && !liked.contains(&scheme) {
                    liked.push(scheme);
                }
            }
        }
        liked
    }

    fn ike_rules(&self) -> &[SchemeRule] {
        if self.ike.is_empty() { &self.chain } else { &self.ike }
    }

    /// Whether a signature in the certificate chain may be of this kind.
    #[must_use]
    pub fn permits_chain(
        &self,
        key: KeyKind,
        padding: Option<Padding>,
        hash: HashAlgorithm,
    ) -> bool {
        self.chain.is_empty() || self.chain.iter().any(|rule| rule.permits(key, padding, hash))
    }

    /// Whether the peer's key may be of this type and size.
    #[must_use]
    pub fn permits_key(&self, key: KeyType) -> bool {
        let enough = |(own, least): &(KeyKind, Option<usize>)| {
            *own == key.into() && Some(key.bits()) >= *least
        };
        self.keys.is_empty() || self.keys.iter().any(enough)
    }

    /// Whether a key of an authority may be of this type and size: sizes bind the types they
    /// are given for, types do not.
    #[must_use]
    pub fn permits_authority_key(&self, key: KeyType) -> bool {
        let mut same = self.keys.iter().filter(|(own, _)| *own == key.into()).peekable();
        same.peek().is_none() || same.any(|(_, least)| Some(key.bits()) >= *least)
    }
}

/// Why a value of `auth` is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthMethodError {
    /// Nothing by that name.
    Unknown(String),
    /// Known, and not supported here: the word and why.
    Unsupported(String, &'static str),
    /// A word among the restrictions that means nothing.
    Word(String),
    /// Restrictions that no signature can meet.
    Contradiction(&'static str),
}

impl fmt::Display for AuthMethodError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        const ALLOWED: &str = "psk, pubkey, rsa, ecdsa, ed25519 (each with sizes and hashes, \
             such as rsa-3072-sha256 or ike:rsa/pss-sha384), eap, eap-mschapv2, eap-tls, any";
        match self {
            Self::Unknown(word) => {
                write!(out, "unknown method {}; allowed: {ALLOWED}", Escaped(word.as_bytes()))
            }
            Self::Unsupported(word, why) => {
                write!(out, "{} is not supported: {why}", Escaped(word.as_bytes()))
            }
            Self::Word(word) => {
                let word = Escaped(word.as_bytes());
                write!(out, "unknown word {word} in a signature restriction; allowed: {ALLOWED}")
            }
            Self::Contradiction(why) => write!(out, "no signature can be accepted: {why}"),
        }
    }
}

impl std::error::Error for AuthMethodError {}

impl FromStr for AuthMethod {
    type Err = AuthMethodError;

    fn from_str(text: &str) -> Result<Self, AuthMethodError> {
        let text = text.trim().to_ascii_lowercase();
        let unsupported =
            |why: &'static str| Err(AuthMethodError::Unsupported(shorten(&text), why));
        match text.as_str() {
            "any" => return Ok(Self::Any),
            "psk" => return Ok(Self::Psk),
            "eap" | "eap-dynamic" => return Ok(Self::Eap(EapKind::Any)),
            "eap-mschapv2" => return Ok(Self::Eap(EapKind::MschapV2)),
            "eap-tls" => return Ok(Self::Eap(EapKind::Tls)),
            "null" => return unsupported("it authenticates nobody"),
            _ => {}
        }
        if text.starts_with("xauth") || text.starts_with("hybrid") {
            return unsupported("it belongs to IKEv1");
        }
        if text.starts_with("eap-tls:") {
            return unsupported("restrictions for TLS chains cannot be given");
        }
        if text.starts_with("eap-radius") {
            return unsupported("there is no RADIUS client");
        }
        if text.starts_with("eap") {
            return unsupported("the EAP methods are eap-mschapv2 and eap-tls");
        }
        if text.starts_with("ed448") || text.starts_with("bliss") {
            return unsupported("the signature keys are rsa, ecdsa and ed25519");
        }
        signature(&text).map(Self::Signature)
    }
}

fn shorten(text: &str) -> String {
    text.chars().take(64).collect()
}

/// The words of one half of a restriction.
#[derive(Default)]
struct Words {
    keys: Vec<(KeyKind, Option<Padding>)>,
    hashes: Vec<HashAlgorithm>,
}

impl Words {
    /// Keys times hashes, in the order written, hashes outermost as they are the preference.
    fn rules(&self) -> Vec<SchemeRule> {
        let any_key = self.keys.is_empty();
        let keys = self.keys.iter().map(|(key, padding)| (Some(*key), *padding));
        let keys: Vec<_> = if any_key { vec![(None, None)] } else { keys.collect() };
        let hashes: Vec<_> = if self.hashes.is_empty() {
            vec![None]
        } else {
            self.hashes.iter().map(|hash| Some(*hash)).collect()
        };
        let rule = |hash| move |&(key, padding)| SchemeRule { key, padding, hash };
        hashes.into_iter().flat_map(|hash| keys.iter().map(rule(hash))).collect()
    }
}

fn signature(text: &str) -> Result<SignatureRules, AuthMethodError> {
    let mut rules = SignatureRules::default();
    let (mut chain, mut ike): (Words, Option<Words>) = Default::default();
    for (index, word) in text.split('-').enumerate() {
        let bare = word.strip_prefix("ike:").unwrap_or(word);
        if bare.len() < word.len() && ike.is_none() {
            ike = Some(Words::default());
        }
        let is_ike = ike.is_some();
        let words = ike.as_mut().unwrap_or(&mut chain);
        let key = match bare {
            "pubkey" => continue,
            "rsa" => Some((KeyKind::Rsa, None)),
            "rsa/pss" => Some((KeyKind::Rsa, Some(Padding::Pss))),
            "rsa/pkcs1" => Some((KeyKind::Rsa, Some(Padding::Pkcs1))),
            "ecdsa" => Some((KeyKind::Ecdsa, None)),
            "ed25519" => Some((KeyKind::Ed25519, None)),
            _ if index == 0 => return Err(AuthMethodError::Unknown(shorten(bare))),
            _ => None,
        };
        if let Some((kind, padding)) = key {
            words.keys.push((kind, padding));
            if !is_ike {
                rules.keys.push((kind, None));
            }
            continue;
        }
        match bare {
            "sha256" => words.hashes.push(HashAlgorithm::Sha256),
            "sha384" => words.hashes.push(HashAlgorithm::Sha384),
            "sha512" => words.hashes.push(HashAlgorithm::Sha512),
            "identity" => words.hashes.push(HashAlgorithm::Identity),
            "sha1" => {
                let why = "SHA-1 signatures are not accepted (RFC 8247)";
                return Err(AuthMethodError::Unsupported(shorten(bare), why));
            }
            _ => least_size(bare, is_ike, &mut rules)?,
        }
    }
    if !chain.hashes.is_empty() {
        rules.chain = chain.rules();
    } else if ike.is_none() && chain.keys.iter().any(|(_, padding)| padding.is_some()) {
        // A padding without a hash says how the peer is to sign, not how authorities did.
        rules.ike = chain.rules();
    }
    if let Some(ike) = &ike {
        rules.ike = ike.rules();
    }
    contradictions(&rules).map(|()| rules)
}

/// No key is larger.
const KEY_BITS_MAX: usize = 16384;

/// A number after a key type is its least size.
fn least_size(word: &str, is_ike: bool, rules: &mut SignatureRules) -> Result<(), AuthMethodError> {
    let bits = word.parse().ok().filter(|bits| (1..=KEY_BITS_MAX).contains(bits));
    let bits = bits.ok_or_else(|| AuthMethodError::Word(shorten(word)))?;
    match rules.keys.last_mut() {
        Some((_, least)) if !is_ike && least.is_none() => *least = Some(bits),
        _ => return Err(AuthMethodError::Word(shorten(word))),
    }
    Ok(())
}

/// Words that leave no scheme must not read as no restriction.
fn contradictions(rules: &SignatureRules) -> Result<(), AuthMethodError> {
    if !rules.ike_rules().is_empty() && rules.preference().is_empty() {
        let why = "the key types and hashes asked for do not go together";
        return Err(AuthMethodError::Contradiction(why));
    }
    Ok(())
}

#[cfg(test)]
#[path = "auth_method_tests.rs"]
mod tests;
