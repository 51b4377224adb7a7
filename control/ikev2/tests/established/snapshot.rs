//! What is kept over a restart, and what becomes of damaged octets.

use crate::pair::{Pair, rekey_child, rekey_ike};
use proptest::prelude::*;
use std::sync::Arc;
use xswan_ikev2::snapshot::SnapshotError;
use xswan_ikev2::{Engine, Input, Millis, Now};
use xswan_simulation::policies;

fn now(pair: &Pair) -> Now {
    Now { monotonic: pair.now, unix_s: 1_800_000_000 + pair.now.0 / 1000 }
}

fn fresh(gateway: usize) -> Engine {
    Engine::new(Arc::new(policies::configuration(policies::connection(gateway))))
}

/// With a rekeying, a rival and late children under way.
fn busy(seed: u64) -> Pair {
    let mut pair = Pair::up(seed, |_, _| {});
    pair.input(0, rekey_child());
    pair.run_for(100);
    pair.input(0, rekey_ike());
    pair.input(1, rekey_ike());
    pair.deliver(0);
    pair.input(0, rekey_child());
    pair
}

#[test]
fn everything_goes_on_after_a_restart() {
    let mut pair = Pair::up(1, |_, connection| {
        connection.lifetime.rekey_ms = 3_600_000;
        connection.dpd_delay_ms = 30_000;
    });
    let before = [pair.ike_sas(0), pair.ike_sas(1)];
    pair.strict = true;
    pair.restart(0);
    pair.restart(1);
    assert_eq!([pair.ike_sas(0), pair.ike_sas(1)], before);
    pair.input(0, rekey_child());
    pair.run_for(10_000);
    pair.restart(1);
    pair.input(1, rekey_ike());
    pair.run_for(10_000);
    pair.assert_at_rest(1);
    // Numbers are not used again.
    assert!(pair.ike_sas(0)[0].id > before[0][0].id);
}

#[test]
fn a_request_without_answer_is_sent_again_unchanged() {
    let mut pair = Pair::up(2, |_, _| {});
    pair.input(0, rekey_child());
    let lost: Vec<_> = pair.queues[1].drain(..).collect();
    pair.restart(0);
    pair.timers();
    let again: Vec<_> = pair.queues[1].iter().cloned().collect();
    assert_eq!(again, lost);
}

#[test]
fn an_answer_is_given_again_unchanged() {
    let mut pair = Pair::up(3, |_, _| {});
    pair.input(0, rekey_child());
    let request = pair.queues[1].front().cloned().unwrap();
    pair.deliver(1);
    let lost = pair.queues[0].pop_front().unwrap();
    pair.restart(1);
    pair.queues[1].push_back(request);
    pair.deliver(1);
    assert_eq!(pair.queues[0].pop_front().unwrap(), lost);
}

#[test]
fn no_iv_is_used_twice() {
    let mut pair = Pair::up(4, |_, _| {});
    let iv = |octets: &[u8]| u64::from_be_bytes(octets[32..40].try_into().unwrap());
    let exported = pair.gateways[0].engine.export(now(&pair));
    // Messages that the snapshot knows nothing of.
    pair.input(0, rekey_child());
    let used = iv(&pair.queues[1].front().unwrap().2);
    pair.queues[1].clear();
    let mut engine = fresh(0);
    engine.import(&exported, now(&pair)).unwrap();
    pair.gateways[0].engine = engine;
    pair.input(0, rekey_child());
    assert!(iv(&pair.queues[1].front().unwrap().2) > used + 1_000_000);
}

#[test]
fn time_goes_on_while_the_daemon_is_away() {
    let mut pair = Pair::up(5, |_, connection| connection.lifetime.rekey_ms = 3_600_000);
    pair.run_for(600_000);
    let left = pair.ike_sas(0)[0].rekey_in_ms.unwrap();
    let exported = pair.gateways[0].engine.export(now(&pair));
    let mut engine = fresh(0);
    // Another clock, and ten minutes later.
    let later = Now { monotonic: Millis(5_000_000), unix_s: now(&pair).unix_s + 600 };
    engine.import(&exported, later).unwrap();
    let view = engine.ike_sas(later.monotonic).next().unwrap();
    assert_eq!(view.rekey_in_ms, Some(left - 600_000));
    assert!(view.established_ms >= Some(1_200_000));
}

#[test]
fn what_is_not_configured_any_more_is_named() {
    let pair = Pair::up(6, |_, _| {});
    let exported = pair.gateways[0].engine.export(now(&pair));
    let mut connection = policies::connection(0);
    connection.name = "another".into();
    let mut engine = Engine::new(Arc::new(policies::configuration(connection)));
    let imported = engine.import(&exported, now(&pair)).unwrap();
    assert_eq!((imported.ike_sas, imported.refused.len()), (0, 1));
    assert!(imported.refused[0].contains("\"peer\""), "{:?}", imported.refused);
    // A child alone: the peer is told.
    let mut connection = policies::connection(0);
    connection.children = vec![Arc::new(policies::child("other", 1, 2))];
    let mut engine = Engine::new(Arc::new(policies::configuration(connection)));
    let imported = engine.import(&exported, now(&pair)).unwrap();
    assert_eq!((imported.ike_sas, imported.refused.len()), (1, 1));
    assert_eq!(imported.reserved_spis.len(), 1);
}

#[test]
fn another_version_is_refused() {
    let pair = Pair::up(7, |_, _| {});
    let mut exported = pair.gateways[0].engine.export(now(&pair)).to_vec();
    exported[1] ^= 0x80;
    let error = fresh(0).import(&exported, now(&pair)).unwrap_err();
    assert_eq!(error, SnapshotError::Version(0x81));
}

#[test]
fn every_prefix_is_refused() {
    for gateway in 0..2 {
        let pair = busy(8);
        let exported = pair.gateways[gateway].engine.export(now(&pair));
        for len in 0..exported.len() {
            let mut engine = fresh(gateway);
            assert!(engine.import(&exported[..len], now(&pair)).is_err(), "{len}");
            assert_eq!(engine.ike_sas(pair.now).count(), 0);
        }
        let mut longer = exported.to_vec();
        longer.push(0);
        assert!(fresh(gateway).import(&longer, now(&pair)).is_err());
        assert!(fresh(gateway).import(&exported, now(&pair)).is_ok());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is in the file: an error, or IKE SAs that can be used without a panic.
    #[test]
    fn damage_never_panics(
        seed in 0_u64..4,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut pair = busy(seed);
        let mut exported = pair.gateways[0].engine.export(now(&pair)).to_vec();
        for (index, value) in changes {
            let position = index.index(exported.len());
            exported[position] = value;
        }
        let mut engine = fresh(0);
        if engine.import(&exported, now(&pair)).is_ok() {
            let _views: Vec<_> = engine.ike_sas(pair.now).collect();
            let _again = engine.export(now(&pair));
            pair.gateways[0].engine = engine;
            for _ in 0..3 {
                let at = pair.gateways[0].engine.deadline();
                pair.now = at.unwrap_or_default().max(pair.now);
                let mut random = NoDataplane(Vec::new());
                pair.gateways[0].engine.handle(Input::Timer, now(&pair), &mut random);
                while pair.gateways[0].engine.next_action().is_some() {}
            }
        }
    }
}

/// A host that does not mind which SPIs are released.
struct NoDataplane(Vec<u32>);

impl xswan_ikev2::Host for NoDataplane {
    fn random(&mut self) -> &mut dyn xswan_ike_crypto::Random {
        self
    }

    fn local_address(&mut self, _remote: std::net::IpAddr) -> Option<std::net::IpAddr> {
        None
    }

    fn reserve_spi(&mut self) -> Option<u32> {
        None
    }

    fn release_spi(&mut self, spi: u32) {
        self.0.push(spi);
    }
}

impl xswan_ike_crypto::Random for NoDataplane {
    fn fill(&mut self, out: &mut [u8]) {
        out.fill(4);
    }
}
