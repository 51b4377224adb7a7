//! The window within one burst: every packet is checked before the first is committed.

use xswan_wire::DropReason;

use crate::gateway::*;

fn burst(sequences: &[u64]) -> Vec<Vec<u8>> {
    let inner = inner_packet4(LEFT, 40);
    sequences.iter().map(|&sequence| built(&esp(sequence, &inner))).collect()
}

#[test]
fn rep_01_one_number_eight_times_in_a_burst_is_taken_once() {
    let mut right = Gateway::new(RIGHT);
    right.receive(OUTER, &burst(&[5; 8]));
    assert_eq!(right.packets_out(INNER).len(), 1);
    right.receive(OUTER, &burst(&[5, 5]));
    right.assert_drops(&[(DropReason::ReplayDuplicate, 9)]);
}

#[test]
fn rep_05_a_jump_within_the_burst_puts_others_outside() {
    let mut right = Gateway::new(RIGHT);
    right.receive(OUTER, &burst(&[1000, 5, 936, 937]));
    // All four passed the first check, with an empty window.
    assert_eq!(right.engine.totals.opened, 4);
    assert_eq!(right.packets_out(INNER).len(), 2);
    right.assert_drops(&[(DropReason::ReplayOld, 2)]);
    let sa = &right.engine.inbound.at(SLOT as usize).unwrap().sa;
    assert_eq!((sa.replay().top(), sa.counters.replay), (1000, 2));
}

#[test]
fn rep_06_the_good_one_among_bad_ones_survives() {
    let mut right = Gateway::new(RIGHT);
    right.receive(OUTER, &burst(&[200]));
    right.packets_out(INNER);
    right.receive(OUTER, &burst(&[200, 100, 201]));
    assert_eq!(right.packets_out(INNER).len(), 1);
    right.assert_drops(&[(DropReason::ReplayDuplicate, 1), (DropReason::ReplayOld, 1)]);
    assert_eq!(right.engine.inbound.at(SLOT as usize).unwrap().sa.replay().top(), 201);
}

#[test]
fn rep_04_a_forgery_ahead_of_the_window_does_not_move_it() {
    let mut right = Gateway::new(RIGHT);
    let mut forged = burst(&[1001]).remove(0);
    let last = forged.len() - 1;
    forged[last] ^= 1;
    let genuine = burst(&[1, 1001]);
    right.receive(OUTER, &[&forged, &genuine[0], &genuine[1]]);
    assert_eq!(right.packets_out(INNER).len(), 2);
    right.assert_drops(&[(DropReason::AuthFail, 1)]);
}
