//! Against ipsec-parser 0.7, an independent reader in Rust.
//!
//! Where it reads differently from RFC 7296 is left out of the comparison: it refuses Vendor IDs
//! below eight octets, SA and TS without or with unknown entries, cuts the data of Notify, Delete
//! and Vendor ID short, takes AUTH's reserved octets for data, knows neither CP nor EAP, and does not look at counts and inner lengths.

use super::strategies::{damage, message};
use ipsec_parser::{
    IkeV2PayloadContent, parse_ikev2_header, parse_ikev2_message, parse_ikev2_payload_generic,
};
use proptest::collection::vec;
use proptest::prelude::*;
use xswan_ikev2::wire::{
    HEADER_LEN, MAX_PAYLOADS, Message, Payload, WireError, emit_chain, parse_datagram,
};

/// Types, critical bits and lengths of the bodies along the chain.
type Chain = Vec<(u8, bool, usize)>;

/// The chain as the other one walks it; `None` if it cannot, or if octets are left.
fn their_chain(bytes: &[u8]) -> Option<Chain> {
    let (mut rest, header) = parse_ikev2_header(bytes).ok()?;
    let mut kind = header.next_payload.0;
    let mut chain = Chain::new();
    while kind != 0 {
        let (behind, payload) = parse_ikev2_payload_generic(rest).ok()?;
        chain.push((kind, payload.hdr.critical, payload.payload.len()));
        kind = payload.hdr.next_payload_type.0;
        rest = behind;
        // Its contents come first in the chain that SK names.
        if matches!(chain.last(), Some((46 | 53, ..))) {
            break;
        }
    }
    rest.is_empty().then_some(chain)
}

/// Ours, from what was read; the critical bit of known payloads is not kept.
fn our_chain(payloads: &[Payload]) -> Chain {
    let entry = |payload: &Payload| {
        let critical = matches!(payload, Payload::Unknown { critical: true, .. });
        let (kind, chain) = emit_chain(std::slice::from_ref(payload)).unwrap();
        (kind.0, critical, chain.len() - 4)
    };
    payloads.iter().map(entry).collect()
}

fn without_known_critical(chain: Chain) -> Chain {
    let known = |kind| matches!(kind, 33..=48 | 53);
    chain.into_iter().map(|(kind, critical, len)| (kind, critical && !known(kind), len)).collect()
}

/// Whether both read the same out of a payload.
fn same_contents(ours: &Payload, theirs: &IkeV2PayloadContent<'_>) -> bool {
    match (ours, theirs) {
        (Payload::Sa(ours), IkeV2PayloadContent::SA(theirs)) => {
            ours.proposals.len() == theirs.len()
                && ours.proposals.iter().zip(theirs).all(|(ours, theirs)| {
                    (ours.number, ours.protocol) == (theirs.proposal_num, theirs.protocol_id.0)
                        && ours.spi == theirs.spi.unwrap_or_default()
                        && ours.transforms.len() == theirs.transforms.len()
                        && ours.transforms.iter().zip(&theirs.transforms).all(|(ours, theirs)| {
                            (ours.kind, ours.id) == (theirs.transform_type.0, theirs.transform_id)
                        })
                })
        }
        (Payload::Ke(ours), IkeV2PayloadContent::KE(theirs)) => {
            ours.method == theirs.dh_group.0 && ours.data == theirs.kex_data
        }
        (Payload::IdI(ours), IkeV2PayloadContent::IDi(theirs))
        | (Payload::IdR(ours), IkeV2PayloadContent::IDr(theirs)) => {
            ours.kind == theirs.id_type.0 && ours.data == theirs.ident_data
        }
        (Payload::Cert(ours), IkeV2PayloadContent::Certificate(theirs)) => {
            ours.encoding == theirs.cert_encoding.0 && ours.data == theirs.cert_data
        }
        (Payload::CertReq(ours), IkeV2PayloadContent::CertificateRequest(theirs)) => {
            ours.encoding == theirs.cert_encoding.0 && ours.authorities == theirs.ca_data
        }
        (Payload::Auth(ours), IkeV2PayloadContent::Authentication(theirs)) => {
            ours.method == theirs.auth_method.0
        }
        (Payload::Nonce(ours), IkeV2PayloadContent::Nonce(theirs)) => ours.0 == theirs.nonce_data,
        (Payload::Notify(ours), IkeV2PayloadContent::Notify(theirs)) => {
            (ours.kind.0, ours.protocol) == (theirs.notify_type.0, theirs.protocol_id.0)
                && ours.spi == theirs.spi.unwrap_or_default()
                && ours.data.starts_with(theirs.notify_data.unwrap_or_default())
        }
        (Payload::Delete(ours), IkeV2PayloadContent::Delete(theirs)) => {
            ours.protocol == theirs.protocol_id.0 && ours.spis.len() == usize::from(theirs.num_spi)
        }
        (Payload::Vendor(ours), IkeV2PayloadContent::VendorID(theirs)) => {
            ours.0.starts_with(theirs.vendor_id)
        }
        (Payload::TsI(ours), IkeV2PayloadContent::TSi(theirs))
        | (Payload::TsR(ours), IkeV2PayloadContent::TSr(theirs)) => {
            usize::from(theirs.num_ts) == ours.selectors.len() + ours.unknown.len()
                && ours.selectors.iter().zip(&theirs.ts).all(|(ours, theirs)| {
                    (ours.protocol, ours.first_port) == (theirs.ip_proto_id, theirs.start_port)
                        && ours.last_port == theirs.end_port
                        && Some(ours.first) == theirs.get_start_addr()
                        && Some(ours.last) == theirs.get_end_addr()
                })
        }
        (Payload::Cp(_) | Payload::Eap(_) | Payload::Unknown { .. }, theirs) => {
            matches!(theirs, IkeV2PayloadContent::Unknown(_))
        }
        _ => false,
    }
}

fn compare_contents(ours: &[Payload], bytes: &[u8]) -> Result<(), TestCaseError> {
    let Ok((_, (_, Ok(theirs)))) = parse_ikev2_message(bytes) else { return Ok(()) };
    // The first entry is a dummy.
    for (ours, theirs) in ours.iter().zip(theirs.iter().skip(1)) {
        prop_assert!(same_contents(ours, &theirs.content), "{ours:?} {:?}", theirs.content);
    }
    prop_assert_eq!(ours.len() + 1, theirs.len());
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn ike_02_both_read_the_same_messages(message in message()) {
        let bytes = message.emit().unwrap();
        prop_assert_eq!(their_chain(&bytes), Some(our_chain(&message.payloads)));
        compare_contents(&message.payloads, &bytes)?;
        let (_, header) = parse_ikev2_header(&bytes).unwrap();
        let read = Message::parse(&bytes).unwrap().header;
        prop_assert_eq!((header.init_spi, header.resp_spi), (read.spi_i, read.spi_r));
        prop_assert_eq!((header.exch_type.0, header.msg_id), (read.exchange.0, read.message_id));
        prop_assert_eq!((header.next_payload.0, header.length), (read.first.0, read.length));
    }

    /// With damage: what we accept they walk in the same way, and what they cannot walk we do
    /// not accept; what we refuse for its framing they cannot walk either.
    #[test]
    fn ike_02_both_walk_damaged_messages_the_same_way(message in message(), damages in vec(damage(), 1..4)) {
        let mut bytes = message.emit().unwrap();
        for damage in damages {
            damage.apply(&mut bytes, true);
        }
        let theirs = their_chain(&bytes);
        match parse_datagram(&bytes) {
            Ok(datagram) if datagram.encrypted.is_none() => {
                let theirs = theirs.map(without_known_critical);
                let walked = theirs.clone().unwrap_or_default();
                let ours = our_chain(&datagram.clear);
                prop_assert!(theirs.is_some() && bytes.len() >= HEADER_LEN);
                let kinds = |chain: &Chain| -> Vec<_> {
                    chain.iter().map(|(kind, critical, _)| (*kind, *critical)).collect()
                };
                prop_assert_eq!(kinds(&walked), kinds(&ours));
                compare_contents(&datagram.clear, &bytes)?;
            }
            Ok(_) => prop_assert!(theirs.is_some()),
            Err(WireError::PayloadLength(_) | WireError::TrailingOctets | WireError::ProtectionNotLast(_)) => {
                prop_assert_eq!(theirs, None);
            }
            Err(WireError::TooManyPayloads(_)) => {
                prop_assert!(theirs.is_none_or(|chain| chain.len() > MAX_PAYLOADS));
            }
            Err(_) => {}
        }
    }
}
