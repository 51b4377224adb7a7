//! A map's memory as records of whole words: every access bounded, none unsafe.

use crate::sys::Region;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// A mapped array of records, shared by all handles on it.
#[derive(Clone, Debug)]
pub(crate) struct Mapping {
    region: Arc<Region>,
    record_words: usize,
}

impl Mapping {
    pub(crate) fn new(region: Arc<Region>, record_words: usize) -> Self {
        Self { region, record_words }
    }

    /// The words of one record, `None` past the end of the map.
    pub(crate) fn record(&self, index: u32) -> Option<&[AtomicU64]> {
        let start = (index as usize).checked_mul(self.record_words)?;
        self.region.words().get(start..)?.get(..self.record_words)
    }

    /// Which words of the map one record is.
    pub(crate) fn place(&self, index: u32) -> Option<std::ops::Range<usize>> {
        let start = (index as usize).checked_mul(self.record_words)?;
        let end = start.checked_add(self.record_words)?;
        (end <= self.region.words().len()).then_some(start..end)
    }

    /// All words of the map.
    pub(crate) fn words(&self) -> &[AtomicU64] {
        self.region.words()
    }

    /// The memory itself.
    pub(crate) fn region(&self) -> &Arc<Region> {
        &self.region
    }
}
