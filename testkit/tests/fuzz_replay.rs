//! The fuzz targets' bodies over the committed corpora and seeded mutations of them.
//!
//! Deterministic, on stable, in every test run. `XSWAN_FUZZ_SECONDS` makes each test go on
//! mutating for that long from a seed it prints (`cargo xtask fuzz` without a nightly).
#![expect(clippy::expect_used, reason = "a test stops at the first surprise")]
#![expect(clippy::print_stdout, reason = "shown by the harness when asked for")]

#[path = "../../fuzz/bodies/mod.rs"]
mod bodies;

use std::path::PathBuf;
use std::time::{Duration, Instant};
use xswan_testkit::failure::{Failure, Outcome};
use xswan_testkit::packet::Noise;

/// Mutants of each corpus in an ordinary run.
const MUTANTS: u64 = 20_000;
/// Mutants of a corpus whose every input is a conversation that begins with a handshake.
const CONVERSATIONS: u64 = 8_000;
/// Mutations on top of each other, at most.
const DEPTH: usize = 6;

fn corpus(target: &str) -> Outcome<Vec<Vec<u8>>> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(&folder)?.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    let files: Vec<Vec<u8>> = paths.iter().map(std::fs::read).collect::<std::io::Result<_>>()?;
    if files.is_empty() {
        return Err(Failure::new(format!("{}: no corpus", folder.display())));
    }
    Ok(files)
}

fn replay(target: &str) -> Outcome<()> {
    replay_mutants(target, MUTANTS)
}

fn replay_mutants(target: &str, mutants: u64) -> Outcome<()> {
    let (_, body) = bodies::TARGETS
        .iter()
        .find(|(name, _)| *name == target)
        .ok_or_else(|| Failure::new(format!("no target {target}")))?;
    let corpus = corpus(target)?;
    for file in &corpus {
        body(file);
    }
    let limit = std::env::var("XSWAN_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok());
    let limit = limit.map(Duration::from_secs);
    let seed = if limit.is_some() { u64::from(std::process::id()) } else { 1 };
    let mut noise = Noise::new(seed);
    let (begin, mut done) = (Instant::now(), 0u64);
    while limit.map_or(done < mutants, |limit| begin.elapsed() < limit) {
        let mut bytes = corpus[noise.below(corpus.len())].clone();
        for _ in 0..=noise.below(DEPTH) {
            noise.mutate(&mut bytes);
        }
        let outcome = std::panic::catch_unwind(|| body(&bytes));
        assert!(outcome.is_ok(), "seed {seed}, mutant {done} of {target}: {bytes:02x?}");
        done += 1;
    }
    println!("{target}: {} files, {done} mutants, seed {seed}", corpus.len());
    Ok(())
}

#[test]
fn certificate() -> Outcome<()> {
    replay("certificate")
}

#[test]
fn classify() -> Outcome<()> {
    replay("classify")
}

#[test]
fn config() -> Outcome<()> {
    replay("config")
}

#[test]
fn decap() -> Outcome<()> {
    replay("decap")
}

#[test]
fn eap() -> Outcome<()> {
    replay("eap")
}

#[test]
fn ike_fragments() -> Outcome<()> {
    replay_mutants("ike_fragments", CONVERSATIONS)
}

#[test]
fn ike_machine() -> Outcome<()> {
    replay_mutants("ike_machine", CONVERSATIONS)
}

#[test]
fn ike_message() -> Outcome<()> {
    replay("ike_message")
}

#[test]
fn sa_api() -> Outcome<()> {
    replay("sa_api")
}

#[test]
fn wire_layers() -> Outcome<()> {
    replay("wire_layers")
}
