//! What inbound and outbound records have in common: cipher, key, mode, ports, lifetimes.

use std::fmt;
use std::net::IpAddr;
use zeroize::Zeroize;

/// Keying material of the longest algorithm, in octets: AES-256 and HMAC-SHA2-512.
pub const KEY_MAX: usize = 96;
/// Words that hold it.
pub(crate) const KEY_WORDS: usize = KEY_MAX / 8;

/// The ciphers of an SA: one that does both, or AES-CBC with an HMAC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Algorithm {
    /// AES-GCM, 128-bit key (RFC 4106).
    Aes128Gcm16 = 1,
    /// AES-GCM, 192-bit key (RFC 4106).
    Aes192Gcm16 = 2,
    /// AES-GCM, 256-bit key (RFC 4106).
    Aes256Gcm16 = 3,
    /// ChaCha20-Poly1305 (RFC 7634).
    ChaCha20Poly1305 = 4,
    /// AES-CBC, 128-bit key (RFC 3602), and HMAC-SHA2-256-128 (RFC 4868).
    Aes128CbcSha256 = 5,
    /// AES-CBC, 192-bit key, and HMAC-SHA2-256-128.
    Aes192CbcSha256 = 6,
    /// AES-CBC, 256-bit key, and HMAC-SHA2-256-128.
    Aes256CbcSha256 = 7,
    /// AES-CBC, 128-bit key, and HMAC-SHA2-384-192.
    Aes128CbcSha384 = 8,
    /// AES-CBC, 192-bit key, and HMAC-SHA2-384-192.
    Aes192CbcSha384 = 9,
    /// AES-CBC, 256-bit key, and HMAC-SHA2-384-192.
    Aes256CbcSha384 = 10,
    /// AES-CBC, 128-bit key, and HMAC-SHA2-512-256.
    Aes128CbcSha512 = 11,
    /// AES-CBC, 192-bit key, and HMAC-SHA2-512-256.
    Aes192CbcSha512 = 12,
    /// AES-CBC, 256-bit key, and HMAC-SHA2-512-256.
    Aes256CbcSha512 = 13,
}

impl Algorithm {
    /// Every algorithm, in the order of their codes.
    pub const ALL: [Self; 13] = [
        Self::Aes128Gcm16,
        Self::Aes192Gcm16,
        Self::Aes256Gcm16,
        Self::ChaCha20Poly1305,
        Self::Aes128CbcSha256,
        Self::Aes192CbcSha256,
        Self::Aes256CbcSha256,
        Self::Aes128CbcSha384,
        Self::Aes192CbcSha384,
        Self::Aes256CbcSha384,
        Self::Aes128CbcSha512,
        Self::Aes192CbcSha512,
        Self::Aes256CbcSha512,
    ];

    /// Octets of keying material of one direction, in the order in which they are taken from
    /// KEYMAT: the key and four of salt (RFC 4106 section 8.1), or the key of the cipher and
    /// then that of the HMAC (RFC 7296 section 2.17).
    #[must_use]
    pub const fn key_len(self) -> usize {
        match self {
            Self::Aes128Gcm16 => 16 + 4,
            Self::Aes192Gcm16 => 24 + 4,
            Self::Aes256Gcm16 | Self::ChaCha20Poly1305 => 32 + 4,
            Self::Aes128CbcSha256 => 16 + 32,
            Self::Aes192CbcSha256 => 24 + 32,
            Self::Aes256CbcSha256 => 32 + 32,
            Self::Aes128CbcSha384 => 16 + 48,
            Self::Aes192CbcSha384 => 24 + 48,
            Self::Aes256CbcSha384 => 32 + 48,
            Self::Aes128CbcSha512 => 16 + 64,
            Self::Aes192CbcSha512 => 24 + 64,
            Self::Aes256CbcSha512 => 32 + 64,
        }
    }

    /// Whether one transform does both; the others are a pair of transforms in a proposal.
    #[must_use]
    pub const fn is_aead(self) -> bool {
        (self as u8) <= Self::ChaCha20Poly1305 as u8
    }

    /// The name in strongSwan's listing.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Aes128Gcm16 => "AES_GCM_16-128",
            Self::Aes192Gcm16 => "AES_GCM_16-192",
            Self::Aes256Gcm16 => "AES_GCM_16-256",
            Self::ChaCha20Poly1305 => "CHACHA20_POLY1305-256",
            Self::Aes128CbcSha256 => "AES_CBC-128/HMAC_SHA2_256_128",
            Self::Aes192CbcSha256 => "AES_CBC-192/HMAC_SHA2_256_128",
            Self::Aes256CbcSha256 => "AES_CBC-256/HMAC_SHA2_256_128",
            Self::Aes128CbcSha384 => "AES_CBC-128/HMAC_SHA2_384_192",
            Self::Aes192CbcSha384 => "AES_CBC-192/HMAC_SHA2_384_192",
            Self::Aes256CbcSha384 => "AES_CBC-256/HMAC_SHA2_384_192",
            Self::Aes128CbcSha512 => "AES_CBC-128/HMAC_SHA2_512_256",
            Self::Aes192CbcSha512 => "AES_CBC-192/HMAC_SHA2_512_256",
            Self::Aes256CbcSha512 => "AES_CBC-256/HMAC_SHA2_512_256",
        }
    }

    pub(crate) fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| *algorithm as u8 == code)
    }
}

/// Keying material of one direction; wiped on drop, never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Key {
    bytes: [u8; KEY_MAX],
    len: u8,
}

/// The key is longer than any algorithm's, or empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyLength(
    /// The length that was offered, in octets.
    pub usize,
);

impl fmt::Display for KeyLength {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} octets of key; 1 to {KEY_MAX} can be stored", self.0)
    }
}

impl std::error::Error for KeyLength {}

impl Key {
    /// Copies the keying material.
    ///
    /// # Errors
    /// [`KeyLength`] if there are none or more than [`KEY_MAX`] octets.
    pub fn new(key: &[u8]) -> Result<Self, KeyLength> {
        let mut bytes = [0; KEY_MAX];
        let len =
            u8::try_from(key.len()).ok().filter(|len| *len > 0).ok_or(KeyLength(key.len()))?;
        bytes.get_mut(..key.len()).ok_or(KeyLength(key.len()))?.copy_from_slice(key);
        Ok(Self { bytes, len })
    }

    /// The octets, in the order of [`Algorithm::key_len`].
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(redacted)")
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        self.bytes.zeroize();
    }
}

/// Tunnel or transport (RFC 4301 section 4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Mode {
    /// The whole inner packet is protected, behind a new IP header.
    Tunnel = 1,
    /// The payload is protected, behind the packet's own IP header.
    Transport = 2,
}

/// UDP encapsulation (RFC 3948).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Encap {
    /// Our UDP port.
    pub local_port: u16,
    /// The peer's UDP port.
    pub remote_port: u16,
}

/// A soft and a hard limit of one measure; 0 is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limit {
    /// An event is sent, once.
    pub soft: u64,
    /// The SA stops.
    pub hard: u64,
}

/// When an SA must be replaced and when it ends (RFC 4301 section 4.4.2.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lifetimes {
    /// Octets of inner packets.
    pub bytes: Limit,
    /// Packets.
    pub packets: Limit,
    /// Milliseconds since [`Lifetimes::installed_ms`].
    pub time_ms: Limit,
    /// When the SA was installed, on the clock of [`crate::clock_ms`].
    pub installed_ms: u64,
}

/// Words and how fields lie in them.
pub(crate) mod codec {
    use super::{IpAddr, KEY_MAX, KEY_WORDS, Key, Lifetimes, Limit, Mode};
    use std::net::{Ipv4Addr, Ipv6Addr};
    use zeroize::Zeroize;

    /// Octets of an address and its family's number, 4 or 6.
    pub(crate) fn address_to_words(address: IpAddr) -> ([u64; 2], u8) {
        let (octets, family) = match address {
            IpAddr::V4(v4) => (u128::from(u32::from(v4)), 4),
            IpAddr::V6(v6) => (u128::from(v6), 6),
        };
        ([(octets >> 64) as u64, octets as u64], family)
    }

    pub(crate) fn address_from_words([high, low]: [u64; 2], family: u8) -> Option<IpAddr> {
        let octets = (u128::from(high) << 64) | u128::from(low);
        match family {
            4 => u32::try_from(octets).ok().map(|octets| IpAddr::V4(Ipv4Addr::from(octets))),
            6 => Some(IpAddr::V6(Ipv6Addr::from(octets))),
            _ => None,
        }
    }

    pub(crate) fn mode(code: u8) -> Option<Mode> {
        match code {
            1 => Some(Mode::Tunnel),
            2 => Some(Mode::Transport),
            _ => None,
        }
    }

    /// Key octets in words; the length is kept elsewhere.
    pub(crate) fn key_to_words(key: &Key) -> [u64; KEY_WORDS] {
        let mut words = [0; KEY_WORDS];
        for (word, chunk) in words.iter_mut().zip(key.bytes.chunks(8)) {
            for (shift, octet) in chunk.iter().enumerate() {
                *word |= u64::from(*octet) << (8 * shift);
            }
        }
        words
    }

    pub(crate) fn key_from_words(words: &[u64; KEY_WORDS], len: u8) -> Option<Key> {
        let mut octets = [0_u8; KEY_MAX];
        for (chunk, word) in octets.chunks_mut(8).zip(words) {
            chunk.copy_from_slice(&word.to_le_bytes());
        }
        let key = octets.get(..usize::from(len)).and_then(|octets| Key::new(octets).ok());
        octets.zeroize();
        key
    }

    pub(crate) fn lifetimes_to_words(lifetimes: &Lifetimes) -> [u64; 7] {
        let Lifetimes { bytes, packets, time_ms, installed_ms } = lifetimes;
        [
            bytes.soft,
            bytes.hard,
            packets.soft,
            packets.hard,
            time_ms.soft,
            time_ms.hard,
            *installed_ms,
        ]
    }

    pub(crate) fn lifetimes_from_words(words: [u64; 7]) -> Lifetimes {
        let [bs, bh, ps, ph, ts, th, installed_ms] = words;
        Lifetimes {
            bytes: Limit { soft: bs, hard: bh },
            packets: Limit { soft: ps, hard: ph },
            time_ms: Limit { soft: ts, hard: th },
            installed_ms,
        }
    }

    /// Packs octets and halves, lowest first.
    pub(crate) fn pack8(octets: [u8; 8]) -> u64 {
        u64::from_le_bytes(octets)
    }

    pub(crate) fn pack32(low: u32, high: u32) -> u64 {
        u64::from(low) | (u64::from(high) << 32)
    }

    pub(crate) fn unpack32(word: u64) -> (u32, u32) {
        (word as u32, (word >> 32) as u32)
    }

    pub(crate) fn pack16(a: u16, b: u16, c: u16, d: u16) -> u64 {
        u64::from(a) | (u64::from(b) << 16) | (u64::from(c) << 32) | (u64::from(d) << 48)
    }

    pub(crate) fn unpack16(word: u64) -> [u16; 4] {
        [word as u16, (word >> 16) as u16, (word >> 32) as u16, (word >> 48) as u16]
    }
}
