//! When the kernel has stopped sending: frames outstanding, and no completion for too long.
//!
//! Time is an argument. A queue that has stalled is closed and opened again; its frames
//! are taken back then.

/// Watches one queue's completions. The owner of its rings asks once in a while.
#[derive(Clone, Copy, Debug)]
pub struct StallWatch {
    deadline_ms: u64,
    completed: u64,
    since_ms: Option<u64>,
    stalls: u64,
}

impl StallWatch {
    /// Long enough for a driver to be reset, short enough that nobody redials.
    pub const DEADLINE_MS: u64 = 100;

    /// A watch that calls a stall after `deadline_ms` without a completion.
    #[must_use]
    pub const fn new(deadline_ms: u64) -> Self {
        Self { deadline_ms, completed: 0, since_ms: None, stalls: 0 }
    }

    /// Tells what is outstanding and what has been completed in all; `true` if the
    /// queue has to be opened anew.
    ///
    /// Stays `true` until a completion comes or nothing is outstanding.
    pub fn needs_rebuild(&mut self, outstanding_tx: u64, completed: u64, now_ms: u64) -> bool {
        if outstanding_tx == 0 || completed != self.completed {
            self.completed = completed;
            self.since_ms = (outstanding_tx != 0).then_some(now_ms);
            return false;
        }
        let since_ms = *self.since_ms.get_or_insert(now_ms);
        let stalled = now_ms.saturating_sub(since_ms) > self.deadline_ms;
        self.stalls += u64::from(stalled);
        stalled
    }

    /// Counter `xsk_tx_stall`: how many times the answer was yes.
    #[must_use]
    pub const fn stalls(&self) -> u64 {
        self.stalls
    }
}

impl Default for StallWatch {
    fn default() -> Self {
        Self::new(Self::DEADLINE_MS)
    }
}
