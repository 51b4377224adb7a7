//! What is sent is what is read, and reading survives everything.

use super::strategies::{damage, header, message, payload};
use proptest::collection::vec;
use proptest::prelude::*;
use xswan_ikev2::wire::{
    Header, MAX_PAYLOADS, Message, Payload, PayloadType, Protection, WireError, emit_chain,
    parse_chain, parse_datagram, protected_prefix,
};

#[test]
fn every_payload_type_is_something() {
    for kind in 0..=255_u8 {
        let kind = PayloadType(kind);
        let chain = super::raw_payload(0, 0, &[]);
        match (kind.0, parse_chain(kind, &chain)) {
            (0, result) => assert_eq!(result, Err(WireError::TrailingOctets)),
            (1..=32, result) => assert_eq!(result, Err(WireError::Ikev1Payload(kind))),
            (46 | 53, result) => assert_eq!(result, Err(WireError::ProtectionNested(kind))),
            (33, result) => assert!(matches!(result.unwrap()[..], [Payload::Sa(_)])),
            (43, result) => assert!(matches!(result.unwrap()[..], [Payload::Vendor(_)])),
            (34..=48, result) => assert_eq!(result, Err(WireError::Malformed(kind))),
            (_, result) => {
                let unknown = Payload::Unknown { kind, critical: false, body: vec![] };
                assert_eq!(result, Ok(vec![unknown]));
            }
        }
    }
}

#[test]
fn what_cannot_be_sent_is_an_error() {
    let vendor = |len| Payload::Vendor(xswan_ikev2::wire::VendorId(vec![0; len]));
    assert!(emit_chain(&[vendor(65_531)]).is_ok());
    assert_eq!(emit_chain(&[vendor(65_532)]), Err(WireError::TooLong(PayloadType::VENDOR)));
    let exchange = xswan_ikev2::wire::ExchangeType::INFORMATIONAL;
    let whole = |len| Message::new(super::header(exchange), vec![vendor(len)]).emit();
    assert_eq!(whole(65_535 - 28 - 4).unwrap().len(), 65_535);
    assert_eq!(whole(65_535 - 28 - 3), Err(WireError::TooLong(PayloadType::VENDOR)));
    let many = vec![vendor(0); MAX_PAYLOADS + 1];
    assert!(emit_chain(&many[1..]).is_ok());
    assert_eq!(emit_chain(&many), Err(WireError::TooManyPayloads(PayloadType::VENDOR)));
}

proptest! {
    #[test]
    fn what_is_sent_is_what_is_read(message in message()) {
        let bytes = message.emit().unwrap();
        let again = Message::parse(&bytes).unwrap();
        let first = message.payloads.first().map_or(PayloadType::NONE, Payload::kind);
        let length = u32::try_from(bytes.len()).unwrap();
        prop_assert_eq!(again.header, Header { first, length, ..message.header });
        prop_assert_eq!(&again.payloads, &message.payloads);
        prop_assert_eq!(again.emit().unwrap(), bytes.clone());
        let datagram = parse_datagram(&bytes).unwrap();
        prop_assert_eq!(datagram.header, again.header);
        prop_assert_eq!(datagram.clear, message.payloads);
        prop_assert_eq!(datagram.encrypted, None);
    }

    #[test]
    fn what_is_protected_is_found_again(header in header(), inner in payload(), body in vec(any::<u8>(), 0..200),
                                        fragment: u16, total: u16) {
        let (inner_first, _) = emit_chain(&[inner]).unwrap();
        for protection in [Protection::Sk, Protection::Skf { fragment, total }] {
            let prefix = protected_prefix(&header, protection, inner_first, body.len());
            if protection != Protection::Sk && (fragment == 0 || fragment > total) {
                prop_assert_eq!(prefix, Err(WireError::FragmentNumber));
                continue;
            }
            let prefix = prefix.unwrap();
            prop_assert_eq!(prefix.len(), protection.prefix_len());
            let bytes = [&prefix[..], &body].concat();
            let datagram = parse_datagram(&bytes).unwrap();
            let encrypted = datagram.encrypted.unwrap();
            prop_assert_eq!(datagram.header.spi_i, header.spi_i);
            prop_assert_eq!(encrypted.protection, protection);
            prop_assert_eq!(&bytes[encrypted.aad], &prefix[..]);
            prop_assert_eq!(&bytes[encrypted.body], &body[..]);
            let first = if protection == Protection::Sk || fragment == 1 {
                inner_first
            } else {
                PayloadType::NONE
            };
            prop_assert_eq!(encrypted.inner_first, first);
        }
    }

    /// Octets that are accepted mean the same after they were written again.
    #[test]
    fn what_is_read_is_what_would_be_sent(message in message(), damages in vec(damage(), 0..4)) {
        let mut bytes = message.emit().unwrap();
        for damage in damages {
            damage.apply(&mut bytes, true);
        }
        if let Ok(read) = Message::parse(&bytes) {
            let written = read.emit().unwrap();
            let again = Message::parse(&written).unwrap();
            prop_assert_eq!(&again.payloads, &read.payloads);
            prop_assert!(written.len() <= bytes.len());
            prop_assert_eq!(again.emit().unwrap(), written);
        }
    }

    #[test]
    fn any_octets_are_survived(bytes in vec(any::<u8>(), 0..400), first: u8) {
        let _ = Header::read(&bytes);
        let _ = parse_datagram(&bytes);
        let _ = Message::parse(&bytes);
        let _ = parse_chain(PayloadType(first), &bytes);
    }
}
