//! SK and SKF in their outer form: IKE-19 and IKE-20, the part that needs no keys.

use super::{header, raw_message, raw_payload};
use xswan_ikev2::wire::{
    ExchangeType, PayloadType, Protection, WireError, parse_chain, parse_datagram, protected_prefix,
};

const AUTH: ExchangeType = ExchangeType::IKE_AUTH;
const SK: u8 = 46;
const SKF: u8 = 53;

#[test]
fn ike_19_sk_is_taken_apart() {
    let bytes = raw_message(AUTH, SK, &raw_payload(35, 0x80, &[7; 40]));
    let encrypted = parse_datagram(&bytes).unwrap().encrypted.unwrap();
    assert_eq!(encrypted.protection, Protection::Sk);
    assert_eq!(encrypted.inner_first, PayloadType::ID_I);
    assert_eq!((encrypted.aad, encrypted.body), (0..32, 32..72));
}

#[test]
fn ike_19_sk_may_be_empty_or_hold_an_iv_only() {
    for len in [0, 1, 8] {
        let bytes = raw_message(AUTH, SK, &raw_payload(0, 0, &vec![7; len]));
        let encrypted = parse_datagram(&bytes).unwrap().encrypted.unwrap();
        assert_eq!(encrypted.body, 32..32 + len, "the cipher says that it is too short");
    }
}

#[test]
fn ike_19_sk_must_be_the_last() {
    let sk = raw_payload(41, 0, &[7; 40]);
    let behind = [sk.clone(), raw_payload(0, 0, &[0, 0, 0x40, 0])].concat();
    let error = Err(WireError::ProtectionNotLast(PayloadType::SK));
    assert_eq!(parse_datagram(&raw_message(AUTH, SK, &behind)), error);
    let one_octet = [sk.clone(), vec![0]].concat();
    assert_eq!(parse_datagram(&raw_message(AUTH, SK, &one_octet)), error);
    let mut long = raw_message(AUTH, SK, &sk);
    long[31] += 1;
    let error = Err(WireError::PayloadLength(PayloadType::SK));
    assert_eq!(parse_datagram(&long), error);
}

#[test]
fn ike_19_payloads_before_sk_are_clear_and_authenticated() {
    let clear = raw_payload(SK, 0, &[0, 0, 0x40, 0]);
    let chain = [clear, raw_payload(35, 0, &[7; 40])].concat();
    let bytes = raw_message(AUTH, 41, &chain);
    let datagram = parse_datagram(&bytes).unwrap();
    assert_eq!(datagram.clear.len(), 1);
    let encrypted = datagram.encrypted.unwrap();
    assert_eq!((encrypted.aad, encrypted.body), (0..40, 40..80));
}

#[test]
fn ike_19_sk_inside_sk_is_refused() {
    for kind in [PayloadType::SK, PayloadType::SKF] {
        let inner = raw_payload(0, 0, &[0, 1, 0, 1, 7, 7]);
        assert_eq!(parse_chain(kind, &inner), Err(WireError::ProtectionNested(kind)));
    }
}

#[test]
fn ike_20_skf_is_taken_apart() {
    let body = [&[0, 2, 0, 3][..], &[7; 40]].concat();
    let bytes = raw_message(AUTH, SKF, &raw_payload(0, 0, &body));
    let encrypted = parse_datagram(&bytes).unwrap().encrypted.unwrap();
    assert_eq!(encrypted.protection, Protection::Skf { fragment: 2, total: 3 });
    assert_eq!((encrypted.aad, encrypted.body), (0..36, 36..76));
}

#[test]
fn ike_20_fragment_numbers_lie_between_1_and_the_total() {
    let parse = |fragment: u16, total: u16| {
        let fields = [fragment.to_be_bytes(), total.to_be_bytes()].concat();
        let bytes = raw_message(AUTH, SKF, &raw_payload(0, 0, &[&fields[..], &[7; 20]].concat()));
        parse_datagram(&bytes).map(|datagram| datagram.encrypted.unwrap().protection)
    };
    for (fragment, total) in [(0, 0), (0, 1), (1, 0), (2, 1), (u16::MAX, u16::MAX - 1)] {
        assert_eq!(parse(fragment, total), Err(WireError::FragmentNumber));
        let protection = Protection::Skf { fragment, total };
        let prefix = protected_prefix(&header(AUTH), protection, PayloadType::NONE, 30);
        assert_eq!(prefix, Err(WireError::FragmentNumber));
    }
    for (fragment, total) in [(1, 1), (1, u16::MAX), (u16::MAX, u16::MAX)] {
        assert_eq!(parse(fragment, total), Ok(Protection::Skf { fragment, total }));
    }
    for len in 0..4 {
        let bytes = raw_message(AUTH, SKF, &raw_payload(0, 0, &vec![1; len]));
        assert_eq!(parse_datagram(&bytes), Err(WireError::Malformed(PayloadType::SKF)));
    }
}

#[test]
fn ike_20_clear_payloads_before_a_fragment_stay_outside_of_it() {
    let body = [&[0, 1, 0, 1][..], &[7; 40]].concat();
    let chain = [raw_payload(SKF, 0, b"v"), raw_payload(35, 0, &body)].concat();
    let datagram = parse_datagram(&raw_message(AUTH, 43, &chain)).unwrap();
    assert_eq!(datagram.clear.len(), 1);
    assert_eq!(datagram.encrypted.unwrap().aad, 0..41);
}

#[test]
fn prefixes_have_the_right_lengths() {
    let prefix = |protection, body_len| {
        protected_prefix(&header(AUTH), protection, PayloadType::ID_I, body_len)
    };
    let sk = prefix(Protection::Sk, 100).unwrap();
    assert_eq!(sk[16], SK);
    assert_eq!(sk[24..], [0, 0, 0, 132, 35, 0, 0, 104]);
    let skf = prefix(Protection::Skf { fragment: 1, total: 2 }, 100).unwrap();
    assert_eq!(skf[16], SKF);
    assert_eq!(skf[24..], [0, 0, 0, 136, 35, 0, 0, 108, 0, 1, 0, 2]);
    let second = prefix(Protection::Skf { fragment: 2, total: 2 }, 100).unwrap();
    assert_eq!(second[28], 0, "only the first fragment names the first payload");
    assert!(prefix(Protection::Sk, 65_535 - 32).is_ok());
    for too_long in [65_535 - 31, 70_000, usize::MAX] {
        assert_eq!(prefix(Protection::Sk, too_long), Err(WireError::TooLong(PayloadType::SK)));
    }
}
