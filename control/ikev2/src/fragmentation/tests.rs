use super::*;
use proptest::prelude::*;

const LIMITS: Limits = Limits { fragments: 8, content_bytes: 100 };
const AUTH: PayloadType = PayloadType::AUTH;

/// As an AEAD with an IV of 8 and an ICV of 16 and one octet of pad length.
fn aead(len: usize) -> usize {
    8 + len + 1 + 16
}

/// As a block cipher with IV and blocks of 16 and an ICV of 24.
fn cbc(len: usize) -> usize {
    16 + (len + 1).next_multiple_of(16) + 24
}

fn insert(
    reassembly: &mut Reassembly,
    fragment: u16,
    total: u16,
    content: &[u8],
) -> Result<Option<Reassembled>, Refusal> {
    let first = if fragment == 1 { AUTH } else { PayloadType::NONE };
    reassembly.insert(fragment, total, first, content.to_vec())
}

#[test]
fn ike_20_fragments_in_any_order_make_the_message() {
    for order in [[1, 2, 3], [3, 2, 1], [2, 3, 1], [2, 1, 3]] {
        let mut reassembly = Reassembly::new(LIMITS);
        let content = |fragment: u16| vec![u8::try_from(fragment).unwrap(); 3];
        for fragment in &order[..2] {
            assert_eq!(insert(&mut reassembly, *fragment, 3, &content(*fragment)), Ok(None));
        }
        let whole = insert(&mut reassembly, order[2], 3, &content(order[2])).unwrap().unwrap();
        assert_eq!(
            (whole.first, whole.content.as_slice()),
            (AUTH, &[1, 1, 1, 2, 2, 2, 3, 3, 3][..])
        );
        assert_eq!(reassembly.content_bytes(), 0, "handed out, not kept");
    }
}

#[test]
fn ike_20_a_single_fragment_is_a_message() {
    let whole = insert(&mut Reassembly::new(LIMITS), 1, 1, b"all").unwrap().unwrap();
    assert_eq!((whole.first, whole.content.as_slice()), (AUTH, &b"all"[..]));
}

#[test]
fn ike_20_numbers_outside_the_total_are_refused() {
    let mut reassembly = Reassembly::new(LIMITS);
    for (fragment, total) in [(0, 0), (0, 3), (4, 3), (1, 0), (u16::MAX, 8)] {
        assert_eq!(insert(&mut reassembly, fragment, total, b"x"), Err(Refusal::Number));
    }
    for total in [9, u16::MAX] {
        assert_eq!(insert(&mut reassembly, 1, total, b"x"), Err(Refusal::TooManyFragments));
    }
    assert_eq!(reassembly.content_bytes(), 0);
}

#[test]
fn ike_20_a_duplicate_changes_nothing() {
    let mut reassembly = Reassembly::new(LIMITS);
    assert_eq!(insert(&mut reassembly, 2, 2, b"two"), Ok(None));
    assert_eq!(reassembly.check(2, 2), Err(Refusal::Duplicate));
    assert_eq!(insert(&mut reassembly, 2, 2, b"XXXXXX"), Err(Refusal::Duplicate));
    let whole = insert(&mut reassembly, 1, 2, b"one").unwrap().unwrap();
    assert_eq!(whole.content.as_slice(), b"onetwo");
}

#[test]
fn ike_20_a_larger_total_starts_anew_and_a_smaller_is_refused() {
    let mut reassembly = Reassembly::new(LIMITS);
    assert_eq!(insert(&mut reassembly, 1, 2, b"old"), Ok(None));
    assert_eq!(reassembly.check(1, 3), Ok(()), "of another split");
    assert_eq!(insert(&mut reassembly, 2, 3, b"b"), Ok(None));
    assert_eq!(reassembly.content_bytes(), 1);
    assert_eq!(insert(&mut reassembly, 2, 2, b"old"), Err(Refusal::SmallerTotal));
    assert_eq!(insert(&mut reassembly, 1, 3, b"a"), Ok(None));
    let whole = insert(&mut reassembly, 3, 3, b"c").unwrap().unwrap();
    assert_eq!(whole.content.as_slice(), b"abc");
}

#[test]
fn ike_20_unauthenticated_numbers_change_nothing() {
    let mut reassembly = Reassembly::new(LIMITS);
    assert_eq!(insert(&mut reassembly, 1, 2, b"one"), Ok(None));
    assert_eq!(reassembly.check(1, 8), Ok(()));
    assert_eq!(reassembly.content_bytes(), 3, "a forged larger total throws nothing away");
}

#[test]
fn ike_20_content_is_bounded() {
    let mut reassembly = Reassembly::new(LIMITS);
    assert_eq!(insert(&mut reassembly, 1, 3, &[0; 60]), Ok(None));
    assert_eq!(insert(&mut reassembly, 2, 3, &[0; 40]), Ok(None), "exactly the limit");
    assert_eq!(insert(&mut reassembly, 3, 3, &[0; 1]), Err(Refusal::TooLong));
    assert_eq!(reassembly.content_bytes(), 0);
    assert_eq!(insert(&mut reassembly, 1, 1, &[0; 101]), Err(Refusal::TooLong));
}

#[test]
fn ike_20_the_first_payload_is_that_of_fragment_one() {
    let mut reassembly = Reassembly::new(LIMITS);
    let lie = PayloadType::NOTIFY;
    assert_eq!(reassembly.insert(2, 2, lie, b"b".to_vec()), Ok(None));
    let whole = reassembly.insert(1, 2, AUTH, b"a".to_vec()).unwrap().unwrap();
    assert_eq!(whole.first, AUTH);
}

#[test]
fn ike_20_only_the_first_fragment_asks_for_the_answer_again() {
    let skf = |fragment| Protection::Skf { fragment, total: 3 };
    assert!(asks_for_the_answer_again(Protection::Sk));
    assert!(asks_for_the_answer_again(skf(1)));
    assert!(!asks_for_the_answer_again(skf(2)));
}

#[test]
fn what_was_encrypted_is_not_shown() {
    let mut reassembly = Reassembly::new(LIMITS);
    insert(&mut reassembly, 1, 2, b"hunter2").unwrap();
    let whole = insert(&mut Reassembly::new(LIMITS), 1, 1, b"hunter2").unwrap().unwrap();
    let needle = format!("{:?}", b"hunter2");
    for text in [format!("{reassembly:?}"), format!("{whole:?}"), format!("{reassembly:#?}")] {
        assert!(!text.contains("hunter") && !text.contains(needle.trim_matches(['[', ']'])));
    }
}

#[test]
fn room_is_what_the_headers_leave() {
    let v4 = IpAddr::from([192, 0, 2, 1]);
    let v6 = IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1]);
    assert_eq!(message_room(IPV4_CEILING_BYTES, v4, false), 548);
    assert_eq!(message_room(IPV6_CEILING_BYTES, v6, true), 1228);
    assert_eq!(message_room(20, v4, true), 0);
    assert!(fits(548 - 32 - 25, 548, aead));
    assert!(!fits(548 - 32 - 24, 548, aead));
    assert_eq!(split(&[0; 10], 36 + 25, aead), Err(SplitError::Room));
    assert_eq!(split(&[0; 10], 0, aead), Err(SplitError::Room));
    assert_eq!(split(&[0; 70_000], 36 + 26, aead), Err(SplitError::TooManyFragments));
    assert_eq!(split(&[], 548, aead), Ok(vec![&[][..]]));
}

proptest! {
    #[test]
    fn ike_20_what_is_split_is_put_together(content in prop::collection::vec(any::<u8>(), 1..2000),
                                            room in 100..600_usize, block: bool, seed: u64) {
        let body_len = if block { cbc } else { aead };
        let parts = split(&content, room, body_len).unwrap();
        let (last, before) = parts.split_last().unwrap();
        for part in &parts {
            prop_assert!(36 + body_len(part.len()) <= room && !part.is_empty());
        }
        for part in before {
            prop_assert!(36 + body_len(part.len() + 1) > room, "no octet more would have fitted");
            prop_assert!(part.len() >= last.len());
        }
        let total = u16::try_from(parts.len()).unwrap();
        let limits = Limits { fragments: total, content_bytes: content.len() };
        let mut order: Vec<u16> = (1..=total).collect();
        let mut state = seed;
        for at in (1..order.len()).rev() {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            order.swap(at, usize::try_from(state >> 33).unwrap() % (at + 1));
        }
        let mut reassembly = Reassembly::new(limits);
        let mut whole = None;
        for fragment in order {
            prop_assert!(whole.is_none());
            let part = parts[usize::from(fragment) - 1];
            whole = insert(&mut reassembly, fragment, total, part).unwrap();
        }
        let whole = whole.unwrap();
        prop_assert_eq!(whole.content.as_slice(), content.as_slice());
    }

    /// Whatever comes in whatever order, memory stays under the limit.
    #[test]
    fn ike_20_memory_stays_below_the_limit(
        steps in prop::collection::vec((0..12_u16, 0..12_u16, 0..50_usize), 0..60),
    ) {
        let mut reassembly = Reassembly::new(LIMITS);
        for (fragment, total, len) in steps {
            let foretold = reassembly.check(fragment, total);
            let done = insert(&mut reassembly, fragment, total, &vec![7; len]);
            if foretold.is_err() {
                prop_assert_eq!(done, Err(foretold.unwrap_err()));
            }
            prop_assert!(reassembly.content_bytes() <= LIMITS.content_bytes);
            prop_assert!(reassembly.fragments.len() <= usize::from(LIMITS.fragments));
            let kept: usize = reassembly.fragments.values().map(|content| content.len()).sum();
            prop_assert_eq!(reassembly.content_bytes(), kept);
        }
    }
}
