//! The window against a naive model and against the RFC's own cases.

use super::*;
use proptest::prelude::*;
use std::vec;
use std::vec::Vec;
use xswan_testkit::oracle::{Judgement, ReplayOracle};

const SPACE: u64 = 1 << 32;
const WINDOWS: [u32; 9] = [64, 65, 100, 128, 1000, 1024, 4096, 65_536, 131_072];

type Window = ReplayWindow<Vec<u64>>;

fn fresh(window: u32, esn: bool) -> Window {
    ReplayWindow::new(window, esn, vec![0xdead; words_for(window)]).unwrap()
}

/// A window and its oracle, everything up to `top` received.
fn at(window: u32, esn: bool, top: u64) -> (Window, ReplayOracle) {
    let mut replay = fresh(window, esn);
    replay.assume_seen(top);
    (replay, ReplayOracle::all_seen(window, esn, top))
}

fn accept(replay: &mut Window, sequence: u64) -> Result<(), DropReason> {
    let candidate = replay.check(sequence as u32)?;
    assert_eq!(candidate.sequence(), sequence);
    replay.commit(candidate, &Authenticated::new(256, sequence))
}

/// One packet through both; they must agree on everything, the losses included.
fn step(replay: &mut Window, oracle: &mut ReplayOracle, sequence: u64) -> Judgement {
    let expected = oracle.judge(sequence as u32);
    let verdict = match replay.check(sequence as u32) {
        Ok(candidate) => Judgement::Accept(candidate.sequence()),
        Err(DropReason::ReplayOld) => Judgement::Old,
        Err(DropReason::ReplayDuplicate) => Judgement::Duplicate,
        Err(DropReason::ReplayZero) => Judgement::Zero,
        Err(other) => panic!("{other:?}"),
    };
    assert_eq!(verdict, expected, "{sequence} after {}", oracle.top());
    // The ICV holds only for the number that the sender meant.
    if verdict == Judgement::Accept(sequence) {
        let candidate = replay.check(sequence as u32).unwrap();
        replay.commit(candidate, &Authenticated::new(256, sequence)).unwrap();
        oracle.accept(sequence);
        assert_eq!(replay.top(), oracle.top());
        assert_eq!(replay.lost(), oracle.lost(), "losses after {sequence}");
    }
    verdict
}

#[test]
fn rep_01_one_of_each_number() {
    let mut replay = fresh(64, false);
    assert_eq!(accept(&mut replay, 1), Ok(()));
    for _ in 0..3 {
        assert_eq!(accept(&mut replay, 1), Err(DropReason::ReplayDuplicate));
    }
    // A burst of eight copies: all pass the first check, one the second.
    let burst: Vec<Candidate> = (0..8).map(|_| replay.check(2).unwrap()).collect();
    let verdicts: Vec<_> = burst
        .into_iter()
        .map(|candidate| replay.commit(candidate, &Authenticated::new(256, 2)))
        .collect();
    assert_eq!(verdicts[0], Ok(()));
    assert!(verdicts[1..].iter().all(|v| *v == Err(DropReason::ReplayDuplicate)));
}

#[test]
fn rep_02_sweeps_match_the_oracle() {
    for window in WINDOWS {
        let span = u64::from(window) + 70;
        for esn in [false, true] {
            let base = if esn { 3 * SPACE - span / 2 } else { 1 };
            let up: Vec<u64> = (base..base + span).collect();
            let down: Vec<u64> = up.iter().rev().copied().collect();
            let interleaved: Vec<u64> =
                up.iter().step_by(2).chain(down.iter().step_by(2)).copied().collect();
            for order in [&up, &down, &interleaved] {
                let mut replay = fresh(window, esn);
                let mut oracle = ReplayOracle::new(window, esn);
                if esn {
                    (replay, oracle) = at(window, esn, base - 1);
                }
                for sequence in order {
                    step(&mut replay, &mut oracle, *sequence);
                }
                for sequence in &up {
                    let again = step(&mut replay, &mut oracle, *sequence);
                    assert!(
                        order != &up || !matches!(again, Judgement::Accept(s) if s == *sequence)
                    );
                }
            }
        }
    }
}

#[test]
fn rep_03_window_edges() {
    for window in WINDOWS.into_iter().chain([MIN_WINDOW + 63, MAX_WINDOW - 1, MAX_WINDOW]) {
        let mut replay = fresh(window, false);
        let top = u64::from(window) * 2 + 17;
        accept(&mut replay, top).unwrap();
        let left = top - u64::from(window) + 1;
        assert_eq!(accept(&mut replay, left - 1), Err(DropReason::ReplayOld), "{window}");
        assert_eq!(accept(&mut replay, left), Ok(()), "{window}");
        assert_eq!(accept(&mut replay, left), Err(DropReason::ReplayDuplicate), "{window}");
    }
}

#[test]
fn rep_04_a_check_moves_nothing() {
    let mut replay = fresh(64, false);
    accept(&mut replay, 10).unwrap();
    let forged = replay.check(1010).unwrap();
    // The ICV did not match: there is no proof, so nothing can be committed.
    assert_eq!(forged.sequence(), 1010);
    assert_eq!(replay.top(), 10);
    assert_eq!(accept(&mut replay, 1010), Ok(()));
}

#[test]
fn rep_05_a_jump_within_a_burst_is_seen_by_the_second_check() {
    let mut replay = fresh(64, false);
    accept(&mut replay, 100).unwrap();
    let burst = [90_u32, 101, 300, 95].map(|sequence| replay.check(sequence).unwrap());
    let verdicts = burst
        .map(|candidate| replay.commit(candidate, &Authenticated::new(256, candidate.sequence())));
    assert_eq!(verdicts, [Ok(()), Ok(()), Ok(()), Err(DropReason::ReplayOld)]);
}

#[test]
fn rep_06_the_good_one_among_bad_ones() {
    let mut replay = fresh(64, false);
    accept(&mut replay, 200).unwrap();
    assert_eq!(replay.check(200), Err(DropReason::ReplayDuplicate));
    assert_eq!(replay.check(100), Err(DropReason::ReplayOld));
    assert_eq!(accept(&mut replay, 201), Ok(()));
}

/// RFC 4303 appendix A2.3: the window within one subspace (A) or across two (B), and a
/// number that is left of it, in it, right of it.
#[test]
fn rep_07_appendix_a2_cases() {
    let window = 64;
    // Window A: top high half 5, low half 1000. Window B: high half 5, low half 10.
    let (a, b) = (5 * SPACE + 1000, 5 * SPACE + 10);
    let cases = [
        // (case, top, low half received, what the sender meant)
        ("a: A, in the window", a, 990, 5 * SPACE + 990),
        ("b: A, at the left edge", a, 937, 5 * SPACE + 937),
        ("c: A, right of the window", a, 1001, 5 * SPACE + 1001),
        ("d: A, far right in the same subspace", a, u32::MAX, 5 * SPACE + u64::from(u32::MAX)),
        ("e: A, left of the window is the next subspace", a, 936, 6 * SPACE + 936),
        ("f: B, in the upper part", b, 5, 5 * SPACE + 5),
        ("g: B, in the lower part", b, u32::MAX - 3, 5 * SPACE - 4),
        ("h: B, right of the window", b, 11, 5 * SPACE + 11),
        ("i: B, far right", b, u32::MAX - 100, 6 * SPACE - 101),
    ];
    for (name, top, low, meant) in cases {
        let mut replay = fresh(window, true);
        replay.assume_seen(top - 2 * u64::from(window));
        accept(&mut replay, top).unwrap();
        let candidate = replay.check(low).unwrap();
        assert_eq!(candidate.sequence(), meant, "{name}");
        assert_eq!(replay.commit(candidate, &Authenticated::new(256, meant)), Ok(()), "{name}");
        assert_eq!(replay.top(), top.max(meant), "{name}");
    }
    // Case B in the first subspace: there is no subspace before it.
    let mut replay = fresh(window, true);
    assert_eq!(replay.check(u32::MAX), Err(DropReason::ReplayOld));
    accept(&mut replay, 10).unwrap();
    assert_eq!(replay.check(u32::MAX - 3), Err(DropReason::ReplayOld));
    // And none after the last.
    let (replay, _) = at(window, true, u64::MAX - 5);
    assert_eq!(replay.check(7), Err(DropReason::ReplayOld));
}

#[test]
fn rep_08_the_wrap_of_the_low_half_with_reordering() {
    for window in [64, 1024, 4096] {
        let span = 20_000_u64;
        let first = 7 * SPACE - span / 2;
        let mut numbers: Vec<u64> = (first..first + span).collect();
        // One in a hundred is late by up to half a window.
        let mut random = 0x1234_5678_9abc_def1_u64;
        for index in 0..numbers.len() - window as usize {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            if random.is_multiple_of(100) {
                let late = 1 + (random >> 8) as usize % (window as usize / 2);
                numbers[index..=index + late].rotate_left(1);
            }
        }
        let (mut replay, mut oracle) = at(window, true, first - 1);
        for sequence in &numbers {
            assert_eq!(step(&mut replay, &mut oracle, *sequence), Judgement::Accept(*sequence));
        }
        assert_eq!(replay.lost(), 0);
    }
}

#[test]
fn rep_09_jumps_of_half_a_subspace() {
    let (mut replay, _) = at(1024, true, SPACE + 5000);
    // Forward by 2^31: right, if the ICV says so.
    let far = SPACE + 5000 + (1 << 31);
    assert_eq!(accept(&mut replay, far), Ok(()));
    // Back again: inferred as the next subspace, where the ICV cannot match.
    let candidate = replay.check(5001).unwrap();
    assert_eq!(candidate.sequence(), 2 * SPACE + 5001);
    let truth = Authenticated::new(256, SPACE + 5001);
    assert_eq!(replay.commit(candidate, &truth), Err(DropReason::AuthFail));
    assert_eq!(replay.top(), far, "the window has not moved");
    // The same proof is not good for another number either.
    let candidate = replay.check((far as u32).wrapping_add(1)).unwrap();
    assert_eq!(replay.commit(candidate, &truth), Err(DropReason::AuthFail));
    assert_eq!(replay.top(), far);
}

#[test]
fn rep_10_zero_and_a_first_number_other_than_one() {
    for esn in [false, true] {
        let mut replay = fresh(64, esn);
        assert_eq!(replay.check(0), Err(DropReason::ReplayZero));
        assert_eq!(accept(&mut replay, 4711), Ok(()));
        assert_eq!(replay.top(), 4711);
    }
    let mut replay = fresh(64, false);
    accept(&mut replay, u64::from(u32::MAX)).unwrap();
    assert_eq!(replay.check(0), Err(DropReason::ReplayZero));
    assert_eq!(replay.check(1), Err(DropReason::ReplayOld), "no wrap without ESN");
}

#[test]
fn rep_13_off_together_with_esn_is_refused() {
    let state = [0; words_for(0)];
    assert_eq!(ReplayWindow::new(0, true, state).err(), Some(ReplayError::OffWithEsn));
    let mut off = ReplayWindow::new(0, false, state).unwrap();
    for sequence in [0, 1, 1, u32::MAX, 0] {
        let candidate = off.check(sequence).unwrap();
        off.commit(candidate, &Authenticated::new(256, u64::from(sequence))).unwrap();
    }
    for size in [1, 63, MAX_WINDOW + 1, u32::MAX] {
        let refused = ReplayWindow::new(size, false, vec![0; 8]).err();
        assert_eq!(refused, Some(ReplayError::WindowSize(size)));
    }
    let short = vec![0; words_for(1024) - 1];
    assert_eq!(ReplayWindow::new(1024, true, short).err(), Some(ReplayError::StateTooShort));
}

#[test]
fn rep_14_losses_are_counted_exactly_once_past_the_window() {
    for window in [64_u64, 1000, 1024] {
        for hole in [1, 50, 151, 5000] {
            let mut replay = fresh(window as u32, false);
            let mut oracle = ReplayOracle::new(window as u32, false);
            for sequence in (1..=300).chain(300 + hole + 1..=300 + hole + window) {
                step(&mut replay, &mut oracle, sequence);
            }
            // The last missing number has just left.
            assert_eq!(replay.lost(), hole, "{window} {hole}");
            for sequence in 300 + hole + window + 1..300 + hole + 3 * window {
                step(&mut replay, &mut oracle, sequence);
            }
            assert_eq!(replay.lost(), hole, "not counted again");
        }
    }
    // A late packet that comes within the window is not lost.
    let mut replay = fresh(64, false);
    for sequence in (1..=9).chain([11, 10]).chain(12..500) {
        accept(&mut replay, sequence).unwrap();
    }
    assert_eq!(replay.lost(), 0);
}

#[test]
fn rep_16_state_of_doubtful_age_accepts_nothing_again() {
    let mut replay = fresh(128, false);
    for sequence in 1..=1000 {
        accept(&mut replay, sequence).unwrap();
    }
    let older = replay.state.clone();
    for sequence in 1001..=1500 {
        accept(&mut replay, sequence).unwrap();
    }
    // Whoever restores the older state and knows a bound for what was accepted since.
    let mut restored = ReplayWindow::adopt(128, false, older).unwrap();
    restored.assume_seen(2000);
    for sequence in 1..=2000 {
        assert!(restored.check(sequence).is_err(), "{sequence}");
    }
    for sequence in 2001..2500 {
        assert_eq!(accept(&mut restored, sequence), Ok(()), "everything new is taken");
    }
    assert_eq!(accept(&mut restored, 2000), Err(DropReason::ReplayOld));
    restored.assume_seen(100);
    assert_eq!(restored.top(), 2499, "never back");
}

/// Plays an advance and stops after each store, as a kill would.
#[test]
fn rep_16_a_torn_advance_never_accepts_twice() {
    for (from, to) in [(10_u64, 11), (63, 64), (100, 170), (100, 5000), (1000, 1001)] {
        let mut replay = fresh(128, false);
        let received: Vec<u64> = (1..=from).filter(|s| s % 3 != 1 || *s == from).collect();
        for sequence in &received {
            accept(&mut replay, *sequence).unwrap();
        }
        let before = replay.state.clone();
        accept(&mut replay, to).unwrap();
        let after = replay.state.clone();
        // Every state the stores go through: target, words in any number, top.
        let mut torn = before.clone();
        torn[TARGET] = to;
        for cut in STATE_WORDS..=before.len() {
            torn[STATE_WORDS..cut].copy_from_slice(&after[STATE_WORDS..cut]);
            let mut adopted = ReplayWindow::adopt(128, false, torn.clone()).unwrap();
            assert_eq!(adopted.top(), to);
            for sequence in received.iter().chain([&to]) {
                assert!(adopted.check(*sequence as u32).is_err(), "{sequence} {from} {to} {cut}");
            }
            for sequence in to + 1..to + 300 {
                assert_eq!(accept(&mut adopted, sequence), Ok(()));
            }
        }
        // A clean state is taken as it is.
        let adopted = ReplayWindow::adopt(128, false, after.clone()).unwrap();
        assert_eq!(adopted.state, after);
    }
}

#[test]
fn resynchronisation_offers_the_next_high_halves() {
    let (replay, _) = at(64, true, 3 * SPACE + 1000);
    let offered: Vec<u64> = replay.resync_candidates(1001, 3).map(Candidate::sequence).collect();
    assert_eq!(offered, [4 * SPACE + 1001, 5 * SPACE + 1001, 6 * SPACE + 1001]);
    let offered: Vec<u64> = replay.resync_candidates(5, 2).map(Candidate::sequence).collect();
    assert_eq!(offered, [5 * SPACE + 5, 6 * SPACE + 5], "the next subspace was inferred already");
    let (last, _) = at(64, true, u64::MAX - 10);
    assert_eq!(last.resync_candidates(u32::MAX - 1, 8).count(), 0);
    let plain = fresh(64, false);
    assert_eq!(plain.resync_candidates(1, 8).count(), 0);
}

proptest! {
    #[test]
    fn rep_02_random_walks_match_the_oracle(
        window in prop::sample::select(&WINDOWS[..7]),
        esn: bool,
        start in 0_u64..3 * SPACE,
        steps in prop::collection::vec((0_u8..10, any::<u32>()), 1..400),
    ) {
        let start = if esn { start } else { start % (SPACE / 2) };
        let (mut replay, mut oracle) = at(window, esn, start);
        for (kind, amount) in steps {
            let (top, amount, window) = (oracle.top(), u64::from(amount), u64::from(window));
            let sequence = match kind {
                0..5 => top + 1 + amount % 3,
                5..7 => top.saturating_sub(amount % (window + 3)),
                7 => top + amount % (3 * window),
                8 => top.saturating_sub(amount % (3 * window)),
                _ => amount,
            };
            if esn || sequence <= u64::from(u32::MAX) {
                step(&mut replay, &mut oracle, sequence);
            }
        }
    }

    #[test]
    fn a_broken_state_never_panics(
        window in prop::sample::select(&WINDOWS[..5]),
        esn: bool,
        words in prop::collection::vec(any::<u64>(), 66),
        sequences: Vec<u32>,
    ) {
        let window = window.min(1024);
        let mut replay = ReplayWindow::adopt(window, esn, words).unwrap();
        for sequence in sequences {
            if let Ok(candidate) = replay.check(sequence) {
                let proof = Authenticated::new(256, candidate.sequence());
                let _ = replay.commit(candidate, &proof);
            }
        }
    }
}
