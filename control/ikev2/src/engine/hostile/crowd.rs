//! A hundred thousand IKE SAs whose time comes at once.

use super::*;
use crate::engine::TIMER_BATCH;
use crate::established::Established;
use crate::established::lifetime::Lifetimes;
use crate::policy::Lifetime;
use crate::snapshot::{self, Import, Imported};

/// As many as a gateway has by default.
const CROWD: u32 = 100_000;

/// The IKE SA of a world, many times: with numbers and SPIs of their own, without children, and
/// authenticated in the same millisecond.
fn crowd(world: &mut World, rekey_ms: u64, jitter_ms: u64) {
    let now = world.now;
    let snapshot = world.us.0.export(now);
    let (header, parts) = snapshot::read(&snapshot).expect("our snapshot");
    let configuration = Arc::clone(world.us.0.configuration());
    let clocks = (header.clock, now.monotonic);
    let import = Import { configuration: &configuration, clocks, now: now.monotonic };
    let [part] = parts.as_slice() else { panic!("one IKE SA") };
    let (engine, host) = &mut world.us;
    let old: Vec<_> = engine.sas.keys().copied().collect();
    for id in old {
        engine.with_sa(now, host, id, |state, ctx| state.terminate(ctx, None, true, None));
    }
    for number in 1..=CROWD {
        let mut sa = snapshot::read_sa(part, &import, &mut Imported::default()).expect("our SA");
        sa.children.clear();
        sa.core.id = IkeId(1_000 + number);
        sa.core.spi_i = number.into();
        sa.lifetimes = engine.with_context(now, host, |ctx| {
            let mut connection = (*sa.core.connection).clone();
            connection.lifetime = Lifetime { rekey_ms, jitter_ms, life_ms: 0 };
            Lifetimes::new(ctx, &connection, true)
        });
        engine.put_back(sa.core.id, State::Established(sa));
    }
    world.take_ours();
}

fn rekey_times(world: &World) -> Vec<u64> {
    let sas = world.us.0.sas.values().filter_map(|state| match state {
        State::Established(sa) => Some(&**sa),
        _ => None,
    });
    sas.filter_map(|sa: &Established| sa.lifetimes.rekey_at).map(|at| at.0).collect()
}

#[test]
fn dos_16_jitter_spreads_rekeyings_of_the_same_second() {
    let mut world = World::up();
    let begin = world.now.monotonic.0;
    // Four hours and a tenth of it: the defaults of the configuration.
    crowd(&mut world, 14_400_000, 1_440_000);
    let mut seconds: BTreeMap<u64, u32> = BTreeMap::new();
    for at in rekey_times(&world) {
        assert!((begin + 12_960_000..=begin + 14_400_000).contains(&at));
        *seconds.entry(at / 1_000).or_default() += 1;
    }
    // 69 in each of 1,440 seconds on average; twice that is far outside of chance.
    let most = seconds.values().max().expect("some");
    assert!(seconds.len() >= 1_440 && *most < 140, "{} seconds, {most}", seconds.len());
}

#[test]
fn dos_16_one_call_of_the_timer_does_bounded_work() {
    let mut world = World::up();
    // Without jitter, as nobody should have it: all in the same millisecond.
    crowd(&mut world, 1_000, 0);
    world.now.monotonic = world.now.monotonic.plus(1_000);
    let due = world.now.monotonic;
    for round in 0..20 {
        assert!(world.us.0.deadline().is_some_and(|at| at <= due), "round {round}");
        let (engine, host) = &mut world.us;
        engine.handle(Input::Timer, world.now, host);
        assert_eq!(world.take_ours().len(), TIMER_BATCH, "round {round}");
        let asked = world.us.0.sas.values().filter(|state| match state {
            State::Established(sa) => sa.task.is_some(),
            _ => false,
        });
        let asked = asked.count();
        assert_eq!((asked, world.us.0.sas.len()), ((round + 1) * TIMER_BATCH, CROWD as usize));
    }
}
