//! Any octets as an IKEv2 datagram, as the content of an encrypted payload, and as the
//! fragments of one.

use xswan_ikev2::fragmentation::{Limits, Reassembly};
use xswan_ikev2::wire::{
    HEADER_LEN, Header, Message, Payload, PayloadType, emit_chain, parse_chain, parse_datagram,
};

const LIMITS: Limits = Limits { fragments: 8, content_bytes: 512 };

/// The first octet chooses which of the three.
pub fn run(bytes: &[u8]) {
    let Some((&choice, rest)) = bytes.split_first() else { return };
    match choice & 3 {
        0 => datagram(rest),
        // As above, with a length in the header that is right.
        1 => {
            let mut bytes = rest.to_vec();
            let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
            if let Some(field) = bytes.get_mut(24..28) {
                field.copy_from_slice(&length.to_be_bytes());
            }
            datagram(&bytes);
        }
        2 => {
            if let Some((&first, content)) = rest.split_first() {
                chain(PayloadType(first), content);
            }
        }
        _ => fragments(rest),
    }
}

/// What is accepted can be shown, and the ranges of what is encrypted lie one behind the other.
fn datagram(bytes: &[u8]) {
    let parsed = parse_datagram(bytes);
    if let Ok(datagram) = &parsed {
        assert!(!format!("{datagram} {datagram:?}").is_empty());
        means_the_same(&datagram.clear);
        if let Some(encrypted) = &datagram.encrypted {
            assert!(encrypted.aad.start == 0 && encrypted.aad.end >= HEADER_LEN);
            assert!(encrypted.aad.end == encrypted.body.start);
            assert!(encrypted.body.end == bytes.len());
        }
    }
    match Message::parse(bytes) {
        Ok(message) => {
            let datagram = parsed.expect("a message is a datagram");
            assert!(datagram.encrypted.is_none() && datagram.clear == message.payloads);
            let written = message.emit().expect("it was received");
            assert!(written.len() <= bytes.len());
            let again = Message::parse(&written).expect("it was written");
            assert_eq!(again.payloads, message.payloads);
            let header = Header { length: message.header.length, ..again.header };
            assert_eq!(header, message.header);
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            assert!(parsed.is_err() || parsed.is_ok_and(|datagram| datagram.encrypted.is_some()));
        }
    }
}

fn chain(first: PayloadType, content: &[u8]) {
    if let Ok(payloads) = parse_chain(first, content) {
        means_the_same(&payloads);
    }
}

/// Written and read again, payloads mean the same.
fn means_the_same(payloads: &[Payload]) {
    let (first, content) = emit_chain(payloads).expect("they were received");
    assert_eq!(parse_chain(first, &content).as_deref(), Ok(payloads));
}

/// Three octets a fragment: number, total and length of its content.
fn fragments(bytes: &[u8]) {
    let mut reassembly = Reassembly::new(LIMITS);
    for (at, &[fragment, total, len]) in bytes.as_chunks().0.iter().enumerate() {
        let content = vec![at.to_le_bytes()[0]; usize::from(len)];
        let (fragment, total) = (u16::from(fragment), u16::from(total));
        let foretold = reassembly.check(fragment, total);
        let outcome = reassembly.insert(fragment, total, PayloadType::NONCE, content);
        if let Err(error) = foretold {
            assert!(outcome == Err(error));
        }
        assert!(reassembly.content_bytes() <= LIMITS.content_bytes);
        if let Ok(Some(whole)) = outcome {
            assert!(whole.content.len() <= LIMITS.content_bytes);
            assert_eq!(reassembly.content_bytes(), 0, "handed out, not kept");
        }
    }
}
