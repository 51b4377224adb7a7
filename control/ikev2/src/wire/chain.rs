//! The chain of payloads: generic headers (RFC 7296 section 3.2) and who reads which body.
//!
//! ```text
//! next payload 8 | critical 1 | reserved 7 | length 16, this header included
//! ```
//!
//! Work is bounded: each step consumes at least a generic header, and there are at most
//! [`MAX_PAYLOADS`] of them.

use super::reader::with_length;
use super::{
    Authentication, Certificate, CertificateRequest, Configuration, Delete, EapMessage,
    Identification, KeyExchange, MAX_PAYLOADS, Nonce, Notify, Payload, PayloadType,
    SecurityAssociation, TrafficSelectors, VendorId, WireError,
};
use core::ops::Range;

/// Length of the generic payload header in bytes.
pub const GENERIC_HEADER_LEN: usize = 4;
const CRITICAL: u8 = 0x80;

/// One payload of a chain, its body not looked at.
#[derive(Clone, Debug)]
pub(super) struct RawPayload {
    pub(super) kind: PayloadType,
    pub(super) next: PayloadType,
    pub(super) critical: bool,
    /// Where the body lies in the octets that are walked.
    pub(super) body: Range<usize>,
}

/// Walks along a chain.
pub(super) struct Walk<'a> {
    bytes: &'a [u8],
    at: usize,
    next: PayloadType,
    count: usize,
}

impl<'a> Walk<'a> {
    /// Of the chain that begins at offset `at` with a payload of type `first`.
    pub(super) fn new(first: PayloadType, bytes: &'a [u8], at: usize) -> Self {
        Self { bytes, at, next: first, count: 0 }
    }

    /// How many octets were walked over.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    /// The next payload; `None` behind the last.
    pub(super) fn step(&mut self) -> Result<Option<RawPayload>, WireError> {
        let kind = self.next;
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        if kind == PayloadType::NONE {
            return if rest.is_empty() { Ok(None) } else { Err(WireError::TrailingOctets) };
        }
        if self.count >= MAX_PAYLOADS {
            return Err(WireError::TooManyPayloads(kind));
        }
        if kind.is_ikev1() {
            return Err(WireError::Ikev1Payload(kind));
        }
        let wrong = WireError::PayloadLength(kind);
        let (&[next, flags, high, low], _) =
            rest.split_first_chunk::<GENERIC_HEADER_LEN>().ok_or(wrong)?;
        let length = usize::from(u16::from_be_bytes([high, low]));
        if length < GENERIC_HEADER_LEN || length > rest.len() {
            return Err(wrong);
        }
        let body = self.at + GENERIC_HEADER_LEN..self.at + length;
        self.at = body.end;
        self.next = PayloadType(next);
        self.count += 1;
        Ok(Some(RawPayload { kind, next: self.next, critical: flags & CRITICAL != 0, body }))
    }
}

/// Reads the body of a payload that is not SK or SKF.
pub(super) fn parse_payload(raw: &RawPayload, bytes: &[u8]) -> Result<Payload, WireError> {
    let kind = raw.kind;
    let body = bytes.get(raw.body.clone()).ok_or(WireError::PayloadLength(kind))?;
    Ok(match kind {
        PayloadType::SA => Payload::Sa(SecurityAssociation::parse(body)?),
        PayloadType::KE => Payload::Ke(KeyExchange::parse(body)?),
        PayloadType::ID_I => Payload::IdI(Identification::parse(kind, body)?),
        PayloadType::ID_R => Payload::IdR(Identification::parse(kind, body)?),
        PayloadType::CERT => Payload::Cert(Certificate::parse(body)?),
        PayloadType::CERTREQ => Payload::CertReq(CertificateRequest::parse(body)?),
        PayloadType::AUTH => Payload::Auth(Authentication::parse(body)?),
        PayloadType::NONCE => Payload::Nonce(Nonce::parse(body)?),
        PayloadType::NOTIFY => Payload::Notify(Notify::parse(body)?),
        PayloadType::DELETE => Payload::Delete(Delete::parse(body)?),
        PayloadType::VENDOR => Payload::Vendor(VendorId::parse(body)),
        PayloadType::TS_I => Payload::TsI(TrafficSelectors::parse(kind, body)?),
        PayloadType::TS_R => Payload::TsR(TrafficSelectors::parse(kind, body)?),
        PayloadType::CP => Payload::Cp(Configuration::parse(body)?),
        PayloadType::EAP => Payload::Eap(EapMessage::parse(body)?),
        PayloadType::SK | PayloadType::SKF => return Err(WireError::ProtectionNested(kind)),
        _ => Payload::Unknown { kind, critical: raw.critical, body: body.to_vec() },
    })
}

/// Reads a chain of clear or decrypted payloads that is exactly `bytes`.
///
/// The critical bit of a known payload and all reserved bits are ignored (section 3.2).
///
/// # Errors
/// Anything that does not concern the IKE header.
pub fn parse_chain(first: PayloadType, bytes: &[u8]) -> Result<Vec<Payload>, WireError> {
    let mut walk = Walk::new(first, bytes, 0);
    let mut payloads = Vec::new();
    while let Some(raw) = walk.step()? {
        payloads.push(parse_payload(&raw, bytes)?);
    }
    Ok(payloads)
}

/// The type of the first payload and the octets of the chain.
///
/// # Errors
/// [`WireError::TooLong`], [`WireError::TooMany`] or [`WireError::TooManyPayloads`] for what
/// has no encoding; [`WireError::Malformed`] for a selector between two address families.
pub fn emit_chain(payloads: &[Payload]) -> Result<(PayloadType, Vec<u8>), WireError> {
    let mut out = Vec::new();
    if let Some(beyond) = payloads.get(MAX_PAYLOADS) {
        return Err(WireError::TooManyPayloads(beyond.kind()));
    }
    let first = payloads.first().map_or(PayloadType::NONE, Payload::kind);
    let following = payloads.iter().skip(1).map(Payload::kind).chain([PayloadType::NONE]);
    for (payload, next) in payloads.iter().zip(following) {
        emit_payload(payload, next, &mut out)?;
    }
    Ok((first, out))
}

fn emit_payload(payload: &Payload, next: PayloadType, out: &mut Vec<u8>) -> Result<(), WireError> {
    let kind = payload.kind();
    let critical = matches!(payload, Payload::Unknown { critical: true, .. });
    with_length(out, 2, kind, |out| {
        out.extend_from_slice(&[next.0, if critical { CRITICAL } else { 0 }, 0, 0]);
        match payload {
            Payload::Sa(sa) => sa.emit(out)?,
            Payload::Ke(ke) => ke.emit(out),
            Payload::IdI(id) | Payload::IdR(id) => id.emit(out),
            Payload::Cert(cert) => cert.emit(out),
            Payload::CertReq(request) => request.emit(out),
            Payload::Auth(auth) => auth.emit(out),
            Payload::Nonce(nonce) => out.extend_from_slice(&nonce.0),
            Payload::Notify(notify) => notify.emit(out)?,
            Payload::Delete(delete) => delete.emit(out)?,
            Payload::Vendor(vendor) => out.extend_from_slice(&vendor.0),
            Payload::TsI(selectors) | Payload::TsR(selectors) => selectors.emit(kind, out)?,
            Payload::Cp(configuration) => configuration.emit(out)?,
            Payload::Eap(message) => out.extend_from_slice(message.as_bytes()),
            Payload::Unknown { body, .. } => out.extend_from_slice(body),
        }
        Ok(())
    })
}
