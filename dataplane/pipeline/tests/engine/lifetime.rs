//! Limits as they show in events and drops.

use xswan_esp::lifetime::Limit;
use xswan_pipeline::engine::Env;
use xswan_pipeline::sink::Event;
use xswan_wire::DropReason;

use crate::gateway::*;

fn packets(packets: u64) -> Limit {
    Limit { packets, ..Limit::NONE }
}

#[test]
fn sal_06_outbound_limits_are_told_once_each_and_the_hard_one_ends_it() {
    let mut left = Gateway::new(LEFT);
    let mut config = outbound_config(LEFT, SLOT);
    (config.soft, config.hard) = (packets(10), packets(20));
    left.put_outbound(SLOT, CHILD, &config);
    left.receive(INNER, &vec![frame(&inner_packet4(LEFT, 40)); 50]);
    assert_eq!(left.packets_out(OUTER).len(), 20);
    left.assert_drops(&[(DropReason::SaExpired, 30)]);
    let told = [Event::SoftExpiryOut { slot: SLOT }, Event::HardExpiryOut { slot: SLOT }];
    assert_eq!(left.rings.events, told);
}

#[test]
fn sal_06_inbound_limits_hold_within_a_burst() {
    let mut right = Gateway::new(RIGHT);
    let mut config = inbound_config(RIGHT, SLOT);
    (config.soft, config.hard) = (packets(10), packets(20));
    right.put_inbound(SLOT, CHILD, &config);
    let inner = inner_packet4(LEFT, 40);
    let burst: Vec<_> = (1..=50).map(|sequence| built(&esp(sequence, &inner))).collect();
    right.receive(OUTER, &burst);
    assert_eq!(right.packets_out(INNER).len(), 20);
    right.assert_drops(&[(DropReason::SaExpired, 30)]);
    let told = [Event::SoftExpiryIn { slot: SLOT }, Event::HardExpiryIn { slot: SLOT }];
    assert_eq!(right.rings.events, told);
}

#[test]
fn sal_16_time_passes_without_packets() {
    let mut left = Gateway::new(LEFT);
    let (mut out, mut into) = (outbound_config(LEFT, SLOT), inbound_config(LEFT, SLOT));
    let after = |time_ms| Limit { time_ms, ..Limit::NONE };
    (out.soft, out.hard) = (after(100), after(300));
    (into.soft, into.hard) = (after(200), after(300));
    left.put_outbound(SLOT, CHILD, &out);
    left.put_inbound(SLOT, CHILD, &into);
    for step in 0..50 {
        let now_ms = left.now_ms + step * 10;
        for slot in 0..20 {
            left.engine.poll_lifetimes(&mut left.rings, slot, now_ms);
        }
    }
    let slot = SLOT;
    let told = [
        Event::SoftExpiryOut { slot },
        Event::SoftExpiryIn { slot },
        Event::HardExpiryIn { slot },
        Event::HardExpiryOut { slot },
    ];
    assert_eq!(left.rings.events, told);
    left.now_ms += 500;
    left.receive(INNER, &[frame(&inner_packet4(LEFT, 40))]);
    left.assert_drops(&[(DropReason::SaExpired, 1)]);
}

#[test]
fn sal_07_an_sa_taken_out_leaves_no_packet_unaccounted() {
    let mut right = Gateway::new(RIGHT);
    let frames: Vec<_> =
        (1..=4).map(|sequence| built(&esp(sequence, &inner_packet4(LEFT, 40)))).collect();
    right.receive(OUTER, &frames[..2]);
    assert!(right.engine.inbound.put(SLOT as usize, None).is_some());
    right.receive(OUTER, &frames[2..]);
    right.assert_drops(&[(DropReason::UnknownSpi, 2)]);
    // Idle turns and empty bursts are nothing.
    let env = Env { fib: &right.fib, spd: &right.spd, now_ms: right.now_ms };
    right.engine.process(&env, &mut right.rings, std::iter::empty());
    right.check_ledgers();
}
