//! One core, and figures in cycles a packet next to criterion's in time.

use std::time::{Duration, Instant};

use criterion::Criterion;
use criterion::measurement::WallTime;

/// Pins the calling thread to the last core, away from the first where interrupts gather.
pub fn pin() {
    if let Some(core) = core_affinity::get_core_ids().and_then(|cores| cores.last().copied()) {
        core_affinity::set_for_current(core);
    }
}

/// Criterion pinned, with samples few enough that all benches together take minutes, not hours.
#[must_use]
pub fn criterion() -> Criterion<WallTime> {
    pin();
    Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(600))
        .configure_from_args()
}

/// Steps at most of which the median is taken.
const STEPS: usize = 1 << 16;
/// How long steps are taken.
const DURATION: Duration = Duration::from_millis(400);

/// Prints how many ticks of the time stamp counter a packet takes: the median step, and the
/// one that only a hundredth of all are faster than.
///
/// `step` does one piece of work on `packets` packets and returns the ticks that it wants to
/// be counted. Medians of short steps, because ticks pass while others have the core, too.
#[expect(clippy::print_stdout, reason = "that is what it is for")]
pub fn cycles_per_packet(name: &str, packets: u64, mut step: impl FnMut() -> u64) {
    let mut steps = Vec::with_capacity(STEPS);
    let begun = Instant::now();
    while begun.elapsed() < DURATION && steps.len() < STEPS {
        steps.push(step());
    }
    steps.sort_unstable();
    let a_packet = |at: usize| steps.get(at).map_or(0.0, |&ticks| ticks as f64 / packets as f64);
    let (median, fast) = (a_packet(steps.len() / 2), a_packet(steps.len() / 100));
    println!("cycles/packet  {name:<45} {median:>8.1}   1st percentile {fast:>8.1}");
}

/// Runs `work` and returns the ticks it took.
#[inline(always)]
pub fn ticks(work: impl FnOnce()) -> u64 {
    let begun = xswan_xsk::cycles();
    work();
    xswan_xsk::cycles().wrapping_sub(begun)
}

/// How many core cycles pass in one tick, from a chain of dependent multiplications.
///
/// A multiplication and an addition take four cycles one after the other on every x86 core
/// of the last decade.
#[must_use]
pub fn core_cycles_per_tick() -> f64 {
    const LINKS: u64 = 1 << 20;
    let chain = |seed: u64| {
        (0..LINKS).fold(seed, |sum, link| sum.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ link)
    };
    let best = (0..20)
        .map(|seed| ticks(|| _ = std::hint::black_box(chain(std::hint::black_box(seed)))))
        .min();
    best.map_or(0.0, |best| (4 * LINKS) as f64 / best as f64)
}
