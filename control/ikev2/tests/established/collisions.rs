//! Both sides at once: every order of commands, messages and one loss that there is room for.
//!
//! A run is a list of choices; the next run changes the last choice that can still be changed.
//! After each step every packet that either side would send must be opened by the other one.

use crate::pair::{Pair, rekey_child, rekey_ike, terminate_child, terminate_ike};
use std::cell::RefCell;
use xswan_ikev2::Input;
use xswan_simulation::Seeded;

/// What each side does, in its own order.
type Script = [Vec<fn() -> Input>; 2];

/// The choices of one run.
enum Orders {
    /// Every one, after the other.
    Every { choices: Vec<usize>, options: Vec<usize>, position: usize },
    /// So many more by chance.
    Chance { random: Seeded, left: usize },
}

impl Orders {
    fn every() -> Self {
        Self::Every { choices: Vec::new(), options: Vec::new(), position: 0 }
    }

    fn choose(&mut self, of: usize) -> usize {
        match self {
            Self::Every { choices, options, position } => {
                if *position == choices.len() {
                    choices.push(0);
                    options.push(of);
                }
                assert_eq!(options[*position], of, "a run that cannot be repeated");
                *position += 1;
                choices[*position - 1]
            }
            Self::Chance { random, .. } => random.below(of as u64) as usize,
        }
    }

    /// The next order; false if there is none.
    fn advance(&mut self) -> bool {
        match self {
            Self::Every { choices, options, position } => {
                *position = 0;
                while let Some(choice) = choices.pop() {
                    let of = options.pop().unwrap();
                    if choice + 1 < of {
                        choices.push(choice + 1);
                        options.push(of);
                        return true;
                    }
                }
                false
            }
            Self::Chance { left, .. } => {
                *left -= 1;
                *left > 0
            }
        }
    }
}

/// What the wire may do in one run.
#[derive(Clone, Copy, Default)]
struct Wire {
    /// Datagrams that are lost, at most.
    losses: usize,
    /// Datagrams that overtake another one, at most.
    overtaking: usize,
    /// Datagrams that arrive twice, at most.
    copies: usize,
    /// Daemons that are killed and start again, at most.
    restarts: usize,
}

const CLEAN: Wire = Wire { losses: 0, overtaking: 0, copies: 0, restarts: 0 };
const LOSSY: Wire = Wire { losses: 1, overtaking: 0, copies: 0, restarts: 0 };
const MESSY: Wire = Wire { losses: 1, overtaking: 1, copies: 1, restarts: 0 };
const RESTARTED: Wire = Wire { restarts: 1, ..CLEAN };

#[derive(Clone, Copy)]
enum Step {
    Command,
    Deliver,
    Lose,
    Overtake,
    Copy,
    Restart,
}

/// One run.
fn run(pair: &mut Pair, script: &Script, orders: &mut Orders, mut wire: Wire) {
    let mut next = [0, 0];
    loop {
        let mut options: Vec<(Step, usize)> = Vec::new();
        for side in 0..2 {
            let waiting = pair.queues[side].len();
            let steps = [
                (Step::Command, next[side] < script[side].len()),
                (Step::Deliver, waiting > 0),
                (Step::Lose, waiting > 0 && wire.losses > 0),
                (Step::Overtake, waiting > 1 && wire.overtaking > 0),
                (Step::Copy, waiting > 0 && wire.copies > 0),
                (Step::Restart, next != [0, 0] && wire.restarts > 0),
            ];
            options.extend(steps.iter().filter(|(_, may)| *may).map(|(step, _)| (*step, side)));
        }
        if options.is_empty() {
            return;
        }
        let (step, side) = options[orders.choose(options.len())];
        match step {
            Step::Command => {
                let command = script[side][next[side]];
                next[side] += 1;
                pair.input(side, command());
            }
            Step::Deliver => assert!(pair.deliver(side)),
            Step::Lose => {
                pair.queues[side].pop_front();
                wire.losses -= 1;
            }
            Step::Overtake => {
                let newest = pair.queues[side].pop_back().unwrap();
                pair.queues[side].push_front(newest);
                wire.overtaking -= 1;
                pair.deliver(side);
            }
            Step::Restart => {
                pair.restart(side);
                wire.restarts -= 1;
            }
            Step::Copy => {
                let oldest = pair.queues[side].front().cloned().unwrap();
                pair.queues[side].push_back(oldest);
                wire.copies -= 1;
                pair.deliver(side);
            }
        }
    }
}

/// Every order; the seeds let either side have the lowest nonce.
fn every_order(script: &Script, wire: Wire, seeds: u64, check: impl Fn(&mut Pair)) {
    for seed in 0..seeds {
        runs(script, wire, seed, Orders::every(), &check);
    }
}

/// So many orders by chance.
fn some_orders(script: &Script, wire: Wire, count: usize, check: impl Fn(&mut Pair)) {
    for seed in 0..4 {
        let orders = Orders::Chance { random: Seeded::new(seed), left: count };
        runs(script, wire, seed, orders, &check);
    }
}

fn runs(script: &Script, wire: Wire, seed: u64, mut orders: Orders, check: &impl Fn(&mut Pair)) {
    let mut count = 0;
    loop {
        let mut pair = Pair::up(seed, |_, _| {});
        pair.strict = true;
        run(&mut pair, script, &mut orders, wire);
        check(&mut pair);
        count += 1;
        if !orders.advance() {
            break;
        }
    }
    assert!(count > 1, "there is more than one order");
}

fn one_pair_left(pair: &mut Pair) {
    pair.run_for(400_000);
    pair.assert_at_rest(1);
}

#[test]
fn rek_01_both_sides_rekey_the_child() {
    let script: Script = [vec![rekey_child], vec![rekey_child]];
    every_order(&script, CLEAN, 6, one_pair_left);
}

#[test]
fn rek_02_rek_03_rek_04_rek_05_rek_06_rekeyings_of_a_child_meet_on_a_wire_that_loses_and_delays() {
    let script: Script = [vec![rekey_child], vec![rekey_child]];
    every_order(&script, LOSSY, 2, one_pair_left);
    some_orders(&script, MESSY, 300, one_pair_left);
}

#[test]
fn rek_01_both_sides_rekey_the_ike_sa() {
    let script: Script = [vec![rekey_ike], vec![rekey_ike]];
    every_order(&script, CLEAN, 6, one_pair_left);
}

#[test]
fn rek_02_rek_03_rek_04_rek_05_rek_06_rekeyings_of_an_ike_sa_meet_on_a_wire_that_loses_and_delays()
{
    let script: Script = [vec![rekey_ike], vec![rekey_ike]];
    every_order(&script, LOSSY, 2, one_pair_left);
    some_orders(&script, MESSY, 300, one_pair_left);
}

#[test]
fn rek_08_child_rekeying_meets_ike_rekeying() {
    let script: Script = [vec![rekey_child], vec![rekey_ike]];
    every_order(&script, CLEAN, 2, one_pair_left);
    every_order(&script, LOSSY, 1, one_pair_left);
    some_orders(&script, MESSY, 200, one_pair_left);
}

#[test]
fn rek_08_one_side_rekeys_both_and_the_other_the_child() {
    let script: Script = [vec![rekey_ike, rekey_child], vec![rekey_child]];
    every_order(&script, CLEAN, 1, one_pair_left);
    some_orders(&script, MESSY, 200, one_pair_left);
}

#[test]
fn rek_08_both_sides_rekey_both() {
    let script: Script = [vec![rekey_child, rekey_ike], vec![rekey_ike, rekey_child]];
    some_orders(&script, CLEAN, 300, one_pair_left);
    some_orders(&script, MESSY, 300, one_pair_left);
}

#[test]
fn rek_09_rekeying_meets_deletion() {
    let scripts: [Script; 2] =
        [[vec![rekey_child], vec![terminate_child]], [vec![rekey_ike], vec![terminate_child]]];
    for script in scripts {
        let outcomes = RefCell::new([0, 0]);
        for wire in [CLEAN, LOSSY] {
            for seed in 0..2 {
                let mut orders = Orders::every();
                loop {
                    let mut pair = Pair::up(seed, |_, _| {});
                    run(&mut pair, &script, &mut orders, wire);
                    pair.run_for(400_000);
                    // The operator wins or comes too late; both sides agree on which.
                    let left = pair.gateways[0].children.len();
                    outcomes.borrow_mut()[left] += 1;
                    pair.assert_at_rest(left);
                    if !orders.advance() {
                        break;
                    }
                }
            }
        }
        assert!(outcomes.borrow()[0] > 0, "in some order the child is gone");
    }
}

#[test]
fn rek_09_rekeying_meets_the_end_of_the_ike_sa() {
    for rekey in [rekey_child as fn() -> Input, rekey_ike] {
        let script: Script = [vec![rekey], vec![terminate_ike]];
        for wire in [CLEAN, LOSSY] {
            let mut orders = Orders::every();
            loop {
                let mut pair = Pair::up(1, |_, _| {});
                run(&mut pair, &script, &mut orders, wire);
                pair.run_for(400_000);
                let left = pair.gateways[0].children.len();
                if left == 0 {
                    pair.assert_empty()
                } else {
                    pair.assert_at_rest(1)
                }
                if !orders.advance() {
                    break;
                }
            }
        }
    }
}

#[test]
fn ctl_04_a_daemon_restarts_while_children_are_rekeyed() {
    for script in
        [[vec![rekey_child as fn() -> Input], vec![]], [vec![rekey_child], vec![rekey_child]]]
    {
        every_order(&script, RESTARTED, 2, one_pair_left);
        some_orders(&script, Wire { restarts: 2, ..MESSY }, 200, one_pair_left);
    }
}

#[test]
fn ctl_04_a_daemon_restarts_while_a_child_is_closed() {
    for wire in [RESTARTED, Wire { restarts: 1, ..LOSSY }] {
        let script: Script = [vec![rekey_child, terminate_child], vec![terminate_child]];
        for seed in 0..300 {
            let mut orders = Orders::Chance { random: Seeded::new(seed), left: 1 };
            let mut pair = Pair::up(seed % 4, |_, _| {});
            run(&mut pair, &script, &mut orders, wire);
            pair.run_for(400_000);
            pair.assert_at_rest(pair.gateways[0].children.len());
        }
    }
}

/// The private values of a key exchange do not survive, so an IKE SA whose rekeying was on its
/// way may have to be made anew: not without a gap, but without anything left over.
#[test]
fn ctl_04_a_daemon_restarts_while_the_ike_sa_is_rekeyed() {
    for script in [[vec![rekey_ike as fn() -> Input], vec![]], [vec![rekey_ike], vec![rekey_ike]]] {
        for seed in 0..2 {
            let mut orders = Orders::every();
            loop {
                let mut pair = Pair::up(seed, |_, connection| connection.dpd_delay_ms = 10_000);
                run(&mut pair, &script, &mut orders, RESTARTED);
                pair.run_for(800_000);
                pair.assert_at_rest(1);
                if !orders.advance() {
                    break;
                }
            }
        }
    }
}
