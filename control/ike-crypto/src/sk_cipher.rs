//! Protection of SK and SKF payloads, one direction of one IKE SA (RFC 7296 section 3.14, RFC
//! 5282, RFC 7383 section 2.5).
//!
//! ```text
//! IKE header … SK generic header [fragment number, total] │ IV │ ciphertext │ ICV
//! └───────────────────── aad ─────────────────────────────┘└───── body ─────────┘
//! ```
//!
//! The caller passes everything in front of the IV as `aad`, with its final lengths
//! ([`SkCipher::body_len`]): 32 octets for SK, 36 for SKF when no clear payload precedes it. A
//! combined-mode cipher takes it as associated data; with AES-CBC the ICV covers `aad`, IV and
//! ciphertext, which are the same octets of the message.
//!
//! The IV of a combined-mode cipher is a counter that this type owns: no two messages under one
//! key share it, unless the key is used again from an earlier position. Whoever stores the keys
//! stores [`SkCipher::iv_position`] too and calls [`SkCipher::skip_ahead`] after a restart.

use std::fmt;

use aes::cipher::{
    BlockModeDecrypt, BlockModeEncrypt, KeyInit, KeyIvInit, block_padding::NoPadding,
};
use aws_lc_rs::{aead, hmac};
use zeroize::Zeroize;

use crate::digest;
use crate::random::Random;
use crate::secret::{Secret, constant_time_eq};
use crate::suite::{Encryption, Integrity, Suite};

/// Octets of the ICV of a combined-mode cipher.
const AEAD_ICV_LEN: usize = 16;
/// Octets of an AES block.
const BLOCK_LEN: usize = 16;
/// Octets of the explicit IV of a combined-mode cipher.
const COUNTER_LEN: usize = 8;

/// Why a message was not protected, or not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SkError {
    /// Keys whose lengths do not fit the suite.
    KeyLength,
    /// Too short, or not whole blocks.
    Length,
    /// The ICV is wrong: somebody else's message, or a changed one.
    Integrity,
    /// The ICV is right and the padding is longer than the plaintext: a faulty peer.
    Padding,
    /// No IV is left under this key.
    IvExhausted,
    /// The cryptographic library refused; nothing was sent.
    Backend,
}

impl fmt::Display for SkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::KeyLength => "key of the wrong length for the cipher",
            Self::Length => "encrypted payload of an impossible length",
            Self::Integrity => "integrity check failed",
            Self::Padding => "padding longer than the payload",
            Self::IvExhausted => "no IV left under this key",
            Self::Backend => "the cipher failed",
        })
    }
}

impl std::error::Error for SkError {}

/// Seals or opens the messages of one direction.
pub struct SkCipher {
    encryption: Encryption,
    cipher: Cipher,
}

enum Cipher {
    Aead { key: Box<aead::LessSafeKey>, salt: [u8; 4], iv: IvCounter },
    Cbc { key: Secret, integrity: Integrity, integrity_key: Secret },
}

/// The next explicit IV: `prefix` in the high bits, a counter below.
struct IvCounter {
    prefix: u64,
    counter_bits: u32,
    next: u64,
}

impl SkCipher {
    /// The cipher of `suite` under one direction's SK_e and SK_a ([`crate::IkeKeys::sent_by`]).
    ///
    /// # Errors
    ///
    /// [`SkError::KeyLength`].
    pub fn new(suite: &Suite, sk_e: &Secret, sk_a: &Secret) -> Result<Self, SkError> {
        let encryption = suite.encryption();
        if sk_e.len() != encryption.keymat_len() || sk_a.len() != suite.integrity_key_len() {
            return Err(SkError::KeyLength);
        }
        let cipher = match suite.integrity() {
            Some(integrity) => {
                Cipher::Cbc { key: sk_e.clone(), integrity, integrity_key: sk_a.clone() }
            }
            None => {
                let algorithm = aead_algorithm(encryption).ok_or(SkError::KeyLength)?;
                let (key, salt) =
                    sk_e.as_bytes().split_last_chunk::<4>().ok_or(SkError::KeyLength)?;
                let key = aead::UnboundKey::new(algorithm, key).map_err(|_| SkError::KeyLength)?;
                let iv = IvCounter { prefix: 0, counter_bits: u64::BITS, next: 0 };
                Cipher::Aead { key: Box::new(aead::LessSafeKey::new(key)), salt: *salt, iv }
            }
        };
        Ok(Self { encryption, cipher })
    }

    /// The same cipher with `prefix` in the highest `prefix_bits` of every IV, so that several
    /// members of a cluster can send under one key. No effect with AES-CBC, whose IVs are
    /// random.
    ///
    /// # Errors
    ///
    /// [`SkError::IvExhausted`] if more than 32 bits, or if `prefix` does not fit them.
    pub fn with_iv_prefix(mut self, prefix: u32, prefix_bits: u32) -> Result<Self, SkError> {
        if prefix_bits > u32::BITS || u64::from(prefix) >> prefix_bits != 0 {
            return Err(SkError::IvExhausted);
        }
        if let Cipher::Aead { iv, .. } = &mut self.cipher {
            iv.counter_bits = u64::BITS - prefix_bits;
            iv.prefix = u64::from(prefix).checked_shl(iv.counter_bits).unwrap_or(0);
        }
        Ok(self)
    }

    /// How many messages were sealed, skipped ones included; 0 with AES-CBC.
    #[must_use]
    pub const fn iv_position(&self) -> u64 {
        match &self.cipher {
            Cipher::Aead { iv, .. } => iv.next,
            Cipher::Cbc { .. } => 0,
        }
    }

    /// Never uses the next `count` IVs. Beyond the last one, sealing fails for good.
    pub const fn skip_ahead(&mut self, count: u64) {
        if let Cipher::Aead { iv, .. } = &mut self.cipher {
            iv.next = iv.next.saturating_add(count);
        }
    }

    /// Octets of IV, ciphertext and ICV for a plaintext of this length, which is what the
    /// lengths in the headers need before sealing.
    #[must_use]
    pub const fn body_len(&self, plaintext_len: usize) -> usize {
        let padded = match &self.cipher {
            Cipher::Aead { .. } => plaintext_len.saturating_add(1),
            Cipher::Cbc { .. } => {
                (plaintext_len / BLOCK_LEN).saturating_add(1).saturating_mul(BLOCK_LEN)
            }
        };
        padded.saturating_add(self.encryption.iv_len() + self.icv_len())
    }

    /// The most octets a body is longer than its plaintext.
    #[must_use]
    pub const fn overhead(&self) -> usize {
        let padding = match &self.cipher {
            Cipher::Aead { .. } => 1,
            Cipher::Cbc { .. } => BLOCK_LEN,
        };
        self.encryption.iv_len() + padding + self.icv_len()
    }

    /// Octets of ICV.
    #[must_use]
    pub const fn icv_len(&self) -> usize {
        match &self.cipher {
            Cipher::Aead { .. } => AEAD_ICV_LEN,
            Cipher::Cbc { integrity, .. } => integrity.icv_len(),
        }
    }

    /// Seals the inner payloads: IV, ciphertext, ICV. Padding and Pad Length are added here.
    ///
    /// A message that is sent again must be the stored octets, not sealed again.
    ///
    /// # Errors
    ///
    /// [`SkError::IvExhausted`], [`SkError::Backend`].
    pub fn seal(
        &mut self,
        random: &mut dyn Random,
        aad: &[u8],
        plaintext: &[u8],
    ) -> Result<Vec<u8>, SkError> {
        let iv_len = self.encryption.iv_len();
        let body_len = self.body_len(plaintext.len());
        let mut body = Vec::with_capacity(body_len);
        body.resize(iv_len, 0);
        body.extend_from_slice(plaintext);
        // Padding of zeros up to the Pad Length octet, which counts them.
        let pad_len = body_len - self.icv_len() - iv_len - plaintext.len() - 1;
        body.resize(body.len() + pad_len, 0);
        body.push(u8::try_from(pad_len).map_err(|_| SkError::Length)?);
        match &mut self.cipher {
            Cipher::Aead { key, salt, iv } => {
                let explicit = iv.take()?.to_be_bytes();
                let (head, in_out) =
                    body.split_first_chunk_mut::<COUNTER_LEN>().ok_or(SkError::Length)?;
                *head = explicit;
                let tag = key
                    .seal_in_place_separate_tag(
                        nonce(*salt, explicit),
                        aead::Aad::from(aad),
                        in_out,
                    )
                    .map_err(|_| SkError::Backend)?;
                body.extend_from_slice(tag.as_ref());
            }
            Cipher::Cbc { key, integrity, integrity_key } => {
                let (iv, blocks) =
                    body.split_first_chunk_mut::<BLOCK_LEN>().ok_or(SkError::Length)?;
                random.fill(iv);
                cbc_seal(self.encryption, key.as_bytes(), iv, blocks)?;
                let tag = mac(*integrity, integrity_key, &[aad, &body]);
                body.extend_from_slice(tag.as_bytes());
            }
        }
        Ok(body)
    }

    /// Verifies and opens a body; returns the inner payloads without padding and Pad Length.
    ///
    /// Nothing is decrypted before the ICV of AES-CBC has been verified, so padding tells an
    /// outsider nothing.
    ///
    /// # Errors
    ///
    /// [`SkError::Length`], [`SkError::Integrity`] for a body that is not the peer's,
    /// [`SkError::Padding`] for one that is and is broken.
    pub fn open(&self, aad: &[u8], body: &[u8]) -> Result<Vec<u8>, SkError> {
        let mut plaintext = match &self.cipher {
            Cipher::Aead { key, salt, .. } => {
                let (explicit, sealed) =
                    body.split_first_chunk::<COUNTER_LEN>().ok_or(SkError::Length)?;
                if sealed.len() < 1 + AEAD_ICV_LEN {
                    return Err(SkError::Length);
                }
                let mut in_out = sealed.to_vec();
                let len = key
                    .open_in_place(nonce(*salt, *explicit), aead::Aad::from(aad), &mut in_out)
                    .map_err(|_| SkError::Integrity)?
                    .len();
                in_out.truncate(len);
                in_out
            }
            Cipher::Cbc { key, integrity, integrity_key } => {
                let at = body.len().checked_sub(integrity.icv_len()).ok_or(SkError::Length)?;
                let (covered, icv) = body.split_at_checked(at).ok_or(SkError::Length)?;
                let (iv, blocks) =
                    covered.split_first_chunk::<BLOCK_LEN>().ok_or(SkError::Length)?;
                if blocks.is_empty() || !blocks.len().is_multiple_of(BLOCK_LEN) {
                    return Err(SkError::Length);
                }
                let expected = mac(*integrity, integrity_key, &[aad, covered]);
                if !constant_time_eq(expected.as_bytes(), icv) {
                    return Err(SkError::Integrity);
                }
                let mut in_out = blocks.to_vec();
                cbc_open(self.encryption, key.as_bytes(), iv, &mut in_out)?;
                in_out
            }
        };
        let pad_len = plaintext.pop().map(usize::from).ok_or(SkError::Padding)?;
        let Some(len) = plaintext.len().checked_sub(pad_len) else {
            plaintext.zeroize();
            return Err(SkError::Padding);
        };
        plaintext.truncate(len);
        Ok(plaintext)
    }
}

impl fmt::Debug for SkCipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SkCipher")
            .field("encryption", &self.encryption)
            .field("iv_position", &self.iv_position())
            .finish_non_exhaustive()
    }
}

impl Drop for Cipher {
    fn drop(&mut self) {
        if let Self::Aead { salt, .. } = self {
            salt.zeroize();
        }
    }
}

impl IvCounter {
    fn take(&mut self) -> Result<u64, SkError> {
        // The last value is given up, so that "one past" can always be written down.
        let last = u64::MAX >> (u64::BITS - self.counter_bits);
        if self.next >= last {
            return Err(SkError::IvExhausted);
        }
        let iv = self.prefix | self.next;
        self.next += 1;
        Ok(iv)
    }
}

fn nonce(salt: [u8; 4], explicit: [u8; COUNTER_LEN]) -> aead::Nonce {
    let mut octets = [0; aead::NONCE_LEN];
    let (front, back) = octets.split_at_mut(salt.len());
    front.copy_from_slice(&salt);
    back.copy_from_slice(&explicit);
    aead::Nonce::assume_unique_for_key(octets)
}

const fn aead_algorithm(encryption: Encryption) -> Option<&'static aead::Algorithm> {
    match encryption {
        Encryption::Aes128Gcm16 => Some(&aead::AES_128_GCM),
        Encryption::Aes192Gcm16 => Some(&aead::AES_192_GCM),
        Encryption::Aes256Gcm16 => Some(&aead::AES_256_GCM),
        Encryption::ChaCha20Poly1305 => Some(&aead::CHACHA20_POLY1305),
        Encryption::Aes128Cbc | Encryption::Aes192Cbc | Encryption::Aes256Cbc => None,
    }
}

/// The truncated HMAC of an integrity transform.
fn mac(integrity: Integrity, key: &Secret, parts: &[&[u8]]) -> Secret {
    let algorithm = match integrity {
        Integrity::HmacSha256_128 => hmac::HMAC_SHA256,
        Integrity::HmacSha384_192 => hmac::HMAC_SHA384,
        Integrity::HmacSha512_256 => hmac::HMAC_SHA512,
    };
    let mut tag = digest::hmac_secret(algorithm, key.as_bytes(), parts);
    tag.truncate(integrity.icv_len());
    tag
}

fn cbc_seal(
    encryption: Encryption,
    key: &[u8],
    iv: &[u8; BLOCK_LEN],
    blocks: &mut [u8],
) -> Result<(), SkError> {
    fn run<C>(key: &[u8], iv: &[u8; BLOCK_LEN], blocks: &mut [u8]) -> Result<(), SkError>
    where
        C: aes::cipher::BlockCipherEncrypt + KeyInit,
        cbc::Encryptor<C>: KeyIvInit + BlockModeEncrypt,
    {
        let len = blocks.len();
        cbc::Encryptor::<C>::new_from_slices(key, iv)
            .map_err(|_| SkError::KeyLength)?
            .encrypt_padded::<NoPadding>(blocks, len)
            .map(drop)
            .map_err(|_| SkError::Length)
    }
    match encryption {
        Encryption::Aes128Cbc => run::<aes::Aes128>(key, iv, blocks),
        Encryption::Aes192Cbc => run::<aes::Aes192>(key, iv, blocks),
        Encryption::Aes256Cbc => run::<aes::Aes256>(key, iv, blocks),
        Encryption::Aes128Gcm16
        | Encryption::Aes192Gcm16
        | Encryption::Aes256Gcm16
        | Encryption::ChaCha20Poly1305 => Err(SkError::KeyLength),
    }
}

fn cbc_open(
    encryption: Encryption,
    key: &[u8],
    iv: &[u8; BLOCK_LEN],
    blocks: &mut [u8],
) -> Result<(), SkError> {
    fn run<C>(key: &[u8], iv: &[u8; BLOCK_LEN], blocks: &mut [u8]) -> Result<(), SkError>
    where
        C: aes::cipher::BlockCipherDecrypt + KeyInit,
        cbc::Decryptor<C>: KeyIvInit + BlockModeDecrypt,
    {
        cbc::Decryptor::<C>::new_from_slices(key, iv)
            .map_err(|_| SkError::KeyLength)?
            .decrypt_padded::<NoPadding>(blocks)
            .map(drop)
            .map_err(|_| SkError::Length)
    }
    match encryption {
        Encryption::Aes128Cbc => run::<aes::Aes128>(key, iv, blocks),
        Encryption::Aes192Cbc => run::<aes::Aes192>(key, iv, blocks),
        Encryption::Aes256Cbc => run::<aes::Aes256>(key, iv, blocks),
        Encryption::Aes128Gcm16
        | Encryption::Aes192Gcm16
        | Encryption::Aes256Gcm16
        | Encryption::ChaCha20Poly1305 => Err(SkError::KeyLength),
    }
}

#[cfg(test)]
mod tests;
