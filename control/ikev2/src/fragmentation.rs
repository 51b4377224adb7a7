//! Splitting a message into fragments and putting one together (RFC 7383).
//!
//! Reassembly keeps only what was authenticated. A fragment goes [`Reassembly::check`], which
//! costs nothing, then its integrity check, then [`Reassembly::insert`]; whoever does not have
//! the keys cannot make anything be kept. There is one [`Reassembly`] for one Message ID and
//! direction: the window of the IKE SA bounds how many there are.
//!
//! A whole message under the same Message ID takes the place of its fragments. Every message
//! inside an IKE SA may be fragmented, except the synchronisation of RFC 6311; never one
//! that is not encrypted.

use crate::wire::{PayloadType, Protection};
use core::fmt;
use core::net::IpAddr;
use std::collections::BTreeMap;
use zeroize::Zeroizing;

/// Largest IP packet in bytes that fragments are made for over IPv4 when nothing else is
/// configured (RFC 7383 section 2.5.1).
pub const IPV4_CEILING_BYTES: usize = 576;
/// The same over IPv6.
pub const IPV6_CEILING_BYTES: usize = 1280;
const IPV4_HEADER_LEN: usize = 20;
const IPV6_HEADER_LEN: usize = 40;
const UDP_HEADER_LEN: usize = 8;
/// The four zero octets before IKE on port 4500 (RFC 3948 section 2.2).
const NON_ESP_MARKER_LEN: usize = 4;

/// How much a peer may make us keep for one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Largest total of fragments.
    pub fragments: u16,
    /// Largest reassembled content in bytes.
    pub content_bytes: usize,
}

impl Default for Limits {
    /// Enough for a chain of certificates cut for the smallest ceiling: 64 fragments of 500.
    fn default() -> Self {
        Self { fragments: 64, content_bytes: 32 * 1024 }
    }
}

/// Why a fragment is discarded; never a reason to answer (RFC 7383 section 2.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Number zero, or above the total.
    Number,
    /// The total is above the limit.
    TooManyFragments,
    /// The total is below that of a fragment that is kept: left over from an earlier split.
    SmallerTotal,
    /// It is there already.
    Duplicate,
    /// The content is above the limit; what was kept is gone.
    TooLong,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Number => "fragment number outside the total",
            Self::TooManyFragments => "too many fragments",
            Self::SmallerTotal => "fragment of an earlier split",
            Self::Duplicate => "fragment received before",
            Self::TooLong => "reassembled message is too long",
        })
    }
}

impl core::error::Error for Refusal {}

/// The content of a message that was put together.
#[derive(Clone, PartialEq, Eq)]
pub struct Reassembled {
    /// Type of the first payload.
    pub first: PayloadType,
    /// The chain of payloads.
    pub content: Zeroizing<Vec<u8>>,
}

/// The content was encrypted.
impl fmt::Debug for Reassembled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reassembled({}, {} octets)", self.first, self.content.len())
    }
}

/// The authenticated fragments of one message.
#[derive(Default)]
pub struct Reassembly {
    limits: Limits,
    /// Zero as long as nothing is kept.
    total: u16,
    first: PayloadType,
    content_bytes: usize,
    fragments: BTreeMap<u16, Zeroizing<Vec<u8>>>,
}

/// The content was encrypted.
impl fmt::Debug for Reassembly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reassembly")
            .field("fragments", &self.fragments.len())
            .field("total", &self.total)
            .field("content_bytes", &self.content_bytes)
            .finish_non_exhaustive()
    }
}

impl Reassembly {
    /// Nothing kept yet.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// Bytes of content that are kept.
    #[must_use]
    pub const fn content_bytes(&self) -> usize {
        self.content_bytes
    }

    /// Whether a fragment is worth the integrity check. Changes nothing: the numbers are not
    /// authenticated yet.
    ///
    /// # Errors
    /// Why it is not.
    pub fn check(&self, fragment: u16, total: u16) -> Result<(), Refusal> {
        if fragment == 0 || fragment > total {
            return Err(Refusal::Number);
        }
        if total > self.limits.fragments {
            return Err(Refusal::TooManyFragments);
        }
        if total < self.total {
            return Err(Refusal::SmallerTotal);
        }
        if total == self.total && self.fragments.contains_key(&fragment) {
            return Err(Refusal::Duplicate);
        }
        Ok(())
    }

    /// Keeps the content of an authenticated fragment and hands out the message with the last
    /// one missing; then nothing is kept any more. A larger total starts anew: the peer has
    /// split the message into smaller fragments (RFC 7383 section 2.5.2).
    ///
    /// `inner_first` counts in fragment 1 only (section 2.5).
    ///
    /// # Errors
    /// Those of [`Reassembly::check`], and [`Refusal::TooLong`].
    pub fn insert(
        &mut self,
        fragment: u16,
        total: u16,
        inner_first: PayloadType,
        content: Vec<u8>,
    ) -> Result<Option<Reassembled>, Refusal> {
        let content = Zeroizing::new(content);
        self.check(fragment, total)?;
        if total > self.total {
            self.clear();
            self.total = total;
        }
        if content.len() > self.limits.content_bytes - self.content_bytes {
            self.clear();
            return Err(Refusal::TooLong);
        }
        self.content_bytes += content.len();
        if fragment == 1 {
            self.first = inner_first;
        }
        self.fragments.insert(fragment, content);
        if self.fragments.len() < usize::from(total) {
            return Ok(None);
        }
        let mut whole = Zeroizing::new(Vec::with_capacity(self.content_bytes));
        for content in self.fragments.values() {
            whole.extend_from_slice(content);
        }
        let first = self.first;
        self.clear();
        Ok(Some(Reassembled { first, content: whole }))
    }

    /// Forgets everything: a whole message came, or the time is up.
    pub fn clear(&mut self) {
        *self = Self::new(self.limits);
    }
}

/// Whether a message that was answered already, seen again, asks for the answer again: of
/// fragments only the first does (RFC 7383 section 2.6.1).
#[must_use]
pub const fn asks_for_the_answer_again(protection: Protection) -> bool {
    matches!(protection, Protection::Sk | Protection::Skf { fragment: 1, .. })
}

/// The content cannot be split.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SplitError {
    /// Not one octet fits beside headers, IV, padding and ICV.
    Room,
    /// More fragments than the total can count.
    TooManyFragments,
}

impl fmt::Display for SplitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Room => "no room for content in a fragment",
            Self::TooManyFragments => "too many fragments",
        })
    }
}

impl core::error::Error for SplitError {}

/// Room in bytes for an IKE message in an IP packet of `ceiling_bytes` to `peer`; with `marker`
/// behind the non-ESP marker. IP options and extension headers are not foreseen.
#[must_use]
pub const fn message_room(ceiling_bytes: usize, peer: IpAddr, marker: bool) -> usize {
    let ip = if peer.is_ipv4() { IPV4_HEADER_LEN } else { IPV6_HEADER_LEN };
    let marker = if marker { NON_ESP_MARKER_LEN } else { 0 };
    ceiling_bytes.saturating_sub(ip + UDP_HEADER_LEN + marker)
}

/// Whether content of this length fits into one message of `room` bytes and so must not be
/// fragmented. `body_len` tells the length of IV, ciphertext and ICV for a content.
#[must_use]
pub fn fits(content_len: usize, room: usize, body_len: impl Fn(usize) -> usize) -> bool {
    Protection::Sk.prefix_len().saturating_add(body_len(content_len)) <= room
}

/// Cuts the content of a message so that each fragment is at most `room` bytes as a message.
/// `body_len` tells the length of IV, ciphertext and ICV for a content, and must not fall.
///
/// # Errors
/// [`SplitError`].
pub fn split(
    content: &[u8],
    room: usize,
    body_len: impl Fn(usize) -> usize,
) -> Result<Vec<&[u8]>, SplitError> {
    let prefix_len = Protection::Skf { fragment: 1, total: 1 }.prefix_len();
    let fragment_fits = |len| prefix_len.saturating_add(body_len(len)) <= room;
    // The largest length that fits lies in `fitting..too_long`.
    let (mut fitting, mut too_long) = (0, room + 1);
    while too_long - fitting > 1 {
        let middle = fitting + (too_long - fitting) / 2;
        if fragment_fits(middle) {
            fitting = middle;
        } else {
            too_long = middle;
        }
    }
    if fitting == 0 {
        return Err(SplitError::Room);
    }
    if content.is_empty() {
        return Ok(vec![content]);
    }
    if content.len().div_ceil(fitting) > usize::from(u16::MAX) {
        return Err(SplitError::TooManyFragments);
    }
    Ok(content.chunks(fitting).collect())
}

#[cfg(test)]
mod tests;
