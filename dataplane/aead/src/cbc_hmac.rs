//! AES-CBC with HMAC-SHA2: encrypt, then authenticate (RFC 3602, RFC 4868, RFC 4303 section 3.3.2).
//!
//! ```text
//! SPI │ SEQ │ IV │ ciphertext │ (high half of an extended SEQ) ─► HMAC ─► ICV, truncated
//! └───────────── in the packet ┘  not sent (RFC 4303 section 2.2.1)
//! ```
//!
//! CBC is broken by IVs that can be foretold by somebody who chooses plaintext, so the packet's
//! counter, which never repeats, is encrypted under a random key that each [`Cipher`] draws for
//! this alone. As good as random octets, without a system call for a packet; and not under the
//! SA's own key, whose output on blocks of his choosing such a chooser sees. The ICV is compared
//! in constant time before anything is decrypted, so padding is no oracle.
//!
//! Slower than an AEAD, and meant for peers that have none.

use aes::cipher::{BlockCipherEncrypt, BlockModeDecrypt, BlockModeEncrypt, InnerIvInit, KeyInit};
use aes::{Aes128, Aes192, Aes256, Block};
use aws_lc_rs::{constant_time, hmac, rand};
use xswan_esp::aead::{Aad, Nonce, Shape};
use zeroize::Zeroizing;

use crate::key::{AesKeyLen, Hmac};

/// Octets of an AES block, and so of the IV.
const BLOCK_LEN: usize = 16;

enum Aes {
    Bits128(Aes128),
    Bits192(Aes192),
    Bits256(Aes256),
}

/// Both keys of an SA, and the one that IVs are made with.
pub(crate) struct Cipher {
    aes: Aes,
    iv: Aes128,
    hmac: hmac::Key,
    icv_len: usize,
}

impl Cipher {
    /// `key` is the cipher's key, then the HMAC's.
    pub(crate) fn new(aes: AesKeyLen, hmac: Hmac, key: &[u8]) -> Option<Self> {
        let (cipher_key, hmac_key) = key.split_at_checked(aes.octets())?;
        let mut iv_key = Zeroizing::new([0; BLOCK_LEN]);
        rand::fill(iv_key.as_mut_slice()).ok()?;
        let hash = match hmac {
            Hmac::Sha256 => hmac::HMAC_SHA256,
            Hmac::Sha384 => hmac::HMAC_SHA384,
            Hmac::Sha512 => hmac::HMAC_SHA512,
        };
        if hmac_key.len() != hmac.key_len() {
            return None;
        }
        Some(Self {
            aes: match aes {
                AesKeyLen::Bits128 => Aes::Bits128(Aes128::new_from_slice(cipher_key).ok()?),
                AesKeyLen::Bits192 => Aes::Bits192(Aes192::new_from_slice(cipher_key).ok()?),
                AesKeyLen::Bits256 => Aes::Bits256(Aes256::new_from_slice(cipher_key).ok()?),
            },
            iv: Aes128::new_from_slice(iv_key.as_slice()).ok()?,
            hmac: hmac::Key::new(hash, hmac_key),
            icv_len: hmac.icv_len(),
        })
    }

    pub(crate) fn shape(&self) -> Shape {
        Shape {
            counter_len: 0,
            own_iv_len: BLOCK_LEN as u8,
            block_len: BLOCK_LEN as u8,
            icv_len: self.icv_len as u8,
        }
    }

    /// As [`xswan_esp::aead::Aead::seal`]; `None`, and `dst` not to be sent, if the lengths
    /// make no sense.
    pub(crate) fn seal(&self, nonce: &Nonce, aad: &Aad, src: &[u8], dst: &mut [u8]) -> Option<()> {
        let mut iv = Block::default();
        let counter = iv.get_mut(..nonce.as_bytes().len())?;
        counter.copy_from_slice(nonce.as_bytes());
        self.iv.encrypt_block(&mut iv);
        self.seal_under(iv, aad, src, dst)
    }

    /// With an IV from outside, for published vectors.
    pub(crate) fn seal_under(
        &self,
        iv: Block,
        aad: &Aad,
        src: &[u8],
        dst: &mut [u8],
    ) -> Option<()> {
        let (sealed, icv) = dst.split_at_mut_checked(dst.len().checked_sub(self.icv_len)?)?;
        let (front, text) = sealed.split_at_mut_checked(BLOCK_LEN)?;
        front.copy_from_slice(&iv);
        text.get_mut(..src.len())?.copy_from_slice(src);
        let (blocks, []) = Block::slice_as_chunks_mut(text) else { return None };
        match &self.aes {
            Aes::Bits128(aes) => cbc::Encryptor::inner_iv_init(aes, &iv).encrypt_blocks(blocks),
            Aes::Bits192(aes) => cbc::Encryptor::inner_iv_init(aes, &iv).encrypt_blocks(blocks),
            Aes::Bits256(aes) => cbc::Encryptor::inner_iv_init(aes, &iv).encrypt_blocks(blocks),
        }
        icv.copy_from_slice(self.icv(aad, sealed).as_ref().get(..self.icv_len)?);
        Some(())
    }

    /// As [`xswan_esp::aead::Aead::open`]; `None` if the packet is forged or its lengths make
    /// no sense.
    pub(crate) fn open(&self, aad: &Aad, src: &[u8], dst: &mut [u8]) -> Option<()> {
        let (sealed, icv) = src.split_at_checked(src.len().checked_sub(self.icv_len)?)?;
        let expected = self.icv(aad, sealed);
        constant_time::verify_slices_are_equal(expected.as_ref().get(..self.icv_len)?, icv).ok()?;
        let (iv, text) = sealed.split_at_checked(BLOCK_LEN)?;
        let iv = Block::try_from(iv).ok()?;
        if text.len() != dst.len() {
            return None;
        }
        dst.copy_from_slice(text);
        let (blocks, []) = Block::slice_as_chunks_mut(dst) else { return None };
        match &self.aes {
            Aes::Bits128(aes) => cbc::Decryptor::inner_iv_init(aes, &iv).decrypt_blocks(blocks),
            Aes::Bits192(aes) => cbc::Decryptor::inner_iv_init(aes, &iv).decrypt_blocks(blocks),
            Aes::Bits256(aes) => cbc::Decryptor::inner_iv_init(aes, &iv).decrypt_blocks(blocks),
        }
        Some(())
    }

    /// Over header, IV and ciphertext; an AEAD has the high half in the middle, this at the end.
    fn icv(&self, aad: &Aad, sealed: &[u8]) -> hmac::Tag {
        let mut context = hmac::Context::with_key(&self.hmac);
        match aad {
            Aad::Short(header) => {
                context.update(header);
                context.update(sealed);
            }
            Aad::Extended([p0, p1, p2, p3, h0, h1, h2, h3, l0, l1, l2, l3]) => {
                context.update(&[*p0, *p1, *p2, *p3, *l0, *l1, *l2, *l3]);
                context.update(sealed);
                context.update(&[*h0, *h1, *h2, *h3]);
            }
        }
        context.sign()
    }
}

#[cfg(test)]
#[path = "cbc_hmac_tests.rs"]
mod tests;
