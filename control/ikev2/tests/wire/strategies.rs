//! Payloads that can be sent, at random.

use proptest::collection::vec;
use proptest::prelude::*;
use std::net::IpAddr;
use xswan_ikev2::wire::{
    Attribute, AttributeType, Authentication, Certificate, CertificateRequest, Configuration,
    ConfigurationType, Delete, EapMessage, ExchangeType, Flags, Header, Identification,
    KeyExchange, Message, Nonce, Notify, NotifyType, Payload, PayloadType, Proposal,
    SecurityAssociation, TrafficSelector, TrafficSelectors, Transform, UnknownSelector, VendorId,
    Version,
};

fn octets() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..60)
}

fn transform() -> impl Strategy<Value = Transform> {
    // Attributes nobody knows: one with a value, one with a length, or a second key length.
    let foreign = prop_oneof![
        8 => Just(Vec::new()),
        1 => Just(vec![0x80, 0x0f, 0, 1]),
        1 => Just(vec![0, 14, 0, 2, 1, 0]),
    ];
    (any::<u8>(), any::<u16>(), any::<Option<u16>>(), foreign).prop_map(
        |(kind, id, key_bits, foreign_attributes)| Transform {
            kind,
            id,
            key_bits,
            foreign_attributes,
        },
    )
}

fn security_association() -> impl Strategy<Value = SecurityAssociation> {
    let spi = prop_oneof![Just(0_usize), Just(4), Just(8)]
        .prop_flat_map(|len| vec(any::<u8>(), len..=len));
    let proposal = (any::<u8>(), any::<u8>(), spi, vec(transform(), 0..6)).prop_map(
        |(number, protocol, spi, transforms)| Proposal { number, protocol, spi, transforms },
    );
    vec(proposal, 0..5).prop_map(|proposals| SecurityAssociation { proposals })
}

fn selector() -> impl Strategy<Value = TrafficSelector> {
    let v4 = any::<([u8; 4], [u8; 4])>().prop_map(|(a, b)| (IpAddr::from(a), IpAddr::from(b)));
    let v6 = any::<([u8; 16], [u8; 16])>().prop_map(|(a, b)| (IpAddr::from(a), IpAddr::from(b)));
    (prop_oneof![v4, v6], any::<(u8, u16, u16)>()).prop_map(
        |((first, last), (protocol, first_port, last_port))| TrafficSelector {
            protocol,
            first_port,
            last_port,
            first,
            last,
        },
    )
}

fn selectors() -> impl Strategy<Value = TrafficSelectors> {
    let kind = prop_oneof![0..7_u8, 9..=255_u8];
    let unknown = (kind, any::<u8>(), octets())
        .prop_map(|(kind, protocol, body)| UnknownSelector { kind, protocol, body });
    (vec(selector(), 0..5), vec(unknown, 0..2))
        .prop_map(|(selectors, unknown)| TrafficSelectors { selectors, unknown })
}

fn identification() -> impl Strategy<Value = Identification> {
    (any::<u8>(), octets()).prop_map(|(kind, data)| Identification::new(kind, data))
}

fn notify() -> impl Strategy<Value = Notify> {
    let spi = prop_oneof![Just(Vec::new()), vec(any::<u8>(), 4..=4), vec(any::<u8>(), 0..20)];
    (any::<u8>(), spi, any::<u16>(), octets()).prop_map(|(protocol, spi, kind, data)| Notify {
        protocol,
        spi,
        kind: NotifyType(kind),
        data,
    })
}

fn delete() -> impl Strategy<Value = Delete> {
    prop_oneof![
        Just(Delete::ike_sa()),
        vec(any::<u32>(), 0..9).prop_map(Delete::esp),
        vec(any::<u32>(), 0..9).prop_map(|spis| Delete { protocol: 2, spis }),
    ]
}

fn configuration() -> impl Strategy<Value = Configuration> {
    let attribute = (0..0x8000_u16, octets())
        .prop_map(|(kind, value)| Attribute::new(AttributeType(kind), value));
    (any::<u8>(), vec(attribute, 0..6))
        .prop_map(|(kind, attributes)| Configuration { kind: ConfigurationType(kind), attributes })
}

fn eap() -> impl Strategy<Value = EapMessage> {
    prop_oneof![
        (1..=2_u8, any::<u8>(), vec(any::<u8>(), 1..40)),
        (3..=4_u8, any::<u8>(), Just(Vec::new())),
    ]
    .prop_map(|(code, identifier, rest)| {
        let length = u16::try_from(4 + rest.len()).unwrap().to_be_bytes();
        EapMessage::new([&[code, identifier][..], &length, &rest].concat()).unwrap()
    })
}

fn unknown() -> impl Strategy<Value = Payload> {
    (prop_oneof![49..=52_u8, 54..=255_u8], any::<bool>(), octets()).prop_map(
        |(kind, critical, body)| Payload::Unknown { kind: PayloadType(kind), critical, body },
    )
}

/// Payloads of which every implementation knows the framing.
pub(crate) fn known_payload() -> impl Strategy<Value = Payload> {
    prop_oneof![
        security_association().prop_map(Payload::Sa),
        (any::<u16>(), octets())
            .prop_map(|(method, data)| Payload::Ke(KeyExchange { method, data })),
        identification().prop_map(Payload::IdI),
        identification().prop_map(Payload::IdR),
        (any::<u8>(), octets())
            .prop_map(|(encoding, data)| Payload::Cert(Certificate { encoding, data })),
        (any::<u8>(), octets()).prop_map(|(encoding, authorities)| Payload::CertReq(
            CertificateRequest { encoding, authorities }
        )),
        (any::<u8>(), octets())
            .prop_map(|(method, data)| Payload::Auth(Authentication { method, data })),
        vec(any::<u8>(), 16..=256).prop_map(|data| Payload::Nonce(Nonce(data))),
        notify().prop_map(Payload::Notify),
        delete().prop_map(Payload::Delete),
        octets().prop_map(|data| Payload::Vendor(VendorId(data))),
        selectors().prop_map(Payload::TsI),
        selectors().prop_map(Payload::TsR),
        configuration().prop_map(Payload::Cp),
        eap().prop_map(Payload::Eap),
    ]
}

/// Any payload.
pub(crate) fn payload() -> impl Strategy<Value = Payload> {
    prop_oneof![12 => known_payload(), 1 => unknown()]
}

/// Any header of a message inside an SA.
pub(crate) fn header() -> impl Strategy<Value = Header> {
    let exchange = prop_oneof![35..=37_u8, 39..=255_u8].prop_map(ExchangeType);
    let flags = any::<(bool, bool, bool)>().prop_map(|(initiator, version, response)| Flags {
        initiator,
        version,
        response,
    });
    (1..=u64::MAX, 1..=u64::MAX, exchange, flags, any::<u32>(), 0..16_u8).prop_map(
        |(spi_i, spi_r, exchange, flags, message_id, minor)| Header {
            version: Version { major: 2, minor },
            ..Header::new(spi_i, spi_r, exchange, flags, message_id)
        },
    )
}

/// Any message in clear.
pub(crate) fn message() -> impl Strategy<Value = Message> {
    (header(), vec(payload(), 0..12)).prop_map(|(header, payloads)| Message::new(header, payloads))
}

/// One of the usual kinds of damage.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Damage {
    Bit(prop::sample::Index, u8),
    Octet(prop::sample::Index, u8),
    Extreme(prop::sample::Index, u16),
    Cut(prop::sample::Index),
    Insert(prop::sample::Index, u8),
}

impl Damage {
    /// Damages `bytes`, and makes the length in the header right again if `lengthen`, so that
    /// what is behind it is looked at as well.
    pub(crate) fn apply(self, bytes: &mut Vec<u8>, lengthen: bool) {
        if bytes.is_empty() {
            return;
        }
        match self {
            Self::Bit(at, bit) => {
                let at = at.index(bytes.len());
                bytes[at] ^= 1 << bit;
            }
            Self::Octet(at, octet) => {
                let at = at.index(bytes.len());
                bytes[at] = octet;
            }
            Self::Extreme(at, value) => {
                let at = at.index(bytes.len());
                let field = value.to_be_bytes();
                let end = (at + 2).min(bytes.len());
                bytes[at..end].copy_from_slice(&field[..end - at]);
            }
            Self::Cut(at) => bytes.truncate(at.index(bytes.len())),
            Self::Insert(at, octet) => bytes.insert(at.index(bytes.len()), octet),
        }
        let length = u32::try_from(bytes.len()).unwrap().to_be_bytes();
        if let Some(field) = bytes.get_mut(24..28).filter(|_field| lengthen) {
            field.copy_from_slice(&length);
        }
    }
}

/// Any damage.
pub(crate) fn damage() -> impl Strategy<Value = Damage> {
    let at = any::<prop::sample::Index>;
    prop_oneof![
        (at(), 0..8_u8).prop_map(|(at, bit)| Damage::Bit(at, bit)),
        (at(), any::<u8>()).prop_map(|(at, octet)| Damage::Octet(at, octet)),
        (at(), prop_oneof![Just(0), Just(1), Just(3), Just(4), Just(u16::MAX)])
            .prop_map(|(at, value)| Damage::Extreme(at, value)),
        at().prop_map(Damage::Cut),
        (at(), any::<u8>()).prop_map(|(at, octet)| Damage::Insert(at, octet)),
    ]
}
