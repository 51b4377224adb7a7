//! What payloads hold: framing part of IKE-07, 09, 10, 12, 13, 15 and 21.

use super::raw_payload;
use xswan_ikev2::wire::{
    Configuration, Delete, EapMessage, Identification, MAX_ATTRIBUTES, MAX_DELETE_SPIS,
    MAX_SELECTORS, Nonce, Notify, NotifyType, Payload, PayloadType, SecurityAssociation,
    TrafficSelector, TrafficSelectors, Transform, WireError, cert, emit_chain, parse_chain,
    protocol, transform,
};

/// The only payload of a chain with this body.
fn parse(kind: PayloadType, body: &[u8]) -> Result<Payload, WireError> {
    parse_chain(kind, &raw_payload(0, 0, body)).map(|mut payloads| payloads.remove(0))
}

/// All bodies up to the full one are refused as malformed, and the full one is not.
fn every_cut_is_malformed(kind: PayloadType, body: &[u8], from: usize) {
    for len in from..body.len() {
        assert_eq!(parse(kind, &body[..len]), Err(WireError::Malformed(kind)), "{kind} at {len}");
    }
    assert!(parse(kind, body).is_ok());
    let more = [body, &[0]].concat();
    assert!(parse(kind, &more).is_err());
}

const PROPOSAL: [u8; 32] = [
    0, 0, 0, 32, 1, 3, 4, 2, 0xaa, 0xbb, 0xcc, 0xdd, // proposal 1, ESP, SPI, 2 transforms
    3, 0, 0, 12, 1, 0, 0, 20, 0x80, 14, 0, 128, // AES-GCM-16, 128 bits
    0, 0, 0, 8, 5, 0, 0, 1, // ESN
];

#[test]
fn a_proposal_is_read() {
    let Ok(Payload::Sa(SecurityAssociation { proposals })) = parse(PayloadType::SA, &PROPOSAL)
    else {
        panic!("not an SA");
    };
    let [proposal] = &proposals[..] else { panic!("not one proposal") };
    assert_eq!((proposal.number, proposal.protocol), (1, protocol::ESP));
    assert_eq!(proposal.spi, [0xaa, 0xbb, 0xcc, 0xdd]);
    let gcm = Transform::with_key_bits(transform::ENCR, 20, 128);
    assert_eq!(proposal.transforms, [gcm.clone(), Transform::new(transform::SN, 1)]);
    assert_eq!(proposal.of_kind(transform::ENCR).collect::<Vec<_>>(), [&gcm]);
    assert!(proposal.transforms.iter().all(Transform::is_usable));
}

#[test]
fn ike_09_substructures_that_lie_are_malformed() {
    every_cut_is_malformed(PayloadType::SA, &PROPOSAL, 1);
    // Offsets of single octets and values that are wrong there.
    for (at, values) in [
        (0, &[1, 2, 3, 255][..]),    // says more, or nonsense
        (3, &[0, 1, 3, 7, 31, 33]),  // proposal length
        (6, &[1, 3, 5, 8, 255]),     // SPI size
        (7, &[0, 1, 3, 255]),        // number of transforms
        (12, &[0, 1, 2, 4]),         // last, though one follows
        (15, &[0, 4, 7, 8, 11, 13]), // transform length
        (24, &[1, 2, 3]),            // more, though none follows
        (27, &[0, 3, 7, 9]),         // last transform's length
    ] {
        for value in values {
            let mut body = PROPOSAL;
            body[at] = *value;
            let result = parse(PayloadType::SA, &body);
            assert_eq!(result, Err(WireError::Malformed(PayloadType::SA)), "{value} at {at}");
        }
    }
}

#[test]
fn ike_09_attributes_nobody_knows_make_a_transform_unusable() {
    let with = |attributes: &[u8]| {
        let length = u8::try_from(8 + attributes.len()).unwrap();
        let header = [0, 0, 0, length + 8, 1, 1, 0, 1, 0, 0, 0, length, 1, 0, 0, 12];
        let body = [&header, attributes].concat();
        match parse(PayloadType::SA, &body)? {
            Payload::Sa(mut sa) => Ok(sa.proposals.remove(0).transforms.remove(0)),
            other => panic!("{other:?}"),
        }
    };
    let key_length = [0x80, 14, 1, 0];
    assert_eq!(with(&key_length), Ok(Transform::with_key_bits(1, 12, 256)));
    for (attributes, key_bits) in [
        (&[0x80, 14, 1, 0, 0x80, 14, 0, 128][..], Some(256)), // twice
        (&[0x80, 15, 1, 0], None),                            // another attribute
        (&[0, 14, 0, 2, 1, 0], None),                         // key length of variable length
        (&[0, 99, 0, 0], None),                               // empty
    ] {
        let transform = with(attributes).unwrap();
        assert!(!transform.is_usable());
        assert_eq!(transform.key_bits, key_bits);
    }
    for attributes in [&[0x80, 14, 1][..], &[0, 14, 0, 5, 1, 2], &[0x80], &[0, 1, 255, 255]] {
        assert_eq!(with(attributes), Err(WireError::Malformed(PayloadType::SA)));
    }
}

#[test]
fn ike_09_lists_are_bounded() {
    // 255 proposals without a transform are somebody's offer; 256 are not.
    let proposals = |count: usize| {
        let mut body: Vec<u8> = [2, 0, 0, 8, 1, 1, 0, 0].repeat(count);
        let last = body.len() - 8;
        body[last] = 0;
        body
    };
    assert!(parse(PayloadType::SA, &proposals(255)).is_ok());
    let too_many = Err(WireError::TooMany(PayloadType::SA));
    assert_eq!(parse(PayloadType::SA, &proposals(256)), too_many);
    // Nine proposals of 255 transforms.
    let mut transforms = [3, 0, 0, 8, 1, 0, 0, 20].repeat(255);
    transforms[254 * 8] = 0;
    let [high, low] = u16::try_from(8 + transforms.len()).unwrap().to_be_bytes();
    let mut body = Vec::new();
    for more in [2, 2, 2, 2, 2, 2, 2, 2, 0] {
        body.extend([more, 0, high, low, 1, 1, 0, 255]);
        body.extend(&transforms);
    }
    assert_eq!(parse(PayloadType::SA, &body), too_many);
    body.truncate(8 * usize::from(u16::from_be_bytes([high, low])));
    body[7 * usize::from(u16::from_be_bytes([high, low]))] = 0;
    assert!(parse(PayloadType::SA, &body).is_ok());
}

#[test]
fn ike_07_a_key_of_any_length_is_left_to_the_key_exchange() {
    every_cut_is_malformed_up_to(PayloadType::KE, 4);
    assert!(parse(PayloadType::KE, &[0, 31, 0, 0]).is_ok(), "no key");
    assert!(parse(PayloadType::KE, &[0xff; 65_000]).is_ok());
}

fn every_cut_is_malformed_up_to(kind: PayloadType, header_len: usize) {
    for len in 0..header_len {
        assert_eq!(parse(kind, &vec![0; len]), Err(WireError::Malformed(kind)), "{kind} at {len}");
    }
}

#[test]
fn headers_of_payloads_cut_short_are_malformed() {
    for (kind, header_len) in [
        (PayloadType::ID_I, 4),
        (PayloadType::ID_R, 4),
        (PayloadType::CERT, 1),
        (PayloadType::CERTREQ, 1),
        (PayloadType::AUTH, 4),
        (PayloadType::NOTIFY, 4),
        (PayloadType::DELETE, 4),
        (PayloadType::TS_I, 4),
        (PayloadType::CP, 4),
        (PayloadType::EAP, 4),
    ] {
        every_cut_is_malformed_up_to(kind, header_len);
    }
}

#[test]
fn ike_10_nonces_have_16_to_256_octets() {
    let malformed = Err(WireError::Malformed(PayloadType::NONCE));
    for len in [0, 1, 15, 257, 1000] {
        assert_eq!(parse(PayloadType::NONCE, &vec![7; len]), malformed);
    }
    for len in [16, 32, 256] {
        let nonce = Payload::Nonce(Nonce(vec![7; len]));
        assert_eq!(parse(PayloadType::NONCE, &vec![7; len]), Ok(nonce));
    }
}

#[test]
fn ike_13_identities_of_any_size_and_content_are_kept() {
    let hostile = b"$(reboot)\0\n\x1b[2J\xff";
    for data in [&[][..], hostile, &[b'a'; 65_000]] {
        let body = [&[Identification::FQDN, 0, 0, 0][..], data].concat();
        let id = Identification::new(Identification::FQDN, data.to_vec());
        assert_eq!(id.signed_octets(), body);
        assert_eq!(parse(PayloadType::ID_R, &body), Ok(Payload::IdR(id)));
    }
}

const SELECTOR: [u8; 16] = [7, 6, 0, 16, 0, 80, 1, 187, 192, 0, 2, 1, 192, 0, 2, 9];

fn selectors(count: u8, body: &[u8]) -> Result<TrafficSelectors, WireError> {
    match parse(PayloadType::TS_R, &[&[count, 0, 0, 0], body].concat())? {
        Payload::TsR(selectors) => Ok(selectors),
        other => panic!("{other:?}"),
    }
}

#[test]
fn ike_12_selectors_are_counted() {
    let malformed = Err(WireError::Malformed(PayloadType::TS_R));
    assert_eq!(selectors(0, &[]), Ok(TrafficSelectors::default()), "nothing acceptable in it");
    assert_eq!(selectors(1, &[]), malformed);
    assert_eq!(selectors(0, &SELECTOR), malformed);
    assert_eq!(selectors(2, &SELECTOR), malformed);
    assert_eq!(selectors(1, &SELECTOR.repeat(2)), malformed);
    let many = selectors(255, &SELECTOR.repeat(255)).unwrap();
    assert_eq!(many.selectors.len(), MAX_SELECTORS);
    let [one, ..] = many.selectors[..] else { panic!("none") };
    let expected = TrafficSelector {
        protocol: 6,
        first_port: 80,
        last_port: 443,
        first: "192.0.2.1".parse().unwrap(),
        last: "192.0.2.9".parse().unwrap(),
    };
    assert_eq!(one, expected);
    let more = TrafficSelectors::from(vec![expected; 256]);
    let too_long = Err(WireError::TooLong(PayloadType::TS_I));
    assert_eq!(emit_chain(&[Payload::TsI(more)]), too_long);
}

#[test]
fn ike_12_selectors_of_wrong_length_are_malformed() {
    let malformed = Err(WireError::Malformed(PayloadType::TS_R));
    for (kind, length) in
        [(7, 0), (7, 3), (7, 4), (7, 15), (7, 17), (7, 40), (8, 16), (8, 39), (8, 41)]
    {
        let mut selector = [0; 64];
        selector[0] = kind;
        selector[3] = length;
        let len = usize::from(length).max(4);
        assert_eq!(selectors(1, &selector[..len]), malformed, "type {kind}, length {length}");
    }
    for cut in 0..16 {
        assert_eq!(selectors(1, &SELECTOR[..cut]), malformed);
    }
}

#[test]
fn ike_12_what_matches_nothing_is_read_and_said_to_be_invalid() {
    let read = |first: &str, last: &str, ports: (u16, u16)| {
        let selector = TrafficSelector {
            protocol: 0,
            first_port: ports.0,
            last_port: ports.1,
            first: first.parse().unwrap(),
            last: last.parse().unwrap(),
        };
        let (kind, chain) = emit_chain(&[Payload::TsI(vec![selector].into())])?;
        assert_eq!(parse_chain(kind, &chain).unwrap(), [Payload::TsI(vec![selector].into())]);
        Ok::<_, WireError>((selector.is_valid(), selector.is_opaque(), selector.is_any_port()))
    };
    assert_eq!(read("10.0.0.1", "10.0.0.9", (0, 65_535)), Ok((true, false, true)));
    assert_eq!(read("10.0.0.9", "10.0.0.1", (0, 65_535)), Ok((false, false, true)));
    assert_eq!(read("10.0.0.1", "10.0.0.1", (65_535, 0)), Ok((true, true, false)));
    assert_eq!(read("10.0.0.1", "10.0.0.1", (9, 8)), Ok((false, false, false)));
    assert_eq!(read("::", "ffff::", (0, 0)), Ok((true, false, false)));
    let mixed = Err(WireError::Malformed(PayloadType::TS_I));
    assert_eq!(read("10.0.0.1", "::1", (0, 0)), mixed, "has no encoding");
}

#[test]
fn ike_12_families_may_be_mixed_and_unknown_types_are_skipped() {
    let label = [10, 0, 0, 8, 1, 2, 3, 4];
    let v6 = [&[8, 0, 0, 40, 0, 0, 255, 255][..], &[0; 16], &[255; 16]].concat();
    let read = selectors(3, &[&label[..], &SELECTOR, &v6].concat()).unwrap();
    assert!(read.selectors[0].first.is_ipv4() && read.selectors[1].first.is_ipv6());
    assert_eq!((read.unknown[0].kind, &read.unknown[0].body[..]), (10, &[1, 2, 3, 4][..]));
}

#[test]
fn ike_15_deletes_count_what_they_list() {
    let malformed = Err(WireError::Malformed(PayloadType::DELETE));
    let delete = |body: &[u8]| parse(PayloadType::DELETE, body);
    assert_eq!(delete(&[1, 0, 0, 0]), Ok(Payload::Delete(Delete::ike_sa())));
    let two = [3, 4, 0, 2, 0, 0, 1, 1, 0, 0, 1, 1];
    let twice = Payload::Delete(Delete::esp(vec![0x101, 0x101]));
    assert_eq!(delete(&two), Ok(twice), "the same SA twice");
    every_cut_is_malformed(PayloadType::DELETE, &two, 0);
    for body in [
        &[3, 4, 0, 1, 0, 0, 1, 1, 0, 0, 1, 2][..], // count below
        &[3, 4, 0, 3, 0, 0, 1, 1, 0, 0, 1, 2],     // count above
        &[3, 4, 255, 255],
        &[3, 0, 0, 1], // SPIs of no size
        &[3, 8, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1],
        &[3, 2, 0, 2, 0, 0, 0, 0],
        &[1, 4, 0, 1, 0, 0, 1, 1], // an SPI for the IKE SA
        &[1, 0, 0, 0, 0],
    ] {
        let result = delete(body);
        let too_many = Err(WireError::TooMany(PayloadType::DELETE));
        assert!(result == malformed || result == too_many, "{body:?}: {result:?}");
    }
    assert_eq!(delete(&[3, 0, 0, 0]), Ok(Payload::Delete(Delete::esp(vec![]))));
    let many = Payload::Delete(Delete::esp(vec![7; MAX_DELETE_SPIS + 1]));
    assert_eq!(emit_chain(&[many]), Err(WireError::TooMany(PayloadType::DELETE)));
}

#[test]
fn ike_15_two_deletes_and_a_notify_are_all_there() {
    let payloads = [
        Payload::Delete(Delete::ike_sa()),
        Payload::Delete(Delete::ike_sa()),
        Payload::notify(NotifyType::INVALID_SYNTAX, vec![]),
    ];
    let (first, chain) = emit_chain(&payloads).unwrap();
    assert_eq!(parse_chain(first, &chain).unwrap(), payloads);
}

#[test]
fn a_notify_says_about_which_sa() {
    let rekey = Notify::about(protocol::ESP, 0x0102_0304, NotifyType::REKEY_SA);
    assert_eq!(rekey.child_spi(), Some(0x0102_0304));
    let body = [3, 4, 0x40, 9, 1, 2, 3, 4];
    assert_eq!(parse(PayloadType::NOTIFY, &body), Ok(Payload::Notify(rekey)));
    let malformed = Err(WireError::Malformed(PayloadType::NOTIFY));
    assert_eq!(parse(PayloadType::NOTIFY, &[3, 5, 0x40, 9, 1, 2, 3, 4]), malformed);
    let cookie = Notify::new(NotifyType::COOKIE, vec![1]);
    assert_eq!(cookie.child_spi(), None);
    assert!(!NotifyType::COOKIE.is_error() && NotifyType(16383).is_error());
}

#[test]
fn ike_21_configuration_attributes_that_lie_are_malformed() {
    let body = [2, 0, 0, 0, 0, 1, 0, 4, 10, 0, 0, 1, 0, 3, 0, 0];
    let Ok(Payload::Cp(Configuration { kind, attributes })) = parse(PayloadType::CP, &body) else {
        panic!("not a CP");
    };
    assert_eq!((kind.0, attributes.len()), (2, 2));
    assert_eq!(attributes[0].value, [10, 0, 0, 1]);
    for cut in [1, 2, 3, 5, 6, 7, 9, 10, 11, 13, 14, 15] {
        let malformed = Err(WireError::Malformed(PayloadType::CP));
        assert_eq!(parse(PayloadType::CP, &body[..cut]), malformed);
    }
    let huge = [&[1, 0, 0, 0][..], &[0, 1, 255, 255, 0]].concat();
    assert_eq!(parse(PayloadType::CP, &huge), Err(WireError::Malformed(PayloadType::CP)));
    let attributes = |count: usize| [&[1, 0, 0, 0][..], &[0, 1, 0, 0].repeat(count)].concat();
    assert!(parse(PayloadType::CP, &attributes(MAX_ATTRIBUTES)).is_ok());
    let too_many = Err(WireError::TooMany(PayloadType::CP));
    assert_eq!(parse(PayloadType::CP, &attributes(MAX_ATTRIBUTES + 1)), too_many);
}

#[test]
fn ike_21_eap_lengths_that_lie_are_malformed() {
    for (packet, right) in [
        (&[1, 7, 0, 5, 1][..], true),
        (&[1, 7, 0, 4], false), // a request without a type
        (&[2, 7, 0, 4], false),
        (&[3, 7, 0, 4], true),
        (&[4, 7, 0, 4], true),
        (&[3, 7, 0, 5, 0], false), // success with something behind it
        (&[9, 7, 0, 4], true),     // nobody knows this code
        (&[1, 7, 0, 6, 1], false),
        (&[1, 7, 0, 4, 1], false),
        (&[1, 7, 0, 0, 1], false),
        (&[1, 7, 255, 255, 1], false),
        (&[1, 7, 0], false),
        (&[], false),
    ] {
        let parsed = parse(PayloadType::EAP, packet);
        assert_eq!(parsed.is_ok(), right, "{packet:?}");
        assert_eq!(EapMessage::new(packet.to_vec()).is_ok(), right);
    }
}

#[test]
fn ike_21_certificates_and_vendor_ids_are_any_octets() {
    let Ok(Payload::CertReq(request)) = parse(PayloadType::CERTREQ, &[&[4][..], &[9; 47]].concat())
    else {
        panic!("not a CERTREQ");
    };
    assert_eq!(request.hashes().count(), 2, "the incomplete one is left out");
    assert_eq!(request.encoding, cert::X509_SIGNATURE);
    assert!(parse(PayloadType::CERT, &[4]).is_ok());
    assert!(parse(PayloadType::VENDOR, &[]).is_ok());
    assert!(parse(PayloadType::VENDOR, &[0xff; 65_000]).is_ok());
}
