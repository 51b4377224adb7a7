//! The key schedule as typed stages (RFC 7296 sections 2.13 to 2.18, RFC 8784, RFC 9370).
//!
//! ```text
//! Ni, Nr, g^ir ──────────▶ Skeyseed ──▶ IkeKeys ──▶ child_keymat
//! old SK_d, SK(0..n) ────▶                │ ▲
//!                                         └─┘ additional key exchange, PPK
//! ```
//!
//! A [`Skeyseed`] is consumed by [`IkeKeys::derive`]; nothing else can be done with it.

use std::fmt;

use zeroize::Zeroizing;

use crate::prf::{Prf, PrfPlusTooLong};
use crate::secret::Secret;
use crate::suite::Suite;

/// SKEYSEED: the root of one generation of keys, and the prf that expands it.
#[derive(Debug)]
pub struct Skeyseed(Secret);

impl Skeyseed {
    /// First keys of an IKE SA: `prf(Ni | Nr, g^ir)` (RFC 7296 section 2.14).
    #[must_use]
    pub fn initial(prf: Prf, nonce_i: &[u8], nonce_r: &[u8], shared: &Secret) -> Self {
        let key = Zeroizing::new([nonce_i, nonce_r].concat());
        Self(prf.compute(&key, &[shared.as_bytes()]))
    }

    /// Keys of a rekeyed IKE SA, with the *old* SA's prf and SK_d (RFC 7296 section 2.18):
    /// `prf(SK_d, SK(0) | Ni | Nr | SK(1) | …)`, where `shared` is the result of the key
    /// exchange of CREATE_CHILD_SA and `additional` those that followed (RFC 9370 section
    /// 2.2.4).
    #[must_use]
    pub fn rekeyed(
        old_prf: Prf,
        old_sk_d: &Secret,
        shared: &Secret,
        (nonce_i, nonce_r): (&[u8], &[u8]),
        additional: &[Secret],
    ) -> Self {
        let mut parts = vec![shared.as_bytes(), nonce_i, nonce_r];
        parts.extend(additional.iter().map(Secret::as_bytes));
        Self(old_prf.compute(old_sk_d.as_bytes(), &parts))
    }

    /// Keys after an additional key exchange in IKE_INTERMEDIATE:
    /// `prf(SK_d(n-1), SK(n) | Ni | Nr)` (RFC 9370 section 2.2.2).
    #[must_use]
    pub fn additional(
        prf: Prf,
        sk_d: &Secret,
        shared: &Secret,
        nonce_i: &[u8],
        nonce_r: &[u8],
    ) -> Self {
        Self(prf.compute(sk_d.as_bytes(), &[shared.as_bytes(), nonce_i, nonce_r]))
    }

    /// Keys of a resumed IKE SA: `prf(SK_d_old, "Resumption" | Ni | Nr)` (RFC 5723 section 5.1).
    #[must_use]
    pub fn resumed(prf: Prf, old_sk_d: &Secret, nonce_i: &[u8], nonce_r: &[u8]) -> Self {
        Self(prf.compute(old_sk_d.as_bytes(), &[b"Resumption", nonce_i, nonce_r]))
    }
}

/// The seven keys of an IKE SA.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IkeKeys {
    /// Derives keys of Child SAs and of the next IKE SA.
    pub sk_d: Secret,
    /// Integrity, initiator to responder. Empty with a combined-mode cipher.
    pub sk_ai: Secret,
    /// Integrity, responder to initiator. Empty with a combined-mode cipher.
    pub sk_ar: Secret,
    /// Encryption, initiator to responder: key and salt.
    pub sk_ei: Secret,
    /// Encryption, responder to initiator: key and salt.
    pub sk_er: Secret,
    /// Authentication of the initiator's IDi.
    pub sk_pi: Secret,
    /// Authentication of the responder's IDr.
    pub sk_pr: Secret,
}

/// Why keys cannot be made, or not be read back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeymatError {
    /// More key material than prf+ gives.
    TooLong,
    /// Stored keys of another version or length than the suite has.
    Malformed,
    /// A post-quantum preshared key of no octets.
    PpkEmpty,
}

impl fmt::Display for KeymatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong => PrfPlusTooLong.fmt(f),
            Self::Malformed => f.write_str("stored keys do not fit the suite"),
            Self::PpkEmpty => f.write_str("the PPK is empty"),
        }
    }
}

impl std::error::Error for KeymatError {}

impl From<PrfPlusTooLong> for KeymatError {
    fn from(PrfPlusTooLong: PrfPlusTooLong) -> Self {
        Self::TooLong
    }
}

/// First octet of exported keys; another layout gets another number.
const EXPORT_VERSION: u8 = 1;

impl IkeKeys {
    /// `prf+(SKEYSEED, Ni | Nr | SPIi | SPIr)` cut into the seven keys (RFC 7296 section 2.14).
    ///
    /// The prf and the lengths are those of `suite`, which after an IKE rekey is the *new*
    /// one. SPIs are the numbers of the IKE header read as big endian.
    ///
    /// # Errors
    ///
    /// [`KeymatError::TooLong`] for lengths no suite of this crate has.
    #[expect(clippy::needless_pass_by_value, reason = "a SKEYSEED is used once")]
    pub fn derive(
        skeyseed: Skeyseed,
        suite: &Suite,
        (nonce_i, nonce_r): (&[u8], &[u8]),
        (spi_i, spi_r): (u64, u64),
    ) -> Result<Self, KeymatError> {
        let lens = Self::lens(suite);
        let prf = suite.prf();
        let seed: [&[u8]; 4] = [nonce_i, nonce_r, &spi_i.to_be_bytes(), &spi_r.to_be_bytes()];
        let keymat = prf.prf_plus(skeyseed.0.as_bytes(), &seed, lens.iter().sum())?;
        Self::cut(keymat.as_bytes(), lens).ok_or(KeymatError::TooLong)
    }

    /// Mixes in a post-quantum preshared key: SK_d, SK_pi and SK_pr become `prf+(PPK, old)`
    /// (RFC 8784 section 3). Only for the first IKE SA, before IKE_AUTH is computed.
    ///
    /// # Errors
    ///
    /// [`KeymatError::PpkEmpty`]: an empty key adds nothing and is always a mistake.
    pub fn with_ppk(&mut self, prf: Prf, ppk: &Secret) -> Result<(), KeymatError> {
        if ppk.is_empty() {
            return Err(KeymatError::PpkEmpty);
        }
        for key in [&mut self.sk_d, &mut self.sk_pi, &mut self.sk_pr] {
            *key = prf.prf_plus(ppk.as_bytes(), &[key.as_bytes()], key.len())?;
        }
        Ok(())
    }

    /// All keys in one string, to be stored encrypted and read by [`IkeKeys::import`].
    #[must_use]
    pub fn export(&self) -> Secret {
        let keys = self.in_order();
        let mut out = Vec::with_capacity(1 + keys.iter().map(|key| key.len()).sum::<usize>());
        out.push(EXPORT_VERSION);
        for key in keys {
            out.extend_from_slice(key.as_bytes());
        }
        Secret::from_vec(out)
    }

    /// Reads what [`IkeKeys::export`] wrote for an SA of the same suite.
    ///
    /// # Errors
    ///
    /// [`KeymatError::Malformed`] for another version or length.
    pub fn import(suite: &Suite, octets: &[u8]) -> Result<Self, KeymatError> {
        match octets.split_first() {
            Some((&EXPORT_VERSION, keys)) => {
                Self::cut(keys, Self::lens(suite)).ok_or(KeymatError::Malformed)
            }
            Some(_) | None => Err(KeymatError::Malformed),
        }
    }

    /// SK_e and SK_a for what the initiator (`true`) or the responder sends.
    #[must_use]
    pub const fn sent_by(&self, initiator: bool) -> (&Secret, &Secret) {
        if initiator { (&self.sk_ei, &self.sk_ai) } else { (&self.sk_er, &self.sk_ar) }
    }

    const fn in_order(&self) -> [&Secret; 7] {
        [&self.sk_d, &self.sk_ai, &self.sk_ar, &self.sk_ei, &self.sk_er, &self.sk_pi, &self.sk_pr]
    }

    const fn lens(suite: &Suite) -> [usize; 7] {
        let prf = suite.prf().key_len();
        let integrity = suite.integrity_key_len();
        let encryption = suite.encryption().keymat_len();
        [prf, integrity, integrity, encryption, encryption, prf, prf]
    }

    /// `None` unless `octets` has exactly the length.
    fn cut(octets: &[u8], lens: [usize; 7]) -> Option<Self> {
        let mut rest = octets;
        let mut next = |len| {
            let (key, tail) = rest.split_at_checked(len)?;
            rest = tail;
            Some(Secret::from_slice(key))
        };
        let [d, ai, ar, ei, er, pi, pr] = lens;
        let keys = Self {
            sk_d: next(d)?,
            sk_ai: next(ai)?,
            sk_ar: next(ar)?,
            sk_ei: next(ei)?,
            sk_er: next(er)?,
            sk_pi: next(pi)?,
            sk_pr: next(pr)?,
        };
        rest.is_empty().then_some(keys)
    }
}

/// Key material of a Child SA: `prf+(SK_d, [SK(0) |] Ni | Nr [| SK(1) | …])`, `len` octets
/// (RFC 7296 section 2.17, RFC 9370 section 2.2.4).
///
/// `shared` is empty without a key exchange of its own; its first element is SK(0). The caller
/// takes from the front: keys for initiator to responder, encryption before integrity, then
/// the other way.
///
/// # Errors
///
/// [`KeymatError::TooLong`] beyond 255 blocks of the prf.
pub fn child_keymat(
    prf: Prf,
    sk_d: &Secret,
    shared: &[Secret],
    (nonce_i, nonce_r): (&[u8], &[u8]),
    len: usize,
) -> Result<Secret, KeymatError> {
    let mut seed: Vec<&[u8]> = Vec::with_capacity(shared.len() + 2);
    let (first, additional) = shared.split_at(shared.len().min(1));
    seed.extend(first.iter().map(Secret::as_bytes));
    seed.extend([nonce_i, nonce_r]);
    seed.extend(additional.iter().map(Secret::as_bytes));
    Ok(prf.prf_plus(sk_d.as_bytes(), &seed, len)?)
}

/// AUTH of the shared key method: `prf(prf(secret, "Key Pad for IKEv2"), signed octets)`
/// (RFC 7296 section 2.15). With EAP that yields a key, `secret` is the MSK; otherwise SK_pi or
/// SK_pr (section 2.16).
#[must_use]
pub fn shared_key_auth(prf: Prf, secret: &[u8], signed_octets: &[&[u8]]) -> Secret {
    let key = prf.compute(secret, &[b"Key Pad for IKEv2"]);
    prf.compute(key.as_bytes(), signed_octets)
}

#[cfg(test)]
mod tests;
