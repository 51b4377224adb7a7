//! The assembly back-end: `aws-lc-rs`. Key schedules are wiped on drop by the library.

use aws_lc_rs::aead::{
    AES_128_GCM, AES_192_GCM, AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey,
};

use crate::Algorithm;

pub(crate) struct Cipher(LessSafeKey);

impl Cipher {
    pub(crate) fn new(algorithm: Algorithm, key: &[u8]) -> Option<Self> {
        let algorithm = match algorithm {
            Algorithm::Aes128Gcm16 => &AES_128_GCM,
            Algorithm::Aes192Gcm16 => &AES_192_GCM,
            Algorithm::Aes256Gcm16 => &AES_256_GCM,
            Algorithm::ChaCha20Poly1305 => &CHACHA20_POLY1305,
            Algorithm::AesCbcHmac { .. } => return None,
        };
        UnboundKey::new(algorithm, key).ok().map(LessSafeKey::new).map(Self)
    }

    #[inline]
    pub(crate) fn seal(&self, nonce: &[u8; 12], aad: &[u8], text: &mut [u8]) -> Option<[u8; 16]> {
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let tag = self.0.seal_in_place_separate_tag(nonce, Aad::from(aad), text).ok()?;
        tag.as_ref().try_into().ok()
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
        let nonce = Nonce::assume_unique_for_key(*nonce);
        self.0.open_separate_gather(nonce, Aad::from(aad), src, tag, dst).ok()
    }
}
