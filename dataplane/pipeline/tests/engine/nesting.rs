//! ESP within ESP to ourselves.

use xswan_pipeline::spd::Spd;
use xswan_wire::DropReason;

use crate::gateway::*;

/// The inner packet under `depth` further layers of the same tunnel, numbers from `first` on.
fn nested(first: u64, depth: u8, inner: &[u8]) -> Vec<u8> {
    let mut packet = inner.to_vec();
    for layer in 0..=u64::from(depth) {
        packet = esp(first + layer, &packet).build().unwrap();
    }
    frame(&packet)
}

#[test]
fn esp_22_layers_are_opened_to_the_configured_depth() {
    let inner = inner_packet4(LEFT, 64);
    for limit in 0..=3_u8 {
        let mut right = Gateway::with(RIGHT, |config| config.nest_limit = limit);
        // The host is reached in clear.
        right.spd = Spd::new([bypass_home(RIGHT), everything(protect(SLOT))].concat());
        let mut refused = 0;
        for depth in 0..=8_u8 {
            right.receive(OUTER, &[nested(1 + 16 * u64::from(depth), depth, &inner)]);
            let out = right.packets_out(INNER);
            if depth <= limit {
                assert_eq!(out, [one_hop_on(&inner)], "depth {depth} of {limit}");
            } else {
                assert!(out.is_empty(), "depth {depth} of {limit}");
                refused += 1;
            }
        }
        right.assert_drops(&[(DropReason::NestLimit, refused)]);
    }
}

#[test]
fn esp_22_an_inner_layer_is_checked_like_an_outer_one() {
    let mut right = Gateway::with(RIGHT, |config| config.nest_limit = 3);
    right.spd = Spd::new([bypass_home(RIGHT), everything(protect(SLOT))].concat());
    let inner = inner_packet4(LEFT, 64);
    let mut forged = esp(1, &inner).build().unwrap();
    *forged.last_mut().unwrap() ^= 1;
    let unknown = esp_to(spi_of(0, 9), 1, &inner).build().unwrap();
    let elsewhere = esp_to(spi_of(1, 9), 1, &inner).build().unwrap();
    let replayed = esp(5, &inner).build().unwrap();
    let mut sequence = 5;
    let mut wrap = |packet: &[u8]| {
        sequence += 1;
        built(&esp(sequence, packet))
    };
    let burst = [wrap(&forged), wrap(&unknown), wrap(&elsewhere), wrap(&replayed), wrap(&replayed)];
    right.receive(OUTER, &burst);
    assert_eq!(right.packets_out(INNER), [one_hop_on(&inner)]);
    right.assert_drops(&[
        (DropReason::AuthFail, 1),
        (DropReason::UnknownSpi, 1),
        (DropReason::NestLimit, 1),
        (DropReason::ReplayDuplicate, 1),
    ]);
    // Without buffers it ends as well.
    right.rings.take_room = 1;
    let last = wrap(&esp(40, &inner).build().unwrap());
    right.receive(OUTER, &[last]);
    assert_eq!(right.drops(DropReason::NoFrame), 1);
}
