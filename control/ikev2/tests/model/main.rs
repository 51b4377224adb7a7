//! Two cores, a bad wire, hasty operators, and what must hold whatever happens.
//!
//! A run is a function of its seed: configuration, commands, losses and entropy. The ordinary
//! test run makes [`RUNS`] of them; `XSWAN_MODEL_RUNS` makes more, `XSWAN_MODEL_SEED` only the one
//! with that seed, with both logs (`XSWAN_MODEL_LINES`: more of them).
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

mod invariants;
mod scenario;
mod world;

use scenario::Scenario;
use std::panic::{AssertUnwindSafe, catch_unwind};
use world::World;

/// Runs of all parts together, if the environment does not say otherwise.
const RUNS: u64 = 2_000;
/// The runs are cut into so many tests, which the harness may run side by side.
const PARTS: u64 = 4;
/// Of so many runs that failed the first line is shown.
const MAX_SHOWN: usize = 50;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Lines of each log that are shown of a run that failed.
const SHOWN_LINES: usize = 120;

/// Both logs in the order of time, the second one's lines indented; cut to the end.
fn logs(world: &World) -> String {
    let mut lines = Vec::new();
    for (number, gateway) in world.network.gateways.iter().enumerate() {
        for (at, line) in gateway.log_times.iter().zip(&gateway.log) {
            let indent = [" ", "                              "][number];
            lines.push((*at, number, format!("{:>8}{indent}{line}", at.0)));
        }
    }
    lines.retain(|(_, _, line)| !line.ends_with("sending DPD request"));
    // Of one gateway and moment, lines stay in their order.
    lines.sort_by_key(|(at, number, _)| (*at, *number));
    let from = lines.len().saturating_sub(shown_lines());
    let lines: Vec<String> = lines.drain(from..).map(|(_, _, line)| line).collect();
    lines.join("\n")
}

fn shown_lines() -> usize {
    number("XSWAN_MODEL_LINES").and_then(|lines| lines.try_into().ok()).unwrap_or(SHOWN_LINES)
}

/// One run. Returns a digest of every datagram that was sent.
fn run(seed: u64) -> Result<u64, String> {
    let scenario = Scenario::new(seed);
    let mut world = World::new(&scenario, seed);
    let outcome = catch_unwind(AssertUnwindSafe(|| world.live(&scenario)));
    let outcome = outcome.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(text.unwrap_or_else(|| "a panic".into()))
    });
    let tell =
        |why: String| format!("XSWAN_MODEL_SEED={seed}: {why}\n{scenario:?}\n{}", logs(&world));
    outcome.map_err(tell).map(|()| world.network.digest())
}

fn runs(part: u64) {
    if let Some(seed) = number("XSWAN_MODEL_SEED") {
        if seed % PARTS == part {
            let outcome = run(seed);
            assert!(outcome.is_ok(), "{}", outcome.unwrap_err());
        }
        return;
    }
    let first = number("XSWAN_MODEL_FIRST").unwrap_or(0);
    let end = first + number("XSWAN_MODEL_RUNS").unwrap_or(RUNS);
    let mut failed = Vec::new();
    for seed in (first..end).filter(|seed| seed % PARTS == part) {
        failed.extend(run(seed).err());
    }
    let lines = failed.iter().filter_map(|why| why.lines().next());
    let lines: Vec<&str> = lines.take(MAX_SHOWN).collect();
    if let Some(first) = failed.first() {
        panic!("{first}\n{} runs failed:\n{}", failed.len(), lines.join("\n"));
    }
}

#[test]
fn rek_16_two_cores_agree_in_the_end_first_part() {
    runs(0);
}

#[test]
fn rek_16_two_cores_agree_in_the_end_second_part() {
    runs(1);
}

#[test]
fn rek_16_two_cores_agree_in_the_end_third_part() {
    runs(2);
}

#[test]
fn rek_16_two_cores_agree_in_the_end_fourth_part() {
    runs(3);
}

/// Seeds that have found something: messages in fragments that cross, an old Child SA closed too
/// early, a cookie and an answer that cross, a rival that was replaced before it was known.
#[test]
fn rek_16_what_was_found_once_is_not_found_again() {
    for seed in [1_264, 1_636, 4_645, 13_026, 13_806, 29_022, 34_592, 40_491, 40_804] {
        let outcome = run(seed);
        assert!(outcome.is_ok(), "{}", outcome.unwrap_err());
    }
}

#[test]
fn a_run_is_a_function_of_its_seed() {
    for seed in [1, 2, 3, 4] {
        assert_eq!(run(seed), run(seed));
    }
}
