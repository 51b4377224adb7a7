//! One side replaces SAs, and the other one agrees, or does not.

use crate::pair::{Pair, initiate, rekey_child, rekey_ike, terminate_child};
use std::sync::Arc;
use xswan_ikev2::policy::{Childless, ConnectionPolicy, SelectorTemplate, StartAction};
use xswan_ikev2::wire::{TrafficSelector, Transform, transform};
use xswan_ikev2::{Input, RequestId, Target};
use xswan_simulation::policies;

fn child_policy(connection: &mut ConnectionPolicy) -> &mut xswan_ikev2::policy::ChildPolicy {
    Arc::make_mut(&mut connection.children[0])
}

fn ask_rekey(target: Target) -> impl Fn(RequestId) -> Input {
    move |request| Input::Rekey {
        target: target.clone(),
        reauthenticate: false,
        request: Some(request),
    }
}

fn net() -> Target {
    Target::Child { connection: None, child: "net".into() }
}

fn peer() -> Target {
    Target::Connection("peer".into())
}

#[test]
fn the_operator_rekeys_a_child_and_nothing_is_lost() {
    let mut pair = Pair::up(1, |_, _| {});
    let old = pair.gateways[0].children.keys().next().copied().unwrap();
    pair.strict = true;
    let request = pair.ask(0, ask_rekey(net()));
    pair.settle();
    assert_eq!(pair.gateways[0].answers.get(&request), Some(&Ok(1)));
    // Late packets of the old one are opened for five seconds on both sides.
    for gateway in 0..2 {
        assert_eq!(pair.gateways[gateway].children.len(), 2, "{}", pair.logs());
    }
    pair.run_for(4_900);
    assert!(pair.gateways[0].children.contains_key(&old));
    pair.run_for(200);
    pair.assert_at_rest(1);
    assert!(!pair.gateways[0].children.contains_key(&old));
    assert_eq!(pair.sent, [2, 2], "CREATE_CHILD_SA and the end of the old one");
    // The selectors and the key exchange are there in the listing.
    let view = &pair.ike_sas(0)[0];
    assert_eq!(view.children[0].esp, "AES_GCM_16-128/CURVE_25519/ESN");
    assert_eq!(view.children[0].local_ts, ["10.1.0.0/16"]);
    assert!(!view.nat_local && !view.nat_remote);
}

#[test]
fn the_responder_rekeys_as_well() {
    let mut pair = Pair::up(2, |_, _| {});
    pair.strict = true;
    let child = pair.ask(1, ask_rekey(net()));
    pair.run_for(10_000);
    let ike = pair.ask(1, ask_rekey(peer()));
    pair.run_for(10_000);
    pair.assert_at_rest(1);
    assert_eq!(pair.gateways[1].answers.get(&child), Some(&Ok(1)));
    assert_eq!(pair.gateways[1].answers.get(&ike), Some(&Ok(1)));
    assert!(pair.ike_sas(1)[0].initiator && !pair.ike_sas(0)[0].initiator);
}

#[test]
fn a_rekeyed_ike_sa_keeps_its_children_and_can_be_rekeyed_again() {
    let mut pair = Pair::up(3, |_, _| {});
    let before = pair.ike_sas(0)[0].clone();
    pair.strict = true;
    for round in 0..4 {
        let request = pair.ask(round % 2, ask_rekey(peer()));
        pair.run_for(100);
        assert_eq!(pair.gateways[round % 2].answers.get(&request), Some(&Ok(1)));
        pair.assert_at_rest(1);
    }
    let after = pair.ike_sas(0)[0].clone();
    assert_ne!((before.spi_i, before.spi_r), (after.spi_i, after.spi_r));
    assert_eq!(before.children[0].spi_in, after.children[0].spi_in);
    // Message IDs and keys of the new one work for everything.
    pair.input(0, rekey_child());
    pair.run_for(60_000);
    // A new one may be used before its initiator has it; only rekeying is without loss.
    pair.strict = false;
    pair.input(1, initiate("net", Some(RequestId(77))));
    pair.run_for(60_000);
    pair.assert_at_rest(2);
}

#[test]
fn an_ike_sa_is_rekeyed_into_another_suite() {
    let mut pair = Pair::up(4, |_, connection| {
        let mut other = policies::ike_proposal();
        other.transforms = vec![
            Transform::with_key_bits(transform::ENCR, 12, 256),
            Transform::new(transform::INTEG, 13),
            Transform::new(transform::PRF, 7),
            Transform::new(transform::KE, 20),
        ];
        connection.proposals.push(other);
    });
    for gateway in 0..2 {
        let mut connection = policies::connection(gateway);
        connection.proposals[0].transforms = vec![
            Transform::with_key_bits(transform::ENCR, 12, 256),
            Transform::new(transform::INTEG, 13),
            Transform::new(transform::PRF, 7),
            Transform::new(transform::KE, 20),
        ];
        let configuration = Arc::new(policies::configuration(connection));
        pair.gateways[gateway].engine.configure(configuration);
    }
    pair.strict = true;
    pair.input(0, rekey_ike());
    pair.run_for(1_000);
    pair.input(1, rekey_child());
    pair.run_for(10_000);
    pair.assert_at_rest(1);
    assert_eq!(pair.ike_sas(0)[0].suite, "AES_CBC-256/HMAC_SHA2_384_192/PRF_HMAC_SHA2_512/ECP_384");
}

#[test]
fn rek_07_invalid_ke_payload_names_the_method() {
    let change = |gateway: usize, connection: &mut ConnectionPolicy| {
        let methods = if gateway == 0 { vec![31, 19] } else { vec![19] };
        for transforms in [
            &mut Arc::make_mut(&mut connection.children[0]).proposals[0].transforms,
            &mut connection.proposals[0].transforms,
        ] {
            transforms.retain(|item| item.kind != transform::KE);
            transforms.extend(methods.iter().map(|id| Transform::new(transform::KE, *id)));
        }
    };
    for seed in 0..2 {
        let mut pair = Pair::up(seed, change);
        pair.strict = true;
        pair.input(0, rekey_child());
        pair.run_for(10_000);
        pair.assert_at_rest(1);
        assert_eq!(pair.sent[0], 3, "once more with the other method: {}", pair.logs());
        assert!(pair.ike_sas(0)[0].children[0].esp.contains("ECP_256"));
        // Within a collision.
        pair.input(0, rekey_child());
        pair.input(1, rekey_child());
        pair.run_for(60_000);
        pair.assert_at_rest(1);
        pair.input(0, rekey_ike());
        pair.input(1, rekey_ike());
        pair.run_for(60_000);
        pair.assert_at_rest(1);
    }
}

#[test]
fn rek_07_invalid_ke_payload_in_a_collision_in_which_the_first_guess_is_wrong() {
    let change = |gateway: usize, connection: &mut ConnectionPolicy| {
        let transforms = &mut Arc::make_mut(&mut connection.children[0]).proposals[0].transforms;
        transforms.retain(|item| item.kind != transform::KE);
        let methods = if gateway == 0 { [31, 19] } else { [19, 20] };
        transforms.extend(methods.map(|id| Transform::new(transform::KE, id)));
    };
    for seed in 0..4 {
        let mut pair = Pair::up(seed, change);
        pair.strict = true;
        pair.input(0, rekey_child());
        pair.input(1, rekey_child());
        pair.run_for(60_000);
        pair.assert_at_rest(1);
    }
}

#[test]
fn additional_key_exchanges_follow_create_child_sa() {
    let mut pair = Pair::up(5, |_, connection| {
        let child = &mut Arc::make_mut(&mut connection.children[0]).proposals[0].transforms;
        child.push(Transform::new(transform::ADDKE1, 36));
        child.push(Transform::new(transform::ADDKE1 + 1, 20));
        connection.proposals[0].transforms.push(Transform::new(transform::ADDKE1, 36));
    });
    pair.strict = true;
    for side in [0, 1] {
        pair.sent = [0; 2];
        pair.input(side, rekey_child());
        pair.run_for(10_000);
        pair.assert_at_rest(1);
        // The encapsulation key of ML-KEM-768 takes two fragments.
        assert_eq!(pair.sent[side], 5, "two follow-ups and a D: {}", pair.logs());
        pair.input(side, rekey_ike());
        pair.run_for(10_000);
        pair.assert_at_rest(1);
        assert!(pair.ike_sas(0)[0].suite.ends_with("/KE1_ML_KEM_768"));
    }
    // Both at once.
    for rekey in [rekey_child as fn() -> Input, rekey_ike] {
        pair.input(0, rekey());
        pair.input(1, rekey());
        pair.run_for(200_000);
        pair.assert_at_rest(1);
    }
}

#[test]
fn a_childless_start_makes_its_child_afterwards() {
    let pair = Pair::up(6, |_, connection| connection.childless = Childless::Force);
    pair.assert_at_rest(1);
    assert_eq!(pair.ike_sas(0)[0].children[0].esp, "AES_GCM_16-128/CURVE_25519/ESN");
}

#[test]
fn rek_14_selectors_survive_another_configuration_of_the_peer() {
    // IKE_AUTH agreed on 10.2.0.0/16; then gateway 1 is configured narrower, and wider.
    for (first, last) in [([10, 2, 0, 0], [10, 2, 0, 255]), ([10, 0, 0, 0], [10, 255, 255, 255])] {
        let mut pair = Pair::up(7, |_, _| {});
        let mut connection = policies::connection(1);
        let selector = TrafficSelector::addresses(first.into(), last.into());
        child_policy(&mut connection).local_ts = vec![SelectorTemplate::Fixed(selector)];
        pair.gateways[1].engine.configure(Arc::new(policies::configuration(connection)));
        pair.strict = true;
        for side in [0, 1] {
            pair.input(side, rekey_child());
            pair.run_for(10_000);
            pair.assert_at_rest(1);
            assert_eq!(pair.ike_sas(0)[0].children[0].remote_ts, ["10.2.0.0/16"]);
        }
    }
}

#[test]
fn rek_15_a_peer_that_is_always_busy_is_not_stormed() {
    let mut pair = Pair::up(8, |_, _| {});
    // Every key exchange of a CREATE_CHILD_SA is one too many.
    let mut configuration = policies::configuration(policies::connection(1));
    configuration.settings.max_key_exchanges_per_s = 0;
    pair.gateways[1].engine.configure(Arc::new(configuration));
    pair.strict = true;
    pair.input(0, rekey_child());
    pair.run_for(100);
    assert_eq!(pair.sent[0], 1);
    pair.run_for(3_800);
    assert_eq!(pair.sent[0], 1, "not at once");
    pair.strict = false;
    pair.run_for(400_000);
    // Six attempts with growing pauses, then a new authentication: INIT, AUTH, D.
    assert!(pair.logged(0, "reauthenticating IKE_SA"), "{}", pair.logs());
    assert!(pair.sent[0] <= 6 + 3, "{} messages\n{}", pair.sent[0], pair.logs());
    pair.assert_at_rest(1);
}

#[test]
fn rek_15_pauses_differ_between_ike_sas() {
    let mut pauses = Vec::new();
    for seed in 0..8 {
        let mut pair = Pair::up(seed, |_, _| {});
        let mut configuration = policies::configuration(policies::connection(1));
        configuration.settings.max_key_exchanges_per_s = 0;
        pair.gateways[1].engine.configure(Arc::new(configuration));
        pair.input(0, rekey_child());
        pair.settle();
        pauses.push(pair.gateways[0].engine.deadline().unwrap().since(pair.now));
    }
    assert!(pauses.iter().all(|pause| (4_000..=6_000).contains(pause)), "{pauses:?}");
    pauses.sort_unstable();
    pauses.dedup();
    assert!(pauses.len() > 4, "{pauses:?}");
}

#[test]
fn rek_15_no_additional_sas_is_answered_by_reauthentication() {
    let mut pair = Pair::up(9, |_, _| {});
    let mut configuration = policies::configuration(policies::connection(1));
    configuration.settings.max_children = 1;
    pair.gateways[1].engine.configure(Arc::new(configuration));
    let another = pair.ask(0, |request| initiate("net", Some(request)));
    pair.run_for(1_000);
    let answer = pair.gateways[0].answers.get(&another).cloned().unwrap();
    assert!(answer.unwrap_err().contains("NO_ADD_SAS"), "{}", pair.logs());
    pair.input(0, rekey_child());
    pair.run_for(20_000);
    assert!(pair.logged(0, "reauthenticating IKE_SA"), "{}", pair.logs());
    pair.assert_at_rest(1);
}

#[test]
fn rek_15_child_sa_not_found_is_answered_by_a_new_one() {
    let mut pair = Pair::up(10, |_, _| {});
    // The peer loses the child and its message is lost for ever: as after a bad restart.
    let target = Target::Child { connection: None, child: "net".into() };
    pair.input(1, Input::Terminate { target, force: true, request: None });
    pair.queues[0].clear();
    let request = pair.ask(0, ask_rekey(net()));
    pair.settle();
    assert_eq!(pair.gateways[0].answers.get(&request), Some(&Ok(1)), "{}", pair.logs());
    pair.run_for(10_000);
    pair.assert_at_rest(1);
}

#[test]
fn rek_13_a_peer_that_comes_back_after_its_request_does_not_delete_twice() {
    for seed in 0..4 {
        for seconds in [3_u64, 20, 80] {
            let mut pair = Pair::up(seed, |_, connection| connection.dpd_delay_ms = 30_000);
            pair.strict = true;
            // Gateway 1 asks; then nothing of it arrives for a while, in either direction.
            pair.input(1, rekey_child());
            pair.deliver(0);
            pair.input(0, rekey_child());
            let end = pair.now.plus(seconds * 1_000);
            while pair.now < end {
                pair.queues[0].clear();
                pair.queues[1].clear();
                pair.now = pair.deadline().unwrap_or(end).max(pair.now.plus(1)).min(end);
                pair.timers();
            }
            pair.queues = Default::default();
            pair.run_for(400_000);
            pair.assert_at_rest(1);
        }
    }
}

#[test]
fn lifetimes_replace_everything_again_and_again() {
    let mut pair = Pair::up(11, |gateway, connection| {
        connection.dpd_delay_ms = 10_000;
        connection.lifetime.rekey_ms = 3_600_000 + gateway as u64 * 100_000;
        connection.lifetime.jitter_ms = 600_000;
        connection.lifetime.life_ms = 4_000_000;
        let child = child_policy(connection);
        child.lifetime.rekey_ms = 600_000;
        child.lifetime.jitter_ms = 200_000;
        child.lifetime.life_ms = 700_000;
    });
    pair.strict = true;
    let first = pair.ike_sas(0)[0].spi_i;
    for _ in 0..24 {
        pair.run_for(600_000);
        let children = pair.gateways.iter().map(|gateway| gateway.children.len());
        assert!(children.max() <= Some(3), "{}", pair.logs());
    }
    // Whatever is under way comes to an end.
    for _ in 0..20 {
        pair.run_for(7_000);
        if pair.gateways.iter().all(|gateway| gateway.children.len() == 1) {
            break;
        }
    }
    pair.assert_at_rest(1);
    assert_ne!(pair.ike_sas(0)[0].spi_i, first);
    assert!(!pair.logged(0, "expired") && !pair.logged(1, "expired"), "{}", pair.logs());
}

#[test]
fn reauthentication_makes_before_it_breaks() {
    let mut pair = Pair::up(12, |gateway, connection| {
        if gateway == 0 {
            connection.reauth_ms = 60_000;
        }
    });
    let old = pair.ike_sas(0)[0].id;
    pair.run_for(61_000);
    pair.run_for(10_000);
    pair.assert_at_rest(1);
    assert_ne!(pair.ike_sas(0)[0].id, old);
}

#[test]
fn reauthentication_breaks_first_where_that_is_configured() {
    let mut pair = Pair::with(13, |_, _| {}, |all| all.settings.make_before_break = false);
    pair.bring_up("net");
    let request = pair.ask(0, |request| Input::Rekey {
        target: peer(),
        reauthenticate: true,
        request: Some(request),
    });
    pair.run_for(10_000);
    assert_eq!(pair.gateways[0].answers.get(&request), Some(&Ok(1)), "{}", pair.logs());
    pair.assert_at_rest(1);
}

#[test]
fn a_child_that_is_not_rekeyed_in_time_is_closed() {
    let mut pair = Pair::up(14, |gateway, connection| {
        if gateway == 0 {
            child_policy(connection).lifetime.life_ms = 60_000;
        }
    });
    pair.run_for(61_000);
    pair.assert_at_rest(0);
    assert!(pair.logged(0, "expired"));
    // The limits of the dataplane do the same, and the soft ones rekey.
    pair.bring_up("net");
    let spi_in = pair.ike_sas(1)[0].children[0].spi_in;
    pair.input(1, Input::ChildExpiry { spi_in, hard: false });
    pair.input(1, Input::ChildExpiry { spi_in, hard: false });
    pair.run_for(10_000);
    pair.assert_at_rest(1);
    let again = pair.ike_sas(1)[0].children[0].spi_in;
    assert_ne!(again, spi_in);
    pair.input(1, Input::ChildExpiry { spi_in: again, hard: true });
    pair.input(1, Input::ChildExpiry { spi_in, hard: true });
    pair.run_for(1_000);
    pair.assert_at_rest(0);
}

#[test]
fn a_child_is_closed_and_comes_up_again_where_that_is_configured() {
    let mut pair = Pair::up(15, |gateway, connection| {
        if gateway == 0 {
            child_policy(connection).close_action = StartAction::Start;
        }
    });
    pair.input(1, terminate_child());
    pair.run_for(10_000);
    pair.assert_at_rest(1);
}
