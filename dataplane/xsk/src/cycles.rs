//! The processor's own clock, for figures in cycles a packet.

/// The time stamp counter; 0 on processors without one that user programs may read.
///
/// Ticks at a constant rate, which is not the core's momentary frequency.
#[inline(always)]
#[must_use]
pub fn cycles() -> u64 {
    #[cfg(target_arch = "x86_64")]
    {
        // SAFETY: the instruction is part of the architecture's baseline and reads a counter.
        unsafe { core::arch::x86_64::_rdtsc() }
    }
    #[cfg(not(target_arch = "x86_64"))]
    0
}
