//! MOBIKE (RFC 4555): addresses change, the IKE SA and its Child SAs stay.

use crate::pair::Pair;
use std::net::{IpAddr, SocketAddr};
use xswan_ikev2::Input;
use xswan_ikev2::policy::ConnectionPolicy;

fn mobile(gateway: usize, connection: &mut ConnectionPolicy) {
    connection.mobike = true;
    if gateway == 1 {
        connection.remote_addresses.clear();
    }
}

fn roams(pair: &mut Pair, to: &str) {
    let address: IpAddr = to.parse().unwrap();
    pair.gateways[0].set_address(address);
    pair.input(0, Input::LocalAddresses { addresses: vec![address] });
}

fn outer(pair: &Pair, gateway: usize) -> (SocketAddr, SocketAddr) {
    let child = pair.gateways[gateway].children.values().next().unwrap();
    (child.install.local, child.install.remote)
}

#[test]
fn mob_01_the_initiator_moves_and_the_responder_follows() {
    let mut pair = Pair::up(1, mobile);
    assert_eq!(pair.ike_sas(0)[0].local.port(), 4500, "with MOBIKE always");
    let (spis, _) = (pair.gateways[1].spis().clone(), pair.assert_at_rest(1));
    for round in 0..20 {
        let address = format!("198.51.100.{}", 10 + round);
        roams(&mut pair, &address);
        let here: SocketAddr = format!("{address}:4500").parse().unwrap();
        assert_eq!(outer(&pair, 0).0, here, "at once");
        pair.settle();
        assert_eq!(outer(&pair, 1).1, here, "{}", pair.logs());
        assert_eq!(pair.ike_sas(1)[0].remote, here);
        pair.assert_at_rest(1);
    }
    assert_eq!(*pair.gateways[1].spis(), spis, "the same SAs");
}

#[test]
fn mob_02_an_update_in_the_name_of_a_third_party_moves_nothing() {
    let mut pair = Pair::up(2, mobile);
    let victim: SocketAddr = "203.0.113.80:4500".parse().unwrap();
    let before = outer(&pair, 1);
    roams(&mut pair, "198.51.100.7");
    let (_, to, octets) = pair.queues[1].pop_front().unwrap();
    pair.input(1, Input::Datagram { local: to, remote: victim, octets });
    assert_eq!(outer(&pair, 1), before);
    let mut reached = 0;
    for _ in 0..200 {
        let Some(due) = pair.gateways[1].engine.deadline() else { break };
        pair.queues[0].retain(|(_, to, octets)| {
            assert!(octets.len() < 300, "small ones only");
            reached += usize::from(*to == victim);
            false
        });
        pair.now = pair.now.max(due);
        pair.input(1, Input::Timer);
    }
    assert!(reached <= 3, "{reached} datagrams reach the victim");
    assert!(!pair.logged(1, "remote endpoint changed"), "{}", pair.logs());
}

#[test]
fn mob_04_a_second_move_before_the_first_is_confirmed_wins() {
    let mut pair = Pair::up(3, mobile);
    roams(&mut pair, "198.51.100.1");
    roams(&mut pair, "198.51.100.2");
    pair.run_for(1_000);
    let here: SocketAddr = "198.51.100.2:4500".parse().unwrap();
    assert_eq!((outer(&pair, 0).0, outer(&pair, 1).1), (here, here), "{}", pair.logs());
    pair.assert_at_rest(1);
}

#[test]
fn mob_10_without_agreement_nothing_moves() {
    let mut pair = Pair::up(4, |gateway, connection| {
        mobile(gateway, connection);
        connection.mobike = gateway == 0;
    });
    let before = (outer(&pair, 0), outer(&pair, 1));
    roams(&mut pair, "198.51.100.7");
    pair.run_for(1_000);
    assert_eq!((outer(&pair, 0), outer(&pair, 1)), before);
}
