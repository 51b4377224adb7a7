//! The header map: which layout and which geometry the other maps have.
//!
//! It is filled before it is pinned, so whoever finds it finds it whole; whoever pins it
//! first decides, and the others take what is there or refuse.

use std::fmt;

/// Version of every layout in this crate but the steering maps', which have their own.
pub const LAYOUT_VERSION: u64 = 3;

/// First word of the header; "xswan-sa" in ASCII.
const MAGIC: u64 = u64::from_be_bytes(*b"xswan-sa");

/// Words of the header.
pub(crate) const HEADER_WORDS: usize = 10;
/// Octets of the header.
pub(crate) const HEADER_LEN: usize = HEADER_WORDS * 8;

/// How large the maps are; the same in both daemons' configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Records in each of `sa_in` and `sa_out`; at most 2^20, the slots an SPI can name.
    pub sa_slots: u32,
    /// Rows in `policy`.
    pub policies: u32,
    /// 64-bit words in `replay`.
    pub replay_words: u32,
    /// Workers, each with a ring of events.
    pub workers: u32,
    /// This member's number in the cluster, 0 to 15.
    pub member: u32,
}

/// The first thing in which two geometries or versions differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Difference {
    pub(crate) what: &'static str,
    pub(crate) found: u64,
    pub(crate) wanted: u64,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {}, this process wants {}", self.what, self.found, self.wanted)
    }
}

/// What the header map holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) version: u64,
    pub(crate) geometry: Geometry,
    pub(crate) spi_key: [u32; 4],
}

impl Header {
    pub(crate) fn to_bytes(self) -> [u8; HEADER_LEN] {
        let [key0, key1, key2, key3] = self.spi_key;
        let words: [u64; HEADER_WORDS] = [
            MAGIC,
            self.version,
            self.geometry.sa_slots.into(),
            self.geometry.policies.into(),
            self.geometry.replay_words.into(),
            self.geometry.workers.into(),
            self.geometry.member.into(),
            u64::from(key0) | (u64::from(key1) << 32),
            u64::from(key2) | (u64::from(key3) << 32),
            0,
        ];
        let mut bytes = [0; HEADER_LEN];
        for (to, word) in bytes.chunks_mut(8).zip(words) {
            to.copy_from_slice(&word.to_ne_bytes());
        }
        bytes
    }

    /// Reads a header; `None` if it is not one at all.
    pub(crate) fn from_bytes(bytes: &[u8; HEADER_LEN]) -> Option<Self> {
        let mut words = [0_u64; HEADER_WORDS];
        for (word, chunk) in words.iter_mut().zip(bytes.as_chunks::<8>().0) {
            *word = u64::from_ne_bytes(*chunk);
        }
        let [magic, version, sa_slots, policies, replay_words, workers, member, low, high, _] =
            words;
        let narrow = |word: u64| u32::try_from(word).unwrap_or(u32::MAX);
        (magic == MAGIC).then_some(Self {
            version,
            geometry: Geometry {
                sa_slots: narrow(sa_slots),
                policies: narrow(policies),
                replay_words: narrow(replay_words),
                workers: narrow(workers),
                member: narrow(member),
            },
            spi_key: [low as u32, (low >> 32) as u32, high as u32, (high >> 32) as u32],
        })
    }

    /// The first difference from what this process wants.
    pub(crate) fn difference(&self, wanted: &Geometry) -> Option<Difference> {
        let found = &self.geometry;
        [
            ("layout version", self.version, LAYOUT_VERSION),
            ("sa_slots", found.sa_slots.into(), wanted.sa_slots.into()),
            ("policies", found.policies.into(), wanted.policies.into()),
            ("replay_words", found.replay_words.into(), wanted.replay_words.into()),
            ("workers", found.workers.into(), wanted.workers.into()),
            ("member", found.member.into(), wanted.member.into()),
        ]
        .into_iter()
        .find(|(_, found, wanted)| found != wanted)
        .map(|(what, found, wanted)| Difference { what, found, wanted })
    }
}
