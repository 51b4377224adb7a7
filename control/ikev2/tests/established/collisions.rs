//! Both sides at once: every order of commands, messages and one loss that there is room for.
//!
//! A run is a list of choices; the next run changes the last choice that can still be changed.
//! After each step every packet that either side would send must be opened by the other one.

use crate::pair::{Pair, rekey_child, rekey_ike, terminate_child};
use xswan_ikev2::Input;

/// What each side does, in its own order.
type Script = [Vec<fn() -> Input>; 2];

/// Runs every order, or so many of them that differ in their first choices and by chance.
struct Orders {
    choices: Vec<usize>,
    options: Vec<usize>,
    position: usize,
}

impl Orders {
    fn choose(&mut self, options: usize) -> usize {
        if self.position == self.choices.len() {
            self.choices.push(0);
            self.options.push(options);
        }
        let choice = self.choices[self.position];
        assert_eq!(self.options[self.position], options, "a run that cannot be repeated");
        self.position += 1;
        choice
    }

    /// The next order; false if there is none.
    fn advance(&mut self) -> bool {
        while let Some(choice) = self.choices.pop() {
            let options = self.options.pop().unwrap();
            if choice + 1 < options {
                self.choices.push(choice + 1);
                self.options.push(options);
                self.position = 0;
                return true;
            }
        }
        false
    }
}

/// One run in the order of `orders`. At most `losses` datagrams are lost.
fn run(pair: &mut Pair, script: &Script, orders: &mut Orders, mut losses: usize) {
    let mut next = [0, 0];
    loop {
        let mut options: Vec<(u8, usize)> = Vec::new();
        for side in 0..2 {
            if next[side] < script[side].len() {
                options.push((0, side));
            }
            if !pair.queues[side].is_empty() {
                options.push((1, side));
                if losses > 0 {
                    options.push((2, side));
                }
            }
        }
        if options.is_empty() {
            return;
        }
        let (what, side) = options[orders.choose(options.len())];
        match what {
            0 => {
                let command = script[side][next[side]];
                next[side] += 1;
                pair.input(side, command());
            }
            1 => {
                pair.deliver(side);
            }
            _ => {
                pair.queues[side].pop_front();
                losses -= 1;
            }
        }
    }
}

/// Runs every order, up to so many for each seed; the seeds let either side have the lowest
/// nonce.
fn all_orders(
    script: &Script,
    losses: usize,
    seeds: u64,
    most: usize,
    check: impl Fn(&mut Pair),
) {
    let mut runs = 0;
    for seed in 0..seeds {
        let mut orders = Orders { choices: Vec::new(), options: Vec::new(), position: 0 };
        let mut runs_of_seed = 0;
        loop {
            let mut pair = Pair::up(seed, |_, _| {});
            pair.strict = true;
            run(&mut pair, script, &mut orders, losses);
            check(&mut pair);
            runs_of_seed += 1;
            if runs_of_seed >= most || !orders.advance() {
                break;
            }
        }
        runs += runs_of_seed;
    }
    assert!(runs > seeds as usize, "there is more than one order");
}

fn one_pair_left(pair: &mut Pair) {
    pair.run_for(400_000);
    pair.assert_at_rest(1);
}

#[test]
fn rek_01_both_sides_rekey_the_child() {
    let script: Script = [vec![rekey_child], vec![rekey_child]];
    all_orders(&script, 0, 6, 400, one_pair_left);
}

#[test]
fn rek_02_both_sides_rekey_the_child_and_a_datagram_is_lost() {
    let script: Script = [vec![rekey_child], vec![rekey_child]];
    all_orders(&script, 1, 2, 1_500, one_pair_left);
}

#[test]
fn rek_03_both_sides_rekey_the_ike_sa() {
    let script: Script = [vec![rekey_ike], vec![rekey_ike]];
    all_orders(&script, 0, 6, 400, one_pair_left);
}

#[test]
fn rek_04_both_sides_rekey_the_ike_sa_and_a_datagram_is_lost() {
    let script: Script = [vec![rekey_ike], vec![rekey_ike]];
    all_orders(&script, 1, 2, 1_500, one_pair_left);
}

#[test]
fn rek_08_child_rekeying_meets_ike_rekeying() {
    let script: Script = [vec![rekey_child], vec![rekey_ike]];
    all_orders(&script, 0, 2, 400, one_pair_left);
    all_orders(&script, 1, 1, 1_000, one_pair_left);
}

#[test]
fn rek_08_one_side_rekeys_both_and_the_other_the_child() {
    let script: Script = [vec![rekey_ike, rekey_child], vec![rekey_child]];
    all_orders(&script, 0, 2, 1_000, one_pair_left);
}

#[test]
fn rek_08_both_sides_rekey_both() {
    let script: Script = [vec![rekey_child, rekey_ike], vec![rekey_ike, rekey_child]];
    all_orders(&script, 0, 2, 1_500, one_pair_left);
}

#[test]
fn rek_09_rekeying_meets_deletion() {
    let script: Script = [vec![rekey_child], vec![terminate_child]];
    let mut lost = 0;
    for seed in 0..2 {
        let mut orders = Orders { choices: Vec::new(), options: Vec::new(), position: 0 };
        loop {
            let mut pair = Pair::up(seed, |_, _| {});
            run(&mut pair, &script, &mut orders, 0);
            pair.run_for(400_000);
            // The operator wins or comes too late; both sides agree on which.
            let left = pair.gateways[0].children.len();
            assert!(left <= 1, "{}", pair.logs());
            pair.assert_at_rest(left);
            lost += usize::from(left == 0);
            if !orders.advance() {
                break;
            }
        }
    }
    assert!(lost > 0, "in some order the child is gone");
}
