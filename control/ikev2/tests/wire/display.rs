//! What logs show, and what they do not.

use super::{SPI_I, header, raw_message, raw_payload};
use xswan_ikev2::wire::{
    Attribute, AttributeType, Authentication, Configuration, ConfigurationType, EapMessage,
    ExchangeType, Flags, Header, Identification, Message, Notify, NotifyType, Payload, PayloadType,
    SecurityAssociation, TrafficSelectors, parse_datagram,
};

fn shown(exchange: ExchangeType, payloads: Vec<Payload>) -> String {
    Message::new(header(exchange), payloads).to_string()
}

fn notify(kind: NotifyType) -> Payload {
    Payload::notify(kind, vec![])
}

#[test]
fn a_message_is_shown_by_its_payloads() {
    let payloads = vec![
        Payload::IdI(Identification::new(2, b"carol".to_vec())),
        Payload::Auth(Authentication { method: 14, data: vec![] }),
        Payload::Sa(SecurityAssociation::default()),
        Payload::TsI(TrafficSelectors::default()),
        Payload::TsR(TrafficSelectors::default()),
        notify(NotifyType::MOBIKE_SUPPORTED),
    ];
    let text = shown(ExchangeType::IKE_AUTH, payloads);
    assert_eq!(text, "IKE_AUTH request 1 [ IDi AUTH SA TSi TSr N(MOBIKE_SUP) ]");
    let flags = Flags { response: true, ..Flags::default() };
    let empty = Header::new(SPI_I, 1, ExchangeType::INFORMATIONAL, flags, 7);
    assert_eq!(Message::new(empty, vec![]).to_string(), "INFORMATIONAL response 7 [ ]");
}

#[test]
fn notifies_are_shown_by_their_short_names() {
    let kinds = [
        NotifyType::NAT_DETECTION_SOURCE_IP,
        NotifyType::NAT_DETECTION_DESTINATION_IP,
        NotifyType::IKEV2_FRAGMENTATION_SUPPORTED,
        NotifyType::SIGNATURE_HASH_ALGORITHMS,
        NotifyType::REDIRECT_SUPPORTED,
        NotifyType(50_000),
    ];
    let text = shown(ExchangeType(99), kinds.map(notify).to_vec());
    let expected = "(99) request 1 \
        [ N(NATD_S_IP) N(NATD_D_IP) N(FRAG_SUP) N(HASH_ALG) N(REDIR_SUP) N((50000)) ]";
    assert_eq!(text, expected);
}

#[test]
fn configuration_and_eap_say_what_is_inside() {
    let cp = |kind, attributes: &[AttributeType]| {
        let attributes = attributes.iter().map(|kind| Attribute::new(*kind, vec![])).collect();
        Payload::Cp(Configuration { kind, attributes })
    };
    let request = [AttributeType::INTERNAL_IP4_ADDRESS, AttributeType::INTERNAL_IP4_DNS];
    let eap = |packet: &[u8]| Payload::Eap(EapMessage::new(packet.to_vec()).unwrap());
    let payloads = vec![
        cp(ConfigurationType::REQUEST, &request),
        cp(ConfigurationType::REPLY, &request[..1]),
        cp(ConfigurationType::REPLY, &[]),
        cp(ConfigurationType(9), &[AttributeType(999)]),
        eap(&[1, 0, 0, 5, 1]),
        eap(&[2, 0, 0, 5, 26]),
        eap(&[2, 0, 0, 5, 200]),
        eap(&[1, 0, 0, 12, 254, 0, 0, 9, 0, 0, 0, 3]),
        eap(&[3, 0, 0, 4]),
        eap(&[8, 0, 0, 4]),
        Payload::Unknown { kind: PayloadType(99), critical: true, body: vec![] },
    ];
    let expected = "IKE_AUTH request 1 [ CPRQ(ADDR DNS) CPRP(ADDR) CP CP((999)) EAP/REQ/ID \
        EAP/RES/MSCHAPV2 EAP/RES/(200) EAP/REQ/3-9 EAP/SUCC EAP/(8) (99) ]";
    assert_eq!(shown(ExchangeType::IKE_AUTH, payloads), expected);
}

#[test]
fn what_is_encrypted_is_shown_as_such() {
    let body = [&[0, 1, 0, 3][..], &[7; 40]].concat();
    let bytes = raw_message(ExchangeType::IKE_AUTH, 53, &raw_payload(35, 0, &body));
    let text = parse_datagram(&bytes).unwrap().to_string();
    assert_eq!(text, "IKE_AUTH request 1 [ EF(1/3) ]");
    let bytes = raw_message(ExchangeType::IKE_AUTH, 46, &raw_payload(35, 0, &body));
    assert_eq!(parse_datagram(&bytes).unwrap().to_string(), "IKE_AUTH request 1 [ E ]");
}

#[test]
fn tokens_tickets_and_eap_are_not_shown() {
    let secret = b"hunter2hunter2".to_vec();
    let octets = format!("{:?}", &secret[..7]);
    let octets = octets.trim_matches(['[', ']']).to_owned();
    let mut packet = vec![2, 0, 0, 19, 6];
    packet.extend(&secret);
    let mut payloads = vec![Payload::Eap(EapMessage::new(packet).unwrap())];
    for kind in [
        NotifyType::QUICK_CRASH_DETECTION,
        NotifyType::TICKET_LT_OPAQUE,
        NotifyType::TICKET_OPAQUE,
        NotifyType::KEEP_INNER_ADDRESS,
    ] {
        payloads.push(Payload::Notify(Notify::new(kind, secret.clone())));
    }
    for payload in &payloads {
        let text = format!("{payload:?}");
        assert!(!text.contains(&octets) && !text.contains("hunter"), "{text}");
        assert!(text.contains("octets"), "{text}");
    }
    let harmless = format!("{:?}", Notify::new(NotifyType::COOKIE, secret));
    assert!(harmless.contains(&octets));
}
