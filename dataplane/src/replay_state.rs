//! Where an inbound SA's replay window lives.

use xswan_sa_api::{InboundConfig, ReplayWords, SharedMaps};

/// Words of the smallest window, which a switched-off one does not fill.
const LOCAL_WORDS: usize = 4;

/// Replay state: in the shared arena, where it survives the process, or nowhere in particular.
#[derive(Debug)]
pub enum ReplayState {
    /// In the shared arena.
    Shared(ReplayWords),
    /// The SA has no replay protection, so there is nothing to survive.
    Local(Box<[u64; LOCAL_WORDS]>),
}

impl ReplayState {
    /// What an SA is built with that will get the window of another.
    #[must_use]
    pub fn placeholder() -> Self {
        Self::Local(Box::new([0; LOCAL_WORDS]))
    }

    /// Claims the words that the record names.
    ///
    /// # Errors
    /// If they are not in the arena or another SA has them.
    pub fn open(maps: &SharedMaps, config: &InboundConfig) -> Result<Self, String> {
        if config.replay_window == 0 {
            return Ok(Self::Local(Box::new([0; LOCAL_WORDS])));
        }
        maps.claim_replay(config.replay_offset, config.replay_len)
            .map(Self::Shared)
            .map_err(|error| error.to_string())
    }
}

impl AsRef<[u64]> for ReplayState {
    #[inline(always)]
    fn as_ref(&self) -> &[u64] {
        match self {
            Self::Shared(words) => words.as_ref(),
            Self::Local(words) => words.as_slice(),
        }
    }
}

impl AsMut<[u64]> for ReplayState {
    #[inline(always)]
    fn as_mut(&mut self) -> &mut [u64] {
        match self {
            Self::Shared(words) => words.as_mut(),
            Self::Local(words) => words.as_mut_slice(),
        }
    }
}
