//! IKEv2 messages in octets and in native terms (RFC 7296 section 3).
//!
//! Everything here is a function of its arguments. Input is any octets: what is read is bounded
//! by the datagram and by the limits below, nothing is allocated on the word of a length field,
//! and what is wrong is a [`WireError`]. Judged is the framing only; what a well-formed payload
//! means is the state machine's business, including unknown critical payloads
//! ([`first_unknown_critical`]).
//!
//! `parse(emit(x)) == x` for everything that can be sent, and `emit(parse(b)) == b` for octets
//! that are canonical: reserved bits and critical bits of known payloads zero, Key Length before
//! other attributes, known traffic selectors before unknown ones, Delete with the SPI size of
//! its protocol.

mod auth;
pub mod cert;
mod chain;
mod code_point;
mod cp;
mod delete;
mod eap;
mod error;
mod header;
mod id;
mod ke;
mod message;
mod nonce;
mod notify;
mod notify_type;
mod reader;
mod sa;
mod sk;
mod ts;
mod vendor;

pub use auth::Authentication;
pub use cert::{Certificate, CertificateRequest};
pub use chain::{GENERIC_HEADER_LEN, emit_chain, parse_chain};
pub use cp::{Attribute, AttributeType, Configuration, ConfigurationType, MAX_ATTRIBUTES};
pub use delete::{Delete, MAX_DELETE_SPIS};
pub use eap::EapMessage;
pub use error::WireError;
pub use header::{ExchangeType, Flags, HEADER_LEN, Header, Version};
pub use id::Identification;
pub use ke::KeyExchange;
pub use message::Message;
pub use nonce::Nonce;
pub use notify::{Notify, NotifyType};
pub use sa::{
    MAX_PROPOSALS, MAX_TRANSFORMS, Proposal, SecurityAssociation, Transform, protocol, transform,
};
pub use sk::{Datagram, Encrypted, Protection, parse_datagram, protected_prefix};
pub use ts::{MAX_SELECTORS, TrafficSelector, TrafficSelectors, UnknownSelector};
pub use vendor::VendorId;

use code_point::code_points;

/// Largest message in bytes: what a UDP datagram's length can say.
pub const MAX_DATAGRAM_BYTES: usize = 65_535;
/// Payloads of one chain at most, and so certificates and notifies too. Real messages have
/// about twenty; a full chain of certificates from a patient peer stays below.
pub const MAX_PAYLOADS: usize = 64;

code_points! {
    /// What a payload is (RFC 7296 section 3.2).
    PayloadType(u8) {
        0 NONE "NONE" "No next payload.";
        33 SA "SA" "Security Association.";
        34 KE "KE" "Key Exchange.";
        35 ID_I "IDi" "Identification of the initiator.";
        36 ID_R "IDr" "Identification of the responder.";
        37 CERT "CERT" "Certificate.";
        38 CERTREQ "CERTREQ" "Certificate Request.";
        39 AUTH "AUTH" "Authentication.";
        40 NONCE "No" "Nonce.";
        41 NOTIFY "N" "Notify.";
        42 DELETE "D" "Delete.";
        43 VENDOR "V" "Vendor ID.";
        44 TS_I "TSi" "Traffic Selectors of the initiator.";
        45 TS_R "TSr" "Traffic Selectors of the responder.";
        46 SK "E" "Encrypted and authenticated.";
        47 CP "CP" "Configuration.";
        48 EAP "EAP" "Extensible Authentication.";
        53 SKF "EF" "Encrypted and authenticated fragment (RFC 7383).";
        54 PS "PS" "Puzzle Solution (RFC 8019); kept as unknown.";
    }
}

impl PayloadType {
    /// Whether it was a payload of IKEv1; never assigned in IKEv2 (section 3.2).
    #[must_use]
    pub const fn is_ikev1(self) -> bool {
        matches!(self.0, 1..=32)
    }
}

/// A payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// Security Association.
    Sa(SecurityAssociation),
    /// Key Exchange.
    Ke(KeyExchange),
    /// Identification of the initiator.
    IdI(Identification),
    /// Identification of the responder.
    IdR(Identification),
    /// Certificate.
    Cert(Certificate),
    /// Certificate Request.
    CertReq(CertificateRequest),
    /// Authentication.
    Auth(Authentication),
    /// Nonce.
    Nonce(Nonce),
    /// Notify.
    Notify(Notify),
    /// Delete.
    Delete(Delete),
    /// Vendor ID.
    Vendor(VendorId),
    /// Traffic Selectors of the initiator.
    TsI(TrafficSelectors),
    /// Traffic Selectors of the responder.
    TsR(TrafficSelectors),
    /// Configuration.
    Cp(Configuration),
    /// EAP.
    Eap(EapMessage),
    /// Something else.
    Unknown {
        /// Its type.
        kind: PayloadType,
        /// Whether the message must be refused by whoever does not know it (section 2.5).
        critical: bool,
        /// Its body.
        body: Vec<u8>,
    },
}

impl Payload {
    /// Its type.
    #[must_use]
    pub const fn kind(&self) -> PayloadType {
        match self {
            Self::Sa(_) => PayloadType::SA,
            Self::Ke(_) => PayloadType::KE,
            Self::IdI(_) => PayloadType::ID_I,
            Self::IdR(_) => PayloadType::ID_R,
            Self::Cert(_) => PayloadType::CERT,
            Self::CertReq(_) => PayloadType::CERTREQ,
            Self::Auth(_) => PayloadType::AUTH,
            Self::Nonce(_) => PayloadType::NONCE,
            Self::Notify(_) => PayloadType::NOTIFY,
            Self::Delete(_) => PayloadType::DELETE,
            Self::Vendor(_) => PayloadType::VENDOR,
            Self::TsI(_) => PayloadType::TS_I,
            Self::TsR(_) => PayloadType::TS_R,
            Self::Cp(_) => PayloadType::CP,
            Self::Eap(_) => PayloadType::EAP,
            Self::Unknown { kind, .. } => *kind,
        }
    }

    /// A Notify about no SA in particular.
    #[must_use]
    pub const fn notify(kind: NotifyType, data: Vec<u8>) -> Self {
        Self::Notify(Notify::new(kind, data))
    }
}

/// The first payload that is unknown and critical: its type is the data of the
/// UNSUPPORTED_CRITICAL_PAYLOAD that must answer a request with it (section 2.5).
#[must_use]
pub fn first_unknown_critical(payloads: &[Payload]) -> Option<PayloadType> {
    payloads.iter().find_map(|payload| {
        let Payload::Unknown { kind, critical: true, .. } = payload else { return None };
        Some(*kind)
    })
}

/// The Notify payloads among `payloads`, in order.
pub fn notifies(payloads: &[Payload]) -> impl Iterator<Item = &Notify> {
    payloads.iter().filter_map(|payload| {
        let Payload::Notify(notify) = payload else { return None };
        Some(notify)
    })
}
