//! Header and chain: IKE-01 to IKE-06.

use super::{header, raw_message, raw_payload};
use xswan_ikev2::wire::{
    ExchangeType, Flags, Header, MAX_PAYLOADS, Message, Payload, PayloadType, WireError,
    first_unknown_critical, parse_chain, parse_datagram,
};

const INFORMATIONAL: ExchangeType = ExchangeType::INFORMATIONAL;
const VENDOR: u8 = 43;

fn with_length(length: u32, datagram_len: usize) -> Vec<u8> {
    let mut bytes = Header { length, ..header(INFORMATIONAL) }.emit().to_vec();
    bytes.resize(datagram_len, 0);
    bytes
}

#[test]
fn ike_01_header_length_lies() {
    for length in [0, 1, 27, 29, 60, 65_535, 65_536, u32::MAX] {
        assert_eq!(parse_datagram(&with_length(length, 28)), Err(WireError::Length));
    }
    assert_eq!(parse_datagram(&with_length(28, 29)), Err(WireError::Length), "octets behind it");
    assert_eq!(parse_datagram(&with_length(65_536, 65_536)), Err(WireError::Length));
    let bytes = with_length(28, 28);
    for len in 0..28 {
        assert_eq!(parse_datagram(&bytes[..len]), Err(WireError::Short));
    }
    let empty = parse_datagram(&bytes).unwrap();
    assert!(empty.clear.is_empty() && empty.encrypted.is_none());
}

#[test]
fn ike_02_payload_length_lies() {
    let body = [0; 12];
    for (lie, right) in
        [(0_u16, false), (1, false), (3, false), (15, true), (16, true), (17, false)]
    {
        let mut chain = raw_payload(0, 0, &body);
        chain[2..4].copy_from_slice(&lie.to_be_bytes());
        let wrong = match (right, lie) {
            (true, 16) => Ok(vec![Payload::Vendor(xswan_ikev2::wire::VendorId(body.to_vec()))]),
            (true, _) => Err(WireError::TrailingOctets),
            (false, _) => Err(WireError::PayloadLength(PayloadType::VENDOR)),
        };
        assert_eq!(parse_chain(PayloadType(VENDOR), &chain), wrong);
    }
    for len in 0..4 {
        let cut = parse_chain(PayloadType::SA, &[0; 4][..len]);
        assert_eq!(cut, Err(WireError::PayloadLength(PayloadType::SA)));
    }
}

#[test]
fn ike_02_chains_end() {
    let chain = |count: usize| {
        let mut chain = raw_payload(VENDOR, 0, &[]).repeat(count);
        let last = chain.len() - 4;
        chain[last] = 0;
        chain
    };
    let parse = |count| parse_chain(PayloadType(VENDOR), &chain(count));
    assert_eq!(parse(MAX_PAYLOADS).unwrap().len(), MAX_PAYLOADS);
    let too_many = Err(WireError::TooManyPayloads(PayloadType::VENDOR));
    assert_eq!(parse(MAX_PAYLOADS + 1), too_many);
    assert_eq!(parse(16_000), too_many, "types that go round in a circle");
    // One that always names a next one, until there are no octets left.
    let endless = raw_payload(VENDOR, 0, &[]).repeat(10);
    let past_end = Err(WireError::PayloadLength(PayloadType::VENDOR));
    assert_eq!(parse_chain(PayloadType(VENDOR), &endless), past_end);
    assert_eq!(parse_chain(PayloadType::NONE, &[0]), Err(WireError::TrailingOctets));
    assert_eq!(parse_chain(PayloadType::NONE, &[]), Ok(vec![]));
}

#[test]
fn ike_03_versions() {
    let mut bytes = with_length(28, 28);
    for (version, expected) in [
        (0x00, Err(WireError::MajorVersion(0))),
        (0x10, Err(WireError::MajorVersion(1))),
        (0x20, Ok(0)),
        (0x21, Ok(1)),
        (0x2f, Ok(15)),
        (0x30, Err(WireError::MajorVersion(3))),
        (0xf0, Err(WireError::MajorVersion(15))),
    ] {
        bytes[17] = version;
        assert_eq!(Header::parse(&bytes).map(|header| header.version.minor), expected);
    }
    // Another version may mean something else by everything else: only its number is told.
    bytes[17] = 0x30;
    bytes[24..28].fill(0xff);
    assert_eq!(Header::parse(&bytes), Err(WireError::MajorVersion(3)));
    let read = Header::read(&bytes).unwrap();
    assert_eq!((read.spi_i, read.message_id), (super::SPI_I, 1), "enough to answer");
}

#[test]
fn ike_03_payloads_of_ikev1_are_rejected() {
    for kind in 1..=32 {
        let bytes = raw_message(INFORMATIONAL, kind, &raw_payload(0, 0, &[0; 16]));
        let wrong = WireError::Ikev1Payload(PayloadType(kind));
        assert_eq!(Message::parse(&bytes), Err(wrong));
        assert_eq!(wrong.payload(), Some(PayloadType(kind)));
        let later = raw_message(
            INFORMATIONAL,
            VENDOR,
            &[raw_payload(kind, 0, &[]), raw_payload(0, 0, &[0; 16])].concat(),
        );
        assert_eq!(parse_datagram(&later), Err(wrong));
    }
}

#[test]
fn ike_04_unknown_payloads_keep_their_critical_bit() {
    let critical = raw_payload(200, 0x80, b"a");
    let harmless = raw_payload(VENDOR, 0, b"b");
    let chain = [critical, harmless, raw_payload(0, 0, b"c")].concat();
    let payloads = parse_chain(PayloadType(199), &chain).unwrap();
    let unknown = |kind, critical, body: &[u8]| Payload::Unknown {
        kind: PayloadType(kind),
        critical,
        body: body.to_vec(),
    };
    assert_eq!(payloads[..2], [unknown(199, true, b"a"), unknown(200, false, b"b")]);
    assert_eq!(first_unknown_critical(&payloads), Some(PayloadType(199)));
    assert_eq!(first_unknown_critical(&payloads[1..]), None);
}

#[test]
fn ike_04_the_critical_bit_of_known_payloads_is_ignored() {
    let payloads = parse_chain(PayloadType(VENDOR), &raw_payload(0, 0x80, b"a")).unwrap();
    assert_eq!(first_unknown_critical(&payloads), None);
}

#[test]
fn ike_05_reserved_bits_are_ignored() {
    // Every reserved bit of an IKE_AUTH's payloads is set; what is left is read as if not.
    let clean = Message::parse(&reserved_everywhere(0)).unwrap();
    let dirty = Message::parse(&reserved_everywhere(0xff)).unwrap();
    assert_eq!(dirty.header, clean.header);
    assert_eq!(clean.payloads.len(), 8);
    for (dirty, clean) in dirty.payloads.iter().zip(&clean.payloads) {
        let (Payload::IdI(dirty), Payload::IdI(clean)) = (dirty, clean) else {
            assert_eq!(dirty, clean);
            continue;
        };
        assert_eq!((dirty.kind, &dirty.data), (clean.kind, &clean.data));
        // The peer's AUTH covers what it sent (RFC 7296 section 2.15).
        assert_eq!(dirty.signed_octets(), [11, 0xff, 0xff, 0xff, b'x']);
        assert_eq!(clean.signed_octets(), [11, 0, 0, 0, b'x']);
    }
}

fn reserved_everywhere(r: u8) -> Vec<u8> {
    let bodies: [(u8, Vec<u8>); 8] = [
        (33, vec![0, r, 0, 20, 1, 3, 0, 1, 0, r, 0, 12, 1, r, 0, 20, 0x80, 14, 0, 128]),
        (34, vec![0, 31, r, r, 1, 2, 3]),
        (35, vec![11, r, r, r, b'x']),
        (39, vec![2, r, r, r, 5]),
        (44, [&[1, r, r, r, 7, 0, 0, 16, 0, 0, 255, 255][..], &[10; 8]].concat()),
        (47, vec![1, r, r, r, r & 0x80, 1, 0, 0]),
        (41, vec![0, 0, 0x40, 0]),
        (42, vec![3, 4, 0, 1, 0, 0, 1, 1]),
    ];
    let mut chain = Vec::new();
    for (index, (_, body)) in bodies.iter().enumerate() {
        let next = bodies.get(index + 1).map_or(0, |(kind, _)| *kind);
        chain.extend(raw_payload(next, r, body));
    }
    let mut bytes = raw_message(ExchangeType::IKE_AUTH, 33, &chain);
    bytes[19] |= r & 0xc7;
    bytes
}

#[test]
fn ike_06_zero_spis_are_refused() {
    let request = Flags::INITIATOR_REQUEST;
    let response = Flags { response: true, ..Flags::default() };
    let parse = |spi_i, spi_r, exchange, flags| {
        let header = Header::new(spi_i, spi_r, exchange, flags, 0);
        Header::parse(&Message::new(header, vec![]).emit().unwrap()).map(|_header| ())
    };
    let init = ExchangeType::IKE_SA_INIT;
    for exchange in [init, INFORMATIONAL, ExchangeType::IKE_SESSION_RESUME] {
        assert_eq!(parse(0, 1, exchange, response), Err(WireError::ZeroInitiatorSpi));
    }
    for exchange in [ExchangeType::IKE_AUTH, ExchangeType::CREATE_CHILD_SA, INFORMATIONAL] {
        assert_eq!(parse(1, 0, exchange, request), Err(WireError::ZeroResponderSpi));
        assert_eq!(parse(1, 0, exchange, response), Err(WireError::ZeroResponderSpi));
    }
    for exchange in [init, ExchangeType::IKE_SESSION_RESUME] {
        assert_eq!(parse(1, 0, exchange, request), Ok(()));
        assert_eq!(parse(1, 0, exchange, response), Ok(()), "a cookie, say");
        assert_eq!(parse(1, 2, exchange, response), Ok(()));
        assert_eq!(parse(1, 2, exchange, request), Err(WireError::UnexpectedResponderSpi));
    }
    assert!(WireError::UnexpectedResponderSpi.is_header());
    assert!(!WireError::TrailingOctets.is_header());
}
