//! The anti-replay window (RFC 4303 section 3.4.3) as a ring of words (RFC 6479).
//!
//! Two steps, as the RFC orders them: [`ReplayWindow::check`] before the cipher may only
//! say no and changes nothing; [`ReplayWindow::commit`] after it needs the proof and looks
//! again, because other packets of the same burst have been committed meanwhile.
//!
//! All state is one `[u64]`, in production a piece of shared memory that outlives the
//! process:
//!
//! | word | meaning |
//! |---|---|
//! | 0 | top: the highest sequence number accepted |
//! | 1 | advance target: equal to the top except while the window moves |
//! | 2… | the ring: bit `s mod 64` of word `(s / 64) mod n` says that `s` was received |
//!
//! A move writes the target, then clears words and sets the bit, then writes the top. If
//! the process dies between, [`ReplayWindow::adopt`] finds target and top different and
//! counts everything up to the target as received: packets may be lost, none is ever
//! accepted twice. The ring is longer than the window by up to a factor of two, the
//! window itself is exact.

use core::fmt;
use core::sync::atomic::{Ordering, compiler_fence};

use xswan_wire::DropReason;

use crate::proof::Authenticated;

/// Smallest window in packets (the default of RFC 4303 section 3.4.3).
pub const MIN_WINDOW: u32 = 64;
/// Largest window in packets.
pub const MAX_WINDOW: u32 = 1 << 20;

const WORD_BITS: u64 = 64;
const TOP: usize = 0;
const TARGET: usize = 1;
const STATE_WORDS: usize = 2;

/// A window that cannot be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplayError {
    /// The size is not 0 and not within [`MIN_WINDOW`] to [`MAX_WINDOW`].
    WindowSize(u32),
    /// Extended sequence numbers need the window to know the high half (RFC 4303 section 2.2.1).
    OffWithEsn,
    /// The state slice is shorter than [`words_for`] says.
    StateTooShort,
}

impl fmt::Display for ReplayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WindowSize(size) => {
                write!(f, "replay window of {size}: use 0 (off) or {MIN_WINDOW} to {MAX_WINDOW}")
            }
            Self::OffWithEsn => f.write_str("extended sequence numbers need a replay window"),
            Self::StateTooShort => f.write_str("replay state shorter than the window needs"),
        }
    }
}

impl core::error::Error for ReplayError {}

/// A sequence number that passed the first check: the high half is a guess until the ICV
/// has been verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    sequence: u64,
}

impl Candidate {
    /// The number with the inferred high half.
    #[inline(always)]
    #[must_use]
    pub const fn sequence(self) -> u64 {
        self.sequence
    }
}

/// Length in 64-bit words of the state of a window of this many packets; 0 is "off".
///
/// ```
/// use xswan_esp::replay::words_for;
/// assert_eq!(words_for(64), 2 + 2);
/// assert_eq!(words_for(1024), 2 + 32);
/// ```
#[must_use]
pub const fn words_for(window: u32) -> usize {
    if window == 0 {
        return STATE_WORDS;
    }
    let ring = window.div_ceil(64).saturating_add(1).next_power_of_two();
    STATE_WORDS.saturating_add(ring as usize)
}

/// The window of one inbound SA.
#[derive(Debug)]
pub struct ReplayWindow<S> {
    window: u64,
    ring_mask: u64,
    lost: u64,
    esn: bool,
    state: S,
}

impl<S: AsRef<[u64]> + AsMut<[u64]>> ReplayWindow<S> {
    /// An empty window of `window` packets, 0 for none; wipes `state`.
    ///
    /// # Errors
    /// [`ReplayError`]: size out of range, off together with ESN, or `state` too short.
    pub fn new(window: u32, esn: bool, state: S) -> Result<Self, ReplayError> {
        let mut this = Self::over(window, esn, state)?;
        this.state.as_mut().fill(0);
        Ok(this)
    }

    /// The window that a previous owner of `state` left, as it is.
    ///
    /// If the owner died while the window moved, all up to the intended top counts as
    /// received.
    ///
    /// # Errors
    /// As [`ReplayWindow::new`].
    pub fn adopt(window: u32, esn: bool, state: S) -> Result<Self, ReplayError> {
        let mut this = Self::over(window, esn, state)?;
        let (top, target) = (this.top(), this.read(TARGET));
        if top != target {
            this.assume_seen(top.max(target));
        }
        Ok(this)
    }

    fn over(window: u32, esn: bool, state: S) -> Result<Self, ReplayError> {
        if window == 0 && esn {
            return Err(ReplayError::OffWithEsn);
        }
        if window != 0 && !(MIN_WINDOW..=MAX_WINDOW).contains(&window) {
            return Err(ReplayError::WindowSize(window));
        }
        let words = words_for(window);
        if state.as_ref().len() < words {
            return Err(ReplayError::StateTooShort);
        }
        let ring_mask = (words.saturating_sub(STATE_WORDS) as u64).saturating_sub(1);
        Ok(Self { window: u64::from(window), ring_mask, lost: 0, esn, state })
    }

    /// Counts everything up to `up_to` as received; the window never moves back.
    ///
    /// For state whose age is in doubt: restored from elsewhere, or torn.
    pub fn assume_seen(&mut self, up_to: u64) {
        let top = up_to.max(self.top());
        self.write(TARGET, top.wrapping_add(1));
        compiler_fence(Ordering::SeqCst);
        if let Some(ring) = self.state.as_mut().get_mut(STATE_WORDS..) {
            ring.fill(u64::MAX);
        }
        // Numbers above the top are not received, and moving within this word clears nothing.
        let index = self.ring_index(top / WORD_BITS);
        self.write(index, bits_through(top % WORD_BITS));
        compiler_fence(Ordering::SeqCst);
        self.write(TOP, top);
        self.write(TARGET, top);
    }

    /// The highest sequence number accepted; 0 before the first packet.
    #[must_use]
    pub fn top(&self) -> u64 {
        self.read(TOP)
    }

    /// Sequence numbers that left the window without having been received.
    #[must_use]
    pub const fn lost(&self) -> u64 {
        self.lost
    }

    /// Window size in packets; 0 if replay protection is off.
    #[must_use]
    pub const fn window(&self) -> u64 {
        self.window
    }

    /// Whether sequence numbers are extended ones.
    #[must_use]
    pub const fn esn(&self) -> bool {
        self.esn
    }

    /// What a packet with this number will read of the state: to be asked for ahead of time.
    #[inline(always)]
    #[must_use]
    pub fn places(&self, seq_low: u32) -> [Option<&u64>; 2] {
        let words = self.state.as_ref();
        let ring = self.ring_index(u64::from(seq_low) / WORD_BITS);
        [words.first(), words.get(ring)]
    }

    /// First check, before the cipher: infers the high half and asks the window.
    ///
    /// # Errors
    /// [`DropReason::ReplayZero`], [`DropReason::ReplayOld`], [`DropReason::ReplayDuplicate`].
    #[inline]
    pub fn check(&self, seq_low: u32) -> Result<Candidate, DropReason> {
        let sequence = if self.esn { self.infer(seq_low)? } else { u64::from(seq_low) };
        self.judge(sequence)?;
        Ok(Candidate { sequence })
    }

    /// Second check and mark, after the cipher.
    ///
    /// # Errors
    /// As [`ReplayWindow::check`]; [`DropReason::AuthFail`] if the proof is for another packet.
    #[inline]
    pub fn commit(
        &mut self,
        candidate: Candidate,
        proof: &Authenticated,
    ) -> Result<(), DropReason> {
        let sequence = candidate.sequence;
        if proof.sequence() != sequence {
            return Err(DropReason::AuthFail);
        }
        self.judge(sequence)?;
        if self.window == 0 {
            return Ok(());
        }
        if sequence > self.top() {
            self.advance(sequence);
        } else {
            self.mark(sequence);
        }
        Ok(())
    }

    /// Candidates with a higher high half than inferred, nearest first (RFC 4303 appendix A3).
    ///
    /// Each still needs the ICV to match; see [`crate::resync`] for when to try.
    pub fn resync_candidates(
        &self,
        seq_low: u32,
        attempts: u32,
    ) -> impl Iterator<Item = Candidate> + use<S> {
        let high = if self.esn { self.infer(seq_low).ok().map(|s| s >> 32) } else { None };
        // In case B with no lower half to go back to, the inferred high half is "-1".
        let first = high.map_or(if self.esn { Some(0) } else { None }, |high| high.checked_add(1));
        let count = if first.is_some() { u64::from(attempts) } else { 0 };
        (0..count).map_while(move |step| {
            let high = u32::try_from(first?.checked_add(step)?).ok()?;
            Some(Candidate { sequence: (u64::from(high) << 32) | u64::from(seq_low) })
        })
    }

    /// The high half by RFC 4303 appendix A2.2.
    #[inline]
    fn infer(&self, seq_low: u32) -> Result<u64, DropReason> {
        let top = self.top();
        let (top_high, top_low) = (top >> 32, top & u64::from(u32::MAX));
        let low = u64::from(seq_low);
        let reach = self.window.wrapping_sub(1);
        let high = if top_low >= reach {
            // Case A: the window lies within one subspace.
            if low >= top_low.wrapping_sub(reach) {
                Some(top_high)
            } else {
                top_high.checked_add(1)
            }
        } else {
            // Case B: its left end lies in the subspace before.
            let left = top_low.wrapping_sub(reach) & u64::from(u32::MAX);
            if low >= left { top_high.checked_sub(1) } else { Some(top_high) }
        };
        match high {
            Some(high) if high <= u64::from(u32::MAX) => Ok((high << 32) | low),
            // Before the first subspace, or after the last: no such packet was ever sent.
            Some(_) | None => Err(DropReason::ReplayOld),
        }
    }

    #[inline]
    fn judge(&self, sequence: u64) -> Result<(), DropReason> {
        if self.window == 0 {
            return Ok(());
        }
        if sequence == 0 {
            return Err(DropReason::ReplayZero);
        }
        let top = self.top();
        if sequence > top {
            return Ok(());
        }
        if top.wrapping_sub(sequence) >= self.window {
            return Err(DropReason::ReplayOld);
        }
        let word = self.read(self.ring_index(sequence / WORD_BITS));
        if word & bit(sequence) != 0 { Err(DropReason::ReplayDuplicate) } else { Ok(()) }
    }

    #[inline]
    fn mark(&mut self, sequence: u64) {
        let index = self.ring_index(sequence / WORD_BITS);
        let word = self.read(index);
        self.write(index, word | bit(sequence));
    }

    fn advance(&mut self, sequence: u64) {
        let top = self.top();
        self.lost = self.lost.saturating_add(self.leaving(top, sequence));
        self.write(TARGET, sequence);
        compiler_fence(Ordering::SeqCst);
        let (from, to) = (top / WORD_BITS, sequence / WORD_BITS);
        let skipped = to.saturating_sub(from).min(self.ring_mask.wrapping_add(1));
        for step in 1..=skipped {
            let index = self.ring_index(from.wrapping_add(step));
            self.write(index, 0);
        }
        self.mark(sequence);
        compiler_fence(Ordering::SeqCst);
        self.write(TOP, sequence);
    }

    /// How many numbers fall off the left end unreceived when the top moves to `new_top`.
    fn leaving(&self, top: u64, new_top: u64) -> u64 {
        let last = new_top.saturating_sub(self.window);
        let first = top.saturating_sub(self.window).saturating_add(1);
        if last < first {
            return 0;
        }
        // What lies above the old top was never received; below it, the ring knows.
        let never = last.saturating_sub(top.max(first.saturating_sub(1)));
        let known_last = last.min(top);
        if known_last < first {
            return never;
        }
        let known = known_last.saturating_sub(first).saturating_add(1);
        never.saturating_add(known.saturating_sub(self.received_between(first, known_last)))
    }

    fn received_between(&self, first: u64, last: u64) -> u64 {
        let (first_word, last_word) = (first / WORD_BITS, last / WORD_BITS);
        let mut received = 0_u64;
        for block in first_word..=last_word {
            let mut word = self.read(self.ring_index(block));
            if block == first_word {
                word &= u64::MAX.wrapping_shl((first % WORD_BITS) as u32);
            }
            if block == last_word {
                word &= bits_through(last % WORD_BITS);
            }
            received = received.saturating_add(u64::from(word.count_ones()));
        }
        received
    }

    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "masked below the ring's length")]
    fn ring_index(&self, block: u64) -> usize {
        ((block & self.ring_mask) as usize).wrapping_add(STATE_WORDS)
    }

    /// A word that is not there reads as "all received": a broken state accepts nothing.
    #[inline(always)]
    fn read(&self, index: usize) -> u64 {
        self.state.as_ref().get(index).copied().unwrap_or(u64::MAX)
    }

    #[inline(always)]
    fn write(&mut self, index: usize, value: u64) {
        if let Some(word) = self.state.as_mut().get_mut(index) {
            *word = value;
        }
    }
}

#[inline(always)]
const fn bit(sequence: u64) -> u64 {
    1_u64.wrapping_shl((sequence % WORD_BITS) as u32)
}

/// Bits 0 to `last` of a word, `last` below 64.
#[inline(always)]
const fn bits_through(last: u64) -> u64 {
    u64::MAX.wrapping_shr(63_u32.wrapping_sub((last % WORD_BITS) as u32))
}

const _: () = assert!(words_for(MIN_WINDOW) == 4);
const _: () = assert!(words_for(MAX_WINDOW) == 2 + 32_768);

#[cfg(test)]
#[path = "replay_tests.rs"]
mod tests;
