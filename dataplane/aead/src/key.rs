//! Keys: what is accepted as one, and which back-end it is for.

use std::fmt;

use xswan_esp::aead::{Aad, Aead, Forged, Nonce, Shape, TAG_LEN};
use zeroize::Zeroizing;

use crate::{Backend, Form, aws_lc, cbc_hmac, native, rust_crypto};

/// Length of an AES key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AesKeyLen {
    /// 128 bits.
    Bits128,
    /// 192 bits.
    Bits192,
    /// 256 bits.
    Bits256,
}

impl AesKeyLen {
    /// In octets.
    #[must_use]
    pub const fn octets(self) -> usize {
        match self {
            Self::Bits128 => 16,
            Self::Bits192 => 24,
            Self::Bits256 => 32,
        }
    }
}

/// The HMACs offered beside AES-CBC, with the truncations of RFC 4868 section 2.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Hmac {
    /// HMAC-SHA2-256-128.
    Sha256,
    /// HMAC-SHA2-384-192.
    Sha384,
    /// HMAC-SHA2-512-256.
    Sha512,
}

impl Hmac {
    /// Octets of the key: the hash's output (RFC 4868 section 2.1.1).
    #[must_use]
    pub const fn key_len(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }

    /// Octets of the ICV: half the hash's output.
    #[must_use]
    pub const fn icv_len(self) -> usize {
        self.key_len() / 2
    }
}

/// The algorithms offered: AEADs, all with an ICV of 16 octets, and AES-CBC with an HMAC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// AES-GCM-16 with a key of 128 bits.
    Aes128Gcm16,
    /// AES-GCM-16 with a key of 192 bits.
    Aes192Gcm16,
    /// AES-GCM-16 with a key of 256 bits.
    Aes256Gcm16,
    /// ChaCha20-Poly1305.
    ChaCha20Poly1305,
    /// AES-CBC (RFC 3602) with an HMAC (RFC 4868): encrypt, then authenticate.
    AesCbcHmac {
        /// The cipher's key.
        aes: AesKeyLen,
        /// The integrity algorithm.
        hmac: Hmac,
    },
}

impl Algorithm {
    /// Every AEAD.
    pub const AEADS: [Self; 4] =
        [Self::Aes128Gcm16, Self::Aes192Gcm16, Self::Aes256Gcm16, Self::ChaCha20Poly1305];

    /// Every algorithm.
    pub const ALL: [Self; 13] = [
        Self::Aes128Gcm16,
        Self::Aes192Gcm16,
        Self::Aes256Gcm16,
        Self::ChaCha20Poly1305,
        Self::cbc(AesKeyLen::Bits128, Hmac::Sha256),
        Self::cbc(AesKeyLen::Bits192, Hmac::Sha256),
        Self::cbc(AesKeyLen::Bits256, Hmac::Sha256),
        Self::cbc(AesKeyLen::Bits128, Hmac::Sha384),
        Self::cbc(AesKeyLen::Bits192, Hmac::Sha384),
        Self::cbc(AesKeyLen::Bits256, Hmac::Sha384),
        Self::cbc(AesKeyLen::Bits128, Hmac::Sha512),
        Self::cbc(AesKeyLen::Bits192, Hmac::Sha512),
        Self::cbc(AesKeyLen::Bits256, Hmac::Sha512),
    ];

    /// AES-CBC with an HMAC.
    #[must_use]
    pub const fn cbc(aes: AesKeyLen, hmac: Hmac) -> Self {
        Self::AesCbcHmac { aes, hmac }
    }

    /// Length of the key in bytes, the salt not counted; of a pair, both keys.
    #[must_use]
    pub const fn key_len(self) -> usize {
        match self {
            Self::Aes128Gcm16 => 16,
            Self::Aes192Gcm16 => 24,
            Self::Aes256Gcm16 | Self::ChaCha20Poly1305 => 32,
            Self::AesCbcHmac { aes, hmac } => aes.octets() + hmac.key_len(),
        }
    }

    /// Length of the salt in bytes (RFC 4106 section 8.1, RFC 7634 section 2).
    #[must_use]
    pub const fn salt_len(self) -> usize {
        match self {
            Self::Aes128Gcm16 | Self::Aes192Gcm16 | Self::Aes256Gcm16 | Self::ChaCha20Poly1305 => 4,
            Self::AesCbcHmac { .. } => 0,
        }
    }

    /// Length in bytes of the keying material: key, then salt; or the cipher's key, then the
    /// HMAC's (RFC 7296 section 2.17).
    #[must_use]
    pub const fn keymat_len(self) -> usize {
        self.key_len() + self.salt_len()
    }

    /// The name in proposals, as swanctl writes it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Aes128Gcm16 => "aes128gcm16",
            Self::Aes192Gcm16 => "aes192gcm16",
            Self::Aes256Gcm16 => "aes256gcm16",
            Self::ChaCha20Poly1305 => "chacha20poly1305",
            Self::AesCbcHmac { aes: AesKeyLen::Bits128, hmac: Hmac::Sha256 } => "aes128-sha256",
            Self::AesCbcHmac { aes: AesKeyLen::Bits192, hmac: Hmac::Sha256 } => "aes192-sha256",
            Self::AesCbcHmac { aes: AesKeyLen::Bits256, hmac: Hmac::Sha256 } => "aes256-sha256",
            Self::AesCbcHmac { aes: AesKeyLen::Bits128, hmac: Hmac::Sha384 } => "aes128-sha384",
            Self::AesCbcHmac { aes: AesKeyLen::Bits192, hmac: Hmac::Sha384 } => "aes192-sha384",
            Self::AesCbcHmac { aes: AesKeyLen::Bits256, hmac: Hmac::Sha384 } => "aes256-sha384",
            Self::AesCbcHmac { aes: AesKeyLen::Bits128, hmac: Hmac::Sha512 } => "aes128-sha512",
            Self::AesCbcHmac { aes: AesKeyLen::Bits192, hmac: Hmac::Sha512 } => "aes192-sha512",
            Self::AesCbcHmac { aes: AesKeyLen::Bits256, hmac: Hmac::Sha512 } => "aes256-sha512",
        }
    }

    /// The algorithm of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }
}

/// A key that is refused. Says nothing of its octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyError {
    /// Not as long as the algorithm wants.
    Length {
        /// The algorithm.
        algorithm: Algorithm,
        /// Bytes wanted.
        expected: usize,
        /// Bytes given.
        actual: usize,
    },
    /// All zero: a derivation that did not happen.
    Zero,
    /// The same key twice, where two different ones must be.
    Repeated,
    /// The library would not take it.
    Refused,
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length { algorithm, expected, actual } => {
                write!(f, "{} takes {expected} bytes, not {actual}", algorithm.name())
            }
            Self::Zero => f.write_str("the key is all zero"),
            Self::Repeated => f.write_str("the same key is used twice"),
            Self::Refused => f.write_str("the cryptographic library refused the key"),
        }
    }
}

impl std::error::Error for KeyError {}

/// Keying material as it is derived or configured: key, then salt. Wiped when dropped.
pub struct Keymat {
    algorithm: Algorithm,
    key: Zeroizing<Vec<u8>>,
    salt: Zeroizing<[u8; 4]>,
}

impl Keymat {
    /// Takes the last four octets as the salt where there is one (RFC 4106 section 8.1).
    ///
    /// # Errors
    /// [`KeyError::Length`], [`KeyError::Zero`].
    pub fn new(algorithm: Algorithm, octets: &[u8]) -> Result<Self, KeyError> {
        let expected = algorithm.keymat_len();
        let wrong = KeyError::Length { algorithm, expected, actual: octets.len() };
        if octets.len() != expected {
            return Err(wrong);
        }
        let (key, salt_octets) = octets.split_at_checked(algorithm.key_len()).ok_or(wrong)?;
        refuse_zero(algorithm, key)?;
        let mut salt = Zeroizing::new([0; 4]);
        for (to, from) in salt.iter_mut().zip(salt_octets) {
            *to = *from;
        }
        Ok(Self { algorithm, key: Zeroizing::new(key.to_vec()), salt })
    }

    /// The key for a back-end.
    ///
    /// # Errors
    /// [`KeyError::Refused`].
    pub fn key(&self, backend: Backend) -> Result<Key, KeyError> {
        Key::new(backend, self.algorithm, &self.key)
    }

    /// The salt, for the SA's configuration; zeros where there is none.
    #[must_use]
    pub fn salt(&self) -> [u8; 4] {
        *self.salt
    }

    /// Refuses a key that another SA has: the two directions of a pair, or two generations.
    ///
    /// A tunnel whose directions share a key works with itself and with nobody else, and
    /// repeats nonces while it does.
    ///
    /// # Errors
    /// [`KeyError::Repeated`].
    pub fn distinct_from(&self, other: &Self) -> Result<(), KeyError> {
        let same = self.key.len() == other.key.len()
            && self.key.iter().zip(other.key.iter()).fold(0, |diff, (a, b)| diff | (a ^ b)) == 0;
        if same { Err(KeyError::Repeated) } else { Ok(()) }
    }
}

impl fmt::Debug for Keymat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keymat({}, ..)", self.algorithm.name())
    }
}

/// Each key of a pair must be one.
fn refuse_zero(algorithm: Algorithm, key: &[u8]) -> Result<(), KeyError> {
    let first_len = match algorithm {
        Algorithm::AesCbcHmac { aes, .. } => aes.octets(),
        Algorithm::Aes128Gcm16
        | Algorithm::Aes192Gcm16
        | Algorithm::Aes256Gcm16
        | Algorithm::ChaCha20Poly1305 => key.len(),
    };
    let is_zero = |key: &[u8]| key.iter().fold(0, |any, byte| any | byte) == 0;
    let (first, second) = key.split_at_checked(first_len).unwrap_or((key, &[]));
    let zero = is_zero(first) || (!second.is_empty() && is_zero(second));
    if zero { Err(KeyError::Zero) } else { Ok(()) }
}

/// One key, scheduled for one back-end.
#[repr(C)]
pub struct Key {
    cipher: Cipher,
    algorithm: Algorithm,
    backend: Backend,
}

enum Cipher {
    Native(native::Cipher),
    RustCrypto(rust_crypto::Cipher),
    AwsLc(aws_lc::Cipher),
    CbcHmac(Box<cbc_hmac::Cipher>),
}

impl Key {
    /// Schedules a key.
    ///
    /// # Errors
    /// [`KeyError::Length`], [`KeyError::Zero`], [`KeyError::Refused`].
    ///
    /// ```
    /// use xswan_aead::{Algorithm, Backend, Key, KeyError};
    /// let zero = Key::new(Backend::RustCrypto, Algorithm::Aes128Gcm16, &[0; 16]);
    /// assert_eq!(zero.err(), Some(KeyError::Zero));
    /// ```
    pub fn new(backend: Backend, algorithm: Algorithm, key: &[u8]) -> Result<Self, KeyError> {
        let expected = algorithm.key_len();
        if key.len() != expected {
            return Err(KeyError::Length { algorithm, expected, actual: key.len() });
        }
        refuse_zero(algorithm, key)?;
        Self::schedule(backend, algorithm, key)
    }

    /// As [`Key::new`] for keys that may be zero, as some published vectors are.
    pub(crate) fn schedule(
        backend: Backend,
        algorithm: Algorithm,
        key: &[u8],
    ) -> Result<Self, KeyError> {
        let cipher = match (algorithm, backend) {
            (Algorithm::AesCbcHmac { aes, hmac }, _) => cbc_hmac::Cipher::new(aes, hmac, key)
                .map(|cipher| Cipher::CbcHmac(Box::new(cipher))),
            (_, Backend::RustCrypto) => {
                rust_crypto::Cipher::new(algorithm, key).map(Cipher::RustCrypto)
            }
            (
                Algorithm::Aes128Gcm16 | Algorithm::Aes192Gcm16 | Algorithm::Aes256Gcm16,
                Backend::Native,
            ) => native::Cipher::new(algorithm, key).map(Cipher::Native),
            (_, Backend::AwsLc | Backend::Native) => {
                aws_lc::Cipher::new(algorithm, key).map(Cipher::AwsLc)
            }
        };
        Ok(Self { algorithm, backend, cipher: cipher.ok_or(KeyError::Refused)? })
    }

    /// The algorithm.
    #[must_use]
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The back-end that was asked for.
    #[must_use]
    pub const fn backend(&self) -> Backend {
        self.backend
    }

    /// The form of our own kernel that it uses, if it uses that.
    #[must_use]
    pub const fn form(&self) -> Option<Form> {
        match &self.cipher {
            Cipher::Native(cipher) => Some(cipher.form()),
            Cipher::RustCrypto(_) | Cipher::AwsLc(_) | Cipher::CbcHmac(_) => None,
        }
    }

    /// Schedules an AES-GCM key for a form of our own kernel that need not be the chosen one: to
    /// compare them.
    ///
    /// # Errors
    /// As [`Key::new`]; [`KeyError::Refused`] if this processor has not the form, or the algorithm
    /// is not AES-GCM.
    pub fn in_form(form: Form, algorithm: Algorithm, key: &[u8]) -> Result<Self, KeyError> {
        let expected = algorithm.key_len();
        if key.len() != expected {
            return Err(KeyError::Length { algorithm, expected, actual: key.len() });
        }
        refuse_zero(algorithm, key)?;
        Self::schedule_in_form(form, algorithm, key)
    }

    /// As [`Key::in_form`] for keys that may be zero.
    pub(crate) fn schedule_in_form(
        form: Form,
        algorithm: Algorithm,
        key: &[u8],
    ) -> Result<Self, KeyError> {
        let cipher = native::Cipher::with_form(form, algorithm, key).ok_or(KeyError::Refused)?;
        Ok(Self { algorithm, backend: Backend::Native, cipher: Cipher::Native(cipher) })
    }

    /// Seals with any nonce and any additional data: for published vectors.
    #[inline]
    pub(crate) fn seal_octets(&self, nonce: &[u8; 12], aad: &[u8], src: &[u8], dst: &mut [u8]) {
        if let Cipher::Native(cipher) = &self.cipher {
            if cipher.seal(nonce, aad, src, None, dst).is_none() {
                dst.fill(0);
            }
            return;
        }
        let Some((text, tag)) = dst.split_last_chunk_mut::<TAG_LEN>() else { return };
        let Some(front) = text.get_mut(..src.len()) else { return };
        front.copy_from_slice(src);
        let sealed = match &self.cipher {
            Cipher::RustCrypto(cipher) => cipher.seal(nonce, aad, text),
            Cipher::AwsLc(cipher) => cipher.seal(nonce, aad, text),
            Cipher::Native(_) | Cipher::CbcHmac(_) => None,
        };
        match sealed {
            Some(value) => *tag = value,
            // No library fails on a packet's length; if one did, nothing may leave in clear.
            None => dst.fill(0),
        }
    }

    /// Opens with any nonce and any additional data: for published vectors.
    #[inline]
    pub(crate) fn open_octets(
        &self,
        nonce: &[u8; 12],
        aad: &[u8],
        src: &[u8],
        dst: &mut [u8],
    ) -> Result<(), Forged> {
        if let Cipher::Native(cipher) = &self.cipher {
            return cipher.open(nonce, aad, src, dst).ok_or_else(|| {
                dst.fill(0);
                Forged
            });
        }
        let opened = src.split_last_chunk::<TAG_LEN>().and_then(|(text, tag)| match &self.cipher {
            Cipher::RustCrypto(cipher) => cipher.open(nonce, aad, text, tag, dst),
            Cipher::AwsLc(cipher) => cipher.open(nonce, aad, text, tag, dst),
            Cipher::Native(_) | Cipher::CbcHmac(_) => None,
        });
        if opened.is_none() {
            // Whatever the library left there: no keystream, no plaintext.
            dst.fill(0);
            return Err(Forged);
        }
        Ok(())
    }
}

impl Aead for Key {
    #[inline]
    fn prefetch(&self) {
        if let Cipher::Native(cipher) = &self.cipher {
            cipher.prefetch();
        }
    }

    #[inline]
    fn shape(&self) -> Shape {
        match &self.cipher {
            Cipher::Native(_) | Cipher::RustCrypto(_) | Cipher::AwsLc(_) => Shape::AEAD,
            Cipher::CbcHmac(cipher) => cipher.shape(),
        }
    }

    #[inline(always)]
    fn seal(&self, nonce: &Nonce, aad: &Aad, src: &[u8], dst: &mut [u8]) {
        if let Cipher::Native(cipher) = &self.cipher
            && cipher.seal(nonce.as_bytes(), aad.as_bytes(), src, None, dst).is_some()
        {
            return;
        }
        self.seal_otherwise(nonce, aad, src, dst);
    }

    #[inline(always)]
    fn seal_with(&self, nonce: &Nonce, aad: &Aad, src: &[u8], trailer: [u8; 8], dst: &mut [u8]) {
        if let Cipher::Native(cipher) = &self.cipher
            && cipher.seal(nonce.as_bytes(), aad.as_bytes(), src, Some(trailer), dst).is_some()
        {
            return;
        }
        if let Some(room) = dst.get_mut(src.len()..).and_then(<[u8]>::first_chunk_mut) {
            *room = trailer;
        }
        self.seal_otherwise(nonce, aad, src, dst);
    }

    #[inline(always)]
    fn open(&self, nonce: &Nonce, aad: &Aad, src: &[u8], dst: &mut [u8]) -> Result<(), Forged> {
        if let Cipher::Native(cipher) = &self.cipher
            && cipher.open(nonce.as_bytes(), aad.as_bytes(), src, dst).is_some()
        {
            return Ok(());
        }
        self.open_otherwise(nonce, aad, src, dst)
    }
}

impl Key {
    /// By a library, or not at all: a packet that our own kernel refused for its lengths is wiped.
    #[inline(never)]
    fn seal_otherwise(&self, nonce: &Nonce, aad: &Aad, src: &[u8], dst: &mut [u8]) {
        if let Cipher::Native(_) = &self.cipher {
            return dst.fill(0);
        }
        if let Cipher::CbcHmac(cipher) = &self.cipher {
            if cipher.seal(nonce, aad, src, dst).is_none() {
                dst.fill(0);
            }
            return;
        }
        self.seal_octets(nonce.as_bytes(), aad.as_bytes(), src, dst);
    }

    #[inline(never)]
    fn open_otherwise(
        &self,
        nonce: &Nonce,
        aad: &Aad,
        src: &[u8],
        dst: &mut [u8],
    ) -> Result<(), Forged> {
        if let Cipher::Native(_) = &self.cipher {
            dst.fill(0);
            return Err(Forged);
        }
        if let Cipher::CbcHmac(cipher) = &self.cipher {
            return cipher.open(aad, src, dst).ok_or_else(|| {
                dst.fill(0);
                Forged
            });
        }
        self.open_octets(nonce.as_bytes(), aad.as_bytes(), src, dst)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({}, {}, ..)", self.algorithm.name(), self.backend().name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sal_13_zero_and_wrong_length_keys_are_refused() {
        for backend in Backend::ALL {
            for algorithm in Algorithm::ALL {
                let len = algorithm.key_len();
                let zero = Key::new(backend, algorithm, &vec![0; len]);
                assert_eq!(zero.err(), Some(KeyError::Zero));
                for wrong in (0..128).filter(|&wrong| wrong != len) {
                    let refused = Key::new(backend, algorithm, &vec![7; wrong]).err();
                    assert!(matches!(refused, Some(KeyError::Length { .. })), "{wrong}");
                }
                assert!(Key::new(backend, algorithm, &vec![7; len]).is_ok());
                let keymat = vec![0; algorithm.keymat_len()];
                assert_eq!(Keymat::new(algorithm, &keymat).err(), Some(KeyError::Zero));
                assert!(Keymat::new(algorithm, &keymat[1..]).is_err());
            }
        }
    }

    #[test]
    fn sal_13_a_repeated_key_is_refused() {
        let one = Keymat::new(Algorithm::Aes128Gcm16, &[7; 20]).unwrap();
        let mut octets = [7; 20];
        octets[19] = 8;
        let other_salt = Keymat::new(Algorithm::Aes128Gcm16, &octets).unwrap();
        assert_eq!(one.distinct_from(&other_salt), Err(KeyError::Repeated));
        octets[0] = 8;
        let other_key = Keymat::new(Algorithm::Aes128Gcm16, &octets).unwrap();
        assert_eq!(one.distinct_from(&other_key), Ok(()));
        let longer = Keymat::new(Algorithm::Aes256Gcm16, &[7; 36]).unwrap();
        assert_eq!(one.distinct_from(&longer), Ok(()));
    }

    #[test]
    fn nothing_secret_is_printed() {
        let keymat = Keymat::new(Algorithm::ChaCha20Poly1305, &[0xa5; 36]).unwrap();
        let printed = format!("{keymat:?} {:?}", keymat.key(Backend::AwsLc).unwrap());
        for secret in ["a5", "A5", "165"] {
            assert!(!printed.contains(secret), "{printed}");
        }
    }

    #[test]
    fn names_are_read_back() {
        for algorithm in Algorithm::ALL {
            assert_eq!(Algorithm::from_name(algorithm.name()), Some(algorithm));
        }
        assert_eq!(Algorithm::from_name("null"), None);
    }
}
