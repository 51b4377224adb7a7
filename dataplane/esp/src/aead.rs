//! The seam between ESP and a cipher, and the only place where a nonce is built.
//!
//! A back-end seals from one buffer into another (out of place costs what in place
//! costs, and a received frame is never written to). It gets its nonce and its
//! additional data as values that only this module makes, so a nonce that is not
//! `salt | IV` of RFC 4106 section 4 cannot be expressed.

use core::fmt;

/// Length of the integrity check value in bytes; the only one offered (RFC 4106 section 6).
pub const TAG_LEN: usize = 16;
/// Length of the explicit IV in bytes (RFC 4106 section 3.1, RFC 7634 section 2).
pub const IV_LEN: usize = 8;

/// A nonce: four octets of salt and the eight octets of the packet's IV.
#[derive(Clone, Copy)]
pub struct Nonce([u8; 12]);

impl fmt::Debug for Nonce {
    /// Nothing of the octets: the salt is part of the keying material.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Nonce(..)")
    }
}

impl Nonce {
    /// Puts salt and IV together (RFC 4106 section 4).
    #[inline(always)]
    pub(crate) fn new(salt: [u8; 4], iv: [u8; IV_LEN]) -> Self {
        let [s0, s1, s2, s3] = salt;
        let [i0, i1, i2, i3, i4, i5, i6, i7] = iv;
        Self([s0, s1, s2, s3, i0, i1, i2, i3, i4, i5, i6, i7])
    }

    /// The twelve octets.
    #[inline(always)]
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 12] {
        &self.0
    }
}

/// The additional authenticated data: SPI and sequence number, with or without the high half.
#[derive(Clone, Copy, Debug)]
pub enum Aad {
    /// SPI, sequence number (RFC 4106 section 5).
    Short([u8; 8]),
    /// SPI, high half, low half of an extended sequence number (RFC 4106 section 5).
    Extended([u8; 12]),
}

impl Aad {
    /// For one packet; the length follows from whether the SA's numbers are extended, so a
    /// shorter one than the SA's cannot be made.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "the low half is what is sent")]
    pub(crate) const fn new(spi: u32, sequence: u64, esn: bool) -> Self {
        let [p0, p1, p2, p3] = spi.to_be_bytes();
        if esn {
            let [h0, h1, h2, h3, l0, l1, l2, l3] = sequence.to_be_bytes();
            Self::Extended([p0, p1, p2, p3, h0, h1, h2, h3, l0, l1, l2, l3])
        } else {
            let [l0, l1, l2, l3] = (sequence as u32).to_be_bytes();
            Self::Short([p0, p1, p2, p3, l0, l1, l2, l3])
        }
    }

    /// The octets in the order in which they are authenticated.
    #[inline(always)]
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Short(bytes) => bytes,
            Self::Extended(bytes) => bytes,
        }
    }
}

/// The tag did not match; nothing of the plaintext is in the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forged;

impl fmt::Display for Forged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the integrity check value does not match")
    }
}

/// One key of one AEAD algorithm.
pub trait Aead {
    /// Seals `src` followed by the trailer that already lies in `dst`.
    ///
    /// `dst` is `src.len()` bytes of any content, then the trailer in clear, then
    /// [`TAG_LEN`] bytes of any content. Afterwards it is ciphertext and tag.
    fn seal(&self, nonce: &Nonce, aad: &Aad, src: &[u8], dst: &mut [u8]);

    /// Opens `src`, ciphertext and tag, into `dst`, which is [`TAG_LEN`] bytes shorter.
    ///
    /// # Errors
    /// [`Forged`] if the tag does not match; then `dst` holds only zeros.
    fn open(&self, nonce: &Nonce, aad: &Aad, src: &[u8], dst: &mut [u8]) -> Result<(), Forged>;
}

/// Ciphers are shared by reference too.
impl<A: Aead + ?Sized> Aead for &A {
    #[inline(always)]
    fn seal(&self, nonce: &Nonce, aad: &Aad, src: &[u8], dst: &mut [u8]) {
        (**self).seal(nonce, aad, src, dst);
    }

    #[inline(always)]
    fn open(&self, nonce: &Nonce, aad: &Aad, src: &[u8], dst: &mut [u8]) -> Result<(), Forged> {
        (**self).open(nonce, aad, src, dst)
    }
}
