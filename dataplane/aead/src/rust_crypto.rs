//! The portable back-end: RustCrypto's `aes-gcm` and `chacha20poly1305`.
//!
//! Constant time with and without AES instructions; key schedules are wiped on drop by the
//! libraries themselves.

use aes_gcm::aead::consts::U12;
use aes_gcm::aead::inout::InOutBuf;
use aes_gcm::aead::{AeadInOut, KeyInit};
use aes_gcm::aes::Aes192;
use aes_gcm::{Aes128Gcm, Aes256Gcm, AesGcm};
use chacha20poly1305::ChaCha20Poly1305;

use crate::Algorithm;

/// Boxed: key schedules are hundreds of bytes, and an SA's other state should stay together.
pub(crate) enum Cipher {
    Aes128(Box<Aes128Gcm>),
    Aes192(Box<AesGcm<Aes192, U12>>),
    Aes256(Box<Aes256Gcm>),
    ChaCha20(Box<ChaCha20Poly1305>),
}

impl Cipher {
    pub(crate) fn new(algorithm: Algorithm, key: &[u8]) -> Option<Self> {
        Some(match algorithm {
            Algorithm::Aes128Gcm16 => Self::Aes128(boxed(key)?),
            Algorithm::Aes192Gcm16 => Self::Aes192(boxed(key)?),
            Algorithm::Aes256Gcm16 => Self::Aes256(boxed(key)?),
            Algorithm::ChaCha20Poly1305 => Self::ChaCha20(boxed(key)?),
            Algorithm::AesCbcHmac { .. } => return None,
        })
    }

    #[inline]
    pub(crate) fn seal(&self, nonce: &[u8; 12], aad: &[u8], text: &mut [u8]) -> Option<[u8; 16]> {
        let (nonce, text) = (nonce.into(), InOutBuf::from(text));
        let tag = match self {
            Self::Aes128(cipher) => cipher.encrypt_inout_detached(nonce, aad, text),
            Self::Aes192(cipher) => cipher.encrypt_inout_detached(nonce, aad, text),
            Self::Aes256(cipher) => cipher.encrypt_inout_detached(nonce, aad, text),
            Self::ChaCha20(cipher) => cipher.encrypt_inout_detached(nonce, aad, text),
        };
        tag.ok().map(Into::into)
    }

    #[inline]
    pub(crate) fn open(
        &self,
        nonce: &[u8; 12],
        aad: &[u8],
        src: &[u8],
        tag: &[u8; 16],
        dst: &mut [u8],
    ) -> Option<()> {
        let text = InOutBuf::new(src, dst).ok()?;
        let (nonce, tag) = (nonce.into(), tag.into());
        let opened = match self {
            Self::Aes128(cipher) => cipher.decrypt_inout_detached(nonce, aad, text, tag),
            Self::Aes192(cipher) => cipher.decrypt_inout_detached(nonce, aad, text, tag),
            Self::Aes256(cipher) => cipher.decrypt_inout_detached(nonce, aad, text, tag),
            Self::ChaCha20(cipher) => cipher.decrypt_inout_detached(nonce, aad, text, tag),
        };
        opened.ok()
    }
}

fn boxed<C: KeyInit>(key: &[u8]) -> Option<Box<C>> {
    C::new_from_slice(key).ok().map(Box::new)
}
