//! Deletion, operators, and limits.

use crate::pair::{Pair, initiate, rekey_child, terminate_child, terminate_ike};
use std::sync::Arc;
use xswan_ikev2::policy::{ChildPolicy, ConnectionPolicy, StartAction};
use xswan_ikev2::wire::TrafficSelector;
use xswan_ikev2::{ChildId, Input, RequestId, Target};
use xswan_simulation::policies;

fn several(_: usize, connection: &mut ConnectionPolicy) {
    let first = Arc::clone(&connection.children[0]);
    let second = ChildPolicy { name: "dmz".into(), ..ChildPolicy::clone(&first) };
    connection.children.push(Arc::new(second));
}

#[test]
fn a_child_is_closed_and_the_ike_sa_stays() {
    for side in [0, 1] {
        let mut pair = Pair::up(1, |_, _| {});
        let target = Target::Child { connection: Some("peer".into()), child: "net".into() };
        let request = pair.ask(side, |request| Input::Terminate {
            target: target.clone(),
            force: false,
            request: Some(request),
        });
        assert!(pair.gateways[side].answers.is_empty(), "not before the peer knows");
        pair.settle();
        assert_eq!(pair.gateways[side].answers.get(&request), Some(&Ok(1)));
        pair.assert_at_rest(0);
        pair.bring_up("net");
        pair.assert_at_rest(1);
    }
}

#[test]
fn an_ike_sa_is_closed_with_everything() {
    for side in [0, 1] {
        let mut pair = Pair::up(2, several);
        pair.bring_up("dmz");
        pair.assert_at_rest(2);
        let request = pair.ask(side, |request| Input::Terminate {
            target: Target::Connection("peer".into()),
            force: false,
            request: Some(request),
        });
        // What is asked while it is being closed is not done, and says so.
        let late = pair.ask(side, |request| Input::Rekey {
            target: Target::Connection("peer".into()),
            reauthenticate: false,
            request: Some(request),
        });
        pair.settle();
        assert_eq!(pair.gateways[side].answers.get(&request), Some(&Ok(1)));
        assert!(pair.gateways[side].answers.get(&late).unwrap().is_err());
        pair.assert_empty();
    }
}

#[test]
fn by_force_nothing_is_waited_for() {
    let mut pair = Pair::up(3, |_, _| {});
    let request = pair.ask(0, |request| Input::Terminate {
        target: Target::Connection("peer".into()),
        force: true,
        request: Some(request),
    });
    assert_eq!(pair.gateways[0].answers.get(&request), Some(&Ok(1)));
    assert!(pair.gateways[0].children.is_empty());
    pair.settle();
    pair.assert_empty();
}

#[test]
fn both_sides_close_the_same_child_at_once() {
    let mut pair = Pair::up(4, |_, _| {});
    pair.input(0, terminate_child());
    pair.input(1, terminate_child());
    pair.run_for(1_000);
    pair.assert_at_rest(0);
    pair.bring_up("net");
    pair.input(0, terminate_ike());
    pair.input(1, terminate_ike());
    pair.run_for(400_000);
    pair.assert_empty();
}

#[test]
fn a_request_that_cannot_end_well_is_answered_when_the_ike_sa_ends() {
    let mut pair = Pair::up(5, |_, _| {});
    let asked: Vec<u64> = (0..3)
        .map(|_| {
            pair.ask(0, |request| Input::Rekey {
                target: Target::Child { connection: None, child: "net".into() },
                reauthenticate: false,
                request: Some(request),
            })
        })
        .collect();
    let another = pair.ask(0, |request| initiate("net", Some(request)));
    for queue in &mut pair.queues {
        queue.clear();
    }
    // The peer is never heard of again.
    let end = pair.now.plus(400_000);
    while let Some(at) = pair.gateways[0].engine.deadline().filter(|at| *at <= end) {
        pair.now = pair.now.max(at);
        pair.input(0, Input::Timer);
        pair.queues[1].clear();
    }
    for request in asked.into_iter().chain([another]) {
        let answer = pair.gateways[0].answers.get(&request).expect("answered");
        assert!(answer.as_ref().is_err_and(|why| why.contains("not responding")), "{answer:?}");
    }
    assert!(pair.gateways[0].spis().is_empty());
}

#[test]
fn commands_for_what_is_not_there_say_so() {
    let mut pair = Pair::up(6, |_, _| {});
    let target = Target::ChildSa(ChildId(999));
    let request = pair.ask(0, |request| Input::Terminate {
        target: target.clone(),
        force: false,
        request: Some(request),
    });
    assert!(pair.gateways[0].answers[&request].is_err());
    let request = pair.ask(0, |request| initiate("nothing", Some(request)));
    assert!(pair.gateways[0].answers[&request].is_err());
}

#[test]
fn a_packet_that_asks_again_brings_up_one_child() {
    let mut pair = Pair::up(7, several);
    let packet =
        [[10, 1, 0, 9], [10, 2, 0, 9]].map(|ip| TrafficSelector::addresses(ip.into(), ip.into()));
    for _ in 0..5 {
        pair.input(
            0,
            Input::Initiate {
                connection: Some("peer".into()),
                child: Some("dmz".into()),
                packet: Some(packet),
                request: None,
            },
        );
    }
    pair.run_for(10_000);
    pair.assert_at_rest(2);
    pair.input(
        0,
        Input::Initiate {
            connection: Some("peer".into()),
            child: Some("dmz".into()),
            packet: Some(packet),
            request: None,
        },
    );
    pair.run_for(10_000);
    pair.assert_at_rest(2);
}

#[test]
fn ike_18_a_request_again_gets_the_same_answer_and_does_nothing() {
    let mut pair = Pair::up(8, |_, _| {});
    pair.input(0, rekey_child());
    let request = pair.queues[1].front().cloned().unwrap();
    pair.deliver(1);
    let answer = pair.queues[0].front().cloned().unwrap();
    let children = pair.gateways[1].children.len();
    for _ in 0..5 {
        pair.queues[1].push_back(request.clone());
        pair.deliver(1);
        assert_eq!(pair.queues[0].pop_back().unwrap().2, answer.2);
    }
    assert_eq!(pair.gateways[1].children.len(), children);
    pair.run_for(10_000);
    pair.assert_at_rest(1);
    // Long after: outside the window, and no answer.
    pair.input(0, rekey_child());
    pair.run_for(10_000);
    pair.sent = [0; 2];
    pair.queues[1].push_back(request);
    pair.queues[0].push_back(answer);
    pair.settle();
    assert_eq!(pair.sent, [0, 0]);
    pair.assert_at_rest(1);
}

#[test]
fn ike_18_nothing_changed_on_the_way_is_taken() {
    let mut pair = Pair::up(9, |_, _| {});
    pair.input(0, rekey_child());
    let (from, at, octets) = pair.queues[1].pop_front().unwrap();
    for position in 0..octets.len() {
        let mut changed = octets.clone();
        changed[position] ^= 1 << (position % 8);
        pair.queues[1].push_back((from, at, changed));
        pair.deliver(1);
        assert_eq!(pair.gateways[1].children.len(), 1, "octet {position}");
        // At most a hint that we do not know the SPI.
        pair.queues[0].clear();
    }
    pair.queues[1].push_back((from, at, octets));
    pair.run_for(10_000);
    pair.assert_at_rest(1);
}

#[test]
fn children_of_a_dead_peer_do_what_they_are_configured_to_do() {
    for (action, comes_back) in [(StartAction::Start, true), (StartAction::None, false)] {
        let mut pair = Pair::up(10, |gateway, connection| {
            connection.dpd_delay_ms = 10_000;
            connection.keying_tries = 0;
            let child = Arc::make_mut(&mut connection.children[0]);
            child.dpd_action = if gateway == 0 { action } else { StartAction::None };
        });
        // Gateway 1 forgets everything.
        let configuration = Arc::new(policies::configuration(policies::connection(1)));
        let fresh = xswan_simulation::Gateway::new(policies::ADDRESSES[1], configuration, 4711);
        pair.gateways[1] = fresh;
        pair.run_for(600_000);
        assert!(pair.logged(0, "peer not responding"), "{}", pair.logs());
        if comes_back {
            pair.assert_at_rest(1);
        } else {
            pair.assert_empty();
        }
    }
}

#[test]
fn what_is_to_be_tried_again_ends_with_the_connection() {
    let mut pair = Pair::up(12, |gateway, connection| {
        connection.dpd_delay_ms = 10_000;
        connection.keying_tries = 0;
        let child = Arc::make_mut(&mut connection.children[0]);
        let start = if gateway == 0 { StartAction::Start } else { StartAction::None };
        child.dpd_action = start;
    });
    // Gateway 1 forgets everything, the connection included: every attempt fails.
    let mut configuration = policies::configuration(policies::connection(1));
    configuration.connections.clear();
    let fresh =
        xswan_simulation::Gateway::new(policies::ADDRESSES[1], Arc::new(configuration), 4711);
    pair.gateways[1] = fresh;
    let attempts = |pair: &Pair| {
        let log = &pair.gateways[0].log;
        log.iter().filter(|line| line.contains("initiating IKE_SA")).count()
    };
    pair.run_for(3_600_000);
    let tried = attempts(&pair);
    assert!(tried > 3, "{}", pair.logs());
    let request = pair.ask(0, |request| Input::Terminate {
        target: Target::Connection("peer".into()),
        force: false,
        request: Some(request),
    });
    pair.settle();
    assert_eq!(pair.gateways[0].answers.get(&request), Some(&Ok(1)), "{}", pair.logs());
    pair.run_for(3_600_000);
    assert_eq!(attempts(&pair), tried, "{}", pair.logs());
    pair.assert_empty();
}

#[test]
fn two_children_of_a_dead_peer_come_back_in_one_ike_sa() {
    let mut pair = Pair::up(11, |gateway, connection| {
        several(gateway, connection);
        connection.dpd_delay_ms = 10_000;
        for child in &mut connection.children {
            let start = if gateway == 0 { StartAction::Start } else { StartAction::None };
            Arc::make_mut(child).dpd_action = start;
        }
    });
    pair.bring_up("dmz");
    let mut connection = policies::connection(1);
    several(1, &mut connection);
    let configuration = Arc::new(policies::configuration(connection));
    pair.gateways[1] = xswan_simulation::Gateway::new(policies::ADDRESSES[1], configuration, 4711);
    pair.run_for(600_000);
    pair.assert_at_rest(2);
}

#[test]
fn limits_on_children_hold_for_both_sides() {
    let mut pair = Pair::with(12, |_, _| {}, |all| all.settings.max_children = 3);
    pair.bring_up("net");
    let mut answers = Vec::new();
    for number in 0..5 {
        let input = initiate("net", Some(RequestId(100 + number)));
        pair.input(usize::from(number % 2 == 1), input);
        pair.run_for(1_000);
        let answer = |side: usize| pair.gateways[side].answers.get(&(100 + number)).cloned();
        answers.push(answer(0).or(answer(1)).expect("an answer").is_ok());
    }
    assert_eq!(answers, [true, true, false, false, false], "{}", pair.logs());
    pair.assert_at_rest(3);
}
