//! A whole message, all of it readable, and how the log shows it.

use super::chain::{emit_chain, parse_chain};
use super::header::{HEADER_LEN, Header};
use super::sk::{Datagram, Encrypted, Protection};
use super::{MAX_DATAGRAM_BYTES, Payload, PayloadType, WireError};
use core::fmt;

/// A message whose payloads are in clear, or were opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The header; first payload and length count only if it was received.
    pub header: Header,
    /// The payloads.
    pub payloads: Vec<Payload>,
}

impl Message {
    /// A message.
    #[must_use]
    pub const fn new(header: Header, payloads: Vec<Payload>) -> Self {
        Self { header, payloads }
    }

    /// Reads a message without protection.
    ///
    /// # Errors
    /// Any [`WireError`]; [`WireError::ProtectionNested`] if something is encrypted.
    pub fn parse(bytes: &[u8]) -> Result<Self, WireError> {
        let header = Header::parse(bytes)?;
        let chain = bytes.get(HEADER_LEN..).ok_or(WireError::Short)?;
        Ok(Self { header, payloads: parse_chain(header.first, chain)? })
    }

    /// The octets of the message without protection.
    ///
    /// # Errors
    /// Those of [`emit_chain`], and [`WireError::TooLong`] above the largest datagram.
    pub fn emit(&self) -> Result<Vec<u8>, WireError> {
        let (first, chain) = emit_chain(&self.payloads)?;
        let length = HEADER_LEN + chain.len();
        let length32 = u32::try_from(length).map_err(|_large| WireError::TooLong(first))?;
        if length > MAX_DATAGRAM_BYTES {
            return Err(WireError::TooLong(first));
        }
        let mut out = Vec::with_capacity(length);
        out.extend_from_slice(&Header { first, length: length32, ..self.header }.emit());
        out.extend_from_slice(&chain);
        Ok(out)
    }
}

/// `IKE_AUTH request 1`.
fn show_header(header: &Header, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let direction = if header.flags.response { "response" } else { "request" };
    write!(f, "{} {direction} {}", header.exchange, header.message_id)
}

fn show_payload(payload: &Payload, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match payload {
        Payload::Notify(notify) => write!(f, "N({})", notify.kind),
        Payload::Eap(message) => write!(f, "EAP/{message}"),
        Payload::Cp(configuration) => {
            f.write_str("CP")?;
            let mut before = "(";
            for attribute in &configuration.attributes {
                if before == "(" {
                    f.write_str(configuration.kind.name().unwrap_or_default())?;
                }
                write!(f, "{before}{}", attribute.kind)?;
                before = " ";
            }
            if before == " " { f.write_str(")") } else { Ok(()) }
        }
        Payload::Sa(_)
        | Payload::Ke(_)
        | Payload::IdI(_)
        | Payload::IdR(_)
        | Payload::Cert(_)
        | Payload::CertReq(_)
        | Payload::Auth(_)
        | Payload::Nonce(_)
        | Payload::Delete(_)
        | Payload::Vendor(_)
        | Payload::TsI(_)
        | Payload::TsR(_)
        | Payload::Unknown { .. } => write!(f, "{}", payload.kind()),
    }
}

fn show(
    header: &Header,
    payloads: &[Payload],
    encrypted: Option<&Encrypted>,
    f: &mut fmt::Formatter<'_>,
) -> fmt::Result {
    show_header(header, f)?;
    f.write_str(" [")?;
    for payload in payloads {
        f.write_str(" ")?;
        show_payload(payload, f)?;
    }
    match encrypted.map(|encrypted| encrypted.protection) {
        Some(Protection::Sk) => write!(f, " {}", PayloadType::SK)?,
        Some(Protection::Skf { fragment, total }) => {
            write!(f, " {}({fragment}/{total})", PayloadType::SKF)?;
        }
        None => {}
    }
    f.write_str(" ]")
}

/// `IKE_AUTH request 1 [ IDi AUTH SA TSi TSr N(MOBIKE_SUP) ]`: types only, never contents, so
/// nothing of it needs escaping.
impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        show(&self.header, &self.payloads, None, f)
    }
}

/// Like a message, with `E` or `EF(1/3)` for what is encrypted.
impl fmt::Display for Datagram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        show(&self.header, &self.clear, self.encrypted.as_ref(), f)
    }
}
