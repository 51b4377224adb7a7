//! The processor's own clock, for figures in cycles a packet, and its hint about memory.

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

/// Lines of 64 octets of a value that are asked for at most: what is behind them is not for packets.
const LINES: usize = 4;

/// Asks for a value's first lines to come into the cache. Changes nothing else.
#[inline(always)]
pub fn prefetch<T>(place: &T) {
    #[cfg(target_arch = "x86_64")]
    {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let first = core::ptr::from_ref(place).cast::<i8>();
        for line in 0..size_of::<T>().div_ceil(64).min(LINES) {
            let line = first.wrapping_byte_add(64 * line);
            // SAFETY: a hint, whatever the address; SSE is part of x86-64.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(line) }
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = place;
}
