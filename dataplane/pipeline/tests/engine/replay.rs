//! The window within one burst: each packet is checked after those before it are committed.

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
    // What the first has put outside costs no cipher any more.
    assert_eq!(right.engine.totals.opened, 2);
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

/// The right gateway as its worker with this number sees it, of sixteen; SAs live with worker 0.
fn worker(number: u32) -> Gateway {
    let mut right = Gateway::with(RIGHT, |config| {
        config.spis.worker = number;
        config.spis.workers = 16;
    });
    if number != 0 {
        right.engine.inbound.put(SLOT as usize, None);
    }
    right
}

#[test]
fn rep_11_one_packet_at_sixteen_workers_is_taken_once() {
    let mut workers: Vec<_> = (0..16).map(worker).collect();
    let frames = burst(&[1, 2, 3]);
    let mut handed = Vec::new();
    for number in [3, 0, 7, 15, 1, 2, 4, 5, 6, 8, 9, 10, 11, 12, 13, 14] {
        workers[number].receive(OUTER, &frames);
        handed.append(&mut workers[number].rings.handed);
    }
    assert_eq!(handed.len(), 15 * 3, "all but the owner's go to the owner");
    for (to, port, frame) in handed {
        assert_eq!((to, port), (0, OUTER));
        workers[0].receive(port, &[frame]);
    }
    assert_eq!(workers[0].packets_out(INNER).len(), 3);
    workers[0].assert_drops(&[(DropReason::ReplayDuplicate, 15 * 3)]);
    for other in &mut workers[1..] {
        assert!(other.packets_out(INNER).is_empty());
        other.assert_drops(&[]);
    }
}

#[test]
fn rep_12_an_sa_that_moves_takes_its_window_along() {
    let (mut from, mut to) = (worker(0), worker(1));
    from.receive(OUTER, &burst(&[1, 2, 4]));
    assert_eq!(from.packets_out(INNER).len(), 3);
    let sa = from.engine.inbound.put(SLOT as usize, None);
    to.engine.inbound.put(SLOT as usize, sa);
    for worker in [&mut from, &mut to] {
        worker.engine.static_spis.insert(spi(RIGHT, SLOT), 1, SLOT);
    }
    // Under way when it moved: the first still reaches the old owner.
    from.receive(OUTER, &burst(&[3, 2]));
    let handed = std::mem::take(&mut from.rings.handed);
    assert_eq!(handed.iter().map(|(worker, ..)| *worker).collect::<Vec<_>>(), [1, 1]);
    for (_, port, frame) in handed {
        to.receive(port, &[frame]);
    }
    to.receive(OUTER, &burst(&[1, 4, 3, 5]));
    assert_eq!(to.packets_out(INNER).len(), 2, "3 and 5");
    to.assert_drops(&[(DropReason::ReplayDuplicate, 4)]);
}

#[test]
fn rep_15_packets_of_the_sa_before_are_not_for_the_one_after() {
    let mut right = Gateway::new(RIGHT);
    let recorded = burst(&[1, 2, 3]);
    right.receive(OUTER, &recorded);
    right.packets_out(INNER);
    // Its successor has a slot, an SPI and a key of its own; then the old one goes.
    right.put_inbound(SLOT + 1, CHILD, &inbound_config(RIGHT, SLOT + 1));
    right.receive(OUTER, &recorded);
    right.engine.inbound.put(SLOT as usize, None);
    right.receive(OUTER, &recorded);
    assert!(right.packets_out(INNER).is_empty());
    right.assert_drops(&[(DropReason::ReplayDuplicate, 3), (DropReason::UnknownSpi, 3)]);
}
