//! Pseudorandom functions and prf+ (RFC 7296 section 2.13, RFC 4868).

use std::fmt;

use aws_lc_rs::hmac;

use crate::digest;
use crate::secret::Secret;

/// A negotiated prf: HMAC over SHA-2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Prf {
    /// PRF_HMAC_SHA2_256, 5.
    HmacSha256,
    /// PRF_HMAC_SHA2_384, 6.
    HmacSha384,
    /// PRF_HMAC_SHA2_512, 7.
    HmacSha512,
}

/// More than 255 blocks were asked of prf+, whose counter is one octet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PrfPlusTooLong;

impl fmt::Display for PrfPlusTooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("prf+ gives at most 255 blocks")
    }
}

impl std::error::Error for PrfPlusTooLong {}

impl Prf {
    /// Every prf, in order of transform id.
    pub const ALL: [Self; 3] = [Self::HmacSha256, Self::HmacSha384, Self::HmacSha512];

    /// The prf with this transform id (type 2).
    #[must_use]
    pub const fn from_transform_id(id: u16) -> Option<Self> {
        match id {
            5 => Some(Self::HmacSha256),
            6 => Some(Self::HmacSha384),
            7 => Some(Self::HmacSha512),
            _ => None,
        }
    }

    /// Its transform id.
    #[must_use]
    pub const fn id(self) -> u16 {
        match self {
            Self::HmacSha256 => 5,
            Self::HmacSha384 => 6,
            Self::HmacSha512 => 7,
        }
    }

    /// Its name in listings.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::HmacSha256 => "PRF_HMAC_SHA2_256",
            Self::HmacSha384 => "PRF_HMAC_SHA2_384",
            Self::HmacSha512 => "PRF_HMAC_SHA2_512",
        }
    }

    /// Preferred key length in octets, which is the output length too (RFC 4868 section 2.1.2).
    #[must_use]
    pub const fn key_len(self) -> usize {
        match self {
            Self::HmacSha256 => 32,
            Self::HmacSha384 => 48,
            Self::HmacSha512 => 64,
        }
    }

    /// `prf(key, parts[0] | parts[1] | …)`; a key of any length.
    #[must_use]
    pub fn compute(self, key: &[u8], parts: &[&[u8]]) -> Secret {
        digest::hmac_secret(self.algorithm(), key, parts)
    }

    /// The first `len` octets of `prf+(key, seed[0] | seed[1] | …)`.
    ///
    /// # Errors
    ///
    /// [`PrfPlusTooLong`] beyond 255 blocks.
    pub fn prf_plus(
        self,
        key: &[u8],
        seed: &[&[u8]],
        len: usize,
    ) -> Result<Secret, PrfPlusTooLong> {
        let block_len = self.key_len();
        let blocks = u8::try_from(len.div_ceil(block_len)).map_err(|_| PrfPlusTooLong)?;
        // Full capacity at once: a vector that grows leaves unwiped copies behind.
        let mut out = Secret::from_vec(Vec::with_capacity(usize::from(blocks) * block_len));
        let mut previous = Secret::default();
        for number in 1..=blocks {
            let number = [number];
            let mut parts = Vec::with_capacity(seed.len() + 2);
            parts.push(previous.as_bytes());
            parts.extend_from_slice(seed);
            parts.push(&number);
            let block = self.compute(key, &parts);
            out.append(&block);
            previous = block;
        }
        out.truncate(len);
        Ok(out)
    }

    pub(crate) const fn algorithm(self) -> hmac::Algorithm {
        match self {
            Self::HmacSha256 => hmac::HMAC_SHA256,
            Self::HmacSha384 => hmac::HMAC_SHA384,
            Self::HmacSha512 => hmac::HMAC_SHA512,
        }
    }
}

impl fmt::Display for Prf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
