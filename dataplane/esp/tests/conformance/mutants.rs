//! A million good packets made bad by a bit: none may be accepted.

use xswan_esp::DropReason;
use xswan_esp::decap;
use xswan_esp::sa::InboundConfig;

use crate::fixture::*;

/// Frame sizes from the smallest to a full MTU.
fn sizes() -> impl Iterator<Item = usize> {
    (0..64).map(|step| 28 + step * 22)
}

#[test]
fn esp_02_a_million_bit_flips_and_none_accepted() {
    let (mut sent, mut dropped) = (0_u64, [0_u64; DropReason::COUNT]);
    for (addresses, udp) in
        [(outer_v4(), false), (outer_v4(), true), (outer_v6(), false), (outer_v6(), true)]
    {
        let mut config = InboundConfig::tunnel(SPI, SALT, addresses);
        config.encap = udp.then_some(PORTS);
        let mut sa = inbound_of(&config, false);
        let selectors = any();
        let mut out = vec![0; 2000];
        let mut sequence = 100;
        for size in sizes() {
            sequence += 1;
            let mut good = recipe(sequence, &inner_v4(size));
            (good.source, good.destination) = ip(&addresses);
            good.udp = udp.then_some((PORTS.remote, PORTS.local));
            let good = good.build().unwrap();
            let esp_from = good.len() - (size + 34 + (2_usize.wrapping_sub(size)) % 4);
            let mut mutant = good.clone();
            for bit in esp_from * 8..good.len() * 8 {
                mutant[bit / 8] ^= 1 << (bit % 8);
                sent += 1;
                let verdict = decap::decap(&mut sa, &mutant, &selectors, 1, &mut out);
                let reason = verdict.expect_err("a mutant was accepted");
                dropped[reason.index()] += 1;
                mutant[bit / 8] ^= 1 << (bit % 8);
            }
            let accepted = decap::decap(&mut sa, &good, &selectors, 1, &mut out);
            assert_eq!(
                accepted.map(|checked| checked.len()),
                Ok(size),
                "the packet itself is good"
            );
        }
    }
    assert!(sent >= 1_000_000, "{sent}");
    assert_eq!(dropped.iter().sum::<u64>(), sent, "every mutant is counted once");
    let expected = [
        DropReason::AuthFail,
        DropReason::UnknownSpi,
        DropReason::ReservedSpi,
        DropReason::ReplayOld,
        DropReason::ReplayDuplicate,
        DropReason::ReplayZero,
    ];
    for reason in DropReason::ALL {
        let count = dropped[reason.index()];
        assert!(count == 0 || expected.contains(reason), "{reason:?} {count}");
    }
    assert!(dropped[DropReason::AuthFail.index()] > sent * 9 / 10);
}

#[test]
fn esp_02_mutants_of_whole_packets_never_panic() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut out = vec![0; 4000];
    let mut sa = inbound();
    let good = recipe(1, &inner_v4(120)).build().unwrap();
    let mut accepted = 0;
    for _ in 0..100_000 {
        let mut mutant = good.clone();
        for _ in 0..=random() % 4 {
            let at = random() as usize % mutant.len();
            mutant[at] = random() as u8;
        }
        mutant.truncate(mutant.len() - random() as usize % 30 * (random() % 2) as usize);
        let untouched = mutant.get(20..) == Some(&good[20..]);
        let verdict = decap::decap(&mut sa, &mutant, &any(), 1, &mut out);
        accepted += u32::from(verdict.is_ok() && !untouched);
    }
    assert_eq!(accepted, 0);
}
