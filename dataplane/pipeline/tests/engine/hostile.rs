//! Anything as a frame: no panic, and everything accounted for.

use proptest::prelude::*;
use xswan_pipeline::spd::Spd;
use xswan_testkit::packet::{self, Noise};

use crate::gateway::*;
use crate::rings::ROOM;

/// Frames of all kinds that a gateway knows, to be damaged.
fn seeds() -> Vec<Vec<u8>> {
    let mut in_udp = esp(3, &inner_packet4(LEFT, 300));
    in_udp.udp = Some((4500, 4500));
    let nested = esp(5, &esp(6, &inner_packet4(LEFT, 64)).build().unwrap());
    let mut big = inner_packet4(RIGHT, 1460);
    big[6] = 0;
    vec![
        built(&esp(1, &inner_packet4(LEFT, 64))),
        built(&esp(2, &inner_packet6(LEFT, 1000))),
        built(&in_udp),
        built(&nested),
        frame(&inner_packet4(RIGHT, 64)),
        frame(&inner_packet6(RIGHT, 1400)),
        frame(&big),
        packet::frame([1; 6], [2; 6], &[(0x88a8, 1), (0x8100, 2)], &inner_packet4(RIGHT, 10)),
    ]
}

#[test]
fn damaged_frames_are_survived_and_accounted_for() {
    let mut noise = Noise::new(0xbad_f00d);
    let seeds = seeds();
    let mut right = Gateway::with(RIGHT, |config| config.nest_limit = 3);
    for round in 0..2_000 {
        right.spd = Spd::new(if round % 2 == 0 {
            networks(RIGHT, protect(SLOT))
        } else {
            everything(protect(SLOT))
        });
        let burst: Vec<_> = (0..32)
            .map(|_| {
                let mut frame = seeds[noise.below(seeds.len())].clone();
                for _ in 0..=noise.below(3) {
                    noise.mutate(&mut frame);
                }
                frame.truncate(ROOM);
                frame
            })
            .collect();
        let port = if noise.below(2) == 0 { OUTER } else { INNER };
        if noise.below(10) == 0 {
            right.rings.take_room = noise.below(20);
        }
        right.receive(port, &burst);
        right.rings.take_room = usize::MAX;
        right.rings.sent.clear();
        right.rings.punted.clear();
        right.rings.handed.clear();
        right.rings.events.clear();
    }
    assert_eq!(right.engine.totals.received, 64_000);
}

#[test]
fn damaged_packets_inside_authentic_ones_too() {
    let mut noise = Noise::new(0xc0ffee);
    let mut right = Gateway::with(RIGHT, |config| config.nest_limit = 2);
    let inners = [
        inner_packet4(LEFT, 64),
        inner_packet6(LEFT, 64),
        esp(1 << 30, &inner_packet4(LEFT, 64)).build().unwrap(),
    ];
    for sequence in 1..=20_000_u64 {
        if sequence % 1000 == 0 {
            right.spd = Spd::new(if sequence % 2000 == 0 {
                networks(RIGHT, protect(SLOT))
            } else {
                everything(protect(SLOT))
            });
        }
        let mut inner = inners[noise.below(inners.len())].clone();
        noise.mutate(&mut inner);
        let mut recipe = esp(sequence, &inner);
        recipe.payload.truncate(1400);
        if noise.below(8) == 0 {
            recipe.pad_len = Some(noise.below(256) as u8);
            recipe.next_header = noise.below(256) as u8;
        }
        right.receive(OUTER, &[built(&recipe)]);
        right.rings.sent.clear();
        right.rings.punted.clear();
    }
}

proptest! {
    #[test]
    fn any_bytes_are_survived(
        frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..20),
        ethertype in prop::sample::select(vec![0x0800_u16, 0x86dd, 0x8100, 0x88a8]),
        port in 0..4_u16, room in 0..30_usize, all: bool,
    ) {
        let mut right = Gateway::new(RIGHT);
        if all {
            right.spd = Spd::new(everything(protect(SLOT)));
        }
        right.rings.take_room = room;
        let frames: Vec<_> = frames.into_iter().map(|mut frame| {
            if frame.len() > 14 {
                frame[12..14].copy_from_slice(&ethertype.to_be_bytes());
                frame[14] = if ethertype == 0x86dd { 0x60 } else { 0x45 };
            }
            frame
        }).collect();
        right.receive(port, &frames);
        for frame in &frames {
            right.originate(frame);
        }
    }
}
