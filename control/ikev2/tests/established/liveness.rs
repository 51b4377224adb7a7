//! Signs of life, keepalives, peers that move.

use crate::pair::{Pair, rekey_ike};
use std::net::SocketAddr;
use std::sync::Arc;
use xswan_ikev2::Input;
use xswan_ikev2::policy::ConnectionPolicy;

fn with_dpd(_: usize, connection: &mut ConnectionPolicy) {
    connection.dpd_delay_ms = 10_000;
}

fn idle(pair: &mut Pair, gateway: usize, inbound_ms: u64) {
    let spi_in = pair.ike_sas(gateway)[0].children[0].spi_in;
    let input =
        Input::ChildUse { spi_in, idle_in_ms: Some(inbound_ms), idle_out_ms: Some(inbound_ms) };
    pair.input(gateway, input);
}

#[test]
fn a_silent_peer_is_asked_and_one_that_talks_is_not() {
    let mut pair = Pair::up(1, |gateway, connection| {
        if gateway == 0 {
            with_dpd(gateway, connection);
        }
    });
    pair.run_for(8_000);
    assert_eq!(pair.sent[0], 0);
    pair.run_for(2_000);
    assert_eq!(pair.sent[0], 1, "one empty INFORMATIONAL");
    // ESP is a sign of life as good as any.
    pair.sent = [0; 2];
    for _ in 0..20 {
        idle(&mut pair, 0, 500);
        pair.run_for(9_000);
    }
    assert_eq!(pair.sent[0], 0);
    pair.run_for(100_000);
    assert!((9..=11).contains(&pair.sent[0]), "{}", pair.sent[0]);
    pair.assert_at_rest(1);
}

#[test]
fn checks_go_on_after_rekeying() {
    let mut pair = Pair::up(2, with_dpd);
    pair.input(0, rekey_ike());
    pair.run_for(1_000);
    pair.sent = [0; 2];
    pair.run_for(100_000);
    assert!(pair.sent[0] + pair.sent[1] >= 16, "{:?}", pair.sent);
    pair.assert_at_rest(1);
}

#[test]
fn the_peer_s_silence_ends_the_ike_sa_after_the_retransmissions() {
    let mut pair = Pair::up(3, |gateway, connection| {
        if gateway == 0 {
            with_dpd(gateway, connection);
        }
    });
    let start = pair.now;
    let mut datagrams = Vec::new();
    while !pair.ike_sas(0).is_empty() {
        pair.now = pair.gateways[0].engine.deadline().expect("something to wait for");
        pair.input(0, Input::Timer);
        datagrams.extend(pair.queues[1].drain(..).map(|(_, _, octets)| octets));
    }
    // 4 s, and 1.8 times as long each time, five times; and the ten seconds before.
    let waited = pair.now.since(start);
    assert!((160_000..180_000).contains(&waited), "{waited}");
    assert_eq!(datagrams.len(), 6);
    datagrams.dedup();
    assert_eq!(datagrams.len(), 1, "the same octets each time");
    assert!(pair.gateways[0].children.is_empty() && pair.gateways[0].spis().is_empty());
}

#[test]
fn a_peer_behind_a_nat_is_followed_and_one_that_is_not_stays() {
    for nat in [true, false] {
        let mut pair = Pair::new(4, |gateway, connection| {
            if gateway == 1 {
                connection.remote_addresses.clear();
            }
        });
        let public: SocketAddr = "203.0.113.7:30001".parse().unwrap();
        let moved: SocketAddr = "203.0.113.7:30002".parse().unwrap();
        // Gateway 0 is seen at `public`; what is sent there reaches it.
        let request = pair.gateways[0].ask();
        pair.input(0, crate::pair::initiate("net", Some(request)));
        let translate = |pair: &mut Pair, source: SocketAddr| {
            for _ in 0..20 {
                while let Some((from, to, octets)) = pair.queues[1].pop_front() {
                    let from = if nat { source } else { from };
                    pair.input(1, Input::Datagram { local: to, remote: from, octets });
                }
                while let Some((from, to, octets)) = pair.queues[0].pop_front() {
                    let port = if to.port() == 500 || !nat { to.port() } else { 4500 };
                    let local = SocketAddr::new(pair.gateways[0].address(), port);
                    pair.input(0, Input::Datagram { local, remote: from, octets });
                }
            }
        };
        translate(&mut pair, public);
        let before = pair.ike_sas(1)[0].clone();
        assert_eq!(before.nat_remote, nat, "{}", pair.logs());
        pair.input(0, rekey_ike());
        if nat {
            translate(&mut pair, moved);
            assert_eq!(pair.ike_sas(1)[0].remote, moved);
            assert!(pair.logged(1, "remote endpoint changed"));
            // By ESP alone.
            let spi_in = before.children[0].spi_in;
            pair.input(1, Input::PeerMoved { spi_in, remote: public });
            assert_eq!(pair.ike_sas(1)[0].remote, public);
        } else {
            let (_, to, octets) = pair.queues[1].pop_front().unwrap();
            pair.input(1, Input::Datagram { local: to, remote: moved, octets });
            assert_eq!(pair.ike_sas(1)[0].remote, before.remote);
            let spi_in = before.children[0].spi_in;
            pair.input(1, Input::PeerMoved { spi_in, remote: moved });
            assert_eq!(pair.ike_sas(1)[0].remote, before.remote);
        }
    }
}

#[test]
fn an_unused_child_is_closed_and_a_used_one_is_not() {
    let mut pair = Pair::up(5, |gateway, connection| {
        if gateway == 0 {
            Arc::make_mut(&mut connection.children[0]).inactivity_ms = 60_000;
        }
    });
    for _ in 0..10 {
        pair.run_for(30_000);
        idle(&mut pair, 0, 1_000);
        pair.assert_at_rest(1);
    }
    pair.run_for(61_000);
    pair.assert_at_rest(0);
}
