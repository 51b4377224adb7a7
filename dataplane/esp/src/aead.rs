//! The seam between ESP and a cipher, and the only place where a nonce is built.
//!
//! A back-end seals from one buffer into another (out of place costs what in place
//! costs, and a received frame is never written to). It gets its nonce and its
//! additional data as values that only this module makes, so a nonce that is not
//! `salt | IV` of RFC 4106 section 4 cannot be expressed.

use core::fmt;

/// Length of an AEAD's integrity check value in bytes; the only one offered (RFC 4106 section
/// 6), and the shortest of any cipher.
pub const TAG_LEN: usize = 16;
/// Length of an AEAD's explicit IV in bytes (RFC 4106 section 3.1, RFC 7634 section 2).
pub const IV_LEN: usize = 8;

/// What of a packet is the cipher's.
///
/// ```text
/// AEAD          SPI SEQ │ IV (ESP writes it) ║ payload │ trailer │ ICV
/// CBC and HMAC  SPI SEQ ║ IV (the cipher writes it) │ payload │ trailer │ ICV
/// ```
///
/// The cipher is given what is right of the double line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Octets of IV that are a counter, which ESP writes: [`IV_LEN`] or 0.
    pub counter_len: u8,
    /// Octets of IV that the cipher writes itself.
    pub own_iv_len: u8,
    /// The ciphertext is a multiple of so many octets; 1 if any length will do.
    pub block_len: u8,
    /// Octets of the integrity check value.
    pub icv_len: u8,
}

impl Shape {
    /// That of every AEAD (RFC 4106, RFC 7634).
    #[expect(clippy::cast_possible_truncation, reason = "16 and 8")]
    pub const AEAD: Self =
        Self { counter_len: IV_LEN as u8, own_iv_len: 0, block_len: 1, icv_len: TAG_LEN as u8 };

    /// Octets in front of the payload that are not the ESP header, and behind the trailer.
    #[inline(always)]
    #[must_use]
    pub const fn overhead(self) -> usize {
        // Three octets cannot overflow.
        (self.counter_len as usize)
            .saturating_add(self.own_iv_len as usize)
            .saturating_add(self.icv_len as usize)
    }

    /// Payload and trailer are padded to a multiple of this, a power of two: the block, and
    /// at least four octets (RFC 4303 section 2.4).
    #[inline(always)]
    #[must_use]
    pub const fn alignment(self) -> usize {
        if self.block_len > 4 { self.block_len as usize } else { 4 }
    }
}

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

/// One key of one AEAD algorithm, or of a cipher and an HMAC that together do as much.
pub trait Aead {
    /// What of a packet is the cipher's.
    #[inline(always)]
    fn shape(&self) -> Shape {
        Shape::AEAD
    }

    /// Says that the key is needed soon, so that it can come into the cache meanwhile. Changes
    /// nothing else; call it one or two packets ahead.
    #[inline(always)]
    fn prefetch(&self) {}

    /// Seals `src` followed by the trailer that already lies in `dst`.
    ///
    /// `dst` is the cipher's own IV of any content, if it has one, `src.len()` bytes of any
    /// content, then the trailer in clear, then the tag of any content. Afterwards it is IV,
    /// ciphertext and tag.
    fn seal(&self, nonce: &Nonce, aad: &Aad, src: &[u8], dst: &mut [u8]);

    /// As [`Aead::seal`] where the trailer is not in `dst` yet: so many octets of `trailer` as there
    /// are between the text and the tag, at most eight. Only for ciphers without an IV of their own.
    #[inline]
    fn seal_with(&self, nonce: &Nonce, aad: &Aad, src: &[u8], trailer: [u8; 8], dst: &mut [u8]) {
        // What is written too much is the tag's room.
        if let Some(room) = dst.get_mut(src.len()..).and_then(<[u8]>::first_chunk_mut) {
            *room = trailer;
        }
        self.seal(nonce, aad, src, dst);
    }

    /// Opens `src`, IV of the cipher's own, ciphertext and tag, into `dst`, which is shorter by
    /// IV and tag.
    ///
    /// # Errors
    /// [`Forged`] if the tag does not match; then `dst` holds only zeros.
    fn open(&self, nonce: &Nonce, aad: &Aad, src: &[u8], dst: &mut [u8]) -> Result<(), Forged>;
}

/// Ciphers are shared by reference too.
impl<A: Aead + ?Sized> Aead for &A {
    #[inline(always)]
    fn shape(&self) -> Shape {
        (**self).shape()
    }

    #[inline(always)]
    fn prefetch(&self) {
        (**self).prefetch();
    }

    #[inline(always)]
    fn seal(&self, nonce: &Nonce, aad: &Aad, src: &[u8], dst: &mut [u8]) {
        (**self).seal(nonce, aad, src, dst);
    }

    #[inline(always)]
    fn seal_with(&self, nonce: &Nonce, aad: &Aad, src: &[u8], trailer: [u8; 8], dst: &mut [u8]) {
        (**self).seal_with(nonce, aad, src, trailer, dst);
    }

    #[inline(always)]
    fn open(&self, nonce: &Nonce, aad: &Aad, src: &[u8], dst: &mut [u8]) -> Result<(), Forged> {
        (**self).open(nonce, aad, src, dst)
    }
}
